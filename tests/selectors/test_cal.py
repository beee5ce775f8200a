import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.geometry import cal as scorer
from tracesift.selectors.contract import select


def kept(frame, budget, **params):
    result = select("cal", frame, budget=budget, seed=0, **params)
    return result.filter(pl.col("role") == "keep")["sample_id"].to_list()


def test_the_highest_as_in_the_paper_or_the_lowest_as_in_deepcore():
    frame = pl.DataFrame({"sample_id": list("abcd"), "label": list("xxyy"), "cal": [0.4, 0.1, 0.3, 0.2]})
    assert kept(frame, 2) == ["a", "c"]
    assert kept(frame, 2, side="lowest") == ["b", "d"]
    assert kept(frame, 2, per_class=True) == ["a", "c"]
    assert set(kept(frame, 1)) | set(kept(frame, 3, side="lowest")) == set("abcd")
    with pytest.raises(BadInput, match="'highest' or 'lowest'"):
        kept(frame, 1, side="top")


def test_samples_on_the_border_are_kept():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, size=(300, 2))
    p = 1 / (1 + np.exp(-8 * x[:, 0]))
    ids = [f"s{i:03d}" for i in range(300)]
    score = scorer.cal(x, np.stack([p, 1 - p], axis=1))
    frame = pl.DataFrame({"sample_id": ids, "label": np.where(p > 0.5, "u", "d"), "cal": score})

    def apart(side):
        return np.mean([abs(x[int(name[1:]), 0]) for name in kept(frame, 30, side=side)])

    assert apart("highest") < 0.4
    assert apart("lowest") > 1.5
