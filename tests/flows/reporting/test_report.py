"""The report without a browser: complete, closed, escaped, honest about what is missing, and drawable."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest
import vl_convert
from PIL import Image

from tracesift.flows.reporting.report import (
    MAX_ITEMS,
    ReportData,
    in_workspace,
    readable,
    render_report,
    script_json,
)
from tracesift.flows.reporting.worklist import worklist
from tracesift.flows.show import chance

NASTY = "<script>alert(1)</script>"
TEXT = "</script><img src=x onerror=alert(2)> & \"quotes\" 'too' <b>bold</b> &lt;i&gt;"
VOID = {"meta", "img", "input", "br", "link", "hr", "wbr"}


def build(n=40, *, kind="image", content=True, planted=True, classes=("0", "1", NASTY)):
    """A small dataset in which every fifth label is wrong and the scores know it."""
    rng = np.random.default_rng(0)
    ids = [f"id {i:04d}/ö" for i in range(n)]
    ids[0] = "<i>'\"&0"
    wrong = np.arange(n) % 5 == 0
    labels = [classes[i % len(classes)] for i in range(n)]
    confidence = np.where(wrong, 0.1, 0.9) + rng.random(n) / 20
    scores = pl.DataFrame(
        {
            "sample_id": ids, "label": labels, "cartography_confidence": confidence,
            "cartography_variability": rng.random(n) / 2, "cartography_correctness": np.round(confidence * 10),
            "aum": np.where(wrong, -2.0, 3.0) + rng.random(n), "cld": [None, float("nan"), *rng.random(n - 2)],
        }
    )  # fmt: skip
    unsure = np.arange(n) % 7 == 1
    flags = pl.DataFrame(
        {
            "flag": ["label_noise"] * n, "sample_id": ids, "score": -confidence, "threshold": [-0.5] * n,
            "flagged": [None if u and not w else bool(w) for u, w in zip(unsure, wrong, strict=True)],
            "reason": [f"cannot tell: {TEXT}" if u and not w else "margin in the low group" for u, w in zip(unsure, wrong, strict=True)],
            "suggestion": [classes[(i + 1) % len(classes)] for i in range(n)], "confidence": 1 - confidence,
        },
        schema_overrides={"flagged": pl.Boolean},
    )  # fmt: skip
    listed = worklist(flags, scores, directions={"aum": "clean"})
    if planted:
        truth = dict(zip(ids, wrong.tolist(), strict=True))
        listed = listed.with_columns(planted=pl.col("sample_id").replace_strict(truth))
    shown = {
        "image": lambda i: Image.new("L", (8, 8), i % 255),
        "text": lambda i: f"{TEXT} {i}",
        "tabular": lambda i: {"<a>": i, "b": TEXT},
    }
    evaluations = pl.DataFrame(
        [("pruned", None, s, "accuracy", 0.9 + s / 100, 0.5, 100) for s in range(3)]
        + [("pruned-random", "pruned", s, "accuracy", 0.88 + s / 100, 0.5, 100) for s in range(3)],
        schema=["subset", "control_of", "seed", "metric", "value", "share", "steps"], orient="row",
    )  # fmt: skip
    subset = {
        "version": 1,
        "params": {"beta": 0.1},
        "budget": 0.5,
        "manifest_path": "manifests/pruned/manifest.json",
    }
    counts = {"total": 20, "by_role": {"keep": 20}, "by_label": {"0": 7, "1": 7, NASTY: 6}}
    return ReportData(
        title=f"Curation of {NASTY}", created="2026-01-02 03:04 UTC", tool_version="0.1.0",
        dataset={
            "name": NASTY, "source": TEXT, "kind": kind, "num_samples": n + 10, "splits": {"train": n, "val": 5, "test": 5},
            "classes": list(classes), "fingerprint": "f" * 64, "dataset_id": "d" * 16, "notes": [TEXT],
            "transform": {"plant_label_noise": {"kind": "symmetric", "rate": 0.2, "seed": 0}},
        },
        runs=[{"run_id": "run1", "kind": "record", "model": "small", "seed": 0, "device": "cpu", "epochs": 3, "seconds": 1.5, "config": {"lr": 0.1}}],
        worklist=listed, content={i: shown[kind](k) for k, i in enumerate(ids)} if content else None, scores=scores, flags=flags,
        diagnostics={"residual_verdict": {"verdict": "clean", "D": 3.05, "gap": 1.25}, "other": {"rate": 0.2, "note": NASTY}},
        subsets=[
            {**subset, "name": "pruned", "selector": "ccs", "counts": counts, "control_of": None},
            {**subset, "name": "pruned-random", "selector": "random", "counts": counts, "control_of": "pruned"},
        ],
        evaluations=evaluations,
        scorers=[{"name": "aum", "version": 1, "direction": "clean", "mode": "in_training", "inputs": ["margin"], "params": {},
                  "reference": "Pleiss et al. 2020", "summary": "Mean logit margin of the label.", "run_id": "run1"}],
        truth={"n_planted": 8, "scorers": {"aum": {"auroc": 0.99, "average_precision": 0.9, "precision_at_n": 0.8}},
               "flags": {"label_noise": {"precision": 1.0, "recall": 0.75}}} if planted else None,
    )  # fmt: skip


class Page(HTMLParser):
    """What a parser sees: every element with its attributes, the bodies of scripts, the visible words."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.scripts, self.words, self._open = [], [], [], []
        self.feed(html)
        self.close()
        assert self._open == [], f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._open and self._open[-1] != "style":
            self.words.append(data)

    def all(self, tag=None, **attributes):
        return [
            found for name, found in self.elements
            if (tag is None or name == tag) and all(found.get(key.replace("_", "-").strip("-")) == value for key, value in attributes.items())
        ]  # fmt: skip

    def with_class(self, name):
        return [found for _, found in self.elements if name in (found.get("class") or "").split()]

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def html():
    return render_report(build())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_the_worklist_comes_first_and_nothing_is_missing(page):
    sections = [found["id"] for found in page.all("section")]
    assert sections == [
        "worklist",
        "map",
        "scores",
        "classes",
        "flags",
        "unlearnable",
        "subsets",
        "evaluation",
        "truth",
        "made",
    ]
    assert [
        found["href"]
        for found in page.all("a")
        if found["href"].startswith("#") and found["href"][1:] in sections
    ][1:] == [f"#{name}" for name in sections]


