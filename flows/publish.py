"""The catalog's content as a worklist, a closing summary and `report.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import polars as pl

from tracesift.catalog.explain import jobs_in_words
from tracesift.catalog.files import sha256, write_bytes
from tracesift.catalog.redaction import Redaction
from tracesift.catalog.schema import BadInput
from tracesift.flows.make_subset import told_of
from tracesift.flows.outdated import outdated
from tracesift.flows.progress import say, stage, watched
from tracesift.flows.reporting.agreement import LABEL_DETECTORS
from tracesift.flows.reporting.compared import compared
from tracesift.flows.reporting.deletions import deletions
from tracesift.flows.reporting.influence import (
    Memorization,
    harmed_most,
    long_tail,
    partners_of,
    shown_in,
    stored_proxy,
)
from tracesift.flows.reporting.report import FIRST_ITEMS, MAX_ITEMS, ReportData, page_digest, render_report
from tracesift.flows.reporting.tables import empty_reason, noise_reading, stability
from tracesift.flows.reporting.truth import own_truth, protection_truth, reviewed_truth
from tracesift.flows.reporting.unlearnable import residual_examples
from tracesift.flows.reporting.unlearned import studies
from tracesift.flows.reporting.worklist import FLAGGED, excerpt, worklist
from tracesift.flows.score import diagnostics_of, flags_alone
from tracesift.flows.selecting.emptied import emptied_in
from tracesift.flows.selecting.written import recorded_subsets
from tracesift.flows.work import Work, was_handed_over
from tracesift.pipelines.foreign.bare import KIND
from tracesift.scorers.contract import find

UNLEARNABLE_SHOWN = 24

LEAST_CONFLICTS = 100
"""At most as many samples are worth a look as are flagged, and this many where few are."""


@watched("report")
def publish(
    work: Work,
    content: bool = True,  # noqa: FBT001, FBT002
    memorization: Memorization = "measured",
) -> dict[str, Any]:
    """Write the report, unless it stands there as these data make it, and return the summary of the command line.

    Parameters
    ----------
    content
        Whether thumbnails and text stand in the report.
    memorization
        What the long tail goes by: the measured estimate, or a proxy that needs no trainings.
    """
    known = work.catalog.newest_dataset()
    assert known is not None
    if content and work.dataset.kind == KIND and was_handed_over(known):
        raise BadInput(
            f"{known['name']} was handed over in Python, so its thumbnails and texts cannot be shown from here: run "
            "the same curate(CurateJob(...)) again, which trains nothing, or leave them out with --no-content"
        )
    stage("worklist")
    scores = work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
    flags = newest_flags(work)
    listed, worth_a_look = suspects(work, scores, flags)
    stage("known labels")
    alone = flags_alone(work, flags)
    truth, reviewed = own_truth(work, scores, alone), reviewed_truth(work, scores)
    stage("subsets")
    subsets = recorded_subsets(work)
    evaluations = work.catalog.query(
        "SELECT e.subset, s.control_of, e.seed, e.metric, e.value, e.num_train, "
        "CAST(json_extract(e.details, '$.steps') AS INTEGER) AS steps FROM evaluations e "
        "LEFT JOIN (SELECT subset_id, control_of FROM subsets) s USING (subset_id) WHERE e.dataset_id = ? "
        "AND NOT contains(e.metric, '.') ORDER BY ALL",
        (known["dataset_id"],),
    )
    # What is to be deleted is not shown to anybody any more; the figures are of what was measured, with it.
    gone = work.forgotten["sample_id"].unique().sort()
    deleted, unnamed = pl.col("sample_id").is_in(gone.implode()), Redaction(gone, instead="a deleted sample")
    seen = flags.filter(~deleted)
    odd = seen.filter((pl.col("flag") == "unlearnable") & pl.col("flagged")).sort("score", descending=True)
    partners = partners_of(work.catalog, listed["sample_id"].head(FIRST_ITEMS).to_list(), gone.to_list())
    proxy = stored_proxy(work.catalog, known["dataset_id"]) if memorization == "proxy" else None
    if proxy is not None:
        say(f"long tail by {proxy.told}")
    tail = long_tail(scores.filter(~deleted), seen, proxy, found_wrong=_found_wrong(work))
    harmed = harmed_most(work.catalog, gone.to_list())
    others = pl.DataFrame({"sample_id": shown_in(partners, harmed, tail)}, schema={"sample_id": pl.String})
    beside = others.filter(~deleted)["sample_id"]
    shown = pl.concat(
        [listed["sample_id"].head(MAX_ITEMS), odd["sample_id"].head(UNLEARNABLE_SHOWN), beside]
    ).unique()
    rows = work.dataset.samples["sample_id"].search_sorted(shown).to_list()
    stage("samples to show")
    content = content and work.dataset.kind != KIND  # a recording that came without its data has none
    diagnostics, protected = diagnostics_of(work), protection_truth(work.dataset, scores, flags)
    reading = noise_reading(diagnostics)
    if reading is not None:  # one story in the summary and on the page
        diagnostics["label_noise_rate"] = {**diagnostics["label_noise_rate"], "reading": reading}
    data = ReportData(
        title=f"{known['name']}: which samples to train on, fix and forget",
        created=datetime.now(UTC).isoformat(timespec="minutes"),
        tool_version=version("tracesift"),
        dataset={
            **{name: known[name] for name in ("name", "source", "kind", "num_samples", "fingerprint", "dataset_id")},
            "splits": dict(work.dataset.samples.group_by("split").len().sort("split").iter_rows()),
            "classes": list(work.dataset.classes), "transform": known["transform"],
            "notes": [unnamed.text(note) for note in work.dataset.notes],
        },
        runs=_runs(work),
        worklist=listed,
        worth_a_look=worth_a_look,
        content=dict(zip(shown, work.dataset.content(rows), strict=True)) if content else None,
        scores=scores.drop("split"),
        flags=flags,
        diagnostics=diagnostics,
        subsets=[_with_counts(work, row) for row in subsets],
        evaluations=evaluations if len(evaluations) else None,
        scorers=_scorers(work),
        truth=truth,
        reviewed=reviewed,
        flags_alone=None if alone is flags else alone,
        protection=protected,
        partners=partners,
        harmed=harmed,
        long_tail=tail,
        unlearning=studies(work),
        deletions=deletions(work),
        deleted=gone.to_list(),
        outdated=[one.told for one in outdated(work.path)],
        residuals=residual_examples(work.dataset, seen, diagnostics.get("residual_verdict")) if content else (),
    )  # fmt: skip
    path = work.path / "report.html"
    made_of = page_digest(data)
    standing = {"made_of": made_of, "sha256": sha256(path)} if path.exists() else None
    if standing is None or work.record("report", "page") != standing:
        stage("figures and page")
        write_bytes(path, render_report(data).encode())
        work.finish("report", "page", {"made_of": made_of, "sha256": sha256(path)})
    return {
        "dataset": {
            name: known[name] for name in ("dataset_id", "name", "source", "num_samples", "fingerprint")
        },
        "runs": [run["run_id"] for run in data.runs],
        "worklist": [
            {**row, "content": excerpt((data.content or {}).get(row["sample_id"]))}
            for row in listed.to_dicts()
        ],
        "worth_a_look": worth_a_look,
        "why_empty": None if len(listed) else empty_reason(flags, len(scores)),
        "flags": flag_counts(flags),
        "noise": reading,
        "verdict": data.diagnostics.get("residual_verdict", {}).get("verdict"),
        "truth": truth,
        "reviewed": reviewed,
        "protection_truth": protected,
        "stability": stability(data.diagnostics),
        "subsets": [_summary(row, counts) for row, counts in zip(subsets, data.subsets, strict=True)],
        "evaluations": compared(work),
        "report": str(path),
    }


def newest_flags(work: Work) -> pl.DataFrame:
    """Return the newest answer of every flag for every sample, with suggestion and confidence."""
    return work.catalog.query(
        "SELECT f.flag, f.sample_id, f.flagged, f.score, f.threshold, f.reason, f.suggestion, f.confidence, "
        "f.suspicion "
        "FROM flags f JOIN (SELECT flag, max(seq) AS seq FROM flag_sets GROUP BY flag) USING (flag, seq) "
        "ORDER BY f.flag, f.sample_id"
    )


def suspects(
    work: Work, scores: pl.DataFrame, flags: pl.DataFrame, least: int = LEAST_CONFLICTS
) -> tuple[pl.DataFrame, int]:
    """Return the ranked worklist, and how many samples are worth a look, listed or not.

    Samples that a person verified, or that are to be deleted, are left out.

    Parameters
    ----------
    least
        So many samples that are worth a look are listed, or as many as are flagged.
    """
    directions = {name: find(name).direction or "" for name in LABEL_DETECTORS if name in scores.columns}
    suggested = flags.filter(pl.col("flag") == "label_noise").select("sample_id", "suggestion", "confidence")
    verified = work.catalog.query("SELECT sample_id FROM reviews")["sample_id"]
    settled = [*verified, *work.forgotten["sample_id"]]
    ranked = worklist(
        flags, scores, suggested, directions=directions, verified=settled, max_conflicts=len(scores)
    )  # fmt: skip
    flagged = int((ranked["status"] == FLAGGED).sum())
    listed = ranked.head(flagged + max(least, int(flags["flagged"].sum())))
    worth_a_look = len(ranked) - flagged
    truth = work.dataset.samples.select(
        "sample_id", planted=pl.col("label_true").is_not_null() & (pl.col("label_true") != pl.col("label"))
    )
    if not (work.dataset.transform or {}).get("plant_label_noise"):
        return listed, worth_a_look
    return listed.join(truth, on="sample_id", how="left", maintain_order="left"), worth_a_look


def _found_wrong(work: Work) -> list[str]:
    """Return the samples whose label a person found to be another."""
    seen = work.catalog.query("SELECT sample_id, label AS said FROM reviews")
    known = seen.join(work.dataset.samples.select("sample_id", "label"), on="sample_id")
    return known.filter(pl.col("said") != pl.col("label"))["sample_id"].to_list()


def flag_counts(flags: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return how often each flag says yes, no and cannot tell."""
    return {
        name: {
            "yes": int(rows["flagged"].fill_null(value=False).sum()),
            "no": int((~rows["flagged"].fill_null(value=True)).sum()),
            "cannot tell": rows["flagged"].null_count(),
        }
        for (name,), rows in sorted(flags.partition_by("flag", as_dict=True).items())
    }


