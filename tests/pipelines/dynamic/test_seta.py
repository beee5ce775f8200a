"""SeTa: groups by loss, the window that slides over them, and the partial annealing."""

from itertools import chain

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dynamic.seta import SeTa, seta_weights


def window(losses, epoch, shuffled=None, **settings):
    shuffled = np.arange(len(losses)) if shuffled is None else shuffled
    weights = seta_weights(np.asarray(losses, dtype=float), shuffled, epoch, **settings)
    assert set(weights.tolist()) <= {0.0, 1.0}
    return np.flatnonzero(weights).tolist()


def test_the_window_slides_from_easy_to_hard_and_wraps():
    losses = [4.1, 0.0, 3.0, 1.0, 2.0, 0.1, 3.1, 1.1, 2.1, 4.0]
    groups = [[1, 5], [3, 7], [4, 8], [2, 6], [0, 9]]
    settings = {"prune_ratio": 0.0, "groups": 5, "window_scale": 0.6}  # 3 of 5: windows begin at 0, 1, 2
    assert window(losses, 0, **settings) == list(range(10))
    for epoch in range(1, 8):
        first = epoch % 3
        assert window(losses, epoch, **settings) == sorted(chain(*groups[first : first + 3]))


@pytest.mark.parametrize(
    ("groups", "scale", "width"), [(5, 0.5, 2), (5, 0.9, 4), (10, 0.5, 5), (4, 0.1, None)]
)
def test_the_width_is_rounded_as_published(groups, scale, width):
    if width is None:
        with pytest.raises(BadInput, match="at least one group"):
            SeTa(100, epochs=2, groups=groups, window_scale=scale)
        return
    # epoch = g - w + 1 begins at the first group again
    shown = window(np.arange(groups), groups - width + 1, prune_ratio=0, groups=groups, window_scale=scale)
    assert shown == list(range(width))


def test_random_pruning_comes_before_the_groups():
    losses = np.array([0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    # 4 of 6 are drawn: 5, 1, 0, 2; the groups {0, 1, 2} and {5} are theirs alone.
    settings = {"prune_ratio": 0.3, "groups": 2, "window_scale": 0.5}
    shuffled = np.array([5, 1, 0, 2, 3, 4])
    assert window(losses, 0, shuffled, **settings) == [0, 1, 2, 5]
    assert window(losses, 1, shuffled, **settings) == [5]
    assert window(losses, 2, shuffled, **settings) == [0, 1, 2]


def test_equal_losses_are_divided_at_random_and_few_distinct_ones_as_they_are():
    shuffled = np.array([3, 1, 4, 0, 6, 5, 2])
    shown = window([2.0] * 7, 1, shuffled, prune_ratio=0, groups=3, window_scale=0.4)
    assert shown == [0, 6]  # of the chunks 314, 06, 52 of the shuffled places, the second
    losses = [1.0, 1.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    for epoch, expected in ((1, [2, 3, 4]), (2, [0, 1, 5, 6])):
        assert window(losses, epoch, shuffled, prune_ratio=0, groups=5, window_scale=0.4) == expected


def test_a_training():
    """Epoch by epoch: all, windows of the losses as they are then, and a random share at the end."""
    sampler = SeTa(100, epochs=16, prune_ratio=0.1, groups=5, window_scale=0.4, seed=4)
    losses = torch.arange(100) % 5 + 0.01 * torch.arange(100) / 100
    sizes, kinds = [], []
    for _ in range(16):
        shown = torch.tensor(list(sampler))
        assert sampler.update(shown, losses[shown]).item() == pytest.approx(losses[shown].mean().item())
        sizes.append(len(shown))
        kinds.append(sorted({int(row) % 5 for row in shown}))
    assert (sizes[0], sizes[14:]) == (90, [90, 90])  # 0.875 * 16 = 14
    assert all(len(kind) == 5 for kind in (kinds[0], *kinds[14:]))
    # Ten samples still have their initial loss of 3 until they are drawn, so that sizes vary; a window of two.
    assert all(20 <= size <= 50 for size in sizes[1:14])
    assert kinds[5:13] == [[first, first + 1] for first in (1, 2, 3, 0, 1, 2, 3, 0)]


def test_the_defaults_are_the_published_class():
    assert {name: SeTa(50, epochs=4).settings[name] for name in ("prune_ratio", "groups", "window_scale", "delta")} == {
        "prune_ratio": 0.0, "groups": 10, "window_scale": 0.5, "delta": 0.875,
    }  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [{"groups": 0}, {"window_scale": 0.0}, {"window_scale": 1.1}, {"prune_ratio": 1}, {"groups": 20}],
)
def test_impossible_settings(settings):
    with pytest.raises(BadInput):
        SeTa(20, epochs=4, **settings)
