"""The compiled loop and the tensor operations of the recorder are one definition, written twice."""

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import SCALAR_FIELDS, BadInput
from tracesift.pipelines.recording.buffers import Buffers

INTEGERS = ("correct", "pred", "seen", "presentations", "nonfinite", "num_tokens")


def buffers(*, classes, fields=SCALAR_FIELDS, spans=("previous", "elr_target"), compiled):
    """Twenty samples in even rows of a dataset of fifty; class = position mod K."""
    made = Buffers(
        np.arange(0, 40, 2), 50, np.arange(20) % classes,
        fields=fields, spans=spans, num_classes=classes, device=torch.device("cpu"),
    )  # fmt: skip
    if not compiled:
        made.loop = None
    return made


def batches(classes, epoch):
    """Batches with a sample twice, a row of another split, rows outside, wrong labels, NaN and infinities."""
    generator = torch.Generator().manual_seed(epoch)
    logits = 4 * torch.randn(26, classes, generator=generator)
    rows = torch.cat([torch.arange(0, 40, 2), torch.tensor([4, 4, 1, -3, 10**12, 6])])
    labels = torch.cat([torch.arange(20) % classes, torch.tensor([2, 2, 0, 0, 0, 3])]) % classes
    labels[7], labels[8] = classes + 2, -1
    logits[3, 0], logits[4, -1], logits[5, 0] = float("nan"), float("inf"), float("-inf")
    logits[6] = 1.5  # all classes alike
    logits[9] = float("-inf")
    logits[10], logits[10, 0] = -200.0, 200.0  # a probability of exactly 0
    for part in torch.randperm(26, generator=generator).split(7):
        yield rows[part], logits[part], labels[part]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 2, 10])
def test_both_record_the_same(classes, dtype):
    one, other = (buffers(classes=classes, compiled=compiled) for compiled in (True, False))
    for epoch in range(3):
        for rows, logits, labels in batches(classes, epoch):
            one.add(rows, logits.to(dtype), labels.int())
            other.add(rows, logits.to(dtype), labels.int())
        (columns, counts), (expected, expected_counts) = one.collect(), other.collect()
        assert counts == expected_counts
        for name, values in expected.items():
            if name in INTEGERS:
                np.testing.assert_array_equal(columns[name], values, err_msg=name)
            else:
                np.testing.assert_allclose(columns[name], values, rtol=2e-5, atol=1e-6, err_msg=name)
        for name, span in other.spans.items():
            np.testing.assert_allclose(one.spans[name][:-1], span[:-1], rtol=1e-5, atol=1e-7, err_msg=name)
        one.reset()
        other.reset()


def test_only_what_is_asked_for_is_written():
    made = buffers(classes=3, fields=("margin", "correct"), spans=(), compiled=True)
    made.add(torch.tensor([2]), torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1]))
    columns, _ = made.collect()
    assert set(columns) == {"seen", "margin", "correct", "presentations", "nonfinite", "num_tokens"}
    assert columns["margin"][1] == 2.0
    assert columns["correct"].tolist() == [False, True] + [False] * 18


def test_values_are_those_of_double_precision():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.arange(20) % 5
    made = buffers(classes=5, compiled=True)
    made.add(torch.arange(0, 40, 2), logits, labels)
    columns, _ = made.collect()
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    own, onehot = p[np.arange(20), labels], np.eye(5)[labels]
    np.testing.assert_allclose(columns["loss"], -np.log(own), rtol=1e-7)
    np.testing.assert_allclose(columns["prob_label"], own, rtol=1e-7)
    np.testing.assert_allclose(columns["prob_margin"], own - np.where(onehot, -1, p).max(axis=1), rtol=1e-7)
    np.testing.assert_allclose(columns["error_norm"], np.linalg.norm(p - onehot, axis=1), rtol=1e-7)
    np.testing.assert_allclose(columns["entropy"], -(p * np.log(p)).sum(axis=1), rtol=1e-7)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_certain_prediction_enters_the_running_target_clipped(compiled):
    """The clip comes before the average: afterwards it would leave exact zeros and another sum."""
    made = buffers(classes=3, fields=("loss",), spans=("elr_target",), compiled=compiled)
    certain = torch.tensor([[200.0, 0.0, 0.0]])
    share = np.array([1 - 1e-4, 1e-4, 1e-4]) / (1 + 1e-4)
    for updates in (1, 2, 3):
        made.add(torch.tensor([0]), certain, torch.tensor([0]))
        made.collect()
        made.reset()
        target = made.spans["elr_target"][0].numpy()
        np.testing.assert_allclose(target, (1 - 0.7**updates) * share, rtol=1e-5)


