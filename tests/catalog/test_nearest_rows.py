"""Nearest neighbours against brute force."""

import numpy as np
import pytest

from tracesift.catalog import nearest_rows as module
from tracesift.catalog.nearest_rows import nearest_rows, unit_rows


def search(queries, base, k):
    """Search one matrix in another; both become rows of one embedding."""
    vectors = unit_rows(np.concatenate([queries, base]))
    return nearest_rows(vectors, np.arange(len(queries)), len(queries) + np.arange(len(base)), k)


def brute_force(queries, base, k):
    """All cosines in float64, one query at a time, ties by position."""
    found = []
    for query in np.asarray(queries, dtype=np.float64):
        lengths = np.linalg.norm(base, axis=1) * np.linalg.norm(query)
        products = np.asarray(base, dtype=np.float64) @ query
        cosines = np.divide(products, lengths, out=np.zeros(len(base)), where=lengths > 0).round(6)
        found.append(sorted(range(len(base)), key=lambda row, c=cosines: (-c[row], row))[:k])
    return np.array(found)


@pytest.mark.parametrize(("queries", "base", "k"), [(1, 1, 1), (7, 40, 3), (300, 50, 5), (5, 4, 9)])
def test_equals_brute_force(queries, base, k):
    rng = np.random.default_rng(queries)
    q, b = rng.normal(size=(queries, 6)), rng.normal(size=(base, 6))
    index, cosines = search(q, b, k)
    assert np.array_equal(index, brute_force(q, b, k))
    unit_q, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, b))
    full = (unit_q @ unit_b.T).round(6)
    assert np.allclose(cosines, np.take_along_axis(full, index, axis=1), atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("queries_at_once", "rows_at_once"), [(1, 1), (7, 23), (1024, 16384)])
def test_blocks_change_nothing_even_where_hundreds_tie(monkeypatch, queries_at_once, rows_at_once, dtype):
    rng = np.random.default_rng(0)
    base = rng.integers(-1, 2, size=(400, 4)).astype(dtype)  # 81 different rows: every search ends in ties
    base[rng.permutation(400)[:60]] = base[0]  # more copies than candidates are asked for
    queries = np.concatenate([base[:20], np.zeros((1, 4), dtype)])
    monkeypatch.setattr(module, "QUERIES", queries_at_once)
    monkeypatch.setattr(module, "ROWS", rows_at_once)
    monkeypatch.setattr(module, "CHUNK", 5)
    index, cosines = search(queries, base, 5)
    assert np.array_equal(index, brute_force(queries, base, 5))
    assert index[20].tolist() == [0, 1, 2, 3, 4]
    assert (cosines[20] == 0).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(monkeypatch, threads):
    rng = np.random.default_rng(3)
    base = rng.integers(-1, 2, size=(300, 5)).astype(np.float32)
    vectors, everyone = unit_rows(base), np.arange(300)
    whole = nearest_rows(vectors, everyone, everyone, 4, threads=1)
    monkeypatch.setattr(module, "QUERIES", 16)
    monkeypatch.setattr(module, "ROWS", 32)
    monkeypatch.setattr(module, "CHUNK", 7)
    for got, expected in zip(
        nearest_rows(vectors, everyone, everyone, 4, threads=threads), whole, strict=True
    ):
        assert np.array_equal(got, expected)


def test_two_sets_of_vectors_need_no_joint_copy():
    rng = np.random.default_rng(4)
    queries, base = rng.normal(size=(30, 4)), rng.normal(size=(50, 4))
    apart = nearest_rows(unit_rows(queries), np.arange(30), np.arange(50), 3, among=unit_rows(base))
    for got, expected in zip(apart, search(queries, base, 3), strict=True):
        assert np.array_equal(got, expected)


def test_a_mapped_file_serves_and_is_not_changed(tmp_path):
    rows = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    mapped = unit_rows(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert isinstance(mapped.rows.base, np.memmap)
    queries, base = np.arange(5), np.arange(5, 50)
    for got, expected in zip(
        nearest_rows(mapped, queries, base, 3), nearest_rows(unit_rows(rows), queries, base, 3), strict=True
    ):
        assert np.array_equal(got, expected)
    assert np.array_equal(np.load(tmp_path / "rows.npy"), rows)


def test_length_does_not_matter():
    rng = np.random.default_rng(2)
    q, b = rng.normal(size=(9, 5)), rng.normal(size=(60, 5))
    plain = search(q, b, 4)
    scaled = search(q * 7, b * rng.uniform(0.01, 90, size=(60, 1)), 4)
    assert np.array_equal(plain[0], scaled[0])


def test_ties_go_to_the_smaller_index():
    index, cosines = search(np.eye(3), np.repeat(np.eye(3), 4, axis=0), 2)
    assert index.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert (cosines == 1).all()


def test_nothing_to_search():
    vectors = unit_rows(np.eye(3))
    none, two = np.array([], dtype=np.int64), np.arange(2)
    assert nearest_rows(vectors, two, none, 4)[0].shape == (2, 0)
    assert nearest_rows(vectors, none, two, 2)[0].shape == (0, 2)
    assert nearest_rows(vectors, two, two, 0)[0].shape == (2, 0)


def test_a_zero_row_is_near_nobody():
    _, cosines = search(np.zeros((1, 3)), np.eye(3), 3)
    assert (cosines == 0).all()


@pytest.mark.parametrize("alike", [True, False])
def test_a_long_search_says_how_far_it_is(monkeypatch, alike):
    monkeypatch.setattr(module, "ROWS", 30)
    vectors = unit_rows(np.random.default_rng(0).normal(size=(100, 3)))
    base = np.arange(100)
    told = []
    nearest_rows(vectors, base if alike else base[:50], base, 2, report=lambda *said: told.append(said))
    done, total = np.array(told).T
    assert (total == (100 if alike else 50)).all()
    assert done[-1] == total[0]
    assert (np.diff(done) > 0).all()
    # of all pairs, the second block of rows takes three times as long as the first
    np.testing.assert_allclose(done[:2] / total[0], [0.09, 0.36] if alike else [0.3, 0.6])
