"""The command `purge`: what a deletion request forgets leaves the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tracesift.catalog.schema import BadInput
from tracesift.flows.options import Common
from tracesift.flows.progress import counted, say
from tracesift.flows.show import print_json

Flag = Parameter(negative="")


def purge(
    file: Path | None = None,
    /,
    *,
    common: Common = Common(),
    request: str | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    dry_run: Annotated[bool, Flag] = False,
) -> int:
    """Remove the content of forgotten samples from the workspace: rows, signals, vectors, scores, pictures, ids.

    Only what a deletion request forgets is purged (`tracesift forget` makes one). Counts, scores of the other samples
    and every decision stay. The source itself is never touched: delete the samples there yourself. Models that
    learned them are another matter: the checkpoints in the workspace go.

    Parameters
    ----------
    file
        A file with one sample id a line; each must be forgotten by some request.
    request
        Purge what this request forgets, copies included.
    all_
        Purge what any request forgets.
    dry_run
        Only say what would be removed.
    """
    from tracesift.flows.forgetting.requests import read_ids
    from tracesift.flows.purging.purge import purge as remove
    from tracesift.flows.purging.purge import requested
    from tracesift.flows.purging.purged import was_purged
    from tracesift.flows.work import existing

    if sum((file is not None, request is not None, all_)) != 1:
        raise BadInput("say what to purge in one way: FILE, --request ID or --all")
    work = existing(common.workspace)
    ids = read_ids(file) if file is not None else None
    with work.locked():
        forgotten = requested(work, request)
        if ids is None:
            ids = list(forgotten)
        else:
            _only_forgotten(ids, forgotten, was_purged(work, ids))
        result = remove(work, ids, request=request, dry_run=dry_run)
    if common.json:
        print_json(result)
    else:
        tell_purge(result, common.workspace)
    return 0


def _only_forgotten(ids: list[str], forgotten: tuple[str, ...], purged: frozenset[str]) -> None:
    """Refuse ids that no request forgets."""
    known = {*forgotten, *purged}
    others = [one for one in ids if one not in known]
    if others:
        raise BadInput(
            f"no deletion request holds {len(others)} of {len(ids)} ids, first '{others[0]}'; only what is "
            "forgotten is purged: `tracesift forget FILE` first"
        )


def tell_purge(result: dict[str, Any], workspace: Path) -> None:
    would = "would purge" if result["dry_run"] else "purged"
    print(f"{would} {counted(result['purged'], 'sample')} from {workspace}")
    if result["already"]:
        print(f"{result['already']} {'was' if result['already'] == 1 else 'were'} purged before")
    for what, number in result["removed"].items():
        print(f"  {number:8,} {what}")
    if result["twins"]:
        say(
            f"{counted(result['twins'], 'remaining sample')} with exactly the same content as a purged one: forget "
            "that too where it is the same person's"
        )
    for path in result["left"]:
        say(
            f"{path} names a purged sample, or may hold one or its text, and was not written here: delete it yourself"
        )
    for one in result["exports"]:
        folder, command = one["folder"], f"--to {one['folder']} --format {one['format']}"
        if one["removed"]:
            gone = "would be removed" if result["dry_run"] else "is removed"
            said = f"`tracesift export {workspace}/manifests/{one['manifest']} {command}` makes it of what is left"
            say(f"{folder}, an export that held purged samples, {gone}: {said}")
        else:
            say(
                f"{folder} is an export that holds purged samples, outside of {workspace}: delete it yourself"
            )
    if result["purged"]:
        print(
            "the source is yours and stays as it is; delete the samples there: "
            + ", ".join(result["sources"])
        )
