import itertools

import numpy as np
import polars as pl
import pytest
from scipy.optimize import nnls

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select
from tracesift.selectors.gradients.grad_match import matching_pursuit
from tracesift.selectors.gradients.last_layer import last_layer


def made(n, classes=3, dimensions=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, classes, n)
    frame = pl.DataFrame({"sample_id": [f"s{i:03d}" for i in range(n)], "label": [f"c{y}" for y in labels]})
    return frame, {"probs_last": probs, "labels": labels, "embedding": rng.normal(size=(n, dimensions))}


def dense(arrays):
    error = arrays["probs_last"] - np.eye(arrays["probs_last"].shape[1])[arrays["labels"]]
    inputs = np.hstack([np.ones((len(error), 1)), arrays["embedding"]])
    return np.einsum("nk,nd->nkd", error, inputs).reshape(len(error), -1)


def gradients(arrays):
    return last_layer(arrays["probs_last"], arrays["labels"], arrays["embedding"])


def best_nnls(g, target, ridge):
    """Brute force over supports: the least-squares solution of each, the best among the feasible."""
    best, found = target @ target, np.zeros(len(g))
    for size in range(1, len(g) + 1):
        for some in map(list, itertools.combinations(range(len(g)), size)):
            x = np.linalg.lstsq(g[some] @ g[some].T + ridge * np.eye(size), g[some] @ target, rcond=None)[0]
            value = ((x @ g[some] - target) ** 2).sum() + ridge * x @ x
            if (x >= 0).all() and value < best - 1e-12:
                best, found = value, np.zeros(len(g))
                found[some] = x
    return found


@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_with_room_for_all_it_is_the_non_negative_least_squares_solution(ridge):
    for seed in range(6):
        _, arrays = made(8, seed=seed)
        g = dense(arrays)
        found = matching_pursuit(gradients(arrays), 8, ridge)
        np.testing.assert_allclose(found.weight, best_nnls(g, g.mean(axis=0), ridge), atol=1e-9)


def test_agrees_with_scipy_where_weights_must_leave_again():
    left = 0
    for seed in range(8):
        _, arrays = made(60, seed=seed, dimensions=2)
        g = dense(arrays)
        found = matching_pursuit(gradients(arrays), 60, 0.05)
        wide = np.vstack([g.T, np.sqrt(0.05) * np.eye(60)])
        expected, _ = nnls(wide, np.append(g.mean(axis=0), np.zeros(60)))
        np.testing.assert_allclose(found.weight, expected, atol=1e-8)
        left += int((expected == 0).sum())
    assert left > 0


def test_each_step_takes_the_best_correlation_and_solves_again():
    _, arrays = made(30, seed=4)
    g = dense(arrays)
    target, chosen, x = g.mean(axis=0), [], np.zeros(30)
    for _ in range(5):
        correlation = g @ (target - x @ g)
        correlation[chosen] = -np.inf
        chosen.append(int(correlation.argmax()))
        wide = np.vstack([g[chosen].T, np.eye(len(chosen))])
        x = np.zeros(30)
        x[chosen] = nnls(wide, np.append(target, np.zeros(len(chosen))))[0]
    found = matching_pursuit(gradients(arrays), 5, 1.0)
    np.testing.assert_allclose(found.weight, x, atol=1e-10)


def test_a_planted_sparse_combination_is_recovered():
    weights, corners = np.array([0.5, 0.3, 0.2]), 10 * np.eye(3)
    # mirrored pairs around the planted sum have it as their mean, and so do the corners in these proportions
    offsets = np.random.default_rng(3).normal(size=(13, 3)) * 0.1
    pairs = np.vstack([weights @ corners + offsets, weights @ corners - offsets])
    embedding = np.vstack([np.repeat(corners, [5, 3, 2], axis=0), pairs])
    n = len(embedding)
    arrays = {"probs_last": np.tile([0.3, 0.7], (n, 1)), "labels": np.zeros(n, int), "embedding": embedding}
    g = dense(arrays)
    np.testing.assert_allclose(g.mean(axis=0), weights @ g[[0, 5, 8]], atol=1e-12)
    found = matching_pursuit(gradients(arrays), 6, 0.0)
    np.testing.assert_allclose(found.weight @ g, g.mean(axis=0), atol=1e-9)
    assert found.left < 1e-6
    only_corners = {name: values[:10] for name, values in arrays.items()}
    found = matching_pursuit(gradients(only_corners), 3, 0.0)
    np.testing.assert_allclose(found.weight[[0, 5, 8]], weights, atol=1e-12)


