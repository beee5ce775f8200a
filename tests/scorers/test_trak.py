import numpy as np

from tracesift.scorers.contract import compute, find
from tracesift.scorers.influence.trak import trak
from tracesift.scorers.influence.trak_self_influence import trak_self_influence


def test_hand_worked():
    # the means are taken apart: (0.5 + 0.25) / 2 times (0.5 + 1) / 2, not the mean of the products
    assert trak(np.array([[0.5, 0.25]]), np.array([[0.5, 1.0]])).tolist() == [0.375 * 0.75]
    assert trak(np.array([[-0.5, -0.25]]), np.array([[0.5, 1.0]])).tolist() == [-0.375 * 0.75]
    assert trak_self_influence(np.array([[0.5, 0.25]]), np.array([[0.5, 1.0]])).tolist() == [0.375 * 0.75]
    assert find("trak").direction == "keep"
    assert find("trak_self_influence").direction == "hard"


def logistic(x, y, without=None, weight=1e-3):
    """Weights of a logistic regression with a little weight decay, by Newton's method in float64."""
    if without is not None:
        x, y = np.delete(x, without, axis=0), np.delete(y, without)
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-y * (x @ beta)))
        slope = -(y * (1 - p)) @ x + weight * beta
        beta -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + weight * np.eye(len(beta)), slope)
    return beta


def test_it_ranks_as_leaving_out_does():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4))
    y = np.where(rng.random(80) < 1 / (1 + np.exp(-2 * x[:, 0])), 1, -1)
    beta, target = logistic(x, y), rng.normal(size=4)
    exact = np.array([target @ (beta - logistic(x, y, without=i)) for i in range(80)])
    features = x * y[:, None]  # the gradient of the log odds of the label
    gram = np.linalg.inv(features.T @ features)
    residual = 1 / (1 + np.exp(y * (x @ beta)))
    found = compute(
        "trak", {"trak_val": (features @ gram @ target)[:, None], "trak_residual": residual[:, None]}
    )
    assert np.corrcoef(found["trak"].to_numpy(), exact)[0, 1] > 0.95


def test_missing():
    found = trak(np.array([[np.nan, 1.0], [1.0, 1.0]]), np.ones((2, 2)))
    assert np.isnan(found).tolist() == [True, False]
