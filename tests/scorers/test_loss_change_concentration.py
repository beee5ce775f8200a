import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import diagnose
from tracesift.scorers.dynamics.loss_change_concentration import loss_change_concentration


def test_hand_worked():
    # steps of sizes 1, 1, 2 and then 0, 3, 1
    found = loss_change_concentration(
        np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 3.0], [2.0, 3.0, 2.0]]), percent=34
    )
    assert found == {"top": 2, "shares": [0.75, 1.0], "largest": 1.0, "step": 2}


def test_against_numpy():
    loss = np.random.default_rng(0).random((6, 250))
    found = diagnose("loss_change_concentration", {"loss": loss})
    change = np.abs(np.diff(loss, axis=0))
    expected = np.partition(change, -3, axis=1)[:, -3:].sum(axis=1) / change.sum(axis=1)
    np.testing.assert_allclose(found["shares"], expected, rtol=1e-12)
    assert found["top"] == 3


def test_a_few_that_carry_a_spike_are_seen():
    rng = np.random.default_rng(1)
    loss = 1 + rng.normal(0, 0.01, (8, 1000))
    loss[5, :10] += 4
    found = loss_change_concentration(loss)
    assert found["step"] in (5, 6)
    assert found["largest"] > 0.7
    assert max(found["shares"][:4]) < 0.1


def test_nothing_that_moves_and_nothing_that_is_finite():
    still = loss_change_concentration(np.ones((3, 4)))
    assert still["shares"] == [None, None]
    assert still["largest"] is None
    broken = np.array([[1.0, 2.0], [np.nan, np.inf], [1.0, 3.0]])
    assert loss_change_concentration(broken)["shares"] == [None, None]
    assert loss_change_concentration(np.ones((1, 4)))["shares"] == []


def test_what_it_refuses():
    for percent in (0, -1, 101, float("nan")):
        with pytest.raises(BadInput, match="percent"):
            loss_change_concentration(np.ones((3, 4)), percent=percent)
