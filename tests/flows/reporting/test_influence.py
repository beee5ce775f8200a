"""Influence and the long tail in the report: what is chosen, what is shown, and that nothing of it is left unescaped."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows.reporting.influence import (
    PROXY,
    PROXY_CORRELATION,
    PROXY_FOUND,
    TAIL,
    Proxy,
    harmed_most,
    long_tail,
    partners_of,
    shown_in,
    stored_proxy,
)
from tracesift.flows.reporting.report import ReportData, render_report
from tracesift.flows.reporting.worklist import worklist

NASTY = "<script>alert('&\"')</script>"


def answers(*rows):
    columns = {"sample_id": pl.String, "flagged": pl.Boolean, "confidence": pl.Float64}
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        flag=pl.lit("label_noise"), score=pl.col("confidence"), threshold=0.8, reason=pl.lit(NASTY),
        suggestion=pl.lit("dog"),
    )  # fmt: skip


def memorized(**values):
    return pl.DataFrame(
        {
            "sample_id": list(values), "label": "cat", "memorization_subset": list(values.values()),
            "memorization_subset_error": 0.05,
        }
    )  # fmt: skip


def test_the_long_tail_is_told_apart_by_the_flag():
    scores = memorized(
        a=0.9, b=0.5, c=0.25, d=0.24, e=0.7, f=0.6, g=float("nan"), h=0.8, i=None, j=0.4, k=0.4, l=0.3
    )
    flags = answers(
        ("a", True, 0.95), ("b", False, 0.1), ("c", False, None), ("d", True, 0.99), ("e", False, 0.6),
        ("f", None, None), ("g", True, 0.9), ("i", True, 0.9), ("j", None, 0.3), ("k", None, 0.51), ("l", True, None),
    )  # fmt: skip
    found = long_tail(scores, flags)
    clean, wrong, untold = found["parts"]
    assert [row["sample_id"] for row in clean["rows"]] == ["b", "j", "c"]
    assert [row["sample_id"] for row in wrong["rows"]] == ["a", "e", "k", "l"]
    assert (found["memorized"], found["samples"], found["sure"]) == (9, 10, 9)
    noisy = scores.with_columns(memorization_subset_error=pl.lit(0.2))
    assert long_tail(noisy, flags)["sure"] == 5  # a, b, e, f and h; not 0.4, 0.3, 0.25
    assert [row["sample_id"] for row in untold["rows"]] == ["h", "f"]  # nobody asked h, and f cannot be told
    assert [part["count"] for part in found["parts"]] == [3, 4, 2]
    assert wrong["rows"][0] == {
        "sample_id": "a", "label": "cat", "memorization": 0.9, "error": 0.05, "confidence": 0.95,
    }  # fmt: skip


def test_without_the_score_there_is_no_long_tail_and_only_the_first_are_shown():
    assert long_tail(memorized(a=0.9).drop("memorization_subset"), answers()) is None
    many = {f"s{number:02d}": 0.5 for number in range(30)}
    found = long_tail(memorized(**many), answers(*((name, False, 0.0) for name in many)))
    clean = found["parts"][0]
    assert clean["count"] == 30
    assert [row["sample_id"] for row in clean["rows"]] == sorted(many)[:TAIL]


def test_a_proxy_is_called_one_and_takes_the_first_twentieth():
    scores = pl.DataFrame({"sample_id": [f"s{i:02d}" for i in range(60)], "label": "cat"})
    proxy = Proxy(scores.select("sample_id", value=pl.int_range(60) / 60), "dual (window=10) of run r")
    found = long_tail(scores, answers(("s59", True, 0.9), ("s58", False, 0.1)), proxy)
    assert found["memorized"] == 3
    assert [part["rows"][0]["sample_id"] for part in found["parts"][:2]] == ["s58", "s59"]
    assert [part["count"] for part in found["parts"]] == [1, 1, 1]
    assert (found["proxy"]["name"], found["proxy"]["told"]) == ("dual", "dual (window=10) of run r")


def test_the_proxy_is_that_of_the_newest_recording_with_any_settings(catalog):
    def put(run, window, value):
        meta = {
            "scorer": "dual",
            "version": 1,
            "direction": "keep",
            "params": {"window": window, "epochs": None},
        }
        frame = pl.DataFrame({"sample_id": ["t1"], "dual": [value]})
        catalog.put_scores(run, "a" * 16, frame, [meta | {"defaults": {"window": 10, "epochs": None}}])

    def found():
        proxy = stored_proxy(catalog, "a" * 16)
        return dict(proxy.values.rows())["t1"], proxy.told

    catalog.put_run({"run_id": "r", "dataset_id": "a" * 16, "kind": "trained"})
    with pytest.raises(BadInput, match="tracesift score dual"):
        stored_proxy(catalog, "a" * 16)
    put("old", 10, 0.1)
    assert found() == (0.1, "dual (window=10) of run old, which is not the newest")
    put("r", 3, 0.2)
    assert found() == (0.2, "dual (window=3) of run r")
    put("r", 4, 0.3)
    assert found() == (0.3, "dual (window=4) of run r; also stored, and not taken: dual (window=3)")
    put("r", 10, 0.4)
    put("r", 3, 0.5)
    assert found()[0] == 0.4
    assert found()[1].endswith("also stored, and not taken: dual (window=3), dual (window=4)")


def test_the_proxy_is_the_one_that_finds_most_of_the_memorized_and_says_how_many():
    results = Path(__file__).parents[3] / "benchmarks" / "results" / "memorization"
    cells = [json.loads(path.read_text()) for path in results.glob("*.json")]
    assert cells
    everywhere = set.intersection(*(set(cell["scores"]) for cell in cells))
    found = {
        name: np.mean(
            [[cell["scores"][name]["first"], cell["scores"][name]["correlation"]] for cell in cells], axis=0
        )
        for name in everywhere
        if all(cell["scores"][name]["first"] is not None for cell in cells)
    }
    assert max(found, key=lambda name: found[name][0]) == PROXY
    np.testing.assert_allclose(found[PROXY], [PROXY_FOUND, PROXY_CORRELATION], atol=0.006)


@pytest.fixture
def catalog(tmp_path):
    whole = Catalog(tmp_path)
    samples = pl.DataFrame(
        {"sample_id": ["t1", "t2", NASTY, "v2"], "split": ["train", "train", "val", "val"], "label": NASTY}
    )
    whole.put_dataset({"name": "pets", "source": "pets.csv", "fingerprint": "a" * 64}, samples)
    ids = (["t1", "t2"], [NASTY, "v2"])
    rows = [(0, 0, 0.5, 0.125, 1), (0, 1, -0.25, 0.125, 1), (1, 1, 0.5, 0.125, 4)]
    frame = pl.DataFrame(rows, schema=["sample", "partner", "value", "spread", "rank"], orient="row")
    bare = frame.tail(1).with_columns(rank=1, spread=None)
    for method, part in (("influence_subset", bare), ("influence_subset", frame), ("last_layer", bare)):
        whole.put_edges("r", "a" * 16, part, ids, {"method": method, "version": 1, "params": {}})
    return whole


def test_partners_are_the_strongest_of_the_newest_edges_with_errors(catalog):
    found = partners_of(catalog, ["t1", "t2", "nobody"])
    assert list(found) == ["t1"]  # the fourth of t2 is not shown
    first, second = (row["partner_id"] for row in found["t1"][:2])
    left = partners_of(catalog, ["t1"], [first])["t1"]
    assert [row["partner_id"] for row in left] == [row["partner_id"] for row in found["t1"][1:]]
    assert second in [row["partner_id"] for row in left]
    assert [(row["kind"], row["partner_id"], row["value"], row["method"]) for row in found["t1"]] == [
        ("help", NASTY, 0.5, "influence_subset"), ("harm", "v2", -0.25, "influence_subset"),
    ]  # fmt: skip
    harmed = {"items": [{"sample_id": "v3", "by": [{"partner_id": "t1"}]}]}
    tail = {"parts": [{"rows": [{"sample_id": "t9"}, {"sample_id": "v2"}]}]}
    assert shown_in(found, harmed, tail) == [NASTY, "v2", "v3", "t1", "t9"]


def test_harmed_most_is_whom_the_worst_one_surely_harms(catalog):
    assert harmed_most(catalog) is None  # edges of before have no lists of validation samples
    rows = [
        (0, 0, -0.5, 0.25, None, 1), (0, 1, -0.375, 0.03125, None, 1), (1, 1, -0.25, 0.125, 1, 2), (1, 0, 0.5, 0.03125, 1, 1),
        (1, 0, -0.125, 0.03125, 2, 2),
    ]  # fmt: skip
    names = ["sample", "partner", "value", "spread", "rank", "partner_rank"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    meta = {"method": "influence_subset", "version": 3, "params": {"k": 2}}
    catalog.put_edges("r", "a" * 16, frame, (["t1", "t2"], [NASTY, "v2"]), meta)
    whole = harmed_most(catalog)
    found = whole["items"]
    assert whole["pairs"] == 4
    assert whole["level"] == pytest.approx(2.4977, abs=1e-4)  # one of four beyond it by chance: 5 % at most
    assert [row["sure"] for item in found for row in item["by"]] == [True, False, False, True]
    assert whole["sure"] == 2
    assert [(item["sample_id"], item["label"]) for item in found] == [("v2", NASTY), (NASTY, NASTY)]
    assert [(row["partner_id"], row["value"], row["spread"]) for row in found[0]["by"]] == [
        ("t1", -0.375, 0.03125), ("t2", -0.25, 0.125),
    ]  # fmt: skip
    assert [(row["partner_id"], row["value"]) for item in harmed_most(catalog, ["t1"])["items"] for row in item["by"]] == [
        ("t2", -0.125), ("t2", -0.25),
    ]  # fmt: skip
    assert [item["sample_id"] for item in harmed_most(catalog, ["v2"])["items"]] == [NASTY]
    html = page(catalog, content=True)
    section = html[html.index('id="harmed"') : html.index('id="tail"')]
    assert NASTY not in html
    assert "By influence_subset: training on the first sample" in section
    assert (
        "For <strong>2</strong> of 2 that is more than chance: they are the strongest of 4 pairs" in section
    )
    assert section.count("which may be chance") == 2
    assert section.count("<img") == 6
    assert section.index("-0.38 ± 0.03") < section.index("-0.5 ± 0.2")
    assert section.count('href="#s-t1"') == 2  # it stands in the worklist of this page


def page(catalog, *, content, proxy=None):
    scores = memorized(t1=0.9, t2=0.5).with_columns(label=pl.lit(NASTY), aum=pl.Series([0.0, 1.0]))
    flags = answers(("t1", True, 0.95), ("t2", False, 0.1))
    shown = {name: Image.new("L", (8, 8)) for name in ("t1", "t2", NASTY, "v2")}
    return render_report(
        ReportData(
            title="pets", created="now", tool_version="0",
            dataset={
                "name": "pets", "source": "s", "kind": "image", "num_samples": 4, "splits": {"train": 2, "val": 2},
                "classes": [NASTY], "fingerprint": "f", "dataset_id": "d", "notes": [], "transform": None,
            },
            runs=[], worklist=worklist(flags, scores), content=shown if content else None, scores=scores, flags=flags,
            diagnostics={}, subsets=[], evaluations=None, scorers=[], truth=None,
            partners=partners_of(catalog, ["t1"]), harmed=harmed_most(catalog), long_tail=long_tail(scores, flags, proxy),
        )
    )  # fmt: skip


def test_the_page_shows_partners_and_the_long_tail(catalog):
    html = page(catalog, content=True)
    assert NASTY not in html
    assert html.count('class="partner"') == 2
    assert "+0.5 <" not in html  # a value stands with its error
    assert "+0.5 ± 0.1" in html
    assert "-0.25 ± 0.1" in html
    tail = html[html.index('id="tail"') : html.index('id="subsets"')]
    assert "<strong>2</strong> of 2 training samples are memorized" in tail
    assert "by at least 25 percentage points. For <strong>2</strong> of them that is more than chance" in tail
    assert (
        tail.index("Probably clean: 1")
        < tail.index("t2")
        < tail.index("Probably mislabeled: 1")
        < tail.rindex("t1")
    )
    assert "0.90 ± 0.05" in tail
    assert tail.count("<img") == 2


def test_the_page_says_that_a_proxy_is_one(catalog):
    values = pl.DataFrame({"sample_id": ["t1", "t2"], "value": 0.1})
    html = page(catalog, content=False, proxy=Proxy(values, "dual (window=3) of run r"))
    tail = html[html.index('id="tail"') : html.index('id="subsets"')]
    assert "By a proxy, not as measured" in tail
    assert "with the highest <code>dual</code>. It is dual (window=3) of run r." in tail
    assert "are memorized" not in tail


def test_without_content_ids_and_numbers_stay(catalog):
    html = page(catalog, content=False)
    assert '<img src="data:' not in html
    assert "v2" in html[: html.index('id="tail"')]
    assert "0.90 ± 0.05" in html


def test_without_edges_and_memorization_the_page_has_neither(catalog):
    scores = memorized(t1=0.9).select("sample_id", label=pl.lit("cat"), aum=pl.lit(1.0))
    flags = answers(("t1", True, 0.95))
    html = render_report(
        ReportData(
            title="pets", created="now", tool_version="0",
            dataset={
                "name": "pets", "source": "s", "kind": "image", "num_samples": 4, "splits": {"train": 1},
                "classes": ["cat"], "fingerprint": "f", "dataset_id": "d", "notes": [], "transform": None,
            },
            runs=[], worklist=worklist(flags, scores), content=None, scores=scores, flags=flags, diagnostics={},
            subsets=[], evaluations=None, scorers=[], truth=None, long_tail=long_tail(scores, flags),
        )
    )  # fmt: skip
    assert "Long tail" not in html
    assert "helps, harms" not in html
    assert 'class="partner' not in html


def test_a_label_that_a_person_found_wrong_is_mislabeled():
    scores = pl.DataFrame({"sample_id": list("ab"), "label": "cat", "memorization_subset": [0.9, 0.8]})
    said = {
        "flag": "label_noise",
        "sample_id": list("ab"),
        "flagged": [False, False],
        "confidence": [None, 0.0],
    }
    flags = pl.DataFrame(said, schema_overrides={"confidence": pl.Float64})
    parts = long_tail(scores, flags, found_wrong=["a"])["parts"]
    assert {part["name"]: [row["sample_id"] for row in part["rows"]] for part in parts} == {
        "probably clean": ["b"], "probably mislabeled": ["a"],
    }  # fmt: skip
