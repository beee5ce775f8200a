"""Recorder: what lands on disk, what is refused, and that the device is never waited for."""

import warnings

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import FIELD_DTYPES, SCALAR_FIELDS, BadInput, IncompleteRecording
from tracesift.pipelines import recorder as module
from tracesift.pipelines.recorder import CoverageWarning, Recorder, RunReplaced
from tracesift.pipelines.recording.scalars import scalars
from tracesift.pipelines.signals import epoch_path, load_signals, read_run, run_folder


def rows_of(dataset) -> torch.Tensor:
    return torch.from_numpy(dataset.rows("train"))


def labels_of(dataset) -> torch.Tensor:
    return torch.tensor(dataset.labels)


def logits_for(dataset, epoch: int) -> torch.Tensor:
    """(N, K) over all rows of the dataset, so that the right answer never depends on the batching."""
    generator = torch.Generator().manual_seed(epoch)
    return torch.randn(len(dataset), dataset.num_classes, generator=generator)


def record_epoch(rec: Recorder, epoch: int, batch: int = 16, keep=slice(None)) -> None:
    rows = rows_of(rec.dataset)
    shuffled = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(100 + epoch))][keep]
    logits, labels = logits_for(rec.dataset, epoch), labels_of(rec.dataset)
    for part in shuffled.split(batch):
        rec.update(part, logits[part], labels[part])


def test_three_epochs_come_back_by_sample(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs, config={"seed": 1})
    for epoch in range(3):
        record_epoch(rec, epoch)
        coverage = rec.end_epoch()
        assert coverage.complete
        assert coverage.seen == len(blobs.rows("train"))
    signals = load_signals(tmp_path, rec.finalize(), verify=True)
    rows = rows_of(blobs)
    assert signals.sample_ids == blobs.samples["sample_id"].gather(rows.numpy()).to_list()
    arrays = signals.in_mode("in_training")
    assert arrays["seen"].all()
    previous = None
    for epoch in range(3):
        logits = logits_for(blobs, epoch)[rows]
        expected = scalars(logits, labels_of(blobs)[rows], SCALAR_FIELDS, previous=previous)
        for name in SCALAR_FIELDS:
            np.testing.assert_allclose(
                arrays[name][epoch], expected[name].numpy(), rtol=1e-6, atol=2e-7, err_msg=name
            )
        previous = logits.softmax(1)
    assert np.isnan(arrays["kl_step"][0]).all()
    assert (arrays["labels"] == blobs.labels[rows.numpy()]).all()


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batch_size_and_order_do_not_matter(blobs, tmp_path, batch):
    contents = []
    for number, size in enumerate((batch, 16)):
        rec = Recorder(tmp_path / str(number), blobs)
        record_epoch(rec, 0, batch=size)
        rec.end_epoch()
        path = epoch_path(run_folder(tmp_path / str(number), rec.run_id), "in_training", 0)
        contents.append(pl.read_parquet(path))
    for name in contents[0].columns:
        if contents[0][name].dtype == pl.Float32:
            np.testing.assert_allclose(contents[0][name].to_numpy(), contents[1][name].to_numpy(), rtol=1e-5)
        else:
            assert contents[0][name].equals(contents[1][name])


