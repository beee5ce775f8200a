"""Commands that only look: `sql`, `why`, `scorers`, `selectors`. None of them loads torch or prefect."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import polars as pl
from cyclopts import Parameter

from tracesift.catalog.schema import BadInput, WorkspaceBusy
from tracesift.flows.options import Common
from tracesift.flows.show import console, print_json, print_table

Flag = Parameter(negative="")


def sql(
    query: str,
    /,
    *,
    common: Common = Common(),
    csv: Annotated[bool, Flag] = False,
    parquet: Path | None = None,
    snapshot: Annotated[bool, Flag] = False,
) -> int:
    """Ask the catalog a read-only question in SQL.

    The tables: samples, sample_scores (a row per sample, a column per scorer), sample_flags, scores, flags,
    trajectories (every epoch of every sample), subsets, subset_members, evaluations, runs, datasets.
    For example: tracesift sql "SELECT sample_id, label, aum FROM sample_scores ORDER BY aum LIMIT 20"

    Parameters
    ----------
    query
        One SELECT statement.
    csv
        Print CSV.
    parquet
        Write the rows to this file.
    snapshot
        Read a copy, so that a command that is writing need not be waited for.
    """
    from tracesift.catalog.files import write_parquet
    from tracesift.catalog.store import Catalog

    if sum([common.json, csv, parquet is not None]) > 1:
        raise BadInput("choose one of --json, --csv and --parquet")
    try:
        rows = Catalog(common.workspace).query(query, snapshot=snapshot)
    except WorkspaceBusy as error:
        raise WorkspaceBusy(f"{error}; or read a copy with --snapshot") from error
    if common.json:
        print_json(rows)
    elif csv:
        sys.stdout.write(rows.write_csv())
    elif parquet is not None:
        write_parquet(rows, parquet)
        print(f"{len(rows)} rows in {parquet}", file=sys.stderr)
    else:
        print_table(rows.head(200))
        if len(rows) > 200:
            print(f"200 of {len(rows)} rows; --csv or --parquet FILE gives all", file=sys.stderr)
    return 0


def why(sample_id: str, /, *, common: Common = Common()) -> int:
    """Tell everything known of one sample: scores with ranks, flags with rules, subsets with reasons, lineage.

    Parameters
    ----------
    sample_id
        The id, or an unambiguous beginning of it.
    """
    from tracesift.catalog.store import Catalog

    known = Catalog(common.workspace).why(sample_id)
    if common.json:
        print_json(known)
        return 0
    out = console()
    sample = known["sample"]
    out.print(f"{sample['sample_id']}  label {sample['label']}  split {sample['split']}")
    if sample.get("label_true") is not None:
        out.print(f"true label {sample['label_true']}")
    for part in ("flags", "subsets", "scores", "runs"):
        rows = pl.DataFrame(known.get(part) or [], infer_schema_length=None)
        if len(rows):
            out.print()
            print_table(rows, title=part)
    return 0


def scorers(*, common: Common = Common()) -> int:
    """List the scorers: inputs, direction, version, reference."""
    from tracesift.scorers.contract import find, names

    found = [find(name) for name in names()]
    if common.json:
        print_json(
            [
                {
                    "name": known.name, "version": known.version, "direction": known.direction, "mode": known.mode,
                    "inputs": list(known.inputs), "optional": list(known.optional), "defaults": dict(known.defaults),
                    "combine": known.combine, "experimental": known.experimental, "summary": known.summary,
                    "reference": known.reference,
                }
                for known in found
            ]
        )  # fmt: skip
    else:
        print_table(
            [
                {"scorer": known.name, "high means": known.direction, "mode": known.mode,
                 "inputs": ", ".join(known.inputs), "what": known.summary}
                for known in found
            ],
            widest=200,
        )  # fmt: skip
    return 0


def selectors(*, common: Common = Common()) -> int:
    """List the selectors: what they need, version, reference."""
    from tracesift.selectors.contract import find, names

    found = [find(name) for name in names()]
    if common.json:
        print_json(
            [
                {
                    "name": known.name, "version": known.version, "needs": list(known.needs), "budget": known.budget,
                    "random": known.random, "embedding": known.embedding, "defaults": known.defaults,
                    "summary": known.summary, "reference": known.reference,
                }
                for known in found
            ]
        )  # fmt: skip
    else:
        print_table(
            [
                {"selector": known.name, "budget": known.budget, "needs": ", ".join(known.needs), "what": known.summary}
                for known in found
            ],
            widest=200,
        )  # fmt: skip
    return 0
