"""What both samplers promise: loaders with workers, stops, strays, other random generators, and several processes."""

import random
import subprocess
import sys
import threading
from typing import get_type_hints

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dynamic.indexed import Indexed
from tracesift.pipelines.dynamic.infobatch import InfoBatch
from tracesift.pipelines.dynamic.sampler import share_of
from tracesift.pipelines.dynamic.seta import SeTa
from tracesift.pipelines.rows import RowDataset

SIZE = 61
MAKERS = {
    "infobatch": lambda **more: InfoBatch(SIZE, epochs=6, seed=5, **more),
    "seta": lambda **more: SeTa(SIZE, epochs=6, groups=4, window_scale=0.5, seed=5, **more),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture(autouse=True)
def _workers_leave_in_peace(monkeypatch):
    """Let forked workers end with exit code 0 where an earlier test ran Prefect in this process.

    Prefect leaves calls for the end of the interpreter that a forked child inherits and that fail there.
    """
    monkeypatch.setattr(threading, "_threading_atexits", [])


def loss_of(rows, epoch):
    """A loss that depends on the sample and the epoch."""
    return ((rows * 37) % 101 + 7 * epoch % 13).float() / 50


def epochs_of(sampler, count, **loader):
    """Train for so many epochs through a loader; return each batch's rows and the loss of each."""
    data = Indexed(TensorDataset(torch.arange(float(SIZE))))
    batches = DataLoader(data, batch_size=8, sampler=sampler, **loader)
    seen = []
    for _ in range(count):
        epoch = sampler.epoch
        for rows, x in batches:
            assert torch.equal(rows, x.long())
            seen.append((epoch, rows.tolist(), sampler.update(rows, loss_of(rows, epoch)).item()))
    return seen


def test_the_same_seed_gives_the_same_training_and_another_seed_another(make):
    one, two = epochs_of(make(), 6), epochs_of(make(), 6)
    assert one == two
    other = InfoBatch(SIZE, epochs=6, seed=6)
    assert epochs_of(other, 1) != epochs_of(InfoBatch(SIZE, epochs=6, seed=5), 1)


def test_workers_that_fetch_ahead_change_nothing(make):
    expected = epochs_of(make(), 4)
    for persistent in (False, True):
        workers = {"num_workers": 2, "prefetch_factor": 4, "persistent_workers": persistent}
        assert epochs_of(make(), 4, **workers) == expected


@pytest.mark.parametrize("stop", [0, 1, 8, 9, 13, 20])
@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_after_any_batch_the_rest_is_the_same(make, stop, workers, tmp_path):
    whole = epochs_of(make(), 5)
    sampler, seen, done = make(), [], False
    data = Indexed(TensorDataset(torch.arange(float(SIZE))))
    while not done:
        epoch = sampler.epoch
        for rows, _ in DataLoader(data, batch_size=8, sampler=sampler, num_workers=workers):
            if len(seen) == stop:
                done = True
                break
            seen.append((epoch, rows.tolist(), sampler.update(rows, loss_of(rows, epoch)).item()))
    torch.save(sampler.state_dict(), tmp_path / "state.pt")
    resumed = make()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert resumed.epoch == sampler.epoch
    assert seen + epochs_of(resumed, 5 - resumed.epoch) == whole
    assert resumed.shown == sum(len(rows) for _, rows, _ in whole)


def test_a_state_is_no_view_of_the_sampler(make):
    sampler = make()
    epochs_of(sampler, 1)
    state = sampler.state_dict()
    before = state["losses"].clone()
    resumed = make()
    resumed.load_state_dict(state)
    epochs_of(resumed, 2)
    epochs_of(sampler, 1)
    assert torch.equal(state["losses"], before)


def test_a_state_of_something_else_is_refused(make):
    state = make().state_dict()
    for other in (InfoBatch(SIZE, epochs=6, seed=6), SeTa(SIZE + 1, epochs=6), make(drop_last=True)):
        with pytest.raises(BadInput, match="the state is of"):
            other.load_state_dict(state)


def test_the_loaders_dropped_last_batch(make):
    sampler = make(drop_last=True)
    for epoch in range(5):
        assert sampler.epoch == epoch
        seen = epochs_of(sampler, 1, drop_last=True)
        assert seen
        assert all(len(rows) == 8 for _, rows, _ in seen)
        resumed = make(drop_last=True)
        resumed.load_state_dict(sampler.state_dict())
        sampler = resumed
    whole = InfoBatch(16, epochs=2, drop_last=True)  # nothing to drop: the last whole batch belongs to it
    for rows in torch.tensor(list(whole)).split(8):
        assert whole.epoch == 0
        whole.update(rows, torch.ones(8))
    assert whole.epoch == 1
    silent = make()
    epochs_of(silent, 1, drop_last=True)
    with pytest.raises(BadInput, match="drop_last=True"):
        epochs_of(silent, 1, drop_last=True)


def test_looking_at_a_batch_and_leaving_an_epoch_early(make):
    sampler = make()
    first = next(iter(sampler))
    assert [next(iter(sampler)) for _ in range(3)] == [first] * 3  # nothing was updated, so nothing moved
    assert sampler.epoch == 0
    order = torch.tensor(list(sampler))
    half = order[:30]
    sampler.update(half, loss_of(half, 0))
    with pytest.raises(BadInput, match=r"set_epoch\(0\) goes on"):
        list(sampler)  # as when workers had fetched the whole epoch
    sampler.set_epoch(0)
    left = list(sampler)
    assert left == order[30:].tolist()
    assert len(sampler) == len(left)
    sampler.set_epoch(2)
    assert sampler.epoch == 2
    rows = torch.tensor(list(sampler))
    assert len(rows) == len(sampler)
    np.testing.assert_allclose(sampler.losses[half.numpy()], loss_of(half, 0).numpy())


def test_rows_that_were_not_drawn_are_refused(make):
    sampler = make()
    rows = torch.tensor(list(sampler))
    with pytest.raises(BadInput, match="8 rows that were not the next"):
        sampler.update(torch.arange(100, 108), torch.ones(8))
    for strangers in (rows[8:16], rows[:8].flip(0)):
        sampler = make()
        list(sampler)
        with pytest.raises(BadInput, match="were not the next"):
            sampler.update(strangers, torch.ones(8))


def test_what_update_does_not_take(make):
    sampler = make()
    with pytest.raises(BadInput, match="before iterating"):
        sampler.update(torch.arange(4), torch.ones(4))
    rows = torch.tensor(list(sampler))
    with pytest.raises(BadInput, match="reduction='none'"):
        sampler.update(rows[:4], torch.tensor(1.0))
    with pytest.raises(BadInput, match="reduction='none'"):
        sampler.update(rows[:4], torch.ones(4, 2))
    with pytest.raises(BadInput, match="rows must be int64"):
        sampler.update(rows[:4].float(), torch.ones(4))
    with pytest.raises(BadInput, match="rows must be int64"):
        sampler.update(rows[:3], torch.ones(4))
    with pytest.raises(BadInput, match="more than what is left"):
        sampler.update(torch.arange(SIZE + 1), torch.ones(SIZE + 1))
    with pytest.raises(BadInput, match="update\\(\\) saw 0 of its"):
        list(sampler)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_losses_that_are_no_numbers_are_named_at_once(make, bad):
    sampler = make()
    rows = torch.tensor(list(sampler))
    losses = torch.ones(len(rows))
    losses[3] = bad
    with pytest.raises(BadInput, match=rf"update\(\) in epoch 0: 1 of {SIZE} losses .*row {rows[3]} is one"):
        sampler.update(rows, losses)
    sampler.update(rows, torch.ones(len(rows)))  # nothing of the refused batch was kept
    assert (sampler.losses == 1).all()
    assert sampler.epoch == 1


@pytest.mark.parametrize("method", [InfoBatch, SeTa])
def test_arguments_of_another_type_are_refused(method, wrong_for):
    hints = get_type_hints(method.__init__)
    for key in hints.keys() - {"return", "data"}:
        for value in wrong_for(hints[key]):
            with pytest.raises(BadInput, match=f"^{method.__name__}: {key}=.* must be "):
                method(SIZE, **{"epochs": 3, key: value})
    for data in (2.5, True, None):
        with pytest.raises(BadInput, match=f"^{method.__name__}: data=.* must be a Sized or a whole number"):
            method(data, epochs=3)


def test_numpy_scalars_are_plain_settings():
    sampler = SeTa(np.int64(SIZE), epochs=np.int32(3), groups=np.int64(4), prune_ratio=np.float32(0.5))
    assert sampler.settings == SeTa(SIZE, epochs=3, groups=4, prune_ratio=0.5).settings
    assert all(type(value) in (str, int, float, bool) for value in sampler.settings.values())


def test_the_callers_generators_and_losses_are_left_alone(make):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1)
    iterator = torch.utils.data.dataloader._BaseDataLoaderIter.__next__
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    sampler = make()
    for _ in range(3):
        rows = torch.tensor(list(sampler))
        losses = loss_of(rows, sampler.epoch)
        kept = losses.clone()
        sampler.update(rows, losses)
        assert torch.equal(losses, kept)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected
    assert torch.utils.data.dataloader._BaseDataLoaderIter.__next__ is iterator


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_returned_loss_keeps_type_and_gradient(dtype):
    sampler = InfoBatch(8, epochs=4, seed=0)
    rows = torch.tensor(list(sampler))
    sampler.update(rows, torch.where(rows < 4, 0.5, 2.0))
    rows = torch.tensor(list(sampler))
    losses = torch.full((6,), 1.5, dtype=dtype, requires_grad=True)
    loss = sampler.update(rows, losses)
    loss.backward()
    assert loss.dtype == dtype
    assert loss.item() == 1.5 * (2 * 2 + 4) / 6
    torch.testing.assert_close(losses.grad, torch.where(rows < 4, 2 / 6, 1 / 6).to(dtype))


