"""The vocabulary that every part of tracesift shares: signals, modes, directions, roles, errors.

Standard library and polars dtypes only. Arrays and frames pass between the parts under the names written
here, so a scorer's parameter names are its declaration of inputs and a catalog column needs no translation.

Axes: T checkpoints or epochs, N training samples, M validation samples, K classes, D features, P projected
gradient dimensions; of a job's own training, E epochs, R runs or rounds, L layers,
S subtasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

SIGNAL_SCHEMA = 1
"""Version of the signal files' layout."""

CATALOG_SCHEMA = 9
"""Version of the catalog's tables; raised by each migration."""

MANIFEST_SCHEMA = 1
"""Version of manifest.json and members.parquet."""

ID_RULE = "content-1"
"""Name and version of the rule that makes sample ids where the user has none."""

Mode = Literal["in_training", "epoch_end"]
MODES: tuple[str, ...] = ("in_training", "epoch_end")

SPLITS: tuple[str, ...] = ("train", "val", "test")

DIRECTIONS: tuple[str, ...] = ("hard", "easy", "suspicious", "clean", "keep", "outlier", "redundant")

ROLES: tuple[str, ...] = ("keep", "drop", "relabel", "forget", "retain", "neighbor", "holdout")


@dataclass(frozen=True)
class Signal:
    """One name of the vocabulary: its axes, its type, and how a user gets it."""

    axes: str
    dtype: str
    meaning: str
    source: str
    job: str | None = None
    """The job whose own training makes it; ordinary recordings do not hold it."""
    settings: tuple[str, ...] = ()
    """Settings of the job, as ``key=value``, without which it does not make this."""


_RECORD = "record it with Recorder or `tracesift record`"
_PASS = "recorded at epoch end by `tracesift record` (a pass over train and val)"


def _of_job(axes: str, dtype: str, meaning: str, job: str, *settings: str) -> Signal:
    """Return a signal that a job adds to a recording; the job's own description stands in its file."""
    asked = "".join(f" --param {setting}" for setting in settings)
    return Signal(axes, dtype, meaning, f"run `tracesift record --job {job}{asked}`", job, settings)


