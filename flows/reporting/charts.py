"""The report's figures as Vega-Lite specifications, made with altair.

Every figure is bounded: histograms are binned here, the data map is subsampled above `MAX_POINTS`, and each
caption says so. Field names inside a specification are ours (`x`, `label`, ...), never the user's column
names, so no name can break an expression. Colours of text, axes and grid are left to the page's style sheet,
which knows light, dark and print; mark colours are mid-tones that are legible on both grounds and told apart
by people who do not see red and green.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote

import altair as alt
import numpy as np
import polars as pl

from tracesift.flows.progress import counted

MAX_POINTS = 5_000
"""The most points of a data map: SVG stays quick, and more would only hide one another."""

BINS = 40

GAP = 0.016
"""Between two points of a curve that keep the same share of the samples."""

WRONG, MIDDLE, RIGHT = "#d9622b", "#9a9a9a", "#3585c6"

FOUR = (WRONG, RIGHT, "#8a63b8", "#b58a1b")
"""Colours of four things in one figure."""

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "domain": False,
        "tickSize": 4,
    },
    "legend": {
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titleLimit": 320,
        "orient": "bottom",
        "gradientLength": 160,
        "gradientOpacity": 1,
    },
}

_FLUID: dict[str, Any] = {
    "width": "container",
    "autosize": alt.AutoSizeParams(type="fit-x", contains="padding"),
    "config": CONFIG,
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure: its Vega-Lite specification, or None with a note that says why there is none."""

    name: str
    spec: dict[str, Any] | None
    note: str


def anchor(sample_id: str) -> str:
    """Return the link to a sample's place in the worklist; any character of an id is allowed.

    Examples
    --------
    >>> anchor("a b/c")
    '#s-a%20b%2Fc'
    """
    return "#s-" + quote(sample_id, safe="")


def data_map(
    scores: pl.DataFrame, *, linked: Collection[str] = (), limit: int = MAX_POINTS, seed: int = 0
) -> Figure:
    """Return the data map (Swayamdipta et al. 2020): confidence against variability, coloured by correctness.

    Parameters
    ----------
    scores : DataFrame
        sample_id, label, cartography_confidence, cartography_variability and, for the colour,
        cartography_correctness (divided by its maximum, for the drawing alone).
    linked : collection of str
        Samples that stand in the worklist: drawn with a ring, never subsampled away while they fit, and
        linked to their place.
    limit : int
        The most points to draw.
    seed : int
        Seed of the subsample; the order of the rows does not matter.

    Returns
    -------
    Figure
        Without a specification where the two columns are missing or empty.
    """
    needed = ("cartography_confidence", "cartography_variability")
    missing = [name for name in needed if name not in scores.columns]
    if missing:
        commands = f"tracesift score {' '.join(needed)} cartography_correctness"
        return Figure(
            name="data-map",
            spec=None,
            note=f"Not drawn: {' and '.join(missing)} not computed. Run `{commands}`.",
        )
    points = _map_points(scores, linked)
    total = points.height
    if not total:
        return Figure(name="data-map", spec=None, note="Not drawn: no sample has both values.")
    drawn = _subsample(points, limit, seed)
    note = (
        "One point per training sample. Top: learned easily. Bottom left: contradicted all along, where "
        "wrong labels gather. Right: the model wavered."
    )
    if drawn.height < total:
        kept = drawn.filter("listed").height
        note += (
            f" {drawn.height:,} of {total:,} points are drawn: the {kept:,} from the worklist and a random "
            f"{drawn.height - kept:,} of the others (seed {seed})."
        )
    if scores.height > total:
        note += f" Left out, without a value: {counted(scores.height - total, 'sample')}."
    if drawn["listed"].any():
        note += " Ringed points stand in the worklist: click one to go there."
    return Figure(name="data-map", spec=_map_chart(drawn).to_dict(), note=note)


