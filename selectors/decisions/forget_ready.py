"""Prepare a dataset for unlearning: what to forget, what must survive, what to test on.

A sample cannot be forgotten while a copy of it is trained on, so the forget set is closed first
(`duplicate_closure`): exact copies by `content_hash`, near copies by the cosine of their embeddings and by the wording
of their texts, and copies of copies. Then the nearest retained samples of the forget set are marked (direct), and
theirs (indirect): the places where unlearning does damage. Samples that were never trained on become the holdout for
membership tests, unless they copy a trained one.

Without a request the forget set is the corrective one: samples flagged as unlearnable or mislabeled. There
the harm lies in the label, so copies are pulled in only if they carry the same label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Vectors, nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import selector
from tracesift.selectors.decisions.duplicate_closure import CopyRules, Link, check_thresholds, rows_of
from tracesift.selectors.decisions.group_weights import group_names, retain_weights
from tracesift.selectors.decisions.wordings import NEAR_WORDS, Wordings
from tracesift.selectors.ranking import seeded_keys

NEAR_DUPLICATE = 0.98
DENSITY = {"auto": (2.0, 0.5), "dense": (4.0, 0.1)}
"""How many times closer than a fifth neighbour a near copy is, and the quantile of their distances that is meant."""
LEAST_FOR_AUTO = 20
"""As many fifth neighbours it takes to say how near they are, of all samples or of a class."""
LARGEST_SAMPLE = 500


@dataclass
class Plan:
    """Roles and reasons under construction, by row of the sorted frame."""

    ids: np.ndarray
    role: np.ndarray
    reason: np.ndarray
    links: list[Link] = field(default_factory=list)
    """What made a row a copy, of each that is pulled in or taken out of the holdout."""

    def give(self, rows: np.ndarray, role: str, reasons: Sequence[str]) -> None:
        """Give `rows` a role, each with its reason."""
        self.role[rows], self.reason[rows] = role, np.array(reasons, dtype=object)

    def rows(self, role: str) -> np.ndarray:
        """Return the rows of one role, ascending."""
        return np.flatnonzero(self.role == role)


@selector(
    version=8,
    budget=False,
    reference="ours; neighbour sets after standard vs modular sampling, weights after De Min et al. 2025",
)
def forget_ready(
    frame: pl.DataFrame,
    *,
    seed: int,
    embedding: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
    forget: Sequence[str] | None = None,
    holdout: Sequence[str] | None = None,
    flags: Sequence[str] = ("label_noise", "unlearnable"),
    near_duplicate: float | Literal["auto", "dense"] | None = "auto",
    near_words: float | None = NEAR_WORDS,
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
        (equal for exact copies), the `flags` columns, the `group` column, `verified_label` (what a person said the
        label is, for the reasons), `deleted` (asked to be deleted before: its copies are no holdout, and it is
        forgotten again where it is requested or copies what is; else it takes part in nothing).
    embedding : ndarray (N, D), optional
        Without it there are no neighbours and no near copies but those by wording, and the reasons say so.
    texts : sequence of N str, optional
        What the samples say; with it near copies are also those by wording.
    forget : sequence of str, optional
        Requested ids; what copies one of them is forgotten, also where that one was never trained on itself. Without
        it: the samples for which one of `flags` is true (possibly none).
    holdout : sequence of str, optional
        Ids that were never trained on; by default every sample whose `split` is not `train`.
    near_duplicate : float, "auto", "dense" or None
        Least cosine of a near copy; None: embeddings are not compared for copies. "auto" is 0.98, and higher where
        the embedding is so dense that 0.98 is nothing special: a near copy must be at half the distance of the median
        fifth neighbour, of all and of its class. "dense" is for data of few dimensions, as tables are: a quarter of the
        distance that nine in ten fifth neighbours keep. By chance 5 x share^d lie so near, where the data fill d
        dimensions, and more where they are denser than at the median.
    near_words : float or None
        Least Jaccard similarity of the character 4-grams of two texts that are near copies by wording, 0.5 or more;
        None: wordings are not compared.
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
        `sample_id`, `role`, `weight`, `reason`, and of copies `pulled_by`, `how` and `similarity` as in
        `duplicate_closure`. Role `drop`: requested but never trained on, deleted before, or a holdout candidate that
        copies one of these, or a trained sample, which would spoil a membership test. The reason of a forgotten sample
        names the copy that remains, where one does (with another label, in the corrective set).

    Raises
    ------
    BadInput
        For ids that are not in the frame, a holdout that was trained on, missing flags without a request.

    References
    ----------
    De Min et al. 2025 (group-robust unlearning: n_train(g) / n_retain(g)); Abbas et al. 2023 (near duplicates); Levina
    & Bickel 2004 (with the distance, to the power of the dimension, grows the number of neighbours).

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abc"), "label": list("xxy"), "content_hash": list("112")})
    >>> forget_ready(frame, seed=0, forget=["a"])["role"].to_list()
    ['forget', 'forget', 'retain']
    """
    _check_numbers(neighbors, indirect_neighbors)
    check_thresholds(
        ("forget_ready: near_duplicate", None if near_duplicate in DENSITY else near_duplicate),
        ("forget_ready: near_words", near_words),
    )
    ids, labels = frame["sample_id"].to_numpy(), frame["label"].to_numpy()
    vectors = None if embedding is None else unit_rows(embedding)
    if vectors is None and near_duplicate not in (*DENSITY, None):
        raise BadInput("forget_ready: near_duplicate needs an embedding; pass one, or near_duplicate=None")
    deleted, known = _deleted(frame), _trained(frame, holdout)
    trained = known & ~deleted
    plan = Plan(
        ids=ids,
        role=np.where(trained, "retain", "holdout").astype(object),
        reason=np.full(ids.size, "", object),
    )
    plan.give(np.flatnonzero(deleted), "drop", ["deleted before"] * int(deleted.sum()))
    if forget is None:
        asked, kind, candidates = _flagged(frame, flags, trained, plan), labels, trained
    else:  # what a request pulls in does not hang on what was deleted before it
        asked, kind, candidates = (
            _requested(ids, forget, known, plan),
            np.zeros(ids.size, dtype=np.int64),
            known,
        )
    compared = asked.size > 0 or bool(deleted.any())
    worded = texts is not None and near_words is not None and compared
    rules = CopyRules(
        hashes=frame["content_hash"].to_list() if "content_hash" in frame.columns else None,
        vectors=vectors,
        least_cosine=least_cosine(frame, vectors, candidates, near_duplicate, seed) if compared else None,
        wordings=Wordings.of(texts) if texts is not None and worded else None,
        least_jaccard=near_words if worded else None,
    )
    links = rules.closure(asked, np.flatnonzero(candidates), kind)
    plan.role[[link.row for link in links]] = "forget"  # first: a reason says what becomes of both
    _take(plan, rules, links, "forget", "{} copy of '{}', which is {}")
    again = plan.role == "forget"
    trained, deleted = trained | again, deleted & ~again
    if vectors is not None:
        _mark_neighbors(vectors, plan, neighbors, indirect_neighbors)
    _guard_holdout(plan, rules, deleted)
    _name_what_remains(plan, rules, labels)
    groups = group_names(frame, group)
    weights, lost = retain_weights(groups, trained, np.isin(plan.role, ("retain", "neighbor")))
    return _result(
        frame, plan, groups, weights if reweight else np.ones(ids.size), lost, unseen=_unseen(vectors, rules)
    )


