import numpy as np
from scipy.stats import entropy

from tracesift.scorers.geometry.prediction_entropy import prediction_entropy


def test_hand_worked():
    probs = np.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_allclose(prediction_entropy(probs), [np.log(4), np.log(2), 0], atol=1e-9)


def test_against_scipy_in_bits():
    probs = np.random.default_rng(0).dirichlet(np.full(9, 0.2), size=200)
    np.testing.assert_allclose(
        prediction_entropy(probs), entropy(probs, axis=1, base=2) * np.log(2), atol=1e-9
    )


def test_the_order_of_classes_is_of_no_account():
    probs = np.random.default_rng(1).dirichlet(np.ones(50), size=40)
    assert prediction_entropy(probs).tolist() == prediction_entropy(probs[:, ::-1]).tolist()


def test_zero_is_no_negative_zero_and_missing_is_missing():
    assert not np.signbit(prediction_entropy(np.array([[1.0, 0.0]])))[0]
    assert prediction_entropy(np.ones((2, 1))).tolist() == [0, 0]
    assert np.isnan(prediction_entropy(np.full((1, 3), np.nan))).all()
    assert prediction_entropy(np.zeros((0, 3))).shape == (0,)