def _map_points(scores: pl.DataFrame, linked: Collection[str]) -> pl.DataFrame:
    correctness = "cartography_correctness"
    share = pl.col(correctness) / pl.col(correctness).max() if correctness in scores.columns else pl.lit(None)
    points = scores.select(
        "sample_id",
        pl.col("label").cast(pl.String),
        x=pl.col("cartography_variability").cast(pl.Float64),
        y=pl.col("cartography_confidence").cast(pl.Float64),
        c=share.cast(pl.Float64).fill_nan(None).clip(0, 1),
        listed=pl.col("sample_id").is_in(list(linked)),
    )
    finite = pl.col("x").is_finite() & pl.col("y").is_finite()
    return points.filter(finite).with_columns(pl.col("x", "y", "c").round(4))


def _subsample(points: pl.DataFrame, limit: int, seed: int) -> pl.DataFrame:
    points = points.sort("sample_id")
    if points.height <= limit:
        return points.sort("listed", "sample_id")
    listed = points.filter("listed").head(limit)
    others = points.filter(~pl.col("listed"))
    chosen = np.random.default_rng(seed).choice(others.height, size=limit - listed.height, replace=False)
    return pl.concat([others[np.sort(chosen)], listed])


def _map_chart(points: pl.DataFrame) -> alt.LayerChart | alt.FacetChart:
    values = [
        {key: value for key, value in row.items() if value is not None and key != "listed"}
        | ({"href": anchor(row["sample_id"])} if row["listed"] else {})
        for row in points.iter_rows(named=True)
    ]
    tooltip = [
        alt.Tooltip("sample_id:N", title="id"),
        alt.Tooltip("label:N", title="label"),
        alt.Tooltip("y:Q", title="confidence", format=".3f"),
        alt.Tooltip("x:Q", title="variability", format=".3f"),
        alt.Tooltip("c:Q", title="correctness", format=".2f"),
    ]
    base = alt.Chart(alt.InlineData(values=values)).encode(
        x=alt.X("x:Q", title="variability (standard deviation over epochs)", axis=alt.Axis(tickCount=8)),
        y=alt.Y("y:Q", title="confidence (mean probability of the label)", scale=alt.Scale(domain=[0, 1])),
        color=_correctness_colour(points),
        tooltip=tooltip,
    )
    plain = base.transform_filter("!datum.href").mark_circle(size=18, opacity=0.55)
    ringed = (
        base.transform_filter("datum.href")
        .mark_point(size=46, filled=True, opacity=0.95, strokeWidth=1.4, stroke="#111111", cursor="pointer")
        .encode(href="href:N")
    )
    return alt.layer(plain, ringed).properties(**_FLUID, height=420, description="Data map")


def _correctness_colour(points: pl.DataFrame) -> Any:
    if points["c"].null_count() == points.height:
        return alt.value(RIGHT)
    scale = alt.Scale(domain=[0, 0.5, 1], range=[WRONG, MIDDLE, RIGHT])
    return alt.Color("c:Q", title="correctness (share of the best)", scale=scale)


def histogram(scores: pl.DataFrame, column: str, *, flagged: Collection[str] = ()) -> Figure:
    """Return the histogram of one score: all samples as bars, the flagged ones as a line, each as a share.

    Shares, so that 50 flagged of 60,000 can be seen at all; the tooltip holds the counts. Counts get a
    bar per number, or per so many whole numbers; long tails are folded into the outermost bars.

    Parameters
    ----------
    scores : DataFrame
        sample_id and `column`.
    column : str
        The score.
    flagged : collection of str
        Samples that any flag says yes to.

    Returns
    -------
    Figure
        Without a specification where there is nothing to spread out; the note then says what there is.
    """
    values = scores[column].cast(pl.Float64).to_numpy()
    finite = np.isfinite(values)
    absent = int((~finite).sum())
    remark = f"{absent:,} of {values.size:,} without a value. " if absent else ""
    name = f"histogram-{column}"
    known = values[finite]
    if not known.size:
        return Figure(name=name, spec=None, note="No sample has a value.")
    if known.min() == known.max():
        return Figure(
            name=name, spec=None, note=f"{remark}All {known.size:,} samples have the value {known[0]:.6g}."
        )
    edges, folded = _edges(known)
    if folded:
        remark += f"{folded:,} beyond the drawn range {'is' if folded == 1 else 'are'} counted in the outermost bars. "
    marked = scores["sample_id"].is_in(list(flagged)).to_numpy()[finite]
    clipped = np.clip(known, edges[0], edges[-1])
    frame = pl.DataFrame(
        {
            "lo": edges[:-1],
            "hi": edges[1:],
            "mid": (edges[:-1] + edges[1:]) / 2,
            "all": np.histogram(clipped, edges)[0],
            "flagged": np.histogram(clipped[marked], edges)[0],
        }
    ).with_columns(
        pl.col("lo", "hi", "mid").round_sig_figs(6),
        share=(pl.col("all") / known.size).round(5),
        flagged_share=(pl.col("flagged") / max(int(marked.sum()), 1)).round(5),
    )
    if _are_counts(known):  # what stands in a bar, not its edges half-way between two counts
        frame = frame.with_columns(first=edges[:-1] + 0.5, last=edges[1:] - 0.5)
    return Figure(name=name, spec=_histogram_spec(frame, column), note=remark.strip())