def _check_numbers(neighbors: int, indirect: int) -> None:
    for name, value in (("neighbors", neighbors), ("indirect_neighbors", indirect)):
        if value < 0:
            raise BadInput(f"forget_ready: {name} must be 0 or more, not {value}")


def _positions(ids: np.ndarray, wanted: Sequence[str], what: str) -> np.ndarray:
    return rows_of(ids, wanted, "forget_ready", what)


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


def _deleted(frame: pl.DataFrame) -> np.ndarray:
    if "deleted" not in frame.columns:
        return np.zeros(frame.height, dtype=bool)
    return frame["deleted"].fill_null(value=False).to_numpy().copy()


def _requested(ids: np.ndarray, forget: Sequence[str], trained: np.ndarray, plan: Plan) -> np.ndarray:
    """Give the requested rows their role and return them; also of what was never trained on copies may have been."""
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
    return rows


def _flagged(frame: pl.DataFrame, flags: Sequence[str], trained: np.ndarray, plan: Plan) -> np.ndarray:
    present = [name for name in flags if name in frame.columns]
    if not present:
        raise BadInput(
            f"forget_ready: no request and none of the flags {list(flags)}; pass forget=[...] or run a flag"
        )
    raised = np.stack([frame[name].cast(pl.Boolean).fill_null(value=False).to_numpy() for name in present])
    rows = np.flatnonzero(raised.any(axis=0) & trained)
    plan.give(
        rows, "forget", [f"corrective: {_why(frame, present, raised[:, row], int(row))}" for row in rows]
    )
    return rows


