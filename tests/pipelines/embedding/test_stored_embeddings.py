"""Embeddings in the workspace: whole or not there, made once, refused where they do not fit."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tracesift.catalog.neighbor_graph import neighbor_graph
from tracesift.catalog.schema import SPLITS, BadInput, FingerprintMismatch, IncompleteRecording
from tracesift.pipelines.embedding import stored_embeddings as module
from tracesift.pipelines.embedding.stored_embeddings import (
    content_digest,
    drop_embedding,
    is_made,
    names,
    of_other_states,
    store_graph,
    store_vectors,
    stored_embedding,
)

MADE = {"source": "test", "version": 1}


def vectors(dataset, seed=0, width=4):
    rng = np.random.default_rng(seed)
    return {split: rng.normal(size=(len(dataset.rows(split)), width)).astype(np.float32) for split in SPLITS}


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_stored_is_read_again_from_mapped_files(blobs, tmp_path):
    given = vectors(blobs)
    store_vectors(tmp_path, "mine", blobs, given, MADE)
    stored = stored_embedding(tmp_path, "mine", blobs)
    for split in SPLITS:
        assert np.array_equal(stored.vectors(split), given[split])
        assert isinstance(stored.vectors(split), np.memmap)
    assert stored.graph() is None
    assert stored.record["graphs"] == {}
    assert names(tmp_path) == ["mine"]
    assert is_made(tmp_path, "mine", blobs, MADE)
    assert not is_made(tmp_path, "mine", blobs, {**MADE, "version": 2})
    assert not is_made(tmp_path, "other", blobs, MADE)


def test_the_same_again_leaves_the_same_bytes(blobs, tmp_path):
    store_graph(store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE), 3)
    before = contents(tmp_path)
    store_graph(store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE), 3)
    assert contents(tmp_path) == before


def test_other_vectors_take_the_place_of_earlier_ones_and_of_their_graph(blobs, tmp_path):
    store_graph(store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE), 3)
    stored = store_vectors(tmp_path, "mine", blobs, vectors(blobs, seed=1), MADE)
    assert stored.graph() is None
    assert stored.record["graphs"] == {}
    assert len(contents(tmp_path)) == 4
    assert np.array_equal(stored.vectors("val"), vectors(blobs, seed=1)["val"])


@pytest.mark.parametrize("step", ["vectors", "graph"])
def test_killed_at_any_file_the_earlier_embedding_stands_whole(blobs, tmp_path, monkeypatch, step):
    first = store_graph(store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE), 3)
    record = first.record
    writes = 4 if step == "vectors" else 3

    def write():
        if step == "vectors":
            store_vectors(tmp_path, "mine", blobs, vectors(blobs, seed=5), MADE)
        else:
            store_graph(first, 4)

    for killed_at in range(writes):
        calls = []

        def dying(real, calls=calls, killed_at=killed_at):
            def call(*arguments):
                calls.append(1)
                if len(calls) > killed_at:
                    raise KeyboardInterrupt
                return real(*arguments)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(module, "_write", dying(module._write))
            patch.setattr(module, "write_json", dying(module.write_json))
            with pytest.raises(KeyboardInterrupt):
                write()
        stored = stored_embedding(tmp_path, "mine", blobs)
        stored.verify()
        assert stored.record == record
        assert np.array_equal(stored.vectors("train"), vectors(blobs)["train"])
    store_graph(store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE), 3)
    assert len(contents(tmp_path)) == 6  # what the killed ones left is gone


def test_killed_at_its_first_making_there_is_none(blobs, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE)
    assert names(tmp_path) == []
    with pytest.raises(BadInput, match="no embedding 'mine'"):
        stored_embedding(tmp_path, "mine", blobs)


def test_a_changed_or_lost_file_is_noticed_and_made_again(blobs, tmp_path):
    stored = store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE)
    path = stored.folder / stored.record["splits"]["test"]["file"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IncompleteRecording, match="has changed"):
        stored.verify()
    assert not is_made(tmp_path, "mine", blobs, MADE)
    path.unlink()
    with pytest.raises(IncompleteRecording, match="is missing"):
        stored.vectors("test")
    store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE).verify()
    assert path.read_bytes() == whole


def test_another_state_of_the_data_is_refused(blobs, tmp_path):
    store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE)
    other = replace(blobs, fingerprint="0" * 64)
    with pytest.raises(FingerprintMismatch, match="another state"):
        stored_embedding(tmp_path, "mine", other)
    assert not is_made(tmp_path, "mine", other, MADE)
    assert of_other_states(tmp_path, blobs.fingerprint) == []
    assert of_other_states(tmp_path, "0" * 64) == ["mine"]
    drop_embedding(tmp_path, "mine")
    assert names(tmp_path) == []


def test_vectors_that_cannot_be_used_are_refused_before_any_record(blobs, tmp_path):
    broken = vectors(blobs)
    broken["val"][2, 1] = np.nan
    broken["val"][5, 0] = np.inf
    first = blobs.samples["sample_id"].gather(blobs.rows("val"))[2]
    with pytest.raises(BadInput, match=f"2 of {len(broken['val'])} samples of val .* first '{first}'"):
        store_vectors(tmp_path, "mine", blobs, broken, MADE)
    short = vectors(blobs) | {"test": np.zeros((1, 4), np.float32)}
    with pytest.raises(BadInput, match="1 vectors for"):
        store_vectors(tmp_path, "mine", blobs, short, MADE)
    with pytest.raises(BadInput, match="one length"):
        store_vectors(
            tmp_path, "mine", blobs, vectors(blobs) | {"test": vectors(blobs, width=3)["test"]}, MADE
        )
    with pytest.raises(BadInput, match="letters, digits"):
        store_vectors(tmp_path, "../out", blobs, vectors(blobs), MADE)
    assert names(tmp_path) == []


def test_an_unknown_name_is_told_the_known_ones(blobs, tmp_path):
    store_vectors(tmp_path, "encoder", blobs, vectors(blobs), MADE)
    with pytest.raises(BadInput, match="did you mean 'encoder'"):
        stored_embedding(tmp_path, "encodr", blobs)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_graph_is_that_of_the_training_samples_and_is_searched_once(blobs, tmp_path, monkeypatch, metric):
    given = vectors(blobs)
    stored = store_graph(store_vectors(tmp_path, "mine", blobs, given, MADE), 5, metric=metric)
    fresh = neighbor_graph(given["train"], 5, metric=metric)
    assert np.array_equal(stored.graph(metric).index, fresh.index)
    assert np.array_equal(stored.graph(metric).distance, fresh.distance)
    assert stored.graph(metric).index.dtype == np.int32
    rows = np.arange(0, len(given["train"]), 2)
    part = stored.graph_among(rows, metric)
    again = neighbor_graph(given["train"][rows], 5, metric=metric)
    assert np.array_equal(part.index, again.index)
    assert np.array_equal(part.distance, again.distance)
    monkeypatch.setattr(module, "neighbor_graph", None)  # a second search would fail
    for k in (5, 3):  # the first of five are those of three
        again = store_graph(stored_embedding(tmp_path, "mine", blobs), k, metric=metric)
        assert again.record == stored.record


def test_an_approximate_graph_says_so_with_its_recall(blobs, tmp_path):
    stored = store_graph(store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE), 5, exact_up_to=50)
    kept = json.loads((stored.folder / "record.json").read_text())["graphs"]["cosine"]
    assert kept["approximate"]
    assert 0 < kept["recall"] <= 1
    assert stored_embedding(tmp_path, "mine", blobs).graph().recall == kept["recall"]
    exact = store_graph(stored, 5)
    assert not exact.graph().approximate  # asked for otherwise, it is searched again
    assert exact.record["graphs"]["cosine"]["recall"] is None


def test_a_graph_by_each_metric_stands_beside_the_other(blobs, tmp_path):
    given = vectors(blobs)
    store_graph(store_vectors(tmp_path, "mine", blobs, given, MADE), 3)
    stored = store_graph(stored_embedding(tmp_path, "mine", blobs), 4, metric="euclidean")
    stored = store_vectors(tmp_path, "mine", blobs, given, MADE)  # of the same vectors
    for metric, k in (("cosine", 3), ("euclidean", 4)):
        fresh = neighbor_graph(given["train"], k, metric=metric)
        assert np.array_equal(stored.graph(metric).index, fresh.index)
    stored.verify()
    longer = store_graph(stored, 6)
    assert longer.graph("cosine").index.shape[1] == 6
    assert longer.graph("euclidean").index.shape[1] == 4
    assert len(contents(tmp_path)) == 8  # the shorter one is gone
    with pytest.raises(BadInput, match="--metric manhattan: it is cosine or euclidean"):
        store_graph(stored, 3, metric="manhattan")


def test_a_graph_changes_nothing_about_an_embeddings_identity(blobs, tmp_path):
    stored = store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE)
    alone = content_digest(stored.record)
    assert content_digest(store_graph(stored, 3).record) == alone
    assert content_digest(store_graph(stored, 3, exact_up_to=50).record) == alone
    other = store_vectors(tmp_path, "other", blobs, vectors(blobs, seed=1), MADE)
    assert content_digest(other.record) != alone


def test_an_embedding_of_the_first_schema_is_read_with_its_graph(blobs, tmp_path):
    stored = store_graph(store_vectors(tmp_path, "mine", blobs, vectors(blobs), MADE), 3, metric="euclidean")
    path = stored.folder / "record.json"
    record = json.loads(path.read_text())
    (graph,) = record.pop("graphs").values()
    path.write_text(json.dumps({**record, "schema": 1, "graph": graph}))
    assert is_made(tmp_path, "mine", blobs, MADE)
    again = stored_embedding(tmp_path, "mine", blobs)
    assert again.record == stored.record
    path.write_text(json.dumps({**record, "schema": 1, "graph": None}))
    assert stored_embedding(tmp_path, "mine", blobs).record["graphs"] == {}


def test_splits_may_be_empty(blobs, tmp_path):
    import polars as pl

    moved = blobs.samples.with_columns(
        split=pl.when(pl.col("split") == "test").then(pl.lit("train")).otherwise("split")
    )
    dataset = replace(blobs, samples=moved)
    store_vectors(tmp_path, "mine", dataset, vectors(dataset), MADE)
    assert stored_embedding(tmp_path, "mine", dataset).vectors("test").shape == (0, 4)
