"""From inputs to tensors: fitted on the given rows alone, row by row as in the dataset."""

import datetime

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.pipelines.encoding import encode as encoding
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.encoding.images import Pixels
from tracesift.pipelines.encoding.table import CLIP, MOST_LEVELS, encode_table
from tracesift.pipelines.encoding.text import Ngrams, hashed_counts
from tracesift.pipelines.models.contract import find


def test_numbers_are_standardised_by_the_fitted_rows():
    table = pl.DataFrame({"a": [1.0, 3.0, 100.0, None], "b": [5, 5, 5, 6]})
    got = encode_table(table, np.array([0, 1]))
    np.testing.assert_allclose(
        got[:, 0], [-1, 1, CLIP, 0]
    )  # an outlier is clipped, what is missing is the mean
    np.testing.assert_array_equal(got[:, 1], [0, 0, 0, 1])
    np.testing.assert_allclose(got[:, 2], [0, 0, 0, 1])  # a constant column divides by nothing


def test_the_order_of_the_columns_does_not_count():
    table = pl.DataFrame({"b": [1.0, 2.0], "a": ["x", "y"], "c": [None, 3.0]})
    got = encode_table(table.select("c", "a", "b"), np.arange(2))
    np.testing.assert_array_equal(got, encode_table(table, np.arange(2)))


def test_text_columns_are_one_hot_with_rare_levels_pooled():
    jobs = ["cook"] * 12 + ["pilot"] * 11 + ["king"] + [None, "unseen"]
    got = encode_table(pl.DataFrame({"job": jobs}), np.arange(24))
    assert got.shape == (26, 3)
    np.testing.assert_array_equal(got.sum(1), np.ones(26))
    assert got[[0, 12, 23, 24, 25]].argmax(1).tolist() == [0, 1, 2, 2, 2]
    many = pl.DataFrame({"id": [f"v{n % 500:03d}" for n in range(5000)]})
    assert encode_table(many, np.arange(5000)).shape == (5000, MOST_LEVELS + 1)


def test_dates_booleans_and_infinities():
    day = datetime.date(2020, 1, 1)
    table = pl.DataFrame(
        {
            "when": [day, day + datetime.timedelta(2)],
            "stamp": [datetime.datetime(2020, 1, 1), None],
            "flag": [True, False],
            "ratio": [float("inf"), 1.0],
        }
    )
    got = encode_table(table, np.arange(2))
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[:, 0], [1, -1])  # flag
    np.testing.assert_allclose(got[:, 2], [1, 0])  # ratio missing
    np.testing.assert_allclose(got[:, 4], [0, 1])  # stamp missing
    np.testing.assert_allclose(got[:, 5], [-1, 1], rtol=1e-6)  # when


def test_matrix_with_gaps():
    got = encode_table(np.array([[0, 1], [2, np.nan]], dtype=np.float32), np.arange(2))
    np.testing.assert_allclose(got, [[-1, 0, 0], [1, 0, 1]])
    assert got.dtype == np.float32


