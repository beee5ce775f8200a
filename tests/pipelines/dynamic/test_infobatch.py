"""InfoBatch: who stays, with which weight, and that the expected gradient is that of all samples."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dynamic.infobatch import InfoBatch, infobatch_weights


def run_epoch(sampler, losses, batch=8):
    """Show one epoch, each sample's loss from an array by place; return what was shown."""
    shown = torch.tensor(list(sampler))
    for rows in shown.split(batch):
        sampler.update(rows, losses[rows])
    return shown


def test_by_hand():
    losses = np.array([0.5, 3.0, 1.0, 0.1, 0.4])  # mean 1.0: the third is not below it
    weights = infobatch_weights(losses, np.array([4, 1, 0, 2, 3]), prune_ratio=0.25)
    assert weights.tolist() == [1 / 0.75, 1.0, 1.0, 0.0, 1 / 0.75]  # int(0.75 * 3) = 2, first 4, then 0


@pytest.mark.parametrize("value", [3.0, 0.1, 1 / 49, 0.7])
@pytest.mark.parametrize("size", [7, 10, 49])
def test_equal_losses_prune_nothing(value, size):
    weights = infobatch_weights(np.full(size, value), np.arange(size), prune_ratio=0.9)
    assert (weights == 1).all()


def test_who_is_below_the_mean_depends_on_no_order_of_adding():
    losses = np.array([1e16, 1.0, -1e16, 0.5])  # mean 0.375, which plain sums miss in some orders
    for order in permutations(range(4)):
        weights = infobatch_weights(losses[list(order)], np.arange(4), prune_ratio=0.5)
        assert np.flatnonzero(weights != 1).tolist() == [order.index(2)]


@pytest.mark.parametrize("prune_ratio", [0.5, 0.25, 0.4])
def test_the_expected_weight_is_one_up_to_the_truncation(prune_ratio):
    losses = np.array([0.1, 0.2, 0.3, 0.4, 7.0, 6.0])
    draws = [
        infobatch_weights(losses, np.array(order), prune_ratio=prune_ratio)
        for order in permutations(range(len(losses)))
    ]
    kept = {0.5: 2, 0.25: 3, 0.4: 2}[prune_ratio]  # int((1 - r) * 4)
    expected = np.array([kept / 4 / (1 - prune_ratio)] * 4 + [1.0, 1.0])
    np.testing.assert_allclose(np.mean(draws, axis=0), expected, rtol=1e-12)
    assert (np.count_nonzero(draws, axis=1) == kept + 2).all()


def test_the_expected_gradient_is_that_of_all_samples():
    """Over many seeds, the gradient of the sampler's own losses against the gradient of the plain sum."""
    size, seeds = 24, 600
    made = torch.Generator().manual_seed(0)
    x, y = torch.randn(size, 3, generator=made).double(), torch.randn(size, generator=made).double()
    last = torch.cat([torch.full((16,), 0.2), torch.full((8,), 5.0)]).double()

    def summed(loss_of):
        theta = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
        loss_of(theta, lambda rows: (x[rows] @ theta - y[rows]).square()).backward()
        return theta.grad

    full = summed(lambda theta, losses: losses(torch.arange(size)).sum())
    found = []
    for seed in range(seeds):
        sampler = InfoBatch(size, epochs=4, seed=seed)
        run_epoch(sampler, last)
        batches = torch.tensor(list(sampler)).split(8)
        assert sum(map(len, batches)) == 16  # half of the 16 well-learned, and 8
        found.append(
            summed(
                lambda theta, losses, b=batches, s=sampler: sum(len(r) * s.update(r, losses(r)) for r in b)
            )
        )
    found = torch.stack(found)
    error = found.std(0) / seeds**0.5
    assert (error > 0).all()
    assert ((found.mean(0) - full).abs() < 4 * error).all()
    unweighted = full * 16 / 24
    assert ((found.mean(0) - unweighted).abs() > 10 * error).any()  # the test would see missing weights


def test_epochs_and_annealing():
    sampler = InfoBatch(40, epochs=8, seed=1)
    losses = torch.linspace(0.1, 4.0, 40)
    sizes, counters, weighted = [], [], []
    for _ in range(10):
        counters.append(sampler.epoch)
        shown = run_epoch(sampler, losses)
        assert len(set(shown.tolist())) == len(shown)
        sizes.append(len(shown))
        weighted.append(sampler.epoch)
    # The first shows all (equal initial losses), then 20 of 40 are below the mean; annealing from 0.875 * 8 = 7,
    # also behind the last epoch.
    assert sizes == [40] + [30] * 6 + [40] * 3
    assert counters == list(range(10))
    assert sampler.shown == sum(sizes)


def test_annealing_has_weight_one():
    sampler = InfoBatch(10, epochs=2, delta=0.5, seed=0)
    run_epoch(sampler, torch.linspace(0, 1, 10))
    rows = torch.tensor(list(sampler))
    assert len(rows) == 10
    assert sampler.update(rows, torch.ones(10)).item() == 1.0


@pytest.mark.parametrize(
    ("epochs", "delta", "first"), [(20, 0.55, 11), (200, 0.875, 175), (10, 0.7, 7), (3, 1, 3)]
)
def test_the_first_epoch_of_the_annealing(epochs, delta, first):
    sampler = InfoBatch(5, epochs=epochs, delta=delta)
    flags = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        flags.append(sampler.annealing)
    assert flags == [False] * first + [True] * (epochs - first)


def test_a_sample_that_is_left_out_keeps_its_last_loss():
    sampler = InfoBatch(12, epochs=5, seed=2)
    assert sampler.losses.tolist() == [3.0] * 12
    first = torch.cat([torch.full((8,), 0.5), torch.full((4,), 2.0)])
    run_epoch(sampler, first)
    shown = run_epoch(sampler, first + 10)
    left_out = sorted(set(range(12)) - set(shown.tolist()))
    assert len(left_out) == 4
    expected = first.double() + 10
    expected[left_out] = 0.5
    assert sampler.losses.tolist() == expected.tolist()


def test_what_is_kept_is_spread_over_the_epoch():
    """One permutation for both draws would show the kept well-learned samples early, the others late."""
    size, places = 400, []
    for seed in range(30):
        sampler = InfoBatch(size, epochs=4, seed=seed)
        run_epoch(sampler, (torch.arange(size) >= 200) + 0.5, batch=64)
        shown = np.array(list(sampler))
        places.append(np.flatnonzero(shown < 200).mean() / len(shown))
    assert np.mean(places) == pytest.approx(0.5, abs=0.02)


@given(st.integers(0, 300), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9]))
def test_how_many_stay(learned, prune_ratio):
    losses = np.concatenate([np.zeros(learned), [5.0]])
    weights = infobatch_weights(losses, np.arange(len(losses)), prune_ratio=prune_ratio)
    tenths = 10 - round(10 * prune_ratio)
    assert np.count_nonzero(weights) == tenths * learned // 10 + 1


@pytest.mark.parametrize("prune_ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_impossible_ratios(prune_ratio):
    with pytest.raises(BadInput, match="prune_ratio"):
        InfoBatch(10, epochs=3, prune_ratio=prune_ratio)