@pytest.mark.parametrize("kind", ["image", "text", "tabular"])
def test_nothing_of_the_users_becomes_markup(kind):
    page = Page(render_report(build(kind=kind)))
    assert len([body for attrs, body in page.scripts if attrs.get("type") != "application/json"]) == 3
    assert not [found for _, found in page.elements for name in found if name.startswith("on")]
    assert not page.all("img", src="x")
    assert NASTY in page.text
    if kind != "image":
        assert "<img src=x onerror=alert(2)>" in page.text


def test_every_script_that_may_run_is_named_by_its_hash(page):
    policy = next(
        found["content"] for found in page.all("meta") if found.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    script_rule = next(part for part in policy.split(";") if "script-src" in part)
    assert "unsafe-inline" not in script_rule
    for attributes, body in page.scripts:
        if attributes.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in script_rule


def test_nothing_is_asked_of_the_network(html, page):
    for _, found in page.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            assert found.get(name, "#").startswith(("#", "data:image/")), found
    assert not page.all("link")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_figures_are_complete_specifications_that_draw(page):
    places = [found["data-spec"] for _, found in page.elements if "data-spec" in found]
    specs = {
        attributes["id"]: json.loads(body)
        for attributes, body in page.scripts
        if attributes.get("type") == "application/json"
    }
    assert places == list(specs)
    assert len(places) == 1 + 5 + 1  # data map, five scores, one metric
    for name, spec in specs.items():
        assert "url" not in json.dumps(spec.get("data", {}))
        assert vl_convert.vegalite_to_svg(spec).count("<path") > 3, name


def test_json_in_a_script_cannot_end_it():
    value = {"</script><!--": ["&amp;", "\u2028", "<script>"]}
    text = str(script_json(value))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        script_json({"x": float("nan")})


def test_an_item_holds_what_one_needs_to_act(page):
    data = build()
    items = page.with_class("item")
    assert [item["data-id"] for item in items] == data.worklist["sample_id"].to_list()
    first = data.worklist.row(0, named=True)
    assert items[0]["id"] == "s-" + first["sample_id"]
    assert json.loads(items[0]["data-labels"]) == [first["label"], first["suggestion"]]
    assert json.loads(items[0]["data-flags"]) == ["label_noise"]
    copied = [found["data-copy"] for found in page.all("button") if "data-copy" in found]
    assert copied[0] == first["sample_id"]
    assert len(page.all("img")) == len(items)
    assert "margin in the low group" in page.text
    assert chance(first["confidence"]) in page.text
    assert "planted error" in page.text


def test_cannot_tell_is_shown_with_its_reasons(page):
    flags = build().flags
    unknown = flags["flagged"].null_count()
    assert unknown > 0
    assert page.all("li", data_status="worth a look")
    assert re.search(rf"label_noise 8 {40 - 8 - unknown} {unknown} -0.5", page.text)
    assert "Why label_noise cannot tell" in page.text


def test_without_content_no_picture_and_no_text_leave_the_machine():
    for kind in ("image", "text", "tabular"):
        html = render_report(
            replace(build(kind=kind, content=False), dataset=build().dataset | {"source": "", "notes": []})
        )
        page = Page(html)
        assert not page.all("img")
        assert "data:image" not in re.sub(r"<script.*?</script>", "", html, flags=re.S)
        assert "left out on request" in page.text
        assert len(page.with_class("item")) == build().worklist.height


def test_long_worklists_are_cut_and_said_so():
    data = build(1_100, content=False)
    page = Page(render_report(data))
    total = data.worklist.height
    assert total > MAX_ITEMS
    assert len(page.with_class("item")) == MAX_ITEMS
    assert f"The first 200 of {total} are on this page" in page.text
    assert "tracesift review export" in page.text


def test_empty_worklists_say_why():
    data = build()
    empty = data.worklist.clear()
    none = data.flags.with_columns(flagged=pl.lit(value=False))
    unsure = data.flags.with_columns(flagged=pl.lit(None, dtype=pl.Boolean))
    for flags, said in (
        (none, "Nothing was flagged"),
        (unsure, "Cannot tell: none of the flags"),
        (data.flags.clear(), "No flag was computed"),
    ):
        page = Page(render_report(replace(data, worklist=empty, flags=flags)))
        assert said in page.text
        assert not page.with_class("item")


def test_what_was_not_computed_is_named_with_the_way_to_get_it():
    data = build(planted=False)
    bare = replace(
        data, scores=data.scores.select("sample_id", "label"), evaluations=None, subsets=[], runs=[], scorers=[], diagnostics={}, truth=None
    )  # fmt: skip
    page = Page(render_report(bare))
    for command in ("tracesift score", "tracesift select", "tracesift evaluate"):
        assert command in page.text
    assert "Cannot tell whether samples carry a label-specific small signal" in page.text
    assert not page.all("section", id="truth")


def test_a_minimal_worklist_is_enough():
    data = build()
    minimal = data.worklist.select("rank", "sample_id", "label", "suggestion", "confidence", "flag", "reason")
    page = Page(
        render_report(replace(data, worklist=minimal.with_columns(confidence=pl.lit(None, dtype=pl.Float64))))
    )
    assert "no confidence" in page.text
    assert "planted error" not in page.text


def test_a_rank_is_not_sold_as_a_probability():
    data = build()
    ranked = worklist(data.flags.drop("confidence"), data.scores, directions={"aum": "clean"})
    assert set(ranked["confidence_from"]) == {"rank"}
    page = Page(render_report(replace(data, worklist=ranked)))
    assert "not estimated" in page.text
    assert "Not estimated:" in page.text, "the same words where it is told how numbers are made"
    assert "More suspicious than" not in page.text
    assert "Median confidence" not in page.text
    assert not page.with_class("bar")
    assert "Most certain" not in page.text
    assert "most suspicious first; the probability that a label is wrong could not be estimated." in page.text


def test_what_is_worth_a_look_is_said_to_be_unproven_and_counted_in_full(page):
    data = build()
    look = (data.worklist["status"] == "worth a look").sum()
    why = "more are worth a look: something speaks against their label, but not enough to call it wrong"
    assert f"8 of 40 training samples are flagged; {look} {why}." in page.text
    cut = Page(render_report(replace(data, worth_a_look=1_045))).text
    assert f"1,045 {why}; the first {look} of them are listed." in cut
    assert "With --count it lists more" in cut
    assert "With --count" not in page.text


def test_a_listed_probability_is_the_one_that_its_reason_names():
    data = build()
    near = data.worklist.with_columns(confidence=0.7999)
    text = Page(render_report(replace(data, worklist=near))).text
    assert "79 %" in text
    assert "80 %" not in text


def test_numbers_of_the_evaluation(page):
    assert re.search(r"pruned 50\.0 % 0\.9100 0\.0100 3 100", page.text)
    assert re.search(r"pruned pruned-random \+0\.0200 0\.0000 3 of 3 seeds", page.text)


def test_a_metric_says_which_way_is_better_and_what_is_none_is_left_out(page):
    data = build()
    more = [
        data.evaluations.with_columns(metric=pl.lit(name), value=pl.col("value") + 40)
        for name in ("loss", "samples", "steps")
    ]
    told = Page(render_report(replace(data, evaluations=pl.concat([data.evaluations, *more]))))
    assert re.search(
        r"loss \(lower is better\) .* Paired with its control, seed by seed; lower is better", told.text
    )
    assert told.text.count("Paired with its control") == 2
    assert told.text.count("lower is better") == 2
    assert "lower is better" not in page.text


def test_the_legend_names_the_flagged_where_there_are_some(page):
    assert page.with_class("flagged")
    data = build()
    none = replace(data, flags=data.flags.with_columns(flagged=pl.lit(value=False)))
    told = Page(render_report(none))
    assert not told.with_class("flagged")
    assert "the flagged ones" not in told.text


def test_keys_of_the_evidence_are_words_and_paths_break_after_slashes(html, page):
    assert page.all("dt", title="rate")
    assert "share of wrong labels" in page.text
    assert "manifests/<wbr>pruned/<wbr>manifest.json" in html
    assert "<wbr>" not in in_workspace("<b>")


def test_share_follows_from_the_number_trained_on():
    data = build()
    trained = data.evaluations.drop("share", "steps").with_columns(num_train=pl.lit(10))
    page = Page(render_report(replace(data, evaluations=trained)))
    assert re.search(r"pruned 25\.0 % 0\.9100 0\.0100 3 –", page.text)


def test_the_order_of_suspicion_is_measured_where_nothing_is_flagged():
    data = build()
    truth = {
        **data.truth,
        "flags": {"label_noise": {"precision": None, "recall": 0.0}},
        "ranking": {"average_precision": 0.71234, "chance": 0.5037},
    }
    page = Page(render_report(replace(data, truth=truth)))
    assert "average precision 0.7123, where chance gives 0.5037, the share of wrong labels" in page.text


def test_planted_truth_is_counted_along_the_worklist(page):
    listed = build().worklist
    assert f"{listed['planted'].head(10).sum()} of the first 10" in page.text


def test_residuals_stand_beside_images_and_the_truth_beside_the_verdict():
    data = build()
    shown = {
        "kind": "image",
        "uri": "data:image/png;base64,AA==",
        "width": 84,
        "height": 84,
        "pixelated": True,
        "size": "28 × 28",
    }
    pair = {"sample_id": NASTY, "image": shown, "residual": shown}
    group = {"count": 30, "averaged": 20, "mean": shown, "examples": [pair]}
    row = {"label": NASTY, "flagged": True, "upper": {**group, "examples": [pair, pair]}, "lower": group}
    line = {"separation": 5.2, "separation_of_clouds": 2.8, "separation_needed": 3.5, "fires": True}
    line |= {"gap": 2.3, "gap_of_clouds": 0.9, "gap_needed": 1.5}
    verdict = {"verdict": "poisoned", "best_view": "impulse", "views": {"impulse": line}}
    truth = {"known": 40, "changed": 8, "told": 40, "found": 6, "flagged": 7, "scorers": {}}
    data = replace(data, residuals=[row], diagnostics={"residual_verdict": verdict}, protection=truth)
    page = Page(render_report(data))
    table = page.with_class("residuals")
    assert len(table) == 1
    assert len(page.with_class("pair")) == 3
    assert "mean of the flagged mean of the not flagged" in page.text
    assert "of the 20 with the highest scores, of 30" in page.text
    assert "of the 20 with the lowest scores, of 30" in page.text
    assert "times 8 around a middle grey" in page.text
    assert "a camera that was used for one label alone leaves the same trace" in page.text
    assert (
        "two groups 5.20 deviations apart on average (2.80 if every label were one group; 3.50 needed)"
        in page.text
    )
    assert "finds 6 of them (recall 75.0 %), and of the 7 that it flags 1 is unchanged" in page.text
    unflagged = Page(render_report(replace(data, residuals=[{**row, "flagged": False}])))
    assert "mean of the highest scores (none is flagged)" in unflagged.text
    assert not Page(render_report(build())).with_class("residuals")


def test_unlearnable_samples_are_shown_and_can_be_copied():
    data = build()
    ids = data.scores["sample_id"].to_list()
    extra = data.flags.with_columns(
        flag=pl.lit("unlearnable"), flagged=pl.col("sample_id").is_in(ids[:3]), reason=pl.lit("carries a label-specific small signal")
    )  # fmt: skip
    diagnostics = {
        "residual_verdict": {"verdict": "poisoned", "D": 4.9, "views": {"mean c8": {"D": 4.9, "gap": 2.0}}}
    }
    page = Page(render_report(replace(data, flags=pl.concat([data.flags, extra]), diagnostics=diagnostics)))
    assert "Yes: part of this dataset carries a label-specific small signal" in page.text
    assert any(
        set(found["data-copy"].split("\n")) == set(ids[:3])
        for found in page.all("button")
        if "data-copy" in found
    )
    assert len(page.all("img")) == data.worklist.height + 3
    anchors = {found["id"] for found in page.all("li") if "id" in found}
    linked = [found["href"] for found in page.all("a") if found["href"].startswith("#s-")]
    assert all(href.startswith("#s-") for href in linked)
    assert len(linked) == sum(f"s-{i}" in anchors for i in ids[:3])
    data = replace(data, flags=pl.concat([data.flags, extra]), diagnostics=diagnostics, deleted=ids[:1])
    page = Page(render_report(data))  # still counted, and named no more
    assert "3 training samples are flagged" in page.text
    (copied,) = (found["data-copy"] for found in page.all("button") if "\n" in found.get("data-copy", ""))
    assert set(copied.split("\n")) == set(ids[1:3])


def test_the_same_data_give_the_same_page(html):
    assert render_report(build()) == html


def test_two_hundred_photographs_fit():
    data = build(1_100)
    rng = np.random.default_rng(0)
    photo = [Image.fromarray(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)) for _ in range(10)]
    ids = data.worklist["sample_id"].head(MAX_ITEMS)
    html = render_report(replace(data, content={name: photo[k % 10] for k, name in enumerate(ids)}))
    assert html.count('<img src="data:image/jpeg') == MAX_ITEMS
    assert len(html.encode()) < 3_000_000


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_is_legible_in_light_dark_and_print(html):
    themes = re.findall(r":root \{(.*?)\}", html, flags=re.S)
    assert len(themes) == 3
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", theme))
        for ink in ("ink", "muted", "link", "accent", "good"):
            for ground in ("ground", "raised", "mark") if ink in ("ink", "muted") else ("ground",):
                light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_only_counts_of_the_kept_stand_in_the_class_table():
    data = build()
    subset = data.subsets[0]
    everything = {"total": 20, "by_role": {"keep": 12, "drop": 8}, "by_label": {"0": 7, "1": 7, NASTY: 6}}
    assert "kept in pruned" in Page(render_report(data)).text
    listed = replace(data, subsets=[{**subset, "counts": everything}])
    assert "kept in pruned" not in Page(render_report(listed)).text
    kept = replace(
        data, subsets=[{**subset, "counts": everything | {"by_label": {"0": 4, "1": 4, NASTY: 4}}}]
    )
    assert "kept in pruned" in Page(render_report(kept)).text