def _runs(work: Work) -> list[dict[str, Any]]:
    rows = work.catalog.query(
        "SELECT run_id, kind, model, seed, device, config, details, "
        "date_diff('second', started_at, finished_at) AS seconds FROM runs WHERE dataset_id = ? ORDER BY seq",
        (work.dataset.dataset_id,),
    )
    return [
        {
            **row,
            "config": json.loads(row["config"] or "{}"),
            "epochs": json.loads(row["details"] or "{}").get("epochs"),
            "jobs": jobs_in_words(json.loads(row["details"] or "{}")),
        }
        for row in rows.to_dicts()
    ]


def _scorers(work: Work) -> list[dict[str, Any]]:
    rows = work.catalog.query(
        "SELECT c.scorer, c.scorer_version, c.params, r.run_id FROM score_columns c JOIN score_runs r USING (run_key) "
        "WHERE r.dataset_id = ? QUALIFY c.seq = max(c.seq) OVER (PARTITION BY c.column_name) "
        "ORDER BY c.scorer",
        (work.dataset.dataset_id,),
    )
    return [
        {
            "name": row["scorer"], "version": row["scorer_version"], "params": json.loads(row["params"] or "{}"),
            "run_id": row["run_id"],
            "direction": facts.direction, "means": facts.high_means, "mode": facts.mode, "inputs": list(facts.inputs),
            "reference": facts.reference, "summary": facts.summary,
        }
        for row in rows.to_dicts()
        for facts in [find(row["scorer"])]
    ]  # fmt: skip


