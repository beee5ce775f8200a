"""A model trains and is watched: one recording per seed, cross-fitted probabilities, the model's features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from tracesift.catalog.schema import BadInput, IncompleteRecording
from tracesift.flows.options import Training
from tracesift.flows.progress import counted, duration, say, watched
from tracesift.flows.recordings import remember_run
from tracesift.flows.work import Work
from tracesift.pipelines.checkpoint import epochs_done
from tracesift.pipelines.crossfit import fit_fold, has_folds, merge_folds, weak_config
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.determinism import choose_device
from tracesift.pipelines.embedding.embeddings import embed
from tracesift.pipelines.estimate import estimate
from tracesift.pipelines.recorder import CoverageWarning
from tracesift.pipelines.signals import forget_broken_arrays, is_whole, read_run, run_folder
from tracesift.pipelines.sources.guessing import NO_LABELS
from tracesift.pipelines.train import TrainConfig, plan, record


def train_config(training: Training, seed: int) -> TrainConfig:
    """Return what the user asked for as the training loop takes it."""
    return TrainConfig(
        seed=seed,
        model=training.model,
        epochs=training.epochs,
        device=training.device,
        threads=training.threads,
    )


def check_training(dataset: Dataset, training: Training) -> None:
    """Refuse before anything is written what would only fail in the middle of the training."""
    if dataset.options.get("label") == NO_LABELS:
        raise BadInput(
            f"{dataset.name} has no labels (--label {NO_LABELS}), and the models here learn classes; record your own "
            "with Recorder(..., fields=('loss',)), or `tracesift import` its losses (docs/signals.md)"
        )
    choose_device(training.device)
    plan(dataset, train_config(training, training.seed))
    size = len(dataset.rows("train"))
    if training.folds > size:
        raise BadInput(f"--folds {training.folds}: {dataset.name} has {size} training samples")


def record_seed(work: Work, training: Training, seed: int) -> str:
    """Train with one seed and record every sample at every epoch; a finished recording is returned at once."""
    config = train_config(training, seed)
    if work.recorded_before is not None:
        run_id = plan(work.recorded_before, config).run_id
        remember_run(work, run_id)
        return run_id
    _check_classes(work.trainable)
    run_id = plan(work.trainable, config).run_id
    if not _found_whole(work, config):
        _record(work, config)
    remember_run(work, run_id)
    _tell_nonfinite(read_run(work.path, run_id), f"seed {seed}")
    return run_id


def _record(work: Work, config: TrainConfig) -> None:
    with watched(f"record, seed {config.seed}") as report, warnings.catch_warnings():
        # What it warns of is told below, once for all epochs.
        warnings.simplefilter("ignore", CoverageWarning)
        record(work.trainable, work.path, config, report, inputs=work.inputs)


def _check_classes(dataset: Dataset) -> None:
    """Refuse to train where deletion requests have left one class alone."""
    left = dataset.samples[dataset.rows("train")]["label"].unique()
    if len(left) < 2:
        raise BadInput(
            f"after deletion request {', '.join(dataset.withheld_by)} every training label of {dataset.name} is "
            f"'{left[0]}'; there is nothing to learn, so name data with two classes or more"
        )


def _found_whole(work: Work, config: TrainConfig) -> bool:
    """Return whether a recording is there and unchanged; say where a stopped one goes on, and why one is made again."""
    planned = plan(work.trainable, config)
    folder = run_folder(work.path, planned.run_id)
    if not (folder / "run.json").exists():
        done = epochs_done(folder)
        if done:
            say(f"recording of seed {config.seed} goes on after epoch {done} of {planned.epochs}")
        return False
    forget_broken_arrays(work.path, planned.run_id)
    try:
        read_run(work.path, planned.run_id, verify=True)
    except IncompleteRecording as error:
        say(f"{str(error).partition(';')[0]}; seed {config.seed} is recorded again")
        return False
    return True


def _tell_nonfinite(run: Mapping[str, Any], what: str) -> None:
    """Say which samples the model gave no finite logits for; refuse a recording that holds nothing else."""
    broken = [epoch for epoch in run.get("coverage", ()) if epoch["nonfinite"]]
    if not broken:
        return
    worst = max(broken, key=lambda epoch: epoch["nonfinite"])
    if all(epoch["nonfinite"] == epoch["samples"] for epoch in run["coverage"]):
        raise BadInput(
            f"model {run['model']} gave NaN or infinite logits for every training sample in every epoch: mend the "
            "model, lower the lr of its RECIPE, or name another with --model"
        )
    say(
        f"{what}: {worst['nonfinite']} of {worst['samples']} training samples gave NaN or infinite logits "
        f"(in {len(broken)} of {run['epochs']} epochs; first {', '.join(worst['examples']['nonfinite'])}); they are "
        "recorded as NaN, and a score that rests on nothing else stays empty"
    )


def recorded_dataset(work: Work, run_id: str) -> Dataset:
    """Return the dataset as this run was recorded: with what was deleted since, without what was deleted before."""
    return work.as_recorded(read_run(work.path, run_id)["dataset"])


def check_trainable(work: Work, dataset: Dataset, run_id: str) -> None:
    """Refuse to train for a recording that holds samples whose deletion was asked for since."""
    since = [name for name in work.trainable.withheld_by if name not in dataset.withheld_by]
    if since:
        raise BadInput(
            f"run {run_id} was recorded before deletion request {', '.join(since)} and holds what is to be forgotten, "
            "so nothing more is trained for it; `tracesift record` makes a recording without that"
        )


def cross_fit_fold(work: Work, training: Training, run_id: str, fold: int) -> str:
    """Train the models that never see one fold, and write their probabilities for it; done once per fold."""
    config = train_config(training, training.seed)
    dataset = recorded_dataset(work, run_id)
    with watched(f"cross-fit, fold {fold + 1} of {training.folds}") as report:
        for name, job in {"probs_oos": config, "probs_oos_weak": weak_config(dataset, config)}.items():
            if not has_folds(dataset, work.path, run_id, job, name=name, folds=training.folds):
                check_trainable(work, dataset, run_id)
                fit_fold(
                    dataset,
                    work.path,
                    run_id,
                    job,
                    name=name,
                    fold=fold,
                    folds=training.folds,
                    inputs=work.inputs,
                    progress=report,
                )
    return run_id


def join_folds(work: Work, training: Training, run_id: str) -> str:
    """Put the folds together and add them to the recording; nothing happens where they are there."""
    config, dataset = train_config(training, training.seed), recorded_dataset(work, run_id)
    for name, job in {"probs_oos": config, "probs_oos_weak": weak_config(dataset, config)}.items():
        if not has_folds(dataset, work.path, run_id, job, name=name, folds=training.folds):
            merge_folds(dataset, work.path, run_id, job, name=name, folds=training.folds)
    remember_run(work, run_id)
    return run_id


def embed_run(work: Work, run_id: str, device: str = "auto") -> dict[str, Any]:
    """Add the penultimate features of the recorded model to the recording."""
    dataset = recorded_dataset(work, run_id)
    embed(dataset, work.path, run_id, device=device, inputs=work.inputs_of(dataset))
    work.encodings = None
    remember_run(work, run_id)
    return {"run_id": run_id, "embedding": read_run(work.path, run_id)["arrays"]["embedding"]}


def all_recorded(work: Work, training: Training, dataset: Dataset) -> bool:
    """Tell whether every seed is recorded on this state of the dataset, and the first one cross-fitted as asked."""
    runs = [plan(dataset, train_config(training, seed)).run_id for seed in training.each_seed]
    if not all(is_whole(work.path, run) for run in runs):
        return False
    config = train_config(training, training.seed)
    jobs = {"probs_oos": config, "probs_oos_weak": weak_config(dataset, config)} if training.folds else {}
    return all(
        has_folds(dataset, work.path, runs[0], job, name=name, folds=training.folds)
        for name, job in jobs.items()
    )


def is_begun(work: Work, training: Training) -> bool:
    """Tell whether the first recording is there or was begun: then what is left to do is another question."""
    dataset = work.recorded_before or work.trainable
    return run_folder(work.path, plan(dataset, train_config(training, training.seed)).run_id).exists()


def tell_expected(work: Work, training: Training) -> None:
    """Say how long the training will take, from a few batches timed here and now, before it starts."""
    if is_begun(work, training):
        return
    expected = estimate(work.trainable, train_config(training, training.seed), folds=training.folds)
    recording = expected.encode_seconds + training.seeds * expected.recording_seconds
    folds = (
        f" and {duration(expected.busy * expected.crossfit_seconds)} to cross-fit" if training.folds else ""
    )
    say(
        f"{expected.model}, {counted(expected.epochs, 'epoch')}: "
        f"about {duration(expected.busy * recording)} to record{folds}, "
        f"{expected.bytes * training.seeds / 1e6:.0f} MB on disk"
    )