def _why(frame: pl.DataFrame, flags: Sequence[str], raised: np.ndarray, row: int) -> str:
    """Say which flags speak against a sample; where a person found the label to be another, that instead."""
    verified = frame["verified_label"][row] if "verified_label" in frame.columns else None
    seen = verified is not None and verified != frame["label"][row]
    names = [
        name for name, yes in zip(flags, raised, strict=True) if yes and not (seen and name == "label_noise")
    ]
    said = [f"flagged by {', '.join(names)}"] if names else []
    return ", ".join([f"a person verified the label as '{verified}'"] * seen + said)


def least_cosine(
    frame: pl.DataFrame, vectors: Vectors | None, trained: np.ndarray, near: float | str | None, seed: int
) -> np.ndarray | None:
    """Return for each sample the cosine from which it counts as a near copy of another, (N,); None: of none.

    Parameters
    ----------
    frame
        `sample_id` and `label`, ascending by `sample_id`.
    vectors
        Unit rows in its order, (N, D).
    trained
        Among which samples it is measured what is usual, (N,) bool; a row of zeros, alike to nothing, is not counted.
    near
        `near_duplicate` of `forget_ready`.
    """
    if vectors is None or near is None:
        return None
    if near not in DENSITY:
        return np.full(frame.height, float(near))
    rows = np.flatnonzero(trained & np.isfinite(vectors.lengths))
    least = np.full(frame.height, NEAR_DUPLICATE)
    if rows.size < LEAST_FOR_AUTO:
        return least
    drawn = rows[np.argsort(seeded_keys(frame[rows], seed, "forget_ready"), kind="stable")[:LARGEST_SAMPLE]]
    _, cosines = nearest_rows(vectors, drawn, rows, 6)  # itself and five others
    least = np.maximum(least, _closer(cosines[:, -1], *DENSITY[near]))
    labels = frame["label"].to_numpy()
    for label in np.unique(
        labels[drawn]
    ):  # a dense class has a measure of its own, where enough of it is drawn
        of_label = cosines[labels[drawn] == label, -1]
        if of_label.size >= LEAST_FOR_AUTO:
            here = labels == label
            least[here] = np.maximum(least[here], _closer(of_label, *DENSITY[near]))
    return least


def _closer(fifth: np.ndarray, times: float, quantile: float) -> float:
    """Return the cosine at which two rows are so many times closer than at a quantile of the distances of these."""
    far = 1 - float(np.quantile(fifth, 1 - quantile))  # as the square of the distance between unit vectors
    return round(1 - far / times**2, 6)


