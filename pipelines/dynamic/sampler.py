"""What samplers that prune while training have in common: epochs, losses, processes, and going on after a stop.

    sampler = InfoBatch(data, epochs=10)                       # or SeTa
    for epoch in range(10):
        for rows, x, y in DataLoader(data, batch_size=64, sampler=sampler):
            losses = cross_entropy(model(x), y, reduction="none")
            sampler.update(rows, losses).backward()            # once for every batch, in the loader's order

The position in an epoch is what `update` has seen, never what a loader has fetched ahead. Nothing of torch is
replaced, and no generator of the caller is drawn from or seeded.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from tracesift.catalog.parameter_types import checked_params
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.recording import gather
from tracesift.pipelines.rows import RowDataset, WithRows

FIRST_LOSS = 3.0
"""The loss of a sample that was never shown, as in the published code."""

_ORDER, _CHOICE = 0, 1  # independent draws: in one, what is kept of a group would come early in the epoch


@dataclass
class _Epoch:
    """The epoch under way; positions count the samples of all processes together."""

    order: Tensor
    """Places of the samples that are shown, (n,) int64."""
    weights: Tensor
    """Factor of each sample's loss by place, (N,) float64."""
    start: int = 0
    """Where the iteration under way began."""
    position: int = 0
    """How far `update` has come."""
    largest: int = 0
    """The largest batch."""
    drawn: bool = False
    """Whether it was iterated to its end in this process."""

    def end(self, world: int) -> int:
        """Return where the last step ends that gives each of `world` processes as many samples."""
        return self.position + math.ceil((len(self.order) - self.position) / world) * world

    def places(self, positions: Tensor) -> Tensor:
        """Return the places at these positions; behind the last come the first once more."""
        return self.order[positions % len(self.order)]


