from itertools import combinations
from math import comb

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.influence import knn_shapley as module
from tracesift.scorers.influence.knn_shapley import knn_shapley


def utility(x, labels, chosen, at, label, k):
    """(How many of the k nearest among the chosen have the label) / k; ties by row."""
    near = sorted(chosen, key=lambda i: (np.float32(np.linalg.norm(x[i] - at)), i))[:k]
    return sum(labels[i] == label for i in near) / k


def brute_force(x, labels, val_x, val_labels, k):
    """The definition: marginal contributions over all subsets."""
    n = len(x)
    value = np.zeros(n)
    for at, label in zip(val_x, val_labels, strict=True):
        for i in range(n):
            rest = [j for j in range(n) if j != i]
            for size in range(n):
                for chosen in combinations(rest, size):
                    gain = utility(x, labels, [*chosen, i], at, label, k) - utility(
                        x, labels, chosen, at, label, k
                    )
                    value[i] += gain / (n * comb(n - 1, size))
    return value / len(val_x)


def drawn(n, m, classes=2, size=3, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(n, size)), rng.integers(0, classes, n), rng.normal(size=(m, size)),
        rng.integers(0, classes, m),
    )  # fmt: skip


def test_hand_worked():
    # k = 1, matches 1 0 1 from near to far: s3 = 1/3, s2 = 1/3 - 1/2, s1 = s2 + 1
    x, at = np.array([[2.0], [0.0], [1.0]]), np.array([[0.0]])
    found = knn_shapley(x, np.array([4, 4, 7]), at, np.array([4]), k=1)
    np.testing.assert_allclose(found, [1 / 3, 5 / 6, -1 / 6], atol=1e-15)
    # k = 2: s3 = 1/3, s2 = 1/3 - 1/2, s1 = s2 + 1/2
    found = knn_shapley(x, np.array([4, 4, 7]), at, np.array([4]), k=2)
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, -1 / 6], atol=1e-15)


@pytest.mark.parametrize(("n", "k"), [(7, 3), (6, 1), (5, 5), (1, 1), (2, 1), (6, 2)])
def test_against_all_subsets(n, k):
    drawing = drawn(n, 3, classes=3, seed=n + k)
    np.testing.assert_allclose(knn_shapley(*drawing, k=k), brute_force(*drawing, k), atol=1e-13)


@pytest.mark.parametrize(("n", "k"), [(4, 6), (1, 3), (7, 20)])
def test_fewer_samples_than_neighbours(n, k):
    """The public code starts with m_N / N there, and its values do not add up."""
    drawing = drawn(n, 4, seed=n)
    drawing[1][:] = drawing[3][0]
    found = knn_shapley(*drawing, k=k)
    np.testing.assert_allclose(found, brute_force(*drawing, k), atol=1e-13)
    assert found.sum() == pytest.approx((drawing[3] == drawing[3][0]).mean() * n / k)
    assert found.sum() < (drawing[3] == drawing[3][0]).mean()


@pytest.mark.parametrize("k", [1, 5, 50, 700])
def test_values_add_up_to_the_utility(k):
    x, labels, val_x, val_labels = drawn(600, 37, classes=4, seed=k)
    expected = [utility(x, labels, range(600), *pair, k) for pair in zip(val_x, val_labels, strict=True)]
    assert knn_shapley(x, labels, val_x, val_labels, k=k).sum() == pytest.approx(np.mean(expected), abs=1e-11)


def test_by_cosine_the_length_does_not_matter():
    x, labels, val_x, val_labels = drawn(80, 9)
    stretch = np.random.default_rng(1).uniform(0.1, 9, (80, 1))
    found = knn_shapley(x, labels, val_x, val_labels, metric="cosine")
    np.testing.assert_array_equal(
        found, knn_shapley(x * stretch, labels, val_x * 3, val_labels, metric="cosine")
    )
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, val_x)]
    np.testing.assert_allclose(found, knn_shapley(unit[0], labels, unit[1], val_labels), atol=1e-15)
    assert not np.array_equal(found, knn_shapley(x * stretch, labels, val_x * 3, val_labels))


