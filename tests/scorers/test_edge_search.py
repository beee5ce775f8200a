import tracemalloc

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.influence.edges.last_layer import last_layer
from tracesift.scorers.influence.edges.tracin import tracin
from tracesift.scorers.influence.product_edges import product_edges


def sides(n, checkpoints=3, classes=3, size=4, seed=0):
    rng = np.random.default_rng(seed)
    error = rng.normal(size=(n, checkpoints, classes)).astype(np.float32)
    return error, rng.normal(size=(n, checkpoints, size)).astype(np.float32)


def dense(train, val):
    """The whole matrix, from rows of gradients at each checkpoint."""
    rows = []
    for error, hidden in (train, val):
        with_one = np.concatenate([np.ones((*hidden.shape[:2], 1)), hidden.astype(np.float64)], axis=2)
        rows.append(np.einsum("nck,ncd->nckd", error.astype(np.float64), with_one).reshape(len(error), -1))
    return rows[0] @ rows[1].T


def check(found, matrix, k):
    by = found.origins
    check_lists(((found.helped, found.help, 1), (found.harmed, found.harm, -1)), matrix, k)
    check_lists(((by.helping, by.help, 1), (by.harming, by.harm, -1)), matrix.T, k)


def check_lists(lists, matrix, k):
    for i, products in enumerate(matrix):
        for partners, values, sign in lists:
            order = [j for j in np.argsort(-sign * products, kind="stable") if sign * products[j] > 0][:k]
            assert partners[i].tolist() == order + [-1] * (k - len(order))
            np.testing.assert_allclose(values[i, : len(order)], products[order], rtol=1e-9, atol=1e-12)
            assert np.isnan(values[i, len(order) :]).all()


@pytest.mark.parametrize(("n", "m", "k"), [(60, 45, 4), (3, 1100, 20), (40, 1, 3), (9, 8, 30)])
def test_against_the_whole_matrix(n, m, k):
    train, val = sides(n), sides(m, seed=1)
    check(tracin(*train, *val, k=k), dense(train, val), k)
    residual = np.random.default_rng(2).random((n, 3))
    expected = residual.mean(axis=1)[:, None] * np.einsum("ncd,mcd->nm", *(
        part[1].astype(np.float64) for part in (train, val)
    ))  # fmt: skip
    check(product_edges(train[1], val[1], residual, k=k), expected, k)


def test_one_checkpoint_is_the_last_layer():
    rng = np.random.default_rng(3)
    layers = [
        (rng.dirichlet(np.ones(3), n), rng.integers(0, 3, n), rng.normal(size=(n, 4))) for n in (30, 20)
    ]
    given = []
    for probs, labels, hidden in layers:
        given += [(probs - np.eye(3)[labels])[:, None], hidden[:, None]]
    found, other = tracin(*given, k=5), last_layer(*layers[0], *layers[1], k=5)
    np.testing.assert_array_equal(found.helped, other.helped)
    np.testing.assert_array_equal(found.harmed, other.harmed)
    np.testing.assert_allclose(found.help, other.help, rtol=1e-12)


def test_same_bytes_whatever_the_block_the_threads_and_the_order():
    train, val = sides(333), sides(1300, seed=3)
    found = tracin(*train, *val, k=7)
    order = np.random.default_rng(4).permutation(333)
    for rows, threads in ((1, 1), (10, 3), (5000, 2)):
        again = tracin(*train, *val, k=7, rows=rows, threads=threads)
        moved = tracin(*(part[order] for part in train), *val, k=7, rows=rows)
        for name in ("helping", "help", "harming", "harm"):
            assert getattr(again.origins, name).tobytes() == getattr(found.origins, name).tobytes()
        assert moved.origins.help.tobytes() == found.origins.help.tobytes()
        assert order[moved.origins.helping].tobytes() == found.origins.helping.tobytes()
        for name in ("helped", "help", "harmed", "harm"):
            assert getattr(again, name).tobytes() == getattr(found, name).tobytes()
            assert getattr(moved, name).tobytes() == getattr(found, name)[order].tobytes()


def test_missing_rows_have_no_edges_and_copies_come_in_order():
    train, val = sides(12), sides(9, seed=5)
    train[0][4, 1, 0], val[1][2, 0, 0] = np.nan, np.inf
    found = tracin(*train, *val, k=9)
    assert (found.helped[4] == -1).all()
    assert np.isnan(found.harm[4]).all()
    assert not ((found.helped == 2) | (found.harmed == 2)).any()
    assert (found.origins.helping[2] == -1).all()
    assert not ((found.origins.helping == 4) | (found.origins.harming == 4)).any()
    copies = [np.repeat(part[[3]], 6, axis=0) for part in val]
    found = tracin(*sides(20), *copies, k=3)
    assert {tuple(row) for row in np.r_[found.helped, found.harmed]} == {(0, 1, 2), (-1, -1, -1)}
    copied = [np.repeat(part[[3]], 12, axis=0) for part in train]
    for threads in (1, 2, 5):  # copies at the other end too, whoever of the threads saw them
        by = tracin(*copied, *sides(9, seed=6), k=3, rows=1, threads=threads).origins
        assert {tuple(row) for row in np.r_[by.helping, by.harming]} == {(0, 1, 2), (-1, -1, -1)}
    unknown = product_edges(train[1], val[1], np.where(np.arange(12) == 1, np.nan, 1.0)[:, None], k=2)
    assert (unknown.helped[1] == -1).all()


def test_refusals():
    train, val = sides(4), sides(3)
    for wrong in ({"k": 0}, {"rows": 0}):
        with pytest.raises(BadInput, match="at least 1"):
            tracin(*train, *val, **wrong)
    with pytest.raises(BadInput, match="one run of the job"):
        tracin(*train, *sides(3, size=5))
    with pytest.raises(BadInput, match=r"product_edges.*one run of the job"):
        product_edges(train[1], sides(3, checkpoints=2)[1])


def test_memory_does_not_grow_with_the_matrix():
    train, val = sides(10_000, checkpoints=2), sides(2_000, checkpoints=2, seed=1)
    few = tuple(part[:50] for part in val)
    tracin(*train, *few, k=5, threads=2)

    def peak(val):
        tracemalloc.start()
        tracin(*train, *val, k=5, threads=2)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    whole = peak(val)
    assert whole < 6e6  # 10,000 x 2,000 numbers are 160 MB; 4 x 10,000 x 5 results are 1.6 MB
    assert whole - peak(few) < 3.5e6  # for each thread a block of 256 x 512, and its lists of 512 partners
