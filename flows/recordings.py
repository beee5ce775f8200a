"""Recordings in the catalog: taken in as they come to be, and the newest found again."""

from __future__ import annotations

import json
from typing import Any

from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows.work import Work
from tracesift.pipelines.signals import list_runs, read_run


def remember_run(work: Work, run_id: str) -> None:
    """Put a recording's own record into the catalog, as the newest.

    Nothing is written where it stands there with the same arrays, itself the newest or beside the newest.
    """
    run = read_run(work.path, run_id)
    stored = work.catalog.run(run_id)
    as_it_is = stored is not None and (stored["details"] or {}).get("arrays") == run.get("arrays")
    if as_it_is and run_id in newest_runs(work):
        return
    known = {
        name: value for name, value in run.items() if name not in ("files", "schema", "coverage", "machine")
    }
    machine = dict(run.get("machine") or {})
    columns = {name: machine.pop(name, None) for name in ("device", "threads", "cpu_capability", "wheels")}
    work.catalog.put_run(
        {
            **known,
            **columns,
            "machine": machine,
            "code_version": (columns["wheels"] or {}).get("tracesift"),
            "dataset_id": work.dataset.dataset_id,
            "status": "done",
        }
    )


def adopt_recordings(work: Work) -> None:
    """Put recordings into the catalog that a user's own loop wrote into the workspace, oldest first."""
    known = set(work.catalog.query("SELECT run_id FROM runs")["run_id"])
    found = [run for run in list_runs(work.path) if run["run_id"] not in known]
    for run in sorted(found, key=lambda run: (run.get("finished_at") or "", run["run_id"])):
        if run["dataset"]["fingerprint"] == work.dataset.fingerprint:
            remember_run(work, run["run_id"])


def newest_runs(work: Work) -> list[str]:
    """Return the newest recording together with those that differ from it by their seed alone.

    One from before a purge has seen samples that one made after it has not.
    """
    found = runs_of_state(work.catalog, work.dataset.dataset_id)
    if not found:
        raise BadInput(_none_of_this_state(work))
    return found


def runs_of_state(catalog: Catalog, dataset_id: str) -> list[str]:
    """Return the newest recording of a state of the data with its seeds, as `newest_runs`; empty where none is."""
    newest = catalog.query(
        "SELECT run_id, model, config, details FROM runs WHERE dataset_id = ? "
        "AND kind NOT IN ('combined', 'import-scores') AND status != 'collected' ORDER BY seq DESC",
        (dataset_id,),
    ).to_dicts()

    def but_seed(row: dict[str, Any]) -> tuple[Any, ...]:
        config = json.loads(row["config"] or "{}")
        config.pop("seed", None)
        details = json.loads(row["details"] or "{}")
        withheld = (details.get("dataset") or {}).get("withheld_by", [])
        return row["model"], config, withheld, details.get("purged", 0)

    return sorted(row["run_id"] for row in newest if but_seed(row) == but_seed(newest[0]))


def _none_of_this_state(work: Work) -> str:
    """Say that there is no recording, or that those that are there are of other data than were ingested last."""
    earlier = sorted(list_runs(work.path), key=lambda run: (run.get("finished_at") or "", run["run_id"]))
    if not earlier:
        return f"{work.path} holds no recording; run `tracesift record --workspace {work.path}` first"
    newest, count = earlier[-1], len(earlier)
    which = (
        f"a recording ({newest['run_id']})"
        if count == 1
        else f"{count} recordings (newest {newest['run_id']})"
    )
    return (
        f"{work.path} holds {which} of an earlier state of the data, or of other data, and none of "
        f"{work.dataset.name} as it was ingested last; run `tracesift record --workspace {work.path}`, or score an "
        f"earlier one with `tracesift score --run {newest['run_id']} --workspace {work.path}`"
    )
