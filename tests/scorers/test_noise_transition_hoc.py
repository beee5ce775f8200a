from itertools import pairwise

import numpy as np
import pytest
import torch

from tracesift.catalog.files import canonical_json
from tracesift.scorers.contract import diagnose
from tracesift.scorers.noise.neighbors import noise_transition_hoc as module
from tracesift.scorers.noise.neighbors.noise_transition_hoc import NUMBERS, noise_transition_hoc


def planted(labels, true):
    """The transition matrix that was realised."""
    classes = true.max() + 1
    counts = np.array([[((true == a) & (labels == b)).sum() for b in range(classes)] for a in range(classes)])
    return counts / counts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("kind", "rate"), [("symmetric", 0.2), ("symmetric", 0.4), ("pair", 0.2), ("pair", 0.4)]
)
def test_a_planted_transition_is_recovered(clusters, kind, rate):
    x, labels, true = clusters(samples=4000, rate=rate, kind=kind)
    found = noise_transition_hoc(x, labels)
    assert found["reading"].startswith("about")
    assert found["rate"] == pytest.approx((labels != true).mean(), abs=0.03)
    np.testing.assert_allclose(found["transition"], planted(labels, true), atol=0.06)
    np.testing.assert_allclose(found["prior"], np.bincount(true) / 4000, atol=0.04)
    assert found["clusterability"] > 0.9
    assert found["agreement"] == pytest.approx(found["expected_agreement"], abs=0.02)


def test_clean_labels_and_uneven_classes(clusters):
    x, labels, _ = clusters(samples=1500, rate=0.0)
    kept = (labels > 0) | (np.arange(1500) % 5 == 0)
    found = noise_transition_hoc(x[kept], labels[kept])
    assert found["rate"] < 0.01
    assert found["clusterability"] == 1
    np.testing.assert_allclose(found["prior"], np.bincount(labels[kept]) / kept.sum(), atol=0.01)


def test_counts_by_hand():
    angles = np.array([0.0, 0.1, 0.3, 2.0, 2.1, 2.3])  # nearest and second: 1 2, 0 2, 1 0, 4 5, 3 5, 4 3
    x, labels = np.column_stack([np.cos(angles), np.sin(angles)]), np.array([0, 0, 1, 1, 1, 0])
    triples = module._triples(x, labels, np.arange(6), rounds=1, draw=6, seed=0)
    expected = np.zeros((2, 2, 2))
    for cell in [(0, 0, 1), (0, 0, 1), (1, 0, 0), (1, 1, 0), (1, 1, 0), (0, 1, 1)]:
        expected[cell] += 1 / 6
    np.testing.assert_allclose(triples, expected)


def test_the_distance_against_sums_by_hand():
    rng = np.random.default_rng(0)
    transition, prior, triples = (
        rng.dirichlet(np.ones(3), 3),
        rng.dirichlet(np.ones(3)),
        rng.dirichlet(np.ones(27)),
    )
    triples = triples.reshape(3, 3, 3)
    seen = [torch.from_numpy(t) for t in (triples.sum(axis=(1, 2)), triples.sum(axis=2), triples)]
    found = module._distance(tuple(seen), torch.from_numpy(transition), torch.from_numpy(prior)).item()
    total = 0.0
    for order in (1, 2, 3):
        square = 0.0
        for cell in np.ndindex(*[3] * order):
            predicted = sum(prior[a] * np.prod([transition[a, c] for c in cell]) for a in range(3))
            square += (seen[order - 1][cell].item() - predicted) ** 2
        total += square**0.5
    assert found == pytest.approx(total, rel=1e-12)


def test_the_best_step_is_kept_and_not_the_last(clusters, monkeypatch):
    """At a rate where the steps overshoot, more of them can only find a better one."""
    x, labels, _ = clusters(samples=300)
    triples = module._triples(x, labels, np.arange(300), rounds=1, draw=300, seed=0)
    observed = torch.from_numpy(triples)
    seen = observed.sum(dim=(1, 2)), observed.sum(dim=2), observed
    monkeypatch.setattr(module, "RATE", 3.0)
    reached = []
    for steps in range(8, 60, 3):
        monkeypatch.setattr(module, "STEPS", steps)
        found = module._solved(triples, seed=0)
        reached.append(module._distance(seen, *(torch.from_numpy(one) for one in found)).item())
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(reached))
    assert reached[-1] < reached[0]


def test_neighbours_of_other_classes_are_reported(clusters):
    x, labels, _ = clusters(samples=3000, rate=0.1, spread=3.5)
    found = noise_transition_hoc(x, labels)
    assert found["clusterability"] < 0.8
    assert found["reading"].startswith("cannot tell: only")
    assert found["rate"] > 0.3  # what it would have said, three times too much
    unrelated = noise_transition_hoc(np.random.default_rng(1).normal(size=x.shape), labels)
    assert unrelated["reading"].startswith("cannot tell")


def test_copies_make_noise_look_rarer(clusters):
    x, labels, _ = clusters(samples=1000, rate=0.3)
    twice = np.repeat(np.arange(1000), 3)
    found = noise_transition_hoc(x[twice], labels[twice])  # each sample's neighbours are its copies
    assert found["rate"] < 0.02 < 0.25 < noise_transition_hoc(x, labels)["rate"]


def test_the_same_seed_gives_the_same_findings_whatever_the_threads(clusters):
    x, labels, _ = clusters(samples=500)
    settings = {"rounds": 3, "draw": 200}
    first = canonical_json(noise_transition_hoc(x, labels, **settings))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    torch.manual_seed(5)
    np.random.seed(5)
    try:
        assert canonical_json(noise_transition_hoc(x, labels, **settings)) == first
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert canonical_json(noise_transition_hoc(x, labels, seed=1, **settings)) != first


def test_draws_agree_with_the_whole(clusters):
    x, labels, _ = clusters(samples=2000)
    whole = noise_transition_hoc(x, labels)
    drawn = noise_transition_hoc(x, labels, rounds=8, draw=1500)
    np.testing.assert_allclose(drawn["transition"], whole["transition"], atol=0.05)


def test_what_cannot_be_told():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(202, 4))
    cases = {"2 samples": np.array([0, 1]), "all labels are the same": np.zeros(30, dtype=int)}
    for words, labels in {**cases, "101 classes": np.arange(202) % 101}.items():
        found = diagnose("noise_transition_hoc", {"embedding": x[: len(labels)], "labels": labels})
        assert words in found["reading"]
        assert {found[name] for name in NUMBERS} == {None}
    x[3:] = np.nan
    assert noise_transition_hoc(x, np.arange(202) % 2, rounds=1)["rate"] is not None
    assert noise_transition_hoc(x[1:], np.arange(201) % 2)["rate"] is None


def test_where_another_label_is_the_rule_nothing_is_told(clusters):
    x, labels, _ = clusters(samples=2000, rate=0.75, kind="pair", classes=3)
    found = noise_transition_hoc(x, labels)
    assert found["rate"] < 0.4  # permuted: the true rate is 0.75
    fewer = module._reading(0.6, 1.0, 0.0, np.array([[0.4, 0.6], [0.1, 0.9]]), np.array([0.5, 0.5]))
    assert fewer.startswith("cannot tell: class 0 would carry another label")
