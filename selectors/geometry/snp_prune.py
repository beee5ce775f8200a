"""SnP's pruning: fewer groups at random, then one sample of each and the farthest of the rest.

Groups are the identities of the paper. It draws as many of them as wanted, keeps one sample of each, and fills the
budget by farthest-point sampling among the rest of the drawn groups. The published code computes a diversity of each
group and then draws at random all the same; here nothing is computed that is not used.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import space
from tracesift.selectors.geometry.nearest_pick import NearestPick
from tracesift.selectors.geometry.snp_search import group_codes
from tracesift.selectors.ranking import outcome, seeded_keys


@selector(version=1, random=True, reference="Yao, Gedeon, Zheng 2023 (SnP), section on budgeted pruning")
def snp_prune(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    *,
    size: int,
    seed: int,
    group: str = "label",
    groups: int | None = None,
) -> pl.DataFrame:
    """Keep a random choice of groups, one sample of each, and the samples of them farthest from all kept so far.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Vectors whose Euclidean distances count.
    group : str
        Column of the groups, such as ``group`` or ``label``.
    groups : int, optional
        How many groups are drawn; all that the budget has room for by default.

    Raises
    ------
    BadInput
        No such column, more groups than there are or than the budget has room for, or groups drawn that together
        hold fewer samples than the budget.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x", "x", "x", "y"]})
    >>> snp_prune(frame, np.array([[0.0], [1.0], [8.0], [9.0]]), size=4, seed=0)["role"].to_list()
    ['keep', 'keep', 'keep', 'keep']
    """
    names, codes = group_codes(frame, group, "snp_prune")
    wanted = min(len(names), size) if groups is None else groups
    if not 1 <= wanted <= min(len(names), size):
        raise BadInput(
            f"snp_prune: groups={wanted} must be 1 to {min(len(names), size)}: there are {len(names)} groups by "
            f"'{group}', and each takes one of {size} places"
        )
    drawn = np.argsort(
        seeded_keys(pl.DataFrame({"sample_id": names}), seed, "snp_prune group"), kind="stable"
    )[:wanted]
    rows = np.flatnonzero(np.isin(codes, drawn))
    if rows.size < size:
        raise BadInput(
            f"snp_prune: the {wanted} groups drawn hold {rows.size} samples, {size} are asked for; draw more groups"
        )
    keys = seeded_keys(frame, seed, "snp_prune")
    by_key = rows[np.argsort(keys[rows], kind="stable")]
    first = np.sort(by_key[np.unique(codes[by_key], return_index=True)[1]])
    nearest_pick = NearestPick(space(embedding, "euclidean", "snp_prune"), rows, size)
    for row in first:
        nearest_pick.add(int(row))
    place, apart = np.full(frame.height, -1), np.zeros(frame.height)
    place[first] = 0
    for number in range(1, size - first.size + 1):
        row, squared = nearest_pick.farthest
        place[row], apart[row] = number, np.sqrt(squared)
        nearest_pick.add(row)
    left = np.zeros(frame.height)
    left[rows] = np.sqrt(nearest_pick.squared())
    shown = pl.col(group).cast(pl.String)
    outside = pl.Series(~np.isin(codes, drawn))
    reason = (
        pl.when(outside).then(pl.format(f"{group} {{}} is not among the {wanted} of {len(names)} drawn", shown))
        .when(pl.Series(place == 0)).then(pl.format(f"drawn as the one of {group} {{}} that is always kept", shown))
        .when(pl.Series(place > 0)).then(pl.format(
            f"choice {{}} of {size - first.size}: farthest from all kept before, {{}}",
            pl.Series(place), pl.Series(apart).round_sig_figs(4),
        ))
        .otherwise(pl.format("{} from the nearest kept sample", pl.Series(left).round_sig_figs(4)))
    )  # fmt: skip
    return outcome(frame, place >= 0, reason)
