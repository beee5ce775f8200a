"""Signals on disk: same bytes for the same values, whole or not at all."""

import json

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput, IncompleteRecording
from tracesift.pipelines import signals
from tracesift.scorers.contract import compute

IDS = pl.Series("sample_id", ["a", "b", "ü"])


def write_run(workspace, run_id="r1", epochs=2, modes=("in_training",)):
    for mode in modes:
        for epoch in range(epochs):
            loss = np.array([epoch, 0.5, np.nan], dtype=np.float32)
            seen = np.array([True, True, False])
            signals.write_epoch(workspace, run_id, mode, epoch, IDS, {"loss": loss, "seen": seen})
    folder = signals.run_folder(workspace, run_id)
    signals.write_array(folder, "labels", IDS.to_list(), np.array([0, 1, 0]))
    return signals.finish_run(
        workspace, run_id, {"kind": "recorded", "modes": list(modes), "epochs": epochs, "fields": ["loss"]}
    )


def test_round_trip(tmp_path):
    write_run(tmp_path)
    loaded = signals.load_signals(tmp_path, "r1", verify=True)
    assert loaded.sample_ids == ["a", "b", "ü"]
    assert loaded.modes == ("in_training",)
    arrays = loaded.in_mode("in_training")
    assert set(arrays) == {"loss", "prob_label", "seen", "labels"}  # of a loss alone exp(-loss)
    np.testing.assert_array_equal(arrays["prob_label"], np.exp(-arrays["loss"]))
    np.testing.assert_array_equal(arrays["loss"], np.float32([[0, 0.5, np.nan], [1, 0.5, np.nan]]))
    assert arrays["seen"].dtype == bool
    assert arrays["loss"] is arrays["loss"]  # read once
    with pytest.raises(KeyError):
        arrays["margin"]
    with pytest.raises(BadInput, match="not 'epoch_end'"):
        loaded.in_mode("epoch_end")


def test_fields_limit_what_is_offered(tmp_path):
    write_run(tmp_path)
    assert set(signals.load_signals(tmp_path, "r1", ["loss"]).in_mode("in_training")) == {"loss"}


def test_validation_loss_stands_beside_its_mode(tmp_path):
    for epoch in range(2):
        columns = {"loss": np.float32([epoch, 9]), "correct": np.array([True, False])}
        ids = pl.Series("sample_id", ["v", "w"])
        signals.write_epoch(tmp_path, "r1", "epoch_end", epoch, ids, columns, validation=True)
    write_run(tmp_path, modes=("in_training", "epoch_end"))
    loaded = signals.load_signals(tmp_path, "r1")
    np.testing.assert_array_equal(loaded.in_mode("epoch_end")["val_loss"], [[0, 9], [1, 9]])
    assert "val_loss" not in loaded.in_mode("in_training")


def test_same_values_give_the_same_bytes(tmp_path):
    write_run(tmp_path / "one")
    write_run(tmp_path / "two")
    files = [path for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_hive_view_reads_the_files(tmp_path):
    write_run(tmp_path)
    frame = pl.read_parquet(tmp_path / "signals/run=*/mode=*/epoch-*.parquet", hive_partitioning=False)
    assert frame.columns == ["run_id", "epoch", "mode", "sample_id", "loss", "seen"]
    assert frame["epoch"].to_list() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("damage", ["remove", "change"])
def test_damaged_run_is_not_whole(tmp_path, damage):
    write_run(tmp_path)
    path = signals.epoch_path(signals.run_folder(tmp_path, "r1"), "in_training", 1)
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b" ")
    assert not signals.is_whole(tmp_path, "r1")
    with pytest.raises(IncompleteRecording, match=r"missing|changed"):
        signals.load_signals(tmp_path, "r1", verify=True)


def test_unfinished_and_unknown_runs_are_told_apart(tmp_path):
    write_run(tmp_path)
    (signals.run_folder(tmp_path, "r1") / "run.json").unlink()
    with pytest.raises(IncompleteRecording, match="is unfinished"):
        signals.read_run(tmp_path, "r1")
    with pytest.raises(IncompleteRecording, match="does not exist"):
        signals.read_run(tmp_path, "r2")
    assert signals.list_runs(tmp_path) == []


