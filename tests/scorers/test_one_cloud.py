"""The reference of one cloud a class: what it keeps of the set, and that groups are what it loses."""

import numpy as np
import pytest

from tracesift.scorers.unlearnable.one_cloud import one_cloud
from tracesift.scorers.unlearnable.view_separation import lay_out, separate


@pytest.fixture(scope="module")
def clean():
    """Four classes of 600 with means, covariances and lengths of their own, as small whole numbers."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 600)
    images = rng.integers(0, 256, (2400, 5, 6, 1), dtype=np.uint8)
    layout = lay_out(images, labels)
    mixing = rng.normal(0, 1, (4, 30, 30)) / np.sqrt(30)
    means = rng.normal(0, 1.5, (4, 30))
    lengths = rng.gamma(4.0, 0.25, 2400)
    cloud = np.einsum("nd,nde->ne", rng.normal(0, 8, (2400, 30)), mixing[labels]) * lengths[:, None]
    return np.rint(means[labels] + cloud).clip(-60, 60)[layout.order].astype(np.int8), layout


def with_groups(clean, *, tied, share=0.4):
    """Add a pattern to a share of the rows: that of their class, or that of any."""
    view, layout = clean
    rng = np.random.default_rng(1)
    patterns = rng.choice([-9, 9], (4, 30))
    own = np.repeat(np.arange(4), 600)
    marked = rng.random(2400) < share
    carried = patterns[own if tied else rng.integers(0, 4, 2400)]
    return (view + marked[:, None] * carried).clip(-100, 100).astype(np.int8), layout, marked


def upper_of(view, layout):
    return separate(view, layout, ridge=1.0).upper


def test_it_keeps_means_covariances_and_lengths(clean):
    view, layout = clean
    nobody = np.zeros(len(view), dtype=bool)
    made = one_cloud(view, layout, nobody, 0)
    stretch = max(1, 60 // np.abs(view).max())
    assert made.dtype == np.int8
    for group in range(4):
        before, after = (x[layout.whole(group)].astype(float) for x in (view * stretch, made))
        spread = before.std(axis=0)
        assert np.abs(after.mean(0) - before.mean(0)).max() < 0.25 * spread.max()
        ours, theirs = np.cov(after.T), np.cov(before.T)
        assert np.linalg.norm(ours - theirs) < 0.35 * np.linalg.norm(theirs)
        lengths = [np.linalg.norm(x - y.mean(0), axis=1) for x, y in ((before, before), (after, before))]
        assert np.abs(lengths[0] - lengths[1]).max() < 0.15 * lengths[0].max()


@pytest.mark.parametrize("tied", [True, False])
def test_groups_are_lost(clean, tied):
    view, layout, _ = with_groups(clean, tied=tied)
    found = separate(view, layout, ridge=1.0)
    clouds = separate(one_cloud(view, layout, found.upper, 0), layout, ridge=1.0)
    plain = separate(clean[0], layout, ridge=1.0)
    assert clouds.separation.mean() < 1.1 * plain.separation.mean()
    if tied:
        assert found.separation.mean() > 1.3 * clouds.separation.mean()
        assert found.gap.mean() > 2 * clouds.gap.mean()


def test_what_is_one_cloud_comes_out_near_its_reference(clean):
    view, layout = clean
    found = separate(view, layout, ridge=1.0)
    clouds = separate(one_cloud(view, layout, found.upper, 0), layout, ridge=1.0)
    assert found.separation.mean() == pytest.approx(clouds.separation.mean(), rel=0.1)


def test_the_seed_decides_and_nothing_else(clean):
    view, layout = clean
    upper = upper_of(view, layout)
    first = one_cloud(view, layout, upper, 3)
    np.testing.assert_array_equal(first, one_cloud(view.copy(), layout, upper.copy(), 3))
    assert not np.array_equal(first, one_cloud(view, layout, upper, 4))


def test_a_view_without_variation_stays(clean):
    _, layout = clean
    flat = np.full((2400, 30), 7, dtype=np.int8)
    made = one_cloud(flat, layout, np.zeros(2400, dtype=bool), 0)
    assert (made == 7 * (60 // 7)).all()


def test_the_split_matches_an_explicit_fit_within_the_groups(clean):
    """Woodbury's identity against a factorisation of the scatter within the split groups, class by class."""
    view, layout, _ = with_groups(clean, tied=True)
    found = separate(view, layout, ridge=1e-6)
    fold = np.concatenate([np.repeat(np.arange(3), np.diff(row)) for row in layout.bounds])
    given = np.repeat(np.arange(4), 600)
    x = view.astype(float)
    upper = found.unsplit > 0
    for _ in range(4):
        score = np.empty(len(x))
        for held in range(3):
            train = fold != held
            scatter, shift, middle = np.zeros((30, 30)), np.empty((4, 30)), np.empty((4, 30))
            for k in range(4):
                sides = [x[train & (given == k) & (upper == side)] for side in (False, True)]
                for side in sides:
                    scatter += (side - side.mean(0)).T @ (side - side.mean(0))
                shift[k] = sides[1].mean(0) - sides[0].mean(0)
                middle[k] = (sides[1].mean(0) + sides[0].mean(0)) / 2
            for k in range(4):
                weight = np.linalg.solve(scatter / (train.sum() - 4), shift[k])
                rows = ~train & (given == k)
                score[rows] = (x[rows] - middle[k]) @ weight / np.sqrt(shift[k] @ weight)
        upper = np.concatenate([cut_by_otsu(score[layout.whole(k)]) for k in range(4)])
    np.testing.assert_allclose(found.split, score, rtol=1e-3, atol=1e-3)


def cut_by_otsu(values):
    from tracesift.scorers.unlearnable.view_separation import otsu_cut

    return values > otsu_cut(values, smallest=max(2, len(values) // 50))
