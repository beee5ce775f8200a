"""The report: one self-contained HTML file that a person can act on.

The worklist comes first, then what stands behind it. `render_report` is pure: the same data give the same
page. The page asks the network for nothing, and its content security policy says so; scripts run only where
their hash stands in that policy, so a label or a text would not become code even if an escape were missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from tracesift.catalog.files import frame_digest
from tracesift.flows.reporting import charts, tables, unlearnable, unlearned
from tracesift.flows.reporting.agreement import LABEL_DETECTORS, agreement
from tracesift.flows.reporting.influence import MEMORIZED, influenced_by
from tracesift.flows.reporting.previews import preview
from tracesift.flows.reporting.worklist import FLAGGED, OF_REVIEWED, SPEAKS_AGAINST, estimate
from tracesift.flows.show import chance

MAX_ITEMS = 200
"""The most worklist items on the page; the rest is in the catalog and in `tracesift review export`."""

FIRST_ITEMS = 24
"""Items shown before "show all": enough to start work, short enough to reach the figures below."""

TOLD_ELSEWHERE = (
    "residual_verdict", "seed_correlation", "subset_stability", "confident_joint_rate", "loss_mixture_rate",
)  # fmt: skip
"""Diagnostics that have a table of their own."""

BESIDE_THE_TABLE = ("tow_mia",)
"""Measures of unlearning that stand among the further ones: with them the table is wider than the page."""

MAX_PREVIEWS = 24
MAX_COPIED = 5_000

_HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything the report shows, as plain frames and dicts."""

    title: str
    created: str
    tool_version: str
    dataset: Mapping[str, Any]
    """name, source, kind, num_samples, splits, classes, fingerprint, dataset_id, notes, transform"""
    runs: Sequence[Mapping[str, Any]]
    """run_id, kind, model, seed, device, epochs, seconds, config"""
    worklist: pl.DataFrame
    """rank, sample_id, label, suggestion, confidence, flag, reason;
    optionally status, confidence_from, planted"""
    content: Mapping[str, Any] | None
    """sample_id -> PIL image, str or mapping; None leaves thumbnails and texts out"""
    scores: pl.DataFrame
    """one row per training sample: sample_id, label and any of the scorers' columns"""
    flags: pl.DataFrame
    """flag, sample_id, flagged (null = cannot tell), score, threshold, reason; optionally suggestion"""
    diagnostics: Mapping[str, Mapping[str, Any]]
    """per-dataset results by name, `residual_verdict` among them"""
    subsets: Sequence[Mapping[str, Any]]
    """name, version, selector, params, budget, counts {total, by_role, by_label}, control_of,
    manifest_path"""
    evaluations: pl.DataFrame | None
    """subset, control_of, seed, metric, value; optionally share (kept) or num_train, and steps"""
    scorers: Sequence[Mapping[str, Any]]
    """name, version, direction, mode, inputs, params, reference, summary, run_id; optionally means"""
    truth: Mapping[str, Any] | None
    """n_planted; scorers: name -> auroc, average_precision, precision_at_n;
    flags: name -> precision, recall"""
    protection: Mapping[str, Any] | None = None
    """What `protection_truth` returned: known, changed, flagged, found, scorers"""
    residuals: Sequence[Mapping[str, Any]] = ()
    """What `residual_examples` returned: a row per label"""
    partners: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """What `partners_of` returned: whom the first of the worklist help and harm"""
    harmed: Mapping[str, Any] | None = None
    """What `harmed_most` returned: validation samples, and the training samples that harm them most"""
    long_tail: Mapping[str, Any] | None = None
    """What `long_tail` returned: the memorized samples in parts"""
    unlearning: Sequence[Mapping[str, Any]] = ()
    """What `studies` returned: original, retraining and unlearning methods on each forget-ready subset"""
    reviewed: Mapping[str, Any] | None = None
    """What `reviewed_truth` returned: as `truth`, of the samples alone whose label a person verified"""
    flags_alone: pl.DataFrame | None = None
    """The flags without any person's word, where people verified labels"""
    deletions: Sequence[Mapping[str, Any]] = ()
    """What `deletions` returned: a row per deletion request, without anybody's id"""
    deleted: Sequence[str] = ()
    """Samples that were asked to be deleted, in order: still counted, and named no more"""
    outdated: Sequence[str] = ()
    """Scores and edges that are of before, and how they are brought up to date: a sentence for each reason"""
    worth_a_look: int | None = None
    """How many samples are worth a look, where the worklist lists only the first of them"""


