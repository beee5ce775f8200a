"""The example of a loop runs, and what it forgets it knew before."""

import runpy
import sys
from pathlib import Path

import polars as pl

from tracesift.catalog.manifest import DatasetBlock, SelectorBlock, write_manifest
from tracesift.pipelines.dataset import open_dataset

EXAMPLE = Path(__file__).parents[3] / "examples" / "unlearn_with_loaders.py"


def test_gradient_difference_forgets_a_class_and_keeps_the_others(tmp_path, monkeypatch, capsys):
    digits = open_dataset("digits")
    facts = {name: getattr(digits, name) for name in ("name", "source", "fingerprint", "options")}
    eight = pl.when(pl.col("label") == "8").then(pl.lit("forget")).otherwise(pl.lit("retain"))
    members = digits.samples.filter(split="train").select("sample_id", "label", role=eight)
    state, how = DatasetBlock(**facts, num_samples=len(digits)), SelectorBlock(name="by_hand", version=1)
    write_manifest(tmp_path, "no-8", members, dataset=state, selector=how)
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(tmp_path / "no-8")])
    runpy.run_path(str(EXAMPLE))
    before, after = (
        [float(word) for word in line.split()[2::2]] for line in capsys.readouterr().out.splitlines()
    )
    assert min(before) > 0.9
    assert after[0] < 0.5
    assert after[1] > 0.9
