"""Seeds, threads and states."""

import random

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.checkpoint import load_checkpoint, save_checkpoint
from tracesift.pipelines.determinism import choose_device, generator, rng_state, set_rng_state, settled


def draws():
    return (
        random.random(),
        np.random.rand(),
        torch.rand(1).item(),
        torch.nn.functional.dropout(torch.ones(9)).sum().item(),
    )


def test_state_survives_a_file(tmp_path):
    save_checkpoint(tmp_path, {"rng": rng_state()})
    expected = [draws() for _ in range(3)]
    set_rng_state(load_checkpoint(tmp_path)["rng"])
    assert [draws() for _ in range(3)] == expected


def test_settled_seeds_everything_and_restores_it():
    before = rng_state()
    expected = draws()
    set_rng_state(before)
    threads = torch.get_num_threads()
    seeded = []
    for seed in (1, 1, 2):
        with settled(seed, 2):
            assert torch.get_num_threads() == 2
            seeded.append(draws())
    assert seeded[0] == seeded[1] != seeded[2]
    assert draws() == expected
    assert torch.get_num_threads() == threads
    with pytest.raises(KeyError), settled(0, 1):
        raise KeyError
    assert torch.get_num_threads() == threads


def test_generators_differ_by_every_part():
    values = {
        torch.rand(1, generator=generator(*parts)).item()
        for parts in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    }
    assert len(values) == 4
    assert torch.equal(torch.rand(4, generator=generator(5, 6)), torch.rand(4, generator=generator(5, 6)))


def test_device(tmp_path):
    assert choose_device("auto").type in ("cpu", "cuda")
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(BadInput, match="device 'warp'"):
        choose_device("warp")


def test_damaged_checkpoint_is_named(tmp_path):
    assert load_checkpoint(tmp_path) is None
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    from tracesift.catalog.schema import IncompleteRecording

    with pytest.raises(IncompleteRecording, match="damaged"):
        load_checkpoint(tmp_path)


def test_leftovers_of_a_killed_write_are_removed(tmp_path):
    (tmp_path / ".tmp-abc.pt").write_bytes(b"half")
    assert load_checkpoint(tmp_path) is None
    assert not list(tmp_path.iterdir())
