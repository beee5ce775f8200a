"""Bringing together what the processes of a distributed training (torchrun) recorded, epoch by epoch.

Each process presents its share of the samples. A sample belongs to the process that presented it first; the
order is the sampler's own, position times world size plus rank. Samplers pad the last batch with samples that
were already shown so that every process takes the same number of steps; that padding is dropped, not counted
as a second presentation. Without `torch.distributed` everything here is the identity.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

NEVER = 1 << 62
"""The claim of a sample that was not presented; larger than any order."""


def distributed() -> bool:
    """Return whether several processes record together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Return this process's rank; 0 writes the files."""
    return dist.get_rank() if distributed() else 0


def wait() -> None:
    """Let no process run ahead of the files."""
    if distributed():
        dist.barrier()


def merge(
    claims: Tensor, table: Tensor, counters: Tensor, presentations_row: int, largest_batch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return claims (N+1,), table (F, N+1) and counters of all processes as one.

    Parameters
    ----------
    claims
        When each sample was first presented in this process, `NEVER` where it was not; int64.
    table
        Recorded 32-bit words; the last slot is spare.
    counters
        Sums of what went wrong; the second holds a maximum.
    presentations_row
        The row of `table` that counts presentations.
    largest_batch
        Of this process; bounds the padding.
    """
    if not distributed():
        return claims, table, counters
    tables, sums = _all(table), _all(counters)
    first, owner = _all(_global_order(claims)).min(0)  # (N+1,)
    merged = tables.gather(0, owner.expand(1, *table.shape))[0]
    presentations = tables[:, presentations_row].sum(0, dtype=torch.int32)
    shown = presentations[:-1]
    extra = shown.sum() - (shown > 0).sum()
    largest = _all(torch.tensor([largest_batch], device=claims.device)).max()
    padding = (shown > 0).all() & (extra < dist.get_world_size() * largest)
    merged[presentations_row] = torch.where(padding, presentations.clamp(max=1), presentations)
    totals = sums.sum(0, dtype=torch.int32)
    totals[1] = sums[:, 1].max()
    return first, merged, totals


def share(span: Tensor, claims: Tensor, merged: Tensor) -> None:
    """Give every process the rows (N+1, K) of the process that presented each sample first, in place."""
    if not distributed():
        return
    mine = _global_order(claims) == merged
    if rank() != 0:
        mine &= merged != NEVER  # rows that nobody presented are equal everywhere; one process brings them
    span.masked_fill_(~mine[:, None], 0.0)
    dist.all_reduce(span)


def _global_order(claims: Tensor) -> Tensor:
    return torch.where(claims == NEVER, claims, claims * dist.get_world_size() + dist.get_rank())


def _all(value: Tensor) -> Tensor:
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value.contiguous())
    return torch.stack(parts)