def test_gap_is_refused_and_writes_no_record(tmp_path):
    write_run(tmp_path, epochs=3)
    folder = signals.run_folder(tmp_path, "r1")
    signals.drop_epochs(tmp_path, "r1", 1)
    assert not (folder / "run.json").exists()
    assert [path.name for path in sorted(folder.glob("mode=*/*"))] == ["epoch-0000.parquet"]
    with pytest.raises(IncompleteRecording, match=r"\[1, 2\]"):
        signals.finish_run(tmp_path, "r1", {"modes": ["in_training"], "epochs": 3, "fields": []})
    with pytest.raises(IncompleteRecording):
        signals.finish_run(tmp_path, "r2", {"modes": ["in_training"], "epochs": 0, "fields": []})


def test_arrays_are_added_with_how_they_were_made(tmp_path):
    write_run(tmp_path)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    signals.add_array(tmp_path, "r1", "embedding", IDS.to_list(), values, {"layer": "penultimate"})
    record = signals.read_run(tmp_path, "r1", verify=True)
    assert record["arrays"] == {"embedding": {"layer": "penultimate"}}
    np.testing.assert_array_equal(
        signals.load_signals(tmp_path, "r1").in_mode("in_training")["embedding"], values
    )
    with pytest.raises(BadInput, match="row-aligned"):
        signals.add_array(tmp_path, "r1", "embedding", ["a"], values, {})


def test_array_of_other_samples_is_refused(tmp_path):
    write_run(tmp_path)
    signals.add_array(tmp_path, "r1", "embedding", ["a", "b", "c"], np.zeros((3, 2)), {})
    with pytest.raises(IncompleteRecording, match="other samples"):
        signals.load_signals(tmp_path, "r1").in_mode("in_training")["embedding"]


def test_runs_are_listed_and_dropped(tmp_path):
    write_run(tmp_path, "r2")
    write_run(tmp_path, "r1")
    assert [run["run_id"] for run in signals.list_runs(tmp_path)] == ["r1", "r2"]
    signals.drop_run(tmp_path, "r1")
    assert [run["run_id"] for run in signals.list_runs(tmp_path)] == ["r2"]
    assert not signals.run_folder(tmp_path, "r1").exists()
    written = json.loads((signals.run_folder(tmp_path, "r2") / "run.json").read_text())
    assert set(written["files"]) == {f"mode=in_training/epoch-000{n}.parquet" for n in (0, 1)} | {
        "labels.npz"
    }


def test_a_recording_is_scored_slab_after_slab_to_the_same_bytes(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    ids = pl.Series("sample_id", [f"{i:04d}" for i in range(700)])
    loss = rng.random((5, 700), dtype=np.float32)
    loss[2, 100:300] = np.nan
    for epoch in range(5):
        columns = {"loss": loss[epoch], "correct": loss[epoch] < 0.5, "seen": ~np.isnan(loss[epoch])}
        signals.write_epoch(tmp_path, "r1", "epoch_end", epoch, ids, columns)
        validation = {"loss": loss[epoch, :40], "seen": np.ones(40, dtype=bool)}
        signals.write_epoch(tmp_path, "r1", "epoch_end", epoch, ids[:40], validation, validation=True)
    folder = signals.run_folder(tmp_path, "r1")
    labels = rng.integers(0, 3, 700)
    signals.write_array(folder, "labels", ids.to_list(), labels)
    signals.write_array(folder, "val_labels", ids[:40].to_list(), labels[:40])
    signals.finish_run(
        tmp_path,
        "r1",
        {"kind": "recorded", "modes": ["epoch_end"], "epochs": 5, "fields": ["loss", "correct"]},
    )
    asked = ["cld", "fkl", "mean_loss", "loss_gmm"]
    whole = compute(
        asked,
        {
            "loss": loss, "correct": loss < 0.5, "seen": ~np.isnan(loss), "labels": labels,
            "val_loss": loss[:, :40], "val_labels": labels[:40],
        },
    )  # fmt: skip
    monkeypatch.setattr(signals, "ROW_GROUP", 256)
    reads = []
    read_epochs = signals.ModeSignals.read_epochs
    monkeypatch.setattr(
        signals.ModeSignals,
        "read_epochs",
        lambda self, name, slab=None: reads.append((name, slab)) or read_epochs(self, name, slab),
    )
    in_slabs = compute(asked, signals.load_signals(tmp_path, "r1"), mode="epoch_end")
    assert in_slabs.equals(whole, null_equal=True)
    assert [slab for name, slab in reads if name == "correct"] == [
        slice(0, 256),
        slice(256, 512),
        slice(512, 700),
    ]
    assert [name for name, _ in reads].count("val_loss") == 1
