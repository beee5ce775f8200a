"""Training and recording as one job: what is recorded, that it repeats, and that it finds planted labels."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import SCALAR_FIELDS, BadInput
from tracesift.pipelines import loop, train
from tracesift.pipelines.checkpoint import load_checkpoint
from tracesift.pipelines.embedding.embeddings import load_module
from tracesift.pipelines.encoding.encode import encode
from tracesift.pipelines.models.contract import find
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.signals import load_signals, read_run, run_folder
from tracesift.pipelines.train import TrainConfig, plan, record

CONFIG = TrainConfig(seed=3, epochs=4, batch_size=16, device="cpu", threads=1)


@pytest.fixture(scope="module")
def run(blobs, tmp_path_factory):
    workspace = tmp_path_factory.mktemp("work")
    said = []
    run_id = record(blobs, workspace, CONFIG, progress=lambda *what: said.append(what))
    return workspace, run_id, said


def test_both_modes_and_every_field_are_recorded(run, blobs):
    workspace, run_id, _ = run
    signals = load_signals(workspace, run_id, verify=True)
    size, validation = len(blobs.rows("train")), len(blobs.rows("val"))
    assert signals.modes == ("in_training", "epoch_end")
    for mode in signals.modes:
        arrays = signals.in_mode(mode)
        assert all(arrays[name].shape == (4, size) for name in (*SCALAR_FIELDS, "seen"))
        assert arrays["seen"].all()
        assert np.isfinite(arrays["loss"]).all()
    arrays = signals.in_mode("epoch_end")
    assert arrays["val_loss"].shape == (4, validation)
    assert arrays["val_labels"].tolist() == blobs.labels[blobs.rows("val")].tolist()
    np.testing.assert_allclose(arrays["probs_last"].sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        arrays["elr_target"].sum(1), 1 - 0.7 ** (read_run(workspace, run_id)["elr_epoch"] + 1), rtol=1e-4
    )


def test_epoch_end_is_the_saved_model_in_eval_mode(run, blobs):
    workspace, run_id, _ = run
    model = find("mlp", "tabular")
    inputs = encode(blobs, model)
    module = load_module(blobs, workspace, run_id, model, inputs)
    rows = torch.from_numpy(blobs.rows("train"))
    with torch.no_grad():
        logits = module(inputs.batch(rows))
    arrays = load_signals(workspace, run_id).in_mode("epoch_end")
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(blobs.labels)[rows], reduction="none")
    np.testing.assert_allclose(arrays["loss"][-1], expected.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(arrays["probs_last"], logits.softmax(1).numpy(), rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        validation = module(inputs.batch(torch.from_numpy(blobs.rows("val")))).softmax(1)
    np.testing.assert_allclose(arrays["val_probs_last"], validation.numpy(), rtol=1e-4, atol=1e-6)
    in_training = load_signals(workspace, run_id).in_mode("in_training")
    assert not np.allclose(in_training["loss"][-1], arrays["loss"][-1], rtol=1e-3)


def test_elr_target_is_of_the_best_validation_epoch(run, blobs):
    workspace, run_id, _ = run
    folder = run_folder(workspace, run_id)
    import polars as pl

    accuracy = [
        pl.read_parquet(folder / f"validation/mode=epoch_end/epoch-{epoch:04d}.parquet")["correct"].mean()
        for epoch in range(4)
    ]
    assert read_run(workspace, run_id)["elr_epoch"] == int(np.argmax(accuracy))


def test_whole_run_is_returned_at_once(run, blobs, monkeypatch):
    workspace, run_id, _ = run
    before = {path: path.stat().st_mtime_ns for path in run_folder(workspace, run_id).rglob("*")}
    monkeypatch.setattr(train, "encode", None)  # nothing is even read
    assert record(blobs, workspace, CONFIG) == run_id
    assert before == {path: path.stat().st_mtime_ns for path in run_folder(workspace, run_id).rglob("*")}


def test_same_machine_and_threads_give_the_same_bytes(run, blobs, tmp_path):
    workspace, run_id, _ = run
    assert record(blobs, tmp_path, CONFIG) == run_id
    files = read_run(workspace, run_id)["files"]
    assert len(files) == 4 * 3 + 5
    assert read_run(tmp_path, run_id)["files"] == files


def test_damaged_run_is_completed_again(run, blobs, tmp_path):
    record(blobs, tmp_path, CONFIG)
    folder = run_folder(tmp_path, run[1])
    files = read_run(tmp_path, run[1])["files"]
    path = folder / "mode=epoch_end/epoch-0002.parquet"
    path.unlink()
    (folder / "checkpoint.pt").unlink()
    record(blobs, tmp_path, CONFIG)
    assert read_run(tmp_path, run[1])["files"] == files


def test_run_is_named_by_what_matters(blobs):
    named = plan(blobs, CONFIG).run_id
    assert plan(blobs, replace(CONFIG, threads=2, device="auto")).run_id == named
    others = {"seed": 4, "epochs": 5, "batch_size": 32, "lr": 0.5, "model": "linear", "epoch_end": False}
    ids = {plan(blobs, replace(CONFIG, **{name: value})).run_id for name, value in others.items()}
    assert len(ids | {named}) == len(others) + 1
    noisy = plant_label_noise(blobs, 0.2, seed=1)
    assert plan(noisy, CONFIG).run_id != named


def test_callers_generators_and_threads_are_left_alone(squares, tmp_path):
    torch.manual_seed(11)
    np.random.seed(11)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(11)
    np.random.seed(11)
    threads = torch.get_num_threads()
    record(squares, tmp_path, TrainConfig(seed=0, epochs=1, threads=2))
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])
    assert torch.get_num_threads() == threads


def test_planted_labels_have_the_lowest_margins(blobs, tmp_path):
    noisy = plant_label_noise(blobs, 0.15, seed=0)
    run_id = record(noisy, tmp_path, TrainConfig(seed=0, epochs=6, batch_size=16, lr=5e-3))
    arrays = load_signals(tmp_path, run_id).in_mode("in_training")
    train_rows = noisy.samples[noisy.rows("train")]
    wrong = (train_rows["label"] != train_rows["label_true"]).to_numpy()
    assert wrong.sum() > 10
    margin = arrays["margin"].mean(0)
    above = (margin[~wrong][:, None] > margin[wrong][None, :]).mean()  # AUROC
    assert above > 0.97


def test_progress_rises_to_the_end(run):
    _, _, said = run
    done = [what[0] for what in said]
    assert all(later >= earlier for earlier, later in pairwise(done))
    assert done[-1] == said[-1][1] == 4
    assert "val accuracy" in said[-1][2]


def test_checkpoint_loads_without_running_code(run):
    workspace, run_id, _ = run
    state = load_checkpoint(run_folder(workspace, run_id))
    assert state["epoch"] == 4
    assert set(state["rng"]) == {"python", "numpy", "torch", "cuda"}


def test_no_validation_samples(blobs, tmp_path):
    alone = replace(
        blobs, samples=blobs.samples.with_columns(split=blobs.samples["split"].replace("val", "test"))
    )
    run_id = record(alone, tmp_path, TrainConfig(seed=0, epochs=2))
    signals = load_signals(tmp_path, run_id)
    assert "val_loss" not in signals.in_mode("epoch_end")
    assert signals.run["elr_epoch"] == 1  # nothing to choose by: as it stands at the end


def test_only_in_training(blobs, tmp_path):
    run_id = record(blobs, tmp_path, TrainConfig(seed=0, epochs=1, epoch_end=False, fields=("margin",)))
    signals = load_signals(tmp_path, run_id)
    assert signals.modes == ("in_training",)
    assert set(signals.in_mode("in_training")) == {"margin", "seen", "labels"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
        ({"model": "small_cnn"}, "not tabular"),
        ({"fields": ("nothing",)}, "unknown name 'nothing'"),
        ({"device": "warp"}, "try --device auto"),
    ],
)
def test_refused(blobs, tmp_path, change, message):
    with pytest.raises(BadInput, match=message):
        record(blobs, tmp_path, replace(CONFIG, **change))


def test_every_sample_once_per_epoch_in_batches_of_like_size(blobs):
    seen = []

    class Spy(Recorder):
        def __init__(self):
            pass

        def update(self, rows, logits, labels):
            assert torch.equal(labels, torch.tensor(blobs.labels)[rows])
            seen.append(rows)

    model = find("linear", "tabular").with_recipe(batch_size=16)
    inputs = encode(blobs, model)
    rows = torch.from_numpy(blobs.rows("train"))[:33]  # a last batch of one would stop batch normalisation
    learner = loop.Learner(
        model.build(inputs.input_shape, 3), model.recipe, steps=6, device=torch.device("cpu")
    )
    epochs = list(loop.fit(learner, inputs, torch.tensor(blobs.labels), rows, seed=0, recorder=Spy()))
    assert epochs == [0, 1]
    assert [len(batch) for batch in seen] == [11] * 6
    for epoch in (seen[:3], seen[3:]):
        assert torch.cat(epoch).sort().values.equal(rows)
    assert not torch.cat(seen[:3]).equal(torch.cat(seen[3:]))


def test_weights_of_zero_take_samples_out_of_the_loss(blobs):
    def trained(rows, weights):
        torch.manual_seed(0)
        model = find("linear", "tabular").with_recipe(batch_size=1000)
        inputs = encode(blobs, model)
        learner = loop.Learner(
            model.build(inputs.input_shape, 3), model.recipe, steps=3, device=torch.device("cpu")
        )
        for _ in loop.fit(learner, inputs, torch.tensor(blobs.labels), rows, seed=0, weights=weights):
            pass
        return learner.module.head.weight

    rows = torch.from_numpy(blobs.rows("train"))
    weights = torch.zeros(len(blobs))
    weights[rows[:40]] = len(rows) / 40
    torch.testing.assert_close(trained(rows, weights), trained(rows[:40], None), rtol=1e-3, atol=1e-5)


def test_schedules():
    factor = loop._factor
    assert factor("constant", 0.7) == 1
    assert factor("linear", 0.25) == 0.75
    assert factor("one_cycle", 0) == pytest.approx(1 / 25)
    assert factor("one_cycle", 0.3) == pytest.approx(1)
    assert factor("one_cycle", 1) == pytest.approx(0)
