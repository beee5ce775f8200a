"""Subset training: who is drawn, what is kept, when it stops, and that memorized samples are found."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.signals import read_run
from tracesift.scorers.contract import compute

JOB = "subset_training"


def test_each_model_trains_on_its_own_draw(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("draws")
    shown = []
    real = Workbench.fit

    def watched(bench, learner, rows, **more):
        shown.append(rows.numpy())
        yield from real(bench, learner, rows, **more)

    monkeypatch.setattr(Workbench, "fit", watched)
    made = run_job(JOB, dataset, workspace, run_id, {"models": 5, "share": 0.7}, device="cpu")
    assert made == (
        "subset_correct", "subset_prob_label", "subset_trained", "val_subset_correct", "val_subset_prob_label",
    )  # fmt: skip
    signals = signals_of(workspace, run_id)
    trained, rows = signals["subset_trained"], dataset.rows("train")
    assert trained.shape == (len(rows), 5)
    assert (trained.sum(axis=0) == round(0.7 * len(rows))).all()
    for number, seen in enumerate(shown):
        np.testing.assert_array_equal(rows[trained[:, number]], seen)
    assert len({column.tobytes() for column in trained.T}) == 5
    assert signals["val_subset_correct"].shape == (len(dataset.rows("val")), 5)
    in_range = signals["subset_prob_label"]
    assert ((in_range >= 0) & (in_range <= 1)).all()
    two = dataset.num_classes == 2
    agree = (in_range > 0.5) == signals["subset_correct"]
    assert agree.all() if two else agree[in_range > 0.5].all()


def test_stopped_it_goes_on_with_the_next_model(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("undisturbed models")
    run_job(JOB, dataset, workspace, run_id, {"models": 4}, device="cpu")
    whole = signals_of(workspace, run_id)["subset_prob_label"]
    dataset, workspace, run_id = recorded("stopped models")
    real, trained = Workbench.fit, []

    def interrupted(bench, *words, **more):
        trained.append(1)
        if len(trained) == 3:
            raise KeyboardInterrupt
        yield from real(bench, *words, **more)

    monkeypatch.setattr(Workbench, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_job(JOB, dataset, workspace, run_id, {"models": 4}, device="cpu")
    run_job(JOB, dataset, workspace, run_id, {"models": 4}, device="cpu")
    assert len(trained) == 5  # the third of them twice
    np.testing.assert_array_equal(signals_of(workspace, run_id)["subset_prob_label"], whole)


def test_it_stops_once_the_estimate_is_sure_enough(recorded, signals_of):
    dataset, workspace, run_id = recorded("sure")
    run_job(
        JOB, dataset, workspace, run_id, {"models": 60, "share": 0.5, "standard_error": 0.5}, device="cpu"
    )
    signals = signals_of(workspace, run_id)
    models = signals["subset_trained"].shape[1]
    assert 8 <= models < 60
    scores = compute(["memorization_subset_error"], signals)["memorization_subset_error"].to_numpy()
    assert np.isfinite(scores).all()
    assert scores.mean() <= 0.5
    assert read_run(workspace, run_id)["arrays"]["subset_trained"]["settings"]["standard_error"] == 0.5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": 1}, "models is 1"),
        ({"share": 1.0}, "none out"),
        ({"share": 0.001}, "none in"),
        ({"standard_error": -1.0}, "at least 0"),
    ],
)
def test_settings_that_estimate_nothing_are_refused(recorded, settings, said):
    dataset, workspace, run_id = recorded(f"refused {said}")
    with pytest.raises(BadInput, match=said):
        run_job(JOB, dataset, workspace, run_id, settings, device="cpu")


def test_wrong_labels_are_memorized_and_their_samples_are_inconsistent(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    run_job(JOB, dataset, workspace, run_id, {"models": 9, "epochs": 25, "share": 0.6}, device="cpu")
    scores = compute(["memorization_subset", "c_score"], signals_of(workspace, run_id))
    assert auroc(scores["memorization_subset"].to_numpy(), wrong) > 0.9
    assert auroc(-scores["c_score"].to_numpy(), wrong) > 0.9
    by_probability = compute(
        ["memorization_subset"],
        signals_of(workspace, run_id),
        params={"memorization_subset": {"of": "prob_label"}},
    )["memorization_subset"].to_numpy()
    assert auroc(by_probability, wrong) > 0.9
    by_answer = scores["memorization_subset"].to_numpy()
    there = np.isfinite(by_answer)
    assert there.mean() > 0.9
    assert np.corrcoef(by_probability[there], by_answer[there])[0, 1] > 0.8
