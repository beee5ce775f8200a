import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import combine, compute, find
from tracesift.scorers.dynamics.el2n import el2n


def test_hand_worked_from_probabilities():
    probs = np.array([[[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]]])
    frame = compute(["el2n"], {"probs": probs, "labels": [0, 2]})
    np.testing.assert_allclose(frame["el2n"], [np.sqrt(0.25 + 0.09 + 0.04), np.sqrt(2)])


@pytest.mark.parametrize(("epochs", "checkpoint"), [(1, 1), (8, 1), (10, 1), (11, 2), (25, 3), (200, 20)])
def test_the_default_checkpoint_is_a_tenth_of_the_run(epochs, checkpoint):
    error = np.arange(1.0, epochs + 1)[:, None]
    assert el2n(error)[0] == checkpoint


def test_aggregates():
    error = np.array([[1.0, 0.5], [0.5, np.nan], [0.25, 0.25]])
    np.testing.assert_array_equal(el2n(error, checkpoint=2), [0.5, np.nan])
    np.testing.assert_array_equal(el2n(error, checkpoint=2, aggregate="mean"), [0.75, 0.5])
    np.testing.assert_array_equal(el2n(error, checkpoint=2, aggregate="sum"), [1.5, 0.5])


def test_runs_are_averaged():
    value, _ = combine([[1.0, 0.5], [0.5, 0.25]], find("el2n").combine)
    assert value.tolist() == [0.75, 0.375]


def test_the_sum_over_the_first_epochs_while_training():
    # what coverage-centric selection calls EL2N: another mode, another window, no mean
    class Recorded:
        modes = ("in_training", "epoch_end")

        def in_mode(self, mode):
            return {"error_norm": recorded[mode]}

    chance = np.random.default_rng(0)
    recorded = {mode: chance.random((25, 30)) for mode in Recorded.modes}
    usual = compute("el2n", Recorded())["el2n"]
    np.testing.assert_array_equal(usual, recorded["epoch_end"][2])
    params = {"el2n": {"checkpoint": 10, "aggregate": "sum"}}
    summed = compute("el2n", Recorded(), mode="in_training", params=params)["el2n"]
    np.testing.assert_allclose(summed, recorded["in_training"][:10].sum(axis=0))


def test_what_it_refuses():
    with pytest.raises(BadInput, match="epochs 1 to 3"):
        el2n(np.ones((3, 2)), checkpoint=4)
    with pytest.raises(BadInput, match="epochs 1 to 3"):
        el2n(np.ones((3, 2)), checkpoint=0)
    with pytest.raises(BadInput, match="'at', 'mean' or 'sum'"):
        el2n(np.ones((3, 2)), aggregate="median")


def test_wrong_labels_are_hard(planted_signals, auroc):
    signals, wrong = planted_signals(epochs=40)
    assert auroc(compute(["el2n"], signals)["el2n"].to_numpy(), wrong) > 0.95
