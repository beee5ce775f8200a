"""Labels as text: one label per row, none missing, the same class under one spelling in every split."""

from __future__ import annotations

import re

import polars as pl

from tracesift.catalog.schema import SPLITS, BadInput
from tracesift.pipelines.identity import canonical_column
from tracesift.pipelines.sources.columns import infer

MANY_NUMBERS = 20
"""A label with more distinct broken numbers than this is a quantity to predict, not a class."""


def of_objects(name: str) -> str:
    """Say of a label column that its values are objects, and what to do."""
    return (
        f"label column '{name}' holds objects of several fields, where a label is one value; make the field that "
        "names the class a column of its own, and give that (--label)"
    )


def read_labels(values: pl.Series, where: str) -> pl.Series:
    """Return the labels of a column as text: 1, 1.0 and "1" are "1"; "01" stays; true counts in any case."""
    name = values.name
    if isinstance(values.dtype, pl.Struct):
        raise BadInput(f"{where}: {of_objects(name)}")
    if values.dtype.is_nested():
        raise BadInput(
            f"{where}: label column '{name}' holds {values.dtype} values: multi-label data are not "
            "supported; give a column with one label per row (--label)"
        )
    if values.dtype in (pl.Binary, pl.Object):
        raise BadInput(f"{where}: label column '{name}' holds {values.dtype} values; make them text")
    typed = infer(values.cast(pl.String) if values.dtype in (pl.Categorical, pl.Enum) else values)
    if typed.dtype == pl.Null:
        raise BadInput(f"{where}: label column '{name}' is empty in every row")
    text = canonical_column(typed) if typed.dtype != pl.String else _without_nan(typed)
    missing = text.is_null().arg_true()
    if len(missing):
        rows = ", ".join(str(row + 1) for row in missing.head(5))
        raise BadInput(
            f"{where}: label column '{name}' is missing or NaN in {len(missing)} row{'s' * (len(missing) > 1)} "
            f"(first: {rows}, counted from 1); drop these rows or label them"
        )
    if typed.dtype.is_float():
        broken = text.filter(text.str.contains(r"[.e]")).n_unique()
        if broken > min(MANY_NUMBERS, max(2, len(text) // 2)):
            raise BadInput(
                f"{where}: label column '{name}' holds {broken} different fractional numbers, which is "
                "regression; give a column of classes (--label), or --label no-labels to record the losses of a model "
                "of your own"
            )
    distinct = text.n_unique()
    if len(text) >= MANY_NUMBERS and distinct > 0.9 * len(text):
        raise BadInput(
            f"{where}: label column '{name}' holds {distinct} different values in {len(text)} rows, like an "
            "id; give a column of classes (--label)"
        )
    return text.alias("label")


def _without_nan(text: pl.Series) -> pl.Series:
    """Take NaN as missing, as everywhere else: what str(nan) left in a text file names no class."""
    missing = text.is_in(["", "NaN", "nan", "NAN"])
    return text.to_frame().select(pl.when(~missing).then(pl.col(text.name)).alias(text.name)).to_series()


def plain_label(label: str) -> str:
    """Return a label without blanks around it and without one trailing punctuation mark.

    Examples
    --------
    >>> plain_label(" <=50K."), plain_label("?")
    ('<=50K', '?')
    """
    stripped = label.strip()
    return re.sub(r"\s*[.,;:!?]$", "", stripped) or stripped


def clean(labels: pl.Series) -> pl.Series:
    """Return labels with `plain_label` applied to each."""
    names = labels.drop_nulls().unique().to_list()
    return labels.replace_strict(
        names, [plain_label(name) for name in names], default=None, return_dtype=pl.String
    )


def check_spelling(labels: pl.Series, split: pl.Series) -> list[str]:
    """Refuse splits whose labels differ only by blanks or a trailing mark; note the same within one split."""
    names = [name for name in SPLITS if (split == name).any()]
    sets = {name: set(labels.filter(split == name).unique().to_list()) for name in names}
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            only_first = {plain_label(label) for label in sets[first] - sets[second]}
            only_second = {plain_label(label) for label in sets[second] - sets[first]}
            if only_first & only_second:
                raise BadInput(
                    f"labels differ between splits only by blanks or a trailing mark: {first} has "
                    f"{_shown(sets[first])}, {second} has {_shown(sets[second])}; "
                    "give clean_labels=True (--clean-labels) to strip both"
                )
    spelled: dict[str, list[str]] = {}
    for label in sorted(set().union(*sets.values())):
        spelled.setdefault(plain_label(label), []).append(label)
    doubled = [same for same in spelled.values() if len(same) > 1]
    return [
        f"labels {_shown(set(same))} differ only by blanks or a mark; clean_labels=True (--clean-labels) joins them."
        for same in doubled
    ]


def _shown(labels: set[str]) -> str:
    ordered = sorted(labels)
    return "{" + ", ".join(repr(label) for label in ordered[:6]) + (", ...}" if len(ordered) > 6 else "}")


def natural_order(labels: pl.Series) -> tuple[str, ...]:
    """Return the class names: by value where all are numbers, else with digits inside names by value."""
    names = labels.unique().to_list()
    try:
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    except ValueError:
        return tuple(sorted(names, key=_natural_key))


def _natural_key(name: str) -> tuple[list[tuple[int, int | str]], str]:
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part)) if at % 2 else (1, part) for at, part in enumerate(parts)], name