def render_report(data: ReportData) -> str:
    """Return the report as one HTML document.

    Parameters
    ----------
    data : ReportData
        What to show. Missing score columns, runs, evaluations or truth leave their section with a sentence
        that says what is missing and how to get it.

    Returns
    -------
    str
        HTML, UTF-8, complete: style, scripts, pictures and figures are inside.
    """
    listed = _completed(data.worklist)
    shown = listed.head(MAX_ITEMS)
    figures = _Figures()
    flagged = data.flags.filter(pl.col("flagged"))["sample_id"].unique()
    scripts = {"guard": _GUARD, "charts": _bundle(), "page": (_HERE / "report.js").read_text()}
    subsets = [subset for subset in data.subsets if not subset.get("control_of")]
    deleted = pl.col("sample_id").is_in(pl.Series(data.deleted, dtype=pl.String).implode())
    named = data.scores.filter(~deleted)
    context = {
        "data": data,
        "policy": _policy(scripts.values()),
        "style": Markup((_HERE / "report.css").read_text()),
        "scripts": {name: Markup(body) for name, body in scripts.items()},  # the policy holds their hashes
        "worklist": _worklist_section(data, listed, shown),
        "map": figures.add(charts.data_map(named, linked=shown["sample_id"].to_list())),
        "histograms": _histograms(data, figures, flagged.to_list()),
        "any_flagged": len(flagged) > 0,
        "class_rows": tables.class_rows(
            data.dataset["classes"], data.scores, data.flags, _kept_subsets(subsets)
        ),
        "class_subsets": _kept_subsets(subsets),
        "flag_rows": tables.flag_rows(data.flags, data.dataset["classes"]),
        "unlearnable": _unlearnable(data, frozenset(shown["sample_id"])),
        "harmed": _harmed(data, frozenset(shown["sample_id"])),
        "tail": _long_tail(data, frozenset(shown["sample_id"])),
        "memorized_from": MEMORIZED,
        "methods": sorted({influenced_by(row) for rows in data.partners.values() for row in rows}),
        "diagnostics": {
            name: tables.evidence(tables.with_class_names(found, data.dataset["classes"]))
            for name, found in data.diagnostics.items()
            if name not in TOLD_ELSEWHERE
        },
        "rates": tables.noise_rates(data.diagnostics),
        "agreement": _agreement(data),
        "stability": tables.stability(data.diagnostics),
        "evaluations": _evaluations(data, figures),
        "unlearning": _unlearning(data, figures),
        "planted": _planted_precision(listed),
        "figures": figures.specs,
        "direction_words": tables.DIRECTION_WORDS,
        "measured": unlearned.COLUMNS,
        "of_reviewed": OF_REVIEWED,
        "look": unlearned.LOOK,
    }
    return _environment().get_template("report.html.j2").render(context)


