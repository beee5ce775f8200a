from itertools import pairwise

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import combine, compute, find
from tracesift.scorers.dynamics.forgetting_events import forgetting_events

#                  kept, lost twice, never, tail right, late error
RIGHT = np.array([[1, 1, 0, 0, 1], [1, 0, 0, 0, 1], [1, 1, 0, 0, 1], [1, 0, 0, 1, 0]], dtype=bool)


def by_loop(correct, seen, never):
    """Algorithm 1 of the paper, one sample after the other, over its presentations alone."""
    scores = []
    for i in range(correct.shape[1]):
        series = [bool(correct[t, i]) for t in range(len(correct)) if seen[t, i]]
        events = sum(a and not b for a, b in pairwise(series))
        scores.append(np.nan if not series else events if any(series) else never)
    return np.array(scores, dtype=np.float64)


def test_hand_worked():
    assert forgetting_events(RIGHT).tolist() == [0, 2, 4, 0, 1]


@pytest.mark.parametrize(("rule", "value"), [("epochs", 4), ("inf", np.inf), ("zero", 0), ("const", 1000)])
def test_rules_for_the_never_learned(rule, value):
    assert forgetting_events(RIGHT, never_learned=rule)[2] == value
    assert forgetting_events(RIGHT, never_learned=rule)[[0, 1, 3, 4]].tolist() == [0, 2, 0, 1]


def test_const_takes_its_value_and_unknown_rules_are_refused():
    assert forgetting_events(RIGHT, never_learned="const", const=7)[2] == 7
    with pytest.raises(BadInput, match="epochs, inf, zero, const"):
        forgetting_events(RIGHT, never_learned="max")


def test_against_a_loop_with_missing_presentations():
    rng = np.random.default_rng(0)
    correct, seen = rng.random((11, 300)) < 0.4, rng.random((11, 300)) < 0.5
    np.testing.assert_array_equal(forgetting_events(correct, seen), by_loop(correct, seen, 11))


def test_skipped_epochs_join_their_neighbours():
    correct = np.array([[1], [0], [0]], dtype=bool)
    assert forgetting_events(correct, np.array([[1], [0], [1]], dtype=bool))[0] == 1
    assert forgetting_events(correct, np.array([[1], [0], [0]], dtype=bool))[0] == 0


def test_a_nan_loss_is_a_wrong_prediction():
    loss = np.ones(RIGHT.shape)
    loss[1, 0] = np.nan
    assert forgetting_events(RIGHT, loss=loss).tolist() == [1, 2, 4, 0, 1]


def test_the_window():
    assert forgetting_events(RIGHT, epochs=2).tolist() == [0, 1, 2, 2, 0]
    with pytest.raises(BadInput, match="epochs 1 to 4"):
        forgetting_events(RIGHT, epochs=5)


def test_runs_are_summed_so_that_never_learned_scores_runs_times_epochs():
    value, _ = combine([forgetting_events(RIGHT)] * 5, find("forgetting_events").combine)
    assert value.tolist() == [0, 10, 20, 0, 5]


def test_wrong_labels_are_hard(planted_signals, auroc):
    signals, wrong = planted_signals(epochs=10)  # before they are memorised
    score = compute(["forgetting_events"], signals)["forgetting_events"].to_numpy()
    assert auroc(score, wrong) > 0.95
    never_zero = compute(
        ["forgetting_events"], signals, params={"forgetting_events": {"never_learned": "zero"}}
    )
    assert auroc(never_zero["forgetting_events"].to_numpy(), wrong) < 0.8
