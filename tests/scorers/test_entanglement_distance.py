import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.forgetting.entanglement_distance import entanglement_distance
from tracesift.scorers.geometry.class_centroid_distance import class_centroid_distance


def test_hand_worked():
    x = np.array([[0.0, 0.0], [6.0, 8.0], [3.0, 4.0], [np.nan, 1.0]])
    found = entanglement_distance(x)
    assert found[:3].tolist() == [5, 5, 0]
    assert np.isnan(found[3])


def test_sample_by_sample():
    x = np.random.default_rng(0).normal(size=(70, 6)).astype(np.float32)
    middle = x.astype(np.float64).mean(axis=0)
    expected = [np.linalg.norm(row.astype(np.float64) - middle) for row in x]
    np.testing.assert_allclose(entanglement_distance(x), expected, rtol=1e-12)


def test_the_centre_is_that_of_all_and_not_of_the_class():
    """Two classes on either side: every sample is near its class's centre and far from the global one."""
    x = np.array([[-10.0], [-10.1], [10.0], [10.1]])
    labels = np.array([0, 0, 1, 1])
    assert entanglement_distance(x).min() > 9.9
    assert class_centroid_distance(x, labels).max() < 0.06


def test_outliers_are_high_and_a_permutation_carries_over():
    rng = np.random.default_rng(1)
    x = np.r_[rng.normal(size=(50, 4)), 9 + rng.normal(size=(2, 4))]
    score = compute("entanglement_distance", {"embedding": x})["entanglement_distance"].to_numpy()
    assert set(np.argsort(-score)[:2]) == {50, 51}
    order = rng.permutation(52)
    assert entanglement_distance(x[order]).tobytes() == score[order].tobytes()


def test_nothing_to_measure():
    assert entanglement_distance(np.zeros((0, 3))).shape == (0,)
    assert np.isnan(entanglement_distance(np.full((2, 3), np.nan))).all()
    assert entanglement_distance(np.ones((4, 2))).tolist() == [0] * 4
