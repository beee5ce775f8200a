"""What the report shows of influence and memorization: partners of the worklist's first entries, and the long tail.

High memorization is no fault by itself: a rare and right sample can be learned by heart alone, and so can a wrong
label. The long tail is told apart by what `label_noise` knows of each.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows.recordings import runs_of_state
from tracesift.scorers.influence.edges.contract import in_words

Memorization = Literal["measured", "proxy"]

PARTNERS = 3
"""Partners of either kind that are shown of an entry."""

MEMORIZED = 0.25
"""From this on a sample counts as memorized, as in Feldman and Zhang, section 3."""

PROXY = "dual"
"""The score of an ordinary recording that names most of the most memorized samples, where that was measured."""

PROXY_SHARE = 0.05
"""So many samples with the highest proxy stand for the memorized ones: a proxy has no scale of its own."""

PROXY_FOUND, PROXY_CORRELATION = 0.51, 0.69
"""How many of the 5 % most memorized are among its first 5 %, and its rank correlation with memorization: the mlp on
10,000 Fashion-MNIST images, three seeds, `benchmarks/memorization.py`."""

TAIL = 12
"""Samples shown of each part of the long tail."""


def partners_of(catalog: Catalog, sample_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the strongest partners of each sample, by the newest edges with standard errors, or else the newest.

    Returns
    -------
    dict
        sample_id -> rows of `kind`, `rank`, `partner_id`, `label`, `value`, `spread`, `method`, `params`; samples
        without edges are absent.
    """
    rows = catalog.query(
        f"""
        SELECT e.sample_id, e.kind, e.rank, e.partner_id, p.label, e.value, e.spread, e.method, e.params
        FROM influence_edges e JOIN samples p ON p.dataset_id = e.dataset_id AND p.sample_id = e.partner_id
        WHERE e.seq = (
            SELECT s.seq FROM edge_sets s JOIN edge_rows r USING (edge_key)
            WHERE s.seq IN (SELECT max(seq) FROM edge_sets GROUP BY method)
            GROUP BY s.seq ORDER BY count(r.spread) > 0 DESC, s.seq DESC LIMIT 1
        ) AND e.rank <= {PARTNERS} AND list_contains(?, e.sample_id)
        ORDER BY e.sample_id, e.kind DESC, e.rank
        """,
        (list(sample_ids),),
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows.to_dicts():
        found.setdefault(row.pop("sample_id"), []).append({**row, "params": json.loads(row["params"])})
    return found


def influenced_by(row: Mapping[str, Any]) -> str:
    """Return the method of a partner in words; k goes unsaid, since no more than `PARTNERS` are shown anyway."""
    return in_words(row["method"], {key: value for key, value in row["params"].items() if key != "k"})


@dataclass(frozen=True)
class Proxy:
    """The score that stands for memorization where nobody measured it."""

    values: pl.DataFrame
    """sample_id, value"""
    told: str
    """Which one it is, and which others are stored, in words."""


def stored_proxy(catalog: Catalog, dataset_id: str) -> Proxy:
    """Return the proxy of the newest recording, whatever settings it was computed with; with several, the usual ones.

    Where the newest recording has none, that of another is taken, and said to be.

    Raises
    ------
    BadInput
        There is none.
    """
    newest = set(runs_of_state(catalog, dataset_id))
    rows = catalog.query(
        "SELECT c.column_name, c.params, r.run_id, r.dataset_id, u.config FROM score_columns c "
        "JOIN score_runs r USING (run_key) LEFT JOIN runs u USING (run_id) WHERE c.scorer = ? "
        "ORDER BY c.seq DESC, c.run_key DESC",
        (PROXY,),
    ).to_dicts()
    of_newest = [
        row for row in rows if {*json.loads(row["config"] or "{}").get("runs", [row["run_id"]])} <= newest
    ]
    each: dict[str, dict[str, Any]] = {}
    for row in of_newest or rows:
        each.setdefault(row["params"], row)
    if not each:
        raise BadInput(
            f"--memorization proxy reads the score {PROXY}, and none is stored: run `tracesift score {PROXY}` first, "
            f"on a recording of 10 epochs or more, or of fewer `tracesift score {PROXY} --param window=3`"
        )
    taken = next((row for row in each.values() if row["column_name"] == PROXY), next(iter(each.values())))
    values = catalog.query(
        "SELECT sample_id, value FROM scores WHERE scorer = ? AND params = ? AND run_id = ? AND dataset_id = ?",
        (PROXY, taken["params"], taken["run_id"], taken["dataset_id"]),
    )
    others = [_settled(row) for row in each.values() if row is not taken]
    told = f"{_settled(taken)} of run {taken['run_id']}" + ("" if of_newest else ", which is not the newest")
    return Proxy(values, told + (f"; also stored, and not taken: {', '.join(others)}" if others else ""))


def _settled(row: Mapping[str, Any]) -> str:
    """Return the proxy's name with all its settings."""
    settings = {key: value for key, value in json.loads(row["params"]).items() if value is not None}
    return f"{PROXY} ({', '.join(f'{key}={value}' for key, value in settings.items())})"


def long_tail(
    scores: pl.DataFrame,
    flags: pl.DataFrame,
    proxy: Proxy | None = None,
    *,
    found_wrong: Collection[str] = (),
) -> dict[str, Any] | None:
    """Return the memorized samples in parts: probably clean, probably mislabeled, and where that cannot be told.

    Parameters
    ----------
    scores
        A row per training sample, with `memorization_subset` and `memorization_subset_error` where they were computed.
    flags
        Answers, of which `label_noise` tells the parts apart by its confidence: mislabeled where a wrong label is
        likelier than a right one. Where it has none, its answer decides, and *cannot tell* remains so.
    proxy
        Where it is given, the 5 % with the highest of its values count as memorized, which are about half of those that
        are; otherwise all with `memorization_subset` from 0.25 on.
    found_wrong
        Samples whose label a person found to be another: mislabeled, whatever the flag says.

    Returns
    -------
    dict or None
        `memorized`, `samples` (how many of how many have a value), `sure` (how many of the memorized are above 0 by
        two standard errors, where these are known, else None), `parts` (each `name`, `count` and `rows` of
        `sample_id`, `label`, `memorization`, `error`, `confidence`, the most memorized first; the last part only where
        there are such samples), `proxy` (its name, what is `told` of it, `found` and `correlation`, or None). None
        without the measured score.

    Examples
    --------
    >>> scores = pl.DataFrame({"sample_id": ["a", "b"], "label": "cat", "memorization_subset": [0.9, 0.1]})
    >>> said = {"flag": ["label_noise"], "sample_id": ["a"], "flagged": [True], "confidence": [0.97]}
    >>> found = long_tail(scores, pl.DataFrame(said))
    >>> found["memorized"], [(part["name"], part["count"]) for part in found["parts"]]
    (1, [('probably clean', 0), ('probably mislabeled', 1)])
    """
    by, error = "memorization_subset", "memorization_subset_error"
    if proxy is not None:
        scores = scores.select("sample_id", "label").join(
            proxy.values.rename({"value": by}), on="sample_id", how="left", maintain_order="left"
        )
    if by not in scores.columns:
        return None
    known_error = error in scores.columns
    answers = flags.filter(pl.col("flag") == "label_noise").select("sample_id", "flagged", "confidence")
    known = (
        scores.select(
            "sample_id",
            "label",
            memorization=pl.col(by).cast(pl.Float64).fill_nan(None),
            error=pl.col(error).cast(pl.Float64) if known_error else pl.lit(None, dtype=pl.Float64),
        )
        .drop_nulls("memorization")
        .sort(["memorization", "sample_id"], descending=[True, False])
    )
    first = int(PROXY_SHARE * known.height)
    high = known.head(first) if proxy is not None else known.filter(pl.col("memorization") >= MEMORIZED)
    high = high.join(answers, on="sample_id", how="left", maintain_order="left")
    wrong = pl.col("sample_id").is_in(list(found_wrong)) | pl.coalesce(pl.col("confidence") > 0.5, "flagged")
    told = {"probably clean": high.filter(~wrong), "probably mislabeled": high.filter(wrong)}
    untold = high.filter(wrong.is_null())
    parts = [
        {"name": name, "count": part.height, "rows": part.drop("flagged").head(TAIL).to_dicts()}
        for name, part in (told | ({"cannot be told": untold} if untold.height else {})).items()
    ]
    told_of_proxy = {
        "name": PROXY, "told": proxy.told, "found": PROXY_FOUND, "correlation": PROXY_CORRELATION,
    } if proxy is not None else None  # fmt: skip
    sure = high.filter(pl.col("memorization") > 2 * pl.col("error")).height
    return {
        "memorized": high.height, "sure": sure if known_error else None, "samples": known.height, "parts": parts,
        "proxy": told_of_proxy,
    }  # fmt: skip


def shown_in(
    partners: Mapping[str, Sequence[Mapping[str, Any]]], tail: Mapping[str, Any] | None
) -> list[str]:
    """Return the samples whose content the two views show, each once."""
    ids = [row["partner_id"] for rows in partners.values() for row in rows]
    ids += [row["sample_id"] for part in (tail or {"parts": ()})["parts"] for row in part["rows"]]
    return list(dict.fromkeys(ids))
