import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.vog import vog


def from_gradients(gradients, labels):
    """The demonstration's arithmetic on the gradients (C, N, H, W) themselves, then the paper's by class."""
    mean = sum(gradients) / len(gradients)
    root = np.sqrt(1 / len(gradients) * sum((np.array(s) - mean) ** 2 for s in gradients))
    raw = [np.mean(root[i]) for i in range(len(labels))]
    scores = []
    for i, label in enumerate(labels):
        own = [value for value, other in zip(raw, labels, strict=True) if other == label]
        scores.append((raw[i] - np.mean(own)) / np.std(own))
    return raw, scores


def test_hand_worked():
    # means of roots: (1 + 3) / 2, 2, 4 in class 0, mean 8/3, deviation sqrt(8)/3
    variance = np.array([[[1.0, 9.0]], [[4.0, 4.0]], [[16.0, 16.0]]])
    np.testing.assert_allclose(vog(variance, np.zeros(3, dtype=int), by_class=False), [2, 2, 4])
    expected = (np.array([2, 2, 4]) - 8 / 3) / (np.sqrt(8) / 3)
    np.testing.assert_allclose(vog(variance, np.zeros(3, dtype=int)), expected, rtol=1e-14)


def test_against_the_gradients_themselves():
    rng = np.random.default_rng(0)
    gradients, labels = rng.normal(size=(5, 40, 3, 4)) * rng.random((40, 1, 1)), np.arange(40) % 3
    variance = gradients.var(axis=0)
    raw, scores = from_gradients(gradients, labels)
    np.testing.assert_allclose(vog(variance, labels, by_class=False), raw, rtol=1e-12)
    np.testing.assert_allclose(vog(variance, labels), scores, rtol=1e-9, atol=1e-12)


def test_a_class_of_one_and_a_class_without_spread_are_zero():
    variance = np.full((7, 1, 2), 0.01)
    variance[6] = 5.0
    assert vog(variance, np.array([0, 0, 0, 0, 0, 0, 1])).tolist() == [0.0] * 7


def test_a_class_with_larger_gradients_is_not_harder(auroc):
    rng = np.random.default_rng(1)
    labels, hard = np.arange(400) % 2, rng.random(400) < 0.2
    variance = (rng.uniform(0.8, 1.2, (400, 4, 4)) + hard[:, None, None]) * np.where(labels, 100, 1)[
        :, None, None
    ]
    score = compute("vog", {"input_gradient_variance": variance, "labels": labels})["vog"].to_numpy()
    assert auroc(score, hard) > 0.99
    assert auroc(vog(variance, labels, by_class=False), hard) < 0.8
