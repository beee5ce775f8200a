"""Commands that only look: `sql`, `why`, `scorers`, `selectors`. None of them loads torch or prefect."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tracesift.catalog.forgotten import COPY, REQUESTED, UNTRAINED
from tracesift.catalog.schema import BadInput, WorkspaceBusy
from tracesift.flows.options import Common
from tracesift.flows.progress import counted, runnable
from tracesift.flows.show import cell, chance, console, print_json, print_table

Flag = Parameter(negative="")
DELETED = {
    REQUESTED: "requested",
    COPY: "a copy of what was requested",
    UNTRAINED: "requested, outside train",
}
ANSWERS = {True: "yes", False: "no", None: "cannot tell"}


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
    trajectories (every epoch of every sample), influence_edges (of each method those asked for last; every set is in
    all_influence_edges), subsets, subset_members, evaluations, reviews, diagnostics, forget_requests, runs, datasets.
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
    catalog = Catalog(common.workspace)
    try:
        if parquet is not None:
            catalog.check_output(parquet, snapshot=snapshot)
        rows = catalog.query(query, snapshot=snapshot)
    except WorkspaceBusy as error:
        raise WorkspaceBusy(f"{error}; or read a copy with --snapshot") from error
    if common.json:
        print_json(rows)
    elif csv:
        sys.stdout.write(rows.write_csv())
    elif parquet is not None:
        write_parquet(rows, parquet)
        print(f"{counted(len(rows), 'row')} in {parquet}", file=sys.stderr)
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
    _tell(known)
    return 0


def _tell(known: dict[str, Any]) -> None:
    """Print what is known of a sample: what was decided and why in whole sentences, numbers as a table."""
    from tracesift.catalog.explain import jobs_in_words

    out = console()
    sample = known["sample"]
    if known["deleted"] is None:
        out.print("whether it was deleted cannot be told: the key of the workspace is gone", soft_wrap=True)
    elif known["deleted"]:
        each = [
            f"by request {row['request_id']} on {row['created_at'][:10]} ({DELETED[row['how']]})"
            for row in known["deleted"]
        ]
        out.print(
            f"deleted {', '.join(each)}; subsets that use it were made before", soft_wrap=True, style="bold"
        )
    path = (sample.get("attributes") or {}).get("path")
    where = f"  file {path}" if path else ""
    out.print(
        f"{sample['sample_id']}  label {sample['label']}  split {sample['split']}{where}", soft_wrap=True
    )
    if sample.get("label_true") is not None:
        out.print(f"true label {sample['label_true']}")
    for review in known["reviews"]:
        note = f" ({review['note']})" if review["note"] else ""
        out.print(f"verified label {review['label']}, on {review['reviewed_at'][:10]}{note}", soft_wrap=True)
    if known["flags"]:
        out.print("\nFlags", style="bold")
    for flag in known["flags"]:
        said = "".join(f", {words}" for words in _numbers(flag))
        out.print(f"  {flag['flag']}: {ANSWERS[flag['flagged']]}{said}", soft_wrap=True)
        out.print(f"      {flag['reason']}", soft_wrap=True)
    controls = sum(row["control_of"] is not None for row in known["subsets"])
    if known["subsets"]:
        out.print(f"\nSubsets, beside {controls} random controls", style="bold")
    for row in known["subsets"]:
        if row["control_of"] is None:
            changed = f" → {row['new_label']}" if row["new_label"] is not None else ""
            weight = "" if row["weight"] in (0, 1) else f", weight {cell(row['weight'])}"
            out.print(
                f"  {row['name']} version {row['version']}: {row['role']}{changed}{weight}", soft_wrap=True
            )
            out.print(f"      {row['reason']}", soft_wrap=True)
    _tell_edges(known)
    _tell_scores(known["scores"], sample["split"])
    lineage = known["lineage"]
    out.print("\nLineage", style="bold")
    data = lineage["dataset"]
    out.print(
        f"  dataset {data['name']} ({data['source']}), fingerprint {data['fingerprint']}", soft_wrap=True
    )
    for run in lineage["runs"]:
        if run["kind"] == "combined":
            members = ", ".join((run["config"] or {}).get("runs", ()))
            out.print(f"  run {run['run_id']}: combined of runs {members}", soft_wrap=True)
            continue
        out.print(
            f"  run {run['run_id']}: {run['kind']}, model {cell(run['model'])}, seed {cell(run['seed'])}, "
            f"on {cell(run['device'])}, finished {cell(run['finished_at'])}",
            soft_wrap=True,
        )
        for job in jobs_in_words(run["details"] or {}):
            out.print(f"      {job}", soft_wrap=True)


def _tell_edges(known: dict[str, Any]) -> None:
    """Print whom a training sample helps and harms most, or who helps and harms a validation sample most."""
    from tracesift.catalog.connection import literal

    sample_id = literal(known["sample"]["sample_id"])
    for title, key, end, rank in (
        ("Helps and harms most", "influence", "sample_id", "rank"),
        ("Helped and harmed most by", "influenced_by", "partner_id", "partner_rank"),
    ):
        if known[key]:
            console().print(f"\n{title} (above 0: helps)", style="italic", soft_wrap=True)
            print_table([_edge(row) for row in known[key]])
            _tell_more(
                known[key], f"FROM influence_edges WHERE {end} = {sample_id} AND {rank} > 0 ORDER BY {rank}"
            )
    if known["influenced_by_unknown"]:
        again = f"`tracesift influence {' '.join(known['influenced_by_unknown'])}` looks for them"
        said = f"An earlier version did not look for those who help and harm it most; {again}"
        console().print(runnable(said), soft_wrap=True)


def _tell_more(edges: list[dict[str, Any]], query: str) -> None:
    """Say of which edges there are more than the table shows, and what lists them all."""
    from tracesift.catalog.explain import PARTNERS

    there = {f"{row['method']} {row['kind']}": row["of"] for row in edges if row["of"] > PARTNERS}
    if there:
        quoted = shlex.quote(query) if set(query) & set('"$`\\!') else f'"{query}"'
        told = ", ".join(f"{of:,} of {kind}" for kind, of in there.items())
        said = f"At most {PARTNERS} of a kind are shown; there are {told}: `tracesift sql {quoted} --csv` lists all"
        console().print(runnable(said), soft_wrap=True)


def _tell_scores(scores: list[dict[str, Any]], split: str) -> None:
    """Print the scores as a table, or one sentence where there is none; a training sample's gaps are shown as such."""
    there = [row for row in scores if row["value"] is not None]
    if there:
        shown = scores if split == "train" else there
        print_table([_score(row) for row in shown], title="\nScores (rank 1 has the most of it)")
    elif split != "train":
        console().print(f"\nScores, flags and subsets are of training samples, and this one is in {split}.")
    elif scores:
        console().print(f"\nThis sample has none of the {len(scores)} scores.")