def _are_counts(known: np.ndarray) -> bool:
    return bool(np.all(known == np.round(known)))


def _edges(known: np.ndarray) -> tuple[np.ndarray, int]:
    """Return bin edges and how many values lie beyond the outermost; of counts, each bar holds as many numbers."""
    counts = _are_counts(known)
    if counts and np.ptp(known) <= BINS:
        return np.arange(known.min() - 0.5, known.max() + 1.0), 0
    # Fences far outside the middle nine tenths: a small group of suspects stays in sight, a stray 1e6 cannot
    # squeeze everybody else into one bar.
    low, high = np.quantile(known, [0.05, 0.95])
    reach = 5 * (high - low)
    inside = known[(known >= low - reach) & (known <= high + reach)] if reach > 0 else known
    if counts:
        width = np.ceil((np.ptp(inside) + 1) / BINS)
        return np.arange(inside.min() - 0.5, inside.max() + width, width), known.size - inside.size
    return np.linspace(inside.min(), inside.max(), BINS + 1), known.size - inside.size


def _histogram_spec(frame: pl.DataFrame, column: str) -> dict[str, Any]:
    counts = "first" in frame.columns
    # One by one where they are few; with more of them, Vega's ticks are whole numbers anyway.
    ticks = tuple(frame["first"].to_list()) if counts and frame.height <= 6 else ()
    empty = _empty_histogram(counts=counts, ticks=ticks, flagged=bool(frame["flagged"].sum()))
    spec = copy.deepcopy(empty) | {"description": f"Histogram of {column}"}
    (name,) = spec["datasets"]
    spec["datasets"][name] = frame.to_dicts()
    return spec


@cache
def _empty_histogram(*, counts: bool, ticks: tuple[float, ...], flagged: bool) -> dict[str, Any]:
    """Return the specification of all histograms of a kind: altair takes far longer for it than for their data."""
    tooltip = [
        alt.Tooltip("first:Q" if counts else "lo:Q", title="from", format=".4g"),
        alt.Tooltip("last:Q" if counts else "hi:Q", title="to", format=".4g"),
        alt.Tooltip("all:Q", title="samples", format=",d"),
        alt.Tooltip("flagged:Q", title="of them flagged", format=",d"),
    ]
    base = alt.Chart(alt.InlineData(values=[]))
    axis = alt.Axis(title=None, tickCount=4, grid=False)
    if ticks:
        axis = alt.Axis(title=None, values=list(ticks), format="d", grid=False)
    share = alt.Axis(title=None, format="~%", tickCount=3)
    bars = base.mark_bar(color=RIGHT, opacity=0.55, binSpacing=0.5).encode(
        x=alt.X("lo:Q", bin="binned", axis=axis, scale=alt.Scale(zero=False, nice=False)), x2="hi:Q",
        y=alt.Y("share:Q", axis=share), tooltip=tooltip,
    )  # fmt: skip
    layers: list[alt.Chart] = [bars]
    if flagged:
        layers.append(
            base.mark_line(color=WRONG, strokeWidth=2, interpolate="step").encode(
                x="mid:Q", y="flagged_share:Q", tooltip=tooltip
            )
        )
    return alt.layer(*layers).properties(**_FLUID, height=120, description="Histogram").to_dict()