def test_fewer_than_asked_for_are_filled_up_without_moving_the_sum():
    rng = np.random.default_rng(0)
    n = 40
    frame = pl.DataFrame({"sample_id": [f"s{i:02d}" for i in range(n)], "label": ["a"] * n})
    arrays = {
        "probs_last": np.tile([0.3, 0.7], (n, 1)),
        "labels": np.zeros(n, int),
        "embedding": rng.normal(size=(n, 2)),
    }
    g = dense(arrays)
    result = select("grad_match", frame, budget=20, seed=0, arrays=arrays, ridge=0.0)
    weight = result["weight"].to_numpy()
    assert (result["role"] == "keep").sum() == 20
    matched = weight > 1e-3
    assert matched.sum() <= 3  # three numbers beside a sign carry each gradient
    np.testing.assert_allclose(weight @ g, g.sum(axis=0), atol=1e-3)
    np.testing.assert_allclose(weight[matched] @ g[matched], g.sum(axis=0), atol=1e-8)
    assert (
        result.filter(pl.Series((weight > 0) & ~matched))["reason"].str.starts_with("fills the budget").all()
    )
    np.testing.assert_allclose(weight[(weight > 0) & ~matched], 1e-6 * 40 / 20)


def test_negative_weights_are_never_used_and_signs_matter():
    # the last sample points away from the mean: unconstrained least squares would subtract it
    arrays = {
        "probs_last": np.tile([0.3, 0.7], (4, 1)), "labels": np.array([0, 0, 0, 1]),
        "embedding": np.array([[3.0, 0.0], [2.0, 1.0], [2.0, -1.0], [3.0, 0.1]]),
    }  # fmt: skip
    found = matching_pursuit(gradients(arrays), 4, 0.01)
    assert (found.weight >= 0).all()
    assert found.weight[0] > 0
    assert found.weight[3] == 0
    assert found.correlation[3] < 0


def test_no_gradient_at_all():
    frame = pl.DataFrame({"sample_id": list("abc"), "label": ["x"] * 3})
    arrays = {
        "probs_last": np.tile([1.0, 0.0], (3, 1)),
        "labels": np.zeros(3, int),
        "embedding": np.ones((3, 2)),
    }
    result = select("grad_match", frame, budget=2, seed=0, arrays=arrays)
    assert result["role"].to_list() == ["keep", "keep", "drop"]
    assert result["weight"].to_list()[0] == result["weight"].to_list()[1] > 0


def test_more_samples_leave_less():
    _, arrays = made(200, seed=3)
    left = [matching_pursuit(gradients(arrays), count, 0.0).left for count in (1, 2, 4, 8)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.5 * left[0]


def test_the_reasons_tell_what_is_left_of_each_class_and_a_ridge_beside_small_gradients_leaves_much():
    frame, arrays = made(120, seed=1)
    right = np.eye(3)[arrays["labels"]]
    arrays["probs_last"] = 0.9 * right + 0.1 * arrays["probs_last"]  # a model that has learned its samples
    g, shares, totals = dense(arrays), {}, {}
    for ridge in (0.0, 1.0):
        result = select("grad_match", frame, budget=24, seed=0, arrays=arrays, ridge=ridge)
        weight, totals[ridge] = result["weight"].to_numpy(), result["weight"].sum()
        for label in range(3):
            of = arrays["labels"] == label
            aim = g[of].sum(axis=0)
            shares[ridge, label] = np.linalg.norm(weight[of] @ g[of] - aim) / np.linalg.norm(aim)
            said = result.filter(pl.Series(of) & (pl.col("role") == "keep"))["reason"]
            found = said.str.extract(r"([\d.]+) of the gradient is left").cast(pl.Float64).unique().to_list()
            assert found == pytest.approx([shares[ridge, label]], abs=1e-5)
    assert all(shares[0.0, label] < 0.6 * shares[1.0, label] for label in range(3))
    assert totals[1.0] < 0.7 * totals[0.0] < 0.7 * 120


def test_impossible_ridges_are_refused():
    frame, arrays = made(20)
    with pytest.raises(BadInput, match="ridge"):
        select("grad_match", frame, budget=5, seed=0, arrays=arrays, ridge=-1.0)
