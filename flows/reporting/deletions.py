"""The deletion requests as the report lists them: when, how many and whether purged, and nobody's id."""

from __future__ import annotations

from typing import Any

import polars as pl

from tracesift.flows.purging.purged import purges_of
from tracesift.flows.work import Work

SHOWN = (
    "request_id", "kind", "num_requested", "num_exact", "num_near", "num_found", "subset", "version", "status",
)  # fmt: skip
"""What of a row of `forget_requests` stands in the report; the source may name a person."""


def deletions(work: Work) -> list[dict[str, Any]]:
    """Return a row per deletion request, earliest first.

    Returns
    -------
    list of dict
        `SHOWN`; ``num_untrained``; ``created`` (UTC, to the minute); ``purged``: yes, in part, no, before (all that it
        names was deleted before it), or not known, where nothing is kept any more by which its samples could be
        recognised.
    """
    requests = work.catalog.forget_requests()
    if not requests:
        return []
    samples = work.catalog.query("SELECT DISTINCT sample_id, content_hash FROM samples ORDER BY ALL")
    found = work.catalog.recognised(samples).group_by("request_id").agg(pl.col("sample_id").n_unique())
    left, purges = dict(found.iter_rows()), purges_of(work)["purges"]
    return [
        {name: row[name] for name in SHOWN}
        | {
            "num_untrained": (row["details"] or {}).get("num_untrained", 0),
            "created": row["created_at"][:16].replace("T", " "),
            "purged": _purged(row, left.get(row["request_id"], 0), purges),
        }
        for row in requests
    ]


def _purged(row: dict[str, Any], left: int, purges: list[dict[str, Any]]) -> str:
    if row["status"] not in ("begun", "done"):
        return "yes" if any(one["request"] == row["request_id"] for one in purges) else "not known"
    concerned = (row["num_found"] or 0) + (row["details"] or {}).get("num_untrained", 0)
    if not concerned:
        return "before"
    if not purges or left >= concerned:
        return "no"
    return "in part" if left else "yes"
