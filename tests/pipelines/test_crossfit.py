"""Cross-fitting: fair folds, no sample judged by a model that saw it, one file per fold."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import crossfit as module
from tracesift.pipelines.crossfit import assign_folds, crossfit, fit_fold, merge_folds, weak_config
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.signals import load_signals, read_run, run_folder
from tracesift.pipelines.train import TrainConfig, record

CONFIG = TrainConfig(seed=0, epochs=4, batch_size=16, device="cpu", threads=1)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_folds_hold_every_class_in_its_share(blobs, folds):
    fold = assign_folds(blobs, folds)
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    labels = blobs.labels[blobs.rows("train")]
    for label in range(3):
        shares = np.bincount(fold[labels == label], minlength=folds)
        assert shares.max() - shares.min() <= 1


def test_folds_do_not_depend_on_the_order_of_the_source(blobs):
    frame = blobs.samples.select("sample_id", "label", "split").hstack(blobs.inputs)
    shuffled = open_dataset(frame.sample(fraction=1, shuffle=True, seed=5), id="sample_id")
    assert shuffled.samples["sample_id"].equals(blobs.samples["sample_id"])
    assert (assign_folds(shuffled, 3) == assign_folds(blobs, 3)).all()


def test_groups_are_never_cut_apart(blobs):
    groups = [f"g{number % 30}" for number in range(len(blobs))]
    grouped = replace(blobs, samples=blobs.samples.with_columns(group=pl.Series(groups)))
    fold = assign_folds(grouped, 3)
    members = pl.DataFrame({"group": grouped.samples["group"].gather(grouped.rows("train")), "fold": fold})
    assert members.group_by("group").agg(pl.col("fold").n_unique())["fold"].max() == 1
    assert set(fold.tolist()) == {0, 1, 2}


def test_too_many_folds_are_refused(blobs):
    for folds in (0, 1, 10_000):
        with pytest.raises(BadInput, match="folds="):
            assign_folds(blobs, folds)


def test_probabilities_are_out_of_sample(blobs, tmp_path):
    noisy = plant_label_noise(blobs, 0.2, seed=0)
    run_id = record(noisy, tmp_path, CONFIG)
    said = []
    crossfit(noisy, tmp_path, run_id, CONFIG, folds=3, progress=lambda *what: said.append(what))
    arrays = load_signals(tmp_path, run_id, verify=True).in_mode("epoch_end")
    rows = noisy.rows("train")
    true = (
        noisy.samples["label_true"]
        .gather(rows)
        .replace_strict(list(noisy.classes), list(range(3)))
        .to_numpy()
    )
    for name in ("probs_oos", "probs_oos_weak"):
        np.testing.assert_allclose(arrays[name].sum(1), 1, rtol=1e-5)
        agrees = arrays[name].argmax(1)
        assert (agrees == true).mean() > 0.9, name  # the truth, which no fold was told
        assert (agrees == true).mean() > (agrees == arrays["labels"]).mean() + 0.1
    assert said[-1][:2] == (6, 6)
    assert read_run(tmp_path, run_id)["arrays"]["probs_oos"]["folds"] == 3
    assert not list((run_folder(tmp_path, run_id) / "folds").glob("*.npz"))


def test_one_fold_is_fitted_alone_and_the_others_are_kept(blobs, tmp_path, monkeypatch):
    run_id = record(blobs, tmp_path, CONFIG)
    paths = [fit_fold(blobs, tmp_path, run_id, CONFIG, name="probs_oos", fold=k, folds=3) for k in (0, 2)]
    before = [path.read_bytes() for path in paths]
    fitted = []
    real = module.Learner
    monkeypatch.setattr(module, "Learner", lambda *a, **k: fitted.append(k["steps"]) or real(*a, **k))
    fit_fold(blobs, tmp_path, run_id, CONFIG, name="probs_oos", fold=0, folds=3)
    assert fitted == []
    fit_fold(blobs, tmp_path, run_id, CONFIG, name="probs_oos", fold=1, folds=3)
    assert len(fitted) == 1
    assert [path.read_bytes() for path in paths] == before
    merge_folds(blobs, tmp_path, run_id, CONFIG, name="probs_oos", folds=3)
    first = load_signals(tmp_path, run_id).in_mode("epoch_end")["probs_oos"]
    other = record(blobs, tmp_path / "again", CONFIG)
    crossfit(blobs, tmp_path / "again", other, CONFIG, folds=3)
    np.testing.assert_array_equal(
        load_signals(tmp_path / "again", other).in_mode("epoch_end")["probs_oos"], first
    )
    fitted.clear()
    crossfit(blobs, tmp_path / "again", other, CONFIG, folds=3)
    assert fitted == []  # nothing to do


def test_a_missing_fold_is_named(blobs, tmp_path):
    run_id = record(blobs, tmp_path, CONFIG)
    fit_fold(blobs, tmp_path, run_id, CONFIG, name="probs_oos", fold=0, folds=2)
    with pytest.raises(BadInput, match="1-of-2"):
        merge_folds(blobs, tmp_path, run_id, CONFIG, name="probs_oos", folds=2)


def test_weak_model_is_linear_and_short(blobs):
    weak = weak_config(blobs, replace(CONFIG, epochs=50, lr=1.0, model="mlp"))
    assert (weak.model, weak.lr) == ("linear", None)
    assert weak.epochs == 300  # one step per epoch here: at least 300 steps