def test_readable():
    assert readable({"a": 0.1, "b": [1, None]}) == "a=0.1, b=1, –"
    assert readable({}) == "–"
    assert readable(value=False) == "no"


def unlearning():
    """A study of three models: one that forgot nothing, retraining, and one that failed."""

    def of(name, kind, difference, **more):
        known = {"mean": 0.9, "std": 0.01, "difference": difference, "difference_std": 0.02}
        names = (
            "ua",
            "ra",
            "ta",
            "worst_group",
            "mia",
            "auc",
            "average_gap",
            "tow",
            "steps_ratio",
            "mia_entropy",
        )
        row = {
            "name": name,
            "kind": kind,
            "seeds": 3,
            "failed": "",
            "within": None,
            "klom": {},
            "u_lira": None,
        }
        return {**row, "measures": dict.fromkeys(names, known), **more}

    rows = [
        of("original", "original", -0.8, within=False),
        of("retraining", "retraining", 0.0, klom={"forget": {"p5": 0.25, "p50": 1.5}}, u_lira=0.525),
        of(f"ssd({NASTY})", "method", 0.1, measures={}, failed=f"broke {NASTY}"),
    ]
    return {
        "subset": NASTY, "version": 1, "model": "mlp", "study": "s", "counts": {"forget": 12, "retain": 30}, "seeds": [0, 1, 2],
        "rows": rows, "distribution_models": 8,
    }  # fmt: skip


