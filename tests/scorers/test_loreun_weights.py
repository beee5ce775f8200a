import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.forgetting.loreun_weights import loreun_weights, weights_of


def test_hand_worked():
    """Losses log 1 and log 3: raw weights 1 and 1/3, their mean 2/3."""
    np.testing.assert_allclose(loreun_weights(np.log([[9.0, 9.0], [1.0, 3.0]])), [1.5, 0.5], rtol=1e-12)
    np.testing.assert_allclose(loreun_weights(np.log([[1.0, 9.0]]), tau=2.0), [1.5, 0.5], rtol=1e-12)


def test_small_losses_weigh_most_and_the_mean_is_one():
    losses = np.random.default_rng(0).exponential(size=50)
    weights = weights_of(losses, 0.5)
    assert (np.argsort(-weights) == np.argsort(losses)).all()
    assert weights.mean() == pytest.approx(1, rel=1e-12)
    np.testing.assert_allclose(weights, np.exp(-losses / 0.5) / np.exp(-losses / 0.5).mean(), rtol=1e-12)
    flat = weights_of(losses, 1e9)
    np.testing.assert_allclose(flat, 1, atol=1e-8)


def test_weights_of_a_forget_set_follow_from_those_of_all():
    losses = np.random.default_rng(1).exponential(size=40)
    inside = np.arange(40) < 9
    every = compute("loreun_weights", {"loss": losses[None]})["loreun_weights"].to_numpy()
    np.testing.assert_allclose(every[inside] / every[inside].mean(), weights_of(losses[inside]), rtol=1e-12)


def test_in_every_step_with_tensors_and_no_gradient():
    losses = torch.tensor([0.1, 2.0, 5.0], dtype=torch.float64, requires_grad=True)
    weights = weights_of(losses, 0.7)
    assert not weights.requires_grad
    np.testing.assert_allclose(weights.numpy(), weights_of(losses.detach().numpy(), 0.7), rtol=1e-12)
    (losses * weights).mean().backward()
    np.testing.assert_allclose(losses.grad.numpy(), weights.numpy() / 3, rtol=1e-12)


def test_large_losses_and_missing_ones():
    assert weights_of(np.array([1e5, 1e5 + 1e4])).tolist() == [2, 0]
    found = loreun_weights(np.array([[0.0, np.nan, 0.0]]))
    assert found[[0, 2]].tolist() == [1, 1]
    assert np.isnan(found[1])
    for tau in (0, -1.0, float("nan")):
        with pytest.raises(BadInput, match="temperature"):
            weights_of(np.ones(2), tau)