class PruningSampler(Sampler[int]):
    """Show a part of the samples in each epoch, chosen by their last losses.

    Iterating yields places in the data, as every sampler does; `update` takes the rows that came with the
    batch. An epoch ends when `update` has seen all of its samples: iterating before that goes on with what is
    left of it. In several processes (`torch.distributed`), each iterates its own share of the same epoch, and
    all hold the same losses.

    Parameters
    ----------
    data
        What the loader reads: `RowDataset` or `WithRows`, whose rows come with the batches; or any dataset, or its
        number of samples N, where a sample's row is its place in 0..N-1 and `pipelines.dynamic.indexed.Indexed`
        adds it to the batches.
    epochs
        Epochs of the whole training, at least 1.
    delta
        Share of the epochs before the annealing, in [0, 1]: epoch e, from 0, anneals when e >= delta * epochs.
    seed
        With the epoch, decides every draw.
    drop_last
        As passed to the loader: whether the rest of an epoch that fills no batch is left out.
    settings
        What else must be the same for a training to be gone on with: arguments of the method's own, by name.

    Raises
    ------
    BadInput
        An argument is of another type than its annotation, or out of its range.
    """

    def __init__(
        self,
        data: Sized | int,
        *,
        epochs: int,
        delta: float,
        seed: int,
        drop_last: bool,
        settings: Mapping[str, Any],
    ) -> None:
        name, function = type(self).__name__, type(self).__init__
        if not isinstance(data, Sized):
            data = checked_params(name, function, {"data": data})["data"]
        given = {"epochs": epochs, "delta": delta, "seed": seed, "drop_last": drop_last, **settings}
        given = checked_params(name, function, given)
        epochs, delta = given["epochs"], given["delta"]
        size = data if isinstance(data, int) else len(data)
        if size < 1 or epochs < 1:
            raise BadInput(f"{size} samples and epochs={epochs}: at least one of each is needed")
        if not 0 <= delta <= 1:
            raise BadInput(f"delta={delta} must be the share of the epochs before the annealing, 0 to 1")
        self.num_samples = size
        self.settings = {"method": name, "num_samples": size, **given}
        self.epoch = 0
        """The epoch under way, or the next: as many are through."""
        self.shown = 0
        """Samples that were shown so far, in all processes; ``1 - shown / (epochs * N)`` is what was saved."""
        rows = data.rows if isinstance(data, (RowDataset, WithRows)) else np.arange(size)
        self._rows = torch.from_numpy(np.array(rows, dtype=np.int64))  # (N,), by place
        self._losses = torch.full((size,), FIRST_LOSS, dtype=torch.float64)
        self._strangers = torch.zeros((), dtype=torch.int64)  # rows of update() that were not the next ones
        self._now: _Epoch | None = None

    @abstractmethod
    def weights(self, losses: np.ndarray, shuffled: np.ndarray) -> np.ndarray:
        """Return each sample's weight in the loss of epoch `self.epoch` (N,), 0 where it is not shown.

        Parameters
        ----------
        losses
            The last loss of each sample (N,), float64, `FIRST_LOSS` where it was never shown.
        shuffled
            All places 0..N-1 in a random order, the only source of chance.
        """

    @property
    def annealing(self) -> bool:
        """Whether the epoch under way, or the next, is one of the last ``1 - delta``."""
        return self.epoch >= Fraction(str(self.settings["delta"])) * self.settings["epochs"]

    @property
    def losses(self) -> np.ndarray:
        """The last loss of each sample by place, (N,) float64; waits for the device."""
        return self._losses.to("cpu", copy=True).numpy()

    def __len__(self) -> int:
        """Return how many samples the iteration shows in this process."""
        now, world = self._now or self._begin(), _world()
        return (now.end(world) - now.start) // world

    def __iter__(self) -> Iterator[int]:
        """Yield this process's places of what is left of the epoch under way, or of the next epoch."""
        now = self._now or self._begin()
        if now.drawn:
            raise BadInput(
                f"epoch {self.epoch} was iterated to its end, but update() saw {now.position} of its "
                f"{len(now.order)} samples: call it once for every batch; pass drop_last=True here too if the "
                f"loader drops the last batch; after leaving a loop early, set_epoch({self.epoch}) goes on, "
                f"set_epoch({self.epoch + 1}) leaves the epoch"
            )
        now.start = now.position
        yield from self._share(now).tolist()
        now.drawn = True

    def set_epoch(self, epoch: int) -> None:
        """Begin another epoch, for loops that leave epochs early; the one under way goes on behind `update`."""
        if epoch < 0:
            raise BadInput(f"set_epoch({epoch}): epochs count from 0")
        if epoch != self.epoch:
            self.epoch, self._now = epoch, None
        elif self._now is not None:
            self._now.drawn = False

    def update(self, rows: Tensor, loss: Tensor) -> Tensor:
        """Keep the losses of a batch and return the one to backpropagate, without waiting for a GPU.

        Parameters
        ----------
        rows
            (B,) int64, as they came with the batch.
        loss
            (B,) one loss per sample, not reduced; it is not changed.

        Returns
        -------
        Tensor
            Scalar: the sum of weight times loss over the batch, divided by B. Samples that only fill up the last step
            of several processes weigh nothing, and their losses are not kept.

        Raises
        ------
        BadInput
            For other shapes, before the first iteration, and for rows that are not the next of this epoch and losses
            that are not finite. The last two are looked for at once where the losses are on the CPU; on a GPU, which
            is not waited for, they are found when the next epoch begins, and those of the last epoch are not (rows
            also by `state_dict`).
        """
        now, world = self._now, _world()
        _check_batch(rows, loss)
        if now is None:
            raise BadInput("update() before iterating the sampler: the rows must be the ones it drew")
        start, stop = now.position, now.position + len(loss) * world
        if stop > now.end(world):
            raise BadInput(
                f"update(): a batch of {len(loss)} is more than what is left of epoch {self.epoch}, which had come "
                f"to {start} of its {len(now.order)} samples; call it once for every batch"
            )
        # float64 is not to be had on every accelerator: elsewhere than on CUDA the losses are kept on the host.
        self._to(loss.device if loss.device.type == "cuda" else torch.device("cpu"))
        there = self._losses.device
        shown, losses = _all(rows.to(there, non_blocking=True), loss.detach().to(there).double())
        places = now.places(torch.arange(start, stop, device=there))
        self._strangers += (shown != self._rows[places]).sum()
        # None of the samples up to the padding comes twice, so that the order of writing is no matter.
        real = max(0, min(stop, len(now.order)) - start)
        if there.type == "cpu":
            self._refuse_strangers()
            self._refuse_not_finite(losses[:real].numpy(), shown[:real], f"update() in epoch {self.epoch}")
        self._losses[places[:real]] = losses[:real]
        factor = now.weights[places]
        factor[real:] = 0.0
        now.position, now.largest = stop, max(now.largest, len(loss))
        self.shown += real
        left = (now.end(world) - stop) // world
        if left == 0 or (self.settings["drop_last"] and left < now.largest):
            self.epoch, self._now = self.epoch + 1, None
        return (loss * factor[gather.rank() :: world].to(loss)).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed sampler needs, tensors on the CPU and plain values; between any two updates.

        It is the same in every process, whatever the loaders have fetched ahead.
        """
        self._refuse_strangers()
        now = self._now
        return {
            "settings": dict(self.settings),
            "epoch": self.epoch,
            "shown": self.shown,
            "losses": self._losses.to("cpu", copy=True),
            "under_way": now and {
                "order": now.order.to("cpu", copy=True),
                "weights": now.weights.to("cpu", copy=True),
                "position": now.position,
                "largest": now.largest,
            },
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken; the number of processes may have changed.

        Raises
        ------
        BadInput
            When the state is of another method, other settings or another number of samples.
        """
        if state["settings"] != self.settings:
            raise BadInput(f"the state is of {state['settings']}, this sampler has {self.settings}")
        self.epoch, self.shown = state["epoch"], state["shown"]
        self._losses = state["losses"].clone()
        self._rows, self._strangers = self._rows.cpu(), torch.zeros((), dtype=torch.int64)
        kept = state["under_way"]
        self._now = kept and _Epoch(
            kept["order"].clone(),
            kept["weights"].clone(),
            kept["position"],
            kept["position"],
            kept["largest"],
        )

    def _begin(self) -> _Epoch:
        """Choose this epoch's samples, their weights and their order."""
        self._refuse_strangers()
        losses = self.losses
        self._refuse_not_finite(losses, self._rows, f"before epoch {self.epoch}")
        seed = self.settings["seed"]
        shuffled = torch.randperm(self.num_samples, generator=generator(seed, self.epoch, _CHOICE))
        weights = torch.from_numpy(self.weights(losses, shuffled.numpy()))
        order = torch.randperm(self.num_samples, generator=generator(seed, self.epoch, _ORDER))
        there = self._losses.device
        self._now = _Epoch(order[weights[order] > 0].to(there), weights.to(there))
        return self._now

    def _share(self, now: _Epoch) -> Tensor:
        """Return the places that this process shows from where the iteration began."""
        world = _world()
        return now.places(
            torch.arange(now.start + gather.rank(), now.end(world), world, device=now.order.device)
        )

    def _to(self, device: torch.device) -> None:
        self._losses, self._rows = self._losses.to(device), self._rows.to(device)
        self._strangers = self._strangers.to(device)
        if self._now is not None:
            self._now.order, self._now.weights = self._now.order.to(device), self._now.weights.to(device)

    def _refuse_not_finite(self, losses: np.ndarray, rows: Tensor, when: str) -> None:
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            raise BadInput(
                f"{when}: {len(bad)} of {len(losses)} losses are not finite (row {int(rows[bad[0]])} is one); "
                "no sample can be told from the others by such losses"
            )

    def _refuse_strangers(self) -> None:
        count = int(self._strangers)
        if count:
            raise BadInput(
                f"update() saw {count} rows that were not the next ones drawn: pass the rows of each batch, once, in "
                "the order of the loader, and let its dataset be the one that the sampler was made for"
            )


