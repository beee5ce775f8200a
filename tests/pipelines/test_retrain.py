"""Retraining a subset: fixed steps, the last step, weights and labels applied."""

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.retrain import measure, retrain

FIXED = {"model": "mlp", "steps": 40, "seed": 0, "threads": 1}


def test_metrics_of_a_separable_set(blobs):
    got = retrain(blobs, blobs.rows("train"), **FIXED)
    assert got["accuracy"] > 0.9
    assert got["macro_f1"] > 0.9
    assert got["steps"] == 40
    assert got["samples"] == len(blobs.rows("train"))
    assert got == retrain(blobs, blobs.rows("train"), **FIXED)
    assert got["loss"] != retrain(blobs, blobs.rows("train"), **{**FIXED, "seed": 1})["loss"]


@pytest.mark.parametrize("size", [2, 17, 60])
def test_steps_do_not_depend_on_the_subset(blobs, size):
    assert retrain(blobs, blobs.rows("train")[:size], **FIXED)["steps"] == 40


def test_labels_given_are_learned_and_test_is_untouched(blobs):
    rows = blobs.rows("train")
    rotated = (blobs.labels[rows] + 1) % 3
    got = retrain(blobs, rows, labels=rotated, **FIXED)
    assert got["train_accuracy"] > 0.9  # on the labels it was given
    assert got["accuracy"] < 0.1


def test_weights_rule_what_is_learned(blobs):
    rows = blobs.rows("train")
    labels = blobs.labels[rows].copy()
    wrong = np.arange(len(rows)) % 2 == 0
    labels[wrong] = (labels[wrong] + 1) % 3
    ignoring = retrain(blobs, rows, labels=labels, weights=np.where(wrong, 1e-3, 1.0), **FIXED)
    believing = retrain(blobs, rows, labels=labels, weights=np.where(wrong, 1.0, 1e-3), **FIXED)
    assert ignoring["accuracy"] > 0.9
    assert believing["accuracy"] < 0.1
    doubled = retrain(blobs, rows, weights=np.full(len(rows), 2.0), **FIXED)
    plain = retrain(blobs, rows, **FIXED)
    assert doubled["loss"] == pytest.approx(plain["loss"], rel=1e-4)  # weights have mean one


def test_shared_inputs_are_used(blobs):
    inputs = encode(blobs, find("mlp", "tabular"))
    rows = blobs.rows("train")
    assert retrain(blobs, rows, inputs=inputs, **FIXED) == retrain(blobs, rows, **FIXED)


def test_measure_against_a_hand_count():
    class Fixed:
        device = torch.device("cpu")
        module = torch.nn.Identity()

        def __call__(self, x):
            return x

    class Inputs:
        def batch(self, rows, generator=None):
            return torch.log(torch.tensor([[0.8, 0.1, 0.1], [0.5, 0.25, 0.25], [0.2, 0.6, 0.2]]))[rows]

    got = measure(Fixed(), Inputs(), torch.tensor([0, 1, 1]), np.arange(3))
    assert got["accuracy"] == pytest.approx(2 / 3)
    assert got["macro_f1"] == pytest.approx(2 / 3)  # both classes: precision and recall 1 and 1/2
    assert got["loss"] == pytest.approx(-(np.log(0.8) + np.log(0.25) + np.log(0.6)) / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [0]}, "at least 2"),
        ({"steps": 0}, "steps=0"),
        ({"rows": "test"}, "training samples"),
        ({"rows": "twice"}, "distinct"),
        ({"weights": [1.0]}, "1 entries"),
        ({"weights": "zero"}, "not all zero"),
        ({"labels": [0]}, "1 entries"),
    ],
)
def test_refused(blobs, change, message):
    rows = blobs.rows("train")
    named = {"test": blobs.rows("test"), "twice": np.repeat(rows, 2), "zero": np.zeros(len(rows))}
    change = {
        name: named[value] if isinstance(value, str) else np.array(value) for name, value in change.items()
    }
    given = {**FIXED, "rows": rows, **change}
    with pytest.raises(BadInput, match=message):
        retrain(blobs, given.pop("rows"), **given)
