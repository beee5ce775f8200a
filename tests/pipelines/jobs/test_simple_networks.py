"""The two simple networks: what they are, how they train, who is held out, and a shortcut that they find."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.jobs import simple_networks as simple_networks_job
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.simple_networks import simple_network
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import diagnose

SMALL = TrainConfig(seed=0, epochs=1, batch_size=64, epoch_end=False, device="cpu", threads=1)


def test_the_hidden_layer_is_as_wide_as_the_input():
    linear, two = (simple_network(name, (3, 4, 5), 7) for name in ("linear", "two_layer"))
    assert [type(layer).__name__ for layer in linear] == ["Flatten", "Linear"]
    assert [type(layer).__name__ for layer in two] == ["Flatten", "Linear", "ReLU", "Linear"]
    assert (two[1].in_features, two[1].out_features, two[3].out_features) == (60, 60, 7)
    assert linear(torch.zeros(2, 3, 4, 5)).shape == two(torch.zeros(2, 3, 4, 5)).shape == (2, 7)


def test_each_fold_is_held_out_once_for_each_network(recorded, signals_of, monkeypatch):
    dataset, workspace, run_id = recorded("simple")
    trained = []
    real = Workbench.fit

    def fit(bench, learner, rows, **more):
        trained.append((set(rows.tolist()), learner.recipe, len(list(learner.module.parameters()))))
        return real(bench, learner, rows, **more)

    monkeypatch.setattr(Workbench, "fit", fit)
    run_job(
        "simple_networks",
        dataset,
        workspace,
        run_id,
        {"epochs": 12, "folds": 3, "batch_size": 16},
        device="cpu",
    )
    rows, fold = dataset.rows("train"), assign_folds(dataset, 3)
    assert [weights for _, _, weights in trained] == [2, 4] * 3
    for at, (seen, recipe, _) in enumerate(trained):
        assert seen == set(rows[fold != at // 2].tolist())
        assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
        assert (recipe.batch_size, recipe.schedule) == (16, "linear")
    signals = signals_of(workspace, run_id)
    found = diagnose("simple_network_detection", signals)
    assert found["linear_accuracy"] == pytest.approx(signals["linear_correct"].mean(), abs=1e-6)
    assert found["linear_accuracy"] > 0.9  # clean and easy: the published boundary means nothing here
    assert found["above_boundary"]


def test_networks_trained_elsewhere_are_those_trained_here(recorded, signals_of):
    settings = {"epochs": 2, "folds": 2, "batch_size": 16}
    made = []
    for name in ("simple here", "simple elsewhere"):
        dataset, workspace, run_id = recorded(name)
        run = partial(run_job, "simple_networks", dataset, workspace, run_id, settings, device="cpu")
        if name.endswith("elsewhere"):
            for number in (3, 1):
                assert run(only=range(number, number + 1)) == ()
            parts = sorted(path.name for path in Path(workspace).rglob("*.part"))
            assert parts == ["001.part", "003.part"]
        run()
        made.append(signals_of(workspace, run_id))
    for network in ("linear_correct", "two_layer_correct"):
        assert np.array_equal(made[0][network], made[1][network])


def test_the_progress_goes_by_the_work_of_each_network(recorded):
    dataset, workspace, run_id = recorded("simple progress")
    told = []
    run_job(
        "simple_networks", dataset, workspace, run_id, {"epochs": 2, "folds": 2}, device="cpu",
        progress=lambda done, of, what: told.append((done, of, what)),
    )  # fmt: skip
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    linear, both, *_, whole = [done for done, _, what in told if not what]
    assert both == pytest.approx(2)
    assert 0 < linear < both / 3
    assert (whole, told[-1][1]) == (4, 4)


def clouds(shortcut):
    """Two classes that no line tells apart (inside and outside of a ring), and one more number that may give them away."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    angle, radius = rng.uniform(0, 6.3, 400), np.where(labels, 3.0, 1.0) + rng.normal(0, 0.2, 400)
    told = labels if shortcut else rng.permutation(labels)
    columns = {"a": radius * np.cos(angle), "b": radius * np.sin(angle), "c": told + rng.normal(0, 0.2, 400)}
    ids = [f"c{at:03d}" for at in range(400)]
    return open_dataset(
        pl.DataFrame({"id": ids, "label": [f"l{one}" for one in labels], **columns}), name="clouds"
    )


def test_the_linear_model_needs_the_shortcut(tmp_path, signals_of):
    accuracy = {}
    for shortcut in (True, False):
        dataset, workspace = clouds(shortcut), tmp_path / str(shortcut)
        run_id = record(dataset, workspace, SMALL)
        run_job(
            "simple_networks",
            dataset,
            workspace,
            run_id,
            {"epochs": 60, "folds": 2, "batch_size": 32},
            device="cpu",
        )
        found = diagnose("simple_network_detection", signals_of(workspace, run_id))
        accuracy[shortcut] = found["linear_accuracy"]
    assert accuracy[True] > 0.95
    assert accuracy[False] < 0.65


def test_what_it_refuses(recorded, sentences, tmp_path):
    run_id = record(sentences, tmp_path, SMALL)
    with pytest.raises(BadInput, match="takes images and tables"):
        run_job("simple_networks", sentences, tmp_path, run_id, device="cpu")
    dataset, workspace, run_id = recorded("simple refused")
    for settings, message in (
        ({"folds": 1}, "folds=1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ):
        with pytest.raises(BadInput, match=message):
            run_job("simple_networks", dataset, workspace, run_id, settings, device="cpu")


def test_inputs_are_made_where_they_have_values():
    """A job that goes on, or is shared between processes, looks at the inputs first where the sizes are counted."""

    class Bench:
        dataset = SimpleNamespace(num_classes=3)

        @property
        def inputs(self):
            assert torch.zeros(1).device.type == "cpu"
            return SimpleNamespace(input_shape=(1, 8, 8))

    assert simple_networks_job._work(Bench(), 2)[0] == 3 * 64 + 3
