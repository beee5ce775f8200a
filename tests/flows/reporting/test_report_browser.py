"""The report in a real browser: no error, every figure drawn, and the buttons do what they say."""

import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tracesift.flows.reporting.charts import anchor
from tracesift.flows.reporting.report import ReportData, render_report
from tracesift.flows.reporting.worklist import worklist

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH (apt-get install chromium)"),
]

SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr", "--v=0", "--window-size=1280,900", "--virtual-time-budget=30000", "--dump-dom",
)  # fmt: skip

NASTY = "<script>document.title='owned'</script>"


_KNOWN = {"mean": 0.9, "std": 0.01, "difference": -0.5, "difference_std": 0.02}
UNLEARNED = {
    "subset": NASTY, "version": 1, "model": "mlp", "study": "s", "counts": {"forget": 12}, "seeds": [0, 1, 2], "distribution_models": 1,
    "rows": [
        {"name": name, "kind": "method", "seeds": 3, "failed": "", "within": None, "klom": {}, "u_lira": None,
         "measures": dict.fromkeys(("ua", "ra", "ta", "mia"), _KNOWN)}
        for name in ("original", "retraining", NASTY)
    ],
}  # fmt: skip


def small(n=90):
    rng = np.random.default_rng(0)
    ids = [f"a b/{i:03d}\"'é%20" for i in range(n)]
    labels = [("cat", "dog", NASTY)[i % 3] for i in range(n)]
    wrong = np.arange(n) % 2 == 0
    confidence = np.where(wrong, 0.2, 0.8) + rng.random(n) / 10
    scores = pl.DataFrame(
        {
            "sample_id": ids, "label": labels, "cartography_confidence": confidence, "cartography_variability": rng.random(n) / 2,
            "cartography_correctness": np.round(confidence * 5), NASTY: rng.random(n),
        }
    )  # fmt: skip
    flags = pl.DataFrame(
        {
            "flag": ["label_noise" if i % 4 else "outlier" for i in range(n)], "sample_id": ids, "flagged": wrong,
            "score": confidence, "threshold": [0.5] * n, "reason": [NASTY] * n, "confidence": 1 - confidence,
            "suggestion": [("dog", NASTY, "cat")[i % 3] for i in range(n)],
        }
    )  # fmt: skip
    listed = worklist(flags, scores)
    evaluations = pl.DataFrame(
        [(name, of, s, "accuracy", 0.9 + s / 100, share, 100) for s in range(2) for name, of, share in
         (("p5", None, 0.5), ("p3", None, 0.3), ("p5-random", "p5", 0.5))],
        schema=["subset", "control_of", "seed", "metric", "value", "share", "steps"], orient="row",
    )  # fmt: skip
    return ReportData(
        title=NASTY, created="now", tool_version="0", dataset={
            "name": "d", "source": "s", "kind": "image", "num_samples": n, "splits": {"train": n}, "classes": ["cat", "dog", NASTY],
            "fingerprint": "f", "dataset_id": "i", "notes": [NASTY], "transform": None,
        },
        runs=[], worklist=listed, content={name: Image.new("RGB", (8, 8), (i, 0, 0)) for i, name in enumerate(ids)}, scores=scores, flags=flags,
        diagnostics={}, subsets=[{"name": name, "version": 1, "selector": "ccs", "params": {}, "budget": 0.5,
                                  "counts": {"total": 5, "by_role": {"keep": 5}, "by_label": {"cat": 5}}, "control_of": None,
                                  "manifest_path": "m"} for name in ("p5", "p3")],
        evaluations=evaluations, scorers=[], truth=None, unlearning=[UNLEARNED],
    )  # fmt: skip