def share_of(count: int, prune_ratio: float) -> int:
    """Return ``int((1 - prune_ratio) * count)`` for the ratio as it is written, not its binary neighbour.

    >>> int((1 - 0.9) * 10), share_of(10, 0.9)
    (0, 1)
    """
    return math.floor((1 - Fraction(str(prune_ratio))) * count)


def check_ratio(prune_ratio: float) -> None:
    """Refuse a share of samples to prune outside [0, 1)."""
    if not 0 <= prune_ratio < 1:
        raise BadInput(f"prune_ratio={prune_ratio} must be a share of the samples, at least 0 and below 1")


def _check_batch(rows: Tensor, loss: Tensor) -> None:
    if loss.ndim != 1 or not loss.is_floating_point() or not len(loss):
        raise BadInput(
            f"loss must be one number per sample, shape (B,), not {loss.dtype} {tuple(loss.shape)}; pass "
            "reduction='none' to the loss function"
        )
    if rows.dtype != torch.int64 or rows.shape != loss.shape:
        raise BadInput(
            f"rows must be int64 of shape {tuple(loss.shape)}, not {rows.dtype} {tuple(rows.shape)}"
        )


def _world() -> int:
    return dist.get_world_size() if gather.distributed() else 1


def _all(rows: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows int64 and losses float64 of all processes in the sampler's order, both (B * processes,).

    One exchange of 64-bit words: no row passes through a floating-point number.
    """
    if not gather.distributed():
        return rows, losses
    words = torch.stack([rows, losses.view(torch.int64)], 1)  # (B, 2)
    parts = [torch.empty_like(words) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, words)
    together = torch.stack(parts, 1).reshape(-1, 2)  # places in the batch first, then processes
    return together[:, 0], together[:, 1].contiguous().view(torch.float64)
