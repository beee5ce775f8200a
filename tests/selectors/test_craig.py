import itertools
import math

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.selectors.contract import select
from tracesift.selectors.gradients.craig import facility_location
from tracesift.selectors.gradients.last_layer import last_layer


def made(n, classes=3, dimensions=4, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = rng.integers(0, classes, n)
    frame = pl.DataFrame({"sample_id": [f"s{i:03d}" for i in range(n)], "label": [f"c{y}" for y in labels]})
    return frame, {"probs_last": probs, "labels": labels, "embedding": rng.normal(size=(n, dimensions))}


def dense(arrays):
    """The gradients written out, N x K(D+1), in another style."""
    error = arrays["probs_last"] - np.eye(arrays["probs_last"].shape[1])[arrays["labels"]]
    inputs = np.hstack([np.ones((len(error), 1)), arrays["embedding"]])
    return np.einsum("nk,nd->nkd", error, inputs).reshape(len(error), -1)


def test_factors_give_the_inner_products_and_distances_of_the_written_out_gradients():
    _, arrays = made(700)  # more than one tile
    g, ours = (
        dense(arrays),
        last_layer(**{"probs": arrays["probs_last"], **{k: arrays[k] for k in ("labels", "embedding")}}),
    )
    np.testing.assert_allclose(ours.column(5), g @ g[5], rtol=1e-12)
    narrow = {
        **arrays,
        "embedding": arrays["embedding"].astype(np.float32),
    }  # is read as it is, and added up in float64
    single = last_layer(narrow["probs_last"], narrow["labels"], narrow["embedding"])
    np.testing.assert_allclose(single.column(5), dense(narrow) @ dense(narrow)[5], rtol=1e-12)
    np.testing.assert_allclose(ours.squares(), (g**2).sum(axis=1), rtol=1e-12)
    np.testing.assert_allclose(ours.distances(9, ours.squares()), np.linalg.norm(g - g[9], axis=1), atol=1e-6)
    assert np.array_equal(ours.all_distances(ours.squares())[9], ours.distances(9, ours.squares()))
    np.testing.assert_allclose(ours.mean().reshape(3, 5), g.mean(axis=0).reshape(3, 5), atol=1e-14)
    np.testing.assert_allclose(ours.along(ours.mean()), g @ g.mean(axis=0), atol=1e-13)


def test_weights_are_exact_counts_of_the_nearest():
    frame, arrays = made(90)
    result = select("craig", frame, budget=12, seed=0, arrays=arrays)
    g, kept = dense(arrays), (result["role"] == "keep").to_numpy()
    expected = np.zeros(90)
    for i in range(90):
        same = np.flatnonzero(kept & (arrays["labels"] == arrays["labels"][i]))
        expected[same[np.linalg.norm(g[same] - g[i], axis=1).argmin()]] += 1
    assert result["weight"].to_list() == expected.tolist()
    assert result["weight"].sum() == 90  # not 90 + 12: a count does not start at one


@pytest.mark.parametrize("budget", [1, 2, 3, 50, 90])
@pytest.mark.parametrize("per_class", [True, False])
def test_weights_add_up_to_all_samples_whatever_the_budget(budget, per_class):
    frame, arrays = made(90)
    result = select("craig", frame, budget=budget, seed=0, arrays=arrays, per_class=per_class)
    assert result["weight"].sum() == 90
    assert (result.filter(pl.col("role") == "keep")["weight"] >= 1).all()


def test_greedy_reaches_its_guarantee_and_is_the_plain_greedy():
    for seed in range(12):
        _, arrays = made(9, seed=seed)
        g = dense(arrays)
        distances = np.linalg.norm(g[:, None] - g[None], axis=2)
        bound = distances.max()  # the tightest auxiliary element makes the hardest case

        def value(chosen, distances=distances, bound=bound):
            return (bound - distances[:, list(chosen)].min(axis=1)).sum()

        ours, _, _ = facility_location(
            last_layer(arrays["probs_last"], arrays["labels"], arrays["embedding"]), 3
        )
        best = max(value(some) for some in itertools.combinations(range(9), 3))
        assert value(ours) >= (1 - 1 / math.e) * best
        plain = []
        while len(plain) < 3:
            plain.append(max((j for j in range(9) if j not in plain), key=lambda j: value([*plain, j])))
        assert value(ours) == pytest.approx(value(plain), rel=1e-12)


def test_kept_distances_choose_the_same():
    _, arrays = made(300)
    gradients = last_layer(arrays["probs_last"], arrays["labels"], arrays["embedding"].astype(np.float32))
    for there, again in zip(
        facility_location(gradients, 40), facility_location(gradients, 40, kept_up_to=0), strict=True
    ):
        assert np.array_equal(there, again)


def test_planted_clusters_of_gradients_get_one_medoid_each():
    frame, arrays = made(60, classes=2, dimensions=2, seed=3)
    centres = np.array([[0.0, 0], [9, 0], [0, 9]])
    cluster = np.arange(60) % 3
    arrays["embedding"] = centres[cluster] + np.random.default_rng(1).normal(size=(60, 2)) * 0.01
    arrays["labels"] = np.zeros(60, dtype=int)
    arrays["probs_last"] = np.tile([0.4, 0.6], (60, 1))
    result = select("craig", frame.with_columns(label=pl.lit("a")), budget=3, seed=0, arrays=arrays)
    kept = (result["role"] == "keep").to_numpy()
    assert sorted(cluster[kept]) == [0, 1, 2]
    assert result["weight"].to_numpy()[kept].tolist() == [20, 20, 20]


def test_equal_gradients_tie_by_id_and_every_member_keeps_a_weight():
    frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4})
    arrays = {
        "probs_last": np.tile([0.7, 0.3], (4, 1)),
        "labels": np.zeros(4, int),
        "embedding": np.ones((4, 2)),
    }
    result = select("craig", frame, budget=2, seed=0, arrays=arrays)
    assert result["role"].to_list() == ["keep", "keep", "drop", "drop"]
    assert result["weight"].to_list() == [3, 1, 0, 0]


def test_missing_or_wrong_signals_are_named():
    frame, arrays = made(20)
    with pytest.raises(MissingSignal, match="probs_last"):
        select(
            "craig", frame, budget=5, seed=0, arrays={k: v for k, v in arrays.items() if k != "probs_last"}
        )
    with pytest.raises(BadInput, match="no probabilities"):
        select("craig", frame, budget=5, seed=0, arrays={**arrays, "probs_last": arrays["probs_last"] * 3})
    with pytest.raises(BadInput, match="disagree"):
        select("craig", frame, budget=5, seed=0, arrays={**arrays, "labels": arrays["labels"][::-1]})
    with pytest.raises(BadInput, match="class indices from 0 to 2"):
        select("craig", frame, budget=5, seed=0, arrays={**arrays, "labels": arrays["labels"] + 1})
