import numpy as np
import pytest

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.contract import compute
from tracesift.scorers.dynamics.grand import grand


def test_hand_worked():
    # 0.6 sqrt(1 + 2.4^2) = 0.6 * 2.6, and 1.0 sqrt(1 + 0) = 1
    error, features = np.array([[0.6, 1.0]]), np.array([[2.4, 0.0]])
    np.testing.assert_allclose(grand(error, features), [(1.56 + 1.0) / 2], rtol=1e-15)


def test_it_is_the_gradient_of_the_last_layer():
    # against the outer product (p - y) [h, 1]^T, whose Frobenius norm it is
    rng = np.random.default_rng(0)
    p, h = rng.dirichlet(np.ones(4), size=30), rng.normal(size=(30, 6))
    labels = rng.integers(0, 4, 30)
    off = p - np.eye(4)[labels]
    outer = np.einsum("nk,nd->nkd", off, np.hstack([h, np.ones((30, 1))]))
    expected = np.sqrt((outer**2).sum(axis=(1, 2)))
    given = np.linalg.norm(off, axis=1)[:, None], np.linalg.norm(h, axis=1)[:, None]
    np.testing.assert_allclose(grand(*given), expected, rtol=1e-12)


def test_all_parameters_are_another_norm():
    error, features, whole = np.ones((3, 2)), np.ones((3, 2)), np.array([[1.0, 3.0], [0.0, 0.0], [5.0, 6.0]])
    assert grand(error, features, whole, parameters="all").tolist() == [2.0, 0.0, 5.5]
    np.testing.assert_allclose(grand(error, features, whole), np.sqrt(2))


def test_the_job_with_its_setting_is_named():
    known = {"early_error_norm": np.ones((3, 2)), "early_feature_norm": np.ones((3, 2))}
    with pytest.raises(MissingSignal, match=r"--job grand --param parameters=all"):
        compute("grand", known, params={"grand": {"parameters": "all"}})
    with pytest.raises(BadInput, match="'last' or 'all'"):
        compute("grand", known, params={"grand": {"parameters": "some"}})
    with pytest.raises(MissingSignal, match=r"run `tracesift record --job grand`"):
        compute("grand", {"early_error_norm": np.ones((3, 2))})


def test_what_is_wrong_and_large_pulls_hardest(auroc):
    rng = np.random.default_rng(1)
    hard = rng.random(300) < 0.3
    error = np.where(hard, 1.1, 0.3)[:, None] + rng.normal(0, 0.1, (300, 5))
    assert auroc(grand(error, rng.uniform(1, 1.5, (300, 5))), hard) > 0.95
    assert np.isnan(grand(np.array([[np.nan, 1.0]]), np.ones((1, 2))))[0]