@pytest.mark.parametrize("compiled", [True, False])
def test_a_batch_of_one_sample_has_its_margin(compiled):
    made = buffers(classes=3, fields=("margin",), spans=(), compiled=compiled)
    made.add(torch.tensor([2]), torch.tensor([[0.5, 3.0, -1.0]]), torch.tensor([1]))
    columns, _ = made.collect()
    assert columns["margin"][1] == 2.5
    assert np.isnan(np.delete(columns["margin"], 1)).all()


@pytest.mark.parametrize("strided", ["rows", "logits", "labels"])
def test_what_does_not_lie_without_gaps_is_read_as_it_is(strided):
    """The loop takes addresses, which know nothing of strides."""
    batch = {
        "rows": torch.arange(0, 40, 2),
        "logits": torch.randn(20, 5, generator=torch.Generator().manual_seed(0)),
        "labels": torch.arange(20) % 5,
    }
    plain, other = (buffers(classes=5, compiled=True) for _ in range(2))
    plain.add(**batch)
    spread = torch.stack([batch[strided], torch.zeros_like(batch[strided])], dim=-1)[..., 0]
    assert not spread.is_contiguous()
    other.add(**{**batch, strided: spread})
    (columns, counts), (expected, expected_counts) = other.collect(), plain.collect()
    assert counts == expected_counts
    for name, values in expected.items():
        np.testing.assert_array_equal(columns[name], values, err_msg=name)


@pytest.mark.parametrize("classes", [2, 9, 64])
def test_margins_and_predictions_of_finite_logits_are_those_of_numpy(classes):
    """Logits on a coarse grid, so that ties, zeros of both signs and equal rows are common."""
    rng = np.random.default_rng(classes)
    logits = rng.choice(np.array([-3e38, -2.5, -1.0, -0.0, 0.0, 1.0, 2.5, 3e38], np.float32), (20, classes))
    labels = np.arange(20) % classes
    made = buffers(classes=classes, fields=("margin", "correct", "pred"), spans=(), compiled=True)
    made.add(torch.arange(0, 40, 2), torch.from_numpy(logits), torch.from_numpy(labels))
    columns, _ = made.collect()
    onehot = np.arange(classes) == labels[:, None]
    wide = logits.astype(np.float64)
    with np.errstate(over="ignore"):
        margin = (wide[onehot] - np.where(onehot, -np.inf, wide).max(1)).astype(np.float32)
    np.testing.assert_array_equal(columns["margin"], margin)
    assert not np.signbit(columns["margin"][columns["margin"] == 0]).any()
    np.testing.assert_array_equal(columns["pred"], logits.argmax(1))
    np.testing.assert_array_equal(columns["correct"], logits.argmax(1) == labels)


def test_logits_with_a_gradient_need_no_copy():
    made = buffers(classes=3, fields=("margin",), spans=(), compiled=True)
    logits = torch.tensor([[0.5, 3.0, -1.0]], requires_grad=True)
    made.add(torch.tensor([2]), logits, torch.tensor([1]))
    assert made.collect()[0]["margin"][1] == 2.5
    assert logits.grad is None


def test_another_number_of_classes_is_refused_before_it_writes_past_the_end():
    made = buffers(classes=3, compiled=True)
    made.add(torch.tensor([2]), torch.zeros(1, 3), torch.tensor([1]))
    with pytest.raises(BadInput, match="4 classes, those before had 3"):
        made.add(torch.tensor([4]), torch.zeros(1, 4), torch.tensor([1]))