def test_wrong_labels_are_worth_least(clusters, auroc):
    x, labels, true = clusters(samples=500, rate=0.2, spread=0.8)
    found = compute(
        ["knn_shapley"],
        {"embedding": x[:400], "labels": labels[:400], "val_embedding": x[400:], "val_labels": true[400:]},
    )["knn_shapley"].to_numpy()
    wrong = (labels != true)[:400]
    assert auroc(-found, wrong) > 0.95
    assert found[wrong].mean() < 0 < found[~wrong].mean()


def test_copies_share_what_one_of_them_is_worth():
    x, labels, val_x, val_labels = drawn(30, 40, seed=3)
    alone = knn_shapley(x, labels, val_x, val_labels, k=1)
    best = int(alone.argmax())
    doubled = knn_shapley(np.r_[x, x[[best]]], np.r_[labels, labels[best]], val_x, val_labels, k=1)
    assert doubled[best] < 0.8 * alone[best]
    assert doubled[best] + doubled[-1] == pytest.approx(alone[best], abs=0.05)


def test_ties_go_to_the_smaller_row():
    x, at = np.zeros((4, 2)), np.zeros((1, 2))
    found = knn_shapley(x, np.array([0, 1, 1, 0]), at, np.array([0]), k=1)
    np.testing.assert_allclose(found, brute_force(x, np.array([0, 1, 1, 0]), at, [0], 1), atol=1e-14)
    assert found[0] > found[3] > found[1]


def test_same_bytes_in_any_order_and_any_block(monkeypatch):
    x, labels, val_x, val_labels = (
        part.astype(np.float32) if part.dtype == float else part
        for part in drawn(1100, 41, classes=5, size=9)
    )
    found = knn_shapley(x, labels, val_x, val_labels)
    order, val_order = np.random.default_rng(5).permutation(1100), np.random.default_rng(6).permutation(41)
    again = knn_shapley(x[order], labels[order], val_x[val_order], val_labels[val_order])
    assert again.tobytes() == found[order].tobytes()
    for together, threads in ((1, 1), (3, 2), (100, 4)):
        monkeypatch.setattr(module, "TOGETHER", together)
        monkeypatch.setattr(module.os, "cpu_count", lambda threads=threads: threads)
        assert knn_shapley(x, labels, val_x, val_labels).tobytes() == found.tobytes()


def test_rows_without_a_vector_do_not_play():
    x, labels, val_x, val_labels = drawn(20, 6)
    gone, val_gone = x.copy(), val_x.copy()
    gone[[3, 11]] = [[np.nan] * 3, [0.0, np.inf, 0.0]]
    val_gone[2] = np.nan
    found = knn_shapley(gone, labels, val_gone, val_labels)
    there, val_there = np.delete(np.arange(20), [3, 11]), np.delete(np.arange(6), 2)
    assert np.flatnonzero(np.isnan(found)).tolist() == [3, 11]
    np.testing.assert_array_equal(
        found[there], knn_shapley(x[there], labels[there], val_x[val_there], val_labels[val_there])
    )
    gone[3] = 0
    assert np.isnan(knn_shapley(gone, labels, val_x, val_labels, metric="cosine")[3])
    assert np.isfinite(knn_shapley(gone, labels, val_x, val_labels)[3])


def test_refusals_and_nothing_to_score():
    x, labels, val_x, val_labels = drawn(5, 2)
    assert knn_shapley(x[:0], labels[:0], val_x, val_labels).shape == (0,)
    for wrong, words in (({"k": 0}, "at least 1"), ({"metric": "taxi"}, "'euclidean' or 'cosine'")):
        with pytest.raises(BadInput, match=words):
            knn_shapley(x, labels, val_x, val_labels, **wrong)
    with pytest.raises(BadInput, match="no validation sample"):
        knn_shapley(x, labels, val_x * np.nan, val_labels)


def test_no_matrix_of_samples_by_validation_samples_is_kept(monkeypatch):
    import tracemalloc

    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    x, labels, val_x, val_labels = drawn(5000, 400)
    knn_shapley(x, labels, val_x[:20], val_labels[:20])
    tracemalloc.start()
    knn_shapley(x, labels, val_x, val_labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # 5000 x 400 numbers are 16 MB
