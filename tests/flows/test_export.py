"""The command `export`: what it answers, and one clear line where it cannot."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.manifest import read_manifest, read_members
from tracesift.flows.cli import run

FORGET = "w/manifests/forget-ready"


@pytest.fixture
def told(capsys):
    def call(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


def members(*roles):
    return read_members(FORGET, read_manifest(FORGET)).filter(pl.col("role").is_in(roles))["sample_id"]


def test_it_hands_over_what_the_manifest_holds(place, told):
    ids = read_members(FORGET, read_manifest(FORGET)).filter(role="retain")["sample_id"][:4]
    Path("ids.txt").write_text("\n".join(ids))
    assert told("forget", "ids.txt", "--workspace", "w")[0] == 0
    code, out, err = told(
        "export", "forget-ready", "--to", "out", "--format", "indices", "--workspace", "w"
    )  # as the folder that holds it
    assert (code, err) == (0, "")
    assert "folder: out" in out
    (file,) = Path("out").glob("good_*_forget.npy")
    rows = np.load(file, allow_pickle=False)
    table = pl.read_csv("good.csv")
    assert table["id"].gather(rows).sort().to_list() == members("forget").to_list()
    code, out, _ = told("export", FORGET, "good.csv", "--to", "data", "--format", "parquet", "--json")
    record = json.loads(out)
    assert record["folder"] == "data"
    assert record["counts"]["forget"] == members("forget").len()
    held = pl.read_parquet("data/data/forget.parquet").join(table, left_on="sample_id", right_on="id")
    assert held["a"].to_list() == held["a_right"].to_list()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("w/manifests/pruned", "--to", "out", "--format", "open-unlearning"), "no member with role forget"),
        (("w/manifests/nothing", "--to", "out", "--format", "parquet"), "no manifest at"),
        ((FORGET, "less.csv", "--to", "out", "--format", "parquet"), "gone: 9 of 55 members"),
        ((FORGET, "--to", "good.csv/out", "--format", "parquet"), "is a file"),
        ((FORGET, "--to", ".", "--format", "parquet"), "holds something that is no export"),
        ((FORGET, "--to", "out", "--format", "zip"), "--format"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(words, says, place, told):
    pl.read_csv("good.csv")[:-9].write_csv("less.csv")
    code, out, err = told("export", *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err
    assert not Path("out").exists()


def test_a_source_that_moved_is_asked_for(place, told, made):
    manifest = Path("w/manifests/pruned/manifest.json")
    for path in Path("w/manifests/pruned").rglob("manifest.json"):
        path.write_text(path.read_text().replace(read_manifest(manifest).dataset.source, "/nowhere/good.csv"))
    code, _, err = told("export", "w/manifests/pruned", "--to", "out", "--format", "parquet")
    assert code == 2
    assert "give it as SOURCE" in err
    assert told("export", "w/manifests/pruned", "good.csv", "--to", "out", "--format", "parquet")[0] == 0
