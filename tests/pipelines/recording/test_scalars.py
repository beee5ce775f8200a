"""The scalars of a batch against hand-worked values and a float64 reference."""

import math

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import SCALAR_FIELDS
from tracesift.pipelines.recording.scalars import scalars


def reference(logits: np.ndarray, labels: np.ndarray, previous: np.ndarray) -> dict[str, np.ndarray]:
    """Each field by a loop over samples, in float64."""
    rows = []
    for z, y, q in zip(logits.astype(np.float64), labels, previous.astype(np.float64), strict=True):
        p = np.exp(z - z.max())
        p /= p.sum()
        onehot = np.eye(len(z))[y]
        rows.append(
            {
                "loss": -math.log(p[y]),
                "correct": int(z.argmax()) == y,
                "margin": z[y] - np.delete(z, y).max(),
                "prob_label": p[y],
                "prob_margin": p[y] - np.delete(p, y).max(),
                "error_norm": np.linalg.norm(p - onehot),
                "entropy": -sum(v * math.log(v) for v in p),
                "kl_step": sum(
                    abs(a * (math.log(a + 1e-8) - math.log(b + 1e-8))) for a, b in zip(p, q, strict=True)
                ),
                "pred": int(z.argmax()),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def test_hand_worked_sample():
    # p = (1/2, 1/4, 1/4): every value below can be checked with a pencil
    row = scalars(torch.log(torch.tensor([[2.0, 1.0, 1.0]])), torch.tensor([1]), SCALAR_FIELDS)
    assert row["loss"].item() == pytest.approx(math.log(4))
    assert row["correct"].item() is False
    assert row["margin"].item() == pytest.approx(-math.log(2))
    assert row["prob_label"].item() == pytest.approx(0.25)
    assert row["prob_margin"].item() == pytest.approx(-0.25)
    assert row["error_norm"].item() == pytest.approx(math.sqrt(0.25 + 0.5625 + 0.0625))
    assert row["entropy"].item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
    assert math.isnan(row["kl_step"].item())
    assert row["pred"].item() == 0


@pytest.mark.parametrize(("size", "classes"), [(1, 2), (64, 3), (17, 40)])
def test_float64_reference(size: int, classes: int):
    rng = np.random.default_rng(classes)
    logits = (3 * rng.normal(size=(size, classes))).astype(np.float32)
    labels = rng.integers(0, classes, size)
    previous = rng.dirichlet(np.ones(classes), size).astype(np.float32)
    got = scalars(
        torch.from_numpy(logits), torch.from_numpy(labels), SCALAR_FIELDS, previous=torch.from_numpy(previous)
    )
    for name, expected in reference(logits, labels, previous).items():
        np.testing.assert_allclose(got[name].numpy(), expected, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_computed_in_float32(dtype: torch.dtype):
    logits = torch.tensor([[12.0, 0.0], [0.5, 0.25]], dtype=dtype)
    got = scalars(logits, torch.tensor([0, 0]), ("loss", "margin"))
    assert got["loss"].dtype == torch.float32
    assert got["loss"][0].item() == pytest.approx(math.log1p(math.exp(-12)), rel=1e-2)  # 0 in half precision
    assert got["margin"].tolist() == [12.0, 0.25]


def test_nonfinite_logits_are_kept_and_never_correct():
    logits = torch.tensor([[float("nan"), 0.0], [float("inf"), 0.0], [1.0, 0.0]])
    got = scalars(logits, torch.tensor([0, 0, 0]), ("loss", "correct", "margin"))
    assert got["correct"].tolist() == [False, False, True]
    assert got["loss"][:2].isnan().all()
    assert got["margin"][1].item() == float("inf")


def test_one_class_has_no_margin():
    got = scalars(torch.tensor([[3.0]]), torch.tensor([0]), SCALAR_FIELDS)
    assert got["margin"].isnan().all()
    assert got["prob_margin"].isnan().all()
    assert got["loss"].item() == 0
    assert got["error_norm"].item() == 0
    assert got["correct"].item() is True