def page_digest(data: ReportData) -> str:
    """Return a hash of all that makes the page, code and data, except when it is made.

    Where it is the same, `render_report` would give the same page but for the date.
    """
    code = hashlib.sha256()
    for path in sorted(path for path in _HERE.iterdir() if path.is_file()):
        code.update(path.read_bytes())
    parts = {field.name: getattr(data, field.name) for field in fields(data) if field.name != "created"}
    content = {sample_id: _shown(what) for sample_id, what in sorted((data.content or {}).items())}
    parts["content"] = None if data.content is None else content
    text = json.dumps([code.hexdigest(), parts], sort_keys=True, default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _shown(what: Any) -> Any:
    if isinstance(what, Image.Image):
        return [what.mode, what.size, hashlib.sha256(what.tobytes()).hexdigest()]
    return what


def _plain(value: Any) -> Any:
    if isinstance(value, pl.DataFrame):
        return [[str(kind) for kind in value.dtypes], value.columns, frame_digest(value)]
    return str(value)


class _Figures:
    """The figures in page order, numbered; their specifications are embedded once at the end."""

    def __init__(self) -> None:
        self.specs: list[tuple[str, Markup]] = []

    def add(self, figure: charts.Figure, **facts: Any) -> dict[str, Any]:
        key = None
        if figure.spec is not None:
            key = f"figure-{len(self.specs) + 1}"
            self.specs.append((key, script_json(figure.spec)))
        return {"key": key, "note": figure.note, **facts}


def script_json(value: Any) -> Markup:
    r"""Return JSON that may stand inside a script element: no `<`, `>` or `&`, whatever the strings hold.

    Examples
    --------
    >>> print(script_json({"label": "</script>"}))
    {"label":"\u003c/script\u003e"}
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for unsafe in "<>&\u2028\u2029":
        text = text.replace(unsafe, f"\\u{ord(unsafe):04x}")
    return Markup(text)


_GUARD = """"use strict";
(() => {
  const root = document.documentElement;
  const seen = [];
  const note = (text) => { seen.push(String(text)); root.dataset.errors = JSON.stringify(seen); };
  addEventListener("error", (event) => note(event.message));
  addEventListener("unhandledrejection", (event) => note(event.reason));
  addEventListener("securitypolicyviolation", (event) => note(event.violatedDirective));
  root.classList.add("scripted");
})();"""
"""Runs before everything else; what goes wrong on the page is kept in `data-errors` of the root element."""


@cache
def _bundle() -> str:
    version = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", version)


def _policy(bodies: Any) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" for body in bodies
    )
    closed = "default-src 'none'; base-uri 'none'; form-action 'none'"
    return f"{closed}; img-src data:; style-src 'unsafe-inline'; script-src {hashes}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        anchor=charts.anchor,
        chance=chance,
        in_words=tables.in_words,
        in_workspace=in_workspace,
        number=number,
        prose=prose,
        readable=readable,
        told=lambda known, name: unlearned.told(name, known),
    )
    return environment


def number(value: Any, digits: int = 3) -> str:
    """Return a number for a table: thousands separated, a dash for what is missing.

    Examples
    --------
    >>> number(1437), number(0.91234), number(None), number(float("nan"))
    ('1,437', '0.912', '–', '–')
    """
    if value is None or value != value:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def in_workspace(path: str) -> Markup:
    """Return a manifest's path from `manifests/` on, which is what tells one from another; lines break after slashes.

    Examples
    --------
    >>> print(in_workspace("/home/me/reviews/manifests/pruned/manifest.json"))
    manifests/<wbr>pruned/<wbr>manifest.json
    """
    shown = path[path.rfind("manifests/") :] if "manifests/" in path else path
    return Markup("/<wbr>").join(shown.split("/"))


def prose(text: str) -> Markup:
    """Return a sentence as HTML, escaped, with what stands between backticks as code.

    Examples
    --------
    >>> print(prose("Run `tracesift score`, not <b>"))
    Run <code>tracesift score</code>, not &lt;b&gt;
    """
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(text))))


def readable(value: Any) -> str:
    """Return any small value as a person would write it: mappings as `name=value`, floats shortened."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={readable(item)}" for name, item in value.items()) or "–"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(readable(item) for item in value) or "–"
    return str(value)


def _completed(listed: pl.DataFrame) -> pl.DataFrame:
    """Add the optional columns of a worklist, so that the template can rely on them."""
    optional = {
        "status": pl.lit(FLAGGED),
        "confidence_from": pl.lit("flag"),
        "planted": pl.lit(None, dtype=pl.Boolean),
    }
    listed = listed.with_columns(
        **{name: value for name, value in optional.items() if name not in listed.columns}
    )
    return listed.with_columns(
        pl.col("label", "suggestion", "flag", "reason", "sample_id").cast(pl.String)
    ).sort("rank")


def _worklist_section(data: ReportData, listed: pl.DataFrame, shown: pl.DataFrame) -> dict[str, Any]:
    flagged, look = tables.status_counts(listed)
    items = [
        {
            **row,
            "estimate": estimate(row),
            "flags": (row["flag"] or "").split(", "),
            "preview": _preview(data, row["sample_id"]),
            "partners": _partners(data, row["sample_id"]),
        }
        for row in shown.iter_rows(named=True)
    ]
    names = pl.concat([shown["label"], shown["suggestion"]]).drop_nulls().unique().to_list()
    order = {name: position for position, name in enumerate(data.dataset["classes"])}
    per_flag: dict[str, int] = {}
    for item in items:
        for name in item["flags"]:
            per_flag[name] = per_flag.get(name, 0) + 1
    return {
        "items": items,
        "first": FIRST_ITEMS,
        "total": listed.height,
        "more": listed.height - shown.height,
        "flagged": flagged,
        "look": look,
        "worth_a_look": look if data.worth_a_look is None else data.worth_a_look,
        "speaks_against": SPEAKS_AGAINST,
        "order": tables.order_in_words(listed),
        "median": shown.filter(pl.col("status") == FLAGGED, pl.col("confidence_from") != "rank")[
            "confidence"
        ].median(),
        "sources": listed["confidence_from"].drop_nulls().unique().sort().to_list(),
        "labels": sorted(names, key=lambda name: (order.get(name, len(order)), name)),
        "flag_counts": sorted(per_flag.items()),
        "empty": None if items else tables.empty_reason(data.flags, data.scores.height),
        "pictures": any(item["preview"] and item["preview"]["kind"] == "image" for item in items),
    }