def test_rows_of_an_opened_dataset(blobs):
    data = RowDataset(blobs, transform=lambda row: torch.tensor(list(row.values())))
    assert data.rows.tolist() != list(range(len(data)))  # places and rows are two things here
    sampler = InfoBatch(data, epochs=3)
    for _ in range(2):
        for rows, _, _ in DataLoader(data, batch_size=16, sampler=sampler):
            sampler.update(rows, rows.float())
    assert sampler.losses.tolist()[:3] == data.rows[:3].tolist()
    assert sampler.epoch == 2


def test_shares_are_taken_of_the_ratio_as_written():
    for tenths in range(10):
        for count in range(200):
            assert share_of(count, tenths / 10) == (10 - tenths) * count // 10


@pytest.mark.parametrize("more", [{"epochs": 0}, {"epochs": 2, "delta": 1.5}])
def test_impossible_settings(more):
    with pytest.raises(BadInput):
        InfoBatch(10, **more)


@pytest.mark.gpu
def test_on_the_gpu_nothing_waits_and_the_result_is_the_same(make):
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    here, there = make(), make()
    for epoch in range(4):
        for sampler, device in ((here, "cpu"), (there, "cuda")):
            shown = torch.tensor(list(sampler))
            parts = [(rows.to(device), loss_of(rows, epoch).to(device)) for rows in shown.split(8)]
            sampler.update(*parts[0])  # moves the buffers
            try:
                torch.cuda.set_sync_debug_mode("error" if device == "cuda" else "default")
                for rows, losses in parts[1:]:
                    sampler.update(rows, losses)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        np.testing.assert_array_equal(here.losses, there.losses)
    spoiled = make()
    rows = torch.tensor(list(spoiled))
    spoiled.update(rows.cuda(), torch.where(rows == 7, torch.nan, 1.0).cuda())
    with pytest.raises(BadInput, match="before epoch 1: 1 of 61 losses are not finite"):
        list(spoiled)
    list(there)
    there.update(torch.arange(8).cuda() + 100, torch.ones(8).cuda())
    with pytest.raises(BadInput, match="were not the next"):
        there.state_dict()


