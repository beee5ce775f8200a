"""Questions about what is stored: why is this sample where it is, and how do two runs' scores differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl

from tracesift.catalog.connection import identifier, records, rows
from tracesift.catalog.schema import BadInput
from tracesift.catalog.views import newest_columns, newest_dataset, newest_flags

_JSON = (
    "classes",
    "options",
    "transform",
    "notes",
    "wheels",
    "config",
    "details",
    "params",
    "word_keys",
    "attributes",
    "inputs",
)

PARTNERS = 10
"""Edges of either kind and method that an explanation holds; the view `influence_edges` has all."""


def decoded(record: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a dict with its JSON columns read, times in ISO form and internal columns left out."""
    hidden = ("seq", "run_key", "flag_key", "subset_key", "sample_row")
    return {name: _decoded(name, value) for name, value in record.items() if name not in hidden}


def _decoded(name: str, value: Any) -> Any:
    if name in _JSON and isinstance(value, str):
        return json.loads(value)
    if hasattr(value, "isoformat"):
        return value.isoformat() + "Z"
    return value


def jobs_in_words(details: Mapping[str, Any]) -> list[str]:
    """Return what each job that added signals to a recording ran with, a sentence for each.

    Parameters
    ----------
    details : what `runs` keeps of the recording under this name; its `arrays` say of each signal how it was made.

    Examples
    --------
    >>> made = {"job": "ssft", "version": 1, "model": {"name": "mlp"}, "epochs": 30, "seed": 0}
    >>> made |= {"settings": {"epochs": 4}, "signals": ["first_split_correct"]}
    >>> jobs_in_words({"arrays": {"first_split_correct": made, "embedding": {"layer": "penultimate"}}})
    ['job ssft: model mlp, seed 0, 4 epochs (made first_split_correct)']
    """
    said = {}
    for name, made in (details.get("arrays") or {}).items():
        if not isinstance(made, Mapping) or "job" not in made:
            continue
        settings = {key: value for key, value in made["settings"].items() if value is not None}
        epochs = settings.pop("epochs", None)
        parts = [
            f"model {made['model']['name']}",
            f"seed {made['seed']}",
            f"{epochs} epochs"
            if epochs is not None
            else f"default epochs (the recording has {made['epochs']})",
            *(f"{key}={value}" for key, value in settings.items()),
            *([f"{made['parts']} parts made"] if "parts" in made else []),
        ]
        signals = tuple(made.get("signals", [name]))
        said[made["job"], signals] = f"job {made['job']}: {', '.join(parts)} (made {', '.join(signals)})"
    return list(said.values())


def why(con: duckdb.DuckDBPyConnection, sample_id: str) -> dict[str, Any]:
    """Return everything known of one sample, as a dict that JSON can hold.

    Its keys: `sample`; `scores` (value, spread, and `rank` among the `of` samples scored, 1 = most of what
    `direction` names, which it shares with `ties` others; null where all are alike); `flags` with score, threshold and
    reason; `subsets` (newest version of each) with role, weight and reason; `influence`, the partners that a training
    sample helps and harms most by the newest edges of each method (the first ten, `of` so many of a kind), and
    `influenced_by`, the training samples that help and harm a validation sample most; `influenced_by_unknown`, methods
    whose newest edges are of a version that did not find these; `reviews`; and `lineage`, the dataset and the runs that
    these rest on, those that a combined run is made of included.

    Parameters
    ----------
    sample_id : the id, or a beginning of it that no other id shares.

    Raises
    ------
    BadInput
        No dataset state of this catalog holds the sample, or several ids begin like this.
    """
    sample_id = _whole_id(con, sample_id)
    found = records(
        con,
        "SELECT s.* FROM samples s JOIN datasets d USING (dataset_id) WHERE sample_id = ? "
        "ORDER BY d.seq DESC LIMIT 1",
        (sample_id,),
    )
    dataset_id = found[0]["dataset_id"]
    scores = _scores_of(con, dataset_id, sample_id)
    flags = _flags_of(con, dataset_id, sample_id)
    subsets = records(
        con,
        """
        SELECT r.name, r.version, r.subset_id, r.selector, r.params, r.control_of,
               m.role, m.weight, m.new_label, m.reason
        FROM member_rows m JOIN subset_records r USING (subset_key)
        JOIN samples s ON s.dataset_id = r.dataset_id AND s.sample_row = m.sample_row
        WHERE s.sample_id = ?
          AND r.version = (SELECT max(version) FROM subset_records o WHERE o.name = r.name)
        ORDER BY r.name
        """,
        (sample_id,),
    )
    influence = _edges_of(con, "sample_id", "partner_id", "rank", sample_id)
    influenced_by = _edges_of(con, "partner_id", "sample_id", "partner_rank", sample_id)
    used = sorted({entry["run_id"] for entry in [*scores, *flags, *influence, *influenced_by]})
    datasets = records(con, "SELECT * FROM datasets WHERE dataset_id = ?", (dataset_id,))
    runs = records(
        con,
        "SELECT * FROM runs WHERE list_contains(?, run_id) OR run_id IN (SELECT unnest(from_json(config->'runs', "
        "'[\"VARCHAR\"]')) FROM runs WHERE list_contains(?, run_id) AND kind = 'combined') ORDER BY seq",
        (used, used),
    )
    reviews = records(con, "SELECT label, note, reviewed_at FROM reviews WHERE sample_id = ?", (sample_id,))
    return {
        "sample": decoded(found[0]),
        "scores": scores,
        "flags": flags,
        "subsets": [decoded(entry) for entry in subsets],
        "influence": influence,
        "influenced_by": influenced_by,
        "influenced_by_unknown": _without_origins(con, sample_id),
        "reviews": [decoded(entry) for entry in reviews],
        "lineage": {"dataset": decoded(datasets[0]), "runs": [decoded(entry) for entry in runs]},
    }


