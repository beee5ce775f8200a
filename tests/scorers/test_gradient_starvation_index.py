import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import diagnose
from tracesift.scorers.influence.gradient_starvation_index import gradient_starvation_index


def by_singular_values(x):
    values = np.linalg.svd(x, compute_uv=False)
    shares = values / values.sum()
    shares = shares[shares > 1e-9]
    return np.exp(-np.sum(shares * np.log(shares))), shares.max()


def test_hand_worked():
    x = np.array([[3.0, 0], [0, 1], [0, 0]])
    found = gradient_starvation_index(x, np.array([0, 0, 1]))
    assert found["top_share"] == 0.75
    assert found["effective_rank"] == pytest.approx(
        np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)), abs=1e-6
    )
    assert found["classes"][0]["samples"] == 2
    assert found["classes"][1] == {"class": 1, "samples": 1, "effective_rank": None, "top_share": None}


def test_against_singular_values():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(90, 8)) * np.arange(1, 9) + 1, np.arange(90) % 3
    found = gradient_starvation_index(x, labels)
    for part, rows in ((found, np.full(90, True)), *((found["classes"][c], labels == c) for c in range(3))):
        rank, share = by_singular_values(x[rows])
        assert part["effective_rank"] == pytest.approx(rank, abs=2e-6)
        assert part["top_share"] == pytest.approx(share, abs=2e-6)
    signs = rng.choice([-1, 1], 90)[:, None]
    flipped = gradient_starvation_index(signs * x, labels)  # scaled by labels of two classes, as in the paper
    assert flipped["effective_rank"] == pytest.approx(found["effective_rank"], abs=2e-6)


def test_a_network_of_one_feature_is_told_from_one_of_many():
    rng = np.random.default_rng(1)
    labels = np.arange(200) % 2
    many = rng.normal(size=(200, 10))
    starved = many * 0.02
    starved[:, 0] += 2 * labels - 1
    rich, poor = (
        diagnose("gradient_starvation_index", {"embedding": x, "labels": labels}) for x in (many, starved)
    )
    assert poor["effective_rank"] < 0.5 * rich["effective_rank"]
    assert poor["top_share"] > 0.8 > 0.2 > rich["top_share"]
    assert "10 directions" in poor["reading"]


def test_more_dimensions_than_samples_and_missing_rows():
    x = np.zeros((5, 40))
    x[np.arange(4), np.arange(4)] = 2
    x[4] = np.nan
    found = gradient_starvation_index(x, np.zeros(5, dtype=int))
    assert (found["samples"], found["effective_rank"], found["top_share"]) == (4, 4, 0.25)


def test_nothing_to_read():
    for x in (np.zeros((3, 2)), np.zeros((0, 2)), np.full((2, 2), np.nan)):
        found = gradient_starvation_index(x, np.zeros(len(x), dtype=int))
        assert found["effective_rank"] is None
        assert "no spectrum" in found["reading"]
    with pytest.raises(BadInput, match="no dimensions"):
        gradient_starvation_index(np.zeros((3, 0)), np.zeros(3, dtype=int))
