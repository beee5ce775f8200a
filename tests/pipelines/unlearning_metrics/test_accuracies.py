"""Accuracies of forgotten, retained and unseen samples, the average gap to retraining, and tug of war."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.accuracies import accuracies, average_gap
from tracesift.pipelines.unlearning_metrics.tow import tow, tow_mia

RETRAINED = {"ua": 0.25, "ra": 1.0, "ta": 0.75, "mia": 0.5}


def test_worked_by_hand():
    got = accuracies(
        forget=(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 1])),  # 2 of 4
        retain=(np.array([3, 3, 3, 0]), np.array([3, 3, 3, 3])),  # 3 of 4
        test=(np.array([1]), np.array([1])),
    )
    assert got == {"ua": 0.5, "ra": 0.75, "ta": 1.0}
    assert average_gap({**got, "mia": 0.75}, RETRAINED) == 25.0  # 25 points each
    assert tow(got, RETRAINED) == 0.75**3
    assert tow_mia({**got, "mia": 0.0}, RETRAINED) == 0.5 * 0.75 * 0.75


def test_against_another_implementation():
    rng = np.random.default_rng(3)
    sets = {
        name: (rng.integers(0, 4, size), rng.integers(0, 4, size))
        for name, size in (("forget", 31), ("retain", 77), ("test", 50))
    }
    got = accuracies(**sets)
    reference = {name: accuracy_score(labels, predicted) for name, (predicted, labels) in sets.items()}
    assert got == pytest.approx(
        {"ua": 1 - reference["forget"], "ra": reference["retain"], "ta": reference["test"]}, abs=1e-12
    )


@pytest.mark.parametrize("ua", [0.0, 1.0])
def test_remembering_and_destroying_are_both_worse_than_retraining(ua):
    assert average_gap({**RETRAINED, "ua": ua}, RETRAINED) > average_gap(RETRAINED, RETRAINED) == 0
    assert tow({**RETRAINED, "ua": ua}, RETRAINED) < tow(RETRAINED, RETRAINED) == 1
    assert tow_mia({**RETRAINED, "ua": ua}, RETRAINED) == 1  # it looks at the attack instead
    assert tow_mia({**RETRAINED, "mia": ua}, RETRAINED) == 0.5


def test_what_is_refused():
    ok = (np.array([0]), np.array([0]))
    with pytest.raises(BadInput, match="at least one"):
        accuracies(forget=(np.array([], int), np.array([], int)), retain=ok, test=ok)
    with pytest.raises(BadInput, match="retain has 2 predictions for 1"):
        accuracies(forget=ok, retain=(np.array([0, 0]), np.array([0])), test=ok)
    with pytest.raises(BadInput, match="class indices"):
        accuracies(forget=ok, retain=ok, test=(np.array([0.5]), np.array([0])))
    with pytest.raises(BadInput, match="no 'mia'"):
        average_gap({"ua": 0.0, "ra": 0.0, "ta": 0.0}, RETRAINED)
    with pytest.raises(BadInput, match=r"94\.5; it is a share"):
        tow({**RETRAINED, "ta": 94.5}, RETRAINED)
