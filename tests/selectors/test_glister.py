import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def made(n=40, m=15, classes=3, dimensions=4, seed=0):
    rng = np.random.default_rng(seed)

    def part(count):
        logits = rng.normal(size=(count, classes)) * 2
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return probs, rng.integers(0, classes, count), rng.normal(size=(count, dimensions))

    names = ("probs_last", "labels", "embedding")
    arrays = dict(zip(names, part(n), strict=True))
    arrays |= dict(zip(("val_probs_last", "val_labels", "val_embedding"), part(m), strict=True))
    frame = pl.DataFrame(
        {"sample_id": [f"s{i:02d}" for i in range(n)], "label": [f"c{y}" for y in arrays["labels"]]}
    )
    return frame, arrays


def with_ones(x):
    return np.hstack([np.ones((len(x), 1)), x])


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def reference(arrays, size, eta, *, refresh=True):
    """Steps of a weight matrix that starts at an arbitrary layer, gradients written out."""
    eye = np.eye(arrays["probs_last"].shape[1])
    g = np.einsum("nk,nd->nkd", arrays["probs_last"] - eye[arrays["labels"]], with_ones(arrays["embedding"]))
    start, moved, chosen = np.log(arrays["val_probs_last"]), np.zeros(g.shape[1:]), []
    while len(chosen) < size:
        now = moved if refresh else 0 * moved
        probs = softmax(start + with_ones(arrays["val_embedding"]) @ now.T)
        error = probs - eye[arrays["val_labels"]]
        gradient = np.einsum("mk,md->kd", error, with_ones(arrays["val_embedding"])) / len(error)
        gains = np.einsum("nkd,kd->n", g, gradient)
        gains[chosen] = -np.inf
        chosen.append(int(gains.argmax()))
        moved = moved - eta * g[chosen[-1]]
    return chosen, moved


def validation_loss(arrays, moved):
    probs = softmax(np.log(arrays["val_probs_last"]) + with_ones(arrays["val_embedding"]) @ moved.T)
    return -np.log(probs[np.arange(len(probs)), arrays["val_labels"]]).mean()


def kept(result):
    return set(np.flatnonzero(result["role"] == "keep"))


@pytest.mark.parametrize("eta", [0.01, 0.3])
def test_is_the_written_out_method(eta):
    for seed in range(4):
        frame, arrays = made(seed=seed)
        result = select("glister", frame, budget=10, seed=0, arrays=arrays, eta=eta)
        assert kept(result) == set(reference(arrays, 10, eta)[0])


def test_the_refresh_changes_later_choices():
    frame, arrays = made(seed=1)
    with_refresh = kept(select("glister", frame, budget=10, seed=0, arrays=arrays, eta=0.3))
    assert with_refresh != set(reference(arrays, 10, 0.3, refresh=False)[0])
    # a budget taken in one go is the ranking by the first validation gradient
    at_once = kept(select("glister", frame, budget=10, seed=0, arrays=arrays, eta=0.3, refresh=10))
    assert at_once == set(reference(arrays, 10, 0.3, refresh=False)[0])


def redundant():
    """Six copies that lower the loss of the larger validation group most, and two samples for the smaller one."""
    labels = np.array([0] * 6 + [1] * 2 + [0] * 4)
    embedding = np.vstack([np.tile([4.0, 0.0], (6, 1)), np.tile([0.0, 3.0], (2, 1)), np.zeros((4, 2))])
    frame = pl.DataFrame({"sample_id": [f"s{i:02d}" for i in range(12)], "label": [f"c{y}" for y in labels]})
    return frame, {
        "probs_last": np.full((12, 2), 0.5), "labels": labels, "embedding": embedding,
        "val_probs_last": np.full((8, 2), 0.5), "val_labels": np.array([0] * 5 + [1] * 3),
        "val_embedding": np.vstack([np.tile([4.0, 0.0], (5, 1)), np.tile([0.0, 3.0], (3, 1))]),
    }  # fmt: skip


def test_the_refresh_sees_redundancy_and_beats_the_ranking_without_it():
    frame, arrays = redundant()
    ours = kept(select("glister", frame, budget=3, seed=0, arrays=arrays, eta=0.3))
    ranking, without = reference(arrays, 3, 0.3, refresh=False)
    assert set(ranking) == {0, 1, 2}
    assert ours & {6, 7}
    assert ours == set(reference(arrays, 3, 0.3)[0])
    _, moved = reference(arrays, 3, 0.3)
    assert validation_loss(arrays, moved) < validation_loss(arrays, without) - 0.05


def test_the_first_choice_is_the_step_that_lowers_the_loss_most():
    frame, arrays = made(seed=5)
    (first,) = kept(select("glister", frame, budget=1, seed=0, arrays=arrays))
    eye = np.eye(3)
    g = np.einsum("nk,nd->nkd", arrays["probs_last"] - eye[arrays["labels"]], with_ones(arrays["embedding"]))
    losses = [validation_loss(arrays, -1e-4 * one) for one in g]
    assert first == int(np.argmin(losses))
    assert losses[first] < validation_loss(arrays, 0 * g[0])


def test_wrong_labels_of_validation_turn_the_choice_around():
    frame, arrays = redundant()
    flipped = {**arrays, "val_labels": 1 - arrays["val_labels"]}
    assert not kept(select("glister", frame, budget=3, seed=0, arrays=flipped, eta=0.3)) & set(range(6))


def test_quotas_of_classes_are_exact():
    frame, arrays = made(seed=2)
    result = select("glister", frame, budget=9, seed=0, arrays=arrays, per_class=True, quota="equal")
    labels = frame.filter(result["role"] == "keep")["label"].value_counts()
    assert sorted(labels["count"]) == [3, 3, 3]
    at_once = select(
        "glister", frame, budget=9, seed=0, arrays=arrays, per_class=True, quota="equal", refresh=9
    )
    assert sorted(frame.filter(at_once["role"] == "keep")["label"].value_counts()["count"]) == [3, 3, 3]


def test_what_does_not_fit_together_is_refused():
    frame, arrays = made()
    with pytest.raises(BadInput, match="4 dimensions, validation samples 2"):
        select("glister", frame, budget=5, seed=0, arrays={**arrays, "val_embedding": np.zeros((15, 2))})
    with pytest.raises(BadInput, match="val_probs_last holds rows that are no probabilities"):
        select("glister", frame, budget=5, seed=0, arrays={**arrays, "val_probs_last": np.ones((15, 3))})
    none = {
        "val_probs_last": np.zeros((0, 3)),
        "val_labels": np.zeros(0, int),
        "val_embedding": np.zeros((0, 4)),
    }
    with pytest.raises(BadInput, match="no validation samples"):
        select("glister", frame, budget=5, seed=0, arrays={**arrays, **none})
    with pytest.raises(BadInput, match="refresh"):
        select("glister", frame, budget=5, seed=0, arrays=arrays, refresh=0)