SIGNALS: dict[str, Signal] = {
    "loss": Signal("TN", "float32", "cross-entropy with the given label", _RECORD),
    "correct": Signal("TN", "bool", "the largest logit is the given label", _RECORD),
    "margin": Signal("TN", "float32", "logit of the label minus the largest other logit", _RECORD),
    "prob_label": Signal("TN", "float32", "probability of the given label", _RECORD),
    "prob_margin": Signal("TN", "float32", "probability of the label minus the largest other", _RECORD),
    "error_norm": Signal("TN", "float32", "L2 norm of p - onehot(label)", _RECORD),
    "entropy": Signal("TN", "float32", "entropy of p, in nats", _RECORD),
    "kl_step": Signal(
        "TN", "float32", "sum_k |p_t (log p_t - log p_{t-1})|; NaN at the first epoch", _RECORD
    ),
    "pred": Signal("TN", "int32", "class of the largest logit", _RECORD),
    "seen": Signal("TN", "bool", "the sample was presented", _RECORD),
    "num_tokens": Signal("N", "int64", "tokens behind each per-sample loss", "recorded for language models"),
    "probs": Signal("TNK", "float32", "class probabilities at every checkpoint", "in Python pass your own array"),
    "probs_last": Signal("NK", "float32", "class probabilities at the last checkpoint", _PASS),
    "probs_oos": Signal(
        "NK", "float32", "out-of-sample class probabilities", "run `tracesift record --folds 3`"
    ),
    "probs_oos_weak": Signal(
        "NK", "float32", "out-of-sample probabilities of a weak model", "run `tracesift record --folds 3`"
    ),
    "elr_target": Signal(
        "NK", "float32", "temporal-ensemble target at the early-learning epoch",
        'record it with `tracesift record`, or with Recorder(…, fields=(*SCALAR_FIELDS, "elr_target")): a recorder of '
        "your own keeps it where fields names it (SCALAR_FIELDS is in tracesift.catalog.schema)",
    ),
    "labels": Signal("N", "int64", "given label as a class index", "comes with the dataset"),
    "val_loss": Signal("TM", "float32", "cross-entropy of the validation samples", _PASS),
    "val_labels": Signal("M", "int64", "labels of the validation samples", "comes with the dataset"),
    "val_probs_last": Signal(
        "MK", "float32", "class probabilities of the validation samples at the last checkpoint", _PASS
    ),
    "embedding": Signal(
        "ND", "float32", "one vector per sample", "run `tracesift embed`, or in Python pass your own array"
    ),
    "val_embedding": Signal("MD", "float32", "one vector per validation sample", "run `tracesift embed`"),
    "grad_last": Signal("NP", "float32", "projected last-layer gradients", "in Python pass your own array"),
    "images": Signal("NHWC", "uint8", "decoded images", "only image datasets have it"),
    "texts": Signal("N", "str", "what the model reads, as it stands", "only text datasets have it"),
    "first_split_correct": _of_job(
        "NE", "bool", "predicted as labelled, after each epoch on the half that holds the sample", "ssft"
    ),
    "second_split_correct": _of_job(
        "NE", "bool", "predicted as labelled, after each further epoch on the other half alone", "ssft"
    ),
    "early_error_norm": _of_job(
        "NR", "float32", "L2 norm of p - onehot(label) early in training, per initialisation", "grand"
    ),
    "early_feature_norm": _of_job(
        "NR", "float32", "L2 norm of the last layer's input at the same moment", "grand"
    ),
    "early_gradient_norm": _of_job(
        "NR", "float32", "L2 norm of the loss's gradient by all parameters at the same moment", "grand",
        "parameters=all",
    ),
    "input_gradient_variance": _of_job(
        "NHW", "float32", "variance over checkpoints of the label's logit's gradient at each pixel", "vog"
    ),
    "boundary_distance": _of_job(
        "N", "float32", "L2 norm of the smallest change of the input that DeepFool finds to cross a boundary",
        "deepfool",
    ),
    "boundary_crossed": _of_job(
        "N", "bool", "DeepFool's change made the model predict another class", "deepfool"
    ),
    "layer_votes": _of_job(
        "NL", "int32", "class that the nearest neighbours vote for at each layer", "prediction_depth"
    ),
    "final_pred": _of_job("N", "int32", "class that the trained network predicts", "prediction_depth"),
    "threshold_margin": _of_job(
        "NR", "float32", "mean margin over a training that holds threshold samples, per run", "threshold_aum"
    ),
    "threshold_sample": _of_job(
        "NR", "bool", "the sample's label was replaced by the extra class, per run", "threshold_aum"
    ),
    "late_stopping_kept": _of_job(
        "NR", "bool", "still in the training set after each round of late stopping", "late_stopping"
    ),
    "bias_shift_margin": _of_job(
        "N", "float32", "held-out margin of the label under a model trained on images moved by a constant", "bias_shift"
    ),
    "linear_correct": _of_job(
        "N", "bool", "predicted as labelled by a linear model that did not train on the sample", "simple_networks"
    ),
    "two_layer_correct": _of_job(
        "N", "bool", "predicted as labelled by a network of two layers that did not train on it", "simple_networks"
    ),
    "extra_class_margin": _of_job(
        "NR", "float32", "held-out margin of the label over all others and the extra classes, after each round",
        "iterative_filtering",
    ),
    "subset_trained": _of_job("NR", "bool", "the model trained on the sample, per model", "subset_training"),
    "subset_correct": _of_job("NR", "bool", "predicted as labelled, per model", "subset_training"),
    "subset_prob_label": _of_job("NR", "float32", "probability of the given label, per model", "subset_training"),
    "val_subset_correct": _of_job(
        "MR", "bool", "the validation sample is predicted as labelled, per model", "subset_training"
    ),
    "val_subset_prob_label": _of_job(
        "MR", "float32", "probability of the validation sample's label, per model", "subset_training"
    ),
    "tracin_self": _of_job(
        "NE", "float32", "learning rate times the squared length of the loss's gradient, per checkpoint", "tracin"
    ),
    "tracin_val": _of_job(
        "NE", "float32", "learning rate times its product with the mean validation loss's gradient, per checkpoint",
        "tracin",
    ),
    "tracin_error": _of_job(
        "NEK", "float32", "root of the learning rate times p - onehot(label), per checkpoint", "tracin", "pairs=true"
    ),
    "tracin_hidden": _of_job(
        "NED", "float32", "the last layer's input, per checkpoint", "tracin", "pairs=true"
    ),
    "val_tracin_error": _of_job(
        "MEK", "float32", "the same of the validation samples", "tracin", "pairs=true"
    ),
    "val_tracin_hidden": _of_job(
        "MED", "float32", "the same of the validation samples", "tracin", "pairs=true"
    ),
    "tracin_gradient": _of_job(
        "NEP", "float32", "root of the learning rate times the projected gradient, per checkpoint", "tracin",
        "parameters=all", "pairs=true",
    ),
    "val_tracin_gradient": _of_job(
        "MEP", "float32", "the same of the validation samples", "tracin", "parameters=all", "pairs=true"
    ),
    "trak_self": _of_job(
        "NR", "float32", "the sample's features times the inverse Gram matrix times themselves, per model", "trak"
    ),
    "trak_val": _of_job(
        "NR", "float32", "the same with the mean features of the validation samples, per model", "trak"
    ),
    "trak_residual": _of_job("NR", "float32", "1 - probability of the given label, per model", "trak"),
    "trak_feature": _of_job(
        "NRP", "float32", "projected gradient of the label's log odds, per model", "trak", "pairs=true"
    ),
    "val_trak_feature": _of_job(
        "MRP", "float32", "that of the validation samples times the inverse Gram matrix, over the number of models",
        "trak", "pairs=true",
    ),
    "input_curvature": _of_job(
        "NE", "float32", "change of the loss's gradient by the input a step along its signs away, after each epoch",
        "loss_curvature",
    ),
    "worst_case_weight": _of_job(
        "N", "float64", "share of the sample in the forget set that unlearning is worst at, 0 to 1", "worst_case"
    ),
    "unlearn_loss": _of_job(
        "N", "float32", "loss after the last unlearning of the search for that set", "worst_case"
    ),
    "easiest_weight": _of_job(
        "N", "float64", "share of the sample in the forget set that unlearning is best at, 0 to 1", "worst_case",
        "easiest=true",
    ),
    "less_cosine": Signal(
        "NES", "float32", "share of the learning rate times the cosine of Adam's direction with a subtask's gradients",
        "make it of a language model with tracesift.pipelines.less.less_cosine",
    ),
}  # fmt: skip

