"""Models of a job trained in several processes: the same bytes as in one, and nothing left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tracesift.flows.cli import run
from tracesift.flows.side_by_side import elsewhere

SCRIPT = str(Path(sys.executable).with_name("tracesift"))
WORDS = ["record", "--job", "subset_training", "--epochs", "2", "--threads", "1", "--json"]


def arrays(workspace):
    return {path.name: path.read_bytes() for path in workspace.rglob("subset_*") if path.is_file()}


def job(workspace, *more):
    return run([*WORDS, "--workspace", str(workspace), *more])


def test_two_processes_make_what_one_makes(place, capsys):
    shutil.copytree(place / "w", place / "alone")
    for workspace, workers in (("alone", "1"), ("w", "2")):
        words = ["--workers", workers, "--param", "models=7", "--param", "stack=2"]
        assert job(place / workspace, *words) == 0
        assert "subset_trained" in json.loads(capsys.readouterr().out)["subset_training"]
    one, two = arrays(place / "alone"), arrays(place / "w")
    assert one
    assert one == two
    assert not list((place / "w").rglob("*.part"))


def test_a_job_that_ends_early_leaves_no_parts(place, capsys):
    words = ["--workers", "2", "--param", "models=40", "--param", "stack=4", "--param", "standard_error=0.9"]
    assert job(place / "w", *words) == 0
    capsys.readouterr()
    assert not list((place / "w").rglob("*.part"))
    assert not list((place / "w").rglob("jobs"))


def test_as_many_stacks_are_begun_as_there_are_workers():
    began, waited = [], []

    class Training:
        def __init__(self, numbers):
            self.numbers = numbers

        def result(self):
            waited.append(self.numbers)

    def submit(_task, numbers):
        began.append(numbers)
        return Training(numbers)

    wait = elsewhere({}, submit, workers=2)
    wait(range(0, 3), 8)
    assert began == [range(0, 3), range(3, 6)]
    wait(range(3, 6), 8)
    assert began == [range(0, 3), range(3, 6), range(6, 8)]
    wait(range(6, 8), 8)
    assert began == waited == [range(0, 3), range(3, 6), range(6, 8)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["record", "--workers", "2"], "belongs to a job"),
        (["record", "--job", "subset_training", "--workers", "0"], "at least 1"),
        (["record", "--job", "grand", "--workers", "2"], "is trained in one process"),
    ],
)
def test_what_is_refused(place, capsys, words, message):
    assert run([*words, "--workspace", "w"]) == 2
    assert message in capsys.readouterr().err


def test_bad_settings_are_refused_before_a_process_begins(place, capsys):
    words = ["--workers", "2", "--param", "models=4", "--param", "share=0.0001"]
    assert job(place / "w", *words) == 2
    assert "leaves none in or none out" in capsys.readouterr().err.splitlines()[-1]


def begun(workspace, *more):
    """A job in a process group of its own, once it has counted its first models as kept."""
    command = [SCRIPT, *WORDS, "--workspace", str(workspace), *more]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    # The third stack of two is begun when the first is counted; its file shows that.
    while not list(workspace.rglob("004.part")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def members(group):
    """Running processes of a group, zombies left out."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    return [
        line for line in listed.splitlines() if line.split()[0] == str(group) and "Z" not in line.split()[1]
    ]


MANY = ["--workers", "2", "--param", "models=4000", "--param", "stack=2"]


def test_workers_end_with_the_process_that_began_them(place):
    process = begun(place / "w", *MANY)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert members(process.pid) == []


def test_ctrl_c_says_what_is_kept_and_that_can_be_scored(place, capsys):
    process = begun(place / "w", *MANY)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    (kept,) = re.findall(r"(\d+) of 4000 models are kept; to score these, name --param models=\1", said)
    assert job(place / "w", "--param", f"models={kept}", "--param", "stack=2") == 0
    capsys.readouterr()
    assert run(["score", "memorization_subset", "--workspace", str(place / "w"), "--json"]) == 0
    assert not list((place / "w").rglob("*.part"))