def _whole_id(con: duckdb.DuckDBPyConnection, beginning: str) -> str:
    if rows(con, "SELECT 1 FROM samples WHERE sample_id = ? LIMIT 1", (beginning,)):
        return beginning
    sql = "SELECT DISTINCT sample_id FROM samples WHERE starts_with(sample_id, ?) ORDER BY 1 LIMIT 4"
    found = [name for (name,) in rows(con, sql, (beginning,))] if beginning else []
    if not found:
        raise BadInput(
            f"no sample '{beginning}' in this catalog: `tracesift sql \"FROM samples\"` lists them"
        )
    if len(found) > 1:
        raise BadInput(
            f"several samples begin with '{beginning}': {', '.join(found[:3])}, …; give more of the id"
        )
    return str(found[0])


def _scores_of(con: duckdb.DuckDBPyConnection, dataset_id: str, sample_id: str) -> list[dict[str, Any]]:
    by_run: dict[int, list[dict[str, Any]]] = {}
    for column in newest_columns(con, dataset_id):
        by_run.setdefault(column["run_key"], []).append(column)
    entries = [entry for key, columns in by_run.items() for entry in _ranked(con, key, columns, sample_id)]
    return sorted(entries, key=lambda entry: str(entry["scorer"]))


def _ranked(
    con: duckdb.DuckDBPyConnection, key: int, columns: list[dict[str, Any]], sample_id: str
) -> list[dict[str, Any]]:
    """Return the sample's values in one run's table, each with its rank, in one pass over the table."""
    wanted = [identifier(column["column_name"]) for column in columns]
    spreads = [f'"{c["column_name"]}.spread"' if c["has_spread"] else "NULL" for c in columns]
    own = rows(
        con, f"SELECT {', '.join(wanted + spreads)} FROM wide.run_{key} WHERE sample_id = ?", (sample_id,)
    )
    if not own:
        return []
    values, deviations = own[0][: len(columns)], own[0][len(columns) :]
    counts = ", ".join(
        f"count({name}), count(*) FILTER (WHERE {name} > ?), count(*) FILTER (WHERE {name} = ?)"
        for name in wanted
    )
    compared = tuple(value for value in values for _ in range(2))
    (counted,) = rows(con, f"SELECT {counts} FROM wide.run_{key}", compared)
    scored, above, equal = counted[::3], counted[1::3], counted[2::3]
    return [
        {
            "scorer": column["scorer"],
            "value": values[place],
            "spread": deviations[place],
            "rank": None if values[place] is None or equal[place] == scored[place] else above[place] + 1,
            "of": scored[place],
            "ties": None if values[place] is None else equal[place] - 1,
            "direction": column["direction"],
            "version": column["scorer_version"],
            "params": json.loads(column["params"]),
            "run_id": column["run_id"],
        }
        for place, column in enumerate(columns)
    ]


def _flags_of(con: duckdb.DuckDBPyConnection, dataset_id: str, sample_id: str) -> list[dict[str, Any]]:
    newest = {(flag["dataset_id"], flag["run_id"], flag["flag"]) for flag in newest_flags(con, dataset_id)}
    found = records(con, "SELECT * FROM flags WHERE sample_id = ? ORDER BY flag", (sample_id,))
    shown = ("flag", "flagged", "score", "threshold", "reason", "suggestion", "confidence", "run_id")
    return [
        {name: entry[name] for name in shown}
        for entry in found
        if (entry["dataset_id"], entry["run_id"], entry["flag"]) in newest
    ]


