import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.noise.threshold_aum import threshold_aum


def test_hand_worked():
    # run 0: threshold margins 1 and 3, run 1: 0 and 2; medians 2 and 1
    margin = np.array([[1.0, 5.0], [3.0, 4.0], [7.0, 0.0], [8.0, 2.0], [2.0, 1.5]])
    moved = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]], dtype=bool)
    assert threshold_aum(margin, moved, percentile=50).tolist() == [4.0, 3.0, 5.0, 6.0, 0.25]


def test_below_zero_is_the_published_rule():
    # flagged: below the margins of more than 1 % of the threshold samples
    rng = np.random.default_rng(0)
    margin = rng.normal(size=(1101, 1))
    moved = np.arange(1101)[:, None] < 101
    score = threshold_aum(margin, moved)
    for i in range(101, 1101):
        above = (margin[:101, 0] > margin[i, 0]).sum()
        assert (score[i] < 0) == (above > 1)  # 101 of them: the percentile is one of theirs


def test_equal_to_the_percentile_is_not_below():
    assert threshold_aum(np.array([[2.0], [2.0]]), np.array([[True], [False]]))[1] == 0


def test_a_sample_without_a_run_of_its_own_and_a_run_without_threshold_samples():
    both = np.array([[True, True], [False, True], [True, False]])
    score = threshold_aum(np.ones((3, 2)), both)
    assert np.isnan(score).tolist() == [True, False, False]
    assert np.isnan(threshold_aum(np.ones((3, 1)), np.zeros((3, 1), dtype=bool))).all()


def test_wrong_labels_fall_below(auroc):
    rng = np.random.default_rng(1)
    wrong = rng.random(500) < 0.2
    moved = np.zeros((500, 2), dtype=bool)
    moved[:50, 0] = moved[50:100, 1] = True
    margin = np.where(moved | wrong[:, None], -1.0, 4.0) + rng.normal(0, 0.5, (500, 2))
    score = compute("threshold_aum", {"threshold_margin": margin, "threshold_sample": moved})["threshold_aum"]
    assert auroc(-score.to_numpy(), wrong) > 0.99
    assert ((score.to_numpy() < 0) == wrong).mean() > 0.95


def test_what_it_refuses():
    for percentile in (-1, 101, float("nan")):
        with pytest.raises(BadInput, match="percentile"):
            threshold_aum(np.ones((2, 1)), np.ones((2, 1), dtype=bool), percentile=percentile)
