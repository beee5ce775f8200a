"""How far forget and retain overlap: what unlearning can and cannot achieve on this division.

Not a selector: it describes the result of one (`forget_ready`, or any division with the roles forget and
retain).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Vectors, nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.selectors.decisions.group_weights import group_names, retain_weights
from tracesift.selectors.decisions.wordings import NEAR_WORDS, nearest_wording

COSINE = "the highest cosine of each forgotten sample's vector with a retained one's"
DISTANCE = (
    "the smallest distance of each forgotten row to a retained one, by all standardised columns, in units of the "
    "distance from which rows are near copies"
)
"""What `nearest_retained` of a report is, in words."""

TRAINED = ("forget", "retain", "neighbor")
RETAINED = ("retain", "neighbor")

NEAREST = {
    "sample_id": pl.String, "exact_copy": pl.String, "nearest": pl.String, "cosine": pl.Float64, "times": pl.Float64,
    "nearest_wording": pl.String, "jaccard": pl.Float64,
}  # fmt: skip
"""What `nearest_retained` returns."""

LEAST_FAR = 1e-9
"""1 - cosine of near copies where only the same is one: less than rounding makes of it."""


def overlap_report(
    result: pl.DataFrame,
    frame: pl.DataFrame,
    *,
    embedding: np.ndarray | None = None,
    least_cosine: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
    thresholds: Sequence[float] = (0.9, 0.95, 0.98),
    words_thresholds: Sequence[float] = (0.4, 0.5, NEAR_WORDS),
    times: Sequence[float] = (1.0, 1.5, 2.0),
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
        In the frame's row order; without it there are no cosines.
    least_cosine : ndarray (N,), optional
        From which cosine each sample is a near copy of another, as `forget_ready.least_cosine` gives it. With it, as
        for the rows of a table, cosines are read as distances, and these in units of that of a near copy: in few
        dimensions a high cosine alone says little.
    texts : sequence of N str, optional
        In the frame's row order; without them there are no Jaccard similarities.
    thresholds, words_thresholds : sequence of float
        Cosines, and Jaccard similarities of character 4-grams; the highest of each marks samples that cannot be
        forgotten.
    times : sequence of float
        Distances in units of that of a near copy; what is no farther than 1 cannot be forgotten.
    group : str, optional
        Column that together with the label makes the groups.

    Returns
    -------
    dict
        JSON-able. `counts` by role; `exact_across` (forgotten samples with an exact copy among the retained);
        `measured`, in words what `nearest_retained` is: quantiles of each forgotten sample's highest cosine, with
        `share_above`, or with `least_cosine` of its smallest distance, with `share_within`; the same of the wordings,
        `nearest_wording` and `share_of_words_above`; `cannot_be_forgotten`, the rows of `nearest_retained` that copy
        what is retained, as records; `label_distance` and `group_distance` (total variation of the histograms of forget
        and retain, 0 = alike, 1 = disjoint; of groups only where a column is named);
        `forget_rate` by group with its largest difference; `groups_lost`.

    References
    ----------
    BLUR and DUSK (overlap of forget and retain); De Min et al. 2025 (forget rate by group).

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b"], "label": ["x", "y"], "content_hash": ["1", "1"]})
    >>> report = overlap_report(pl.DataFrame({"sample_id": ["a", "b"], "role": ["forget", "retain"]}), frame)
    >>> report["cannot_be_forgotten"]
    [{'sample_id': 'a', 'label': 'x', 'copy': 'b', 'copy_label': 'y', 'how': 'exact', 'similarity': 1.0}]
    """
    for name, given in (("thresholds", thresholds), ("words_thresholds", words_thresholds)):
        if not given or not all(-1 <= value <= 1 for value in given):
            raise BadInput(
                f"overlap_report: {name} must be similarities up to 1, at least one; got {list(given)}"
            )
    joined, _ = _joined(result, frame)
    roles = joined["role"].to_numpy()
    nearest = nearest_retained(result, frame, embedding=embedding, least_cosine=least_cosine, texts=texts)
    report: dict[str, Any] = {
        "counts": dict(sorted(Counter(roles.tolist()).items())),
        "exact_across": int(nearest["exact_copy"].is_not_null().sum()),
        "measured": None if embedding is None else COSINE if least_cosine is None else DISTANCE,
        "share_above": None,
        "share_within": None,
    }
    at = ("cosine", "share_above", thresholds) if least_cosine is None else ("times", "share_within", times)
    for (column, share, wanted), of in (
        (at, "nearest_retained"), (("jaccard", "share_of_words_above", words_thresholds), "nearest_wording"),
    ):  # fmt: skip
        found = nearest[column].drop_nulls().to_numpy()
        points = {"min": 0.0, "median": 0.5, "p90": 0.9, "max": 1.0}
        report[of], report[share] = None, None
        if found.size:
            report[of] = {name: round(float(np.quantile(found, at)), 6) for name, at in points.items()}
            reached = {value: found <= value if column == "times" else found >= value for value in wanted}
            report[share] = {f"{value:g}": round(float(met.mean()), 6) for value, met in reached.items()}
    labels = dict(joined.select("sample_id", pl.col("label").cast(pl.String)).iter_rows())
    report["cannot_be_forgotten"] = [
        {
            "sample_id": name, "label": labels[name], "copy": copy, "copy_label": labels[copy], "how": how,
            "similarity": similarity,
        }
        for name, copy, how, similarity in _stuck(nearest, max(thresholds), max(words_thresholds))
    ]  # fmt: skip
    forgotten, retained = roles == "forget", np.isin(roles, RETAINED)
    return report | _histograms(joined, roles, forgotten, retained, group)


