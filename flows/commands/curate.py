"""The command `curate`: the whole way, with an estimate before it starts and a worklist at its end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tracesift.catalog.schema import BadInput
from tracesift.flows.options import Choosing, Common, CurateJob, Reading, Training
from tracesift.flows.prefect_server import check_answers, named_server
from tracesift.flows.progress import counted, duration, runnable, say
from tracesift.flows.reporting.tables import SIMPLE_NETWORKS
from tracesift.flows.reporting.worklist import FLAGGED, OF_REVIEWED, SPEAKS_AGAINST, UNTOLD, estimate
from tracesift.flows.show import chance, console, print_json, print_table

Flag = Parameter(negative="")
SHOWN = 10
"""Samples of the worklist in the closing summary."""


def curate(
    source: str,
    /,
    *,
    common: Common = Common(),
    reading: Reading = Reading(),
    training: Training = Training(),
    choosing: Choosing = Choosing(),
    forget: Path | None = None,
    plant_noise: float = 0.0,
    evaluate: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    no_content: Annotated[bool, Flag] = False,
) -> int:
    """Do the whole way: ingest, record, score, flag, select, export, report.

    SOURCE is `digits` (embedded); a .parquet, .csv, .tsv, .jsonl, .json, .arrow or .npz file or a folder of them; a
    folder of images in class folders; a folder of IDX files; a folder written by datasets.save_to_disk; or
    hf:NAME[:CONFIG]. Stopped at any moment and started again, it goes on where it was.

    Parameters
    ----------
    source
        The dataset.
    forget
        A file of ids, one a line, to build the forget-ready subset for.
    plant_noise
        Flip this share of the training labels and remember the truth, to measure the detectors.
    evaluate
        Retrain on each subset and its controls, with three seeds and the same number of steps.
    dry_run
        Only say what would run, how long it would take and how much disk it needs.
    no_content
        Leave thumbnails and text out of the report.
    """
    from tracesift.flows.selecting.curated_selector import check_selector
    from tracesift.pipelines.dataset import open_dataset

    job = CurateJob(
        source=source, workspace=str(common.workspace), reading=reading, training=training, choosing=choosing,
        forget=None if forget is None else str(forget), plant_noise=plant_noise, evaluate=evaluate,
        content=not no_content,
    )  # fmt: skip
    if forget is not None and not forget.is_file():
        raise BadInput(f"--forget {forget}: no such file; give a file with one sample id a line")

    def data() -> tuple[str, str]:
        dataset = open_dataset(source, **reading.arguments())
        return dataset.kind, dataset.name

    check_selector(choosing, data)
    server = None if dry_run else named_server()
    if server is None:  # before what trains is loaded, which takes seconds: most refusals come from the data
        job = replace(job, source=open_dataset(source, **reading.arguments()), reading=Reading())
    if dry_run:
        return _dry_run(job, as_json=common.json)
    if server is not None:
        check_answers(server)
        say(f"running as a Prefect flow on {server}")
        from tracesift.flows.deployed import curate_whole

        summary = curate_whole(job)
    else:
        from tracesift.flows.curate import curate as body

        summary = body(job)
    if common.json:
        print_json(summary)
    else:
        print_summary(summary)
    return 0


def _dry_run(job: CurateJob, *, as_json: bool) -> int:
    from tracesift.flows.curate import estimate

    expected = estimate(job)
    if as_json:
        print_json(expected)
        return 0
    steps = [{"step": step["step"], "about": duration(60 * step["minutes"])} for step in expected["steps"]]
    print_table(steps, title=f"What would run on {expected['dataset']}")
    console().print(
        f"\nabout {duration(60 * expected['minutes'])} ({duration(60 * expected['minutes_least'])} to "
        f"{duration(60 * expected['minutes_most'])}) and {expected['megabytes']:.0f} MB, if the machine stays as busy "
        "as now; nothing was written",
        soft_wrap=True,
    )
    return 0


UNSEEN = f"; what all images of a class carry is not seen: {SIMPLE_NETWORKS} ask for that"
"""What the flag `unlearnable` says no to with a silent verdict, and where the other case is looked for."""


def print_summary(summary: dict[str, Any]) -> None:
    """Print the closing summary: what to look at first, numbers after."""
    out = console()
    print_worklist(summary)
    for name, counts in summary["flags"].items():
        if counts["yes"] or counts["no"]:
            told = f"{name}: {counts['yes']} yes, {counts['no']} no, {counts['cannot tell']} cannot tell"
            unseen = name == "unlearnable" and summary["verdict"] == "clean"
            out.print(told + runnable(UNSEEN) * unseen, soft_wrap=True)
        else:
            why = ""
            if name == "unlearnable" and summary["verdict"] == "cannot tell":
                why = ": too few images a class"
            out.print(f"{name}: cannot tell of any of {counts['cannot tell']} samples{why}", soft_wrap=True)
    if summary["noise"]:
        out.print(f"wrong labels: {summary['noise']}", soft_wrap=True)
    workspace = Path(summary["report"]).parent
    carrying = summary["flags"].get("unlearnable", {}).get("yes", 0)
    if summary["verdict"] == "poisoned" and carrying:
        out.print(
            f"{counted(carrying, 'sample')} with a small signal of the label, which a model may learn in place of the "
            "content (an attack, or a watermark or camera that goes with a class); depoisoned is the subset without "
            "them",
            soft_wrap=True,
        )
    truth = summary["truth"]
    if truth:
        precision = "–" if truth["precision"] is None else f"{truth['precision']:.3f}"
        recall = "–" if truth["recall"] is None else f"{truth['recall']:.3f}"
        out.print(
            f"{truth['wrong']} of {truth['known']} known labels are wrong; "
            f"the flag's precision is {precision}, its recall {recall}" + _of_ranking(truth["ranking"]),
            soft_wrap=True,
        )
    reviewed = summary.get("reviewed")
    if reviewed:
        out.print(_of_reviewed(reviewed), soft_wrap=True)
    protected = summary.get("protection_truth")
    if protected:
        out.print(_of_protected(protected), soft_wrap=True)
    _print_stability(summary["stability"])
    subsets = [row for row in summary["subsets"] if row["control_of"] is None]
    print_table(
        [{name: row[name] for name in ("name", "version", "selector", "members")} for row in subsets],
        title="\nSubsets",
    )
    out.print("each with the controls <name>-random and <name>-random-balanced")
    for row in subsets:
        if row["told"]:
            out.print(f"{row['name']}: {row['told']}", soft_wrap=True)
        if row["because"]:
            out.print(f"{row['name']}: auto took {row['selector']}: {row['because']}", soft_wrap=True)
    if summary["evaluations"]:
        print_table(summary["evaluations"], title="\nRetrained (test accuracy, same number of steps)")
    out.print(f"\nreport     {summary['report']}")
    out.print(f"manifests  {workspace / 'manifests'}")
    out.print(f"review     tracesift review export --workspace {workspace}")
    out.print(f"explain    tracesift why SAMPLE_ID --workspace {workspace}")


def _of_ranking(found: dict[str, float] | None) -> str:
    """Say how well the order of suspicion finds wrong labels, which says something where nothing is flagged, too."""
    if found is None:
        return ""
    return (
        f"; in the order of suspicion its average precision is {found['average_precision']:.3f}, where chance gives "
        f"{found['chance']:.3f}"
    )


def _of_reviewed(found: dict[str, Any]) -> str:
    """Say how the flag did on what people looked at, as it stood before they did."""
    precision, recall = (
        "–" if found[name] is None else f"{found[name]:.3f}" for name in ("precision", "recall")
    )
    return (
        f"people found {found['wrong']} of the {found['known']} labels that they looked at wrong; before that the "
        f"flag's precision was {precision}, its recall {recall} ({OF_REVIEWED})"
    )


def _of_protected(truth: dict[str, Any]) -> str:
    """Say how the flag and the score did against what `tracesift protect` changed."""
    known = (
        f"tracesift protect is known to have changed {truth['changed']} of {truth['known']} training samples"
    )
    if not truth["told"]:
        return f"{known}. {UNTOLD}"
    precision, recall = truth["precision"], truth["recall"]
    flagged = "nothing is flagged" if precision is None else f"the flag's precision is {precision:.3f}"
    text = known if recall is None else f"{known}; {flagged}, its recall {recall:.3f}"
    score = truth["scorers"].get("residual_shortcut")
    return text + (f", the AUROC of residual_shortcut {score['auroc']:.3f}" if score else "")


def _print_stability(found: dict[str, Any] | None) -> None:
    """Say which decisions hold whatever the seed, where several were recorded."""
    if found is None:
        return
    flags, pruned = found["flags"], found["pruned"]
    if flags is not None and flags["flagged_by_some_seed"]:
        console().print(
            f"{flags['flagged_by_every_seed']} of the flagged labels are flagged by each of the {found['seeds']} seeds "
            f"by itself, {flags['flagged_by_some_seed']} by at least one",
            soft_wrap=True,
        )
    if pruned is not None:
        drawn = pruned["bootstrap"]
        console().print(
            f"{counted(pruned['every'], 'sample')} kept in pruned by each of the seeds by itself; with seeds drawn "
            f"again {drawn['overlap']:.0%} of it stands ({drawn['low']:.0%} to {drawn['high']:.0%})",
            soft_wrap=True,
        )


def print_worklist(summary: dict[str, Any]) -> None:
    """Print the first suspects with what is known of them, or why there are none."""
    out = console()
    work = summary["worklist"]
    if not work:
        out.print(f"\nNothing to look at: {summary['why_empty']}\n")
        return
    flagged, found = sum(row["status"] == FLAGGED for row in work), summary["worth_a_look"]
    if flagged:
        many = f"{len(work) - flagged:,}" + (f" of {found:,}" if found > len(work) - flagged else "")
        word = "sample" if flagged == 1 else "samples"
        more = f", then {many} that are worth a look: {SPEAKS_AGAINST}" if found else ""
        out.print(
            f"\nLook at these first: {flagged:,} flagged {word}, the most certain first{more}.\n",
            soft_wrap=True,
        )
    else:
        cut = f", and the first {len(work):,} are listed" if found > len(work) else ""
        out.print(
            f"\nNothing is flagged. {found:,} {'sample is' if found == 1 else 'samples are'} worth a look: "
            f"{SPEAKS_AGAINST}. The most suspicious come first{cut}.\n",
            soft_wrap=True,
        )
    for row in work[:SHOWN]:
        changed = f"{row['label']} → {row['suggestion']}" if row["suggestion"] else row["label"]
        out.print(f"{row['rank']:>4}  {row['sample_id']}  {changed}  {_standing(row)}")
        if row["content"]:
            out.print(f"      {row['content']}", soft_wrap=True)
        out.print(f"      {row['reason']}", soft_wrap=True)
    if len(work) > SHOWN:
        out.print(f"\n{len(work) - SHOWN} more stand in the report and in `tracesift review export`.")
    out.print()


def _standing(row: dict[str, Any]) -> str:
    """Say why a sample is listed: which flag, and the probability that its label is wrong where there is one."""
    status = f"{row['status']} ({row['flag']})" if row["status"] == FLAGGED else row["status"]
    probability = estimate(row)
    if probability is None:
        return status  # the order of the list says the rest
    return f"{status}, label wrong: {chance(probability)}"
