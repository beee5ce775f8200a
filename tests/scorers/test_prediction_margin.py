import numpy as np

from tracesift.scorers.geometry.prediction_margin import prediction_margin


def test_hand_worked():
    assert prediction_margin(np.array([[0.5, 0.25, 0.25], [0.75, 0.25, 0.0]])).tolist() == [0.75, 0.5]


def test_by_sorting():
    probs = np.random.default_rng(0).dirichlet(np.ones(6), size=80)
    expected = []
    for row in probs.tolist():
        first, second, *_ = sorted(row, reverse=True)
        expected.append(1 - first + second)
    np.testing.assert_allclose(prediction_margin(probs), expected, rtol=1e-14)


def test_it_can_differ_from_the_two_others():
    # two classes in the running against one ahead of many: the margin calls the first less sure, entropy the second
    probs = np.array([[0.5, 0.5, 0, 0, 0], [0.4, 0.15, 0.15, 0.15, 0.15]])
    assert prediction_margin(probs)[0] > prediction_margin(probs)[1]


def test_ties_one_class_missing_and_none():
    assert prediction_margin(np.array([[0.5, 0.5]])).tolist() == [1.0]
    assert prediction_margin(np.ones((2, 1))).tolist() == [0, 0]
    assert np.isnan(prediction_margin(np.array([[np.nan, np.nan], [0.5, 0.5]]))).tolist() == [True, False]
    assert prediction_margin(np.zeros((0, 3))).shape == (0,)
