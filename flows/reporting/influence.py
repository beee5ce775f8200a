"""What the report shows of influence and memorization: partners of the worklist's first entries, the validation
samples that are harmed most, and the long tail.

High memorization is no fault by itself: a rare and right sample can be learned by heart alone, and so can a wrong
label. The long tail is told apart by what `label_noise` knows of each.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl
from scipy.stats import norm

from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows.recordings import runs_of_state
from tracesift.scorers.influence.edges.contract import in_words

Memorization = Literal["measured", "proxy"]

PARTNERS = 3
"""Partners of either kind that are shown of an entry."""

HARMED = 8
"""Validation samples that are shown with those who harm them most."""

_SHOWN_SET = """(
    SELECT s.seq FROM edge_sets s JOIN edge_rows r USING (edge_key)
    WHERE s.seq IN (SELECT max(seq) FROM edge_sets GROUP BY method)
    GROUP BY s.seq ORDER BY count(r.spread) > 0 DESC, s.seq DESC LIMIT 1
)"""
"""The newest edges with standard errors, or else the newest."""

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


def chance(catalog: Catalog) -> tuple[int, float]:
    """Return among how many pairs the shown edges are the strongest, and how many standard errors rule out chance.

    Were no influence above 0 or below it, one of all these pairs would lie beyond with a probability of 5 % at most
    (Bonferroni, a normal error).
    """
    pairs = catalog.query(
        f"""
        SELECT count(*) FILTER (s.split = 'train') * count(*) FILTER (s.split = 'val') FROM samples s
        WHERE s.dataset_id = (SELECT dataset_id FROM edge_sets WHERE seq = {_SHOWN_SET})
        """
    ).item()
    return int(pairs), float(norm.isf(0.05 / (2 * max(1, pairs))))


def _told(row: Mapping[str, Any], level: float) -> dict[str, Any]:
    """Return a partner with its settings, and whether its value is more than chance, where an error tells."""
    sure = None if row["spread"] is None else abs(row["value"]) > level * row["spread"]
    return {**row, "params": json.loads(row["params"]), "sure": sure}


def partners_of(
    catalog: Catalog, sample_ids: Sequence[str], without: Sequence[str] = ()
) -> dict[str, list[dict[str, Any]]]:
    """Return the strongest partners of each sample, by the newest edges with standard errors, or else the newest.

    Parameters
    ----------
    without
        Partners that are not to be named.

    Returns
    -------
    dict
        sample_id -> rows of `kind`, `rank`, `partner_id`, `label`, `value`, `spread`, `method`, `params`, and `sure`,
        whether it is more than `chance`, None without an error; samples without edges are absent.
    """
    rows = catalog.query(
        f"""
        WITH listed AS (
            SELECT *, list_contains(?, partner_id) AS unnamed FROM influence_edges
            WHERE seq = {_SHOWN_SET} AND list_contains(?, sample_id)
        ), placed AS (
            SELECT *, rank - count(*) FILTER (unnamed) OVER (PARTITION BY sample_id, kind ORDER BY rank) AS place
            FROM listed
        )
        SELECT e.sample_id, e.kind, e.rank, e.partner_id, p.label, e.value, e.spread, e.method, e.params
        FROM placed e JOIN samples p ON p.dataset_id = e.dataset_id AND p.sample_id = e.partner_id
        WHERE e.place <= {PARTNERS} AND NOT e.unnamed
        ORDER BY e.sample_id, e.kind DESC, e.rank
        """,
        (list(without), list(sample_ids)),
    )
    found: dict[str, list[dict[str, Any]]] = {}
    _, level = chance(catalog)
    for row in rows.to_dicts():
        found.setdefault(row.pop("sample_id"), []).append(_told(row, level))
    return found


def harmed_most(catalog: Catalog, without: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the validation samples that single training samples harm most, by the same edges as `partners_of`.

    Parameters
    ----------
    without
        Samples that are not to be named, at either end.

    Returns
    -------
    dict or None
        `items`: `sample_id` and `label` of a validation sample, and `by`: the training samples that harm it most, as
        rows of `partner_id`, `label`, `value`, `spread`, `method`, `params`, `sure`. First the one whose worst is
        harmful by the most even at two standard errors less. `pairs` and `level` as `chance` returns them, and `sure`,
        how many of these validation samples somebody harms by more than chance; None where the method has no errors.
        None where no edges have lists of validation samples.
    """
    rows = catalog.query(
        f"""
        WITH named AS (
            SELECT e.*, row_number() OVER (PARTITION BY e.partner_id ORDER BY e.partner_rank) AS place
            FROM influence_edges e WHERE e.seq = {_SHOWN_SET} AND e.kind = 'harm' AND e.partner_rank IS NOT NULL
              AND NOT list_contains(?, e.sample_id) AND NOT list_contains(?, e.partner_id)
        ), first AS (
            SELECT partner_id, least(value + 2 * coalesce(spread, 0), 0) AS surely, value AS worst FROM named
            WHERE place = 1 ORDER BY surely, worst, partner_id LIMIT {HARMED}
        )
        SELECT n.partner_id AS sample_id, v.label AS own, n.sample_id AS partner_id, p.label, n.value, n.spread,
               n.method, n.params
        FROM named n JOIN first f USING (partner_id)
        JOIN samples v ON v.dataset_id = n.dataset_id AND v.sample_id = n.partner_id
        JOIN samples p ON p.dataset_id = n.dataset_id AND p.sample_id = n.sample_id
        WHERE n.place <= {PARTNERS} ORDER BY f.surely, f.worst, n.partner_id, n.place
        """,
        (list(without), list(without)),
    )
    found: dict[str, dict[str, Any]] = {}
    pairs, level = chance(catalog)
    for row in rows.to_dicts():
        one = found.setdefault(
            row["sample_id"], {"sample_id": row.pop("sample_id"), "label": row["own"], "by": []}
        )
        del row["own"]
        one["by"].append(_told(row, level))
    if not found:
        return None
    items = list(found.values())
    told = [any(row["sure"] for row in item["by"]) for item in items]
    errors = all(row["sure"] is not None for item in items for row in item["by"])
    return {"items": items, "pairs": pairs, "level": level, "sure": sum(told) if errors else None}


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
    partners: Mapping[str, Sequence[Mapping[str, Any]]],
    harmed: Mapping[str, Any] | None,
    tail: Mapping[str, Any] | None,
) -> list[str]:
    """Return the samples whose content the three views show, each once."""
    ids = [row["partner_id"] for rows in partners.values() for row in rows]
    for item in (harmed or {"items": ()})["items"]:
        ids += [item["sample_id"], *(row["partner_id"] for row in item["by"])]
    ids += [row["sample_id"] for part in (tail or {"parts": ()})["parts"] for row in part["rows"]]
    return list(dict.fromkeys(ids))