WORKER = """
import sys
import torch, torch.distributed as dist
from torch.utils.data import DataLoader
from tracesift.pipelines.dynamic.indexed import Indexed
from tracesift.pipelines.dynamic.infobatch import InfoBatch
from tracesift.pipelines.dynamic.seta import SeTa

torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
SIZE = 61

def train(sampler, count, stop=None):
    data, seen = Indexed(torch.arange(float(SIZE))), []
    for _ in range(count):
        epoch = sampler.epoch
        for rows, _ in DataLoader(data, batch_size=5, sampler=sampler):
            if len(seen) == stop:
                return seen
            losses = (rows * 37 % 101 + epoch).double() / 50 + 1 / 3  # all the digits of float64
            seen.append((epoch, rows.tolist(), sampler.update(rows, losses).item()))
    return seen

out = {}
for name, make in {
    "infobatch": lambda: InfoBatch(SIZE, epochs=6, seed=5),
    "seta": lambda: SeTa(SIZE, epochs=6, groups=4, window_scale=0.5, seed=5),
}.items():
    sampler = make()
    seen = train(sampler, 4)
    out[name] = {"seen": seen, "state": sampler.state_dict()}
    half = make()
    before = train(half, 4, stop=9)
    state = half.state_dict() if rank == 0 else None  # no process waits for the others here
    if rank == 0:
        torch.save(state, f"{folder}/{name}-half.pt")
    dist.barrier()
    resumed = make()
    resumed.load_state_dict(torch.load(f"{folder}/{name}-half.pt"))
    after = train(resumed, 4 - resumed.epoch)
    assert before + after == seen
# One batch holds every sample and one of them twice: its second showing weighs nothing and is not kept.
sampler = InfoBatch(3, epochs=4, seed=1)
rows = torch.tensor(list(sampler))
assert len(rows) == len(sampler) == 2
out["padded"] = (rows.tolist(), sampler.update(rows, torch.full((2,), 4.0 + rank)).item(), sampler.losses.tolist())
torch.save(out, f"{folder}/rank{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_share_the_epochs_of_one(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    workers = [
        subprocess.Popen([sys.executable, script, tmp_path, str(rank)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    outcomes = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outcomes
    zero, one = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    for name, make in MAKERS.items():
        assert_same_state(zero[name]["state"], one[name]["state"])
        alone = make()
        for epoch in range(4):
            order = torch.tensor(list(alone))
            alone.update(order, (order * 37 % 101 + epoch).double() / 50 + 1 / 3)
            mine = [
                [row for at, rows, _ in side[name]["seen"] if at == epoch for row in rows]
                for side in (zero, one)
            ]
            padding = len(order) % 2
            together = [row for pair in zip(*mine, strict=True) for row in pair]
            assert together == order.tolist() + order[:padding].tolist()
        assert_same_state(alone.state_dict(), zero[name]["state"])
    (shown, lossed, losses), (other, padded, same) = zero["padded"], one["padded"]
    order = [shown[0], other[0], shown[1]]
    assert (sorted(order), other[1]) == ([0, 1, 2], order[0])
    assert (lossed, padded) == (4.0, 2.5)  # (5 + 0) / 2: the filling weighs nothing
    assert losses == same
    assert [losses[place] for place in order] == [4.0, 5.0, 4.0]


def assert_same_state(one, two):
    assert one.keys() == two.keys()
    assert torch.equal(one["losses"], two["losses"])
    assert {**one, "losses": None} == {**two, "losses": None}
    assert one["under_way"] is None


def test_a_state_goes_to_another_number_of_processes(monkeypatch):
    """What two processes left of an epoch is shown by three: each of the rest once, and as many in each."""
    from tracesift.pipelines.dynamic import sampler as module

    alone = MAKERS["infobatch"]()
    order = list(alone)
    state = alone.state_dict()
    state["under_way"]["position"] = 10
    shares = []
    for rank in range(3):
        monkeypatch.setattr(module, "_world", lambda: 3)
        monkeypatch.setattr(module.gather, "rank", lambda rank=rank: rank)
        resumed = MAKERS["infobatch"]()
        resumed.load_state_dict(state)
        shares.append(list(resumed))
        assert len(resumed) == len(shares[-1])
    assert {len(share) for share in shares} == {17}
    together = [place for step in zip(*shares, strict=True) for place in step]
    assert together == order[10:]
