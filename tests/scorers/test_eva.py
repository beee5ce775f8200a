import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute, find, names
from tracesift.scorers.dynamics.eva import eva

WINDOWS = {"early_start": 1, "early_end": 5, "late_start": 8, "late_end": 12}


def by_torch(errors, weight):
    """The published script: variances over the epochs of a window, scaled to a sum of 1."""
    early, late = (torch.from_numpy(errors[a:b]) for a, b in ((1, 5), (8, 12)))
    shares = [F.normalize(torch.var(part, dim=0)[None], p=1, dim=1)[0] for part in (early, late)]
    return (weight * shares[0] + (1 - weight) * shares[1]).numpy()


def test_hand_worked():
    # early variances 1/2 and 2, shares 1/5 and 4/5; late 2 and 0, shares 1 and 0
    errors = np.array([[0.0, 0.0], [1.0, 2.0], [0.0, 1.0], [2.0, 1.0]])
    score = eva(errors, early_end=2, late_start=2, late_end=4, early_weight=0.25)
    np.testing.assert_allclose(score, [0.25 * 0.2 + 0.75, 0.25 * 0.8], rtol=1e-15)


@pytest.mark.parametrize("weight", [0.5, 0.0, 0.9])
def test_against_the_published_arithmetic(weight):
    errors = np.random.default_rng(0).random((14, 60))
    np.testing.assert_allclose(
        eva(errors, early_weight=weight, **WINDOWS), by_torch(errors, weight), rtol=1e-12
    )


@pytest.mark.parametrize(
    ("epochs", "early", "late"), [(200, 10, (100, 110)), (30, 2, (15, 17)), (4, 2, (2, 4))]
)
def test_windows_are_the_published_shares_of_the_training(epochs, early, late):
    errors = np.random.default_rng(3).random((epochs, 20))
    windows = {"early_end": early, "late_start": late[0], "late_end": late[1]}
    np.testing.assert_array_equal(eva(errors), eva(errors, **windows))


def test_missing_presentations_and_nothing_that_varies():
    errors = np.random.default_rng(1).random((12, 3))
    errors[1:4, 0] = np.nan  # one presentation is left in the early window
    errors[8, 1] = np.nan
    score = eva(errors, **WINDOWS)
    assert np.isnan(score).tolist() == [True, False, False]
    assert eva(np.ones((12, 3)), **WINDOWS).tolist() == [0, 0, 0]


def test_samples_that_waver_in_both_windows_come_first(auroc):
    rng = np.random.default_rng(2)
    wavering = rng.random(400) < 0.3
    errors = 0.6 + rng.normal(0, np.where(wavering, 0.3, 0.05), (110, 400))
    assert auroc(compute("eva", {"error_norm": errors})["eva"].to_numpy(), wavering) > 0.99


def test_what_it_refuses():
    assert find("eva").experimental
    assert "eva" in names()
    with pytest.raises(BadInput, match="3 epochs were recorded"):
        eva(np.ones((3, 2)))
    for windows in ({"early_end": 1}, {"late_start": 9, "late_end": 10}, {"late_start": 5, "early_end": 6}):
        with pytest.raises(BadInput, match="windows"):
            eva(np.ones((120, 2)), **windows)
    with pytest.raises(BadInput, match="early_weight"):
        eva(np.ones((120, 2)), early_weight=1.5)
