"""Losses that are NaN or infinite in a recording made elsewhere."""

import json

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.scorers.contract import compute

N, T = 40, 4
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def told(capsys):
    """A function: run a command that must work, and return stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out, err

    return call


@pytest.fixture
def recording(tmp_path):
    """Losses and margins of a user's own training: s000 is NaN throughout, s001 once, s002 infinite once."""
    rng = np.random.default_rng(0)
    loss = rng.uniform(0.1, 2, (T, N)).astype(np.float32)
    margin = rng.normal(1, 1, (T, N)).astype(np.float32)
    loss[:, 0] = margin[:, 0] = NAN
    loss[2, 1] = margin[2, 1] = NAN
    loss[1, 2], margin[1, 2] = INF, -INF
    np.savez(
        tmp_path / "own.npz", sample_ids=np.array([f"s{row:03d}" for row in range(N)]),
        labels=np.arange(N) % 2, loss=loss, margin=margin,
    )  # fmt: skip
    return tmp_path / "own.npz", loss, margin


def test_a_recording_with_nan_and_infinities_goes_the_whole_way(recording, tmp_path, told):
    file, loss, margin = recording
    workspace = tmp_path / "w"
    told("import", file, "--workspace", workspace)
    stored = Catalog(workspace).query(
        "SELECT epoch, sample_id, loss FROM trajectories ORDER BY epoch, sample_id"
    )
    np.testing.assert_array_equal(stored["loss"].to_numpy().reshape(T, N), loss)  # as they came
    told("score", "--workspace", workspace)
    scores = Catalog(workspace).query("SELECT * FROM sample_scores ORDER BY sample_id")
    for name, signals in {"mean_loss": {"loss": loss}, "aum": {"margin": margin}}.items():
        expected = compute([name], signals)[name].to_numpy()
        np.testing.assert_array_equal(scores[name].cast(pl.Float64).fill_null(NAN).to_numpy(), expected)
        assert scores[name][0] is None  # never zero
        assert np.isfinite(scores[name].drop_nulls().to_numpy()[2:]).all()
    answers = Catalog(workspace).query("SELECT label_noise FROM sample_flags ORDER BY sample_id")
    assert answers["label_noise"][0] is None
    out, _ = told("report", "--json", "--workspace", workspace)
    assert json.loads(out)["flags"]["label_noise"]["cannot tell"] >= 1
    out, _ = told("why", "s000", "--json", "--workspace", workspace)
    found = {row["scorer"]: row for row in json.loads(out)["scores"]}
    assert found["mean_loss"]["value"] is None
    assert found["mean_loss"]["rank"] is None
    told(
        "select",
        "top_k",
        "--count",
        5,
        "--param",
        "score=mean_loss",
        "--param",
        "nulls=drop",
        "--workspace",
        workspace,
    )
    members = pl.read_parquet(workspace / "manifests" / "top-k" / "members.parquet")
    assert members["role"][0] == "drop"


@pytest.mark.parametrize(("name", "value"), [("loss", INF), ("margin", -INF)])
def test_infinite_scalars_of_an_imported_file_are_said(tmp_path, told, name, value):
    values = np.ones((T, N), dtype=np.float32)
    given = {
        "sample_ids": np.array([f"s{row:03d}" for row in range(N)]),
        "labels": np.arange(N) % 2,
        name: values,
    }
    np.savez(tmp_path / "finite.npz", **given)
    assert "hold infinities" not in told("import", tmp_path / "finite.npz", "--workspace", tmp_path / "v")[1]
    values[1, 2] = values[2, 2] = values[3, 5] = value
    np.savez(tmp_path / "own.npz", **given)
    _, err = told("import", tmp_path / "own.npz", "--workspace", tmp_path / "w")
    assert "3 rows of " in err
    assert "hold infinities; their scalars are taken as they come" in err


WILD = """
from torch import nn

from tracesift.pipelines.models.contract import Recipe

RECIPE = Recipe(optimizer="sgd", lr=1e30, batch_size=16, epochs=4, weight_decay=0.0, threads=1)


def wild(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0], 32), nn.ReLU(), nn.Linear(32, classes))
"""


def test_a_model_that_diverges_is_said_and_its_scores_stay_empty(place, monkeypatch, told, capsys):
    (place / "wild_model.py").write_text(WILD)
    monkeypatch.syspath_prepend(place)
    words = ["curate", "good.csv", "--workspace", "wild", "--model", "wild_model:wild", "--epochs", "4"]
    words += ["--folds", "2", "--threads", "1"]
    assert run(words) == 2
    err = capsys.readouterr().err
    assert "training samples gave NaN or infinite logits" in err
    assert "auto: 100% of the samples have NaN or infinite features" in err.splitlines()[-1]
    assert run([*words, "--selector", "ccs"]) == 2
    assert "more than 0.5 to keep leaves room for; where the model gave NaN" in capsys.readouterr().err
    _, err = told(*words, "--selector", "ccs", "--keep", "0.9")
    assert ", kept unjudged" in err
    epochs = Catalog("wild").query("SELECT epoch, loss FROM trajectories ORDER BY epoch")
    last = epochs.filter(pl.col("epoch") == 3)["loss"]
    assert last.is_nan().all()
    scores = Catalog("wild").query("SELECT * FROM sample_scores WHERE split = 'train'")
    assert scores["mean_loss"].is_null().any()
    assert not (scores["mean_loss"] == 0).any()
    answers = Catalog("wild").query(
        "SELECT label_noise FROM sample_flags JOIN sample_scores USING (sample_id)"
    )
    assert not answers["label_noise"].fill_null(value=False).any()  # nothing was learned, nothing is accused