def _edge(row: dict[str, Any]) -> dict[str, Any]:
    """Return an edge as a table shows it: settings that are not the usual ones named, an estimate with its error."""
    from tracesift.scorers.influence.edges.contract import in_words

    error = "" if row["spread"] is None else f" ± {row['spread']:.2g}"
    return {
        "method": in_words(row["method"], row["params"]), "kind": row["kind"], "value": f"{row['value']:.3g}{error}",
        "sample": row["partner_id"], "split": row["partner_split"], "label": row["partner_label"],
        **({"file": row["partner_path"]} if row["partner_path"] else {}),
    }  # fmt: skip


def _numbers(flag: dict[str, Any]) -> list[str]:
    """Return what a flag's answer rests on; a score that is the probability itself is not said twice."""
    said = []
    if flag["confidence"] is not None:
        said.append(f"label wrong: {chance(flag['confidence'])}")
        if flag["score"] == flag["confidence"] and flag["threshold"] is not None:
            said.append(f"flagged from {chance(flag['threshold'])}")
    if flag["score"] != flag["confidence"]:
        said += [f"{name} {cell(flag[name])}" for name in ("score", "threshold") if flag[name] is not None]
    return [*said, f"suggestion {flag['suggestion']}"] if flag["suggestion"] is not None else said


def _score(row: dict[str, Any]) -> dict[str, Any]:
    """Return one score as a row for people, with the settings that are not the usual ones."""
    from tracesift.scorers.contract import find, names

    known = find(row["scorer"]) if row["scorer"] in names() else None
    usual = {} if known is None else known.defaults
    settings = ", ".join(
        f"{key}={value}" for key, value in row["params"].items() if usual.get(key, ...) != value
    )
    means = row["direction"] if known is None else known.high_means
    return {
        "scorer": row["scorer"] + (f" ({settings})" if settings else ""),
        "value": row["value"], "spread": row["spread"], "rank": _rank(row), "in": means,
        "run": row["run_id"],
    }  # fmt: skip


def _rank(row: dict[str, Any]) -> str | None:
    """Return the place of a value in words, with how many others share it.

    Examples
    --------
    >>> _rank({"value": 0.0, "rank": 1, "of": 29_315, "ties": 20_000})
    '1 of 29,315, with 20,000 others'
    """
    if row["value"] is None:
        return None
    if row["rank"] is None:
        return f"all {row['of']:,} alike"
    shared = f", with {row['ties']:,} other{'s' if row['ties'] > 1 else ''}" if row["ties"] else ""
    return f"{row['rank']:,} of {row['of']:,}{shared}"


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
                    "jobs": list(known.jobs), "reference": known.reference,
                }
                for known in found
            ]
        )  # fmt: skip
    else:
        print_table(
            [
                {"scorer": known.name, "high means": known.high_means, "mode": known.mode,
                 "inputs": ", ".join(known.inputs), "needs": _jobs(known), "what": known.summary}
                for known in found
            ],
            widest=200,
        )  # fmt: skip
    return 0


def _jobs(known: Any) -> str:
    """Return what makes the inputs of a scorer where a recording is not enough."""
    return ", ".join(f"record --job {job}" for job in known.jobs)


def jobs(*names: str, common: Common = Common()) -> int:
    """List the jobs of `tracesift record --job`: what each trains, of which data, and what reads it.

    Parameters
    ----------
    names
        Jobs whose settings are to be shown, with what each means and its default.
    """
    from tracesift.flows.job_list import described

    found = described(names)
    if common.json:
        print_json([one.as_dict() for one in found])
        return 0
    print_table(
        [{"job": one.name, "data": ", ".join(one.data), "read by": ", ".join(one.read_by), "what": one.summary}
         for one in found],
        widest=200,
    )  # fmt: skip
    for one in found if names else ():
        rows = [
            {"setting": each.name, "default": each.default, "takes": each.takes, "what": each.meaning}
            for each in one.settings
        ]
        print_table(rows, title=f"Settings of {one.name}: --param KEY=VALUE", widest=2000)
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
                    "random": known.random, "arrays": list(known.arrays), "defaults": known.defaults,
                    "experimental": known.experimental, "summary": known.summary, "reference": known.reference,
                }
                for known in found
            ]
        )  # fmt: skip
    else:
        print_table(
            [
                {"selector": known.name, "budget": known.budget, "needs": ", ".join((*known.needs, *known.arrays)),
                 "what": ("experimental: " if known.experimental else "") + known.summary}
                for known in found
            ],
            widest=200,
        )  # fmt: skip
    return 0
