import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.geometry.class_centroid_distance import class_centroid_distance


def test_hand_worked():
    x = np.array([[0.0, 0.0], [1.0, 4.0], [9.0, 5.0], [-2.0, 7.0]])
    labels = np.array([0, 0, 0, 1])
    # medians (1, 4), not a sample's by need; means (10/3, 3)
    np.testing.assert_allclose(
        class_centroid_distance(x, labels), [np.sqrt(17), 0, np.sqrt(65), 0], rtol=1e-15
    )
    mean = [np.hypot(10 / 3, 3), np.hypot(7 / 3, 1), np.hypot(17 / 3, 2), 0]
    np.testing.assert_allclose(class_centroid_distance(x, labels, center="mean"), mean, rtol=1e-14)


@pytest.mark.parametrize(("center", "rule"), [("median", np.median), ("mean", np.mean)])
def test_sample_by_sample(center, rule):
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(90, 7)), rng.integers(0, 4, 90)
    expected = [np.linalg.norm(x[i] - [rule(x[labels == labels[i], d]) for d in range(7)]) for i in range(90)]
    np.testing.assert_allclose(class_centroid_distance(x, labels, center=center), expected, rtol=1e-12)


def test_far_samples_do_not_drag_the_median():
    x = np.r_[np.random.default_rng(1).normal(0, 0.1, (20, 3)), np.full((5, 3), 1000.0)]
    labels = np.zeros(25, dtype=int)
    assert class_centroid_distance(x, labels)[:20].max() < 1
    assert class_centroid_distance(x, labels, center="mean")[:20].min() > 100


def test_strays_are_found_and_the_sign_matters(auroc, clusters):
    x, labels, true = clusters()
    score = compute("class_centroid_distance", {"embedding": x, "labels": labels})["class_centroid_distance"]
    assert auroc(score.to_numpy(), labels != true) > 0.99


def test_missing_vectors_and_degenerate_shapes():
    x = np.array([[0.0, 0], [np.nan, 0], [2, 0], [4, 0]])
    score = class_centroid_distance(x, np.zeros(4, dtype=int))
    assert np.isnan(score).tolist() == [False, True, False, False]
    assert score[[0, 2, 3]].tolist() == [2, 0, 2]
    assert class_centroid_distance(np.ones((5, 2)), np.zeros(5, dtype=int)).tolist() == [0] * 5
    assert class_centroid_distance(np.zeros((0, 2)), np.zeros(0, dtype=int)).shape == (0,)
    with pytest.raises(BadInput, match="'median' or 'mean'"):
        class_centroid_distance(x, np.zeros(4, dtype=int), center="mode")
