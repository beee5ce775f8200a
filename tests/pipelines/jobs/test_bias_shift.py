"""Training on shifted images: what is shifted, who is held out, and a shortcut that survives."""

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.encoding.images import Pixels
from tracesift.pipelines.jobs.bias_shift import Shifted
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute, diagnose

LINEAR = TrainConfig(
    seed=0, model="linear", epochs=3, batch_size=32, epoch_end=False, device="cpu", threads=1
)


def test_shifted_pixels_are_moved_before_they_are_standardised():
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    pixels = Pixels.encode(images, np.arange(10), side=64, augmentation="none")
    shown = Shifted(pixels, -0.5).batch(torch.arange(20)).numpy()
    fitted = images[:10].astype(np.float64)
    mean, std = fitted.mean(axis=(0, 1, 2)), fitted.std(axis=(0, 1, 2))
    expected = (images / 255 - 0.5 - mean / 255) / (std / 255)  # below 0 as well: nothing is clipped
    np.testing.assert_allclose(shown, expected.transpose(0, 3, 1, 2), atol=1e-5)


def pictures(tied, folder, size=360):
    """Three classes of faint bands in noise; a third of the images also carries a sharp sign, of its class or of any."""
    rng = np.random.default_rng(0)
    labels = np.arange(size) % 3
    pixels = rng.normal(110, 25, size=(size, 8, 8))
    for at in range(3):
        pixels[labels == at, 2 * at : 2 * at + 2] += 12
    marked = rng.random(size) < 1 / 3
    signs = 60 * np.sign(rng.normal(size=(3, 8, 8)))
    pixels += marked[:, None, None] * signs[labels if tied else rng.permutation(labels)]
    ids = np.array([f"p{at:04d}" for at in range(size)])
    path = folder / "pictures.npz"
    pixels = pixels.clip(0, 255).astype(np.uint8)[..., None]
    np.savez(path, x=np.repeat(pixels, 3, axis=3), y=labels, id=ids)
    dataset = open_dataset(str(path))
    train = dataset.samples["sample_id"].gather(dataset.rows("train"))
    return dataset, train.is_in(pl.Series(ids[marked]).implode()).to_numpy()


@pytest.mark.parametrize("tied", [True, False], ids=["of its class", "of any class"])
def test_a_shortcut_survives_the_shift_and_untied_noise_does_not(tied, tmp_path, signals_of, auroc):
    dataset, marked = pictures(tied, tmp_path)
    run_id = record(dataset, tmp_path / "w", LINEAR)
    run_job("bias_shift", dataset, tmp_path / "w", run_id, {"epochs": 12, "folds": 3}, device="cpu")
    signals = signals_of(tmp_path / "w", run_id)
    area = auroc(compute("bias_shift", signals)["bias_shift"].to_numpy(), marked)
    assert area > 0.9 if tied else abs(area - 0.5) < 0.12
    found = diagnose("bias_shift_detection", signals)
    assert found["bias_shift_accuracy"] == pytest.approx((signals["bias_shift_margin"] > 0).mean(), abs=1e-6)


def test_each_fold_is_judged_unshifted_by_a_model_that_saw_the_others_shifted(
    squares, tmp_path, monkeypatch, signals_of
):
    run_id = record(squares, tmp_path, LINEAR)
    trained, judged = [], []
    real_fit, real_margins = Workbench.fit, Workbench.margins

    def fit(bench, learner, rows, *, inputs, **more):
        trained.append((set(rows.tolist()), inputs))
        return real_fit(bench, learner, rows, inputs=inputs, **more)

    def margins(bench, learner, rows):
        judged.append(set(rows.tolist()))
        made = real_margins(bench, learner, rows)
        logits = learner.module(bench.inputs.batch(rows)).detach().numpy().astype(np.float64)
        own = squares.labels[rows]
        each = np.arange(len(rows))
        np.testing.assert_allclose(made, logits[each, own] - logits[each, 1 - own], atol=1e-4)
        return made

    monkeypatch.setattr(Workbench, "fit", fit)
    monkeypatch.setattr(Workbench, "margins", margins)
    run_job("bias_shift", squares, tmp_path, run_id, {"epochs": 1, "folds": 3, "shift": 0.25}, device="cpu")
    rows = squares.rows("train")
    fold = assign_folds(squares, 3)
    for number, ((seen, inputs), held) in enumerate(zip(trained, judged, strict=True)):
        assert held == set(rows[fold == number].tolist())
        assert seen == set(rows.tolist()) - held
        assert isinstance(inputs, Shifted)
        assert inputs.shift == 0.25
    assert np.isfinite(signals_of(tmp_path, run_id)["bias_shift_margin"]).all()


def test_only_images_have_a_brightness(recorded):
    dataset, workspace, run_id = recorded("a table's shift")
    with pytest.raises(BadInput, match="holds tables: only images"):
        run_job("bias_shift", dataset, workspace, run_id, device="cpu")


@pytest.mark.parametrize("shift", [1000.0, -1.5])
def test_no_shift_is_larger_than_the_range_of_grey_levels(squares, tmp_path, shift):
    run_id = record(squares, tmp_path, LINEAR)
    with pytest.raises(BadInput, match=f"shift is {shift:g}, it must be from -1 to 1"):
        run_job("bias_shift", squares, tmp_path, run_id, {"shift": shift}, device="cpu", check=True)
