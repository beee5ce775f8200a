"""Batches for a user's own unlearning loop: what to forget, and beside it what must survive.

    loader = load_manifest("…/forget-ready").loaders(dataset, forget=32, retain=64)
    for epoch in range(5):
        for step in loader:                        # {"forget": batch, "retain": batch}
            forget, retain = step["forget"], step["retain"]

Each batch is a dict: `inputs`, `labels` (B,) int64, `weights` (B,) float32, `sample_ids` (a list of B texts) and `rows`
(B,) int64, which a `Recorder` takes.
"""

from __future__ import annotations

import multiprocessing
import operator
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
import torch.distributed as dist
from torch.utils import data as torch_data

from tracesift.catalog.files import digest
from tracesift.catalog.schema import BadInput
from tracesift.pipelines import taking
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.handover.batch_plan import BatchPlan, Stream
from tracesift.pipelines.recording import gather

if TYPE_CHECKING:
    import datasets

_WORKERS = 3  # a draw of its own, beside those of the plan


@dataclass(frozen=True)
class Batch:
    """How large the batches of a set are in each process, and which roles make up the set.

    Examples
    --------
    >>> Batch(16, roles=("relabel", "drop"))
    Batch(size=16, roles=('relabel', 'drop'))
    """

    size: int
    roles: tuple[str, ...]


