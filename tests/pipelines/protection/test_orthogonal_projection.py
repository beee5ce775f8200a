"""Orthogonal projection: linear algebra, what it takes out, and a planted signal that it cures."""

import json

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from tracesift.catalog.files import sha256
from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.protection.class_patches import class_patches
from tracesift.pipelines.protection.lsp import lsp
from tracesift.pipelines.protection.orthogonal_projection import (
    class_directions,
    in_8_bits,
    on_complement,
    orthogonal_projection,
)
from tracesift.pipelines.protection.projecting import project, write_projected
from tracesift.pipelines.protection.protecting import TRUTH_COLUMN, protect
from tracesift.pipelines.protection.writing import write_protected


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits")


def noise(classes=3, each=20, shape=(1, 6, 5), seed=0, low=0, high=256):
    """Images of noise, twins among them, and labels out of order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), each))
    images = rng.integers(low, high, (len(labels), *shape), dtype=np.uint8)
    twins = np.flatnonzero(labels == 0)[:2]
    images[twins[1]] = images[twins[0]]
    return images, labels


def crossed(count, seed):
    """Two classes that no linear model tells apart: whether two patterns have the same sign (an exclusive or)."""
    patterns = np.random.default_rng(99).choice([-1.0, 1.0], (2, 1, 12, 12))
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], (count, 2))
    grey = 128 + 14 * np.einsum("np,pchw->nchw", signs, patterns) + rng.normal(0, 8, (count, 1, 12, 12))
    return grey.clip(0, 255).astype(np.uint8), (signs[:, 0] == signs[:, 1]).astype(np.int64)


def accuracy(images, labels, test_images, test_labels):
    model = MLPClassifier((32,), max_iter=40, random_state=0)
    model.fit(images.reshape(len(images), -1) / 255, labels)
    return model.score(test_images.reshape(len(test_images), -1) / 255, test_labels)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("shape", [(1, 6, 5), (3, 4, 4)])
def test_orthogonal_to_the_weights_before_rounding_and_idempotent(classes, shape):
    images, labels = noise(classes, shape=shape, low=80, high=120)
    found = class_directions(images, labels)
    basis, facts = found.basis, found.facts
    # The weights of K classes under a penalty add up to zero, so they span K - 1 directions, not K.
    assert basis.shape == (classes - 1, np.prod(shape))
    assert facts["directions"] == classes - 1
    assert np.allclose(basis @ basis.T, np.eye(classes - 1), atol=1e-12)
    assert np.allclose(found.mean, images.reshape(len(images), -1).mean(0))
    flat = on_complement(images, found).reshape(len(images), -1)
    assert np.abs((flat - found.mean) @ basis.T).max() < 1e-9
    weights = (
        LogisticRegression(max_iter=200)
        .fit((images.reshape(len(images), -1) - found.mean) / 255, labels)
        .coef_
    )
    along = np.abs((flat - found.mean) @ weights.T).max() / np.abs(weights).max()
    assert along < 0.5  # the same weights, up to where L-BFGS stops in another order of the rows
    # Half a level of rounding in each value is all that comes back, and all that a second projection changes.
    most = 0.5 * np.sqrt(flat.shape[1])
    rounded = np.rint(flat)
    assert np.abs((rounded - found.mean) @ basis.T).max() <= most
    held = ((rounded >= 0) & (rounded <= 255)).all(1)
    assert held.any()
    saved = rounded[held].astype(np.uint8).reshape(-1, *shape)
    assert np.abs(on_complement(saved, found).reshape(len(saved), -1) - flat[held]).max() <= most


def test_the_directions_are_those_of_the_regression():
    """Against the dense projector of the weights, by the pseudo-inverse."""
    images, labels = noise(4)
    flat = images.reshape(len(images), -1) / 255
    model = LogisticRegression(C=0.1, max_iter=5000, tol=1e-10).fit(flat, labels)
    wanted = np.linalg.pinv(model.coef_, rcond=1e-6) @ model.coef_
    found = class_directions(images, labels, penalty=10.0, iterations=5000)
    basis, facts = found.basis, found.facts
    assert facts["converged"]
    assert np.abs(basis.T @ basis - wanted).max() < 0.02
    assert facts["training_accuracy"] == pytest.approx(model.score(flat, labels), abs=0.04)


def test_neither_order_nor_names_of_classes_matter():
    images, labels = noise(3)
    there = orthogonal_projection(images, labels)
    shuffle = np.random.default_rng(1).permutation(len(labels))
    assert (orthogonal_projection(images[shuffle], labels[shuffle]) == there[shuffle]).all()
    assert (orthogonal_projection(images, labels * 2) == there).all()  # a class index that does not occur
    floats = (images / 255).astype(np.float32)
    assert (orthogonal_projection(floats, labels) == there).all()


def test_by_hand():
    """One pixel says the class, another has no part in it."""
    images = np.array([[10, 50], [10, 90], [40, 50], [40, 90]], dtype=np.uint8).reshape(4, 1, 1, 2)
    labels = np.array([0, 0, 1, 1])
    found = class_directions(images, labels)
    assert np.allclose(np.abs(found.basis), [[1, 0]], atol=1e-6)
    assert found.mean.tolist() == [25, 70]
    out = orthogonal_projection(images, labels)
    assert out.reshape(4, 2).tolist() == [[25, 50], [25, 90], [25, 50], [25, 90]]


def test_rounding_and_ends_of_the_range():
    assert in_8_bits(np.array([-30.0, -0.4, 0.5 - 1e-9, 1.5, 254.6, 300.0])).tolist() == [
        0,
        0,
        0,
        2,
        255,
        255,
    ]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("generator", [class_patches, lsp])
def test_a_class_wise_signal_is_cured_and_clean_data_lose_little(generator):
    """Content that is no linear function of the pixels, as that of photos hardly is: the projection spares it."""
    (images, labels), test = crossed(600, 1), crossed(600, 2)
    poisoned = generator(images, labels, seed=0, eps=32).inputs
    clean, spoiled = accuracy(images, labels, *test), accuracy(poisoned, labels, *test)
    cured = accuracy(orthogonal_projection(poisoned, labels), labels, *test)
    spared = accuracy(orthogonal_projection(images, labels), labels, *test)
    assert clean > 0.95
    assert spoiled < 0.6
    assert cured > spoiled + 0.3
    assert spared > clean - 0.05


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (lambda i, k: (i, k * 0), {}, "every label is the same"),
        (lambda i, k: (i[:, 0], k), {}, "of shape"),
        (lambda i, k: (i, k[1:]), {}, "class indices are needed"),
        (lambda i, k: (i * 0, k), {}, "nothing to take out"),
        (lambda i, k: (i, k), {"penalty": 0.0}, "penalty=0.0: above 0"),
        (lambda i, k: (i, k), {"penalty": float("nan")}, "penalty=nan: above 0"),
        (lambda i, k: (i, k), {"iterations": 0}, "iterations=0"),
    ],
)
def test_what_cannot_be_used_is_refused(change, given, message):
    with pytest.raises(BadInput, match=message):
        orthogonal_projection(*change(*noise()), **given)


def test_a_projected_dataset_written_and_opened_again(digits, tmp_path):
    write_protected(protect(digits, "class_patches", share=0.5, settings={"eps": 32}), tmp_path / "spoiled")
    spoiled = open_dataset(tmp_path / "spoiled")
    made = project(spoiled, train_only=True)
    record = write_projected(made, tmp_path / "cured")
    again = open_dataset(tmp_path / "cured")
    for name in ("sample_id", "label", "split", TRUTH_COLUMN):  # the truth stays with the samples
        assert again.samples[name].to_list() == spoiled.samples[name].to_list(), name
    train = spoiled.rows("train")
    others = np.setdiff1d(np.arange(len(spoiled)), train)
    assert (again.inputs[others] == spoiled.inputs[others]).all()
    before = np.ascontiguousarray(spoiled.inputs[train].transpose(0, 3, 1, 2))
    after = orthogonal_projection(before, spoiled.labels[train])
    assert (again.inputs[train] == after.transpose(0, 2, 3, 1)).all()
    assert record == json.loads((tmp_path / "cured" / "record" / "projection.json").read_text())
    assert (record["method"], record["splits"]) == ("orthogonal_projection", ["train"])
    assert record["parameters"] == {"penalty": 1.0, "iterations": 200}
    assert record["source"]["fingerprint"] == spoiled.fingerprint
    assert record["data"]["fingerprint"] == again.fingerprint != spoiled.fingerprint
    assert record["data"]["sha256"] == sha256(tmp_path / "cured" / "data.parquet")
    assert record["counts"] == {"projected": len(train), "by_split": {"train": len(train)}}
    report, flat = record["report"], before.reshape(len(before), -1).astype(float)
    found = class_directions(before, spoiled.labels[train])
    of_nine = spoiled.labels[train] == 9
    apart = flat[of_nine] - flat.mean(0)
    share = ((apart @ found.basis.T) ** 2).sum() / (apart**2).sum()
    assert report["energy_removed"]["9"] == pytest.approx(share, abs=1e-6)
    assert 0 < min(report["energy_removed"].values()) < max(report["energy_removed"].values()) < 1
    change = (after.reshape(flat.shape)[of_nine] - flat[of_nine]) ** 2
    assert report["mean_change"]["9"] == pytest.approx(np.sqrt(change.mean()), abs=1e-3)
    exact = on_complement(before, found)
    assert report["clipped"] == pytest.approx(((exact < -0.5) | (exact > 255.5)).mean(), abs=1e-6)


def test_the_same_bytes_again_in_all_splits(digits, tmp_path):
    for name in ("one", "two"):
        record = write_projected(project(digits), tmp_path / name)
    for file in ("data.parquet", "record/projection.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    alone = project(digits, train_only=True)
    together = project(digits)
    assert together.facts["report"] == alone.facts["report"]  # fitted and measured on train either way
    assert (together.inputs[digits.rows("train")] == alone.inputs).all()
    others = np.setdiff1d(np.arange(len(digits)), digits.rows("train"))
    assert (together.inputs[others] != digits.inputs[others]).any((1, 2, 3)).all()
    assert record["splits"] == ["train", "val", "test"]
    assert record["counts"]["projected"] == len(digits)
    again = open_dataset(tmp_path / "one")
    assert (again.inputs == together.inputs).all()
    assert TRUTH_COLUMN not in again.samples


def test_what_is_no_set_of_images_is_refused(digits):
    texts = open_dataset(pl.DataFrame({"text": [f"line {at}" for at in range(60)], "label": ["x", "y"] * 30}))
    with pytest.raises(BadInput, match="its samples are of kind 'text'"):
        project(texts)
    with pytest.raises(UnknownName, match="did you mean 'penalty'"):
        project(digits, settings={"penalti": 2.0})