def _with_spread(summary: pl.DataFrame) -> pl.DataFrame:
    """Return the rows that have a mean, with `lo` and `hi` one standard deviation to either side."""
    spread = pl.col("std").cast(pl.Float64).fill_nan(None).fill_null(0.0)
    known = summary.filter(pl.col("mean").is_finite())
    return known.with_columns(lo=pl.col("mean") - spread, hi=pl.col("mean") + spread).with_columns(
        pl.col("mean", "lo", "hi").round_sig_figs(6)
    )


def evaluation_dots(summary: pl.DataFrame, metric: str) -> Figure:
    """Return mean and standard deviation over seeds for each subset, one row per subset.

    Parameters
    ----------
    summary : DataFrame
        subset, control_of, mean, std (null for one seed), seeds.
    metric : str
        Name of the value, for the axis.
    """
    name, known = f"evaluation-{metric}", _with_spread(summary)
    if not known.height:
        return Figure(name=name, spec=None, note="Not drawn: no seed gave a number.")
    kind = pl.when(pl.col("control_of").is_null()).then(pl.lit("subset")).otherwise(pl.lit("control"))
    rows = known.select("subset", "mean", "lo", "hi", "seeds", kind=kind).to_dicts()
    tooltip = [
        alt.Tooltip("subset:N"),
        alt.Tooltip("mean:Q", format=".4f"),
        alt.Tooltip("lo:Q", title="mean - std", format=".4f"),
        alt.Tooltip("hi:Q", title="mean + std", format=".4f"),
        alt.Tooltip("seeds:Q"),
    ]
    colours = alt.Scale(domain=["subset", "control"], range=[RIGHT, MIDDLE])
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        y=alt.Y(
            "subset:N", sort=known["subset"].to_list(), title=None, axis=alt.Axis(labelLimit=180, grid=True)
        ),
        color=alt.Color("kind:N", title=None, scale=colours),
        tooltip=tooltip,
    )
    x: dict[str, Any] = {"title": metric, "scale": alt.Scale(zero=False), "axis": alt.Axis(tickCount=8)}
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(x=alt.X("lo:Q", **x), x2="hi:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("mean:Q", **x)),
    ).properties(**_FLUID, height=26 * known.height, description=f"{metric} by subset")
    note = "Dot: mean over seeds; bar: one standard deviation to either side."
    return Figure(name=name, spec=chart.to_dict(), note=note)


def _side_by_side(points: pl.DataFrame) -> pl.DataFrame:
    """Add `x`: the share, moved a little where several selectors keep the same, so that none hides another.

    What would come to lie beyond 100 % or below 0 is moved the other way, with all that keep the same.
    """
    same = pl.col("share").round(2)
    place = pl.col("selector").rank("dense").over(same)
    moved = pl.col("share") + GAP * (place - (place.max().over(same) + 1) / 2)
    above, below = (
        (moved.max().over(same) - 1).clip(lower_bound=0),
        moved.min().over(same).clip(upper_bound=0),
    )
    return points.with_columns(x=(moved - above - below).round(4))


