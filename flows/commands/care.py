"""Commands that keep a workspace in order: `verify`, `diff`, `gc`, `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tracesift.flows.options import Common, Reading, Whole
from tracesift.flows.progress import counted, say
from tracesift.flows.show import console, print_json, print_table

Flag = Parameter(negative="")
SHOWN = 20
"""Changed samples shown in a table; --json gives all."""


def verify(
    manifest: Path, source: str | None = None, /, *, common: Common = Common(), reading: Reading = Reading()
) -> int:
    """Recompute a manifest's hashes, ids and fingerprint; exit code 1 and the differences where they do not match.

    Its workspace also says whether a sample is used in it whose deletion was requested before; for a manifest that was
    copied elsewhere, --workspace names it.

    Parameters
    ----------
    manifest
        A manifest.json, the folder that holds it, or the name of a subset of the workspace.
    source
        The data to compare with; by default the source that the manifest names, where it is found.
    """
    from tracesift.flows.care import manifest_at
    from tracesift.flows.care import verify as check

    manifest = manifest_at(common.workspace, manifest) or manifest
    result = check(manifest, source, reading.arguments(), common.workspace)
    if common.json:
        print_json(result)
    elif result["matches"]:
        print(f"{result['name']} version {result['version']} matches: {'; '.join(result['checked'])}")
        if result["forgotten"] is not None:
            print(_of_forgotten(result["forgotten"]))
    else:
        print(f"{result['name']} version {result['version']} does not match:")
        for difference in result["differences"]:
            print(f"- {difference}")
    if result["note"]:
        say(result["note"])
    return 0 if result["matches"] else 1


def _of_forgotten(known: dict[str, Any]) -> str:
    """Say how many samples were deleted, and that none of them is used."""
    where = f"in {known['workspace']}"
    if not known["known"]:
        return f"no sample was asked to be deleted {where}"
    if not known["deleted"]:
        return f"none of its samples is one of those that {counted(known['known'], 'request')} {where} asked to delete"
    told = (
        f"{known['deleted']} of its samples {'was' if known['deleted'] == 1 else 'were'} asked to be deleted, by "
        f"{counted(known['requests'], 'request')} {where}"
    )
    if known["used_until"]:
        verb = "is" if known["used_until"] == 1 else "are"
        return f"{told}; {known['used_until']} {verb} used in it, because it was made before: make it anew"
    return f"{told}; none of them is used in it"


def diff(first: str, second: str, /, *, common: Common = Common()) -> int:
    """Tell what changed between two manifests, or between two runs' scores.

    Parameters
    ----------
    first
        A manifest (path, or name of a subset of the workspace), or a run id.
    second
        The other one, of the same sort.
    """
    from tracesift.flows.care import differing

    result = differing(common.workspace, first, second)
    if common.json:
        print_json(result)
    elif result["kind"] == "runs":
        print_table(result["scorers"], title=f"{result['first']} against {result['second']}")
    else:
        _print_manifests(result)
    return 0


def _print_manifests(result: dict[str, Any]) -> None:
    out = console()
    if result["same"]:
        out.print("the same content: equal fingerprints")
    fields = [{"field": name, "first": old, "second": new} for name, (old, new) in result["fields"].items()]
    if fields:
        print_table([{name: str(value) for name, value in row.items()} for row in fields], title="Fields")
    for name in ("added", "removed"):
        if result[name]:
            rest = " …" if len(result[name]) > SHOWN else ""
            out.print(
                f"{name}: {counted(len(result[name]), 'sample')}: {', '.join(result[name][:SHOWN])}{rest}"
            )
    if result["roles"]:
        print_table([{"role": change, "samples": count} for change, count in result["roles"].items()])
    if result["changed"]:
        rows = [
            {
                name: value if name == "sample_id" else " -> ".join(map(str, value))
                for name, value in row.items()
            }
            for row in result["changed"][:SHOWN]
        ]
        print_table(rows, title=f"Changed ({counted(len(result['changed']), 'sample')})")


def gc(*, keep: Whole, common: Common = Common(), dry_run: Annotated[bool, Flag] = False) -> int:
    """Drop the signals of old recordings; catalog and manifests stay.

    Parameters
    ----------
    keep
        How many recordings to keep, the newest first; recordings that differ by their seed alone count as one.
    dry_run
        Only say what would go.
    """
    from tracesift.flows.care import collect
    from tracesift.flows.work import existing

    work = existing(common.workspace)
    with work.locked():
        result = collect(work, keep, dry_run=dry_run)
    if common.json:
        print_json(result)
    else:
        would = "would drop" if dry_run else "dropped"
        names = f": {', '.join(result['dropped'])}" if result["dropped"] else ""
        print(
            f"{would} {counted(len(result['dropped']), 'recording')} ({result['bytes'] / 1e6:,.1f} MB){names}"
        )
        if result["embeddings"]:
            print(f"{would} embeddings of an earlier state of the data: {', '.join(result['embeddings'])}")
        print(f"kept {len(result['kept'])}: {', '.join(result['kept']) or 'none'}")
    if result["unfinished"]:
        say(f"unfinished, left to be resumed: {', '.join(result['unfinished'])}")
    return 0


def doctor(*, common: Common = Common()) -> int:
    """Say what this machine has and what is missing for what; exit code 1 where something required is missing."""
    from tracesift.flows.care import examine

    rows = examine(common.workspace)
    bad = [row for row in rows if row["required"] and row["state"] != "ok"]
    if common.json:
        print_json({"ok": not bad, "checks": rows})
    else:
        for row in rows:
            print(f"{row['state']:8} {row['name']:14} {row['found']}  ({row['needed_for']})")
    return 1 if bad else 0
