"""Forget sets to evaluate unlearning on, from the command line: members, controls, and what is refused."""

import json
from pathlib import Path

import polars as pl
import pytest

from tracesift.catalog.manifest import read_manifest, verify_manifest
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.ingest import ingest
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import open_dataset


@pytest.fixture
def select(place, capsys):
    """A function: run `select` with these words, and return what it answers."""

    def call(*words):
        capsys.readouterr()
        assert run(["select", *map(str, words), "--json", "--workspace", "w"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def refused(capsys, *words):
    capsys.readouterr()
    assert run(["select", *map(str, words), "--workspace", "w"]) == 2
    return capsys.readouterr().err


def members(name):
    return pl.read_parquet(f"w/manifests/{name}/members.parquet")


def forgotten(name):
    return set(members(name).filter(pl.col("role") == "forget")["sample_id"])


def test_a_forget_set_with_controls_of_its_size(select):
    made = select("worst_case_forget_set", "--count", 9, "--param", "score=el2n", "--name", "worst")
    scores = Catalog("w").query(
        "SELECT sample_id, el2n FROM sample_scores WHERE split = 'train' ORDER BY sample_id"
    )
    assert forgotten("worst") == set(
        scores.sort("el2n", "sample_id", descending=[True, False])["sample_id"][:9]
    )
    assert [row["name"] for row in made["controls"]] == ["worst-random", "worst-random-balanced"]
    for row in (made, *made["controls"]):
        rows = members(row["name"])
        assert rows["role"].value_counts(sort=True).rows() == [("retain", 39), ("forget", 9)]
        assert rows["weight"].to_list() == [1.0] * 48
        assert row["forget"] == 9
        assert verify_manifest(row["manifest"]) == []
    assert forgotten("worst-random") != forgotten("worst")
    balanced = (
        members("worst-random-balanced").filter(pl.col("role") == "forget")["label"].value_counts()["count"]
    )
    assert balanced.max() - balanced.min() <= 1
    manifest = read_manifest("w/manifests/worst/manifest.json")
    assert manifest.selector.params["score"] == "el2n"
    assert [block.scorer for block in manifest.scores] == ["el2n"]


def test_flagged_samples_are_forgotten_or_retained_and_never_dropped(select):
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id, dataset_id FROM samples WHERE split = 'train' ORDER BY 1")
    wrong = rows["sample_id"][:6].to_list()
    flags = rows.select(
        "sample_id", flagged=pl.col("sample_id").is_in(wrong), confidence=pl.lit(0.9), reason=pl.lit("told")
    )
    catalog.put_flags(catalog.newest_run()["run_id"], rows["dataset_id"][0], "label_noise", flags)
    select("random_forget_set", "--count", 40, "--name", "many")
    assert set(members("many")["role"]) == {"forget", "retain"}
    assert forgotten("many") & set(wrong)


def test_a_condition_bounds_the_choice_and_the_others_are_retained(select):
    condition = "aum > (SELECT median(aum) FROM sample_scores)"
    pool = set(Catalog("w").query(f"SELECT sample_id FROM sample_scores WHERE {condition}")["sample_id"])
    select("random_forget_set", "--count", 8, "--where", condition, "--name", "some")
    for name in ("some", "some-random", "some-random-balanced"):
        assert len(forgotten(name)) == 8
        assert forgotten(name) <= pool
        outside = members(name).filter(~pl.col("sample_id").is_in(list(pool)))
        assert outside["role"].unique().to_list() == ["retain"]
        assert outside["weight"].unique().to_list() == [1.0]


def test_a_class_and_a_group_decide_their_size_themselves(select):
    label = members_of_train()["label"][0]
    made = select("class_forget_set", "--param", f"label={label}", "--name", "one-class")
    rows = members("one-class")
    assert ((rows["role"] == "forget") == (rows["label"] == label)).all()
    assert len(forgotten("one-class-random")) == made["forget"]
    twice = select(
        "group_forget_set", "--param", "column=label", "--param", f"value={label}", "--name", "one-group"
    )
    assert forgotten("one-group") == forgotten("one-class")
    select("class_forget_set", "--param", f"label={label}", "--count", 3, "--name", "three")
    assert len(forgotten("three")) == 3
    assert forgotten("three") < forgotten("one-class")
    assert twice["forget"] == made["forget"]


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_group_by_each_column_of_a_source(handed_over, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = pl.DataFrame(
        {
            "id": [f"s{row:02d}" for row in range(60)],
            "x": [row / 7 for row in range(60)],
            "sex": [["f", "m"][row % 2] for row in range(60)],
            "owner": [f"o{row % 5}" for row in range(60)],
            "site": [None if row % 4 == 3 else float(row % 4) for row in range(60)],
            "label": [["a", "b"][row % 2] for row in range(60)],
        }
    )
    table.write_parquet("table.parquet")
    dataset = open_dataset(table if handed_over else "table.parquet", features=["x", "sex"])
    ingest(Work(Path("w")), dataset)
    train = set(Catalog("w").query("SELECT sample_id FROM samples WHERE split = 'train'")["sample_id"])
    cases = (
        {"owner": ("o1", "o1")}
        if handed_over
        else {"owner": ("o1", "o1"), "sex": ("f", "f"), "site": ("1", 1.0)}
    )
    for column, (value, meant) in cases.items():
        words = ["--param", f"column={column}", "--param", f"value={value}", "--name", column]
        assert run(["select", "group_forget_set", *words, "--workspace", "w"]) == 0
        assert forgotten(column) == train & set(table.filter(pl.col(column) == meant)["id"])
    err = refused(capsys, "group_forget_set", "--param", "column=ownr", "--param", "value=o1")
    assert "did you mean 'owner'" in err
    assert ("owner, site, x, sex can be named" in err) != handed_over


def members_of_train():
    return Catalog("w").query("SELECT sample_id, label FROM samples WHERE split = 'train' ORDER BY sample_id")


def test_a_coreset_thins_the_forget_set_and_leaves_the_rest(select, capsys):
    ids = members_of_train()["sample_id"]
    Path("ids.txt").write_text("\n".join(ids[:10]))
    assert run(["forget", "ids.txt", "--json", "--workspace", "w"]) == 0
    whole = members("forget-ready")
    before = forgotten("forget-ready")
    made = select(
        "mu_coreset", "--from", "forget-ready", "--count", 3, "--param", "rule=top", "--param", "score=el2n",
        "--name", "few",
    )  # fmt: skip
    assert [row["name"] for row in (made, *made["controls"])] == ["few", "few-random", "few-random-balanced"]
    for name in ("few", "few-random", "few-random-balanced"):
        rows = members(name)
        assert len(forgotten(name)) == 3
        assert forgotten(name) < before
        dropped = rows.filter(pl.col("role") == "drop")
        assert set(dropped["sample_id"]) >= before - forgotten(name)
        assert dropped["weight"].unique().to_list() == [0.0]
        same = whole.filter(pl.col("role") != "forget").join(rows, on="sample_id", suffix="_now")
        assert same.height == whole.height - len(before)
        assert (same["role"] == same["role_now"]).all()
        assert (same["weight"] == same["weight_now"]).all()
        assert verify_manifest(f"w/manifests/{name}/manifest.json") == []
    scores = dict(Catalog("w").query("SELECT sample_id, el2n FROM sample_scores").iter_rows())
    assert forgotten("few") == set(sorted(before, key=lambda one: (-scores[one], one))[:3])
    assert read_manifest("w/manifests/few/manifest.json").selector.params["from"].startswith("forget-ready@")
    half = select("mu_coreset", "--from", "forget-ready", "--keep", 0.5, "--name", "half")
    assert half["forget"] == round(len(before) / 2)


def test_what_a_chooser_of_forget_sets_cannot_mean(place, capsys):
    for words, message in (
        (["random_forget_set"], "random_forget_set needs a size: --count 500"),
        (
            ["group_forget_set", "--param", "column=lable", "--param", "value=1"],
            "no column 'lable' (did you mean 'label'",
        ),
        (["random_forget_set", "--keep", 0.9], "say how many with --count"),
        (["random_forget_set", "--count", 48], "would forget all 48"),
        (["random_forget_set", "--count", 49], "there are 48"),
        (["random_forget_set", "--count", 3, "--from", "pruned"], "leave it out"),
        (["class_forget_set", "--param", "label=none"], "names the class"),
        (["class_forget_set", "--count", 3, "--param", "count=4"], "say the same"),
        (["mu_coreset", "--count", 3], "--from SUBSET"),
        (["mu_coreset", "--count", 3, "--from", "nothing"], "no such subset"),
        (
            ["easiest_forget_set", "--count", 3],
            "reads easiest_weight, not scored yet: run `tracesift record --job worst_case --param easiest=true --workspace w` "
            "where you have not, then `tracesift score easiest_weight --workspace w`",
        ),
        (
            ["sharpness_partition", "--count", 3],
            "reads sharpness, not scored yet: run `tracesift score sharpness --workspace w`",
        ),
        (["memorization_strata", "--count", 3, "--param", "part=hard"], "part"),
    ):
        assert message in refused(capsys, *words), words
    capsys.readouterr()
    asked = ["curate", "digits", "--selector", "random_forget_set", "--workspace", "other", "--dry-run"]
    assert run(asked) == 2
    assert "curate prunes" in capsys.readouterr().err
