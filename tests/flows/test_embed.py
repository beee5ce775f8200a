"""Embeddings on the command line: made once, kept with their neighbours, and read by selectors."""

import json
import shutil

import numpy as np
import polars as pl
import pytest

from tracesift.catalog import known_graphs
from tracesift.catalog.neighbor_graph import neighbor_graph
from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.recordings import newest_runs
from tracesift.flows.reporting.stability import scores_of
from tracesift.flows.score import score
from tracesift.flows.selecting.duplicates import vectors_of_all
from tracesift.flows.selecting.selector_arrays import arrays_for, content_vectors, stored_rows
from tracesift.flows.work import Work
from tracesift.pipelines.embedding import stored_embeddings
from tracesift.pipelines.embedding.embeddings import content_embedding
from tracesift.pipelines.embedding.stored_embeddings import content_digest, stored_embedding
from tracesift.pipelines.signals import load_signals
from tracesift.selectors.contract import find


def said(capsys, *words):
    assert run([*words, "--workspace", "w", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words):
    assert run([*words, "--workspace", "w"]) == 2
    return capsys.readouterr().err


def own_file(work, path="own.npz", seed=0):
    ids = work.dataset.samples["sample_id"].to_list()
    np.savez(path, sample_ids=np.array(ids), values=np.random.default_rng(seed).normal(size=(len(ids), 4)))


def members(name):
    return pl.read_parquet(f"w/manifests/{name}/members.parquet")


def test_the_model_is_the_source_unless_another_is_named(place, capsys, state):
    made = said(capsys, "embed")
    work = Work(place / "w")
    assert made["embedding"] == made["source"] == "model"
    assert made["run_id"] == newest_runs(work)[0]
    assert made["samples"] == {split: len(work.dataset.rows(split)) for split in ("train", "val", "test")}
    exact = {"recall": None, "lists": None, "probed": None}
    assert made["graphs"] == [{"k": 20, "metric": "cosine", "approximate": False, **exact}]
    recorded = load_signals(work.path, made["run_id"]).in_mode("epoch_end")
    stored = stored_embedding(work.path, "model", work.dataset)
    assert np.array_equal(stored.vectors("train"), recorded["embedding"])
    before = state(place / "w")
    assert said(capsys, "embed") == made
    assert state(place / "w") == before


@pytest.mark.parametrize("source", ["content", "own.npz"])
def test_every_source_is_kept_by_name_and_known_to_the_catalog(place, capsys, state, source):
    work = Work(place / "w")
    own_file(work)
    made = said(capsys, "embed", "--source", source, "--neighbors", "4", "--metric", "euclidean")
    name = source.partition(".")[0]
    assert made["embedding"] == name
    stored = stored_embedding(work.path, name, work.dataset)
    graph = neighbor_graph(stored.vectors("train"), 4, metric="euclidean")
    assert np.array_equal(stored.graph("euclidean").index, graph.index)
    (row,) = Catalog(place / "w").query("SELECT * FROM artifacts").to_dicts()
    assert (row["kind"], row["name"], row["path"]) == ("embedding", name, f"embeddings/{name}")
    assert row["dataset_id"] == work.dataset.dataset_id
    assert json.loads(row["details"])["graphs"][0]["k"] == 4
    before = state(place / "w")
    said(capsys, "embed", "--source", source, "--neighbors", "4", "--metric", "euclidean")
    assert state(place / "w") == before
    if source == "content":
        whole = content_embedding(work.dataset)
        assert np.array_equal(stored.vectors("test"), whole[work.dataset.rows("test")])


def test_another_file_of_the_same_name_is_stored_anew(place, capsys):
    work = Work(place / "w")
    own_file(work)
    said(capsys, "embed", "--source", "own.npz")
    first = np.array(stored_embedding(work.path, "own", work.dataset).vectors("train"))
    own_file(work, seed=1)
    said(capsys, "embed", "--source", "own.npz")
    again = stored_embedding(work.path, "own", work.dataset)
    assert not np.array_equal(again.vectors("train"), first)
    assert np.array_equal(again.graph().index, neighbor_graph(again.vectors("train"), 20).index)
    assert len(Catalog(place / "w").query("SELECT * FROM artifacts")) == 1


def test_a_large_set_is_searched_approximately_and_its_recall_is_told(place, capsys):
    made = said(capsys, "embed", "--source", "content", "--exact-up-to", "20")
    assert made["graphs"][0]["approximate"]
    assert 0 < made["graphs"][0]["recall"] <= 1
    assert run(["embed", "--source", "content", "--exact-up-to", "20", "--workspace", "w"]) == 0
    assert f"approximate: {made['graphs'][0]['recall']:.1%} of the true ones found" in capsys.readouterr().out
    assert run(["embed", "--source", "content", "--workspace", "w"]) == 0
    assert "20 nearest by cosine, exact" in capsys.readouterr().out


def test_another_recall_is_another_graph_and_one_that_is_not_reached_is_told(
    place, capsys, monkeypatch, state
):
    words = ["embed", "--source", "content", "--exact-up-to", "20"]
    made = said(capsys, *words)
    before = state(place / "w")
    assert said(capsys, *words, "--recall", "0.95") == made
    assert state(place / "w") == before
    said(capsys, *words, "--recall", "0.5")
    assert (
        stored_embedding(place / "w", "content", Work(place / "w").dataset).record["graphs"]["cosine"][
            "least_recall"
        ]
        == 0.5
    )
    monkeypatch.setattr(
        "tracesift.catalog.neighbor_graph.recall", lambda *_, **__: 0.4
    )  # as on a GPU it can be
    assert run([*words, "--recall", "0.9", "--workspace", "w"]) == 0
    assert "holds 40.0% of the true neighbours, of which 90.0% were asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--source", "nowhere.npz"], "no such file"),
        (["--source", "good.csv"], ".npy, .npz or .parquet"),
        (["--source", "column:colour"], "no such column"),
        (["--source", "hf:any"], "good is tabular"),
        (["--source", "content", "--run", "abc"], "--run names the recording"),
        (["--source", "content", "--name", "a/b"], "letters, digits"),
        (["--run", "0123"], "run 0123 does not exist"),
        (["--neighbors", "-1"], "0 or more"),
        (["--recall", "0"], "a share in (0, 1]"),
        (["--recall", "95"], "a share in (0, 1]"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(place, capsys, words, expected):
    told = refused(capsys, "embed", *words)
    assert expected in told
    assert len(told.strip().splitlines()) == 1
    assert not list((place / "w").glob("embeddings/*/record.json"))


def test_ids_that_are_missing_are_counted_and_the_first_is_named(place, capsys):
    ids = Work(place / "w").dataset.samples["sample_id"].to_list()
    np.savez("part.npz", sample_ids=np.array(ids[2:]), values=np.ones((len(ids) - 2, 3)))
    told = refused(capsys, "embed", "--source", "part.npz")
    assert f"{len(ids) - 2} of the {len(ids)} samples" in told
    assert f"lacks 2, first '{ids[0]}'" in told


# --- what selectors read


def pool_of(work, every=1):
    ids = work.dataset.samples.filter(split="train").select("sample_id", "label")
    return ids.gather_every(every)


def test_arrays_are_those_of_the_recording_and_rows_go_with_the_pool(place):
    work = Work(place / "w")
    pool = pool_of(work, every=3)
    given, sources = arrays_for(work, pool, find("glister"), {}, None)
    (run_id,) = newest_runs(work)
    signals = load_signals(work.path, run_id)
    recorded = signals.in_mode("epoch_end")
    assert sources == {"arrays_of_run": run_id}
    assert set(given) == {*find("glister").arrays}
    place_of = {name: at for at, name in enumerate(signals.sample_ids)}
    for at, sample_id in enumerate(pool["sample_id"]):
        for name in ("embedding", "probs_last"):
            assert np.array_equal(given[name][at], recorded[name][place_of[sample_id]])
        assert given["labels"][at] == recorded["labels"][place_of[sample_id]]
    for name in ("val_embedding", "val_labels", "val_probs_last"):
        assert np.array_equal(given[name], recorded[name])


def test_a_stored_embedding_takes_the_place_of_the_recordings(place, capsys):
    work = Work(place / "w")
    own_file(work)
    said(capsys, "embed", "--source", "own.npz")
    stored = stored_embedding(work.path, "own", work.dataset)
    given, sources = arrays_for(work, pool_of(work), find("glister"), {}, "own")
    assert np.array_equal(given["embedding"], stored.vectors("train"))
    assert np.array_equal(given["val_embedding"], stored.vectors("val"))
    assert sources["embedding"].startswith("own@")
    assert "arrays_of_run" in sources
    frame = work.dataset.samples.filter(pl.col("split") != "val").sample(fraction=1, shuffle=True, seed=2)
    with np.load("own.npz") as file:
        expected = file["values"].astype(np.float32)
    ids = work.dataset.samples["sample_id"]
    assert np.array_equal(stored_rows(work, "own", frame), expected[ids.search_sorted(frame["sample_id"])])


def test_a_selectors_graph_is_searched_once_and_kept_for_others(place, capsys, monkeypatch):
    work = Work(place / "w")
    pool, facts = pool_of(work), find("facility_location")
    assert "graph" not in arrays_for(work, pool, facts, {"neighbors": 5}, None)[0]  # nothing is stored
    said(capsys, "embed")
    assert "graph" not in arrays_for(work, pool, facts, {}, None)[0]  # it looks at all pairs
    few = pool.filter(pl.int_range(pl.len()) % 3 == 0)
    assert (
        "graph" not in arrays_for(work, few, facts, {"neighbors": 5}, None)[0]
    )  # their own search is quicker
    given, before = arrays_for(work, pool, facts, {"neighbors": 12}, None)
    fresh = neighbor_graph(given["embedding"], 12, metric="euclidean")
    assert np.array_equal(given["graph"].index, fresh.index)
    (row,) = Catalog(place / "w").query("SELECT * FROM artifacts").to_dicts()
    assert [(kept["metric"], kept["k"]) for kept in json.loads(row["details"])["graphs"]] == [
        ("cosine", 20), ("euclidean", 12),
    ]  # fmt: skip
    monkeypatch.setattr(stored_embeddings, "neighbor_graph", None)  # another search would fail
    half = pool.filter(pl.int_range(pl.len()) % 2 == 0)
    for name, params in (("facility_location", {"neighbors": 5}), ("d2_pruning", {}), ("infomax", {})):
        given, sources = arrays_for(work, half, find(name), params, None)
        metric = given["graph"].metric
        fresh = neighbor_graph(given["embedding"], given["graph"].index.shape[1], metric=metric)
        assert metric == ("cosine" if name == "infomax" else "euclidean")
        assert np.array_equal(given["graph"].index, fresh.index)
        assert np.array_equal(given["graph"].distance, fresh.distance)
        assert sources == before  # what was read is the same with and without
    for wrong in ({"neighbors": 0}, {"neighbors": "5"}, {"metric": "manhattan", "neighbors": 5}):
        assert "graph" not in arrays_for(work, pool, facts, wrong, None)[0]  # the selector refuses it


def test_an_approximate_graph_that_was_read_is_named(place, capsys):
    work = Work(place / "w")
    said(capsys, "embed", "--exact-up-to", "20")
    digest_of = content_digest(stored_embedding(work.path, "model", work.dataset).record)
    _, sources = arrays_for(work, pool_of(work), find("infomax"), {}, "model")
    assert sources["embedding"] == f"model@{digest_of[:16]}"
    kept = stored_embedding(work.path, "model", work.dataset).record["graphs"]["cosine"]["index"]["sha256"]
    assert sources["graph"] == f"model, approximate@{kept[:16]}"
    said(capsys, "embed")
    assert "graph" not in arrays_for(work, pool_of(work), find("infomax"), {}, "model")[1]


def test_scorers_read_the_stored_graph_and_say_the_same(place, capsys, monkeypatch):
    work = Work(place / "w")
    runs = newest_runs(work)
    names = ["cal", "knn_density", "knn_label_disagreement"]
    searches = []
    search = known_graphs.neighbor_graph

    def counted(*arguments, **settings):
        searches.append(settings["metric"])
        return search(*arguments, **settings)

    monkeypatch.setattr(known_graphs, "neighbor_graph", counted)
    monkeypatch.setattr(known_graphs, "_newest", {})
    said(capsys, "embed", "--neighbors", "0")
    score(work, runs, names)
    assert sorted(searches) == ["cosine", "euclidean"]
    values = scores_of(work, runs[0], names)
    for metric in ("cosine", "euclidean"):
        said(capsys, "embed", "--metric", metric)
    monkeypatch.setattr(known_graphs, "_newest", {})
    searches.clear()
    for record in (place / "w/records").glob("score-*"):
        record.unlink()
    score(work, runs, names)
    assert searches == []
    assert scores_of(work, runs[0], names).equals(values)
    score(work, runs, ["knn_density"], {"knn_density": {"k": 9}}, "model")
    assert searches == []
    score(work, runs, ["knn_density"], {"knn_density": {"k": 21}})  # longer than what is stored
    assert searches == ["cosine"]


def test_a_stored_graph_changes_no_subset(place, capsys):
    words = ["select", "facility_location", "--keep", "0.3", "--param", "neighbors=6"]
    said(capsys, *words, "--name", "searched")
    said(capsys, "embed", "--metric", "euclidean")
    said(capsys, *words, "--name", "from-graph")
    assert members("searched").equals(members("from-graph"))


def test_a_user_chooses_the_embedding(place, capsys):
    own_file(Work(place / "w"))
    said(capsys, "embed", "--source", "own.npz")
    words = ["select", "k_center_greedy", "--keep", "0.3"]
    assert len(said(capsys, *words, "--name", "plain")) > 0
    said(capsys, *words, "--name", "chosen", "--embedding", "own")
    assert members("plain").height == members("chosen").height
    assert not members("plain").equals(members("chosen"))
    params = json.loads((place / "w/manifests/chosen/manifest.json").read_text())["selector"]["params"]
    assert params["embedding"].startswith("own@")
    assert run(["verify", "w/manifests/chosen"]) == 0


def test_forget_ready_looks_for_copies_among_the_chosen_vectors(place, capsys):
    work = Work(place / "w")
    ids = work.dataset.samples["sample_id"].to_list()
    values = np.random.default_rng(0).normal(size=(len(ids), 6))
    train = work.dataset.rows("train")
    values[train[7]] = values[train[3]]  # a copy by these vectors alone
    np.savez("own.npz", sample_ids=np.array(ids), values=values)
    said(capsys, "embed", "--source", "own.npz")
    one, copy = ids[train[3]], ids[train[7]]
    said(
        capsys,
        "select",
        "forget_ready",
        "--embedding",
        "own",
        "--name",
        "chosen",
        "--param",
        f'forget=["{one}"]',
    )
    roles = dict(members("chosen").select("sample_id", "role").iter_rows())
    assert roles[one] == roles[copy] == "forget"


def test_stored_content_is_not_made_again_and_is_the_same_to_the_byte(place, capsys, monkeypatch):
    def vectors():
        work = Work(place / "w")
        frame = work.dataset.samples.filter(pl.col("split") != "val").gather_every(2, offset=1)
        return content_vectors(work, frame).tobytes(), vectors_of_all(work, None).tobytes()

    made = vectors()
    said(capsys, "select", "semdedup", "--name", "made")
    said(capsys, "embed", "--source", "content", "--name", "pixels")
    monkeypatch.setattr("tracesift.pipelines.embedding.embeddings.content_embedding", None)
    assert vectors() == made
    said(capsys, "select", "semdedup", "--name", "stored")
    assert members("made").equals(members("stored"))
    assert run(["verify", "w/manifests/stored"]) == 0
    path = next((place / "w/embeddings/pixels").glob("train-*.npy"))
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")  # what has changed is no longer what would be made
    with pytest.raises(TypeError):
        vectors()


def test_what_reads_no_embedding_or_an_unknown_one_is_refused(place, capsys):
    assert "top_k reads no embedding" in refused(
        capsys, "select", "top_k", "--keep", "0.5", "--param", "score=aum", "--embedding", "x"
    )
    assert "denoise reads no embedding" in refused(capsys, "select", "denoise", "--embedding", "x")
    assert "no embedding 'x' is stored" in refused(
        capsys, "select", "k_center_greedy", "--keep", "0.5", "--embedding", "x"
    )


def test_a_missing_array_says_how_to_get_it(place, capsys, monkeypatch):
    work = Work(place / "w")
    (run_id,) = newest_runs(work)
    folder = place / "w" / "signals" / f"run={run_id}"
    record = json.loads((folder / "run.json").read_text())
    for name in ("embedding", "val_embedding"):
        record["files"].pop(f"{name}.npz")
        (folder / f"{name}.npz").unlink()
        del record["arrays"][name]
    (folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(MissingSignal, match="needs embedding: run `tracesift embed`"):
        arrays_for(work, pool_of(work), find("k_center_greedy"), {}, None)
    said(capsys, "embed", "--source", "content")
    with pytest.raises(MissingSignal, match="--embedding NAME, there are content"):
        arrays_for(work, pool_of(work), find("k_center_greedy"), {}, None)
    shutil.rmtree(folder)
    Catalog(place / "w").finish_run(run_id, status="collected")
    with pytest.raises(MissingSignal, match=r"holds no recording; run `tracesift record"):
        arrays_for(work, pool_of(work), find("k_center_greedy"), {}, None)
    assert arrays_for(work, pool_of(work), find("random"), {}, None) == ({}, {})


def test_a_recording_that_lacks_samples_of_the_pool_is_refused(place):
    work = Work(place / "w")
    pool = pl.concat([pool_of(work), pl.DataFrame({"sample_id": ["zzz"], "label": ["x"]})])
    size = len(pool)
    with pytest.raises(BadInput, match=f"covers {size - 1} of the {size} samples"):
        arrays_for(work, pool, find("k_center_greedy"), {}, None)


def test_gc_drops_the_embeddings_of_an_earlier_state(place, capsys):
    said(capsys, "embed", "--source", "content")
    assert said(capsys, "gc", "--keep", "1")["embeddings"] == []
    frame = pl.read_csv("good.csv")
    frame.head(58).write_csv("good.csv")
    said(capsys, "ingest", "good.csv")
    assert said(capsys, "gc", "--keep", "1", "--dry-run")["embeddings"] == ["content"]
    assert (place / "w/embeddings/content").exists()
    assert said(capsys, "gc", "--keep", "1")["embeddings"] == ["content"]
    assert not (place / "w/embeddings/content").exists()
    assert Catalog(place / "w").query("SELECT * FROM artifacts").is_empty()
    assert "is stored" in refused(
        capsys, "select", "k_center_greedy", "--keep", "0.5", "--embedding", "content"
    )
