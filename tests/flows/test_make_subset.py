"""Subsets on demand: which samples a condition leaves as candidates, and what a manifest says of its settings."""

import json

import polars as pl
import pytest

from tracesift.catalog.manifest import read_manifest, verify_manifest
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run


@pytest.fixture
def select(place, capsys):
    """A function: run `select` with these words, and return what it answers."""

    def call(*words):
        capsys.readouterr()
        assert run(["select", *map(str, words), "--json", "--workspace", "w"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def members(name):
    return pl.read_parquet(f"w/manifests/{name}/members.parquet")


def params(name):
    return read_manifest(f"w/manifests/{name}/manifest.json").selector.params


def test_controls_are_drawn_from_the_samples_that_the_condition_leaves(select):
    condition = "aum > (SELECT median(aum) FROM sample_scores)"
    pool = set(Catalog("w").query(f"SELECT sample_id FROM sample_scores WHERE {condition}")["sample_id"])
    assert len(pool) == 24  # half of train
    made = select("top_k", "--count", 20, "--param", "score=el2n", "--where", condition, "--name", "some")
    for name in ("some", "some-random", "some-random-balanced"):
        rows = members(name)
        kept = rows.filter(pl.col("role") == "keep")["sample_id"]
        assert len(rows) == 48
        assert len(kept) == 20
        assert set(kept) <= pool, name
        outside = rows.filter(~pl.col("sample_id").is_in(list(pool)))
        assert outside["reason"].unique().to_list() == [f"outside WHERE {condition}"]
        assert outside["weight"].unique().to_list() == [0.0]
        assert params(name)["where"] == condition
        assert verify_manifest(f"w/manifests/{name}/manifest.json") == []
    kept = [
        set(members(name).filter(pl.col("role") == "keep")["sample_id"]) for name in ("some", "some-random")
    ]
    assert kept[0] != kept[1]
    assert [row["keep"] for row in (made, *made["controls"])] == [20, 20, 20]


def test_without_a_condition_controls_are_drawn_from_all_of_train(select):
    select("top_k", "--count", 20, "--param", "score=el2n", "--name", "some")
    assert "where" not in params("some-random")
    assert members("some-random")["reason"].str.contains("WHERE").sum() == 0


def test_denoise_takes_a_condition(select):
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id, label, dataset_id FROM samples WHERE split = 'train' ORDER BY 1")
    wrong = rows["sample_id"][:4].to_list()
    flags = rows.select(
        "sample_id", flagged=pl.col("sample_id").is_in(wrong), confidence=pl.lit(0.8), reason=pl.lit("told")
    )
    run_id = catalog.newest_run()["run_id"]
    catalog.put_flags(run_id, rows["dataset_id"][0], "label_noise", flags)
    condition = f"sample_id <> '{wrong[0]}'"
    select(
        "denoise", "--where", condition, "--param", "mode=drop", "--param", "max_drop=0.5", "--name", "clean"
    )
    dropped = members("clean").filter(pl.col("role") == "drop").select("sample_id", "reason")
    assert dropped["sample_id"].to_list() == wrong
    assert dropped["reason"][0] == f"outside WHERE {condition}"
    assert "WHERE" not in dropped["reason"][1]
    assert members("clean-random").filter(pl.col("role") == "keep").height == 44
    assert wrong[0] in members("clean-random").filter(pl.col("role") == "drop")["sample_id"]


def test_a_deletion_by_condition_is_a_request(place, capsys):
    words = ["select", "forget_ready", "--where", "aum > 0", "--workspace", "w"]
    assert run(words) == 2
    assert "tracesift forget --where" in capsys.readouterr().err


def test_a_manifest_says_every_setting_that_was_in_force(select):
    select("ccs", "--keep", 0.5, "--param", "strata=20", "--name", "some")
    assert params("some") == {
        "score": "aum_prob_sum", "cutoff": "aum_prob_sum", "beta": None, "strata": 20, "per_class": False,
        "nulls": None,
    }  # fmt: skip
    assert params("some-random") == {}
    assert params("some-random-balanced") == {"quota": "equal"}
    assert params("pruned")["strata"] == 50  # of `curate`, where nobody named it
    assert params("denoised")["max_drop"] == 0.05
    assert params("forget-ready")["neighbors"] == 5
    stored = Catalog("w").query("SELECT params FROM subsets WHERE name = 'some'").item()
    assert json.loads(stored) == params("some")


def test_naming_a_default_makes_no_new_version(select):
    plain = select("ccs", "--keep", 0.5, "--name", "some")
    named = select(
        "ccs", "--keep", 0.5, "--param", "strata=50", "--param", "per_class=false", "--name", "some"
    )
    assert named == plain
    assert plain["version"] == 1
    other = select("ccs", "--keep", 0.5, "--param", "strata=20", "--name", "some")
    assert other["version"] == 2
