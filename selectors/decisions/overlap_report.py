"""How far forget and retain overlap: what unlearning can and cannot achieve on this division.

Not a selector: it describes the result of one (`forget_ready`, or any division with the roles forget and
retain).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.selectors.decisions.group_weights import group_names, retain_weights

TRAINED = ("forget", "retain", "neighbor")


def overlap_report(
    result: pl.DataFrame,
    frame: pl.DataFrame,
    *,
    embedding: np.ndarray | None = None,
    thresholds: Sequence[float] = (0.9, 0.95, 0.98),
    group: str | None = None,
) -> dict[str, Any]:
    """Describe the overlap of the forget set with what is retained.

    Parameters
    ----------
    result : polars.DataFrame
        `sample_id` and `role`, as from `select("forget_ready", ...)`.
    frame : polars.DataFrame
        The frame that was selected from: `sample_id`, `label`, and where present `content_hash` and `group`.
    embedding : ndarray (N, D), optional
        In the frame's row order; without it there are no similarities.
    thresholds : sequence of float
        Cosines; the highest one marks samples that cannot be forgotten.
    group : str, optional
        Column that together with the label makes the groups.

    Returns
    -------
    dict
        JSON-able. `counts` by role; `exact_across` (forgotten samples with an exact copy among the retained);
        `nearest_retained` (quantiles of each forgotten sample's highest cosine); `share_above`;
        `cannot_be_forgotten` (ids, with the copy that remains); `label_distance` (total variation of the
        label histograms, 0 = alike, 1 = disjoint); `forget_rate` by group with its largest difference;
        `groups_lost`.

    References
    ----------
    BLUR and DUSK (overlap of forget and retain); De Min et al. 2025 (forget rate by group).

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b"], "label": ["x", "x"], "content_hash": ["1", "1"]})
    >>> report = overlap_report(pl.DataFrame({"sample_id": ["a", "b"], "role": ["forget", "retain"]}), frame)
    >>> report["cannot_be_forgotten"]
    [{'sample_id': 'a', 'copy': 'b', 'cosine': None}]
    """
    if not thresholds or not all(-1 <= value <= 1 for value in thresholds):
        raise BadInput(f"overlap_report: thresholds must be cosines, at least one; got {list(thresholds)}")
    order = frame["sample_id"].arg_sort().to_numpy()
    joined = frame[order].join(
        result.select("sample_id", "role"), on="sample_id", how="left", maintain_order="left"
    )
    if joined["role"].null_count() or result.height != frame.height:
        raise BadInput("overlap_report: result and frame do not name the same samples")
    roles, ids = joined["role"].to_numpy(), joined["sample_id"].to_numpy()
    forgotten = np.flatnonzero(roles == "forget")
    retained = np.flatnonzero(np.isin(roles, ("retain", "neighbor")))
    stuck = _exact(joined, forgotten, retained, ids)
    report: dict[str, Any] = {
        "counts": dict(sorted(Counter(roles.tolist()).items())),
        "exact_across": len(stuck),
        "nearest_retained": None,
        "share_above": None,
    }
    if embedding is not None and forgotten.size and retained.size:
        vectors = unit_rows(np.asarray(embedding)[order])
        index, cosines = nearest_rows(vectors, forgotten, retained, 1)
        best = cosines[:, 0]
        points = {"min": 0.0, "median": 0.5, "p90": 0.9, "max": 1.0}
        report["nearest_retained"] = {
            name: round(float(np.quantile(best, at)), 6) for name, at in points.items()
        }
        report["share_above"] = {
            f"{value:g}": round(float((best >= value).mean()), 6) for value in thresholds
        }
        for i in np.flatnonzero(best >= max(thresholds)):
            name = ids[forgotten[i]]
            stuck.setdefault(name, (ids[retained[index[i, 0]]], float(best[i])))
    report["cannot_be_forgotten"] = [
        {"sample_id": name, "copy": copy, "cosine": cosine} for name, (copy, cosine) in sorted(stuck.items())
    ]
    return report | _histograms(joined, roles, forgotten, retained, group)


def _exact(
    joined: pl.DataFrame, forgotten: np.ndarray, retained: np.ndarray, ids: np.ndarray
) -> dict[str, tuple[str, float | None]]:
    if "content_hash" not in joined.columns:
        return {}
    hashes = joined["content_hash"].to_list()
    owner = {hashes[row]: ids[row] for row in retained[::-1] if hashes[row] is not None}
    return {ids[row]: (owner[hashes[row]], None) for row in forgotten if hashes[row] in owner}


def _histograms(
    joined: pl.DataFrame, roles: np.ndarray, forgotten: np.ndarray, retained: np.ndarray, group: str | None
) -> dict[str, Any]:
    labels, codes = np.unique(joined["label"].cast(pl.String).to_numpy(), return_inverse=True)
    parts = [np.bincount(codes[rows], minlength=labels.size) for rows in (forgotten, retained)]
    distance = None
    if all(part.sum() for part in parts):
        distance = round(float(np.abs(parts[0] / parts[0].sum() - parts[1] / parts[1].sum()).sum() / 2), 6)
    groups, trained = group_names(joined, group), np.isin(roles, TRAINED)
    _, lost = retain_weights(groups, trained, np.isin(roles, ("retain", "neighbor")))
    rates = {
        str(name): round(float((roles[trained & (groups == name)] == "forget").mean()), 6)
        for name in np.unique(groups[trained])
    }
    spread = round(max(rates.values()) - min(rates.values()), 6) if rates else None
    return {
        "label_distance": distance,
        "forget_rate": rates,
        "forget_rate_disparity": spread,
        "groups_lost": lost,
    }
