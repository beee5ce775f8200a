import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.geometry.outlier_mahalanobis import outlier_mahalanobis


def test_hand_worked():
    # residuals (+-3, 0) and (0, +-4): covariance diag(4.5, 8), each sqrt(2) deviations off
    x = np.array([[-3.0, 0], [3, 0], [0, -4], [0, 4]]) + 7
    labels = np.zeros(4, dtype=int)
    np.testing.assert_allclose(outlier_mahalanobis(x, labels, shrinkage=0), np.full(4, np.sqrt(2)), rtol=1e-5)
    half = [3 / np.sqrt((4.5 + 6.25) / 2), 4 / np.sqrt((8 + 6.25) / 2)]
    np.testing.assert_allclose(outlier_mahalanobis(x, labels, shrinkage=0.5)[[0, 2]], half, rtol=1e-5)


def test_against_an_inverse_sample_by_sample():
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 3
    x = rng.normal(size=(150, 6)) @ rng.normal(size=(6, 6)) + labels[:, None] * 5
    residual = x - np.array([x[labels == label].mean(axis=0) for label in labels])
    fitted = LedoitWolf(assume_centered=True).fit(residual)
    inverse = np.linalg.inv(fitted.covariance_)
    expected = [np.sqrt(r @ inverse @ r) for r in residual]
    np.testing.assert_allclose(outlier_mahalanobis(x, labels), expected, rtol=1e-5)
    assert fitted.shrinkage_ > 0


def test_more_dimensions_than_samples(auroc):
    rng = np.random.default_rng(1)
    stray = np.arange(60) % 12 == 0
    x = rng.normal(size=(60, 200)) * np.where(stray, 2.0, 1.0)[:, None]
    labels = np.arange(60) % 2
    score = compute("outlier_mahalanobis", {"embedding": x, "labels": labels})[
        "outlier_mahalanobis"
    ].to_numpy()
    assert np.isfinite(score).all()
    assert auroc(score, stray) > 0.95
    flat = outlier_mahalanobis(x, labels, shrinkage=0)
    assert flat.std() < 0.05 * flat.mean()  # what the shrinkage is for


def test_a_stretched_direction_counts_for_less():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(500, 2)) * [10, 0.1]
    x[0], x[1] = [12, 0], [0, 1.2]
    score = outlier_mahalanobis(x, np.zeros(500, dtype=int), shrinkage=0)
    assert score[0] < 2 < 5 < score[1]
    by_distance = np.linalg.norm(x - x.mean(axis=0), axis=1)
    assert by_distance[0] > by_distance[1]


def test_by_class_or_from_the_mean_of_all():
    x = np.r_[np.random.default_rng(3).normal(0, 1, (50, 2)), np.random.default_rng(4).normal(30, 1, (5, 2))]
    labels = np.repeat([0, 1], [50, 5])
    assert outlier_mahalanobis(x, labels)[50:].max() < 3
    assert (
        outlier_mahalanobis(x, labels, per_class=False)[50:].min()
        > outlier_mahalanobis(x, labels, per_class=False)[:50].max()
    )


def test_degenerate_shapes():
    labels = np.zeros(3, dtype=int)
    assert outlier_mahalanobis(np.ones((3, 4)), labels).tolist() == [0, 0, 0]  # no spread, no distance
    assert np.isnan(outlier_mahalanobis(np.ones((1, 4)), labels[:1])).all()
    assert outlier_mahalanobis(np.ones((0, 4)), labels[:0]).shape == (0,)
    np.testing.assert_allclose(
        outlier_mahalanobis(np.array([[-1.0, -1, 0], [1, 1, 0]]), labels[:2]), [1, 1], rtol=1e-5
    )
    x = np.array([[0.0, 1], [np.nan, 1], [2, 1]])
    assert np.isnan(outlier_mahalanobis(x, labels)).tolist() == [False, True, False]
    alone = outlier_mahalanobis(np.array([[0.0], [2.0], [50.0]]), np.array([0, 0, 1]))
    assert alone[2] == 0
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(BadInput, match="from 0 to 1"):
            outlier_mahalanobis(x, labels, shrinkage=wrong)
