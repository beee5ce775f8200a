"""Writing edges of influence: who helps and harms whom, as rows of numbers; views give ids back.

`influence_edges` shows the newest set of each method, `all_influence_edges` every set.

An edge of a million samples is written forty million times, so it holds the rows of its two samples and not their ids,
and its value as a float of 32 bits: what is estimated is never known to seven digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import numpy as np
import polars as pl

from tracesift.catalog.connection import identifier, rows
from tracesift.catalog.files import canonical_json
from tracesift.catalog.frames import conform
from tracesift.catalog.schema import BadInput
from tracesift.catalog.scores import made_from, samples_of, with_rows
from tracesift.catalog.tables import next_number

EDGE_COLUMNS: dict[str, pl.DataType] = {
    "sample": pl.Int32(), "partner": pl.Int32(), "value": pl.Float32(), "spread": pl.Float32(), "rank": pl.Int16(),
    "partner_rank": pl.Int16(),
}  # fmt: skip
"""What a frame of edges holds: places among the two lists of ids, the value, its spread, and its place among the pairs
of either end, 1 for the strongest of its kind; null where it is not among those of that end. Above 0 the sample helps
the partner, below it harms."""


def put_edges(
    con: duckdb.DuckDBPyConnection,
    run_id: str,
    dataset_id: str,
    frame: pl.DataFrame,
    ids: tuple[Sequence[str], Sequence[str]],
    meta: Mapping[str, Any],
) -> None:
    """Replace the edges of one method with these settings of a run. See `Catalog.put_edges`."""
    identifier(meta["method"])
    what = f"edges of {meta['method']} of run {run_id}"
    whole = conform(frame, EDGE_COLUMNS, what=what, required=("sample", "partner", "value"))
    if whole.filter(pl.col("rank").is_null() & pl.col("partner_rank").is_null()).height:
        raise BadInput(f"{what}: an edge has neither a rank nor a partner_rank")
    known = samples_of(con, dataset_id)
    samples, partners = (_rows_of(known, side, what) for side in ids)
    for column, there in (("sample", samples), ("partner", partners)):
        places = whole[column]
        if whole.height and not 0 <= _number(places.min()) <= _number(places.max()) < len(there):
            raise BadInput(
                f"{what}: a {column} is no place in the list of {len(there)} ids that belongs to it"
            )
    numbered = whole.select(
        pl.Series("sample_row", samples[whole["sample"].to_numpy()], dtype=pl.Int32),
        pl.Series("partner_row", partners[whole["partner"].to_numpy()], dtype=pl.Int32),
        "value",
        pl.col("spread").fill_nan(None),
        "rank",
        "partner_rank",
    ).sort("sample_row", "rank", "partner_row", nulls_last=True, maintain_order=True)
    params = canonical_json(dict(meta.get("params") or {})).decode()
    where, owner = (
        "dataset_id = ? AND run_id = ? AND method = ? AND params = ?",
        [dataset_id, run_id, meta["method"], params],
    )
    con.execute(
        f"DELETE FROM edge_rows WHERE edge_key IN (SELECT edge_key FROM edge_sets WHERE {where})", owner
    )
    con.execute(f"DELETE FROM edge_sets WHERE {where}", owner)
    key, seq = next_number(con, "edge_sets", "edge_key"), next_number(con, "edge_sets")
    con.execute(
        "INSERT INTO edge_sets VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [key, dataset_id, run_id, meta["method"], int(meta["version"]), params, seq, made_from(meta)],
    )
    con.register("incoming", numbered)
    con.execute(f"INSERT INTO edge_rows SELECT {key}, * FROM incoming")
    con.unregister("incoming")


def has_edges(
    con: duckdb.DuckDBPyConnection,
    run_id: str,
    method: str,
    params: Mapping[str, Any],
    read: Mapping[str, str],
) -> bool:
    """Whether edges of this method with these settings stand here for the run. See `Catalog.has_edges`."""
    sql = "SELECT 1 FROM edge_sets WHERE run_id = ? AND method = ? AND params = ? AND coalesce(made_from = ?, true)"
    written = [canonical_json(dict(one)).decode() for one in (params, read)]
    return bool(rows(con, sql, (run_id, method, *written)))


def make_newest(con: duckdb.DuckDBPyConnection, asked: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
    """Put sets of edges that stand here behind all others, in this order. See `Catalog.make_edges_newest`."""
    known = "SELECT edge_key FROM edge_sets WHERE run_id = ? AND method = ? AND params = ? ORDER BY seq DESC LIMIT 1"
    keys = [
        key
        for run_id, method, params in asked
        for (key,) in rows(con, known, (run_id, method, canonical_json(dict(params)).decode()))
    ]
    last = rows(con, "SELECT edge_key FROM edge_sets ORDER BY seq DESC LIMIT ?", (len(keys),))
    if [key for (key,) in reversed(last)] == keys:
        return
    for seq, key in enumerate(keys, start=next_number(con, "edge_sets")):
        con.execute("UPDATE edge_sets SET seq = ? WHERE edge_key = ?", [seq, key])


def _rows_of(known: pl.DataFrame, ids: Sequence[str], what: str) -> np.ndarray:
    """Return the sample_row of each id, in the order of the ids."""
    listed = pl.DataFrame({"sample_id": pl.Series(ids, dtype=pl.String)}).with_row_index("place")
    return with_rows(known, listed, what=what).sort("place")["sample_row"].to_numpy()


def _number(value: Any) -> int:
    return int(value)
