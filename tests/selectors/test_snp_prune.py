import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import cdist

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def made(n=80, groups=8, seed=0):
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "sample_id": [f"s{i:03d}" for i in range(n)],
            "label": ["x"] * n,
            "group": [f"g{i % groups}" for i in range(n)],
        }
    )
    return frame, rng.normal(size=(n, 3))


def kept(result):
    return set(np.flatnonzero(result["role"] == "keep"))


def test_one_of_each_drawn_group_then_always_the_farthest():
    frame, x = made()
    result = select("snp_prune", frame, budget=20, seed=3, embedding=x, group="group", groups=5)
    chosen = kept(result)
    drawn = set(frame["group"].gather(sorted(chosen)))
    assert len(drawn) == 5
    outside = ~frame["group"].is_in(list(drawn)).to_numpy()
    assert result.filter(pl.Series(outside))["reason"].str.contains("not among the 5 of 8 drawn").all()
    first = np.flatnonzero(result["reason"].str.contains("always kept"))
    assert sorted(frame["group"].gather(first)) == sorted(drawn)
    # by hand from those first ones, over the drawn groups
    pool, picked = np.flatnonzero(~outside), list(first)
    while len(picked) < 20:
        rest = np.array([i for i in pool if i not in picked])
        picked.append(int(rest[cdist(x[rest], x[picked]).min(axis=1).argmax()]))
    assert chosen == set(picked)


def test_groups_and_first_samples_are_drawn_by_the_seed():
    frame, x = made()
    drawn = {
        frozenset(
            frame["group"].gather(
                sorted(
                    kept(
                        select("snp_prune", frame, budget=4, seed=seed, embedding=x, group="group", groups=4)
                    )
                )
            )
        )
        for seed in range(6)
    }
    assert len(drawn) > 1


def test_all_groups_that_fit_are_drawn_by_default():
    frame, x = made()
    for budget, groups in ((3, 3), (8, 8), (30, 8), (80, 8)):
        chosen = kept(select("snp_prune", frame, budget=budget, seed=0, embedding=x, group="group"))
        assert len(chosen) == budget
        assert frame["group"].gather(sorted(chosen)).n_unique() == groups


def test_planted_spread_is_covered():
    frame, x = made(60, groups=2)
    x[:] *= 0.01
    x[[7, 21, 40, 55]] += np.array([[9.0, 0, 0], [-9, 0, 0], [0, 9, 0], [0, 0, 9]])
    assert {7, 21, 40, 55} <= kept(select("snp_prune", frame, budget=6, seed=0, embedding=x, group="group"))


def test_what_cannot_be_met_is_refused():
    frame, x = made()
    with pytest.raises(BadInput, match="hold 20 samples, 30 are asked for"):
        select("snp_prune", frame, budget=30, seed=0, embedding=x, group="group", groups=2)
    for groups in (0, 9):
        with pytest.raises(BadInput, match="must be 1 to 8"):
            select("snp_prune", frame, budget=30, seed=0, embedding=x, group="group", groups=groups)
    with pytest.raises(BadInput, match="no column 'person'"):
        select("snp_prune", frame, budget=30, seed=0, embedding=x, group="person")