def _with_counts(work: Work, row: Mapping[str, Any]) -> dict[str, Any]:
    members = work.catalog.query(
        "SELECT m.role, m.weight, m.reason, m.new_label, s.label, coalesce(f.new_label, s.label) AS label_before "
        "FROM subset_members m JOIN samples s USING (sample_id) LEFT JOIN (SELECT sample_id, new_label FROM "
        "subset_members WHERE subset_id = ?) f USING (sample_id) WHERE m.subset_id = ? AND s.dataset_id = ?",
        (str(row["params"].get("from", "")).rpartition("@")[2], row["subset_id"], row["dataset_id"]),
    )
    kept = members.filter(~pl.col("role").is_in(["drop", "forget", "holdout"]))
    counts = {
        "total": len(members),
        "by_role": dict(members.group_by("role").len().sort("role").iter_rows()),
        "by_label": dict(kept.group_by("label").len().sort("label").iter_rows()),
    }
    told = ("chosen_by", "because")
    params = {key: value for key, value in row["params"].items() if key not in told}
    said = []
    if not row["control_of"]:
        said = [
            told_of(row["selector"], params, members, work.dataset.kind),
            emptied_in(members, row["selector"], params),
        ]
    said_of_it = "; ".join(one for one in said if one) or None
    return {
        **row,
        "params": params,
        "because": row["params"].get("because"),
        "told": said_of_it,
        "counts": counts,
    }


def _summary(row: Mapping[str, Any], counted: Mapping[str, Any]) -> dict[str, Any]:
    roles = ", ".join(f"{count} {role}" for role, count in counted["counts"]["by_role"].items())
    return {
        "name": row["name"], "version": row["version"], "selector": row["selector"], "members": roles,
        "because": counted["because"], "told": counted["told"], "control_of": row["control_of"],
        "manifest": row["manifest_path"],
    }  # fmt: skip
