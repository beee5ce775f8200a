import numpy as np

from tracesift.scorers.dynamics.cartography_correctness import cartography_correctness
from tracesift.scorers.dynamics.historical_variance import historical_variance


def test_hand_worked():
    correct = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 1]], dtype=bool)
    assert historical_variance(correct).tolist() == [0.0, 0.0, 0.1875]


def test_it_is_the_population_variance_over_presentations():
    rng = np.random.default_rng(0)
    correct, seen = rng.random((2, 15, 100)) < 0.6
    seen[:, 3] = False
    expected = [
        np.var(c[s].astype(float)) if s.any() else np.nan for c, s in zip(correct.T, seen.T, strict=True)
    ]
    np.testing.assert_allclose(historical_variance(correct, seen), expected, rtol=1e-12, atol=1e-15)


def test_it_is_the_closeness_to_the_threshold_of_the_correctness():
    correct = np.random.default_rng(1).random((9, 50)) < 0.5
    a = cartography_correctness(correct) / 9
    np.testing.assert_allclose(historical_variance(correct), a * (1 - a), rtol=1e-12)
