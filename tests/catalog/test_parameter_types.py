"""What fits an annotation, what does not, and how a refusal reads."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.parameter_types import checked_params, settings_of
from tracesift.catalog.schema import BadInput, UnknownName


def pick(
    *,
    count: int = 1,
    share: float = 0.5,
    fair: bool = True,
    score: str = "el2n",
    order: Literal["hard", "easy"] = "hard",
    limit: float | Literal["auto"] | None = None,
    ids: Sequence[str] | None = None,
    rows: str | Sequence[int] = "all",
): ...


@pytest.mark.parametrize(
    ("key", "value", "plain"),
    [
        ("count", np.int32(3), 3),
        ("share", 1, 1),
        ("share", np.float32(0.5), 0.5),
        ("share", np.int64(2), 2),
        ("fair", np.bool_(False), False),
        ("score", np.str_("aum"), "aum"),
        ("order", np.str_("easy"), "easy"),
        ("limit", "auto", "auto"),
        ("limit", None, None),
        ("limit", 0, 0),
        ("ids", ("a", "b"), ("a", "b")),
        ("ids", np.array(["a", "b"]), ["a", "b"]),
        ("ids", pl.Series(["a"]), ["a"]),
        ("rows", np.array([3, 4]), [3, 4]),
        ("rows", "all", "all"),
        ("unheard", object, object),
    ],
)
def test_what_fits_comes_back_as_plain_python(key, value, plain):
    found = checked_params("pick", pick, {key: value})[key]
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("count", 2.0, "pick: count=2.0 must be a whole number"),
        ("count", np.float64(2.5), "pick: count=2.5 must be a whole number"),
        ("count", True, "pick: count=True must be a whole number"),
        ("count", None, "pick: count=None must be a whole number"),
        ("share", "x", "pick: share='x' must be a number"),
        ("share", True, "pick: share=True must be a number"),
        ("fair", 1, "pick: fair=1 must be true or false"),
        ("fair", "no", "pick: fair='no' must be true or false"),
        ("score", 3, "pick: score=3 must be a text"),
        ("order", "hrad", "pick: order='hrad' must be 'hard' or 'easy' (did you mean 'hard'?)"),
        ("order", ["hard"], "pick: order=['hard'] must be 'hard' or 'easy'"),
        ("limit", "never", "pick: limit='never' must be a number, 'auto' or None (null)"),
        ("ids", "a", """pick: ids='a' must be a list of texts, such as ["a", "b"] or None (null)"""),
        (
            "ids",
            ["a", 3],
            """pick: ids=['a', 3] must be a list of texts, such as ["a", "b"] or None (null)""",
        ),
        (
            "rows",
            [0.5],
            "pick: rows=[0.5] must be a text or a list of whole numbers, such as [0, 7]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(key, value, said):
    with pytest.raises(BadInput) as error:
        checked_params("pick", pick, {key: value})
    assert str(error.value) == said


def test_a_long_value_is_shortened():
    with pytest.raises(BadInput) as error:
        checked_params("pick", pick, {"count": np.zeros((50, 50))})
    assert len(str(error.value)) < 100
    assert "\n" not in str(error.value)


def test_a_setting_that_there_is_not_is_refused_with_those_there_are():
    def pick(*, strata: int = 50): ...

    assert settings_of("pick", pick, {"strata": 50}, {}) == {"strata": 50}
    with pytest.raises(UnknownName, match=r"pick has no setting 'strat'.*did you mean 'strata'"):
        settings_of("pick", pick, {"strata": 50}, {"strat": 1})
    with pytest.raises(UnknownName, match="has no setting 'beta'; it has strata"):
        settings_of("pick", pick, {"strata": 50}, {"beta": 1})
    with pytest.raises(UnknownName, match="it has none"):
        settings_of("pick", pick, {}, {"beta": 1})
    with pytest.raises(BadInput, match="must be a whole number"):
        settings_of("pick", pick, {"strata": 50}, {"strata": "5"})
