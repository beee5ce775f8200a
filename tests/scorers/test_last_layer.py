import tracemalloc

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.influence.edges.last_layer import last_layer


def layer_of(n, classes=3, size=4, seed=0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), n)
    return probs, rng.integers(0, classes, n), rng.normal(size=(n, size))


def dense(train, val, bias=1.0):
    """The whole matrix, from rows of gradients."""
    rows = []
    for probs, labels, hidden in (train, val):
        error = probs - np.eye(probs.shape[1])[labels]
        with_one = np.hstack([np.full((len(hidden), 1), bias), hidden])
        rows.append(np.einsum("nk,nd->nkd", error, with_one).reshape(len(labels), -1))
    return rows[0] @ rows[1].T


def check(found, matrix, k):
    for i, products in enumerate(matrix):
        for partners, values, sign in (
            (found.helped, found.help, 1), (found.harmed, found.harm, -1),
        ):  # fmt: skip
            order = [j for j in np.argsort(-sign * products, kind="stable") if sign * products[j] > 0][:k]
            assert partners[i].tolist() == order + [-1] * (k - len(order))
            np.testing.assert_allclose(values[i, : len(order)], products[order], rtol=1e-9, atol=1e-13)
            assert np.isnan(values[i, len(order) :]).all()


def test_hand_worked():
    train = np.array([[0.5, 0.5]]), np.array([0]), np.array([[1.0]])
    val = np.full((3, 2), 0.5), np.array([0, 1, 0]), np.array([[1.0], [1.0], [2.0]])
    found = last_layer(*train, *val, k=2)
    assert found.helped.tolist() == [[2, 0]]
    assert found.help.tolist() == [[0.5 * 3, 0.5 * 2]]
    assert found.harmed.tolist() == [[1, -1]]
    assert found.harm[0, 0] == -1.0
    bare = last_layer(*train, *val, k=2, bias=False)
    assert bare.help.tolist() == [[1.0, 0.5]]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("n", "m", "k"), [(60, 45, 4), (3, 700, 20), (40, 1, 3), (9, 8, 30)])
def test_against_the_whole_matrix(n, m, k, bias):
    train, val = layer_of(n), layer_of(m, seed=1)
    check(last_layer(*train, *val, k=k, bias=bias), dense(train, val, float(bias)), k)


def test_two_classes_zero_features_and_copies():
    train, val = layer_of(20, classes=2, size=2), layer_of(15, classes=2, size=2, seed=2)
    check(last_layer(*train, *val, k=5), dense(train, val), 5)
    none = [(probs, labels, np.zeros((len(labels), 0))) for probs, labels, _ in (train, val)]
    check(last_layer(*none[0], *none[1], k=5), dense(*none), 5)
    silent = last_layer(*none[0], *none[1], k=5, bias=False)
    assert (silent.helped == -1).all()
    assert (silent.harmed == -1).all()
    copies = [np.repeat(part[[3]], 6, axis=0) for part in val]
    found = last_layer(*train, *copies, k=3)
    assert {tuple(row) for row in np.r_[found.helped, found.harmed]} == {(0, 1, 2), (-1, -1, -1)}


def test_a_wrong_label_harms_its_own_class(clusters):
    x, labels, true = clusters(samples=300, classes=3, rate=0.0)
    labels[7] = (true[7] + 1) % 3
    logits = 4 * x @ np.linalg.lstsq(x, np.eye(3)[true], rcond=None)[0]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    train, val = (probs[:200], labels[:200], x[:200]), (probs[200:], true[200:], x[200:])
    found = last_layer(*train, *val, k=10)
    assert (true[200:][found.harmed[7]] == true[7]).all()
    good = int(np.flatnonzero((true[:200] == true[7]) & (np.arange(200) != 7))[0])
    assert (true[200:][found.helped[good]] == true[7]).all()
    assert found.harm[7, 0] < 2 * found.harm[good, 0] < 0


def test_same_bytes_whatever_the_block_the_threads_and_the_order():
    train, val = layer_of(333, size=9), layer_of(600, size=9, seed=3)
    found = last_layer(*train, *val, k=7)
    order = np.random.default_rng(4).permutation(333)
    for rows, threads in ((1, 1), (10, 3), (5000, 2)):
        again = last_layer(*train, *val, k=7, rows=rows, threads=threads)
        moved = last_layer(*(part[order] for part in train), *val, k=7, rows=rows)
        for name in ("helped", "help", "harmed", "harm"):
            assert getattr(again, name).tobytes() == getattr(found, name).tobytes()
            assert getattr(moved, name).tobytes() == getattr(found, name)[order].tobytes()


def test_missing_rows_have_no_edges():
    train, val = layer_of(12), layer_of(9, seed=5)
    train[0][4], val[2][2, 0] = np.nan, np.inf
    found = last_layer(*train, *val, k=9)
    assert (found.helped[4] == -1).all()
    assert np.isnan(found.harm[4]).all()
    assert not ((found.helped == 2) | (found.harmed == 2)).any()
    rest = np.delete(np.arange(9), 2)
    less = last_layer(*(np.delete(part, 4, axis=0) for part in train), *(part[rest] for part in val), k=9)
    np.testing.assert_array_equal(np.delete(found.help, 4, axis=0), less.help)
    empty = last_layer(*(part[:0] for part in train), *val)
    assert empty.helped.shape == (0, 10)


def test_refusals():
    train, val = layer_of(4), layer_of(3)
    for wrong in ({"k": 0}, {"rows": 0}):
        with pytest.raises(BadInput, match="at least 1"):
            last_layer(*train, *val, **wrong)
    with pytest.raises(BadInput, match="dimensions"):
        last_layer(*train, *layer_of(3, size=5))
    with pytest.raises(BadInput, match="classes"):
        last_layer(*train, *layer_of(3, classes=4))


def test_memory_does_not_grow_with_the_matrix():
    train, val = layer_of(20_000, size=8), layer_of(2_000, size=8, seed=1)
    few = tuple(part[:50] for part in val)
    last_layer(*train, *few, k=5, threads=2)

    def peak(val):
        tracemalloc.start()
        last_layer(*train, *val, k=5, threads=2)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    whole = peak(val)
    assert whole < 8e6  # 20,000 x 2,000 numbers are 320 MB; 4 x 20,000 x 5 results are 3.2 MB
    assert whole - peak(few) < 3.5e6  # for each thread a block of 256 x 512, and its lists of 512 partners
