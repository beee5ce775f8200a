import numpy as np
import pytest
from sklearn.cluster import KMeans

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.geometry.ssl_prototypes import ssl_prototypes


def test_hand_worked():
    # one prototype, at 45 degrees between the two
    x = np.array([[1.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(
        ssl_prototypes(x, np.zeros(2, dtype=int)), np.full(2, 1 - np.sqrt(0.5)), atol=1e-6
    )
    assert ssl_prototypes(x, np.array([0, 1])).tolist() == [0, 0]


def test_against_scikit_learn_on_clear_clusters(clusters):
    x, labels, _ = clusters(samples=300, classes=4)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    fitted = KMeans(4, n_init=5, random_state=0).fit(unit)
    centre = fitted.cluster_centers_ / np.linalg.norm(fitted.cluster_centers_, axis=1, keepdims=True)
    expected = 1 - (unit @ centre.T).max(axis=1)
    np.testing.assert_allclose(ssl_prototypes(x, labels), expected, atol=2e-3)
    assert ssl_prototypes(x, labels).tolist() == ssl_prototypes(x, labels, k=4).tolist()


def test_samples_between_prototypes_are_hard(auroc, clusters):
    x, labels, _ = clusters(samples=300, classes=4)
    stray = np.arange(300) % 15 == 0
    x[stray] += 3 * np.random.default_rng(1).normal(size=(20, 16)) / 4
    score = compute("ssl_prototypes", {"embedding": x, "labels": labels})["ssl_prototypes"].to_numpy()
    assert auroc(score, stray) > 0.95


def test_the_seed_and_the_number_matter_and_repetition_does_not():
    x, labels = np.random.default_rng(2).normal(size=(200, 6)), np.arange(200) % 5
    assert ssl_prototypes(x, labels).tolist() == ssl_prototypes(x, labels).tolist()
    assert ssl_prototypes(x, labels).tolist() != ssl_prototypes(x, labels, seed=1).tolist()
    assert ssl_prototypes(x, labels, k=40).mean() < ssl_prototypes(x, labels, k=2).mean()


def test_copies_zero_vectors_and_fewer_samples_than_clusters():
    x = np.array([[1.0, 0], [1, 0], [0, 0], [0, 1]])
    score = ssl_prototypes(x, np.array([0, 1, 2, 9]))
    assert np.isnan(score).tolist() == [False, False, True, False]
    assert score[[0, 1, 3]].tolist() == [0, 0, 0]
    with pytest.raises(BadInput, match="at least 1"):
        ssl_prototypes(x, np.zeros(4, dtype=int), k=0)
