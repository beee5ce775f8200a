"""The attack on the loss alone."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.basic_mia import basic_mia


def test_auc_by_hand_with_a_tie():
    got = basic_mia(np.array([0.1, 0.5, 2.0]), np.array([0.5, 1.0, 3.0, 4.0]), seed=0, folds=2)
    # pairs with forget < test: 4 for 0.1, 3.5 for 0.5 (one tie), 2 for 2.0; of 12
    assert got["auc"] == pytest.approx(9.5 / 12, abs=1e-12)


def test_remembered_unseen_and_given_away():
    rng = np.random.default_rng(1)
    unseen, other = rng.exponential(1.0, 400), rng.exponential(1.0, 300)
    remembered = basic_mia(other * 0.05, unseen, seed=0)
    forgotten = basic_mia(other, unseen, seed=0)
    overdone = basic_mia(other + 5, unseen, seed=0)
    assert remembered["auc"] > 0.9 > 0.56 > forgotten["auc"] > 0.44 > 0.1 > overdone["auc"]
    assert remembered["accuracy"] > 0.8
    assert overdone["accuracy"] > 0.9  # told apart too, though its loss is larger
    assert abs(forgotten["accuracy"] - 0.5) < 0.08


def test_unequal_sizes_are_balanced():
    """Guessing the larger side would be right for 10 of 11; balanced it is right for half."""
    rng = np.random.default_rng(2)
    got = basic_mia(rng.normal(size=100), rng.normal(size=1000), seed=0)
    assert abs(got["accuracy"] - 0.5) < 0.1


def test_one_seed_one_answer_and_scale_does_not_matter():
    rng = np.random.default_rng(3)
    forget, test = rng.exponential(0.6, 90), rng.exponential(1.0, 200)
    got = basic_mia(forget, test, seed=4)
    assert got == basic_mia(forget, test, seed=4)
    assert got["accuracy"] != basic_mia(forget, test, seed=5)["accuracy"]
    scaled = basic_mia(forget * 1e-4, test * 1e-4, seed=4)
    assert scaled == pytest.approx(got, abs=1e-9)


def test_what_is_refused():
    with pytest.raises(BadInput, match="not finite"):
        basic_mia(np.array([np.inf, 1.0]), np.ones(2), seed=0, folds=2)
    with pytest.raises(BadInput, match="10 folds of 4 samples"):
        basic_mia(np.ones(4), np.ones(50), seed=0)
