import numpy as np
import pytest
import torch

from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.el2n import el2n
from tracesift.scorers.influence.last_layer import products, squares, weighted_sum, with_gradient
from tracesift.scorers.influence.last_layer_self_influence import last_layer_self_influence


def layer_of(n, classes=4, size=5, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, rng.integers(0, classes, n), rng.normal(size=(n, size))


def dense(probs, labels, hidden):
    """Every gradient as a row of K (D + 1) numbers."""
    error = probs - np.eye(probs.shape[1])[labels]
    ones = np.hstack([np.ones((len(hidden), 1)), hidden])
    return np.einsum("nk,nd->nkd", error, ones).reshape(len(labels), -1)


def test_hand_worked():
    probs = np.array([[0.75, 0.25], [0.75, 0.25], [1.0, 0.0]])
    found = last_layer_self_influence(probs, np.array([0, 1, 0]), np.array([[2.0], [2.0], [9.0]]))
    assert found.tolist() == [(1 / 16 + 1 / 16) * 5, (9 / 16 + 9 / 16) * 5, 0]


def test_against_automatic_differentiation():
    rng = np.random.default_rng(1)
    hidden, labels = rng.normal(size=(20, 6)), rng.integers(0, 3, 20)
    layer = torch.nn.Linear(6, 3).double()
    probs = torch.softmax(layer(torch.tensor(hidden)), dim=1).detach().numpy()
    expected = []
    for h, y in zip(hidden, labels, strict=True):
        layer.zero_grad()
        torch.nn.functional.cross_entropy(layer(torch.tensor(h)[None]), torch.tensor([y])).backward()
        expected.append(sum(float((part.grad**2).sum()) for part in layer.parameters()))
    np.testing.assert_allclose(last_layer_self_influence(probs, labels, hidden), expected, rtol=1e-12)


def test_it_is_the_square_of_the_gradient_norm_of_the_last_layer():
    probs, labels, hidden = layer_of(50)
    norm = np.sqrt(((probs - np.eye(4)[labels]) ** 2).sum(axis=1))
    grand = el2n(norm[None], checkpoint=1) * np.sqrt(1 + (hidden**2).sum(axis=1))
    np.testing.assert_allclose(last_layer_self_influence(probs, labels, hidden), grand**2, rtol=1e-12)


def test_sums_and_products_against_rows_of_gradients():
    layer = layer_of(40)
    rows = dense(*layer)
    weights, direction = (
        np.random.default_rng(2).normal(size=40),
        np.random.default_rng(3).normal(size=(4, 6)),
    )
    np.testing.assert_allclose(squares(layer), (rows**2).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(weighted_sum(layer, weights).ravel(), weights @ rows, rtol=1e-10)
    np.testing.assert_allclose(products(layer, direction), rows @ direction.ravel(), rtol=1e-10)


def test_wrong_labels_and_outliers_pull_hardest(clusters, auroc):
    x, labels, true = clusters(samples=400, rate=0.1)
    model = np.linalg.lstsq(x, np.eye(5)[true], rcond=None)[0]
    logits = 8 * x @ model
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = compute(
        ["last_layer_self_influence"], {"probs_last": probs, "labels": labels, "embedding": x}
    ).to_series()
    assert auroc(found.to_numpy(), labels != true) > 0.97


def test_zero_features_one_class_and_missing_rows():
    probs, labels, hidden = layer_of(6)
    bare = last_layer_self_influence(probs, labels, np.zeros((6, 0)))
    np.testing.assert_allclose(bare, ((probs - np.eye(4)[labels]) ** 2).sum(axis=1), rtol=1e-12)
    assert last_layer_self_influence(np.ones((3, 1)), np.zeros(3, int), np.ones((3, 2))).tolist() == [0, 0, 0]
    probs[1], hidden[4, 2] = np.nan, np.inf
    found = last_layer_self_influence(probs, labels, hidden)
    assert np.flatnonzero(np.isnan(found)).tolist() == [1, 4]
    assert with_gradient(probs, hidden).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("order", ["C", "F"])
def test_samples_do_not_depend_on_one_another(order):
    layer = layer_of(33)
    whole = last_layer_self_influence(*(np.array(part, order=order) for part in layer))
    apart = [last_layer_self_influence(*(part[[i]] for part in layer))[0] for i in range(33)]
    assert whole.tobytes() == np.array(apart).tobytes()