def evaluation_curve(summary: pl.DataFrame, metric: str) -> Figure | None:
    """Return the metric against the share kept, one line per selector; None where only one share was tried.

    Parameters
    ----------
    summary : DataFrame
        subset, selector, share, mean, std.
    metric : str
        Name of the value, for the axis.
    """
    known = _side_by_side(_with_spread(summary).filter(pl.col("share").is_not_null()))
    shares = known.group_by("selector").agg(pl.col("share").n_unique())["share"]
    if not (shares > 1).any():
        return None
    tooltip = [
        alt.Tooltip("subset:N"),
        alt.Tooltip("selector:N"),
        alt.Tooltip("share:Q", format=".1%"),
        alt.Tooltip("mean:Q", format=".4f"),
    ]
    rows = known.select("subset", "selector", "share", "x", "mean", "lo", "hi").to_dicts()
    across = alt.Scale(domain=[0, min(1, max(row["x"] for row in rows) + GAP)], nice=False)
    axis = alt.Axis(format="~%", tickCount=10, labelOverlap=True, labelSeparation=4)
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("x:Q", title="share of the training set kept", axis=axis, scale=across),
        color=alt.Color("selector:N", title=None, scale=alt.Scale(scheme="tableau10")),
        tooltip=tooltip,
    )
    y: dict[str, Any] = {"title": metric, "scale": alt.Scale(zero=False)}
    points = alt.OverlayMarkDef(filled=True, size=60)
    chart = alt.layer(
        base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("lo:Q", **y), y2="hi:Q"),
        base.mark_line(point=points).encode(y=alt.Y("mean:Q", **y)),
    ).properties(**_FLUID, height=280, description=f"{metric} by share kept")
    note = "Mean over seeds, with one standard deviation; what keeps the same share is drawn side by side."
    return Figure(name=f"curve-{metric}", spec=chart.to_dict(), note=note)


COMPARED = {"ua": "UA", "ra": "RA", "ta": "TA", "mia": "MIA"}
"""What the average gap is the mean of, in the order in which it is drawn."""


def unlearning_dots(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return how far each model is from retraining in UA, RA, TA and MIA, in points, one row per model.

    Parameters
    ----------
    rows : sequence of dict
        `name` and `measures`, each with `difference` and `difference_std`, in [-1, 1]; rows without measures are left
        out.
    """
    points = [
        {
            "name": row["name"], "measure": title, "mean": round(100 * known["difference"], 3),
            "lo": round(100 * (known["difference"] - (known["difference_std"] or 0.0)), 3),
            "hi": round(100 * (known["difference"] + (known["difference_std"] or 0.0)), 3),
        }
        for row in rows
        for measure, title in COMPARED.items()
        for known in [row["measures"].get(measure)]
        if known is not None and known["difference"] is not None
    ]  # fmt: skip
    if not points:
        return Figure(name="unlearning", spec=None, note="Not drawn: nothing was measured beside retraining.")
    names = list(dict.fromkeys(point["name"] for point in points))
    drawn = [title for title in COMPARED.values() if any(point["measure"] == title for point in points)]
    tooltip = [
        alt.Tooltip("name:N", title="model"), alt.Tooltip("measure:N"), alt.Tooltip("mean:Q", format="+.2f"),
        alt.Tooltip("lo:Q", title="mean - std", format="+.2f"), alt.Tooltip("hi:Q", title="mean + std", format="+.2f"),
    ]  # fmt: skip
    base = alt.Chart(alt.InlineData(values=points)).encode(
        y=alt.Y(
            "name:N", sort=names, title=None, axis=alt.Axis(labelLimit=220, grid=True, tickBand="extent")
        ),
        yOffset=alt.YOffset("measure:N", sort=drawn),
        color=alt.Color(
            "measure:N", title=None, sort=drawn, scale=alt.Scale(domain=drawn, range=FOUR[: len(drawn)])
        ),
        tooltip=tooltip,
    )
    x: dict[str, Any] = {"title": "points above or below retraining", "axis": alt.Axis(tickCount=8)}
    zero = (
        alt.Chart(alt.InlineData(values=[{"x": 0}]))
        .mark_rule(color=MIDDLE, strokeDash=[4, 3])
        .encode(x="x:Q")
    )
    chart = alt.layer(
        zero,
        base.mark_rule(strokeWidth=2).encode(x=alt.X("lo:Q", **x), x2="hi:Q"),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=alt.X("mean:Q", **x)),
    ).properties(
        **_FLUID, height=(14 * len(drawn) + 8) * len(names), description="Distance to retraining by model"
    )
    note = (
        "Dot: mean difference to retraining at the same seed; bar: one standard deviation to either side. The row "
        "retraining is its second model less its first: what lies as near the dashed line as that is as good as exact."
    )
    return Figure(name="unlearning", spec=chart.to_dict(), note=note)
