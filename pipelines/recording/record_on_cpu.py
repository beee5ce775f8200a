"""The recorder's work on one batch, as one compiled loop for the CPU.

`tracesift.pipelines.recording.buffers` says it in some forty tensor operations, which is right for a GPU, where they
queue up while the model computes. On a CPU each of them costs more than its arithmetic. Here the same definitions are
one loop over the batch (`tracesift.pipelines.recording.batch_loop`), in float64; a test holds the two against each
other. What remains is the way into the loop, so a batch that is already as the loop reads it is neither copied nor
wrapped: the loop takes the tensors' addresses.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.recording.scalars import KL_EPS


class BatchLoop:
    """Writes batches into the buffers of one epoch after another, where they lie.

    Parameters
    ----------
    table
        One row of 32-bit words per name, (F, N + 1) int32.
    names
        Of the rows.
    lookup
        Dataset row -> position among the training samples, -1 for the others, int64.
    labels
        The dataset's own, (N + 1,) int64.
    claims, latest
        First and last presentation of each sample, (N + 1,) int64.
    counters
        outside, last_outside, label_outside, relabelled; int32.
    spans
        ``previous`` and ``elr_target`` where kept, (N + 1, K) float32.
    beta
        Decay of `elr_target`.
    """

    def __init__(
        self,
        table: Tensor,
        names: tuple[str, ...],
        *,
        lookup: Tensor,
        labels: Tensor,
        claims: Tensor,
        latest: Tensor,
        counters: Tensor,
        spans: dict[str, Tensor],
        beta: float,
    ) -> None:
        self._buffers = (
            table,
            lookup,
            labels,
            claims,
            latest,
            counters,
            spans,
        )  # what is written to stays alive
        self._names, self._beta = names, beta
        self._classes = {span.shape[1] for span in spans.values()}
        self._places: np.ndarray | None = None
        self._address = 0

    def add(self, rows: Tensor, logits: Tensor, labels: Tensor, presented: int) -> None:
        """Write rows (B,) int64, logits (B, K) of any floating type and labels (B,) of any integer type."""
        if self._places is None:
            self._prepare()
        if logits.dtype is not torch.float32 or not logits.is_contiguous():
            logits = logits.detach().float().contiguous()
        if labels.dtype is not torch.int64 or not labels.is_contiguous():
            labels = labels.long().contiguous()
        if not rows.is_contiguous():
            rows = rows.contiguous()
        size, classes = logits.shape
        if self._classes and classes not in self._classes:
            raise BadInput(
                f"logits have {classes} classes, those before had {max(self._classes)}; one recording has one head"
            )
        _compiled()(
            rows.data_ptr(), logits.data_ptr(), labels.data_ptr(), size, classes, presented, self._address,
            self._beta, KL_EPS,
        )  # fmt: skip

    def _prepare(self) -> None:
        """Write down where everything lies, in the order that the loop reads."""
        from tracesift.pipelines.recording.batch_loop import FIELDS

        table, lookup, labels, claims, latest, counters, spans = self._buffers
        rows = [self._names.index(name) if name in self._names else -1 for name in FIELDS]
        carried = [spans[name].data_ptr() if name in spans else 0 for name in ("previous", "elr_target")]
        kinds = (
            (table, torch.int32),
            (counters, torch.int32),
            (lookup, torch.int64),
            (labels, torch.int64),
            (claims, torch.int64),
            (latest, torch.int64),
            *((span, torch.float32) for span in spans.values()),
        )
        assert all(part.dtype == kind and part.is_contiguous() and part.is_cpu for part, kind in kinds)
        lie = [part.data_ptr() for part in (table, lookup, labels, claims, latest, counters)]
        sizes = [len(table), len(lookup), len(claims)]
        self._places = np.array([*rows, *lie, *carried, *sizes], dtype=np.int64)
        self._address = self._places.ctypes.data


@cache
def _compiled() -> Callable[..., None]:
    from tracesift.pipelines.recording.batch_loop import (
        record_batch,  # imports numba, at the first batch alone
    )

    integer, real = ctypes.c_int64, ctypes.c_double
    # PYFUNCTYPE keeps Python's lock: to give it back for some microseconds may mean waiting milliseconds for it.
    prototype = ctypes.PYFUNCTYPE(None, *[integer] * 7, real, real)
    return prototype(record_batch.address)  # type: ignore[arg-type]
