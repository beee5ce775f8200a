"""Windows of ranks, kept as data_diet does or removed as Toneva et al. do."""

import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select


@pytest.fixture
def ten():
    return pl.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(10)],
            "label": ["x"] * 8 + ["y"] * 2,
            "el2n": [i / 10 for i in range(10)],
        }
    )


def kept(frame, budget, **params):
    result = select("offset_window", frame, budget=budget, seed=0, **params)
    return [int(name[1:]) for name in result.filter(pl.col("role") == "keep")["sample_id"]]


def test_the_window_of_data_diet(ten):
    # ascending order, ranks [offset, offset + size)
    assert kept(ten, 3, offset=5) == [5, 6, 7]
    assert kept(ten, 0.3, offset=0.5) == [5, 6, 7]
    assert kept(ten, 3) == [0, 1, 2]


def test_the_removal_window_of_toneva(ten):
    # keep_lowest_n = 2, remove_n = 4: positions 2 to 5 of the ascending order go
    assert kept(ten, 6, offset=2, window="remove") == [0, 1, 6, 7, 8, 9]
    assert kept(ten, 6, window="remove") == [4, 5, 6, 7, 8, 9]


def test_windows_inside_classes(ten):
    # x has 8 samples: one skipped, four kept; y has 2: none skipped, one kept
    assert kept(ten, 5, offset=1, per_class=True) == [1, 2, 3, 4, 8]


def test_a_removal_empties_no_class(ten):
    left = kept(ten, 2, window="remove", per_class=True)
    assert left == [7, 9]


def test_what_does_not_fit_is_refused(ten):
    for params in ({"offset": 8}, {"offset": 0.8}):
        with pytest.raises(BadInput, match="exceed 10 samples"):
            kept(ten, 3, **params)
    for offset in (-1, 10, 1.0, -0.5, float("nan")):
        with pytest.raises(BadInput, match="offset"):
            kept(ten, 3, offset=offset)
    with pytest.raises(BadInput, match=r"window='.*' must be"):
        kept(ten, 3, window="drop")


def test_samples_without_a_value_have_no_rank(ten):
    holes = ten.with_columns(pl.when(pl.col("sample_id") != "s4").then("el2n"))
    assert kept(holes, 3, offset=3, nulls="drop") == [3, 5, 6]
    with pytest.raises(BadInput, match="has no rank"):
        kept(holes, 3, nulls="keep")
    with pytest.raises(BadInput, match="has no rank"):
        kept(holes, 3, nulls="drop", window="remove")


def test_the_reason_says_what_the_window_does(ten):
    result = select("offset_window", ten, budget=6, seed=0, offset=2, window="remove")
    assert result["reason"][2] == "el2n=0.2: rank 3 of 10, lowest first; removed are ranks 3 to 6"
    assert result["weight"][2] == 0
