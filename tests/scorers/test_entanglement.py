import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.forgetting.entanglement import entanglement


def test_hand_worked():
    x = np.array([[0.0], [2.0], [9.0], [11.0]])
    # means 1 and 10, variances 1 and 1, both means 4.5 from the centre
    assert entanglement(x, [2, 3]) == pytest.approx(2 / 4.5**2)
    # sizes 3 and 1: means 11/3 and 11, centre 5.5; variances 134/9 and 0
    spread, apart = 134 / 9, ((11 / 3 - 5.5) ** 2 + 5.5**2) / 2
    assert entanglement(x, [3]) == pytest.approx(spread / apart)


def test_the_pooled_centre_is_not_halfway_between_the_means():
    x = np.array([[0.0], [2.0], [9.0], [11.0]])
    half = 134 / 9 / (11 - 11 / 3) ** 2 * 4
    assert entanglement(x, [3], variant="published", batch=4) == pytest.approx(half)
    assert entanglement(x, [3]) != pytest.approx(half)


def test_the_published_mean_counts_a_short_last_batch_fully():
    x = np.array([[0.0], [0.0], [3.0], [10.0]])
    # retained 0, 0, 3 in batches of two: means 0 and 3, so 1.5 and not 1
    mean, spread = 1.5, (2 * 1.5**2 + 1.5**2) / 3
    expected = spread / (((10 - mean) / 2) ** 2)
    assert entanglement(x, [3], variant="published", batch=2) == pytest.approx(expected)
    assert entanglement(x, [3], variant="published", batch=3) != pytest.approx(expected)
    # ours in batches of two: mean 1 of all three, variance 2, centre 3.25 of all four
    assert entanglement(x, [3], batch=2) == pytest.approx(2 / ((2.25**2 + 6.75**2) / 2))


def test_mixed_sets_are_more_entangled_than_separate_ones():
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(0, 1, (60, 5)), rng.normal(8, 1, (60, 5))]
    apart, mixed = np.arange(120) >= 60, np.arange(120) % 2 == 0
    assert entanglement(x, mixed) > 100 * entanglement(x, apart)
    order = rng.permutation(120)
    assert entanglement(x[order], apart[order]) == pytest.approx(entanglement(x, apart), rel=1e-12)


def test_rows_masks_and_a_retain_set_of_its_own():
    x = np.random.default_rng(1).normal(size=(30, 3))
    mask = np.arange(30) < 7
    assert entanglement(x, mask) == entanglement(x, np.arange(7)) == entanglement(x, mask, ~mask)
    assert entanglement(x, mask, np.arange(7, 20)) == entanglement(x[:20], mask[:20])
    assert entanglement(np.ones((4, 2)), [0]) == np.inf


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([],), "forget set is empty"),
        (([0, 1, 2],), "retain set is empty"),
        (([0], [0, 1]), "both"),
        (([3],), "not among 3"),
        (([0.5],), "row numbers"),
        (([2],), "finite"),
    ],
)
def test_impossible_sets(given, message):
    with pytest.raises(BadInput, match=message):
        entanglement(np.array([[0.0], [1.0], [np.nan]]), *given)
    with pytest.raises(BadInput, match="variant"):
        entanglement(np.ones((2, 1)), [0], variant="mean")
