"""Scores summed up while training are those of the scorers over a recorded trajectory, to the last bit."""

import json
import os
import signal
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tracesift.catalog.schema import BadInput, IncompleteRecording, MissingSignal
from tracesift.flows.cli import run
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.recorder import CoverageWarning, Recorder, ScoreMissed
from tracesift.pipelines.recording.running_scores import RUNNING, RunningScores, early_checkpoint
from tracesift.pipelines.signals import load_signals, read_run, run_folder
from tracesift.scorers.contract import compute, find, names

IN_TRAINING = tuple(name for name, known in RUNNING.items() if known.mode == "in_training")
EXACT = tuple(name for name in IN_TRAINING if RUNNING[name].exact)


def same_bits(one, other) -> bool:
    """NaN equals NaN whatever its sign; a zero does not equal the other zero."""
    one, other = (np.asarray(values, dtype=np.float64) + 0 for values in (one, other))
    there = ~np.isnan(one)
    return bool(np.array_equal(there, ~np.isnan(other)) and one[there].tobytes() == other[there].tobytes())


def trajectories(epochs: int, samples: int):
    """Draw the fields of (T, N) presentations as a recorder writes them: NaN and False where not seen."""
    single = st.floats(width=32, allow_nan=True, allow_infinity=True)
    unit = st.floats(0, 1, width=32)
    shape = (epochs, samples)
    return st.fixed_dictionaries(
        {
            "seen": arrays(bool, shape),
            "correct": arrays(bool, shape),
            "loss": arrays(np.float32, shape, elements=single),
            "margin": arrays(np.float32, shape, elements=single),
            "prob_margin": arrays(np.float32, shape, elements=single),
            "prob_label": arrays(np.float32, shape, elements=unit | st.just(float("nan"))),
            "error_norm": arrays(np.float32, shape, elements=single),
        }
    ).map(_blanked)


def _blanked(fields):
    for name, values in fields.items():
        values[~fields["seen"]] = False if values.dtype == bool else np.nan
        if name == "loss":  # a recorder calls nothing right whose logits are not finite
            fields["correct"][np.isnan(values)] = False
    return fields


@given(st.integers(1, 7).flatmap(lambda epochs: trajectories(epochs, 9)))
@settings(max_examples=80, deadline=None)
def test_counts_and_sums_are_those_of_the_scorers(fields):
    epochs = len(fields["seen"])
    running = RunningScores(tuple(RUNNING), 9, epochs=epochs)
    for epoch in range(epochs):
        running.add({name: values[epoch] for name, values in fields.items()})
    values = running.values()
    for score in running.record():
        params = {score["scorer"]: score["params"]}
        with np.errstate(all="ignore"):
            expected = compute([score["scorer"]], fields, params=params)[score["scorer"]].to_numpy()
        if score["exact"]:
            assert same_bits(values[score["column"]], expected), score["column"]
        else:
            np.testing.assert_allclose(values[score["column"]], expected, rtol=1e-9, atol=1e-12)
    assert set(values) == set(RUNNING)


@given(arrays(np.float32, (200, 4), elements=st.floats(np.float32(0.999), 1, width=32)))
@settings(max_examples=20, deadline=None)
def test_the_spread_of_nearly_certain_samples_survives(series):
    """Where squares minus the squared mean would lose every digit."""
    running = RunningScores(("cartography_variability",), 4)
    for row in series:
        running.add({"prob_label": row, "seen": np.ones(4, bool)})
    expected = series.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(running.values()["cartography_variability"], expected, rtol=1e-9, atol=1e-12)


def test_each_is_the_scorer_of_its_name_with_its_usual_settings():
    running = RunningScores(tuple(RUNNING), 1, epochs=30)
    for score in running.record():
        known = find(score["scorer"])
        assert (score["version"], score["mode"]) == (known.version, known.mode), score["column"]
        if score["column"] == score["scorer"]:
            assert score["params"] == dict(known.defaults)
            assert RUNNING[score["column"]].reads in known.inputs
    assert {score["scorer"] for score in running.record()} <= set(names())


