"""Estimates: every stage counted, going up with what it goes through, and of the right order."""

import time
from dataclasses import fields, replace

import numpy as np
import polars as pl
import pytest

from tracesift.pipelines import estimate as module
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.estimate import estimate
from tracesift.pipelines.train import TrainConfig, record

STAGES = ("encode", "train", "epoch_end", "write", "crossfit", "embed", "content")


def table(size):
    rng = np.random.default_rng(0)
    labels = np.arange(size) % 2
    return open_dataset(
        pl.DataFrame({"id": [f"{n:05d}" for n in range(size)], "x": rng.normal(size=size) + labels, "label": labels})
    )  # fmt: skip


@pytest.fixture
def steady(monkeypatch):
    """Timings that are the same each time: only what is made of them is left to test."""
    timed = module._Timed(encoding=1e-3, per_batch=0.5, per_sample=2e-3, weights=4000, features=8)
    monkeypatch.setattr(module, "_timed", lambda *_, **__: timed)
    monkeypatch.setattr(module, "_per_sample", lambda *_: 3e-3)
    monkeypatch.setattr(module, "_byte_seconds", lambda: 1e-6)
    monkeypatch.setattr(module._Clock, "busy", 1.0)
    monkeypatch.setattr(module, "_epoch_file_seconds", lambda size, _: 1e-4 * size)


def seconds(found):
    return {name: getattr(found, f"{name}_seconds") for name in STAGES}


def test_estimate_is_of_the_order_of_the_run(squares, tmp_path):
    config = TrainConfig(seed=0, epochs=20, batch_size=8, threads=1)
    expected = estimate(squares, config)
    began = time.process_time()
    record(squares, tmp_path, config)
    taken = time.process_time() - began
    assert taken / 20 < expected.seconds < taken * 20
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert on_disk / 20 < expected.signal_bytes < on_disk * 20
    assert (expected.epochs, expected.model) == (20, "small_cnn")
    assert expected.busy >= 1


def test_all_stages_are_in_the_sum_and_none_is_free(blobs):
    found = estimate(blobs, TrainConfig(seed=0, epochs=3), folds=2)
    assert {one.name for one in fields(found) if one.name.endswith("_seconds")} == {
        f"{s}_seconds" for s in STAGES
    }
    assert found.seconds == pytest.approx(sum(seconds(found).values()))
    assert all(value > 0 for value in seconds(found).values())


def test_what_is_to_be_deleted_stands_in_no_sample():
    """The sample numbers its rows anew: what is withheld, wherever it stood, neither hits others nor lies outside."""
    dataset = table(2 * module.SAMPLE)
    names = dataset.samples["sample_id"]
    gone = [names[0], names[5], names[len(names) - 1]]
    left = dataset.without(gone, ["r1"])
    part = module.sample_of(left)
    assert len(part) == len(part.rows("train")) == module.SAMPLE
    assert not set(gone) & set(part.samples["sample_id"])
    assert estimate(left, TrainConfig(seed=0, epochs=1), folds=2).seconds > 0


def test_folds_and_epochs_are_counted(sentences):
    short = estimate(sentences, TrainConfig(seed=0, epochs=2))
    long = estimate(sentences, TrainConfig(seed=0, epochs=200), folds=3)
    assert long.signal_bytes == 100 * short.signal_bytes
    assert short.crossfit_seconds == 0
    assert long.crossfit_seconds > long.train_seconds
    assert long.other_bytes > short.other_bytes


def test_each_stage_goes_up_with_what_it_goes_through(steady):
    few, many = table(1000), table(4000)
    config = TrainConfig(seed=0, epochs=4, batch_size=50)
    base = seconds(estimate(few, config, folds=2))
    rows = seconds(estimate(many, config, folds=2))
    epochs = seconds(estimate(few, replace(config, epochs=8), folds=2))
    folds = seconds(estimate(few, config, folds=4))
    for stage in ("encode", "train", "epoch_end", "write", "embed", "content"):
        assert rows[stage] == pytest.approx(4 * base[stage], rel=0.05), stage
        assert folds[stage] == pytest.approx(base[stage], rel=0.2), stage
    assert rows["crossfit"] > base["crossfit"]  # the weak model takes its 300 steps of any data
    for stage in ("train", "epoch_end"):
        assert epochs[stage] == 2 * base[stage]
    assert epochs["write"] > 1.5 * base["write"]
    assert epochs["crossfit"] > base["crossfit"]
    assert epochs["encode"] == base["encode"]
    # two models that see one half each, four that see three quarters each
    assert folds["crossfit"] > 2 * base["crossfit"]


def test_hand_worked_recording(steady):
    data = table(1000)
    size, validation = len(data.rows("train")), len(data.rows("val"))
    found = estimate(data, TrainConfig(seed=0, epochs=4, batch_size=50, epoch_end=False))
    assert found.train_seconds == 4 * np.ceil(size / 50) * 0.5
    assert found.epoch_end_seconds == 0
    assert found.encode_seconds == pytest.approx(1.0)
    assert found.embed_seconds == pytest.approx((size + validation) * 2e-3)


def test_a_busy_machine_is_noticed_by_its_wall_clock():
    clock = module._Clock()
    with clock:
        time.sleep(0.05)
        sum(range(200_000))
    assert clock.busy > 1.5
    idle = module._Clock()
    idle.wall, idle.own = 1.0, 1.1  # the clocks differ by their resolution
    assert idle.busy == 1


def test_nothing_is_written(blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimate(blobs, TrainConfig(seed=0), folds=3)
    assert not list(tmp_path.iterdir())