def _preview(data: ReportData, sample_id: str) -> dict[str, Any] | None:
    """Return a small preview of a sample, or None where content is left out."""
    return None if data.content is None else preview(data.content.get(sample_id))


def _partners(data: ReportData, sample_id: str) -> list[dict[str, Any]]:
    """Return those that a sample helps and those that it harms, as two groups with a preview of each."""
    rows = [{**row, "preview": _preview(data, row["partner_id"])} for row in data.partners.get(sample_id, ())]
    groups = [
        {"name": name, "rows": [row for row in rows if row["kind"] == kind]}
        for kind, name in (("help", "helps"), ("harm", "harms"))
    ]
    return [group for group in groups if group["rows"]]


def _harmed(data: ReportData, listed: frozenset[str]) -> dict[str, Any] | None:
    """Return validation samples and who harms them, each with a preview; the latter linked where they are listed."""
    if data.harmed is None:
        return None
    items = [
        {
            **item,
            "preview": _preview(data, item["sample_id"]),
            "by": [
                {**row, "preview": _preview(data, row["partner_id"]), "listed": row["partner_id"] in listed}
                for row in item["by"]
            ],
        }
        for item in data.harmed["items"]
    ]
    (method,) = {influenced_by(row) for item in items for row in item["by"]}
    return {**data.harmed, "items": items, "method": method}


def _long_tail(data: ReportData, listed: frozenset[str]) -> dict[str, Any] | None:
    """Return the long tail with a preview of each sample, and whether it stands in the worklist on this page."""
    if data.long_tail is None:
        return None
    parts = [
        {
            **part,
            "rows": [
                {**row, "preview": _preview(data, row["sample_id"]), "listed": row["sample_id"] in listed}
                for row in part["rows"]
            ],
        }
        for part in data.long_tail["parts"]
    ]
    return {**data.long_tail, "parts": parts, "fit": data.diagnostics.get("subset_fit")}


def _score_columns(scores: pl.DataFrame) -> list[str]:
    known = ("sample_id", "label", "split")
    return [name for name in scores.columns if name not in known and scores.schema[name].is_numeric()]


def _histograms(data: ReportData, figures: _Figures, flagged: Sequence[str]) -> list[dict[str, Any]]:
    means = {scorer["name"]: scorer.get("means", scorer["direction"]) for scorer in data.scorers}
    return [
        figures.add(
            charts.histogram(data.scores, column, flagged=flagged),
            name=column,
            means=means.get(column),
        )
        for column in _score_columns(data.scores)
    ]


def _agreement(data: ReportData) -> dict[str, Any] | None:
    """Return which detectors of wrong labels agree, against the flag `label_noise` before any person's word."""
    flags = data.flags if data.flags_alone is None else data.flags_alone
    answers = flags.filter(pl.col("flag") == "label_noise").select("sample_id", "flagged")
    scores = data.scores.join(answers, on="sample_id", how="left", maintain_order="left")
    directions = {scorer["name"]: scorer["direction"] for scorer in data.scorers}
    return agreement(
        scores, scores["flagged"], {name: directions[name] for name in LABEL_DETECTORS if name in directions}
    )


