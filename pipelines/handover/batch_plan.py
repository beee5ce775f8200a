"""Which samples each step of an unlearning loop sees: nothing but sets, sizes, seed and position decide.

A set is gone through in passes. Each pass is in an order of its own, drawn from the seed, and is cut into batches that
differ in size by one at most, so no batch holds a sample twice and no sample is left out of a pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tracesift.catalog.schema import BadInput, UnknownName, nearest
from tracesift.pipelines.determinism import generator

PLANS = ("paired", "cyclic", "melu")

_ORDER, _DEAL, _MODULES = 0, 1, 2  # independent draws


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A set that each step takes a batch of: its places (n,) int64 by ascending id, and samples per process."""

    places: np.ndarray
    size: int


class BatchPlan:
    """The batches of every step.

    Parameters
    ----------
    streams
        Set by name; ``"forget"`` is one of them.
    plan
        What an epoch is.

        ``"paired"``: the forget set once. A batch of each other set stands beside each of its batches; their passes go
        on from epoch to epoch, so that after enough epochs every sample was there as often as any other.

        ``"cyclic"``: the set with the most batches once; shorter ones are gone through again, each pass in another
        order.

        ``"melu"``: module by module, in an order of its own each epoch; within a module as ``"cyclic"``, and no batch
        holds samples of two.
    seed
        With epoch and step, decides everything.
    world
        Processes that share each step.
    modules
        For ``"melu"``: module of each place that has one, name by place; a place may be in several.

    Raises
    ------
    UnknownName
        There is no such plan.
    BadInput
        A set is empty or too small for so many processes, a batch is below 1, or modules do not fit the plan.

    Notes
    -----
    Of the published modular sampling the abstract alone was at hand, so this much is ours: samples that belong to no
    module with something to forget (general knowledge) are dealt out evenly over the modules, anew each epoch; a module
    for which a set holds nothing, neither its own nor dealt out, draws from all of that set.

    References
    ----------
    Bushipaka, Passaro, Cucinotta, Standard vs. modular sampling: best practices for reliable LLM unlearning, WIPE-OUT
    at ECML PKDD 2025.

    Examples
    --------
    >>> sets = {
    ...     "forget": Stream(places=np.arange(3), size=2),
    ...     "retain": Stream(places=np.arange(3, 13), size=2),
    ... }
    >>> BatchPlan(sets, plan="paired", seed=0).steps, BatchPlan(sets, plan="cyclic", seed=0).steps
    (2, 5)
    >>> plan = BatchPlan(sets, plan="cyclic", seed=0)
    >>> sorted(int(place) for step in range(5) for place in plan.batches(0, step)["retain"])
    [3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        *,
        plan: str,
        seed: int,
        world: int = 1,
        modules: Mapping[int, Sequence[Any]] | None = None,
    ) -> None:
        if plan not in PLANS:
            raise UnknownName(f"no plan '{plan}'{nearest(plan, PLANS)}; there are {', '.join(PLANS)}")
        if (plan == "melu") != (modules is not None):
            raise BadInput(
                "plan='melu' goes module by module: pass modules=, a frame of sample_id and module, or the name of "
                "a column of the data" if plan == "melu" else f"modules= are for plan='melu', not for '{plan}'"
            )  # fmt: skip
        self.streams, self.plan, self.seed, self.world = dict(streams), plan, seed, world
        self._pools: tuple[tuple[int, int], dict[str, np.ndarray]] = ((-1, -1), {})
        self._orders: dict[str, tuple[tuple[int, ...], np.ndarray]] = {}
        for name, stream in self.streams.items():
            if isinstance(stream.size, bool) or not isinstance(stream.size, int) or stream.size < 1:
                raise BadInput(f"{name}={stream.size!r}: a batch holds at least 1 sample")
            self._count(name, len(stream.places), f"the {name} set")
        if modules is None:
            counts = {name: self._count(name, len(one.places), name) for name, one in self.streams.items()}
            self.steps = counts["forget"] if plan == "paired" else max(counts.values())
        else:
            self._split(modules)
            self.steps = sum(self._lengths)

    def batches(self, epoch: int, step: int) -> dict[str, np.ndarray]:
        """Return the places of one step by set, of all processes together; process r shows ``[r::world]``."""
        if self.plan == "melu":
            return self._of_module(epoch, step)
        at = epoch * self.steps + step
        return {name: self._batch(name, stream.places, at, ()) for name, stream in self.streams.items()}

    def _count(self, name: str, samples: int, called: str) -> int:
        """Return the batches of one pass over so many samples: at least one sample for each process in each."""
        if samples < self.world:
            why = "holds no sample" if not samples else f"holds {samples} samples for {self.world} processes"
            raise BadInput(f"{called} {why}: see the manifest's counts")
        return min(math.ceil(samples / (self.streams[name].size * self.world)), samples // self.world)

    def _batch(self, name: str, places: np.ndarray, at: int, parts: tuple[int, ...]) -> np.ndarray:
        """Return batch `at` of endless passes over `places`."""
        count = self._count(name, len(places), name)
        passed, at = divmod(at, count)
        stream = list(self.streams).index(name)
        return _part(self._order(name, places, (_ORDER, stream, *parts, passed)), count, at)

    def _order(self, name: str, places: np.ndarray, parts: tuple[int, ...]) -> np.ndarray:
        """Return the places in the order of one pass; the last one of each set is kept."""
        known = self._orders.get(name)
        if known is None or known[0] != parts:
            self._orders[name] = known = (parts, self._shuffled(places, *parts))
        return known[1]

    def _shuffled(self, places: np.ndarray, *parts: int) -> np.ndarray:
        order = torch.randperm(len(places), generator=generator(self.seed, *parts))
        shuffled: np.ndarray = places[order.numpy()]
        return shuffled

    def _split(self, modules: Mapping[int, Sequence[Any]]) -> None:
        """Divide every set into what belongs to each module, and the rest, which is dealt out."""
        forget = self.streams["forget"].places.tolist()
        without = [place for place in forget if len(modules.get(place, ())) != 1]
        if without:
            raise BadInput(
                f"plan='melu': not in exactly one module: {len(without)} of {len(forget)} samples to forget"
            )
        self.modules = sorted({modules[place][0] for place in forget}, key=str)
        number = {name: at for at, name in enumerate(self.modules)}
        self._own: list[dict[str, np.ndarray]] = [{} for _ in self.modules]
        self._general: dict[str, np.ndarray] = {}
        for name, stream in self.streams.items():
            held: list[list[int]] = [[] for _ in self.modules]
            rest = []
            for place in stream.places.tolist():
                mine = {number[module] for module in modules.get(place, ()) if module in number}
                for module in mine:
                    held[module].append(place)
                if not mine:
                    rest.append(place)
            for module, places in enumerate(held):
                self._own[module][name] = np.array(places, dtype=np.int64)
            self._general[name] = np.array(rest, dtype=np.int64)
        self._lengths = [self._length(module) for module in range(len(self.modules))]

    def _length(self, module: int) -> int:
        """Return the steps of a module: as many as its longest set has batches, the same in every epoch."""
        sizes = {
            name: len(own) + len(_part(self._general[name], len(self.modules), module))
            for name, own in self._own[module].items()
        }
        return max(
            self._count(name, size, f"module '{self.modules[module]}' of the {name} set")
            for name, size in sizes.items()
            if size
        )

    def _of_module(self, epoch: int, step: int) -> dict[str, np.ndarray]:
        order = self._shuffled(np.arange(len(self.modules)), _MODULES, epoch).tolist()
        for module in order:
            if step < self._lengths[module]:
                break
            step -= self._lengths[module]
        if self._pools[0] != (epoch, module):
            self._pools = ((epoch, module), self._pooled(epoch, module))
        return {
            name: self._batch(name, places, step, (epoch, module + 1))
            for name, places in self._pools[1].items()
        }

    def _pooled(self, epoch: int, module: int) -> dict[str, np.ndarray]:
        """Return what each set gives to a module in an epoch, by ascending id."""
        pools = {}
        for at, (name, stream) in enumerate(self.streams.items()):
            dealt = self._shuffled(self._general[name], _DEAL, at, epoch)
            both = np.concatenate([self._own[module][name], _part(dealt, len(self.modules), module)])
            pools[name] = np.sort(both) if len(both) else stream.places
        return pools


def _part(places: np.ndarray, count: int, at: int) -> np.ndarray:
    """Return part `at` of `count` parts that differ in size by one at most, the larger ones first."""
    size, longer = divmod(len(places), count)
    start = at * size + min(at, longer)
    return places[start : start + size + (at < longer)]
