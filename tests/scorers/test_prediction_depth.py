import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.prediction_depth import prediction_depth


def by_loop(votes, final):
    depths = []
    for row, said in zip(votes, final, strict=True):
        settled = [layer for layer in range(len(row)) if all(row[layer:] == said)]
        depths.append(min(settled, default=len(row)))
    return depths


def test_hand_worked():
    votes = np.array([[2, 2, 2, 2], [0, 2, 2, 2], [2, 0, 2, 2], [2, 2, 2, 0], [0, 1, 0, 1]])
    assert prediction_depth(votes, np.full(5, 2)).tolist() == [0, 1, 2, 4, 4]


def test_against_a_loop():
    rng = np.random.default_rng(0)
    votes, final = rng.integers(0, 2, (300, 6)), rng.integers(0, 2, 300)
    np.testing.assert_array_equal(prediction_depth(votes, final), by_loop(votes, final))


def test_hard_samples_are_settled_deep(auroc):
    rng = np.random.default_rng(1)
    hard = rng.random(400) < 0.3
    final = rng.integers(0, 5, 400)
    agrees = rng.random((400, 8)) < np.where(hard, 0.4, 0.9)[:, None] + np.linspace(0, 0.3, 8)
    votes = np.where(agrees, final[:, None], (final[:, None] + 1) % 5)
    score = compute("prediction_depth", {"layer_votes": votes, "final_pred": final})["prediction_depth"]
    assert auroc(score.to_numpy(), hard) > 0.85
