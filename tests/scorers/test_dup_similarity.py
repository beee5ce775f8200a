import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.geometry.dup_similarity import dup_similarity


def test_hand_worked():
    # one cluster around 45 degrees: 0 and 90 are the farthest and come first (the tie goes to the first row)
    degrees = np.radians([0.0, 45.0, 90.0])
    x = np.stack([np.cos(degrees), np.sin(degrees)], axis=1)
    np.testing.assert_allclose(dup_similarity(x), [0, np.sqrt(0.5), 0], atol=1e-6)
    # by 'easy' the middle one comes first and both others are compared with it
    np.testing.assert_allclose(dup_similarity(x, order="easy"), [np.sqrt(0.5), 0, np.sqrt(0.5)], atol=1e-6)


def test_one_column_serves_every_eps():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 12))
    x = np.vstack([x, x[:50] + rng.normal(0, 0.01, (50, 12))])
    score = compute("dup_similarity", {"embedding": x})["dup_similarity"].to_numpy()
    pairs = np.maximum(score[:50], score[150:])
    assert (pairs > 0.99).all()  # of either one, whichever came second
    assert (score > 0.99).sum() == 50
    assert (score > 0.999999).sum() == 0
    assert score[50:150].max() < 0.95


def test_clusters_hide_what_they_divide():
    x = np.eye(4)[np.arange(40) % 4]
    assert (dup_similarity(x, clusters=4) == 1).sum() == 36
    assert (dup_similarity(x, clusters=1) == 1).sum() == 36


def test_missing_single_and_none():
    assert np.isnan(dup_similarity(np.array([[0.0, 0.0], [1.0, 0.0]]))).tolist() == [True, False]
    assert dup_similarity(np.ones((1, 2))).tolist() == [0]
    assert dup_similarity(np.ones((0, 2))).shape == (0,)
