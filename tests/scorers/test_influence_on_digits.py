"""What docs/scores.md says of the influence scores: wrong labels on digits, under a softmax regression on pixels."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tracesift.scorers.contract import compute


@pytest.fixture(scope="module")
def digits():
    x, true = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    train, val = order[:1437], order[1437:]
    labels, wrong = true[train].copy(), rng.random(1437) < 0.1
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    model = LogisticRegression(max_iter=200).fit(x[train] / 16, labels)
    return {
        "probs_last": model.predict_proba(x[train] / 16), "labels": labels, "embedding": x[train] / 16,
        "val_probs_last": model.predict_proba(x[val] / 16), "val_labels": true[val], "val_embedding": x[val] / 16,
    }, wrong  # fmt: skip


@pytest.mark.parametrize(
    ("name", "params", "sign", "least", "most"),
    [
        ("knn_shapley", {}, -1, 0.99, 1),
        ("last_layer_self_influence", {}, 1, 0.99, 1),
        ("lood", {"kernel": "rbf"}, 1, 0.97, 0.99),
        ("lood", {"distance": "kl"}, 1, 0.91, 0.95),
        ("lood", {}, 1, 0.87, 0.92),
        ("datainf", {}, 1, 0.53, 0.70),
    ],
)
def test_wrong_labels(name, params, sign, least, most, digits, auroc):
    signals, wrong = digits
    score = compute([name], signals, device="cpu", params={name: params})[name].to_numpy()
    assert least < auroc(sign * score, wrong) < most


def test_datainf_sees_little_more_than_the_plain_product_and_the_exact_inverse_much_more(digits, auroc):
    signals, wrong = digits

    def gradients(part):
        error = signals[f"{part}probs_last"] - np.eye(10)[signals[f"{part}labels"]]
        hidden = signals[f"{part}embedding"]
        with_one = np.hstack([np.ones((len(hidden), 1)), hidden])
        return np.einsum("nk,nd->nkd", error, with_one).reshape(len(hidden), -1)

    g, v = gradients(""), gradients("val_").mean(axis=0)
    lam = 0.1 * (g**2).sum(axis=1).mean() / v.size
    plain = auroc(-g @ v, wrong)
    exact = auroc(-g @ np.linalg.solve(lam * np.eye(v.size) + g.T @ g / len(g), v), wrong)
    found = auroc(compute(["datainf"], signals, device="cpu")["datainf"].to_numpy(), wrong)
    assert plain < found < plain + 0.05
    assert exact > found + 0.2
