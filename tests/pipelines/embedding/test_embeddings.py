"""Embeddings: the recorded model's own features, and content vectors that know near-duplicates."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import BadInput, FingerprintMismatch
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.embedding import embeddings
from tracesift.pipelines.embedding.embeddings import (
    content_embedding,
    embed,
    features,
    load_module,
    recorded_model,
    table_directions,
)
from tracesift.pipelines.encoding import text as encode_text
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.signals import load_signals, read_run
from tracesift.pipelines.train import TrainConfig, record


def test_head_on_the_embedding_gives_the_last_probabilities(squares, tmp_path):
    run_id = record(squares, tmp_path, TrainConfig(seed=0, epochs=2))
    embed(squares, tmp_path, run_id)
    arrays = load_signals(tmp_path, run_id, verify=True).in_mode("epoch_end")
    assert arrays["embedding"].shape == (len(squares.rows("train")), 128)
    assert arrays["val_embedding"].shape == (len(squares.rows("val")), 128)
    model = recorded_model(squares, read_run(tmp_path, run_id))
    module = load_module(squares, tmp_path, run_id, model, encode(squares, model))
    with torch.no_grad():
        probs = module.head(torch.from_numpy(arrays["embedding"])).softmax(1)
    np.testing.assert_allclose(probs.numpy(), arrays["probs_last"], rtol=1e-4, atol=1e-6)
    embed(squares, tmp_path, run_id)  # nothing to do


def test_another_state_of_the_data_is_refused(squares, tmp_path):
    run_id = record(squares, tmp_path, TrainConfig(seed=0, epochs=1))
    with pytest.raises(FingerprintMismatch, match="another state"):
        embed(replace(squares, fingerprint="0" * 64), tmp_path, run_id)


def test_a_recording_of_the_users_loop_has_no_model(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    rows = torch.from_numpy(blobs.rows("train"))
    rec.update(rows, torch.zeros(len(rows), 3), torch.tensor(blobs.labels)[rows])
    rec.end_epoch()
    with pytest.raises(BadInput, match="your own loop"):
        embed(blobs, tmp_path, rec.finalize())


def test_users_own_module_gives_the_input_of_its_last_linear_layer(blobs, tmp_path, monkeypatch):
    (tmp_path / "own_model_c.py").write_text(
        "from torch import nn\ndef build(shape, classes):\n"
        "    return nn.Sequential(nn.Linear(shape[0], 6), nn.ReLU(), nn.Linear(6, classes))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run_id = record(blobs, tmp_path, TrainConfig(seed=0, epochs=1, model="own_model_c:build"))
    embed(blobs, tmp_path, run_id)
    values = load_signals(tmp_path, run_id).in_mode("epoch_end")["embedding"]
    assert values.shape == (len(blobs.rows("train")), 6)
    assert (values >= 0).all()
    assert values.any()
    inputs = encode(blobs, recorded_model(blobs, read_run(tmp_path, run_id)))
    with pytest.raises(BadInput, match="no linear layer"):
        features(torch.nn.ReLU(), inputs, torch.arange(3))


def test_near_duplicate_images_are_closest(squares):
    pixels = np.array(squares.inputs)
    brighter = np.clip(pixels[0].astype(int) + 20, 0, 255).astype(np.uint8)
    pixels[1] = brighter
    vectors = content_embedding(replace(squares, inputs=pixels))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    likeness = vectors @ vectors[0]
    assert np.argsort(-likeness)[1] == 1
    assert likeness[1] > 0.99
    assert np.median(likeness[2:]) < 0.9
    assert content_embedding(replace(squares, inputs=np.full_like(pixels, 7))).any() is np.False_


def test_near_duplicate_texts_are_closest():
    texts = [
        "please send the invoice for march to my office",
        "please send the invoice for april to my office",
        "the cat sleeps on a warm roof all afternoon",
        "rain is expected over the northern hills tonight",
        "",
        "she plays the violin in a small orchestra",
    ]
    frame = pl.DataFrame(
        {
            "id": list("abcdef"),
            "text": texts,
            "label": list("xxyyxy"),
            "split": ["train"] * 4 + ["val", "test"],
        }
    )
    vectors = content_embedding(open_dataset(frame))
    assert vectors.shape == (6, 256)
    likeness = vectors @ vectors[0]
    assert likeness[1] > 0.6
    assert abs(likeness[2:]).max() < 0.35
    assert not vectors[4].any()
    np.testing.assert_array_equal(vectors, content_embedding(open_dataset(frame)))


def test_tables_are_their_standardised_columns(blobs):
    vectors = content_embedding(blobs)
    expected = encode(blobs, recorded_model_of(blobs)).batch(torch.arange(len(blobs))).numpy()
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-4)


def recorded_model_of(dataset):
    from tracesift.pipelines.models.contract import find

    return find("auto", dataset.kind)


@pytest.mark.parametrize("kind", ["sentences", "squares", "blobs"])
def test_content_of_some_rows_is_that_of_all(kind, request, monkeypatch):
    dataset = request.getfixturevalue(kind)
    rows = np.array([0, 3, 4, 57, 90, len(dataset) - 1])
    whole = content_embedding(dataset)
    monkeypatch.setattr(encode_text, "_CHUNK", 40)  # the blocks that text is hashed in change nothing
    monkeypatch.setattr(embeddings, "_CHUNK", 16)
    np.testing.assert_array_equal(content_embedding(dataset, rows=rows), whole[rows])
    np.testing.assert_array_equal(content_embedding(dataset), whole)


def test_colours_tell_pictures_apart_and_plain_ones_are_alike_to_nothing():
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (32, 32), dtype=np.uint8) for _ in range(2))
    flat = np.full((32, 32), 97, np.uint8)
    # In the first three the channels add up to the same everywhere, so that their gray is plain.
    pictures = [
        [one, 255 - one, flat],
        [other, 255 - other, flat],
        [one, 255 - one, flat + 40],
        [flat, flat, flat],
    ]
    brighter = [np.clip(one // 2 + 60, 0, 255), (255 - one) // 2 + 60, flat]
    images = np.stack([np.stack(channels, axis=-1) for channels in [*pictures, brighter]])
    vectors = content_embedding(SimpleNamespace(kind="image", inputs=images))
    cosines = vectors @ vectors.T
    assert abs(cosines[0, 1]) < 0.5  # two different pictures of the same plain gray
    assert cosines[0, 2] == pytest.approx(1.0)  # a tint of a plain channel does not count
    assert cosines[0, 4] > 0.99
    assert not vectors[3].any()


def test_rows_of_a_table_are_told_apart_by_length_too():
    column = pl.DataFrame({"a": [1.0, 2.0, 3.0, 30.0]})
    table = SimpleNamespace(kind="tabular", inputs=column, rows=lambda _: np.arange(4))
    assert (content_embedding(table)[:3] @ content_embedding(table)[0] == 1).all()  # all below the mean
    vectors = table_directions(table, rows=np.array([0, 1, 3]))
    assert vectors.shape == (3, 2)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1])
    assert 1 > vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
    flat = SimpleNamespace(
        kind="tabular", inputs=pl.DataFrame({"a": [1.0, 1.0]}), rows=lambda _: np.arange(2)
    )
    assert np.isfinite(table_directions(flat, rows=np.arange(2))).all()
