"""Recordings that jobs add to, and the true labels that they were not told."""

import shutil

import numpy as np
import pytest

from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.signals import load_signals
from tracesift.pipelines.train import TrainConfig, record

SMALL = TrainConfig(seed=0, epochs=3, batch_size=16, device="cpu", threads=1)
DIGITS = TrainConfig(seed=0, model="mlp", epochs=2, batch_size=64, epoch_end=False, device="cpu", threads=1)


@pytest.fixture(scope="session")
def recorded(blobs, tmp_path_factory):
    """A function: the blobs, and a workspace of the caller's own with a short recording of them."""
    folder = tmp_path_factory.mktemp("recorded")
    run_id = record(blobs, folder / "base", SMALL)

    def make(name):
        shutil.copytree(folder / "base", folder / name)
        return blobs, folder / name, run_id

    return make


@pytest.fixture(scope="session")
def noisy_digits(tmp_path_factory):
    """Digits with a fifth of the training labels wrong: dataset, workspace, run, and which are wrong (N,)."""
    dataset = plant_label_noise(open_dataset("digits"), 0.2, seed=0)
    workspace = tmp_path_factory.mktemp("digits")
    run_id = record(dataset, workspace, DIGITS)
    samples = dataset.samples[dataset.rows("train")]
    return dataset, workspace, run_id, (samples["label"] != samples["label_true"]).to_numpy()


@pytest.fixture(scope="session")
def signals_of():
    """A function: the signals of a run, whatever its modes."""

    def read(workspace, run_id):
        signals = load_signals(workspace, run_id, verify=True)
        return signals.in_mode(signals.modes[0])

    return read


@pytest.fixture(scope="session")
def auroc():
    """Area under the curve for finding `positive` by a high score; samples without a score are left out."""

    def area(score, positive):
        there = ~np.isnan(score)
        score, positive = score[there], positive[there]
        wins = score[positive][:, None] - score[~positive][None, :]
        return float(((wins > 0) + 0.5 * (wins == 0)).mean())

    return area