def present(recorders, dataset, epoch: int, *, missing: int = 0, doubled: bool = False, nan: bool = False):
    rows, labels = torch.from_numpy(dataset.rows("train")), torch.tensor(dataset.labels)
    generator = torch.Generator().manual_seed(epoch)
    logits = 3 * torch.randn(len(dataset), dataset.num_classes, generator=generator)
    logits[torch.arange(len(dataset)), labels] += epoch / 3
    if nan:
        logits[rows[epoch]] = float("nan")
    order = rows[torch.randperm(len(rows), generator=generator)][missing:]
    if doubled:
        order = torch.cat([order, order[:5]])
    for part in order.split(16):
        for recorder in recorders:
            recorder.update(part, logits[part], labels[part])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        for recorder in recorders:
            recorder.end_epoch()


def test_a_run_that_kept_scores_is_scored_like_one_that_kept_trajectories(blobs, tmp_path):
    kept = Recorder(tmp_path / "kept", blobs, keep="scores", config={"seed": 1})
    whole = Recorder(tmp_path / "whole", blobs, config={"seed": 1})
    for epoch in range(5):
        present([kept, whole], blobs, epoch, missing=3 * epoch, doubled=epoch == 2, nan=epoch > 2)
    run_id, other = kept.finalize(), whole.finalize()
    assert run_id != other
    assert not list(tmp_path.glob("kept/**/epoch-*.parquet"))
    signals, expected = (
        load_signals(tmp_path / "kept", run_id, verify=True),
        load_signals(tmp_path / "whole", other),
    )
    assert signals.sample_ids == expected.sample_ids
    mine, theirs = compute(IN_TRAINING, signals), compute(IN_TRAINING, expected)
    assert mine.columns == theirs.columns
    assert theirs["forgetting_events"].n_unique() > 2
    for name in EXACT:
        assert same_bits(mine[name], theirs[name]), name
    np.testing.assert_allclose(
        mine["cartography_variability"], theirs["cartography_variability"], rtol=1e-9, atol=1e-12
    )
    with pytest.raises(MissingSignal, match="needs the signal 'kl_step'"):
        compute(["tdds"], signals)
    with pytest.raises(MissingSignal, match="kept no trajectories"):
        compute(["forgetting_events"], signals, params={"forgetting_events": {"never_learned": "zero"}})


def test_el2n_is_read_at_a_tenth_of_a_training_of_known_length(blobs, tmp_path):
    kept = Recorder(tmp_path / "kept", blobs, mode="epoch_end", keep="scores", epochs=12)
    whole = Recorder(tmp_path / "whole", blobs, mode="epoch_end")
    for epoch in range(12):
        present([kept, whole], blobs, epoch, missing=epoch)
    one = load_signals(tmp_path / "kept", kept.finalize())
    other = load_signals(tmp_path / "whole", whole.finalize())
    everywhere = {"el2n": {"checkpoint": 12, "aggregate": "mean"}}
    assert early_checkpoint(12) == 2
    assert same_bits(compute("el2n", one)["el2n"], compute("el2n", other)["el2n"])
    assert same_bits(
        compute("el2n", one, params=everywhere)["el2n"], compute("el2n", other, params=everywhere)["el2n"]
    )


