"""Signs of life: sparse lines where stderr is a file, a bar that lines do not tear on a terminal."""

import io
import sys

import pytest

from tracesift.flows import progress
from tracesift.flows.cli import run
from tracesift.flows.progress import listener, say, stage, watched


@pytest.fixture
def clock(monkeypatch):
    """A list whose one number is the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_stages_are_named_once_they_take_their_time(clock, capsys):
    with watched("select"):
        stage("pruned")
        clock[0] += 6
        stage("pruned-random")
        clock[0] += 1
        stage("pruned-random-balanced")
        clock[0] += 5
        stage("denoised")
    out, err = capsys.readouterr()
    assert err.splitlines() == ["select: pruned-random", "select: denoised", "select: done"]
    assert out == ""


def test_counts_come_every_quarter_of_a_minute(clock, capsys):
    with watched("record, seed 0") as report:
        for step in range(40):
            clock[0] += 1
            report(step, 40, "epoch 1")
    assert capsys.readouterr().err.splitlines() == [
        "record, seed 0: 14 of 40 epoch 1",
        "record, seed 0: 29 of 40 epoch 1, about 11 seconds left", "record, seed 0: done",
    ]  # fmt: skip


def lines_of(clock, capsys, *reports):
    """Report every 20 seconds, and return what is said of it."""
    with watched("job grand") as report:
        for done, total in reports:
            clock[0] += 20
            report(done, total, "training")
    return [line.removeprefix("job grand: ") for line in capsys.readouterr().err.splitlines()[:-1]]


def test_what_is_left_goes_by_the_pace_since_the_first_line(clock, capsys):
    # the six parts of the first line were read, not made: 0.1 parts take 20 seconds, so 3.9 of them 780
    assert lines_of(clock, capsys, (6, 10), (6.1, 10), (8, 10), (10, 10)) == [
        "6 of 10 training", "6.1 of 10 training, about 13 minutes left", "8 of 10 training, about 40 seconds left",
        "10 of 10 training",
    ]  # fmt: skip


def test_a_count_that_stands_still_or_begins_anew_says_nothing_of_what_is_left(clock, capsys):
    reports = (5, 10), (5, 10), (1, 10), (2, 10), (2, 30), (3, 30)
    assert [line for line in lines_of(clock, capsys, *reports) if "left" in line] == [
        "2 of 10 training, about 3 minutes left", "3 of 30 training, about 9 minutes left",
    ]  # fmt: skip


def test_parts_of_an_epoch_have_a_decimal_and_whole_steps_have_none(clock, capsys):
    with watched("record, seed 0") as report:
        for done, total in ((0.25, 3), (336.0, 1045), (1_200_000, 2_000_000)):
            clock[0] += 16
            report(done, total, "")
    assert capsys.readouterr().err.splitlines()[:3] == [
        "record, seed 0: 0.2 of 3", "record, seed 0: 336 of 1045", "record, seed 0: 1200000 of 2000000",
    ]  # fmt: skip


def test_a_stage_outside_of_any_step_is_nobodys(capsys):
    stage("pruned")
    with watched("select"):
        pass
    stage("pruned")
    assert capsys.readouterr() == ("", "")


def test_what_fails_is_not_called_done(clock, capsys):
    @watched("select")
    def fail():
        clock[0] += 6
        stage("pruned")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capsys.readouterr().err.splitlines() == ["select: pruned"]


def test_stages_go_to_whoever_listens(clock, capsys):
    heard = []
    before = listener.set(heard.append)
    try:
        with watched("report"):
            clock[0] += 60
            stage("worklist")
    finally:
        listener.reset(before)
    assert heard == ["report: worklist", "report: done"]
    assert capsys.readouterr() == ("", "")


def test_a_line_beside_a_bar_stands_on_a_line_of_its_own(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with watched("select"):
        stage("denoised")
        say("3 of 48 are [kept] unjudged")
    shown = screen.getvalue()
    assert "\n3 of 48 are [kept] unjudged\n" in "\n" + shown.replace("\r\x1b[2K", "\n").replace("\r", "")
    assert "select: denoised" in shown


def test_every_subset_and_part_of_the_report_gives_a_sign(place, monkeypatch, capsys):
    monkeypatch.setattr(progress, "STAGE_EVERY", 0.0)
    words = ["curate", "good.csv", "--keep", "0.4", "--epochs", "3", "--folds", "2", "--threads", "1"]
    assert run([*words, "--workspace", "signs"]) == 0
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if line.startswith(("flag: ", "select: ", "report: "))]
    done = [line for line in said if line.endswith(": done")]
    assert done == ["flag: done", "select: done", "report: done"]
    assert said[-1] == "report: done"
    said = [line for line in said if line not in done]
    assert said[:3] == ["flag: label_noise", "flag: unlearnable", "select: pruned"]
    subsets = ["pruned", "denoised", "forget-ready"]
    controls = [f"{name}{ending}" for name in subsets for ending in ("", "-random", "-random-balanced")]
    assert [line.removeprefix("select: ") for line in said if line.startswith("select")] == controls
    assert said[-1] == "report: figures and page"