def _kept_subsets(subsets: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the subsets whose counts by label are those of the kept, not of everything that is listed."""
    kept = []
    for subset in subsets:
        counts = subset["counts"]
        by_label, dropped = counts.get("by_label", {}), counts.get("by_role", {}).get("drop", 0)
        if by_label and not (dropped and sum(by_label.values()) == counts["total"]):
            kept.append(subset)
    return kept[:4]


def _unlearnable(data: ReportData, listed: frozenset[str]) -> dict[str, Any]:
    rows = data.flags.filter(pl.col("flag").str.contains("unlearnable|residual|shortcut"))
    flagged = rows.filter(pl.col("flagged")).sort(
        "score", "sample_id", descending=[True, False], nulls_last=True
    )
    every = flagged["sample_id"].unique(maintain_order=True)
    ids = every.filter(~every.is_in(pl.Series(data.deleted, dtype=pl.String).implode())).to_list()
    shown = []
    for sample_id in ids[:MAX_PREVIEWS]:
        content = None if data.content is None else data.content.get(sample_id)
        if content is not None:
            shown.append({"sample_id": sample_id, "listed": sample_id in listed, "preview": preview(content)})
    return {
        **tables.verdict(data.diagnostics.get("residual_verdict"), data.dataset["classes"]),
        "because": unlearnable.in_sentences(data.diagnostics.get("residual_verdict")),
        "truth": unlearnable.truth_in_words(data.protection),
        "amplified": unlearnable.AMPLIFIED,
        "residuals": data.residuals,
        "computed": rows.height > 0,
        "flagged": len(every),
        "ids": "\n".join(ids[:MAX_COPIED]),
        "copied": min(len(ids), MAX_COPIED),
        "unknown": rows.filter(pl.col("flagged").is_null()).height,
        "shown": shown,
    }


def _evaluations(data: ReportData, figures: _Figures) -> list[dict[str, Any]]:
    if data.evaluations is None or not data.evaluations.height:
        return []
    evaluations = _completed_evaluations(data)
    selectors = {subset["name"]: subset["selector"] for subset in data.subsets}
    sections = []
    for metric in sorted(set(evaluations["metric"]) - set(tables.NOT_JUDGED)):
        summary = tables.evaluation_summary(evaluations, metric)
        named = summary.with_columns(
            selector=pl.col("subset").replace_strict(
                selectors, default=pl.col("subset"), return_dtype=pl.String
            )
        )
        curve = charts.evaluation_curve(named, metric)
        sections.append(
            {
                "metric": metric,
                "lower_is_better": metric in tables.LOWER_IS_BETTER,
                "summary": summary.to_dicts(),
                "pairs": tables.paired_differences(evaluations, metric),
                "dots": figures.add(charts.evaluation_dots(summary, metric)),
                "curve": figures.add(curve) if curve else None,
            }
        )
    return sections


def _unlearning(data: ReportData, figures: _Figures) -> list[dict[str, Any]]:
    """Return each study with its table as families of columns, its figure and its verdict."""
    sections = []
    for study in data.unlearning:
        if not study["rows"]:
            continue
        known = {name for row in study["rows"] for name in row["measures"]}
        families = {
            title: [name for name in names if name in known and name not in BESIDE_THE_TABLE]
            for title, names in unlearned.FAMILIES.items()
        }
        shown = {name for names in families.values() for name in names}
        further = sorted(known - shown - {"steps", "seconds"})
        sections.append(
            {
                **study,
                "families": {title: names for title, names in families.items() if names},
                "columns": [name for names in families.values() for name in names],
                "further": further,
                "verdict": unlearned.verdict(study),
                "dots": figures.add(charts.unlearning_dots(study["rows"])),
            }
        )
    return sections


def _completed_evaluations(data: ReportData) -> pl.DataFrame:
    """Add `share` (from `num_train` where that is there) and `steps`, null where nothing is known of them."""
    evaluations = data.evaluations
    assert evaluations is not None
    trained = pl.col("num_train") / data.scores.height if "num_train" in evaluations.columns else pl.lit(None)
    optional = {"share": trained.cast(pl.Float64), "steps": pl.lit(None, dtype=pl.Float64)}
    return evaluations.with_columns(
        **{name: value for name, value in optional.items() if name not in evaluations.columns}
    )


def _planted_precision(listed: pl.DataFrame) -> list[dict[str, Any]]:
    """Return how many of the first 10, 50, 100, 200 listed are planted errors, where truth is known."""
    known = listed.filter(pl.col("planted").is_not_null())
    sizes = sorted({min(size, known.height) for size in (10, 50, 100, 200)} - {0})
    return [{"first": size, "planted": known["planted"].head(size).sum()} for size in sizes]
