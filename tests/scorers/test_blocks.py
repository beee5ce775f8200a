"""Scorers over blocks of samples: nothing but speed may depend on how the samples are cut."""

from types import MappingProxyType

import numpy as np
import pytest

from tracesift.catalog.schema import SIGNALS, BadInput
from tracesift.scorers import blocks
from tracesift.scorers.contract import compute, find, names

TOGETHER = [name for name in names() if find(name).per_sample]


@pytest.fixture(scope="module")
def signals(random_signals):
    """400 samples, of which many presentations are missing and some losses are infinite."""
    made = random_signals(samples=400, epochs=13)
    rng = np.random.default_rng(3)
    seen = rng.random((13, 400)) > 0.1
    seen[:, 7] = False
    for name, array in made.items():
        if SIGNALS[name].axes == "TN" and array.dtype == np.float64:
            made[name] = np.where(seen, array, np.nan).astype(np.float32)
    made["loss"][4, 50:60] = np.inf
    return made | {"seen": seen}


def test_most_trajectory_scorers_go_together():
    assert {"aum", "cld", "forgetting_events", "mean_loss", "fkl", "el2n"} <= set(TOGETHER)
    assert "loss_gmm" not in TOGETHER


@pytest.mark.parametrize("size", [1, 5_000, 1 << 30], ids=["64 samples", "some", "all at once"])
def test_neither_blocks_nor_company_change_a_byte(signals, size, monkeypatch):
    alone = {name: compute([name], signals)[name].to_numpy() for name in TOGETHER}
    monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
    together = compute(TOGETHER, signals)
    for name in TOGETHER:
        np.testing.assert_array_equal(together[name].to_numpy(), alone[name], err_msg=name)


def test_seen_of_a_recording_is_cut_into_blocks_too(signals, monkeypatch):
    recorded = MappingProxyType(
        signals
    )  # not a dict of a user's own: NaN stands where nothing was seen already
    expected = compute(TOGETHER, recorded)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    assert compute(TOGETHER, recorded).equals(expected, null_equal=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_leave_no_trace(signals, threads, monkeypatch):
    expected = compute(TOGETHER, signals)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    monkeypatch.setattr(blocks.os, "cpu_count", lambda: threads)
    assert compute(TOGETHER, signals).equals(expected, null_equal=True)


def test_numbers_beside_seen_are_masked_in_every_block(signals, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    stray = {**signals, "margin": np.where(signals["seen"], signals["margin"], 99.0).astype(np.float32)}
    assert compute(["aum"], stray).equals(compute(["aum"], signals), null_equal=True)


def test_validation_work_is_done_once(signals, monkeypatch):
    calls = []
    known = find("cld")
    once = known.once
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    object.__setattr__(known, "once", lambda *arrays: calls.append(1) or once(*arrays))
    try:
        compute(["cld"], signals)
    finally:
        object.__setattr__(known, "once", once)
    assert calls == [1]


def test_scorers_of_different_samples_do_not_go_together():
    with pytest.raises(BadInput, match="'aum' has 3 samples but 'mean_loss' has 2"):
        compute(["aum", "mean_loss"], {"margin": np.ones((2, 3)), "loss": np.ones((2, 2))})


def test_an_error_in_a_block_is_the_callers():
    with pytest.raises(BadInput, match="at least 3 epochs"):
        compute(
            ["cld"],
            {
                "loss": np.ones((2, 300)), "labels": np.zeros(300, int),
                "val_loss": np.ones((2, 3)), "val_labels": np.zeros(3, int),
            },
        )  # fmt: skip
