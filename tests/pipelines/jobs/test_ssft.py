"""Second-split forgetting: who trains on what, in which order, and what is found by it."""

import numpy as np

from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.scorers.contract import compute


def test_each_half_learns_alone_and_goes_on_with_the_other(recorded, monkeypatch):
    dataset, workspace, run_id = recorded("halves")
    phases = []
    real = Workbench.fit

    def watched(bench, learner, rows, **more):
        phases.append((id(learner.module), set(rows.tolist()), learner.steps))
        yield from real(bench, learner, rows, **more)

    monkeypatch.setattr(Workbench, "fit", watched)
    assert run_job("ssft", dataset, workspace, run_id, {"epochs": 4}, device="cpu") == (
        "first_split_correct",
        "second_split_correct",
    )
    half = assign_folds(dataset, 2)
    rows = dataset.rows("train")
    zero, one = (set(rows[half == number].tolist()) for number in (0, 1))
    assert [shown for _, shown, _ in phases] == [zero, one, one, zero]
    modules = [module for module, _, _ in phases]
    assert modules[0] == modules[1]
    assert modules[2] == modules[3]
    assert all(steps == 4 * 4 for _, _, steps in phases)  # 4 epochs of 60 samples in batches of 16


def test_curves_are_of_the_own_half(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("curves")
    asked = []
    monkeypatch.setattr(
        Workbench,
        "correct",
        lambda bench, learner, rows: asked.append(rows.tolist()) or rows.numpy() % 2 == 0,
    )
    run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    half = assign_folds(dataset, 2)
    rows = dataset.rows("train")
    assert asked == [rows[half == 0].tolist()] * 4 + [rows[half == 1].tolist()] * 4
    for name in ("first_split_correct", "second_split_correct"):
        curves = signals_of(workspace, run_id)[name]
        np.testing.assert_array_equal(curves, np.repeat((rows % 2 == 0)[:, None], 2, axis=1))


def test_wrong_labels_are_given_up_first(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    run_job("ssft", dataset, workspace, run_id, {"epochs": 20}, device="cpu")
    scores = compute(["ssft", "fslt"], signals_of(workspace, run_id))
    assert auroc(-scores["ssft"].to_numpy(), wrong) > 0.9
    assert auroc(scores["fslt"].to_numpy(), wrong) > 0.9
