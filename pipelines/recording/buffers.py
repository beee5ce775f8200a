"""The device side of a recorder: one table of an epoch's scalars over samples, filled by scatter.

Nothing here waits for the device until `collect`, which makes the epoch's one copy to the host. All columns
are rows of a single table of 32-bit words, viewed as floats where they are floats. Each has one spare slot at
the end that takes what belongs nowhere (a second presentation, a row outside train) and is thrown away, so
that no batch needs a data-dependent shape.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from tracesift.catalog.schema import FIELD_DTYPES
from tracesift.pipelines.recording import gather
from tracesift.pipelines.recording.gather import NEVER
from tracesift.pipelines.recording.record_on_cpu import BatchLoop
from tracesift.pipelines.recording.scalars import scalars

ELR_BETA = 0.7
"""Decay of the temporal-ensemble target (Liu et al. 2020, CIFAR-10 with symmetric noise)."""

COUNTERS = ("outside", "last_outside", "label_outside", "relabelled")
_NO_ROW = -(2**31) + 1
BOOKKEEPING = ("presentations", "nonfinite", "num_tokens")


class Buffers:
    """One epoch's scalars of N training samples, and what spans epochs: last probabilities, ELR target.

    Parameters
    ----------
    rows
        The training samples' rows in the dataset, ascending, (N,) int64.
    dataset_size
        Rows of the dataset over all splits.
    labels
        The dataset's labels of the training samples, (N,) int64.
    fields
        Scalars to keep.
    spans
        Out of ``previous`` (for `kl_step`) and ``elr_target``: the (N, K) arrays to carry over epochs.
    num_classes
        K.
    """

    def __init__(
        self,
        rows: np.ndarray,
        dataset_size: int,
        labels: np.ndarray,
        *,
        fields: Sequence[str],
        spans: Sequence[str],
        num_classes: int,
        device: torch.device,
    ) -> None:
        self.device = device
        self.fields = tuple(fields)
        self.spare = len(rows)
        self._names = (*fields, *BOOKKEEPING)
        self._floats = {name for name in fields if FIELD_DTYPES[name] == pl.Float32()}
        self._table = torch.zeros((len(self._names), self.spare + 1), dtype=torch.int32, device=device)
        self._columns = {
            name: row.view(torch.float32) if name in self._floats else row
            for name, row in zip(self._names, self._table, strict=True)
        }
        self._labels = torch.from_numpy(np.append(labels, -1)).to(device)
        lookup = np.full(dataset_size, -1, dtype=np.int64)
        lookup[rows] = np.arange(len(rows))
        self._lookup = torch.from_numpy(lookup).to(device)
        self._claims = torch.empty(self.spare + 1, dtype=torch.int64, device=device)
        self._latest = torch.empty(self.spare + 1, dtype=torch.int64, device=device)
        self._counters = torch.zeros(len(COUNTERS), dtype=torch.int32, device=device)
        starts = {"previous": float("nan"), "elr_target": 0.0}
        self.spans = {
            name: torch.full((self.spare + 1, num_classes), starts[name], device=device) for name in spans
        }
        self.reset()
        self.loop: BatchLoop | None = None
        if device.type == "cpu":
            self.loop = BatchLoop(
                self._table, self._names, lookup=self._lookup, labels=self._labels, claims=self._claims,
                latest=self._latest, counters=self._counters, spans=self.spans, beta=ELR_BETA,
            )  # fmt: skip

    def reset(self) -> None:
        """Forget the epoch; what spans epochs stays."""
        self._table.zero_()
        self._counters.zero_()
        self._counters[COUNTERS.index("last_outside")] = _NO_ROW
        self._claims.fill_(NEVER)
        self._latest.fill_(-1)
        self.presented = 0
        self._largest_batch = 0

    def add(self, rows: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Scatter one batch: rows (B,) int64, logits (B, K), labels (B,) integers."""
        if not (self.loop is not None and rows.is_cpu and logits.is_cpu and labels.is_cpu):
            parts = (rows, logits.detach(), labels)
            rows, logits, labels = (part.to(self.device, non_blocking=True) for part in parts)
        if self.loop is not None:
            self.loop.add(rows, logits, labels, self.presented)
            self._presented(rows.shape[0])
            return
        positions, target, latest = self._place(rows)
        self._count("label_outside", (labels < 0) | (labels >= logits.shape[1]))
        self._count("relabelled", (positions < self.spare) & (labels != self._labels[positions]))
        labels = labels.long().clamp(0, logits.shape[1] - 1)
        previous = self.spans["previous"][positions] if "previous" in self.spans else None
        for name, values in scalars(logits, labels, self.fields, previous=previous).items():
            self._write(name, target, values)
        self._write("nonfinite", target, ~logits.isfinite().all(1))
        if self.spans:
            self._follow(logits.float().softmax(1), positions, target, latest)

    def add_loss(self, rows: Tensor, loss: Tensor, num_tokens: Tensor | None) -> None:
        """Scatter one batch of losses (B,), with the number of tokens behind each."""
        _, target, _ = self._place(rows.to(self.device, non_blocking=True))
        loss = loss.to(self.device).float()
        self._write("loss", target, loss)
        self._write("nonfinite", target, ~loss.isfinite())
        if num_tokens is not None:
            self._write("num_tokens", target, num_tokens.to(self.device))

    def collect(self) -> tuple[dict[str, np.ndarray], dict[str, int]]:
        """Return the epoch's columns (N,) with ``seen``, and the counters, of all processes together."""
        claims, table, counters = gather.merge(
            self._claims, self._table, self._counters, self._names.index("presentations"), self._largest_batch
        )
        for name, span in self.spans.items():
            gather.share(span, self._claims, claims)
            if name == "previous":  # a sample missed now has no previous epoch at the next
                span.masked_fill_((claims == NEVER)[:, None], float("nan"))
        host = torch.cat([table.flatten(), counters]).cpu().numpy()
        words = host[: table.numel()].reshape(table.shape)[:, : self.spare]
        counts = dict(zip(COUNTERS, host[table.numel() :].tolist(), strict=True))
        return self._as_columns(dict(zip(self._names, words, strict=True))), counts

    def _as_columns(self, words: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen = words["presentations"] > 0
        columns = {"seen": seen, **words}
        for name in self.fields:
            if name in self._floats:
                columns[name] = np.where(seen, words[name].view(np.float32), np.float32("nan"))
            else:
                columns[name] = words[name].astype(bool) & seen if name == "correct" else words[name]
        if "pred" in columns:
            columns["pred"] = np.where(seen, columns["pred"], -1)
        return columns

    def _write(self, name: str, target: Tensor, values: Tensor) -> None:
        self._columns[name].index_copy_(0, target, values.to(self._columns[name].dtype))

    def _count(self, name: str, what: Tensor) -> None:
        self._counters[COUNTERS.index(name)] += what.sum()

    def _presented(self, size: int) -> None:
        self.presented += size
        if size > self._largest_batch:
            self._largest_batch = size

    def _place(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return each sample's position; the slot to write to, the spare one unless it is seen first now; and
        whether it is the last of its sample in this batch.
        """
        positions = self._lookup[rows.clamp(0, len(self._lookup) - 1)]
        outside = (rows < 0) | (rows >= len(self._lookup)) | (positions < 0)
        positions = torch.where(outside, self.spare, positions)
        self._count("outside", outside)
        last = torch.where(outside, rows.clamp(1 + _NO_ROW, -_NO_ROW), _NO_ROW).amax().to(torch.int32)
        self._counters[1] = torch.maximum(self._counters[1], last)
        order = self.presented + torch.arange(len(rows), device=self.device)
        self._claims.scatter_reduce_(0, positions, order, "amin")
        self._latest.scatter_reduce_(0, positions, order, "amax")
        self._columns["presentations"].index_add_(0, positions, torch.ones_like(positions, dtype=torch.int32))
        self._presented(len(rows))
        target = torch.where(self._claims[positions] == order, positions, self.spare)
        return positions, target, self._latest[positions] == order

    def _follow(self, probs: Tensor, positions: Tensor, target: Tensor, latest: Tensor) -> None:
        """Carry the last probabilities, and t <- beta t + (1 - beta) p / sum p with p clipped first."""
        if "previous" in self.spans:
            self.spans["previous"].index_copy_(0, target, probs)
        if "elr_target" in self.spans:
            span = self.spans["elr_target"]
            clipped = probs.clamp(1e-4, 1 - 1e-4)
            moved = ELR_BETA * span[positions] + (1 - ELR_BETA) * clipped / clipped.sum(1, keepdim=True)
            span.index_copy_(0, torch.where(latest, positions, self.spare), moved)