class PairedLoader:
    """An iterable of steps, each a dict of batches by set; iterating goes through one epoch, or what is left of it.

    What comes at which position depends on the members, the settings and the seed: not on the order of the source, the
    number of workers, or what was drawn before. In several processes (`torch.distributed`) each gets its own share of
    every step, as many steps as any other, and no sample twice; a batch may then be one sample larger than asked for.

    Parameters
    ----------
    samples
        What can be shown.
    plan
        Which of them at which step.
    workers
        Processes that read ahead; 0 reads in this one.

    Attributes
    ----------
    position : int
        Steps handed out so far, over all epochs.

    Notes
    -----
    Workers are started anew and not forked: a fork inherits locks and exit handlers of threads that it does not have
    (those of polars, OpenMP, a Prefect flow) and hangs or dies of them. So `transform` and `collate` must be functions
    that pickle, and a script must start its loop under ``if __name__ == "__main__":``. Workers live as long as the
    loader.
    """

    def __init__(self, samples: Samples, plan: BatchPlan, *, workers: int = 0) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise BadInput(f"workers={workers!r}: 0 or more processes that read ahead")
        self.samples, self.plan, self.workers = samples, plan, workers
        self.position = 0
        self._steps = _Shares(plan)
        self._loader = torch_data.DataLoader(
            samples,
            batch_size=None,
            sampler=self._steps,
            num_workers=workers,
            collate_fn=_as_it_is,
            generator=generator(plan.seed, _WORKERS),  # else the caller's own is drawn from
            multiprocessing_context=_start_method() if workers else None,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        """Return the steps of one epoch."""
        return self.plan.steps

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, from 0."""
        return self.position // len(self)

    def __iter__(self) -> Iterator[dict[str, dict[str, Any]]]:
        """Yield what is left of the epoch under way: all of it where it has not begun."""
        self._steps.coming = [
            divmod(at, len(self)) for at in range(self.position, (self.epoch + 1) * len(self))
        ]
        try:
            with warnings.catch_warnings():
                # torch proposes to fork here, which `Notes` above says not to.
                warnings.filterwarnings("ignore", message="Got pickle error")
                batches = iter(self._loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if not self.workers:
                raise
            raise BadInput(
                f"workers={self.workers}: the data, transform= or collate= cannot be sent to another process "
                f"({error}); define functions at the top of a module, or read with workers=0"
            ) from error
        for item in batches:
            self.position += 1
            yield item

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, for loops that leave one early."""
        if epoch < 0:
            raise BadInput(f"set_epoch({epoch}): epochs count from 0")
        self.position = epoch * len(self)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loop stands, plain values; whatever workers have read ahead does not count."""
        return {"position": self.position, "settings": self._settings()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises
        ------
        BadInput
            The state is of other members, sizes, plan, seed or number of processes.
        """
        mine = self._settings()
        other = [name for name, value in mine.items() if state["settings"].get(name) != value]
        if other:
            raise BadInput(
                f"the state is of another loader: {', '.join(other)} differ; make the loader as it was made then"
            )
        self.position = int(state["position"])

    def _settings(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "members": digest(
                {name: self.samples.ids.gather(one.places).to_list() for name, one in plan.streams.items()}
            ),
            "sizes": {name: one.size for name, one in plan.streams.items()},
            "plan": plan.plan, "seed": plan.seed, "processes": plan.world, "steps": plan.steps,
        }  # fmt: skip


class Samples(torch_data.Dataset[dict[str, dict[str, Any]]]):
    """Chosen samples; an index is a step (a dict of places by set), an item its collated batches."""

    def __init__(
        self,
        pairs: Any,
        taken: taking.Taken,
        classes: Sequence[str],
        transform: Callable[[Any], Any] | None,
        collate: Callable[[list[Any]], Any] | None,
    ) -> None:
        self.pairs, self.ids = pairs, taken.ids
        self.rows = torch.from_numpy(np.array(taken.rows, dtype=np.int64))
        self.weights = torch.from_numpy(taken.weights.to_numpy().astype(np.float32))
        self.numbers = {name: at for at, name in enumerate(classes)}
        self.transform, self.collate = transform, collate

    def __getitem__(self, step: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
        return {name: self._batch(name, places) for name, places in step.items()}

    def _batch(self, name: str, places: np.ndarray) -> dict[str, Any]:
        pairs = [self.pairs[int(place)] for place in places]
        inputs = [pair[0] if self.transform is None else self.transform(pair[0]) for pair in pairs]
        labels = [self._number(label) for _, label in pairs]
        at = torch.from_numpy(np.asarray(places))
        return {
            "inputs": self._together(name, inputs),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "weights": self.weights[at],
            "sample_ids": self.ids.gather(places).to_list(),
            "rows": self.rows[at],
        }

    def _number(self, label: Any) -> int:
        if isinstance(label, str):
            if label not in self.numbers:
                raise BadInput(f"label '{label}' is none of the data's classes, so it has no number")
            return self.numbers[label]
        try:
            return operator.index(label)
        except TypeError as error:
            raise BadInput(f"label {label!r} is no whole number and no name of a class") from error

    def _together(self, name: str, inputs: list[Any]) -> Any:
        if self.collate is not None:
            return self.collate(inputs)
        # A decoded image is read-only, which torch warns of.
        inputs = [
            one.copy() if isinstance(one, np.ndarray) and not one.flags.writeable else one for one in inputs
        ]
        try:
            return torch_data.default_collate(inputs)
        except (TypeError, RuntimeError) as error:
            raise BadInput(
                f"the inputs of a {name} batch ({type(inputs[0]).__name__}) do not go into one tensor "
                f"({str(error).splitlines()[0]}): pass transform=, one input to one tensor, or collate=, a list of "
                "inputs to a batch"
            ) from error


def paired_loader(
    source: Any,
    opened: Dataset,
    taken: taking.Taken,
    roles: pl.Series,
    sets: Mapping[str, Batch],
    *,
    plan: str,
    modules: pl.DataFrame | str | None,
    seed: int,
    workers: int,
    transform: Callable[[Any], Any] | None,
    collate: Callable[[list[Any]], Any] | None,
) -> PairedLoader:
    """Return the loader over chosen samples; `tracesift.pipelines.subset.Subset.loaders` says what everything means.

    Parameters
    ----------
    source, opened
        What the user named, and the same opened.
    taken, roles
        The members of all sets by ascending id, (n,), and the role of each.
    sets
        What each step takes.

    Raises
    ------
    BadInput
        A set without members, a role in two sets, or what `BatchPlan` and `Samples` refuse.
    """
    asked = [role for batch in sets.values() for role in batch.roles]
    if len(set(asked)) < len(asked):
        twice = next(role for role in asked if asked.count(role) > 1)
        raise BadInput(f"role '{twice}' is asked for twice; a sample belongs to one set")
    streams = {
        name: Stream(
            places=np.flatnonzero(roles.is_in(list(batch.roles)).to_numpy()).astype(np.int64), size=batch.size
        )
        for name, batch in sets.items()
    }
    for name, stream in streams.items():
        if not len(stream.places):
            raise BadInput(
                f"the manifest has no member with role {' or '.join(sets[name].roles)}, which {name}= asks for: "
                "it must be a forget-ready subset (`tracesift forget`), or name other roles with Batch(size, roles)"
            )
    world = dist.get_world_size() if gather.distributed() else 1
    held = _modules(modules, opened, taken) if plan == "melu" else None if modules is None else {}
    batch_plan = BatchPlan(streams, plan=plan, seed=seed, world=world, modules=held)
    samples = Samples(_pairs(source, opened, taken), taken, opened.classes, transform, collate)
    return PairedLoader(samples, batch_plan, workers=workers)


def _modules(
    modules: pl.DataFrame | str | None, opened: Dataset, taken: taking.Taken
) -> dict[int, list[Any]] | None:
    """Return the modules of each place that has any, or None where nothing says them."""
    if modules is None:
        if "group" not in opened.samples:
            return None
        modules = "group"
    if isinstance(modules, str):
        if modules not in opened.samples.columns:
            raise BadInput(
                f"modules='{modules}': no such column; there are {', '.join(opened.samples.columns)}"
            )
        modules = opened.samples.select("sample_id", pl.col(modules).alias("module"))
    missing = {"sample_id", "module"} - set(modules.columns)
    if missing:
        raise BadInput(
            f"modules: the frame lacks the column {sorted(missing)[0]}; it holds sample_id and module"
        )
    places = pl.DataFrame({"sample_id": taken.ids, "place": np.arange(len(taken.ids))})
    pairs = modules.select(pl.col("sample_id").cast(pl.String), "module").drop_nulls().unique()
    held: dict[int, list[Any]] = {}
    for place, module in (
        places.join(pairs, on="sample_id").select("place", "module").sort("place").iter_rows()
    ):
        held.setdefault(place, []).append(module)
    return held


def _pairs(source: Any, opened: Dataset, taken: taking.Taken) -> Any:
    """Return the chosen samples as a sequence of (input, label)."""
    if taking.is_torch(source):
        return taking.torch_subset(source, opened, taken, seed=0)[0]
    if type(source).__module__.split(".")[0] == "datasets":
        chosen = taking.contiguous(source, opened, taken)
        return _Rows(chosen, _labels_of(chosen, opened, taken))
    return _Inputs(opened, taken.rows, taken.labels.to_list())


def _labels_of(chosen: datasets.Dataset, opened: Dataset, taken: taking.Taken) -> list[Any]:
    """Return labels as the source numbers them; a source that has them in words gives words."""
    import datasets

    column = str(opened.options.get("label"))
    feature = chosen.features.get(column)
    kind = str(getattr(feature, "dtype", ""))
    numbered = isinstance(feature, datasets.ClassLabel) or kind.startswith(("int", "uint"))
    return list(chosen.with_format(None)[column]) if numbered else taken.labels.to_list()


class _Rows:
    """Rows of a `datasets.Dataset` as it gives them, without the columns that are ours."""

    def __init__(self, chosen: datasets.Dataset, labels: list[Any]) -> None:
        self.chosen, self.labels = chosen, labels

    def __getitem__(self, place: int) -> tuple[dict[str, Any], Any]:
        row = self.chosen[place]
        return {name: value for name, value in row.items() if name not in taking.OURS}, self.labels[place]


class _Inputs:
    """Inputs of an opened dataset: a uint8 array (H, W, C), a text, a vector, or a dict of features."""

    def __init__(self, opened: Dataset, rows: np.ndarray, labels: list[str]) -> None:
        self.inputs, self.rows, self.labels = opened.inputs, rows, labels

    def __getitem__(self, place: int) -> tuple[Any, str]:
        row, inputs = int(self.rows[place]), self.inputs
        item = inputs.row(row, named=True) if isinstance(inputs, pl.DataFrame) else inputs[row]
        return item, self.labels[place]


class _Shares(torch_data.Sampler[dict[str, np.ndarray]]):
    """What this process shows of each coming step, (epoch, step in it)."""

    def __init__(self, plan: BatchPlan) -> None:
        self.plan = plan
        self.coming: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        rank = gather.rank()
        for epoch, step in self.coming:
            batches = self.plan.batches(epoch, step)
            yield {name: places[rank :: self.plan.world] for name, places in batches.items()}

    def __len__(self) -> int:
        return len(self.coming)


def _as_it_is(item: Any) -> Any:
    return item


def _start_method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
