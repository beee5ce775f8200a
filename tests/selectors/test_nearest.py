"""Nearest neighbours against brute force."""

import numpy as np
import pytest

from tracesift.selectors.nearest import nearest_rows, unit_rows


@pytest.mark.parametrize(("queries", "base", "k"), [(1, 1, 1), (7, 40, 3), (300, 50, 5), (5, 4, 9)])
def test_equals_brute_force(queries, base, k):
    rng = np.random.default_rng(queries)
    q, b = unit_rows(rng.normal(size=(queries, 6))), unit_rows(rng.normal(size=(base, 6)))
    index, cosines = nearest_rows(q, b, k)
    full = (q @ b.T).round(6)
    order = np.lexsort((np.broadcast_to(np.arange(base), full.shape), -full), axis=1)[:, :k]
    assert np.array_equal(index, order)
    assert np.allclose(cosines, np.take_along_axis(full, order, axis=1), atol=2e-6)


def test_ties_go_to_the_smaller_index():
    base = unit_rows(np.repeat(np.eye(3), 4, axis=0))
    index, cosines = nearest_rows(unit_rows(np.eye(3)), base, 2)
    assert index.tolist() == [[0, 1], [4, 5], [8, 9]]
    assert (cosines == 1).all()


def test_nothing_to_search():
    assert nearest_rows(np.zeros((2, 3)), np.zeros((0, 3)), 4)[0].shape == (2, 0)
    assert nearest_rows(np.zeros((0, 3)), np.eye(3), 2)[0].shape == (0, 2)


def test_a_zero_row_is_near_nobody():
    _, cosines = nearest_rows(unit_rows(np.zeros((1, 3))), unit_rows(np.eye(3)), 3)
    assert (cosines == 0).all()


def test_settings_of_faiss_are_given_back():
    import faiss

    before = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    nearest_rows(unit_rows(np.eye(3)), unit_rows(np.eye(3)), 1)
    assert (faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold) == before
