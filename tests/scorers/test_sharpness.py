import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.forgetting.sharpness import sharpness
from tracesift.scorers.influence.last_layer_self_influence import last_layer_self_influence


def test_hand_worked():
    """Two classes at one half, h = 0: |g| = 1/sqrt(2), logits move by 0.1/sqrt(2) up and down."""
    step = 0.1 / np.sqrt(2)
    expected = np.log(1 + np.exp(2 * step)) - np.log(2)
    found = sharpness(np.array([[0.5, 0.5]]), np.array([0]), np.zeros((1, 1)), rho=0.1)
    assert found[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("rho", [0.05, 2.0])
def test_against_a_step_along_the_gradient(rho):
    rng = np.random.default_rng(1)
    hidden, labels = rng.normal(size=(20, 6)), rng.integers(0, 3, 20)
    layer = torch.nn.Linear(6, 3).double()
    probs = torch.softmax(layer(torch.tensor(hidden)), dim=1).detach().numpy()
    expected = []
    for h, y in zip(torch.tensor(hidden), labels, strict=True):
        layer.zero_grad()
        before = torch.nn.functional.cross_entropy(layer(h[None]), torch.tensor([y]))
        before.backward()
        length = sum((part.grad**2).sum() for part in layer.parameters()).sqrt()
        weight, bias = (part + rho * part.grad / length for part in layer.parameters())
        after = torch.nn.functional.cross_entropy((h @ weight.T + bias)[None], torch.tensor([y]))
        expected.append((after - before).item())
    np.testing.assert_allclose(sharpness(probs, labels, hidden, rho=rho), expected, rtol=1e-9)


def test_it_is_at_least_what_the_gradient_promises():
    rng = np.random.default_rng(2)
    probs = rng.dirichlet(np.ones(4), size=60)
    labels, hidden = rng.integers(0, 4, 60), rng.normal(size=(60, 5))
    length = np.sqrt(last_layer_self_influence(probs, labels, hidden))
    assert (sharpness(probs, labels, hidden, rho=0.3) >= 0.3 * length - 1e-12).all()


def test_wrong_labels_are_sharp(clusters, auroc):
    x, labels, true = clusters(samples=400, rate=0.1)
    model = np.linalg.lstsq(x, np.eye(5)[true], rcond=None)[0]
    logits = 8 * x @ model
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = compute("sharpness", {"probs_last": probs, "labels": labels, "embedding": x})["sharpness"]
    assert auroc(found.to_numpy(), labels != true) > 0.95


def test_certain_predictions_missing_rows_and_long_features():
    probs = np.array([[1.0, 0, 0], [0, 0.5, 0.5], [np.nan] * 3, [0.2, 0.3, 0.5], [0.2, 0.3, 0.5]])
    hidden = np.array([[1.0], [1.0], [1.0], [np.inf], [1e6]])
    found = sharpness(probs, np.zeros(5, dtype=int), hidden)
    assert found[0] == 0
    assert np.isfinite(found[1])  # its loss is infinite before and after, the difference is not
    assert found[1] > 0
    assert np.isnan(found[2:4]).all()
    assert 1e4 < found[4] < 1e5
    assert sharpness(np.ones((2, 1)), np.zeros(2, int), np.ones((2, 2))).tolist() == [0, 0]
    with pytest.raises(BadInput, match="rho"):
        sharpness(probs, np.zeros(5, dtype=int), hidden, rho=0)
