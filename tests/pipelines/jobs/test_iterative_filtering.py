"""Rounds with extra classes: who is given which label, who judges whom, and a shortcut beside a task that is hard."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.iterative_filtering import slower_half
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute

SMALL = TrainConfig(seed=0, epochs=1, batch_size=64, epoch_end=False, device="cpu", threads=1)


def test_the_start_is_the_slower_half_of_each_class():
    speed = np.array([0.9, 0.2, 0.5, 0.4, 0.4, 0.1, 0.7])
    labels = np.array([0, 0, 0, 1, 1, 1, 2])
    assert slower_half(speed, labels).tolist() == [False, True, False, False, False, True, False]
    rng = np.random.default_rng(0)
    speed, labels = rng.random(100), rng.integers(0, 3, 100)
    for label in range(3):
        chosen, rest = (
            speed[(labels == label) & slower_half(speed, labels)],
            speed[(labels == label) & ~slower_half(speed, labels)],
        )
        assert len(rest) - len(chosen) in (0, 1)
        assert chosen.max() < rest.min()


def test_clean_ones_are_taught_as_extra_classes_and_judged_by_those_who_did_not_see_them(
    recorded, signals_of, monkeypatch
):
    dataset, workspace, run_id = recorded("rounds of classes")
    trained = []
    real = Workbench.fit

    def fit(bench, learner, rows, *, labels=None, **more):
        trained.append(
            (
                rows.numpy(),
                None if labels is None else labels.numpy().copy(),
                learner.module.head.out_features,
            )
        )
        return real(bench, learner, rows, labels=labels, **more)

    monkeypatch.setattr(Workbench, "fit", fit)
    run_job(
        "iterative_filtering",
        dataset,
        workspace,
        run_id,
        {"epochs": 4, "rounds": 2, "folds": 3},
        device="cpu",
    )
    margin = signals_of(workspace, run_id)["extra_class_margin"]
    rows, fold = dataset.rows("train"), assign_folds(dataset, 3)
    assert margin.shape == (len(rows), 2)
    assert np.isfinite(margin).all()
    assert (trained[0][1], trained[0][2]) == (None, 3)
    assert len(trained) == 1 + 2 * 3
    for number, (seen, labels, outputs) in enumerate(trained[1:]):
        np.testing.assert_array_equal(seen, rows[fold != number % 3])
        assert outputs == 6
        extra = labels[rows] - dataset.labels[rows]
        assert set(extra) <= {0, 3}
        if number < 3:  # the start: half of each class
            for label in range(3):
                own = dataset.labels[rows] == label
                assert (extra[own] == 3).sum() == own.sum() // 2
        else:
            np.testing.assert_array_equal(extra == 3, margin[:, 0] <= 0)


def mixture(tied):
    """Four classes that overlap in six numbers; 40 % also carry a plain sign, of their class or of any."""
    rng = np.random.default_rng(3)
    labels = np.arange(600) % 4
    x = rng.normal(size=(600, 6)) + 0.8 * rng.normal(size=(4, 6))[labels]
    marked = rng.random(600) < 0.4
    signs = 4 * marked[:, None] * np.eye(4)[labels if tied else rng.permutation(labels)]
    ids = [f"m{at:03d}" for at in range(600)]
    columns = {f"x{at:02d}": column for at, column in enumerate(np.hstack([x, signs]).T)}
    frame = pl.DataFrame({"id": ids, "label": [f"l{one}" for one in labels], **columns})
    dataset = open_dataset(frame, name="mixture")
    train = dataset.samples["sample_id"].gather(dataset.rows("train"))
    return dataset, train.is_in([one for one, yes in zip(ids, marked, strict=True) if yes]).to_numpy()


@pytest.mark.parametrize("tied", [True, False], ids=["of their class", "of any class"])
def test_a_shortcut_beside_a_hard_task_is_found_and_untied_noise_is_not(tied, tmp_path, signals_of, auroc):
    dataset, marked = mixture(tied)
    run_id = record(dataset, tmp_path, SMALL)
    run_job("iterative_filtering", dataset, tmp_path, run_id, {"epochs": 8}, device="cpu")
    area = auroc(
        compute("iterative_filtering", signals_of(tmp_path, run_id))["iterative_filtering"].to_numpy(), marked
    )
    assert area > 0.9 if tied else abs(area - 0.5) < 0.15


def test_what_it_refuses(recorded):
    dataset, workspace, run_id = recorded("filtering refused")
    for settings, message in (
        ({"rounds": 0}, "rounds is 0"),
        ({"epochs": 1}, "at least 2"),
        ({"folds": 1}, "folds=1"),
    ):
        with pytest.raises(BadInput, match=message):
            run_job("iterative_filtering", dataset, workspace, run_id, settings, device="cpu")
