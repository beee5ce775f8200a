"""The checkpoint: what a stopped run goes on from."""

import io

import pytest
import torch

from tracesift.catalog.schema import IncompleteRecording
from tracesift.pipelines.checkpoint import NAME, epochs_done, load_checkpoint, save_checkpoint, write_state

STATE = {"run_id": "r", "epoch": 3, "learner": [torch.arange(100_000.0) for _ in range(20)]}


class Interrupted(io.BytesIO):
    """A file in whose n-th write somebody presses Ctrl-C."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def write(self, data):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return super().write(data)


@pytest.mark.parametrize("at", [1, 2, 3, 10, 40])
def test_an_interrupt_within_a_write_is_an_interrupt(at):
    with pytest.raises(KeyboardInterrupt):
        write_state(STATE, Interrupted(at))


def test_a_failed_write_is_a_failure():
    file = io.BytesIO()
    file.write = lambda _data: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    with pytest.raises((OSError, RuntimeError)):
        write_state(STATE, file)


def test_an_interrupted_save_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, STATE)
    whole = torch.save

    def interrupted(state, file):
        whole(state, Interrupted(10))

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, {**STATE, "epoch": 4})
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert epochs_done(tmp_path) == load_checkpoint(tmp_path)["epoch"] == 3


def test_without_a_checkpoint_nothing_is_done(tmp_path):
    assert epochs_done(tmp_path) == 0


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / NAME).write_bytes(b"half a file")
    with pytest.raises(IncompleteRecording, match="is damaged"):
        epochs_done(tmp_path)