def test_el2n_of_a_training_of_another_length_is_missed_not_guessed(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs, mode="epoch_end", keep="scores", epochs=30)
    for epoch in range(4):
        present([rec], blobs, epoch)
    with pytest.warns(ScoreMissed, match="kept after epoch 3 of 30, but 4 epochs came, whose tenth is 1"):
        run_id = rec.finalize()
    record = read_run(tmp_path, run_id)
    assert list(record["missed"]) == ["el2n"]
    with pytest.raises(MissingSignal, match="el2n"):
        compute("el2n", load_signals(tmp_path, run_id))
    alone = Recorder(tmp_path / "alone", blobs, mode="epoch_end", keep=("el2n",), epochs=30)
    present([alone], blobs, 0)
    with pytest.warns(ScoreMissed), pytest.raises(IncompleteRecording):
        alone.finalize()
    assert "el2n" not in Recorder(tmp_path / "unknown", blobs, mode="epoch_end", keep="scores").running.names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "score"}, "'trajectories', 'scores', or several"),
        ({"keep": ("aumm",)}, "did you mean 'aum'"),
        ({"keep": ("tdds",)}, "cannot be summed up"),
        ({"keep": ("el2n",)}, "in mode 'epoch_end'"),
        ({"keep": ("el2n",), "mode": "epoch_end"}, "epochs="),
        ({"keep": ("aum",), "fields": ("loss",)}, "rests on 'margin'"),
        ({"keep": ("aum",), "fields": ("margin", "entropy")}, "'entropy' enters none"),
        ({"keep": "scores", "fields": ("entropy",)}, "nothing can be summed up"),
        ({"keep": "scores", "config": {"keep": 1}}, "another name"),
        ({"keep": "scores", "fields": "loss"}, "several names"),
        ({"keep": "scores", "fields": ()}, "no scalar"),
        ({"keep": "scores", "epochs": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(blobs, tmp_path, options, message):
    with pytest.raises(BadInput, match=message):
        Recorder(tmp_path, blobs, **options)


def test_only_what_is_asked_for_is_recorded_and_kept(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs, keep=("aum", "misclassification_margin"))
    assert rec.fields == ("margin",)
    size = len(blobs.rows("train"))
    assert {name: array.shape for name, array in rec.running.kept.items()} == {
        "margin_sum": (size,), "margin_count": (size,)
    }  # fmt: skip
    with pytest.raises(IncompleteRecording):
        rec.finalize()
    everything = RunningScores(IN_TRAINING, 1000)
    assert sum(array.nbytes for array in everything.kept.values()) == 81 * 1000


def test_sums_that_miss_the_first_epochs_are_refused(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs, keep="scores", start_epoch=2)
    present([rec], blobs, 2)
    with pytest.raises(IncompleteRecording, match="stands at epoch 3, but its scores hold 1 epochs"):
        rec.finalize()


def test_losses_of_a_language_model(blobs, tmp_path):
    rec = Recorder(tmp_path, blobs, fields=("loss",), keep="scores")
    rows = torch.from_numpy(blobs.rows("train"))
    drawn = torch.rand(3, len(rows))
    for losses in drawn:
        rec.update_loss(rows, losses)
        rec.end_epoch()
    scores = compute(["mean_loss", "last_loss"], load_signals(tmp_path, rec.finalize()))
    total = np.zeros(len(rows))
    for losses in drawn.numpy():
        total += losses
    np.testing.assert_array_equal(scores["mean_loss"], total / 3)
    np.testing.assert_array_equal(scores["last_loss"], drawn[-1].numpy())


def test_the_command_line_scores_such_a_run(tmp_path, capsys):
    workspace = ["--workspace", str(tmp_path / "work")]
    assert run(["ingest", "digits", *workspace]) == 0
    dataset = open_dataset("digits")
    kept = Recorder(tmp_path / "work", dataset, keep="scores", config={"model": "mine"})
    whole = Recorder(tmp_path / "whole", dataset, config={"model": "mine"})
    for epoch in range(3):
        present([kept, whole], dataset, epoch)
    run_id = kept.finalize()
    capsys.readouterr()
    assert run(["score", "--run", run_id, *workspace, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["run_id"] == run_id
    assert set(done["scorers"]) >= set(IN_TRAINING)
    assert "without trajectories" in done["left_out"]["tdds"]
    expected = compute(EXACT, load_signals(tmp_path / "whole", whole.finalize()))
    query = f"SELECT {', '.join(EXACT)} FROM sample_scores WHERE split = 'train' ORDER BY sample_id"
    assert run(["sql", query, *workspace, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in EXACT:
        values = [np.nan if row[name] is None else row[name] for row in found]
        assert same_bits(values, expected[name]), name
    assert run(["score", "tdds", "--run", run_id, *workspace]) == 2
    assert "without trajectories; record again with keep='trajectories'" in capsys.readouterr().err
    assert run(["score", "aum", "--run", run_id, *workspace]) == 0


KILLED = """
import sys, os, signal, pathlib
import polars as pl, torch
from tracesift.pipelines.checkpoint import load_checkpoint, save_checkpoint
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.recorder import Recorder

torch.set_num_threads(1)
folder, die_in = pathlib.Path(sys.argv[1]), int(sys.argv[2])
dataset = open_dataset(pl.read_parquet(folder.parent / "data.parquet"), name="blobs")
rows, labels = torch.from_numpy(dataset.rows("train")), torch.tensor(dataset.labels)
rec = Recorder(folder, dataset, keep="scores")
start, state = 0, load_checkpoint(folder)
if state is not None:
    rec.load_state_dict(state["recorder"])
    start = state["epoch"]
for epoch in range(start, 5):
    logits = torch.randn(len(dataset), 3, generator=torch.Generator().manual_seed(epoch))
    for at, part in enumerate(rows.split(16)):
        rec.update(part, logits[part], labels[part])
        if epoch == die_in and at == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    rec.end_epoch()
    save_checkpoint(folder, {"epoch": epoch + 1, "recorder": rec.state_dict(copy=False)})
print(rec.finalize())
"""


def test_killed_and_resumed_it_ends_with_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "id": [f"s{n:03d}" for n in range(80)],
            "label": ["abc"[n % 3] for n in range(80)],
            "x": rng.normal(size=80),
        }
    )
    frame.write_parquet(tmp_path / "data.parquet")
    script = tmp_path / "train.py"
    script.write_text(KILLED)

    def train(name: str, die_in: int):
        words = [sys.executable, script, tmp_path / name, str(die_in)]
        return subprocess.run(words, capture_output=True, text=True, check=False, env=os.environ)

    assert train("killed", 3).returncode == -signal.SIGKILL
    resumed = train("killed", 99)
    assert resumed.returncode == 0, resumed.stderr
    dataset = open_dataset(frame, name="blobs")
    rows, labels = torch.from_numpy(dataset.rows("train")), torch.tensor(dataset.labels)
    whole = Recorder(tmp_path / "whole", dataset, keep="scores")
    for epoch in range(5):
        logits = torch.randn(len(dataset), 3, generator=torch.Generator().manual_seed(epoch))
        whole.update(rows, logits[rows], labels[rows])
        whole.end_epoch()
    run_id = whole.finalize()
    assert run_id == resumed.stdout.strip().splitlines()[-1]
    files = read_run(tmp_path / "whole", run_id)["files"]
    assert "mode=in_training/scores.parquet" in files
    assert files == read_run(tmp_path / "killed", run_id)["files"]
    assert read_run(tmp_path / "killed", run_id)["epochs"] == 5


WORKER = """
import sys
import polars as pl, torch, torch.distributed as dist
from torch.utils.data import DistributedSampler
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.recorder import Recorder

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
dataset = open_dataset(pl.read_parquet(f"{folder}/data.parquet"), name="blobs")
rows = torch.from_numpy(dataset.rows("train"))
sampler = DistributedSampler(rows, num_replicas=2, rank=rank, shuffle=True, seed=3)
rec = Recorder(f"{folder}/two", dataset, keep="scores")
for epoch in range(3):
    sampler.set_epoch(epoch)
    logits = torch.randn(len(dataset), 3, generator=torch.Generator().manual_seed(epoch))
    for part in rows[torch.tensor(list(sampler))].split(16):
        rec.update(part, logits[part], torch.tensor(dataset.labels)[part])
    assert rec.end_epoch().complete
print(rec.finalize())
dist.destroy_process_group()
"""


def test_two_processes_sum_up_what_one_would(tmp_path):
    splits = ["train"] * 75 + ["val"] * 3 + ["test"] * 3
    frame = pl.DataFrame(
        {
            "id": [f"s{n:03d}" for n in range(81)],
            "label": ["abc"[n % 3] for n in range(81)],
            "x": np.random.default_rng(0).normal(size=81),
            "split": splits,
        }
    )
    frame.write_parquet(tmp_path / "data.parquet")
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    workers = [
        subprocess.Popen(
            [sys.executable, script, tmp_path, str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outcomes = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outcomes
    dataset = open_dataset(pl.read_parquet(tmp_path / "data.parquet"), name="blobs")
    rows = torch.from_numpy(dataset.rows("train"))
    alone = Recorder(tmp_path / "one", dataset, keep="scores")
    for epoch in range(3):
        logits = torch.randn(len(dataset), 3, generator=torch.Generator().manual_seed(epoch))
        alone.update(rows, logits[rows], torch.tensor(dataset.labels)[rows])
        alone.end_epoch()
    run_id = alone.finalize()
    assert {out.strip().splitlines()[-1] for out, _ in outcomes} == {run_id}
    one, two = (
        (run_folder(tmp_path / side, run_id) / "mode=in_training/scores.parquet").read_bytes()
        for side in ("one", "two")
    )
    assert one == two