def test_nothing_of_val_or_test_leaks_into_the_fit(blobs):
    model = find("mlp", "tabular")
    rows = blobs.rows("train")
    values = encode(blobs, model).batch(torch.arange(len(blobs))).numpy()
    np.testing.assert_allclose(values[rows].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(values[rows].std(0), 1, rtol=1e-5)
    assert abs(values.mean(0)).max() > 1e-4


def test_text_bags_have_unit_length_and_their_own_words():
    texts = ["the cat sat", "the dog", "", "the zebra"]
    bags = Ngrams.encode(texts, np.array([0, 1, 2]))
    batch = bags.batch(torch.tensor([1, 2, 0]))
    lengths = np.diff(np.append(batch.offsets.numpy(), len(batch.indices)))
    assert lengths[1] == 0  # an empty text is an empty bag
    for at, row in ((0, 1), (2, 0)):
        part = slice(int(batch.offsets[at]), int(batch.offsets[at]) + int(lengths[at]))
        assert batch.weights[part].square().sum().item() == pytest.approx(1)
        expected = hashed_counts([texts[row]])
        assert lengths[at] == expected.nnz
    rare = bags.batch(torch.tensor([3]))
    assert (
        0 < len(rare.indices) < hashed_counts(["the zebra"]).nnz
    )  # what the fitted rows never had is dropped


def test_common_ngrams_weigh_less():
    texts = ["common word", "common term", "common name", "common rare"]
    bags = Ngrams.encode(texts, np.arange(4))
    counts = hashed_counts(texts)
    frequency = np.bincount(counts.indices)
    kept = np.flatnonzero(frequency)
    batch = bags.batch(torch.tensor([3]))
    seen = frequency[kept[batch.indices.numpy()]]
    assert batch.weights[seen == 4].max() < batch.weights[seen == 1].min()


def test_images_are_standardised_and_resized():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 10, 12, 3), dtype=np.uint8)
    pixels = Pixels.encode(images, np.arange(4), side=64, augmentation="none")
    assert pixels.input_shape == (3, 10, 12)
    got = pixels.batch(torch.arange(4)).numpy()
    np.testing.assert_allclose(got.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(got.std((0, 2, 3)), 1, rtol=1e-4)
    reference = (images[5].transpose(2, 0, 1) - images[:4].mean((0, 1, 2))[:, None, None]) / images[:4].std(
        (0, 1, 2)
    )[:, None, None]
    np.testing.assert_allclose(pixels.batch(torch.tensor([5]))[0].numpy(), reference, rtol=1e-4, atol=1e-5)
    small = Pixels.encode(images, np.arange(4), side=5, augmentation="none")
    assert small.input_shape == (3, 5, 5)


@pytest.mark.parametrize(("augmentation", "furthest"), [("shift", 2), ("crop_flip", 4)])
def test_augmented_views_are_seeded_shifts(augmentation, furthest):
    ramp = np.tile(np.arange(12, dtype=np.uint8) * 10, (64, 12, 1))[..., None]  # brightness tells the column
    pixels = Pixels.encode(ramp, np.arange(64), side=64, augmentation=augmentation)
    rows = torch.arange(64)
    plain = pixels.batch(rows)
    views = [pixels.batch(rows, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])
    columns = ((views[0] * pixels.std + pixels.mean) / 10).round()[:, 0, 0]  # (64, 12) source columns
    steps = columns[:, 5:7].diff(dim=1)[:, 0]
    assert set(steps.tolist()) == ({1.0} if augmentation == "shift" else {1.0, -1.0})
    forward = columns[steps > 0]
    offsets = forward[:, 5] - 5
    assert offsets.min() == -furthest
    assert offsets.max() == furthest
    assert torch.equal(pixels.batch(rows), plain)


def test_an_augmented_view_is_a_crop_of_the_reflected_image_mirrored_as_drawn():
    images = torch.randint(
        0, 256, (9, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pixels = Pixels(images, torch.zeros(3, 1, 1), torch.ones(3, 1, 1), "crop_flip")
    views = pixels.batch(torch.arange(9), torch.Generator().manual_seed(3))
    drawn = torch.Generator().manual_seed(3)
    down, across = torch.randint(0, 9, (2, 9), generator=drawn).tolist()
    mirrored = (torch.rand(9, generator=drawn) < 0.5).tolist()
    assert 0 < sum(mirrored) < 9
    for image, view, top, left, turned in zip(images, views, down, across, mirrored, strict=True):
        crop = np.pad(image.numpy(), ((0, 0), (4, 4), (4, 4)), mode="reflect")[
            :, top : top + 6, left : left + 7
        ]
        assert np.array_equal(view.numpy(), crop[:, :, ::-1] if turned else crop)


def test_evaluation_sees_no_augmentation(squares):
    model = find("resnet18", "image")
    inputs = encode(squares, model)
    rows = torch.arange(8)
    assert torch.equal(inputs.batch(rows), inputs.batch(rows))
    assert not torch.equal(inputs.batch(rows, torch.Generator().manual_seed(0)), inputs.batch(rows))


def test_encodings_are_made_once_and_shared(squares, monkeypatch):
    made = []
    monkeypatch.setattr(encoding, "encode", lambda *given: made.append(given) or encode(*given))
    shared = encoding.Encodings(squares)
    cnn, linear = shared.of(find("small_cnn", "image")), shared.of(find("linear", "image"))
    assert len(made) == 1
    assert cnn.pixels is linear.pixels
    rows = torch.from_numpy(squares.rows("train"))
    for model, inputs in (("small_cnn", cnn), ("linear", linear)):
        own = encode(squares, find(model, "image"))
        assert inputs.augmentation == own.augmentation
        assert torch.equal(inputs.batch(rows), own.batch(rows))
        views = [part.batch(rows, torch.Generator().manual_seed(3)) for part in (inputs, own)]
        assert torch.equal(*views)
