"""The command `review`: the ranked worklist out as CSV, verified labels back in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from tracesift.flows.options import Common, Whole
from tracesift.flows.progress import counted, say
from tracesift.flows.reporting.worklist import OF_REVIEWED
from tracesift.flows.show import console, print_json, print_table

review = App(name="review", help="Look at the suspects yourself: a worklist as CSV, and your labels back.")
"""`tracesift review`; the sub-commands are below."""


@review.command(name="export")
def export(*, common: Common = Common(), out: Path | None = None, count: Whole | None = None) -> int:
    """Write the suspects as CSV, the most suspicious first, with an empty column verified_label to fill in.

    Parameters
    ----------
    out
        The CSV to write; review.csv in the workspace by default. Images go into a folder beside it.
    count
        At most so many samples, also more than the report lists; by default as many as it does.
    """
    from tracesift.flows.reporting.review import export as write
    from tracesift.flows.work import existing

    result = write(existing(common.workspace), out, count)
    if common.json:
        print_json(result)
    else:
        print(result["file"])
        say(
            f"{result['listed']:,} of {result['suspects']:,} suspects; fill in verified_label, leave the rest empty"
        )
        say(f"then: tracesift review import {result['file']} --workspace {common.workspace}")
    return 0


@review.command(name="import")
def import_(file: Path, /, *, common: Common = Common()) -> int:
    """Take verified labels: they are kept, never flagged again, and measure the detectors on your own data.

    Parameters
    ----------
    file
        The CSV of `tracesift review export`, with verified_label filled in.
    """
    from tracesift.flows.reporting.review import take
    from tracesift.flows.work import existing

    work = existing(common.workspace)
    with work.locked():
        result = take(work, file)
    if common.json:
        print_json(result)
        return 0
    print(
        f"{counted(result['verified'], 'label')} verified, {result['changed']} of them not as given; "
        f"{counted(result['reviews'], 'review')} so far"
    )
    if result["measured"]:
        _print_measured(result["measured"])
    return 0


def _print_measured(found: dict[str, Any]) -> None:
    out = console()
    precision = "–" if found["precision"] is None else f"{found['precision']:.3f}"
    recall = "–" if found["recall"] is None else f"{found['recall']:.3f}"
    among = f"{found['wrong']} wrong among {found['known']}"
    out.print(f"flag label_noise: precision {precision}, recall {recall} (of {among})")
    rows = [{"detector": name, **values} for name, values in found["scorers"].items()]
    if rows:
        best = sorted(rows, key=lambda row: (-row["auroc"], row["detector"]))
        print_table(best, title="Detectors on the reviewed samples")
    say(OF_REVIEWED)
