"""A folder of deletion requests, worked off: each file is carried out whole, or refused whole.

    inbox/*.csv, *.txt      requests that wait, in the order of their names
    inbox/done/             those that were carried out, each with NAME.json beside it: the answer
    inbox/refused/          those that were not, each with NAME.json: why

A file stays where it is until everything it asks for stands in the workspace; killed before it is moved, the next run
finds its requests done, changes nothing and moves it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from tracesift.catalog.files import write_json
from tracesift.catalog.schema import BadInput, WorkspaceBusy
from tracesift.flows.forgetting.deletion import Handling, handle, purge_answered
from tracesift.flows.forgetting.requests import from_file
from tracesift.flows.progress import runnable, say
from tracesift.flows.purging.purged import purges_of
from tracesift.flows.work import Work

DONE, REFUSED = "done", "refused"
ENDINGS = (".csv", ".txt")


def waiting(place: Path) -> list[Path]:
    """Return the files of requests that wait in a folder, in the order of their names; a file is itself.

    Raises
    ------
    BadInput
        There is no such folder or file.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise BadInput(f"{place}: no such folder; make it, and put files of requests there (.csv, .txt)")
    return sorted(
        path
        for path in place.iterdir()
        if path.is_file() and path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    )


def carry_out(
    work: Work,
    path: Path,
    how: Handling,
    *,
    moved: bool,
    owner_column: str | None = None,
    purge: bool = False,
) -> dict[str, Any]:
    """Carry out one file; what is wrong with it is an answer, what is wrong with the workspace is raised.

    Parameters
    ----------
    moved
        Move the file, with its answer, once all is done; else its answer is put beside it.
    owner_column
        Where owners stand, for rows that do not say it themselves.
    purge
        Then remove the content of what it forgets from the workspace.

    Returns
    -------
    dict
        ``file``, ``status`` (done or refused), ``answer`` or ``reason``, ``unchanged`` (a sentence) where all of it
        had been asked for before, and ``stands_in``: the file that holds them.
    """
    # Data that have moved, or what recognises the deleted gone, are no fault of the request: raised, it waits.
    _ = work.forgotten, purges_of(work)
    before = {row["request_id"] for row in work.catalog.forget_requests() if row["status"] == "done"}
    found: dict[str, Any]
    try:
        answers = handle(work, from_file(work, path, owner_column), how)
    except WorkspaceBusy:
        raise
    except BadInput as error:
        found = {"file": path.name, "status": REFUSED, "reason": runnable(" ".join(str(error).split()))}
        say(f"{path.name} is refused: {found['reason']}")
    else:
        found = {"file": path.name, "status": DONE, "answer": answers, **_asked_before(answers, before)}
        say(f"{path.name}: {_in_words(answers)}")
        if purge:
            found["answer"], found["purged"] = purge_answered(work, answers)
    place = path.with_name(path.name + ".json")
    if moved:
        place = _move(path, path.parent / str(found["status"]), found)
    else:
        write_json(place, found)
    return {**found, "stands_in": place}


def _in_words(answers: Sequence[dict[str, Any]]) -> str:
    told = [
        f"request {row['request_id']}: {row['num_found']} forgotten" + _where_the_others_are(row)
        for row in (a["request"] for a in answers)
    ]
    return ", ".join(told)


def _where_the_others_are(row: dict[str, Any]) -> str:
    gone = f", {row['num_gone']:,} of what it names deleted before" if row["num_gone"] else ""
    if row["subset_id"] is None and row["num_untrained"]:
        return ", nothing of it is in train; deleted all the same" + gone
    return gone


def _asked_before(answers: Sequence[dict[str, Any]], before: Collection[str]) -> dict[str, str]:
    """Say of a file whose requests were all done before that it adds nothing; nothing of any other."""
    rows = [answer["request"] for answer in answers]
    if not {row["request_id"] for row in rows} <= set(before):
        return {}
    told = ", ".join(f"{row['request_id']} on {row['created_at'][:10]}" for row in rows)
    return {"unchanged": f"asked for before, as {told}: nothing more is forgotten"}


def _move(path: Path, folder: Path, answer: dict[str, Any]) -> Path:
    """Put a file and its answer into a folder, the answer first; a name that is taken there gets a number.

    Returns
    -------
    Path
        Where the answer stands.
    """
    folder.mkdir(exist_ok=True)
    target, number = folder / path.name, 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{number}{path.suffix}"
    told = target.with_name(target.name + ".json")
    stands = "unchanged" in answer and not answer.get("purged") and told.exists()
    if not stands:  # else it was killed right here, and that is the answer
        write_json(told, answer)
    path.rename(target)
    return told