def nearest_retained(
    result: pl.DataFrame,
    frame: pl.DataFrame,
    *,
    embedding: np.ndarray | None = None,
    least_cosine: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Name for every forgotten sample what is retained and most like it.

    Parameters
    ----------
    result, frame, embedding, least_cosine, texts
        As in `overlap_report`.

    Returns
    -------
    polars.DataFrame
        One row per forgotten sample, ascending by `sample_id`: `exact_copy`, a retained sample of the same content;
        `nearest` and `cosine`, with `least_cosine` `times` as well: the nearest is then that which comes nearest to
        being a near copy, and how many times as far it lies as one; `nearest_wording` and `jaccard`, of all pairs and
        of character 4-grams. Null where there is none, or nothing to tell it by.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b", "c"], "label": ["x", "x", "y"]})
    >>> result = frame.select("sample_id", role=pl.Series(["forget", "retain", "retain"]))
    >>> nearest_retained(result, frame, texts=["pay my bill", "who wrote it", "pay my bills"]).row(0)
    ('a', None, None, None, None, 'c', 0.888889)
    """
    joined, order = _joined(result, frame)
    ids = joined["sample_id"].to_numpy()
    forgotten = np.flatnonzero(joined["role"] == "forget")
    retained = np.flatnonzero(joined["role"].is_in(RETAINED))
    columns: dict[str, Any] = dict.fromkeys(NEAREST, None) | {"sample_id": ids[forgotten].tolist()}
    both = forgotten.size and retained.size
    if both and "content_hash" in joined.columns:
        hashes = joined["content_hash"].to_list()
        owner = {hashes[row]: ids[row] for row in retained[::-1] if hashes[row] is not None}
        columns["exact_copy"] = [owner.get(hashes[row]) for row in forgotten]
    if both and embedding is not None:
        vectors = unit_rows(np.asarray(embedding)[order])
        if least_cosine is None:
            index, cosines = nearest_rows(vectors, forgotten, retained, 1)
            place, cosine = index[:, 0], cosines[:, 0]
        else:
            least = np.asarray(least_cosine)[order]
            place, cosine, columns["times"] = _nearest_by_times(vectors, least, forgotten, retained)
        columns["nearest"], columns["cosine"] = ids[retained[place]].tolist(), cosine.tolist()
    if both and texts is not None:
        if len(texts) != frame.height:
            raise BadInput(f"overlap_report: there are {len(texts)} texts for {frame.height} samples")
        place, similarity = nearest_wording([texts[row] for row in order], forgotten, retained)
        columns["nearest_wording"], columns["jaccard"] = ids[retained[place]].tolist(), similarity.tolist()
    empty = [None] * forgotten.size
    return pl.DataFrame(
        {name: empty if columns[name] is None else columns[name] for name in NEAREST}, schema=NEAREST
    )


def _nearest_by_times(
    vectors: Vectors, least: np.ndarray, forgotten: np.ndarray, retained: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each forgotten row the place of the retained one that is nearest to being its near copy.

    Returns
    -------
    tuple of ndarray (n,)
        The place among `retained`, the cosine, and how many times as far it lies as a near copy of its own may.
    """
    best = np.zeros(forgotten.size, np.int64), np.zeros(forgotten.size), np.full(forgotten.size, np.inf)
    for value in np.unique(least[retained])[::-1]:  # few: one of all, and one of each dense class
        those = np.flatnonzero(least[retained] == value)
        index, cosines = nearest_rows(vectors, forgotten, retained[those], 1)
        cosine = cosines[:, 0].astype(np.float64)
        times = np.sqrt(np.maximum(1 - cosine, 0) / max(1 - value, LEAST_FAR))
        nearer = times < best[2]
        for kept, found in zip(best, (those[index[:, 0]], cosine, times), strict=True):
            np.copyto(kept, found, where=nearer)
    return best


def _joined(result: pl.DataFrame, frame: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray]:
    """Return the frame with its roles, ascending by sample_id, and the order that makes it so."""
    order = frame["sample_id"].arg_sort().to_numpy()
    joined = frame[order].join(
        result.select("sample_id", "role"), on="sample_id", how="left", maintain_order="left"
    )
    if joined["role"].null_count() or result.height != frame.height:
        raise BadInput("overlap_report: result and frame do not name the same samples")
    return joined, order


def _stuck(
    nearest: pl.DataFrame, least_cosine: float, least_jaccard: float
) -> Iterator[tuple[str, str, str, float]]:
    """Yield forgotten samples that copy what is retained: id, the copy, how and how similar; exact before near."""
    for row in nearest.iter_rows(named=True):
        if row["exact_copy"] is not None:
            yield row["sample_id"], row["exact_copy"], "exact", 1.0
        elif row["cosine"] is not None and (
            row["cosine"] >= least_cosine if row["times"] is None else row["times"] <= 1
        ):
            yield row["sample_id"], row["nearest"], "near", row["cosine"]
        elif row["jaccard"] is not None and row["jaccard"] >= least_jaccard:
            yield row["sample_id"], row["nearest_wording"], "words", row["jaccard"]


def _distance(names: np.ndarray, forgotten: np.ndarray, retained: np.ndarray) -> float | None:
    """Return the total variation distance of two histograms over `names`; None where one holds nothing."""
    _, codes = np.unique(names, return_inverse=True)
    parts = [np.bincount(codes[rows], minlength=names.size) for rows in (forgotten, retained)]
    if not all(part.sum() for part in parts):
        return None
    return round(float(np.abs(parts[0] / parts[0].sum() - parts[1] / parts[1].sum()).sum() / 2), 6)


def _histograms(
    joined: pl.DataFrame, roles: np.ndarray, forgotten: np.ndarray, retained: np.ndarray, group: str | None
) -> dict[str, Any]:
    labels = joined["label"].cast(pl.String).to_numpy()
    groups, trained = group_names(joined, group), np.isin(roles, TRAINED)
    _, lost = retain_weights(groups, trained, retained)
    rates = {
        str(name): round(float((roles[trained & (groups == name)] == "forget").mean()), 6)
        for name in np.unique(groups[trained])
    }
    spread = round(max(rates.values()) - min(rates.values()), 6) if rates else None
    return {
        "label_distance": _distance(labels, forgotten, retained),
        "group_distance": None if group is None else _distance(groups, forgotten, retained),
        "forget_rate": rates,
        "forget_rate_disparity": spread,
        "groups_lost": lost,
    }
