import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.geometry.knn_density import knn_density


def test_hand_worked():
    x = np.array([[2.0, 0.0], [0.6, 0.8], [0.0, 3.0]])
    np.testing.assert_allclose(knn_density(x, k=2), [0.3, 0.7, 0.4], atol=1e-9)


def test_by_sorting_all_cosines():
    x = np.random.default_rng(0).normal(size=(70, 5))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    expected = [
        np.mean(sorted((unit[i] @ unit[j] for j in range(70) if j != i), reverse=True)[:8]) for i in range(70)
    ]
    np.testing.assert_allclose(knn_density(x, k=8), expected, atol=1e-6)


def test_a_crowd_is_denser_than_strays(auroc):
    rng = np.random.default_rng(1)
    crowd = rng.random(300) < 0.5
    x = np.where(crowd[:, None], np.eye(20)[0] + rng.normal(0, 0.05, (300, 20)), rng.normal(size=(300, 20)))
    assert auroc(compute("knn_density", {"embedding": x})["knn_density"].to_numpy(), crowd) > 0.99


def test_copies_zero_vectors_and_few_samples():
    x = np.array([[1.0, 0], [1, 0], [0, 0], [np.nan, 0], [1, 0]])
    assert np.isnan(knn_density(x)).tolist() == [False, False, True, True, False]
    assert knn_density(x)[[0, 1, 4]].tolist() == [1, 1, 1]
    assert np.isnan(knn_density(np.ones((1, 2)))).all()
    with pytest.raises(BadInput, match="at least 1"):
        knn_density(x, k=0)
