"""The projection against its whole matrix in float64, and that inner products survive it."""

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import projection as module
from tracesift.pipelines.projection import ROWS, Projection


def whole_matrix(project, length):
    blocks = [project.signs(number).double() for number in range(-(-length // ROWS))]
    return (torch.cat(blocks)[:length] / project.dimension**0.5).numpy()


@pytest.mark.parametrize("length", [1, 100, ROWS, ROWS + 1, 3 * ROWS - 7])
def test_against_the_whole_matrix(length):
    vectors = np.random.default_rng(0).normal(size=(6, length))
    project = Projection(48, seed=3)
    expected = vectors @ whole_matrix(project, length)
    found = project(torch.from_numpy(vectors))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_only_one_block_of_signs_is_drawn_at_a_time(monkeypatch):
    drawn = []
    real = Projection.signs
    monkeypatch.setattr(Projection, "signs", lambda self, number: drawn.append(number) or real(self, number))
    Projection(8, seed=0)(torch.zeros(2, 2 * ROWS + 5))
    assert drawn == [0, 1, 2]
    assert real(Projection(8, seed=0), 0).shape == (ROWS, 8)


def test_inner_products_survive():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 9000))
    b = a + b
    estimates = []
    for seed in range(60):
        one, other = Projection(256, seed=seed)(torch.from_numpy(np.stack([a, b]))).double().numpy()
        estimates.append(one @ other)
    # variance of one estimate: (|a|^2 |b|^2 + <a, b>^2) / 256
    error = np.sqrt((a @ a * (b @ b) + (a @ b) ** 2) / 256)
    assert abs(np.mean(estimates) - a @ b) < 4 * error / np.sqrt(60)
    assert 0.75 < np.std(estimates) / error < 1.3


def test_signs_are_balanced_independent_of_one_another_and_of_the_other_seeds():
    first = Projection(64, seed=0).signs(0).numpy()
    assert set(np.unique(first)) == {-1.0, 1.0}
    assert abs(first.mean()) < 5 / np.sqrt(first.size)
    for other in (Projection(64, seed=1).signs(0).numpy(), Projection(64, seed=0).signs(1).numpy()):
        assert abs((first * other).mean()) < 5 / np.sqrt(first.size)
    between = first.T @ first / ROWS - np.eye(64)
    assert np.abs(between).max() < 6 / np.sqrt(ROWS)


def test_known_bits():
    # the same on every machine, or stored features of a killed job would not fit the later ones
    assert Projection(8, seed=5).signs(2)[0].tolist() == KNOWN


KNOWN = [1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0, -1.0]


def test_what_a_vector_becomes_does_not_depend_on_the_others():
    vectors = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 300)))
    project = Projection(16, seed=0)
    alone = torch.cat([project(vector[None]) for vector in vectors])
    np.testing.assert_allclose(project(vectors).numpy(), alone.numpy(), rtol=1e-5, atol=1e-6)


def test_refused():
    with pytest.raises(BadInput, match="at least 1 dimension"):
        module.Projection(0, seed=0)