def _take(plan: Plan, rules: CopyRules, links: list[Link], role: str, reason: str) -> None:
    """Give copies a role, each with a reason that names what it copies."""
    plan.links += links
    plan.give(
        np.array([link.row for link in links], dtype=np.int64),
        role,
        [
            reason.format(
                "exact" if link.how == "exact" else "near",
                plan.ids[link.source],
                "requested" if plan.role[link.source] == "drop" else "forgotten",
            )
            + _measured(link, rules)
            for link in links
        ],
    )


def _measured(link: Link, rules: CopyRules) -> str:
    if link.how == "exact":
        return ""
    if link.how == "near":
        assert rules.least_cosine is not None
        return f": cosine {link.similarity:.4f} >= {rules.least_cosine[link.row]:g}"
    return f": Jaccard {link.similarity:.4f} >= {rules.least_jaccard:g} of their character 4-grams"


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


def _guard_holdout(plan: Plan, rules: CopyRules, deleted: np.ndarray) -> None:
    """Take out holdout candidates that copy a trained sample, for they count as members, or what was to be deleted.

    Of what was deleted before the reason does not say which: nobody is to be told of it any more.
    """
    gone = np.flatnonzero(deleted)
    asked, held = np.setdiff1d(plan.rows("drop"), gone), plan.rows("holdout")
    plan.give(held, "holdout", ["never trained on"] * held.size)
    trained = np.flatnonzero(~np.isin(plan.role, ("holdout", "drop")))
    for sources, what in ((trained, "trained '{}'"), (asked, "requested '{}'"), (gone, "a deleted sample")):
        links = rules.copies(plan.rows("holdout"), sources)
        _take(plan, rules, links, "drop", "{} copy of " + what + ", so no holdout")


def _name_what_remains(plan: Plan, rules: CopyRules, labels: np.ndarray) -> None:
    """Say of a forgotten sample that its very content is retained, which only another label allows."""
    retained = np.flatnonzero(np.isin(plan.role, ("retain", "neighbor")))
    for link in rules.exact(plan.rows("forget"), retained):
        plan.reason[link.row] += (
            f"; cannot be forgotten: exact copy '{plan.ids[link.source]}' is retained under label "
            f"'{labels[link.source]}'"
        )


def _unseen(vectors: Vectors | None, rules: CopyRules) -> str:
    """Return what was not looked for, as an end of the reason of what is retained."""
    if vectors is not None:
        return ""
    near = "near copies by embedding" if rules.wordings is not None else "near copies"
    return f"; no embedding, so {near} and neighbours were not looked for"


def _result(
    frame: pl.DataFrame, plan: Plan, groups: np.ndarray, weights: np.ndarray, lost: list[str], *, unseen: str
) -> pl.DataFrame:
    kept = np.isin(plan.role, ("retain", "neighbor"))
    reasons = [
        (reason or ("retained" + unseen if role == "retain" else role))
        + (f"; weight {weight:.4g} for group {name}" if stays and weight != 1 else "")
        + (f"; group lost: nothing of {name} is retained" if role == "forget" and name in lost else "")
        for reason, role, weight, stays, name in zip(
            plan.reason, plan.role, weights, kept, groups, strict=True
        )
    ]
    links = {link.row: link for link in plan.links}
    copies = [links.get(row) for row in range(plan.ids.size)]
    return frame.select("sample_id").with_columns(
        pl.Series("role", plan.role, dtype=pl.String),
        pl.Series("weight", np.where(kept, weights, np.where(plan.role == "drop", 0.0, 1.0))),
        pl.Series("reason", reasons, dtype=pl.String),
        pl.Series("pulled_by", [link and plan.ids[link.source] for link in copies], dtype=pl.String),
        pl.Series("how", [link and link.how for link in copies], dtype=pl.String),
        pl.Series("similarity", [link and link.similarity for link in copies], dtype=pl.Float64),
    )
