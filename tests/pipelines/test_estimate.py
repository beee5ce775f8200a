"""Estimates: of the right order, counting what will run."""

import time

from tracesift.pipelines.estimate import estimate
from tracesift.pipelines.train import TrainConfig, record


def test_estimate_is_of_the_order_of_the_run(squares, tmp_path):
    config = TrainConfig(seed=0, epochs=20, batch_size=8, threads=1)
    expected = estimate(squares, config)
    began = time.process_time()
    record(squares, tmp_path, config)
    taken = time.process_time() - began
    assert taken / 20 < expected.seconds < taken * 20
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    assert on_disk / 20 < expected.signal_bytes < on_disk * 20
    assert expected.seconds == expected.encode_seconds + expected.train_seconds + expected.epoch_end_seconds
    assert (expected.epochs, expected.model) == (20, "small_cnn")


def test_folds_and_epochs_are_counted(sentences):
    short = estimate(sentences, TrainConfig(seed=0, epochs=2))
    long = estimate(sentences, TrainConfig(seed=0, epochs=200), folds=3)
    assert long.signal_bytes == 100 * short.signal_bytes
    assert short.crossfit_seconds == 0
    assert long.crossfit_seconds > long.train_seconds
    assert long.other_bytes > short.other_bytes


def test_nothing_is_written(blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    estimate(blobs, TrainConfig(seed=0), folds=3)
    assert not list(tmp_path.iterdir())
