"""Two clusters per class: by hand, against exhaustive search and independent components, planted and not."""

import itertools

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA, FastICA
from sklearn.metrics import silhouette_score

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute, find
from tracesift.scorers.unlearnable.activation_clustering import activation_clustering, two_means


def test_hand_worked():
    # centroids 1 and 11: of 0, distances 1 and 11; of 11, 0 and 10; the pair is the smaller cluster
    x = np.array([[0.0], [1], [2], [10], [12]])
    expected = [-(1 - 1 / 11), -1, -(1 - 1 / 9), 1 - 1 / 9, 1 - 1 / 11]
    np.testing.assert_allclose(
        activation_clustering(np.r_[x, x + 50], np.repeat([0, 1], 5)), [*expected, *expected], atol=2e-6
    )


def by_search(x):
    """The division with the least sum of squares out of all, and the score from it, one sample at a time."""
    n = len(x)
    best = None
    for size in range(1, n // 2 + 1):
        for chosen in itertools.combinations(range(n), size):
            second = np.isin(np.arange(n), chosen)
            parts = [x[~second], x[second]]
            inertia = sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts)
            if best is None or inertia < best[0]:
                best = inertia, second, [part.mean(axis=0) for part in parts]
    _, second, centres = best
    score = []
    for point, inside in zip(x, second, strict=True):
        far = [np.linalg.norm(point - centre) for centre in centres]
        own, other = (far[1], far[0]) if inside else far
        score.append((1 - own / other) * (1 if inside else -1))
    return np.array(score)


@pytest.mark.parametrize("seed", range(5))
def test_against_all_divisions(seed):
    x = np.random.default_rng(seed).normal(size=(13, 5)) * [3, 1, 1, 1, 1]
    first = PCA(1, whiten=True).fit_transform(x) * np.sqrt(13 / 12)
    score = activation_clustering(x, np.zeros(13, dtype=int), components=1)
    np.testing.assert_allclose(score, by_search(first), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_without_two_groups_it_ends_about_as_tight_as_many_random_starts(seed):
    rng = np.random.default_rng(seed)
    x = rng.laplace(size=(300, 12)) @ rng.normal(size=(12, 12))
    whitened = PCA(10, whiten=True).fit_transform(x)
    small = activation_clustering(x, np.zeros(300, dtype=int)) > 0
    inertia = sum(((part - part.mean(axis=0)) ** 2).sum() for part in (whitened[small], whitened[~small]))
    assert 1 - 1e-6 <= inertia / KMeans(2, n_init=50, random_state=0).fit(whitened).inertia_ < 1.02


def test_independent_components_give_the_same_clusters():
    # why no ICA is run: FastICA is the whitened components, rotated
    rng = np.random.default_rng(0)
    x = rng.laplace(size=(300, 12)) @ rng.normal(size=(12, 12))
    x[:60] += 10 * rng.normal(size=12)
    independent = FastICA(10, random_state=0, max_iter=2000, tol=1e-6).fit_transform(x)
    found = KMeans(2, n_init=20, random_state=0).fit(independent)
    small = found.labels_ == np.bincount(found.labels_).argmin()
    score = activation_clustering(x, np.zeros(300, dtype=int))
    np.testing.assert_array_equal(score > 0, small)
    own = np.linalg.norm(independent - found.cluster_centers_[found.labels_], axis=1)
    other = np.linalg.norm(independent - found.cluster_centers_[1 - found.labels_], axis=1)
    np.testing.assert_allclose(np.abs(score), 1 - own / other, atol=1e-4)


def test_lloyd_ends_where_sklearn_ends():
    rng = np.random.default_rng(1)
    points = np.rint(rng.normal(size=(200, 3)) * 1000).astype(np.int64)
    start = points[:, 0] > 0
    mine = two_means(points, start)
    centres = np.stack([points[~start].mean(axis=0), points[start].mean(axis=0)])
    theirs = KMeans(2, init=centres, n_init=1, algorithm="lloyd", tol=0).fit(points.astype(float))
    np.testing.assert_array_equal(mine.second, theirs.labels_ == 1)
    assert mine.inertia == pytest.approx(theirs.inertia_)


def poisoned(share, *, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(600) % 3
    x = rng.normal(size=(600, 16)) + 6 * rng.normal(size=(3, 16))[labels]
    marked = rng.random(600) < share
    return x + 7 * marked[:, None] * rng.normal(size=(3, 16))[labels], labels, marked


def test_planted_clusters_are_found_below_a_half_and_turned_round_above(auroc):
    x, labels, marked = poisoned(0.25)
    score = compute("activation_clustering", {"embedding": x, "labels": labels})[
        "activation_clustering"
    ].to_numpy()
    assert auroc(score, marked) > 0.99
    assert ((score > 0) == marked).mean() > 0.99
    x, labels, marked = poisoned(0.75)
    assert auroc(activation_clustering(x, labels), marked) < 0.01
    assert find("activation_clustering").direction == "suspicious"
    assert find("activation_clustering").experimental


def test_random_marks_on_clean_classes_are_not_found(auroc):
    x, labels, _ = poisoned(0.0)
    score = activation_clustering(x, labels)
    assert abs(auroc(score, np.random.default_rng(9).random(600) < 0.3) - 0.5) < 0.07
    x, labels, marked = poisoned(0.25)
    poisonous = np.abs(activation_clustering(x, labels)).mean()
    assert poisonous > 1.5 * np.abs(score).mean()  # the size tells a class with two clusters from one without
    assert silhouette_score(x[labels == 0], marked[labels == 0]) > 0.1


def test_degenerate_classes():
    x = np.r_[np.ones((6, 3)), np.eye(3), [[np.nan, 0, 0]]]
    score = activation_clustering(x, np.array([0] * 6 + [1] * 4))
    assert score[:6].tolist() == [0] * 6  # one vector, no two clusters
    assert np.isnan(score[6:]).all()  # three with a vector are too few
    mirrored = np.array([[-3.0], [-2], [2], [3]] * 2)
    assert activation_clustering(mirrored, np.zeros(8, dtype=int)).tolist() == [0] * 8
    uneven = np.array([[-3.0], [-1], [2], [2.2]])  # of one size: the tighter
    assert (activation_clustering(uneven, np.zeros(4, dtype=int)) > 0).tolist() == [False, False, True, True]
    assert activation_clustering(np.zeros((0, 3)), np.zeros(0, dtype=int)).shape == (0,)
    with pytest.raises(BadInput, match="at least 1"):
        activation_clustering(x, np.zeros(10, dtype=int), components=0)


@pytest.mark.parametrize("shape", [(500, 30), (80, 400)], ids=["tall", "wide"])
def test_the_order_of_rows_leaves_no_trace(shape):
    rng = np.random.default_rng(4)
    x, labels = rng.laplace(size=shape).astype(np.float32), np.arange(shape[0]) % 2
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(
        activation_clustering(x[order], labels[order]), activation_clustering(x, labels)[order]
    )
