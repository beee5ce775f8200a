"""Prepare a dataset for unlearning: what to forget, what must survive, what to test on.

A sample cannot be forgotten while a copy of it is trained on, so the forget set is closed first: exact copies
by `content_hash`, near copies by the cosine of their embeddings, and copies of copies. Then the nearest
retained samples of the forget set are marked (direct), and theirs (indirect): the places where unlearning
does damage. Samples that were never trained on become the holdout for membership tests, unless they copy a
trained one.

Without a request the forget set is the corrective one: samples flagged as unlearnable or mislabeled. There
the harm lies in the label, so copies are pulled in only if they carry the same label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Vectors, nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.decisions.group_weights import group_names, retain_weights
from tracesift.selectors.ranking import seeded_keys

NEAR_DUPLICATE = 0.98
TIMES_CLOSER = 4.0
"""A near copy is also this many times closer than a typical fifth neighbour, under near_duplicate='auto'."""
LEAST_FOR_AUTO = 20
LARGEST_SAMPLE = 500


@dataclass
class Plan:
    """Roles and reasons under construction, by row of the sorted frame."""

    ids: np.ndarray
    role: np.ndarray
    reason: np.ndarray

    def give(self, rows: np.ndarray, role: str, reasons: Sequence[str]) -> None:
        """Give `rows` a role, each with its reason."""
        self.role[rows], self.reason[rows] = role, np.array(reasons, dtype=object)

    def rows(self, role: str) -> np.ndarray:
        """Return the rows of one role, ascending."""
        return np.flatnonzero(self.role == role)


@selector(
    version=2,
    budget=False,
    reference="ours; neighbour sets after standard vs modular sampling, weights after De Min et al. 2025",
)
def forget_ready(
    frame: pl.DataFrame,
    *,
    seed: int,
    embedding: np.ndarray | None = None,
    forget: Sequence[str] | None = None,
    holdout: Sequence[str] | None = None,
    flags: Sequence[str] = ("label_noise", "unlearnable"),
    near_duplicate: float | Literal["auto"] | None = "auto",
    neighbors: int = 5,
    indirect_neighbors: int = 2,
    group: str | None = None,
    reweight: bool = True,
) -> pl.DataFrame:
    """Divide the samples into forget, neighbor, retain and holdout.

    Parameters
    ----------
    frame : polars.DataFrame
        Beside `sample_id` and `label`, where present: `split` (only `train` was trained on), `content_hash`
        (equal for exact copies), the `flags` columns, the `group` column.
    embedding : ndarray (N, D), optional
        Without it there are no near copies and no neighbours, and the reasons say so.
    forget : sequence of str, optional
        Requested ids. Without it: the samples for which one of `flags` is true (possibly none).
    holdout : sequence of str, optional
        Ids that were never trained on; by default every sample whose `split` is not `train`.
    near_duplicate : float, "auto" or None
        Least cosine of a near copy; None: exact copies only. "auto" is 0.98, and higher where the embedding
        is so dense that 0.98 is nothing special: a near copy must be four times closer than the median fifth
        neighbour.
    neighbors, indirect_neighbors : int
        Nearest retained samples marked for each forgotten one, and for each of those.
    group : str, optional
        Column that together with the label makes the groups of `reweight`.
    reweight : bool
        Weigh retained samples by n_train(g) / n_retain(g), so that what was forgotten does not shift the
        groups.

    Returns
    -------
    polars.DataFrame
        `sample_id`, `role`, `weight`, `reason`. Role `drop`: requested but never trained on, or a holdout
        candidate that copies a trained sample and would spoil a membership test.

    Raises
    ------
    BadInput
        For ids that are not in the frame, a holdout that was trained on, missing flags without a request.

    References
    ----------
    De Min et al. 2025 (group-robust unlearning: n_train(g) / n_retain(g)); Abbas et al. 2023 (near
    duplicates).

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "content_hash": list("112")})
    >>> forget_ready(frame, seed=0, forget=["a"])["role"].to_list()
    ['forget', 'forget', 'retain']
    """
    _check_numbers(neighbors, indirect_neighbors, near_duplicate)
    ids, labels = frame["sample_id"].to_numpy(), frame["label"].to_numpy()
    vectors = None if embedding is None else unit_rows(embedding)
    if vectors is None and near_duplicate not in ("auto", None):
        raise BadInput("forget_ready: near_duplicate needs an embedding; pass one, or near_duplicate=None")
    trained = _trained(frame, holdout)
    plan = Plan(
        ids=ids,
        role=np.where(trained, "retain", "holdout").astype(object),
        reason=np.full(ids.size, "", object),
    )
    if forget is None:
        asked, same = _flagged(frame, flags, trained, plan), labels
    else:
        asked, same = _requested(ids, forget, trained, plan), np.zeros(ids.size, dtype=np.int64)
    least = _least_cosine(frame, vectors, trained, near_duplicate, seed) if asked.size else None
    _close(frame, vectors, plan, same, least)
    if vectors is not None:
        _mark_neighbors(vectors, plan, neighbors, indirect_neighbors)
    _guard_holdout(frame, vectors, plan, least)
    groups = group_names(frame, group)
    weights, lost = retain_weights(groups, trained, np.isin(plan.role, ("retain", "neighbor")))
    return _result(
        frame, plan, groups, weights if reweight else np.ones(ids.size), lost, unseen=vectors is None
    )


def _check_numbers(neighbors: int, indirect: int, near_duplicate: float | str | None) -> None:
    for name, value in (("neighbors", neighbors), ("indirect_neighbors", indirect)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadInput(f"forget_ready: {name} must be a whole number, 0 or more, not {value!r}")
    if near_duplicate is None or near_duplicate == "auto":
        return
    number = isinstance(near_duplicate, float | int) and not isinstance(near_duplicate, bool)
    if not number or not 0 < float(near_duplicate) <= 1:
        raise BadInput(
            f"forget_ready: near_duplicate must be a cosine in (0, 1], 'auto' or None, not {near_duplicate!r}"
        )


def _positions(ids: np.ndarray, wanted: Sequence[str], what: str) -> np.ndarray:
    """Return the rows of the wanted ids; `ids` is sorted."""
    if isinstance(wanted, str):
        raise BadInput(f"forget_ready: {what} must be a list of ids, not one text")
    unique = sorted({str(name) for name in wanted})
    index = {name: row for row, name in enumerate(ids)}
    unknown = [name for name in unique if name not in index]
    if unknown:
        raise BadInput(f"forget_ready: {len(unknown)} {what} ids are not in the frame, e.g. {unknown[:3]}")
    return np.array([index[name] for name in unique], dtype=np.int64)


def _trained(frame: pl.DataFrame, holdout: Sequence[str] | None) -> np.ndarray:
    trained = np.ones(frame.height, dtype=bool)
    if "split" in frame.columns:
        trained = (frame["split"] == "train").fill_null(value=False).to_numpy().copy()
    if holdout is not None:
        rows = _positions(frame["sample_id"].to_numpy(), holdout, "holdout")
        if "split" in frame.columns and trained[rows].any():
            first = frame["sample_id"][int(rows[trained[rows]][0])]
            raise BadInput(
                f"forget_ready: holdout sample '{first}' is in split train; a holdout was never trained on"
            )
        trained[rows] = False
    return trained


def _requested(ids: np.ndarray, forget: Sequence[str], trained: np.ndarray, plan: Plan) -> np.ndarray:
    rows = _positions(ids, forget, "requested")
    if rows.size == 0:
        raise BadInput("forget_ready: the request names no sample; leave forget out for the corrective set")
    known, never = rows[trained[rows]], rows[~trained[rows]]
    plan.give(known, "forget", ["requested to be forgotten"] * known.size)
    plan.give(
        never,
        "drop",
        ["requested, but never trained on: nothing to forget, not usable as holdout"] * never.size,
    )
    return known


def _flagged(frame: pl.DataFrame, flags: Sequence[str], trained: np.ndarray, plan: Plan) -> np.ndarray:
    present = [name for name in flags if name in frame.columns]
    if not present:
        raise BadInput(
            f"forget_ready: no request and none of the flags {list(flags)}; pass forget=[...] or run a flag"
        )
    raised = np.stack([frame[name].cast(pl.Boolean).fill_null(value=False).to_numpy() for name in present])
    rows = np.flatnonzero(raised.any(axis=0) & trained)
    named = [
        ", ".join(name for name, yes in zip(present, raised[:, row], strict=True) if yes) for row in rows
    ]
    plan.give(rows, "forget", [f"corrective: flagged by {name}" for name in named])
    return rows


def _least_cosine(
    frame: pl.DataFrame, vectors: Vectors | None, trained: np.ndarray, near: float | str | None, seed: int
) -> float | None:
    """Return the cosine from which two samples count as near copies."""
    if vectors is None or near is None:
        return None
    if near != "auto":
        return float(near)
    rows = np.flatnonzero(trained)
    if rows.size < LEAST_FOR_AUTO:
        return NEAR_DUPLICATE
    drawn = rows[np.argsort(seeded_keys(frame[rows], seed, "forget_ready"), kind="stable")[:LARGEST_SAMPLE]]
    _, cosines = nearest_rows(vectors, drawn, rows, 6)  # itself and five others
    typical = 1 - float(np.median(cosines[:, -1]))
    return round(max(NEAR_DUPLICATE, 1 - typical / TIMES_CLOSER), 6)


def _close(
    frame: pl.DataFrame, vectors: Vectors | None, plan: Plan, same: np.ndarray, least: float | None
) -> None:
    """Pull in copies of what is forgotten, until there are no more."""
    compared = np.array([], dtype=np.int64)
    while True:
        before = plan.rows("forget").size
        if "content_hash" in frame.columns:
            _pull_exact(frame["content_hash"].to_list(), plan, same)
        if vectors is not None and least is not None:
            # What is still retained is no near copy of what it was compared with before.
            forgotten = plan.rows("forget")
            _pull_near(vectors, plan, same, least, np.setdiff1d(forgotten, compared))
            compared = forgotten
        if plan.rows("forget").size == before:
            return


def _pull_exact(hashes: list[str | None], plan: Plan, same: np.ndarray) -> None:
    first: dict[tuple[str, object], int] = {}
    for row in plan.rows("forget"):
        if hashes[row] is not None:
            first.setdefault((hashes[row], same[row]), row)
    rows = [row for row in plan.rows("retain") if (hashes[row], same[row]) in first]
    named = [plan.ids[first[(hashes[row], same[row])]] for row in rows]
    plan.give(
        np.array(rows, dtype=np.int64),
        "forget",
        [f"exact copy of '{name}', which is forgotten" for name in named],
    )


def _pull_near(vectors: Vectors, plan: Plan, same: np.ndarray, least: float, forgotten: np.ndarray) -> None:
    retained = plan.rows("retain")
    for kind in np.unique(same[forgotten]) if forgotten.size else ():
        source, candidates = forgotten[same[forgotten] == kind], retained[same[retained] == kind]
        index, cosines = nearest_rows(vectors, candidates, source, 1)
        close = np.flatnonzero(cosines[:, 0] >= least) if candidates.size else np.array([], dtype=np.int64)
        plan.give(
            candidates[close],
            "forget",
            [
                f"near copy of '{plan.ids[source[index[i, 0]]]}', which is forgotten: "
                f"cosine {cosines[i, 0]:.4f} >= {least:g}"
                for i in close
            ],
        )


def _mark_neighbors(vectors: Vectors, plan: Plan, direct: int, indirect: int) -> None:
    for source, count, phrase in (
        (plan.rows("forget"), direct, "direct neighbour of forgotten"),
        (None, indirect, "indirect neighbour, near direct neighbour"),
    ):
        source = plan.rows("neighbor") if source is None else source
        retained = plan.rows("retain")
        index, cosines = nearest_rows(vectors, source, retained, count)
        best: dict[int, tuple[float, int]] = {}
        for i, j in np.ndindex(index.shape):
            row, link = int(retained[index[i, j]]), (-float(cosines[i, j]), int(source[i]))
            best[row] = min(best.get(row, link), link)
        rows = np.array(sorted(best), dtype=np.int64)
        links = [best[int(row)] for row in rows]
        plan.give(
            rows, "neighbor", [f"{phrase} '{plan.ids[near]}': cosine {-minus:.4f}" for minus, near in links]
        )


def _guard_holdout(frame: pl.DataFrame, vectors: Vectors | None, plan: Plan, least: float | None) -> None:
    """Take out holdout candidates that copy a trained sample: they count as members."""
    held, trained = plan.rows("holdout"), np.flatnonzero(~np.isin(plan.role, ("holdout", "drop")))
    plan.give(held, "holdout", ["never trained on"] * held.size)
    if "content_hash" in frame.columns:
        hashes = frame["content_hash"].to_list()
        owner = {hashes[row]: row for row in trained[::-1] if hashes[row] is not None}
        copies = [row for row in held if hashes[row] in owner]
        named = [plan.ids[owner[hashes[row]]] for row in copies]
        plan.give(
            np.array(copies, dtype=np.int64),
            "drop",
            [f"exact copy of trained '{name}': no holdout" for name in named],
        )
        held = plan.rows("holdout")
    if vectors is not None and least is not None and trained.size and held.size:
        index, cosines = nearest_rows(vectors, held, trained, 1)
        close = np.flatnonzero(cosines[:, 0] >= least)
        named = [f"'{plan.ids[trained[index[i, 0]]]}' (cosine {cosines[i, 0]:.4f})" for i in close]
        plan.give(held[close], "drop", [f"near copy of trained {name}: no holdout" for name in named])


def _result(
    frame: pl.DataFrame, plan: Plan, groups: np.ndarray, weights: np.ndarray, lost: list[str], *, unseen: bool
) -> pl.DataFrame:
    kept = np.isin(plan.role, ("retain", "neighbor"))
    plain = "retained" + (
        "; no embedding, so near copies and neighbours were not looked for" if unseen else ""
    )
    reasons = [
        (reason or (plain if role == "retain" else role))
        + (f"; weight {weight:.4g} for group {name}" if stays and weight != 1 else "")
        + (f"; group lost: nothing of {name} is retained" if role == "forget" and name in lost else "")
        for reason, role, weight, stays, name in zip(
            plan.reason, plan.role, weights, kept, groups, strict=True
        )
    ]
    return frame.select("sample_id").with_columns(
        pl.Series("role", plan.role, dtype=pl.String),
        pl.Series("weight", np.where(kept, weights, np.where(plan.role == "drop", 0.0, 1.0))),
        pl.Series("reason", reasons, dtype=pl.String),
    )