SCALAR_FIELDS: tuple[str, ...] = (
    "loss", "correct", "margin", "prob_label", "prob_margin", "error_norm", "entropy", "kl_step", "pred",
)  # fmt: skip
"""What a recorder keeps per sample and epoch by default, beside `seen`."""

FIELD_DTYPES: dict[str, pl.DataType] = {
    "loss": pl.Float32(), "correct": pl.Boolean(), "margin": pl.Float32(), "prob_label": pl.Float32(),
    "prob_margin": pl.Float32(), "error_norm": pl.Float32(), "entropy": pl.Float32(),
    "kl_step": pl.Float32(), "pred": pl.Int32(), "seen": pl.Boolean(), "presentations": pl.Int32(),
}  # fmt: skip
"""Types of the columns in an epoch file; fixed, so that a view over many runs never widens."""


class BadInput(ValueError):
    """The user's input cannot be used as it is; the message says what, where and what to do."""


class UnknownName(BadInput):
    """A scorer, selector, flag or option of this name does not exist."""


class MissingSignal(BadInput):
    """A scorer needs a signal that was not recorded."""


class FingerprintMismatch(BadInput):
    """A manifest or recording belongs to another state of the dataset."""


class IncompleteRecording(BadInput):
    """Signal files of a run are missing or do not fit together."""


class WorkspaceBusy(BadInput):
    """Another process holds the workspace or its catalog."""


def nearest(name: str, known: list[str] | tuple[str, ...], most: int = 1) -> str:
    """Return `` (did you mean 'x'?)`` for the closest known name, or several, or an empty string.

    Examples
    --------
    >>> nearest("auum", ["aum", "el2n"]), nearest("learned", ["first_learned", "learned_for_good"], most=3)
    (" (did you mean 'aum'?)", " (did you mean 'first_learned' or 'learned_for_good'?)")
    """
    from difflib import get_close_matches

    close = [f"'{one}'" for one in get_close_matches(name, known, n=most)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""