def test_unlearning_stands_beside_retraining():
    html = render_report(replace(build(), unlearning=[unlearning()]))
    page = Page(html)
    section = html[html.index('<section id="unlearning">') : html.index('<section id="truth">')]
    for said in (
        "forget quality",
        "utility",
        "privacy",
        "cost",
        "near retraining's, not high",
        "KLoM over 8 models",
        "U-LiRA over 8 models",
        "52.5 %",
    ):
        assert said.replace("'", "&#39;") in section, said
    assert "90.0 ± 1.0" in section  # a share, in per cent
    assert "12 forgotten" in section
    assert "No holdout" in section
    assert "up to two of its standard deviations: none." in section
    assert "cannot show" not in section  # the original is told from retraining
    assert NASTY not in html
    assert len(page.all("section", id="unlearning")) == 1
    assert page.all("a", href="#unlearning")
    assert "#unlearning" not in render_report(build())


def test_deletion_requests_are_listed_by_their_numbers():
    row = {
        "request_id": NASTY, "kind": "owner", "created": "2026-02-03 04:05", "num_requested": 1234, "num_untrained": 5,
        "num_exact": 6, "num_near": 7, "num_found": 1247, "subset": "forget-ready", "version": 3, "status": "done",
        "purged": "in part",
    }  # fmt: skip
    none = {**row, "request_id": "r2", "num_requested": 0, "version": None, "status": "begun", "purged": "no"}
    html = render_report(replace(build(), deletions=[row, none]))
    assert NASTY not in html
    section = html[html.index('<section id="deletions">') : html.index('<section id="evaluation">')]
    said = Page(section).text
    assert f" {NASTY} owner 2026-02-03 04:05 1,234 5 6 7 1,247 forget-ready v3 in part " in said
    assert " r2 stopped halfway owner 2026-02-03 04:05 0 5 6 7 1,247 none no " in said
    assert Page(html).all("a", href="#deletions")
    assert "#deletions" not in render_report(build())
