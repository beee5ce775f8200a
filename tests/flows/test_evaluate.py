"""Trainings on subsets and on everything, on a workspace that was only ingested."""

import json

import numpy as np
import polars as pl
import pytest

from tracesift.flows import evaluate
from tracesift.flows.cli import run


@pytest.fixture
def ingested(tmp_path, monkeypatch, capsys):
    """A function: run a command in a folder whose workspace `w` holds 60 samples, 45 of train; return what it says."""
    monkeypatch.chdir(tmp_path)
    label = np.arange(60) % 2
    values = np.random.default_rng(0).normal(size=60) + 4 * label
    frame = pl.DataFrame(
        {"id": [f"s{row:03d}" for row in range(60)], "a": values, "label": [*map("xy".__getitem__, label)]}
    )
    frame[:45].write_csv("train.csv")
    frame[45:].write_csv("test.csv")

    def told(*words):
        capsys.readouterr()
        return run([*words, "--workspace", "w"]), *capsys.readouterr()

    assert told("ingest", "train.csv", "--test", "test.csv", "--val", "0")[0] == 0
    return told


def test_all_samples_are_evaluated_without_any_subset(ingested):
    """What a cured set is held against."""
    code, _, err = ingested("evaluate", "half")
    assert (code, "`tracesift evaluate all --workspace w` trains on all training samples" in err) == (2, True)
    code, out, err = ingested("evaluate", "all", "--epochs", "2", "--threads", "1", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["subset"], row["samples"], row["seeds"]) == ("all", 45, 3)
    assert 0.5 < row["accuracy"] <= 1


def test_what_has_the_members_of_another_takes_its_result_over(ingested, monkeypatch):
    trained = []
    monkeypatch.setattr(
        evaluate,
        "retrain",
        lambda data, rows, seed, **_: trained.append((len(rows), seed)) or {"accuracy": 0.5},
    )
    assert ingested("select", "random", "--keep", "1.0", "--name", "whole")[0] == 0
    assert ingested("select", "random", "--keep", "0.6", "--name", "part")[0] == 0
    code, out, err = ingested("evaluate", "--json")
    assert code == 0, err
    # all, whole and its two controls are one; so are part and its random control, which are drawn by the same seed
    assert [size for size, seed in trained if seed == 0] == [45, 27, 27]
    assert (
        "whole-random, seed 2: the same samples, labels and weights as all, whose result is taken over" in err
    )
    assert [row["subset"] for row in json.loads(out)] == [
        "all", "part", "part-random", "part-random-balanced", "whole", "whole-random", "whole-random-balanced",
    ]  # fmt: skip
    done = len(trained)
    assert ingested("evaluate", "--steps", "7")[0] == 0
    assert len(trained) == 2 * done, "another recipe is another training"
