"""Subset training: who is drawn, what is kept, when it stops, and that memorized samples are found."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs import contract
from tracesift.pipelines.jobs.contract import find, run_job
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.models.contract import find as find_model
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
    made = run_job(JOB, dataset, workspace, run_id, {"models": 5, "share": 0.7, "stack": 1}, device="cpu")
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
    run_job(JOB, dataset, workspace, run_id, {"models": 4, "stack": 1}, device="cpu")
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
        run_job(JOB, dataset, workspace, run_id, {"models": 4, "stack": 1}, device="cpu")
    run_job(JOB, dataset, workspace, run_id, {"models": 4, "stack": 1}, device="cpu")
    assert len(trained) == 5  # the third of them twice
    np.testing.assert_array_equal(signals_of(workspace, run_id)["subset_prob_label"], whole)


def smoothed_error(signals):
    """The mean standard error with half a right and half a wrong model more on either side, one sample at a time."""
    errors = []
    for trained, correct in zip(signals["subset_trained"], signals["subset_correct"], strict=True):
        shares = [(side.sum() + 0.5, len(side) + 1) for side in (correct[trained], correct[~trained])]
        errors.append(sum(right / of * (1 - right / of) / of for right, of in shares) ** 0.5)
    return np.mean(errors)


def test_it_stops_once_the_estimate_is_sure_enough(recorded, signals_of):
    dataset, workspace, run_id = recorded("sure")
    asked = {"models": 60, "share": 0.5, "standard_error": 0.18, "stack": 4}
    run_job(JOB, dataset, workspace, run_id, asked, device="cpu")
    signals = signals_of(workspace, run_id)
    models = signals["subset_trained"].shape[1]
    assert 8 <= models < 60
    assert models % 4 == 0  # asked after every stack
    assert smoothed_error(signals) <= 0.18
    subset = {name: values for name, values in signals.items() if name.startswith("subset")}
    fewer = {name: values[:, :-4] for name, values in subset.items()}
    assert smoothed_error(fewer) > 0.18
    scores = compute(["memorization_subset_error"], signals)["memorization_subset_error"].to_numpy()
    both = np.isfinite(scores)
    np.testing.assert_allclose(
        smoothed_error({name: values[both] for name, values in subset.items()}), scores[both].mean()
    )
    assert read_run(workspace, run_id)["arrays"]["subset_trained"]["settings"]["standard_error"] == 0.18


@pytest.fixture
def trained(monkeypatch):
    """The seeds of all stacks that are trained."""
    seeds = []
    real = Workbench.fit_stack

    def watched(bench, *words, **more):
        seeds.append([seed % 1000 for seed in more["seeds"]])
        real(bench, *words, **more)

    monkeypatch.setattr(Workbench, "fit_stack", watched)
    return seeds


def subset_bytes(signals):
    return {name: values.tobytes() for name, values in signals.items() if "subset" in name}


def test_more_models_go_on_from_those_of_before_to_the_same_bytes(recorded, signals_of, trained):
    dataset, workspace, run_id = recorded("at once")
    run_job(JOB, dataset, workspace, run_id, {"models": 9, "stack": 3}, device="cpu")
    whole = subset_bytes(signals_of(workspace, run_id))
    dataset, workspace, run_id = recorded("one after the other")
    trained.clear()
    run_job(JOB, dataset, workspace, run_id, {"models": 5, "stack": 3}, device="cpu")
    run_job(JOB, dataset, workspace, run_id, {"models": 9, "stack": 3}, device="cpu")
    assert trained == [
        [0, 1, 2],
        [3, 4],
        [3, 4, 5],
        [6, 7, 8],
    ]  # a stack that was not whole is trained as one
    assert subset_bytes(signals_of(workspace, run_id)) == whole
    assert read_run(workspace, run_id)["arrays"]["subset_trained"]["parts"] == 9


def test_fewer_models_or_another_rule_train_nothing_and_lose_nothing(recorded, signals_of, trained):
    dataset, workspace, run_id = recorded("fewer")
    run_job(JOB, dataset, workspace, run_id, {"models": 8, "stack": 4}, device="cpu")
    kept = subset_bytes(signals_of(workspace, run_id))
    trained.clear()
    for asked in (
        {"models": 4},
        {"models": 8},
        {"models": 8, "standard_error": 0.4},
        {"models": 90, "standard_error": 9.0},
    ):
        run_job(JOB, dataset, workspace, run_id, {"stack": 4, **asked}, device="cpu")
        assert trained == []
        assert subset_bytes(signals_of(workspace, run_id)) == kept
    run_job(JOB, dataset, workspace, run_id, {"models": 8, "stack": 4, "share": 0.6}, device="cpu")
    assert trained == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_models_of_other_threads_are_not_mixed(recorded, signals_of, trained):
    dataset, workspace, run_id = recorded("threads")
    run_job(JOB, dataset, workspace, run_id, {"models": 2, "stack": 2}, device="cpu", threads=1)
    trained.clear()
    run_job(JOB, dataset, workspace, run_id, {"models": 2, "stack": 2}, device="cpu", threads=2)
    assert trained == []  # they are there
    run_job(JOB, dataset, workspace, run_id, {"models": 4, "stack": 2}, device="cpu", threads=2)
    assert trained == [[0, 1], [2, 3]]


def test_stopped_it_ends_where_it_is_and_goes_on_later(recorded, signals_of, trained, monkeypatch):
    dataset, workspace, run_id = recorded("ends")
    real = Workbench.parts

    def interrupted(bench, numbers, *words):
        if numbers.start == 4:
            raise KeyboardInterrupt
        return real(bench, numbers, *words)

    monkeypatch.setattr(Workbench, "parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_job(JOB, dataset, workspace, run_id, {"models": 6, "stack": 2}, device="cpu")
    monkeypatch.setattr(Workbench, "parts", real)
    trained.clear()
    run_job(JOB, dataset, workspace, run_id, {"models": 4, "stack": 2}, device="cpu")
    assert trained == []
    assert signals_of(workspace, run_id)["subset_trained"].shape[1] == 4
    run_job(JOB, dataset, workspace, run_id, {"models": 6, "stack": 2}, device="cpu")
    assert trained == [[4, 5]]
    assert not list(workspace.rglob("*.part"))


def test_killed_while_more_are_added_no_model_is_lost_and_none_is_half_there(
    recorded, signals_of, monkeypatch
):
    dataset, workspace, run_id = recorded("half added")
    run_job(JOB, dataset, workspace, run_id, {"models": 2, "stack": 2}, device="cpu")
    real, added = contract.add_array, []

    def killed(*words):
        added.append(1)
        if len(added) == 3:
            raise KeyboardInterrupt
        real(*words)

    monkeypatch.setattr(contract, "add_array", killed)
    with pytest.raises(KeyboardInterrupt):
        run_job(JOB, dataset, workspace, run_id, {"models": 4, "stack": 2}, device="cpu")
    monkeypatch.setattr(contract, "add_array", real)
    run_job(JOB, dataset, workspace, run_id, {"models": 2, "stack": 2}, device="cpu")
    assert {
        values.shape[1] for name, values in signals_of(workspace, run_id).items() if "subset" in name
    } == {2}
    run_job(JOB, dataset, workspace, run_id, {"models": 4, "stack": 2}, device="cpu")
    assert {
        values.shape[1] for name, values in signals_of(workspace, run_id).items() if "subset" in name
    } == {4}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": 1}, "models is 1"),
        ({"share": 1.0}, "none out"),
        ({"share": 0.001}, "none in"),
        ({"standard_error": -1.0}, "at least 0"),
        ({"stack": 0}, "stack is 0"),
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


def test_a_stack_draws_and_answers_as_its_models_alone(noisy_digits, signals_of):
    dataset, workspace, run_id, _ = noisy_digits
    asked = {"models": 12, "epochs": 5, "share": 0.6}
    found = {}
    for stack in (1, 5):
        run_job(JOB, dataset, workspace, run_id, {**asked, "stack": stack}, device="cpu")
        assert read_run(workspace, run_id)["arrays"]["subset_correct"]["settings"]["stack"] == stack
        signals = signals_of(workspace, run_id)
        found[stack] = {name: signals[name] for name in find(JOB).signals}
    alone, together = found[1], found[5]
    np.testing.assert_array_equal(alone["subset_trained"], together["subset_trained"])
    # Of the same model the answers differ by rounding alone, which training makes larger; of another one by the draw.
    for name in ("subset_correct", "val_subset_correct"):
        same, other = (
            (together[name] == alone[name]).mean(),
            (np.roll(together[name], 1, axis=1) == alone[name]).mean(),
        )
        assert same > 0.99
        assert other < same - 0.01
    np.testing.assert_allclose(
        alone["subset_prob_label"].mean(axis=1), together["subset_prob_label"].mean(axis=1), atol=0.01
    )


@pytest.mark.parametrize("kept", [0, 3])
def test_a_stack_that_was_stopped_is_trained_again_to_the_same_bytes(recorded, signals_of, monkeypatch, kept):
    asked = {"models": 6, "stack": 4}
    dataset, workspace, run_id = recorded(f"undisturbed stacks {kept}")
    run_job(JOB, dataset, workspace, run_id, asked, device="cpu")
    whole = signals_of(workspace, run_id)
    dataset, workspace, run_id = recorded(f"stopped stacks {kept}")
    real, made = np.savez, []

    def interrupted(file, **arrays):
        made.append(1)
        if len(made) == 1 + kept:
            raise KeyboardInterrupt
        real(file, **arrays)

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_job(JOB, dataset, workspace, run_id, asked, device="cpu")
    assert len(list(workspace.rglob("*.part"))) == kept
    run_job(JOB, dataset, workspace, run_id, asked, device="cpu")
    assert len(made) == 7 + 5  # the stopped part twice, the others once, and then the five signals
    for name, array in whole.items():
        if "subset" in name:
            assert signals_of(workspace, run_id)[name].tobytes() == array.tobytes(), name


def test_the_last_stack_holds_the_rest(recorded, signals_of):
    dataset, workspace, run_id = recorded("rest")
    told = []
    run_job(
        JOB, dataset, workspace, run_id, {"models": 7, "stack": 3}, device="cpu",
        progress=lambda done, of, what: told.append((done, of)),
    )  # fmt: skip
    assert signals_of(workspace, run_id)["subset_trained"].shape[1] == 7
    assert told[-1] == (7, 7)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize(
    ("model", "settings", "stack"),
    [
        ("linear", {}, 32),
        ("mlp", {}, 16),
        ("mlp", {"stack": 2}, 2),
        ("small_cnn", {}, 1),
        ("resnet18", {}, 1),
    ],
)
def test_what_is_stacked_is_decided_by_the_kind_of_model(model, settings, stack):
    known, job = find_model(model, "image"), find(JOB)
    assert job.settle(known, "image", {**job.defaults, **settings})["stack"] == stack
    assert "stack" not in known.identity()


@pytest.mark.parametrize(
    ("model", "kind"), [("small_cnn", "image"), ("linear", "text"), ("hashed_ngrams", "text")]
)
def test_what_cannot_be_stacked_is_refused(model, kind):
    job = find(JOB)
    assert job.settle(find_model(model, kind), kind, dict(job.defaults))["stack"] == 1
    with pytest.raises(BadInput, match="leave stack out"):
        job.settle(find_model(model, kind), kind, {**job.defaults, "stack": 8})