def _edges_of(
    con: duckdb.DuckDBPyConnection, own: str, other: str, rank: str, sample_id: str
) -> list[dict[str, Any]]:
    """Return the strongest edges of a sample at its own end, each with the other end's label and file.

    `of` is how many of its method and kind there are, of which these are the first `PARTNERS`.
    """
    found = records(
        con,
        f"""
        SELECT e.method, e.kind, e.{other} AS partner_id, s.split AS partner_split, s.label AS partner_label,
               json_extract_string(s.attributes, '$.path') AS partner_path, e.value, e.spread, e.params, e.run_id
        FROM influence_edges e JOIN samples s ON s.dataset_id = e.dataset_id AND s.sample_id = e.{other}
        WHERE e.{own} = ? AND e.{rank} IS NOT NULL
        ORDER BY e.method, e.kind DESC, e.{rank}
        """,
        (sample_id,),
    )
    shown: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in found:
        shown.setdefault((entry["method"], entry["kind"]), []).append(decoded(entry))
    return [entry | {"of": len(entries)} for entries in shown.values() for entry in entries[:PARTNERS]]


def _without_origins(con: duckdb.DuckDBPyConnection, sample_id: str) -> list[str]:
    """Return methods whose newest edges name a partner, and were made before partners had a rank for them."""
    sql = """
        SELECT method FROM influence_edges WHERE partner_id = ? AND seq NOT IN (
            SELECT seq FROM edge_sets WHERE edge_key IN (
                SELECT edge_key FROM edge_rows WHERE partner_rank IS NOT NULL
            )
        ) GROUP BY method ORDER BY method
    """
    return [method for (method,) in rows(con, sql, (sample_id,))]


def diff_runs(con: duckdb.DuckDBPyConnection, first: str, second: str) -> pl.DataFrame:
    """Compare the scores of two runs over the samples that both cover.

    Returns
    -------
    polars.DataFrame
        One row per scorer of either run: `scorer, in_first, in_second, samples, rank_correlation` (Spearman;
        null where constant), `top_overlap` (share in common of the highest tenth), `mean_change, max_change`
        (second minus first, the latter absolute) and `most_changed` (a sample_id).

    Raises
    ------
    BadInput
        A run has no scores in this catalog.
    """
    ours, theirs = _run_columns(con, first), _run_columns(con, second)
    lines = [
        {"scorer": name, "in_first": name in ours, "in_second": name in theirs}
        | (_agreement(con, name, ours[name], theirs[name]) if name in ours and name in theirs else {})
        for name in sorted(ours.keys() | theirs.keys())
    ]
    schema = {
        "scorer": pl.String(), "in_first": pl.Boolean(), "in_second": pl.Boolean(), "samples": pl.Int64(),
        "rank_correlation": pl.Float64(), "top_overlap": pl.Float64(), "mean_change": pl.Float64(),
        "max_change": pl.Float64(), "most_changed": pl.String(),
    }  # fmt: skip
    return pl.DataFrame(lines, schema=schema)


def _run_columns(con: duckdb.DuckDBPyConnection, run_id: str) -> dict[str, int]:
    """Return column name -> key of the wide table; the newest dataset state wins where a run has several."""
    newest = newest_dataset(con)
    found = rows(
        con,
        "SELECT column_name, run_key FROM score_columns JOIN score_runs USING (run_key) WHERE run_id = ? "
        "ORDER BY dataset_id = ?, seq",
        (run_id, newest),
    )
    if not found:
        known = [
            row[0] for row in rows(con, "SELECT DISTINCT run_id FROM score_runs ORDER BY run_id LIMIT 5")
        ]
        raise BadInput(f"run {run_id} has no scores here; runs that have: {', '.join(known) or 'none'}")
    return dict(found)


def _agreement(con: duckdb.DuckDBPyConnection, name: str, ours: int, theirs: int) -> dict[str, Any]:
    column = identifier(name)
    both = con.sql(
        f"SELECT a.sample_id, a.{column} AS a, b.{column} AS b FROM wide.run_{ours} a "
        f"JOIN wide.run_{theirs} b USING (sample_id) WHERE a.{column} IS NOT NULL AND b.{column} IS NOT NULL "
        "ORDER BY sample_id"
    ).pl()
    if both.is_empty():
        return {"samples": 0}
    change = both["b"] - both["a"]
    correlation = both.select(pl.corr(pl.col("a").rank(), pl.col("b").rank())).item()
    tenth = max(1, both.height // 10)
    top = [
        set(both.sort(by, "sample_id", descending=[True, False])["sample_id"][:tenth]) for by in ("a", "b")
    ]
    return {
        "samples": both.height,
        "rank_correlation": None if correlation is None or correlation != correlation else correlation,
        "top_overlap": len(top[0] & top[1]) / tenth,
        "mean_change": change.mean(),
        "max_change": change.abs().max(),
        "most_changed": both["sample_id"][int(change.abs().arg_max() or 0)],
    }
