import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


def test_it_is_beta_sampling_or_the_highest_scores(frame):
    for seed in (0, 1):
        drawn = select("dual", frame, budget=0.2, seed=seed)
        assert drawn.equals(select("beta_sampling", frame, budget=0.2, seed=seed))
    other = select("dual", frame, budget=0.2, seed=0, c_d=9.0)
    assert not other["role"].equals(select("dual", frame, budget=0.2, seed=0)["role"])
    for seed in (0, 1):
        top = select("dual", frame.drop("cartography_confidence"), budget=0.2, seed=seed, sampling="top")
        assert top.equals(select("top_k", frame, budget=0.2, seed=0, score="dual"))


def test_what_it_refuses(frame):
    with pytest.raises(BadInput, match="'beta' or 'top'"):
        select("dual", frame, budget=5, seed=0, sampling="best")
    with pytest.raises(BadInput, match="cartography_confidence"):
        select("dual", frame.drop("cartography_confidence"), budget=5, seed=0)
