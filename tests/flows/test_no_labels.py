"""Data without classes: a regression or a language model is recorded by its losses, scored and selected from."""

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.signals import load_signals

N, ODD = 200, 8
FEATURES = ("f0", "f1", "f2")


@pytest.fixture
def houses(tmp_path):
    """Prices that follow three features, but for ODD of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, 3))
    price = x @ [1.0, -2.0, 3.0] + rng.normal(size=N) * 0.1
    price[:ODD] += 20
    columns = {name: x[:, at] for at, name in enumerate(FEATURES)}
    ids = [f"h{at:03d}" for at in range(N)]
    pl.DataFrame({"uid": ids, **columns, "price": price}).write_csv(tmp_path / "houses.csv")
    return tmp_path / "houses.csv"


def opened(path, **options):
    return open_dataset(path, label="no-labels", id="uid", features=FEATURES, **options)


def recorded(dataset, workspace, epochs=12):
    """Train a linear regression of the price, and record it."""
    torch.manual_seed(0)
    rows = torch.from_numpy(dataset.rows("train"))
    x = torch.tensor(dataset.inputs.to_numpy(), dtype=torch.float32)
    y = torch.tensor(dataset.samples["price"].to_numpy(), dtype=torch.float32)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    recorder = Recorder(workspace, dataset, fields=("loss",), config={"model": "mine"})
    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows))].split(16):
            losses = (model(x[batch])[:, 0] - y[batch]).abs()
            recorder.update_loss(batch, losses)
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
        recorder.end_epoch()
    return recorder.finalize()


def test_from_the_losses_to_a_subset(houses, tmp_path):
    workspace = str(tmp_path / "w")
    dataset = opened(houses)
    assert dataset.classes == ("unlabelled",)
    run_id = recorded(dataset, workspace)
    words = ["--label", "no-labels", "--id", "uid", "--features", *FEATURES, "--workspace", workspace]
    assert run(["ingest", str(houses), *words]) == 0
    assert run(["score", "--workspace", workspace]) == 0
    assert (
        run(["select", "bottom_k", "--keep", "0.9", "--param", "score=mean_loss", "--workspace", workspace])
        == 0
    )
    signals = load_signals(workspace, run_id).in_mode("in_training")
    loss = signals["loss"].astype(np.float64)
    np.testing.assert_allclose(signals["prob_label"], np.exp(-loss), rtol=1e-6)
    catalog = Catalog(tmp_path / "w")
    scores = catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
    flags = catalog.query("SELECT DISTINCT flag, flagged, reason FROM flags")
    members = pl.read_parquet(tmp_path / "w" / "manifests" / "bottom-k" / "members.parquet")
    dropped = members.filter(pl.col("role") == "drop")
    np.testing.assert_allclose(scores["mean_loss"], loss.mean(axis=0))
    windows = [np.exp(-loss[at : at + 10]).std(axis=0, ddof=1) for at in range(3)]
    np.testing.assert_allclose(scores["dyn_unc"], np.mean(windows, axis=0), atol=1e-7)
    odd = {f"h{at:03d}" for at in range(ODD)} & set(scores["sample_id"])
    assert odd <= set(dropped["sample_id"])
    assert flags["flagged"].null_count() == flags.height
    assert ("label_noise", None, "cannot tell: there is only one label") in flags.rows()


def test_the_models_here_refuse_before_anything_is_written(houses, tmp_path, capsys):
    words = ["curate", str(houses), "--label", "no-labels", "--id", "uid", "--workspace", str(tmp_path / "w")]
    assert run(words) == 2
    assert "has no labels (--label no-labels), and the models here learn classes" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_losses_alone_are_imported(tmp_path, capsys):
    rng = np.random.default_rng(0)
    loss, val_loss = rng.random((5, 30)).cumsum(axis=0), rng.random((5, 10)).cumsum(axis=0)
    names, val = np.array([f"a{at:02d}" for at in range(30)]), np.array([f"v{at}" for at in range(10)])
    np.savez(tmp_path / "l.npz", sample_ids=names, loss=loss, val_ids=val, val_loss=val_loss)
    words = ["import", str(tmp_path / "l.npz"), "--mode", "epoch_end", "--workspace", str(tmp_path / "w")]
    assert run(words) == 2
    assert "--label no-labels where the data have no classes" in capsys.readouterr().err
    assert run([*words, "--label", "no-labels"]) == 0
    assert "validation: 10" in capsys.readouterr().out
    assert run(["score", "cld", "opposing_signal_groups", "--workspace", str(tmp_path / "w")]) == 0
    catalog = Catalog(tmp_path / "w")
    scores = catalog.query("SELECT cld FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
    steps, val_steps = np.diff(loss, axis=0), np.diff(val_loss.mean(axis=1))
    expected = [np.corrcoef(steps[:, at], val_steps)[0, 1] for at in range(30)]
    np.testing.assert_allclose(scores["cld"], expected, atol=1e-6)


def test_numbers_per_class_have_labels(tmp_path, capsys):
    np.savez(tmp_path / "l.npz", sample_ids=np.array(["a", "b"]), logits=np.zeros((1, 2, 3)))
    words = ["import", str(tmp_path / "l.npz"), "--label", "no-labels", "--workspace", str(tmp_path / "w")]
    assert run(words) == 2
    assert "holds a number per class, so its samples have labels" in capsys.readouterr().err


def test_a_validation_source_of_its_own(houses, tmp_path):
    whole = pl.read_csv(houses)
    whole[:150].write_csv(tmp_path / "train.csv")
    whole[150:].write_csv(tmp_path / "val.csv")
    dataset = opened(tmp_path / "train.csv", val=tmp_path / "val.csv", test=0)
    assert dataset.samples["split"].value_counts().sort("split").rows() == [("train", 150), ("val", 50)]
    assert dataset.classes == ("unlabelled",)


def test_a_column_of_that_name_is_refused(houses):
    frame = pl.read_csv(houses).rename({"price": "no-labels"})
    with pytest.raises(BadInput, match="there is a column of that name; rename it"):
        opened(frame)
