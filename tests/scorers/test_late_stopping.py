import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.noise.late_stopping import late_stopping


def test_hand_worked():
    kept = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    assert late_stopping(kept).tolist() == [0, 1, 3, 4]


def test_against_the_round_of_removal():
    rng = np.random.default_rng(0)
    removed = rng.integers(1, 14, 100)  # from 1; 13 is never
    kept = np.arange(1, 13) < removed[:, None]
    expected = [12 - (r - 1) if r <= 12 else 0 for r in removed]
    np.testing.assert_array_equal(late_stopping(kept), expected)


def test_a_round_without_removals_changes_no_order():
    kept = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0]], dtype=bool)
    carried = np.insert(kept, 1, kept[:, 0], axis=1)
    assert np.argsort(late_stopping(kept)).tolist() == np.argsort(late_stopping(carried)).tolist()


def test_wrong_labels_left_out_early_score_high(auroc):
    rng = np.random.default_rng(1)
    wrong = rng.random(500) < 0.2
    removed = np.where(wrong, rng.integers(1, 10, 500), rng.integers(8, 20, 500))
    kept = np.arange(1, 13) < removed[:, None]
    assert (
        auroc(compute("late_stopping", {"late_stopping_kept": kept})["late_stopping"].to_numpy(), wrong)
        > 0.95
    )