def test_file_has_the_stated_columns_and_types(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    record_epoch(rec, 0)
    rec.end_epoch()
    frame = pl.read_parquet(epoch_path(run_folder(tmp_path, rec.run_id), "in_training", 0))
    stated = {"run_id": pl.String, "epoch": pl.Int32, "mode": pl.String, "sample_id": pl.String}
    assert dict(frame.schema) == {
        **stated,
        **{name: FIELD_DTYPES[name] for name in (*SCALAR_FIELDS, "seen", "presentations")},
    }
    assert frame["sample_id"].is_sorted()
    assert frame["epoch"].unique().to_list() == [0]


def test_ids_may_be_given_instead_of_rows(blobs, tmp_path):
    logits, labels = logits_for(blobs, 0), labels_of(blobs)
    rows = rows_of(blobs)
    by_row = Recorder(tmp_path / "a", blobs)
    by_row.update(rows, logits[rows], labels[rows])
    by_row.end_epoch()
    by_id = Recorder(tmp_path / "b", blobs)
    order = rows.flip(0)
    by_id.update(blobs.samples["sample_id"].gather(order.numpy()).to_list(), logits[order], labels[order])
    by_id.end_epoch()
    one, two = (
        pl.read_parquet(epoch_path(run_folder(tmp_path / side, by_row.run_id), "in_training", 0))
        for side in "ab"
    )
    assert one["sample_id"].equals(two["sample_id"])
    np.testing.assert_allclose(one["loss"], two["loss"], rtol=1e-6)
    with pytest.raises(BadInput, match="'nobody' is not a training sample"):
        by_id.update(["nobody"], logits[:1], labels[:1])


def test_missing_and_doubled_samples_are_reported_not_guessed(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    rows, labels = rows_of(blobs), labels_of(blobs)
    first, second = logits_for(blobs, 0), logits_for(blobs, 1)
    rec.update(rows[2:], first[rows[2:]], labels[rows[2:]])
    twice = torch.stack([rows[5], rows[5], rows[6]])  # again, and doubled inside one batch
    rec.update(twice, second[twice], labels[twice])
    with pytest.warns(CoverageWarning, match="2 missing .* 2 doubled"):
        coverage = rec.end_epoch()
    ids = blobs.samples["sample_id"].gather(rows.numpy()).to_list()
    assert (coverage.seen, coverage.missing, coverage.doubled) == (len(rows) - 2, 2, 2)
    assert coverage.examples == {"missing": tuple(ids[:2]), "doubled": tuple(ids[5:7])}
    frame = pl.read_parquet(epoch_path(run_folder(tmp_path, rec.run_id), "in_training", 0))
    assert frame["seen"].to_list()[:3] == [False, False, True]
    assert frame["loss"].is_nan().to_list()[:3] == [True, True, False]
    assert frame["pred"].to_list()[:2] == [-1, -1]
    assert frame["correct"].to_list()[:2] == [False, False]
    assert frame["presentations"].to_list()[:8] == [0, 0, 1, 1, 1, 3, 2, 1]
    expected = scalars(first[rows], labels[rows], ("margin",))["margin"]
    np.testing.assert_allclose(
        frame["margin"].to_numpy()[2:], expected[2:].numpy()
    )  # the first showing stays


def test_doubled_within_the_first_batch_keeps_the_first(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs, fields=("margin",))
    row = rows_of(blobs)[:1]
    logits = torch.tensor([[5.0, 0, 0], [1.0, 0, 0]])
    rec.update(row.repeat(2), logits, labels_of(blobs)[row].repeat(2))
    with pytest.warns(CoverageWarning):
        rec.end_epoch()
    frame = pl.read_parquet(epoch_path(run_folder(tmp_path, rec.run_id), "in_training", 0))
    assert abs(frame["margin"][0]) == 5.0


def test_sample_missed_once_has_no_kl_step_afterwards(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    record_epoch(rec, 0)
    rec.end_epoch()
    rows, labels = rows_of(blobs), labels_of(blobs)
    rec.update(rows[1:], logits_for(blobs, 1)[rows[1:]], labels[rows[1:]])
    with pytest.warns(CoverageWarning):
        rec.end_epoch()
    record_epoch(rec, 2)
    rec.end_epoch()
    kl_step = load_signals(tmp_path, rec.finalize()).in_mode("in_training")["kl_step"]
    assert np.isnan(kl_step[:, 0]).all()
    assert not np.isnan(kl_step[1:, 1:]).any()


def test_nonfinite_logits_are_counted(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    rows, labels, logits = rows_of(blobs), labels_of(blobs), logits_for(blobs, 0)
    logits[rows[3]] = float("nan")
    rec.update(rows, logits[rows], labels[rows])
    with pytest.warns(CoverageWarning, match="1 nonfinite"):
        coverage = rec.end_epoch()
    assert coverage.nonfinite == 1
    frame = pl.read_parquet(epoch_path(run_folder(tmp_path, rec.run_id), "in_training", 0))
    assert frame["seen"].all()
    assert frame["correct"][3] is False
    assert frame["loss"].is_nan().sum() == 1


@pytest.mark.parametrize("compiled", [True, False], ids=["the loop of the CPU", "the tensors of a GPU"])
def test_update_never_reads_from_the_device(blobs, tmp_path, monkeypatch, compiled):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a value was read from the device")

    rec = Recorder(tmp_path, blobs, fields=(*SCALAR_FIELDS, "elr_target"))
    record_epoch(rec, 0)
    rec.end_epoch()
    if not compiled:
        rec._buffers.loop = None
    reading = ["item", "cpu", "__bool__", "tolist", "__int__", "__float__", "__index__", "nonzero"]
    if not compiled:  # on a CPU it is a view of the same memory
        reading.append("numpy")
    with monkeypatch.context() as patch:
        for name in reading:
            patch.setattr(torch.Tensor, name, refuse)
        record_epoch(rec, 1)
    assert rec.end_epoch().complete


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_agrees_with_cpu_and_is_not_waited_for(blobs, tmp_path):
    runs = {}
    for device in ("cpu", "cuda"):
        rec = Recorder(tmp_path / device, blobs, fields=(*SCALAR_FIELDS, "elr_target"))
        for epoch in range(2):
            rows = rows_of(blobs).to(device)
            logits, labels = logits_for(blobs, epoch).to(device), labels_of(blobs).to(device)
            rec.update(rows[:1], logits[rows[:1]], labels[rows[:1]])
            torch.cuda.set_sync_debug_mode("error" if device == "cuda" else "default")
            for part in rows[1:].split(16):
                rec.update(part, logits[part], labels[part])
            torch.cuda.set_sync_debug_mode("default")
            rec.end_epoch()
        runs[device] = load_signals(tmp_path / device, rec.finalize()).in_mode("in_training")
    for name in (*SCALAR_FIELDS, "elr_target"):
        np.testing.assert_allclose(runs["cuda"][name], runs["cpu"][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "logits", "labels", "message"),
    [
        ([1, 2], torch.zeros(2, 3), torch.tensor([0, 1]), "list of sample ids"),
        (np.array([1, 2]), torch.zeros(2, 3), torch.tensor([0, 1]), "list of sample ids"),
        (torch.tensor([1, 2], dtype=torch.int32), torch.zeros(2, 3), torch.tensor([0, 1]), "int64"),
        (torch.tensor([1.0, 2.0]), torch.zeros(2, 3), torch.tensor([0, 1]), "int64"),
        (torch.tensor([1]), torch.zeros(2, 3), torch.tensor([0, 1]), r"shape \(2,\)"),
        (torch.tensor([[1, 2]]), torch.zeros(2, 3), torch.tensor([0, 1]), r"shape \(2,\)"),
        (torch.tensor([1, 2]), torch.zeros(3), torch.tensor([0, 1]), r"\(B, K\)"),
        (torch.tensor([1, 2]), torch.zeros(2, 0), torch.tensor([0, 1]), r"\(2, 0\)"),
        (torch.tensor([1, 2]), torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]), "floating point"),
        (torch.tensor([1, 2]), torch.zeros(2, 3), torch.tensor([0]), "labels has shape"),
        (torch.tensor([1, 2]), torch.zeros(2, 3), torch.zeros(2, 3), "soft targets"),
    ],
)
def test_refused_at_once(blobs, tmp_path, rows, logits, labels, message):
    with pytest.raises(BadInput, match=message):
        Recorder(tmp_path, blobs).update(rows, logits, labels)


def test_rows_outside_train_are_refused_at_the_epochs_end(blobs, tmp_path):
    for bad in (int(blobs.rows("test")[0]), -1, len(blobs)):
        rec = Recorder(tmp_path, blobs)
        rec.update(torch.tensor([bad]), torch.zeros(1, 3), torch.tensor([0]))
        with pytest.raises(BadInput, match=f"row {bad} is one"):
            rec.end_epoch()
    rec = Recorder(tmp_path, blobs)
    rec.update(rows_of(blobs)[:1], torch.zeros(1, 3), torch.tensor([3]))
    with pytest.raises(BadInput, match="labels lie outside"):
        rec.end_epoch()
    with pytest.raises(BadInput, match="before any update"):
        Recorder(tmp_path, blobs).end_epoch()
    assert not list(tmp_path.rglob("*.parquet"))


def test_labels_that_differ_from_the_datasets_are_noticed(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    rows = rows_of(blobs)
    rec.update(rows, logits_for(blobs, 0)[rows], (labels_of(blobs)[rows] + 1) % 3)  # another class order
    with pytest.warns(CoverageWarning, match=f"{len(rows)} relabelled"):
        rec.end_epoch()


def test_fields_are_checked(blobs, tmp_path, monkeypatch):
    with pytest.raises(BadInput, match="did you mean 'margin'"):
        Recorder(tmp_path, blobs, fields=("margn",))
    with pytest.raises(BadInput, match=r"fields=\('loss',\)"):
        Recorder(tmp_path, blobs, fields="loss")
    with pytest.raises(BadInput, match="no scalar"):
        Recorder(tmp_path, blobs, fields=("elr_target",))
    with pytest.raises(BadInput, match="no scalar"):
        Recorder(tmp_path, blobs, fields=())
    with pytest.raises(BadInput, match="one of in_training, epoch_end"):
        Recorder(tmp_path, blobs, mode="eval")
    monkeypatch.setattr(module, "PER_CLASS_LIMIT", 100)
    with pytest.raises(BadInput, match="kl_step carries"):
        Recorder(tmp_path, blobs)
    rec = Recorder(tmp_path, blobs, fields=("loss", "margin"))
    record_epoch(rec, 0)
    rec.end_epoch()
    assert "kl_step" not in load_signals(tmp_path, rec.finalize()).in_mode("in_training")


def test_elr_target_is_frozen_at_the_best_validation_accuracy(blobs, tmp_path):
    def run(folder, accuracies):
        rec = Recorder(tmp_path / folder, blobs, fields=("loss", "elr_target"))
        for epoch, accuracy in enumerate(accuracies):
            record_epoch(rec, epoch)
            rec.end_epoch(val_accuracy=accuracy)
        run_id = rec.finalize()
        kept = load_signals(tmp_path / folder, run_id).in_mode("in_training")["elr_target"]
        return kept, read_run(tmp_path / folder, run_id)["elr_epoch"]

    rows = rows_of(blobs)
    target = np.zeros((len(rows), 3))
    after = []
    for epoch in range(3):
        p = logits_for(blobs, epoch)[rows].double().softmax(1).numpy().clip(1e-4, 1 - 1e-4)
        target = 0.7 * target + 0.3 * p / p.sum(1, keepdims=True)
        after.append(target)
    best, epoch = run("best", [0.5, 0.9, 0.9])  # the earliest of ties
    assert epoch == 1
    np.testing.assert_allclose(best, after[1], rtol=1e-5)
    np.testing.assert_allclose(best.sum(1), 1 - 0.7**2, rtol=1e-5)
    last, epoch = run("last", [None, None, None])
    assert epoch == 2
    np.testing.assert_allclose(last, after[2], rtol=1e-5)


def test_run_id_comes_from_the_inputs(blobs, tmp_path):
    ids = {
        "plain": Recorder(tmp_path, blobs).run_id,
        "seed": Recorder(tmp_path, blobs, config={"seed": 1}).run_id,
        "fields": Recorder(tmp_path, blobs, fields=("loss",)).run_id,
        "mode": Recorder(tmp_path, blobs, mode="epoch_end").run_id,
    }
    assert len(set(ids.values())) == 4
    assert Recorder(tmp_path / "elsewhere", blobs, device="cpu").run_id == ids["plain"]
    with pytest.raises(BadInput, match="plain JSON"):
        Recorder(tmp_path, blobs, config={"model": object()})


def test_recording_the_same_run_again_says_so_and_leaves_nothing_old(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    for epoch in range(3):
        record_epoch(rec, epoch)
        rec.end_epoch()
    run_id = rec.finalize()
    with pytest.warns(RunReplaced, match="already recorded"):
        again = Recorder(tmp_path, blobs)
    read_run(tmp_path, run_id)  # making a recorder destroys nothing
    record_epoch(again, 7)
    again.end_epoch()
    with pytest.raises(IncompleteRecording, match="unfinished"):
        read_run(tmp_path, run_id)
    again.finalize()
    assert load_signals(tmp_path, run_id).in_mode("in_training")["loss"].shape[0] == 1


def test_gap_in_the_epochs_is_refused(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    for epoch in range(3):
        record_epoch(rec, epoch)
        rec.end_epoch()
    epoch_path(run_folder(tmp_path, rec.run_id), "in_training", 1).unlink()
    with pytest.raises(IncompleteRecording, match=r"epoch\(s\) \[1\]"):
        rec.finalize()
    late = Recorder(tmp_path / "late", blobs, start_epoch=2)
    record_epoch(late, 2)
    late.end_epoch()
    with pytest.raises(IncompleteRecording, match=r"\[0, 1\]"):
        late.finalize()


def test_resumed_recorder_ends_with_the_same_bytes(blobs, tmp_path):
    fields = (*SCALAR_FIELDS, "elr_target")

    def epochs(rec, span):
        for epoch in span:
            record_epoch(rec, epoch)
            rec.end_epoch(val_accuracy=[0.1, 0.5, 0.4, 0.3][epoch])

    whole = Recorder(tmp_path / "whole", blobs, fields=fields)
    epochs(whole, range(4))
    whole.finalize()
    cut = Recorder(tmp_path / "cut", blobs, fields=fields)
    epochs(cut, range(2))
    torch.save(cut.state_dict(), tmp_path / "state.pt")
    epochs(cut, range(2, 4))  # ... and is killed before the next checkpoint
    resumed = Recorder(tmp_path / "cut", blobs, fields=fields, start_epoch=2)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    epochs(resumed, range(2, 3))
    assert not epoch_path(run_folder(tmp_path / "cut", cut.run_id), "in_training", 3).exists()  # stale
    epochs(resumed, range(3, 4))
    resumed.finalize()
    for path in sorted(run_folder(tmp_path / "whole", whole.run_id).rglob("*.[pn][ap]*")):
        other = tmp_path / "cut" / path.relative_to(tmp_path / "whole")
        assert path.read_bytes() == other.read_bytes(), path.name


def test_state_is_taken_between_epochs_and_belongs_to_one_run(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    record_epoch(rec, 0, keep=slice(10))
    with pytest.raises(BadInput, match="middle of an epoch"):
        rec.state_dict()
    with pytest.warns(CoverageWarning):
        rec.end_epoch()
    with pytest.raises(BadInput, match="belongs to run"):
        Recorder(tmp_path, blobs, config={"seed": 5}).load_state_dict(rec.state_dict())


def test_losses_of_a_language_model(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs, fields=("loss",))
    rows = rows_of(blobs)
    losses, tokens = torch.rand(len(rows)), torch.arange(1, len(rows) + 1)
    for part in torch.randperm(len(rows)).split(13):
        rec.update_loss(rows[part], losses[part], tokens[part])
    rec.end_epoch()
    arrays = load_signals(tmp_path, rec.finalize()).in_mode("in_training")
    np.testing.assert_array_equal(arrays["loss"][0], losses.numpy())
    np.testing.assert_array_equal(arrays["num_tokens"], tokens.numpy())
    with pytest.raises(BadInput, match="fields="):
        Recorder(tmp_path, blobs).update_loss(rows, losses)
    with pytest.raises(BadInput, match="one number per sample"):
        Recorder(tmp_path / "x", blobs, fields=("loss",)).update_loss(rows, losses[:, None])


def test_gradients_and_inputs_are_left_alone(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    rows = rows_of(blobs)[:4]
    logits = torch.zeros(4, 3, requires_grad=True)
    labels = labels_of(blobs)[rows]
    before = rows.clone(), labels.clone()
    rec.update(rows, logits * 2, labels)
    (logits * 2).sum().backward()
    assert logits.grad.unique().item() == 2
    assert torch.equal(rows, before[0])
    assert torch.equal(labels, before[1])


def test_complete_epochs_do_not_warn(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs)
    record_epoch(rec, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "all seen once" in rec.end_epoch().sentence()
