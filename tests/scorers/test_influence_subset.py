"""Influence by subset training: against a loop, at the edges, whatever the blocks, and a duplicate planted in train."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput, MissingSignal, UnknownName
from tracesift.scorers.influence.edges import contract
from tracesift.scorers.influence.edges.contract import compute_edges, find, meant, names
from tracesift.scorers.influence.edges.influence_subset import influence_subset


def made_up(n=40, m=30, models=25, seed=0):
    chance = np.random.default_rng(seed)
    trained, correct = chance.random((n, models)) < 0.7, chance.random((m, models)) < 0.6
    return trained, correct, chance.random((m, models)).astype(np.float32)


def dense(trained, values, half):
    """The whole matrix and its standard errors, pair by pair, with a 0 and a 1 that count `half` more on each side."""
    effect, error = np.full((len(trained), len(values)), np.nan), np.full((len(trained), len(values)), np.nan)
    for i, seen in enumerate(trained):
        if seen.any() and not seen.all():
            for j, value in enumerate(values.astype(np.float64)):
                inside, outside = value[seen], value[~seen]
                effect[i, j] = inside.mean() - outside.mean()
                error[i, j] = np.sqrt(
                    sum(variance(side, half) / (len(side) + 2 * half) for side in (inside, outside))
                )
    return effect, error


def variance(values, half):
    weights = [1.0] * len(values) + [half, half]
    return np.cov([*values, 0, 1], aweights=weights, ddof=0)


def check(found, effect, error, k):
    by = found.origins
    check_lists(
        ((found.helped, found.help, found.help_error, 1), (found.harmed, found.harm, found.harm_error, -1)),
        effect,
        error,
        k,
    )
    check_lists(
        ((by.helping, by.help, by.help_error, 1), (by.harming, by.harm, by.harm_error, -1)),
        effect.T,
        error.T,
        k,
    )


def check_lists(lists, effect, error, k):
    for i, values in enumerate(effect):
        for partners, kept, errors, sign in lists:
            strong = np.where(
                np.isnan(values), 0, sign * np.round(values, 12)
            )  # what is equal by hand is equal here
            order = [j for j in np.argsort(-strong, kind="stable") if strong[j] > 0][:k]
            count = len(order)
            assert (partners[i, count:] == -1).all()
            assert np.isnan(kept[i, count:]).all()
            assert np.isnan(errors[i, count:]).all()
            np.testing.assert_allclose(kept[i, :count], values[order], rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(errors[i, :count], error[i, partners[i, :count]], rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(values[partners[i, :count]], values[order], rtol=1e-6, atol=1e-8)


def test_hand_worked():
    seen = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], dtype=bool)
    right = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=bool)
    found = influence_subset(seen, right, right * 1.0, k=2)
    assert found.helped.tolist() == [[3, 0], [-1, -1], [-1, -1]]
    assert found.origins.helping.tolist() == [[0, -1], [-1, -1], [-1, -1], [0, -1]]
    assert found.origins.harming.tolist() == [[-1, -1], [0, -1], [-1, -1], [-1, -1]]
    np.testing.assert_allclose(found.origins.help[:, 0], [2 / 3, np.nan, np.nan, 1.0])
    assert found.harmed.tolist() == [[1, -1], [-1, -1], [-1, -1]]
    np.testing.assert_allclose(found.help[0], [1.0, 2 / 3])
    np.testing.assert_allclose(found.harm[0], [-0.5, np.nan])
    # sqrt(a (1 - a) / 4 + b (1 - b) / 3), with half a right and half a wrong model more: a = 3.5/4, b = 0.5/3; then
    # a = 2.5/4, b = 0.5/3; and a = 0.5/4, b = 1.5/3
    expected = [np.sqrt(7 / 256 + 5 / 108), np.sqrt(15 / 256 + 5 / 108)]
    np.testing.assert_allclose(found.help_error[0], expected)
    np.testing.assert_allclose(found.harm_error[0, 0], np.sqrt(7 / 256 + 1 / 12))
    for nobody in (found.help[1:], found.harm[1:], found.help_error[1:], found.harm_error[1:]):
        assert np.isnan(nobody).all()


@pytest.mark.parametrize("of", ["correct", "prob_label", "margin"])
@pytest.mark.parametrize(("n", "m", "k"), [(40, 30, 4), (3, 2500, 7), (30, 1, 3), (5, 4, 10)])
def test_against_the_whole_matrix(n, m, k, of):
    trained, correct, prob = made_up(n, m)
    found = influence_subset(trained, correct, prob, k=k, of=of)
    p = prob.astype(np.float64)
    values = {"correct": correct, "prob_label": prob, "margin": np.log(p / (1 - p))}[of]
    check(found, *dense(trained, values, 0.5 if of == "correct" else 0.0), k)


def test_equal_partners_come_by_their_row():
    trained, correct, prob = made_up(20, 4)
    found = influence_subset(trained, np.repeat(correct[:1], 6, 0), np.repeat(prob[:1], 6, 0), k=3)
    assert {tuple(row) for row in np.r_[found.helped, found.harmed]} == {(0, 1, 2), (-1, -1, -1)}


@pytest.mark.parametrize("of", ["correct", "prob_label", "margin"])
def test_same_bytes_whatever_the_blocks_the_threads_and_the_order(of, monkeypatch):
    trained, correct, prob = made_up(333, 2300, 40)
    given = {"subset_trained": trained, "val_subset_correct": correct, "val_subset_prob_label": prob}
    found = influence_subset(trained, correct, prob, k=5, of=of)
    order = np.random.default_rng(1).permutation(333)
    monkeypatch.setattr(contract, "PART", 100)
    told = []
    in_parts = compute_edges(
        "influence_subset", given, {"k": 5, "of": of}, progress=lambda *done: told.append(done)
    )
    assert told == [(100, 333), (200, 333), (300, 333), (333, 333)]
    others = [in_parts] + [
        influence_subset(trained, correct, prob, k=5, of=of, rows=rows, threads=threads)
        for rows, threads in ((1, 1), (10, 3), (5000, 2))
    ]
    moved = influence_subset(trained[order], correct, prob, k=5, of=of, rows=17)
    for name in ("helping", "help", "harming", "harm", "help_error", "harm_error"):
        expected = getattr(found.origins, name)
        assert all(getattr(other.origins, name).tobytes() == expected.tobytes() for other in others)
    assert (moved.origins.helping >= 0).tobytes() == (found.origins.helping >= 0).tobytes()
    assert moved.origins.help.tobytes() == found.origins.help.tobytes()
    for name in ("helped", "help", "harmed", "harm", "help_error", "harm_error"):
        expected = getattr(found, name)
        assert all(getattr(other, name).tobytes() == expected.tobytes() for other in others)
        assert getattr(moved, name).tobytes() == expected[order].tobytes()


def test_the_order_of_the_models_leaves_no_trace_in_the_values():
    trained, correct, prob = made_up(50, 60, 30)
    order = np.random.default_rng(1).permutation(30)
    found = influence_subset(trained, correct, prob, of="prob_label")
    moved = influence_subset(trained[:, order], correct[:, order], prob[:, order], of="prob_label")
    assert moved.help.tobytes() == found.help.tobytes()
    assert moved.helped.tobytes() == found.helped.tobytes()


def test_a_missing_answer_has_no_edges():
    trained, correct, prob = made_up(20, 10)
    prob[4, 3] = np.nan
    found = influence_subset(trained, correct, prob, k=10, of="prob_label")
    assert not ((found.helped == 4) | (found.harmed == 4)).any()
    assert (found.origins.helping[4] == -1).all()
    assert np.isnan(found.origins.help_error[4]).all()
    rest = np.delete(np.arange(10), 4)
    less = influence_subset(trained, correct[rest], prob[rest], k=10, of="prob_label")
    np.testing.assert_array_equal(found.help, less.help)
    np.testing.assert_array_equal(found.help_error, less.help_error)


def test_a_copy_in_train_of_an_odd_validation_sample_has_the_strongest_edge():
    """A validation sample with a label that nothing else explains: only who trained on its copy knows it."""
    chance = np.random.default_rng(0)
    centres = np.array([[0, 0], [6, 0], [0, 6]])
    labels = chance.integers(0, 3, 160)
    x = centres[labels] + chance.normal(size=(160, 2))
    train, val = np.arange(120), np.arange(120, 160)
    labels[130] = (labels[130] + 1) % 3
    x[7], labels[7] = x[130], labels[130]
    trained = np.stack([chance.permutation(120) < 84 for _ in range(60)], axis=1)
    correct, prob = np.empty((40, 60), dtype=bool), np.empty((40, 60), dtype=np.float32)
    for r in range(60):
        shown = train[trained[:, r]]
        nearest = ((x[val][:, None] - x[shown][None]) ** 2).sum(axis=2).argmin(axis=1)
        correct[:, r] = labels[shown][nearest] == labels[val]
        prob[:, r] = correct[:, r]
    found = influence_subset(trained, correct, prob, k=5)
    assert found.helped[7, 0] == 10
    assert found.help[7, 0] == 1.0
    assert np.nanargmax(found.help[:, 0]) == 7


def test_refusals():
    trained, correct, prob = made_up(4, 3)
    for wrong in ({"k": 0}, {"rows": 0}):
        with pytest.raises(BadInput, match="at least 1"):
            influence_subset(trained, correct, prob, **wrong)
    with pytest.raises(BadInput, match="prob_label"):
        influence_subset(trained, correct, prob, of="loss")


def test_methods_are_found_by_their_files():
    assert {"influence_subset", "last_layer"} <= set(names())
    assert find("last_layer").inputs[0] == "probs_last"
    assert meant("influence_subset", {"of": "prob_label"}) == {"k": 10, "of": "prob_label"}
    with pytest.raises(UnknownName, match="did you mean 'last_layer'"):
        find("last_layers")
    with pytest.raises(UnknownName, match="no setting 'off'"):
        meant("influence_subset", {"off": "x"})


def test_a_missing_signal_is_named_with_what_makes_it():
    with pytest.raises(MissingSignal, match="record --job subset_training"):
        compute_edges("influence_subset", {"subset_trained": np.ones((2, 3), dtype=bool)})


def test_the_last_layer_is_the_same_in_parts(monkeypatch):
    chance = np.random.default_rng(0)
    sides = {
        f"{side}{name}": value
        for side, n in (("", 50), ("val_", 20))
        for name, value in {
            "probs_last": chance.dirichlet(np.ones(3), n), "labels": chance.integers(0, 3, n),
            "embedding": chance.normal(size=(n, 4)),
        }.items()
    }  # fmt: skip
    whole = compute_edges("last_layer", sides, {"k": 3})
    assert whole.help_error is None
    monkeypatch.setattr(contract, "PART", 7)
    parts = compute_edges("last_layer", sides, {"k": 3})
    assert parts.help.tobytes() == whole.help.tobytes()
    assert parts.harmed.tobytes() == whole.harmed.tobytes()
    assert parts.origins.help.tobytes() == whole.origins.help.tobytes()
    assert parts.origins.harming.tobytes() == whole.origins.harming.tobytes()
