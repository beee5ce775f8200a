import numpy as np
import pytest

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.contract import compute
from tracesift.scorers.geometry.cal import cal


def kl(p, q):
    return sum(a * (np.log(max(a, 1e-12)) - np.log(max(b, 1e-12))) for a, b in zip(p, q, strict=True))


def by_loops(x, probs, k, labels=None):
    score = []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i and (labels is None or labels[j] == labels[i])]
        near = sorted(others, key=lambda j: (round(float(np.sqrt(((x[i] - x[j]) ** 2).sum())), 6), j))[:k]
        score.append(
            np.mean([(kl(probs[i], probs[j]) + kl(probs[j], probs[i])) / 2 for j in near]) if near else np.nan
        )
    return score


def test_hand_worked():
    x = np.array([[0.0], [1.0], [10.0]])
    p = np.array([[0.5, 0.5], [0.8, 0.2], [0.5, 0.5]])
    one = 0.5 * (0.5 - 0.8) * np.log(0.5 / 0.8) + 0.5 * (0.5 - 0.2) * np.log(0.5 / 0.2)
    np.testing.assert_allclose(cal(x, p, k=1), [one, one, one], atol=1e-9)
    np.testing.assert_allclose(cal(x, p, k=2), [one / 2, one, one / 2], atol=1e-9)
    assert one > 0


@pytest.mark.parametrize("per_class", [False, True])
def test_against_loops(per_class):
    rng = np.random.default_rng(0)
    x, probs, labels = rng.normal(size=(60, 3)), rng.dirichlet(np.ones(4), 60), rng.integers(0, 3, 60)
    expected = by_loops(x, probs, 5, labels if per_class else None)
    np.testing.assert_allclose(cal(x, probs, labels, k=5, per_class=per_class), expected, atol=1e-9)


def test_zero_probabilities_are_clipped():
    # log 0 is infinite in the published code, and infinity less infinity is no number
    x, p = np.array([[0.0], [1.0]]), np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    np.testing.assert_allclose(cal(x, p), np.full(2, -np.log(1e-12)), rtol=1e-9)
    assert cal(x, p[[0, 0]]).tolist() == [0, 0]


def test_a_sample_with_copies_is_not_its_own_neighbour():
    # dropping the first column of the distances drops a copy as often as the sample itself
    x = np.array([[0.0], [0.0], [0.0], [5.0]])
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.9, 0.1]])
    score = cal(x, p, k=2)
    apart = score[2]
    np.testing.assert_allclose(score, [apart / 2, apart / 2, apart, apart / 2 if score[3] else 0], atol=1e-9)


def test_the_planted_border_is_found_and_the_sign_matters(auroc):
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, size=(500, 2))
    p = 1 / (1 + np.exp(-8 * x[:, 0]))
    score = compute("cal", {"embedding": x, "probs_last": np.stack([p, 1 - p], axis=1)})["cal"].to_numpy()
    assert auroc(score, np.abs(x[:, 0]) < 0.3) > 0.9


def test_missing_vectors_missing_predictions_and_small_numbers():
    rng = np.random.default_rng(2)
    x, probs = rng.normal(size=(6, 2)), rng.dirichlet(np.ones(3), 6)
    x[1, 0], probs[4] = np.nan, np.nan
    score = cal(x, probs, k=10)
    assert np.isnan(score).tolist() == [False, True, False, False, True, False]
    there = [0, 2, 3, 5]
    np.testing.assert_array_equal(score[there], cal(x[there], probs[there], k=3))
    assert np.isnan(cal(x[:1], probs[:1])).all()
    assert cal(x[:0], probs[:0]).shape == (0,)
    alone = cal(x[there], probs[there], np.array([0, 0, 0, 1]), per_class=True)
    assert np.isnan(alone).tolist() == [False, False, False, True]
    assert cal(x[there], np.ones((4, 1))).tolist() == [0] * 4  # one class


def test_a_zero_vector_is_a_place_but_no_direction():
    x, probs = np.array([[0.0, 0], [1, 0], [0, 1]]), np.random.default_rng(3).dirichlet(np.ones(2), 3)
    assert np.isfinite(cal(x, probs)).all()
    assert np.isnan(cal(x, probs, metric="cosine")).tolist() == [True, False, False]


def test_what_it_refuses():
    x, probs = np.eye(3), np.full((3, 2), 0.5)
    with pytest.raises(MissingSignal, match="labels"):
        cal(x, probs, per_class=True)
    with pytest.raises(BadInput, match="at least 1"):
        cal(x, probs, k=0)
    with pytest.raises(BadInput, match="metric"):
        cal(x, probs, metric="manhattan")
