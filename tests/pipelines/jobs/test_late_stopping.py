"""Late stopping: the published rounds on prescribed predictions, their defects one by one, and planted noise."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.encoding.images import Pixels
from tracesift.pipelines.jobs import late_stopping as module
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.late_stopping import Learned
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute

SKIP = 7


def published(right, k, target, epochs):
    """One round as the published script runs it: all predictions are gone through again after every epoch.

    Returns the positions learned, in their order, and the epoch at which the round stopped; None where it never did.
    """
    for epoch in range(epochs):
        learned = []
        before, long_before = {}, {}
        for index in range(epoch):  # the current epoch is left out
            if index > SKIP - 1:
                for i, good in enumerate(right[index]):
                    streak = [good, before.get(i, False), long_before.get(i, False)][:k]
                    if all(streak) and i not in learned:
                        learned.append(i)
                    long_before[i], before[i] = before.get(i, False), good
        if len(learned) >= target:
            return learned, epoch
    return None


@pytest.fixture
def prescribed(monkeypatch):
    """A function: let a job run on given predictions (rounds of (epochs, dataset rows)); returns what it trained."""

    def play(right_by_round):
        trained = []

        def fit(bench, learner, rows, **more):
            trained.append({"rows": rows.numpy(), "epochs": 0, "learner": learner})
            for epoch in range(learner.steps // -(-len(rows) // learner.recipe.batch_size)):
                trained[-1]["epochs"] = epoch + 1
                yield epoch

        def correct(bench, learner, rows):
            return right_by_round[len(trained) - 1][trained[-1]["epochs"] - 1, rows.numpy()]

        monkeypatch.setattr(Workbench, "fit", fit)
        monkeypatch.setattr(Workbench, "correct", correct)
        return trained

    return play


def learning(size, epochs, rounds, seed):
    """Predictions that become right at some epoch of each round, with lapses."""
    rng = np.random.default_rng(seed)
    rounds_of = []
    for _ in range(rounds):
        start = rng.integers(0, epochs - 8, size)
        right = (np.arange(epochs)[:, None] >= start) & (rng.random((epochs, size)) < 0.9)
        rounds_of.append(right)
    return rounds_of


@pytest.mark.parametrize("seed", range(3))
def test_the_rounds_are_the_published_ones(recorded, signals_of, prescribed, seed):
    dataset, workspace, run_id = recorded(f"rounds {seed}")
    rows, epochs = dataset.rows("train"), 30
    predictions = learning(len(dataset), epochs, 12, seed)
    trained = prescribed(predictions)
    run_job("late_stopping", dataset, workspace, run_id, {"epochs": epochs}, device="cpu")
    current = rows
    for number, (right, one) in enumerate(zip(predictions, trained, strict=True)):
        np.testing.assert_array_equal(one["rows"], current)
        target = int(len(rows) * 0.98 ** (number + 1))
        found = published(right[:, current], number // 4 + 1, target, epochs)
        if found is not None:
            assert one["epochs"] == found[1]  # its own index, counted from 0: one epoch less than it trains
            current = np.sort(current[found[0]])
        kept = signals_of(workspace, run_id)["late_stopping_kept"][:, number]
        np.testing.assert_array_equal(rows[kept], current)
    assert len(current) < len(rows)
    recipe = trained[0]["learner"].recipe
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("sgd", 0.01, 0.9, 5e-4)
    assert (recipe.batch_size, recipe.schedule) == (32, "constant")


def test_the_first_seven_epochs_count_for_nothing():
    right = np.ones((12, 1), dtype=bool)
    for k, first in ((1, 7), (2, 8), (3, 9)):
        learned = Learned(1, skip=SKIP, k=k)
        counts = [learned.after(epoch, row) for epoch, row in enumerate(right)]
        assert counts.index(1) == first


def test_a_lapse_ends_the_stretch_but_not_what_was_learned():
    learned = Learned(1, skip=0, k=2)
    right = [True, False, True, True, False]
    assert [learned.after(epoch, np.array([now])) for epoch, now in enumerate(right)] == [0, 0, 0, 1, 1]


def test_a_round_that_never_gets_there_carries_its_set_over(recorded, signals_of, prescribed):
    # in the published code the first round then leaves an empty set, and the second crashes
    dataset, workspace, run_id = recorded("carried")
    never = np.zeros((15, len(dataset)), dtype=bool)
    half = np.arange(15)[:, None] >= np.where(np.arange(len(dataset)) % 10 == 0, 99, 0)
    rounds = [never, half, half[::-1] & False] + [never] * 9
    trained = prescribed(rounds)
    run_job("late_stopping", dataset, workspace, run_id, {"epochs": 15, "share": 0.9}, device="cpu")
    kept = signals_of(workspace, run_id)["late_stopping_kept"]
    assert kept[:, 0].all()
    assert trained[0]["epochs"] == 14  # the last of 15 epochs is never looked at
    assert 0 < kept[:, 1].mean() < 1
    np.testing.assert_array_equal(kept[:, 2], kept[:, 1])


def test_the_last_epoch_admits_all_that_it_learned(recorded, signals_of, prescribed):
    # all are learned at once, so a round that should remove a tenth removes nothing
    dataset, workspace, run_id = recorded("overshoot")
    trained = prescribed([np.ones((15, len(dataset)), dtype=bool)] * 12)
    run_job("late_stopping", dataset, workspace, run_id, {"epochs": 15, "share": 0.9}, device="cpu")
    assert signals_of(workspace, run_id)["late_stopping_kept"].all()
    assert [one["epochs"] for one in trained] == [8] * 4 + [9] * 4 + [10] * 4


def test_training_samples_are_predicted_as_they_are(recorded):
    # the published loaders augment them
    dataset, workspace, run_id = recorded("plain")
    seen = []
    real = Workbench.correct

    def watched(bench, learner, rows):
        right = real(bench, learner, rows)
        seen.append(learner.module.training)
        return right

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workbench, "correct", watched)
        run_job("late_stopping", dataset, workspace, run_id, {"epochs": 12, "rounds": 3}, device="cpu")
    assert seen
    assert not any(seen)


def test_only_what_is_trained_on_is_augmented(squares, tmp_path, monkeypatch):
    run_id = record(squares, tmp_path, TrainConfig(seed=0, epochs=1, device="cpu", threads=1))
    generators, doing = {"training": [], "judging": []}, ["training"]
    batch, correct = Pixels.batch, Workbench.correct

    def read(pixels, rows, generator=None):  # a generator is what an augmented view is drawn with
        generators[doing[-1]].append(generator is not None)
        return batch(pixels, rows, generator)

    def judge(bench, learner, rows):
        doing.append("judging")
        right = correct(bench, learner, rows)
        doing.pop()
        return right

    monkeypatch.setattr(Pixels, "batch", read)
    monkeypatch.setattr(Workbench, "correct", judge)
    run_job("late_stopping", squares, tmp_path, run_id, {"epochs": 4, "skip": 0, "rounds": 3}, device="cpu")
    assert set(generators["training"]) == {True}
    assert set(generators["judging"]) == {False}


def test_what_it_leaves_out_is_mostly_wrong(noisy_digits, signals_of, auroc):
    dataset, workspace, run_id, wrong = noisy_digits
    settings = {"epochs": 40, "rounds": 3, "batch_size": 64}
    run_job("late_stopping", dataset, workspace, run_id, settings, device="cpu", model="mlp")
    signals = signals_of(workspace, run_id)
    kept = signals["late_stopping_kept"]
    first = ~kept[:, 0]
    assert 0 < first.sum() <= 0.02 * len(wrong) + 1
    assert wrong[first].mean() > 0.8  # a fifth by chance
    out = compute("late_stopping", signals)["late_stopping"].to_numpy() > 0
    assert wrong[out].mean() > 0.8
    assert wrong[~out].mean() < wrong.mean()


def test_what_it_refuses(recorded):
    dataset, workspace, run_id = recorded("late refused")
    for settings, message in (
        ({"rounds": 10}, "multiple of 3"),
        ({"share": 1.0}, "share is above 0"),
        ({"epochs": 10}, "at least 11"),
    ):
        with pytest.raises(BadInput, match=message):
            run_job("late_stopping", dataset, workspace, run_id, settings, device="cpu")
    assert module.STRETCHES == (1, 2, 3)