def opened(path, profile, fragment=""):
    """Return the page after its scripts ran, and what the browser's console said."""
    done = subprocess.run(
        [CHROMIUM, *SWITCHES, f"--user-data-dir={profile}", path.as_uri() + fragment],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def html():
    return render_report(small())


def test_no_error_and_every_figure_is_drawn(html, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(html, encoding="utf-8")
    dom, console = opened(path, tmp_path / "profile")
    assert console == []
    root = re.search(r"<html[^>]*>", dom).group()
    assert "data-errors" not in root, root
    assert 'data-ready="true"' in root
    assert "<title>owned</title>" not in dom
    places = re.split(r"<div class=\"plot ", dom)[1:]
    assert len(places) == html.count("data-spec=") == 1 + 4 + 2 + 1
    for place in places:
        drawing = place[: place.index("</svg>")]
        assert drawing.count("<path") > 3, place[:300]
        assert "NaN" not in drawing
    assert (
        places[0].count('aria-roledescription="point"') + places[0].count('aria-roledescription="circle"')
        >= 90
    )


ACT = """
const result = {};
const all = (s) => Array.from(document.querySelectorAll(s));
const set = (id, value) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event("change", {bubbles: true})); };
const shown = () => all(".item:not([hidden])").map((i) => i.dataset.id);
let copied = null;
Object.defineProperty(navigator, "clipboard", {value: {writeText: async (text) => { copied = text; }}});
const copy = async (button) => { button.click(); await Promise.resolve(); return copied; };
(async () => {
  while (!document.documentElement.dataset.ready) await new Promise((r) => setTimeout(r, 50));
  const button = document.getElementById("copy-ids");
  result.target = all(".item.target").map((i) => [i.dataset.id, i.hidden]);
  result.first = shown().length;
  result.all = await copy(button);
  document.getElementById("show-all").click();
  result.expanded = shown().length;
  set("by-label", "cat");
  result.cats = shown().length;
  set("by-flag", "outlier");
  result.both = shown().length;
  all(".item:not([hidden]) .pick input").slice(0, 2).forEach((box) => box.click());
  result.two = await copy(button);
  set("by-label", ""); set("by-flag", "");
  result.one = await copy(document.querySelector("button.copy"));
  const point = document.querySelector("#map svg path[aria-roledescription=point]");
  point.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  await new Promise((r) => setTimeout(r, 300));
  result.hash = decodeURIComponent(location.hash);
  result.jumped = all(".item.target").map((i) => i.dataset.id);
  const head = all("#classes thead button")[1];
  head.click();
  result.sorted = all("#classes tbody tr").map((row) => row.cells[1].textContent);
  document.body.dataset.result = JSON.stringify(result);
})();
"""


def test_filter_copy_link_and_sort_work(html, tmp_path):
    data = small()
    listed = data.worklist
    last = listed["sample_id"][-1]
    path = tmp_path / "report.html"
    # The page's own policy would refuse the test's script, so this copy goes without one.
    without = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    before, after = without.rsplit("</body>", 1)
    path.write_text(f"{before}<script>{ACT}</script></body>{after}", encoding="utf-8")
    dom, _ = opened(path, tmp_path / "profile", anchor(last))
    result = json.loads(unescape(re.search(r'data-result="([^"]*)"', dom).group(1)))
    cats = (pl.col("label") == "cat") | (pl.col("suggestion") == "cat")
    assert result["target"] == [[last, False]]  # a link shows a sample beyond the first page
    assert result["expanded"] == listed.height == 45
    assert result["all"].split("\n") == listed["sample_id"].to_list()
    assert result["cats"] == listed.filter(cats).height < 45
    both = listed.filter(cats, pl.col("flag") == "outlier")
    assert result["both"] == both.height < result["cats"]
    assert result["two"].split("\n") == both["sample_id"].head(2).to_list()
    assert result["one"] == listed["sample_id"][0]
    assert result["hash"].startswith("#s-")
    assert result["jumped"] == [result["hash"][3:]]
    assert result["jumped"][0] in listed["sample_id"].to_list()
    assert result["sorted"] == sorted(result["sorted"], key=int, reverse=True)
