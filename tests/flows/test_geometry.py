"""From the command line to a subset: scores that have to be named, selectors that read them, duplicates that are told."""

import json

import duckdb
import numpy as np
import polars as pl
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run

USUAL = {"least_confidence", "prediction_entropy", "prediction_margin", "class_centroid_distance"}
NAMED = {"cal", "knn_density", "outlier_mahalanobis", "ssl_prototypes", "dup_similarity"}


def columns(workspace):
    with duckdb.connect(str(workspace / "catalog.duckdb"), read_only=True) as con:
        return {row[0] for row in con.execute("DESCRIBE sample_scores").fetchall()}


def members(workspace, name):
    return pl.read_parquet(workspace / "manifests" / name / "members.parquet")


def test_cheap_scores_are_there_and_others_when_they_are_named(place, capsys):
    assert columns(place / "w") >= USUAL
    assert not columns(place / "w") & (NAMED | {"deepfool"})
    assert run(["select", "cal", "--keep", "0.3", "--workspace", "w"]) == 2
    assert "run `tracesift score cal --workspace w`" in capsys.readouterr().err
    assert run(["score", *sorted(NAMED), "--workspace", "w"]) == 0
    assert columns(place / "w") >= NAMED


@pytest.mark.parametrize(
    ("selector", "params"),
    [
        ("cal", ["side=lowest", "per_class=true"]),
        ("moderate_ds", ["per_class=true"]),
        ("ssl_prototypes", ["side=nearest", "balance=0.5"]),
        ("uncertainty", ["measure=prediction_margin"]),
    ],
)
def test_a_score_becomes_a_subset_that_says_where_it_is_from(place, capsys, selector, params):
    if selector in NAMED:
        assert run(["score", selector, "--workspace", "w"]) == 0
    words = ["select", selector, "--keep", "0.3", "--workspace", "w", "--json", "--name", "part"]
    capsys.readouterr()
    assert run([*words, *(word for param in params for word in ("--param", param))]) == 0
    made = json.loads(capsys.readouterr().out)
    kept = members(place / "w", "part").filter(pl.col("role") == "keep")
    assert len(kept) == made["keep"] == round(0.3 * made["total"])
    manifest = json.loads((place / "w" / "manifests" / "part" / "manifest.json").read_text())
    wanted = {"moderate_ds": "class_centroid_distance", "uncertainty": "prediction_margin"}.get(
        selector, selector
    )
    assert [score["scorer"] for score in manifest["scores"]] == [wanted]


def test_curate_refuses_at_once_a_selector_whose_score_it_does_not_make(place, capsys):
    words = ["curate", "good.csv", "--workspace", "new", "--selector"]
    for selector, message in (
        ("cal", "tracesift score cal, tracesift select cal --keep 0.5"),
        ("deepfool", "tracesift record --job deepfool, tracesift score deepfool"),
        ("semdedup", "tracesift select semdedup"),
    ):
        assert run([*words, selector]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    table = pl.read_csv("good.csv")
    texts = pl.Series([f"the number {at} in words" for at in range(len(table))])
    table.select("id", "label", text=texts).write_csv("words.csv")
    assert run(["curate", "words.csv", "--workspace", "new", "--selector", "deepfool"]) == 2
    said = capsys.readouterr().err
    assert "job 'deepfool' takes images and tables, and words holds texts" in said
    assert "--job" not in said
    assert not (place / "new" / "signals").exists()


def test_deepfool_from_job_to_subset(place, capsys):
    assert run(["record", "--job", "deepfool", "--epochs", "8", "--workspace", "w", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["deepfool"] == ["boundary_crossed", "boundary_distance"]
    assert run(["score", "deepfool", "--workspace", "w"]) == 0
    assert run(["select", "deepfool", "--count", "9", "--workspace", "w"]) == 0
    assert (members(place / "w", "deepfool")["role"] == "keep").sum() == 9


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A table in which every training sample from t00 to t09 has a near copy in train, and t10 to t14 one in test."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8))
    rows = [(f"t{i:02d}", "train", row) for i, row in enumerate(x)]
    rows += [(f"u{i:02d}", "train", x[i] + rng.normal(0, 0.001, 8)) for i in range(10)]
    rows += [(f"v{i:02d}", "test", x[i] + rng.normal(0, 0.001, 8)) for i in range(10, 15)]
    rows += [(f"w{i:02d}", "val", rng.normal(size=8)) for i in range(10)]
    table = pl.DataFrame(
        [
            {
                "id": name,
                "split": split,
                "label": "xy"[at % 2],
                **{f"f{d}": float(v) for d, v in enumerate(row)},
            }
            for at, (name, split, row) in enumerate(rows)
        ]
    )
    table.write_parquet(tmp_path / "copied.parquet")
    monkeypatch.chdir(tmp_path)
    assert run(["ingest", "copied.parquet", "--workspace", "w"]) == 0
    assert run(["record", "--epochs", "1", "--folds", "0", "--threads", "1", "--workspace", "w"]) == 0
    assert run(["score", "--workspace", "w"]) == 0
    return tmp_path


def test_duplicates_are_dropped_and_leaks_are_told(copied, capsys):
    capsys.readouterr()
    assert run(["select", "semdedup", "--param", "eps=0.001", "--workspace", "w"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "14.29% at 0.0005" in said
    assert "5 training samples and 5 val or test samples are duplicates of each other (eps=0.001)" in said
    assert "t10 = v10 (test, cosine " in said
    (kept,) = Catalog("w").query("SELECT value FROM diagnostics WHERE name = 'duplicates'")["value"]
    found = json.loads(kept)
    assert found["train_in_other_splits"] == 5
    assert [row["samples"] for row in found["leaked_into"]] == [0, 5]
    assert {row["eps"]: row["share"] for row in found["rates"]}["0.0005"] == 0.1429
    assert "t10" not in kept  # counts, no ids
    assert run(["report", "--workspace", "w"]) == 0
    page = (copied / "w" / "report.html").read_text()
    assert "5 training samples and 5 val or test samples are duplicates of each other" in page
    assert "training samples that are in val or test too" in page
    result = members(copied / "w", "semdedup")
    dropped = result.filter(pl.col("role") == "drop")
    assert sorted(int(name[1:]) for name in dropped["sample_id"]) == list(range(10))
    for name, reason in dropped.select("sample_id", "reason").iter_rows():
        assert f"with '{'tu'[name[0] == 't']}{name[1:]}'" in reason
