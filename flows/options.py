"""What a user may ask for, as frozen records: the command line, TOML files and deployments share them.

The text under each field is its help. Every record is plain data, so that it can be stored with a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from tracesift.catalog.schema import BadInput

if TYPE_CHECKING:  # the command line knows sources by their names, and starts without what opens them
    from tracesift.pipelines.dataset import Dataset, Source

Flat = Parameter(name="*")


def _whole(_: type, tokens: Sequence[Token]) -> int:
    """Read a whole number: left to itself, the command line would round 1.5."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f'"{tokens[0].value}" is no whole number') from None


Whole = Annotated[int, Parameter(converter=_whole)]
"""A count, of which there is no half."""

AUTO = "auto"
"""Asked for in place of a selector's name, `situation.choose` decides."""

FORM = {"use_attribute_docstrings": True, "extra": "forbid"}
"""For the form that Prefect makes of a deployment's parameters: the text under a field helps, a name too many is
an error."""


@Flat
@dataclass(frozen=True, kw_only=True)
class Common:
    """Where the work is kept and how the answer is given."""

    workspace: Path = Path("tracesift-work")
    """Folder that holds catalog, signals, manifests and report."""
    json: Annotated[bool, Parameter(negative="")] = False
    """Print exactly one JSON document on stdout."""
    config: Path | None = None
    """TOML file with options, each under its command's name: [curate] keep = 0.3."""
    debug: Annotated[bool, Parameter(negative="")] = False
    """Show the traceback of a failure."""


@Flat
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a source is read and split."""

    __pydantic_config__ = FORM

    label: str | None = None
    """Column of the label; guessed when unambiguous, and said. Or no-labels, for data without classes whose losses a
    model of your own, a language model or a regression, records or brings (`import`)."""
    id: str | None = None
    """Column of the sample ids (recommended), or content-hash for ids made from the content in spite of a column
    called id; where there is none they are made from it anyway."""
    text: str | None = None
    """Column of the text."""
    image: str | None = None
    """Column of the images."""
    features: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    """Feature columns of a table (also a,b,c)."""
    metadata: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = ()
    """Columns of a table that no model reads, kept beside the samples: an owner, a date (also a,b,c)."""
    split: str | None = None
    """Column that says train, val or test."""
    val: str | None = None
    """Validation samples: another source, or a share to cut from train such as 0.1."""
    test: str | None = None
    """Test samples: another source, or a share to cut from train such as 0.1."""
    group: str | None = None
    """Column of a group that must stay in one split (a patient, a document, an owner)."""
    format: str | None = None
    """Read the source as csv, tsv, parquet, jsonl, json, arrow or npz whatever its name."""
    delimiter: str | None = None
    """Delimiter of a text table."""
    encoding: str | None = None
    """Encoding of a text table, such as latin-1."""
    clean_labels: Annotated[bool, Parameter(negative="")] = False
    """Strip blanks and one trailing mark from labels."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do with an unreadable image: stop and name it, or leave it out and record it."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments for `open_dataset`: only what was asked for."""
        given = {name: value for name, value in vars(self).items() if value not in (None, (), False)}
        for several in ("features", "metadata"):
            if getattr(self, several):
                given[several] = [name for part in getattr(self, several) for name in part.split(",")]
        for side in ("val", "test"):
            share = _share(getattr(self, side))
            if share is not None:
                if not 0 <= share < 1:
                    raise BadInput(
                        f"--{side} {share}: a share lies in [0, 1); give e.g. 0.1, 0 for none, or another source"
                    )
                given[side] = share
        return given


def _share(value: str | None) -> float | None:
    if value is None or Path(value).exists():
        return None
    try:
        return float(value)
    except ValueError:
        return None


def checked_seed(seed: int) -> int:
    """Return the seed, or refuse one that the generators do not take."""
    if not 0 <= seed < 2**31:
        raise BadInput(f"--seed {seed}: a whole number from 0 to {2**31 - 1}")
    return seed


@Flat
@dataclass(frozen=True, kw_only=True)
class Training:
    """How a model is trained and watched."""

    __pydantic_config__ = FORM

    model: str = "auto"
    """linear, mlp, small_cnn, resnet18, hashed_ngrams, hf_classifier:NAME, your own module:function, or auto by the
    data."""
    epochs: Whole | None = None
    """Epochs; the model's recipe decides when not given."""
    seeds: Whole = 1
    """How many runs with different seeds; scores are combined and their spread is kept. Subsets are retrained with 3
    also where fewer are asked for (evaluate)."""
    seed: Whole = 0
    """First seed; the others follow it."""
    folds: Whole = 3
    """Folds of the cross-fitting that gives out-of-sample probabilities; 0 leaves it out."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 …"""
    threads: Whole | None = None
    """CPU threads of the training; the same number gives the same bytes."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if self.epochs is not None and self.epochs < 1:
            raise BadInput(f"--epochs {self.epochs}: at least 1")
        if self.seeds < 1:
            raise BadInput(f"--seeds {self.seeds}: at least 1")
        checked_seed(self.seed)
        if self.folds < 0 or self.folds == 1:
            raise BadInput(f"--folds {self.folds}: at least 2, or 0 for none")
        if self.threads is not None and self.threads < 1:
            raise BadInput(f"--threads {self.threads}: at least 1")

    @property
    def each_seed(self) -> range:
        """The seeds, one per run."""
        return range(self.seed, self.seed + self.seeds)


@Flat
@dataclass(frozen=True, kw_only=True)
class Choosing:
    """What the subsets should be."""

    __pydantic_config__ = FORM

    keep: float = 0.5
    """Share of the training samples that the pruned subset keeps."""
    max_drop: float = 0.05
    """Share of the training samples that the denoised subset may drop at most."""
    selector: str = AUTO
    """Selector of the pruned subset; `tracesift selectors` lists them, and auto takes one by what is known."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        if not 0 < self.keep <= 1:
            raise BadInput(f"--keep {self.keep}: a share in (0, 1], such as 0.5")
        if not 0 <= self.max_drop < 1:
            raise BadInput(f"--max-drop {self.max_drop}: a share in [0, 1), such as 0.05")


@dataclass(frozen=True, kw_only=True)
class CurateJob:
    """Everything that `curate` needs to know; the parameters of a deployment.

    Examples
    --------
    >>> job = CurateJob(source="reviews.parquet", reading=Reading(label="stars"), training=Training(epochs=3))
    >>> job.workspace, job.choosing.keep
    ('tracesift-work', 0.5)
    """

    source: Source | Dataset
    """The dataset; `tracesift curate --help` lists the forms. In Python also the data themselves: a polars or pandas
    frame, an Arrow table, a Hugging Face Dataset or DatasetDict, or what `open_dataset` returns."""
    workspace: str = "tracesift-work"
    """Folder of the results, as an absolute path where a worker runs it."""
    reading: Reading = field(default_factory=Reading)
    training: Training = field(default_factory=Training)
    choosing: Choosing = field(default_factory=Choosing)
    forget: str | None = None
    """File of ids, one a line, to build a forget-ready subset for."""
    plant_noise: float = 0.0
    """Share of training labels to flip, remembering the truth, to measure the detectors."""
    evaluate: bool = False
    """Retrain on the subsets and their controls."""
    content: bool = True
    """Show thumbnails and text in the report."""

    def __post_init__(self) -> None:
        """Refuse rates that are none."""
        if not 0 <= self.plant_noise < 1:
            raise BadInput(f"--plant-noise {self.plant_noise}: a rate in [0, 1), such as 0.2")
