"""Which samples train, validate and test: as the source says, and the rest cut by a stable hash.

A sample's place depends on its own key alone (its content, its id, or its group), so a source that is
shuffled or grows leaves every sample where it was. The one exception is a class too small to reach a split by
chance: it lends its sample of smallest hash, and the loan ends once the class grows into the split by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.identity import stable_uniform
from tracesift.pipelines.sources.loaded import known_split

SHARE = 0.1
"""Share of train that becomes val, and test, where the source has none."""

SMALLEST_LENDER = 3
"""A class with fewer train samples than this lends none."""


def read_splits(values: pl.Series, where: str) -> pl.Series:
    """Return the split of each row as train, val or test from a column of the source's own names."""
    names = values.cast(pl.String).unique().to_list()
    known = {name: known_split(name) for name in names if name is not None}
    unknown = sorted(name for name, split in known.items() if split is None)
    if None in names or unknown:
        bad = f"'{unknown[0]}'" if unknown else f"{values.null_count()} empty values"
        raise BadInput(
            f"{where}: split column '{values.name}' holds {bad}; train, val and test are known (also "
            "training, valid, validation, dev, testing); rename the values, or the column if it is no split"
        )
    if not known:
        raise BadInput(f"{where}: split column '{values.name}' is empty")
    return (
        values.cast(pl.String)
        .replace_strict(list(known), list(known.values()), return_dtype=pl.String)
        .alias("split")
    )


def parse_share(value: object, option: str) -> float | None:
    """Return a share in [0, 1) from a number or its text; None where `value` names a source instead."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        share = float(value)
    except ValueError:
        return None
    if not 0 <= share < 1:
        raise BadInput(f"{option}={value}: a share is at least 0 and below 1, such as 0.1 (--{option})")
    return share


def cut(
    split: pl.Series,
    labels: pl.Series,
    keys: Sequence[str],
    *,
    val: float | None,
    test: float | None,
    groups: bool = False,
) -> pl.Series:
    """Cut `val` and `test` from train by the stable hash u of each row's key.

    Rows of train with u < val go to val, those with val <= u < val + test to test. Then a class that keeps
    none in train takes back its row of largest u, and one of at least three rows lends its row of smallest u
    to a split where it has none. Rows of one key move together; with `groups` nothing is lent or taken back.

    Parameters
    ----------
    split, labels : Series of str, shape (N,)
        Splits so far, and labels.
    keys : sequence of str, shape (N,)
        What the hash is taken of.
    val, test : float or None
        Shares to cut; None leaves that split as the source has it.

    Returns
    -------
    Series of str, shape (N,)
        ``train``, ``val`` or ``test`` per row.

    Examples
    --------
    >>> train = pl.Series(["train"] * 1000)
    >>> parts = cut(train, pl.Series(["a"] * 1000), [str(i) for i in range(1000)], val=0.1, test=0.1)
    >>> parts.value_counts().sort("count")["count"].to_list()
    [92, 119, 789]
    """
    start = SHARE if val is None else val
    if start + (test or 0) >= 1:
        raise BadInput(f"val={start} and test={test} leave nothing to train on; make them smaller")
    parts = np.array(split.to_list(), dtype=object)
    in_train = parts == "train"
    uniform = stable_uniform(keys, "split")
    shares = []
    if val is not None:
        parts[in_train & (uniform < val)] = "val"
        shares.append(("val", val))
    if test is not None:
        parts[in_train & (uniform >= start) & (uniform < start + test)] = "test"
        shares.append(("test", test))
    if not groups:
        _lend(parts, in_train, labels.to_numpy(), np.asarray(keys, dtype=object), uniform, shares)
    return pl.Series("split", parts.tolist(), dtype=pl.String)


def _lend(
    parts: np.ndarray,
    in_train: np.ndarray,
    labels: np.ndarray,
    keys: np.ndarray,
    uniform: np.ndarray,
    shares: list[tuple[str, float]],
) -> None:
    """Settle small classes in place: `parts` of the rows that were in train before the cut."""
    held = {name: set(labels[parts == name]) for name, _ in shares}
    rows = np.flatnonzero(in_train)
    rows = rows[np.lexsort((uniform[rows], labels[rows].astype(str)))]
    edges = np.flatnonzero(labels[rows][1:] != labels[rows][:-1]) + 1
    for members in np.split(rows, edges):  # one class, by ascending hash
        if not len(members):
            continue
        label = labels[members[0]]
        if not (parts[members] == "train").any():
            parts[members[keys[members] == keys[members[-1]]]] = "train"
        for name, share in shares:
            if share == 0 or label in held[name] or len(members) < SMALLEST_LENDER:
                continue
            left = members[parts[members] == "train"]
            lent = left[keys[left] == keys[left[0]]]
            if len(lent) < len(left):
                parts[lent] = name
