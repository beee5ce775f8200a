"""The copies of some samples, exact and near, and the copies of those, until there are no more.

Three ways to be a copy, looked for in this order: the same `content_hash` (exact), a high cosine of the embeddings
(near), a high Jaccard similarity of the wordings of texts (words, see `wordings`). Each round compares only with what
the round before brought, so a sample is pulled in by the shortest chain there is, and within a round by its most
similar partner; ties go to the smaller sample_id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Vectors, nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.selectors.decisions.wordings import LEAST_JACCARD, NEAR_WORDS, Wordings

SCHEMA = {"sample_id": pl.String, "pulled_by": pl.String, "how": pl.String, "similarity": pl.Float64}


@dataclass(frozen=True)
class Link:
    """A row that is a copy, of which row, and why."""

    row: int
    source: int
    how: str
    """exact, near or words."""
    similarity: float
    """1, a cosine, or a Jaccard similarity."""


@dataclass(frozen=True)
class CopyRules:
    """What makes two rows copies of each other; rows are in ascending order of their ids."""

    hashes: Sequence[str | None] | None
    vectors: Vectors | None
    least_cosine: np.ndarray | None
    """(N,) for each row as the copy of another; so its nearest source decides."""
    wordings: Wordings | None
    least_jaccard: float | None

    def closure(self, asked: np.ndarray, candidates: np.ndarray, kind: np.ndarray) -> list[Link]:
        """Return the candidates that copy an asked row, or copy one that does; copies are of one `kind` (N,)."""
        links: list[Link] = []
        frontier, left = asked, np.setdiff1d(candidates, asked)
        while frontier.size and left.size:
            found = [
                link
                for value in np.unique(kind[frontier])
                for link in self.copies(left[kind[left] == value], frontier[kind[frontier] == value])
            ]
            links += found
            frontier = np.array(sorted(link.row for link in found), dtype=np.int64)
            left = np.setdiff1d(left, frontier)
        return links

    def copies(self, rows: np.ndarray, sources: np.ndarray) -> list[Link]:
        """Return those of `rows` that copy one of `sources`, both ascending, each with its source."""
        links = self.exact(rows, sources)
        for how, search in (("near", self._near), ("words", self._worded)):
            rows = np.setdiff1d(rows, [link.row for link in links])
            if rows.size and sources.size:
                index, similarity, found = search(rows, sources)
                links += [
                    Link(int(rows[at]), int(sources[index[at]]), how, float(similarity[at]))
                    for at in np.flatnonzero(found)
                ]
        return links

    def exact(self, rows: np.ndarray, sources: np.ndarray) -> list[Link]:
        """Return those of `rows` that have the content of one of `sources`, each with the first such source."""
        if self.hashes is None:
            return []
        owner = {self.hashes[row]: int(row) for row in sources[::-1] if self.hashes[row] is not None}
        return [
            Link(int(row), owner[self.hashes[row]], "exact", 1.0) for row in rows if self.hashes[row] in owner
        ]

    def _near(self, rows: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.vectors is None or self.least_cosine is None:
            return rows, rows, np.zeros(rows.size, dtype=bool)
        index, cosines = nearest_rows(self.vectors, rows, sources, 1)
        return index[:, 0], cosines[:, 0], cosines[:, 0] >= self.least_cosine[rows]

    def _worded(self, rows: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.wordings is None or self.least_jaccard is None:
            return rows, rows, np.zeros(rows.size, dtype=bool)
        index, similarity = self.wordings.nearest(rows, sources, self.least_jaccard)
        return index, similarity, index >= 0


def duplicate_closure(
    frame: pl.DataFrame,
    asked: Sequence[str],
    *,
    embedding: np.ndarray | None = None,
    texts: Sequence[str] | None = None,
    least_cosine: float | None = None,
    least_jaccard: float | None = NEAR_WORDS,
    same_label: bool = False,
) -> pl.DataFrame:
    """Find all copies of the asked samples, and of their copies, with the pair that pulled each in.

    Parameters
    ----------
    frame : polars.DataFrame, N rows
        `sample_id` (unique) and, where there is one, `content_hash` (equal for exact copies, null for unknown);
        `label` for `same_label`. In any order.
    asked : sequence of str
        Ids whose copies are wanted.
    embedding : ndarray (N, D), optional
        In the frame's row order; with `least_cosine` near copies are those at least so alike.
    texts : sequence of N str, optional
        In the frame's row order; near copies by their wording are those of at least `least_jaccard`.
    least_cosine : float, optional
        In (0, 1]; None: embeddings are not compared.
    least_jaccard : float, optional
        In [0.5, 1], of character 4-grams; None: wordings are not compared.
    same_label : bool
        Whether only samples with the same label are copies of each other.

    Returns
    -------
    polars.DataFrame
        One row per sample that is pulled in, ascending by `sample_id`; `pulled_by`, the asked or pulled-in sample that
        it copies; `how` (exact, near, words); `similarity` (1, cosine, Jaccard; 6 digits). Without the asked ones.

    Raises
    ------
    BadInput
        For unknown ids, a threshold out of its range, or a cosine without an embedding.

    References
    ----------
    Broder 1997 (resemblance of documents, MinHash); Abbas et al. 2023 (near duplicates by embedding).

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": ["a", "b", "c", "d"], "content_hash": ["1", "1", "2", "3"]})
    >>> texts = ["pay my bill", "pay my bill", "pay my bills", "who wrote it"]
    >>> duplicate_closure(frame, ["a"], texts=texts).rows()
    [('b', 'a', 'exact', 1.0), ('c', 'a', 'words', 0.888889)]
    """
    check_thresholds(
        ("duplicate_closure: least_cosine", least_cosine), ("duplicate_closure: least_jaccard", least_jaccard)
    )
    if least_cosine is not None and embedding is None:
        raise BadInput("duplicate_closure: least_cosine needs an embedding; pass one, or leave it out")
    for name, given in (("embedding", embedding), ("texts", texts)):
        if given is not None and len(given) != frame.height:
            raise BadInput(
                f"duplicate_closure: {name} must have one row per sample, {frame.height}, in the frame's row order; "
                f"got {len(given)}"
            )
    order = frame["sample_id"].arg_sort().to_numpy()
    ids = frame["sample_id"][order]
    rows = rows_of(ids, asked, "duplicate_closure", "asked")
    labels = frame["label"][order].cast(pl.String).to_numpy() if same_label else np.zeros(len(ids))
    rules = CopyRules(
        hashes=frame["content_hash"][order].to_list() if "content_hash" in frame.columns else None,
        vectors=None
        if embedding is None or least_cosine is None
        else unit_rows(np.asarray(embedding)[order]),
        least_cosine=None if least_cosine is None else np.full(len(ids), float(least_cosine)),
        wordings=None
        if texts is None or least_jaccard is None or not rows.size
        else Wordings.of([texts[row] for row in order]),
        least_jaccard=None if texts is None else least_jaccard,
    )
    links = rules.closure(rows, np.arange(len(ids)), labels)
    made = [
        (ids[link.row], ids[link.source], link.how, link.similarity)
        for link in sorted(links, key=lambda link: link.row)
    ]
    return pl.DataFrame(made, schema=SCHEMA, orient="row")


def check_thresholds(cosine: tuple[str, object], jaccard: tuple[str, object]) -> None:
    """Refuse a cosine outside (0, 1] and a Jaccard similarity outside [0.5, 1], each given with its name.

    None stands for no comparison.
    """
    for (name, value), lowest, said in (
        (cosine, 0.0, "a cosine in (0, 1]"),
        (jaccard, LEAST_JACCARD, "a Jaccard similarity in [0.5, 1], below which many pairs would be missed"),
    ):
        if value is None:
            continue
        if (
            not isinstance(value, float | int)
            or isinstance(value, bool)
            or not lowest <= value <= 1
            or not value
        ):
            raise BadInput(f"{name} must be {said}, not {value!r}")


def rows_of(ids: pl.Series | np.ndarray, wanted: Sequence[str], who: str, what: str) -> np.ndarray:
    """Return the ascending rows of the wanted ids; `ids` is sorted, `who` and `what` are for the error."""
    if isinstance(wanted, str):
        raise BadInput(f"{who}: {what} must be a list of ids, not one text")
    unique = sorted({str(name) for name in wanted})
    index = {name: row for row, name in enumerate(ids)}
    unknown = [name for name in unique if name not in index]
    if unknown:
        raise BadInput(
            f"{who}: the frame lacks {len(unknown)} of {len(unique)} {what} ids, e.g. {unknown[:3]}"
        )
    return np.array([index[name] for name in unique], dtype=np.int64)
