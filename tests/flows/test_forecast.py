"""The forecast of a whole `curate`: no step left out, and what is left is revised by what was taken."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.flows.conftest import small_table
from tracesift.flows import curate as body
from tracesift.flows import forecast as module
from tracesift.flows.forecast import Forecast, Outlook, Step, as_steps, forecast
from tracesift.flows.options import CurateJob, Training
from tracesift.flows.progress import listener
from tracesift.flows.work import open_source


@pytest.fixture
def job(tmp_path):
    small_table(80).write_csv(tmp_path / "good.csv")
    training = Training(epochs=2, folds=2, seeds=2, threads=1)
    return CurateJob(
        source=str(tmp_path / "good.csv"), workspace=str(tmp_path / "w"), training=training, evaluate=True
    )


def test_every_step_of_curate_is_counted_in_its_order(job, monkeypatch):
    expected = forecast(open_source(job.source, job.reading), job)
    done, said = [], []

    def run_step(step, *arguments, label=""):
        if step.__name__ == "open_source":  # done before anything can be forecast
            return step(*arguments)
        done.append(step.__name__)
        return step(*arguments) if step.__name__ == "ingest" else "result"

    monkeypatch.setattr(body, "cells", lambda *_: [SimpleNamespace(label=str(n)) for n in range(21)])
    heard = listener.set(said.append)
    try:
        body.curate(job, run_step)
    finally:
        listener.reset(heard)
    assert [step.name for step in expected.steps] == done
    assert done.count("evaluate_cell") == 3 * (
        1 + 2 * 3
    )  # all; two subsets and their two controls; three seeds
    assert all(step.seconds > 0 for step in expected.steps if step.name != "evaluate_cell")
    assert sum(line.startswith("mlp, 2 epochs: about ") for line in said) == 1


def test_nothing_is_forecast_where_a_recording_was_begun(job, monkeypatch):
    monkeypatch.setattr(body, "is_begun", lambda *_: True)
    monkeypatch.setattr(body, "forecast", None)  # would fail if it were called
    job = replace(job, evaluate=False)
    real = ("open_source", "ingest")
    body.curate(job, lambda step, *given, label="": step(*given) if step.__name__ in real else "result")


def test_more_seeds_folds_and_rows_take_longer(job, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_pace", lambda: module.PACE)
    data = open_source(job.source, job.reading)
    plain = replace(job, evaluate=False, training=Training(epochs=2, folds=2, threads=1))
    names = [step.name for step in forecast(data, plain).steps]
    assert names.count("record_seed") == 1
    assert "evaluate_cell" not in names
    none = forecast(data, replace(plain, training=Training(epochs=2, folds=0, threads=1)))
    assert not {"cross_fit_fold", "join_folds"} & {step.name for step in none.steps}
    small_table(4000).write_csv(tmp_path / "more.csv")
    more = forecast(open_source(str(tmp_path / "more.csv"), job.reading), plain)
    for name in module.COSTS:
        few = next(step.seconds for step in forecast(data, plain).steps if step.name == name)
        assert next(step.seconds for step in more.steps if step.name == name) > few, name


def test_neighbours_go_up_with_pairs(job, tmp_path, monkeypatch):
    ticks = iter((1, 2, 5))  # one block takes a second, three blocks three: a second a block
    monkeypatch.setattr(module.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(module.time, "process_time", lambda: float(next(ticks)))
    monkeypatch.setattr(module, "ROWS", 100)
    monkeypatch.setattr(module, "QUERIES", 10)
    data = open_source(job.source, job.reading)
    trained, held = len(data.rows("train")), len(data.rows("test"))
    (tmp_path / "ids").write_text("s001\ns002\ns003\n")
    asked = module._neighbour_seconds(data, replace(job, forget=str(tmp_path / "ids")), 4)
    pairs = trained * (500 + held + 3 * 1.5)  # two classes
    assert asked == pytest.approx(pairs / (10 * 100) / 2)  # two threads


def test_images_cost_a_look_at_their_residuals(job, monkeypatch):
    assert module._residual_seconds(open_source(job.source, job.reading)) == 0.0
    digits = open_source("digits", job.reading)
    monkeypatch.setattr(
        module.time, "perf_counter", iter(range(0, 100, 2)).__next__
    )  # two seconds for anything
    seconds = module._residual_seconds(digits)
    images, views = len(digits.rows("train")), 5
    each = 2 / module.VIEWED + views * 2 / module.PRODUCTS
    assert seconds == pytest.approx(images * each + views * 3 * 2)


def test_the_sentence_gives_a_range_and_says_that_others_are_busy():
    steps = (Step("record_seed", 60.0), Step("cross_fit_fold", 30.0), Step("score", 10.0))
    calm = Forecast(steps=steps, busy=1.0, bytes=3_000_000, model="mlp", epochs=4)
    assert calm.sentence() == (
        "mlp, 4 epochs: about 2 minutes (75 seconds to 2 minutes): record 60 seconds, cross-fit 30 seconds, "
        "scores, subsets and report 10 seconds; 3 MB on disk"
    )
    busy = replace(calm, busy=3.0)
    assert busy.seconds() == 300
    assert busy.range == (75.0, pytest.approx(420.0))
    assert busy.sentence().endswith("; other programs slow this one down 3.0 times")
    assert sum(step["minutes"] for step in as_steps(busy)) == pytest.approx(5.0)


def test_what_is_left_follows_what_was_taken():
    steps = (Step("record_seed", 100.0), Step("score", 50.0), Step("publish", 50.0))
    outlook = Outlook(Forecast(steps=steps, busy=1.0, bytes=0, model="mlp", epochs=1))
    # twice as long as expected; a tenth of what is left is still believed to go as forecast
    assert outlook.finished("record_seed", 200.0) == pytest.approx(100 * (200 + 10) / (100 + 10))
    assert outlook.finished("ingest", 5.0) == pytest.approx(100 * (200 + 10) / (100 + 10))  # not forecast
    assert outlook.finished("score", 25.0) == pytest.approx(50 * (225 + 5) / (150 + 5))
    assert outlook.finished("publish", 1.0) == 0
    slow, quick = (Outlook(Forecast(steps=steps, busy=1.0, bytes=0, model="m", epochs=1)) for _ in range(2))
    assert slow.finished("record_seed", 300.0) > quick.finished("record_seed", 30.0)
