"""The search for the worst-case forget set: what it finds, each step by hand, and that it can be stopped."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.capped_simplex import onto_capped_simplex
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.encoding.encode import Encodings, Rows
from tracesift.pipelines.jobs import worst_case as module_of
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.jobs.worst_case import losses, sign_fine_tune
from tracesift.pipelines.models.contract import find as find_model
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.signals import load_signals, read_run
from tracesift.pipelines.train import TrainConfig, record
from tracesift.pipelines.unlearners.contract import Trained
from tracesift.pipelines.unlearners.retrain import retrain
from tracesift.scorers.contract import compute
from tracesift.selectors.contract import select

CPU = torch.device("cpu")
QUICK = {"rounds": 3, "epochs": 2}


def read(workspace, run_id):
    return load_signals(workspace, run_id).in_mode("in_training")


def trained_on(module, dataset, model):
    return Trained(
        module=module, model=model, inputs=Encodings(dataset).of(model), num_classes=dataset.num_classes, device=CPU,
        labels=torch.tensor(dataset.labels, dtype=torch.int64),
    )  # fmt: skip


@pytest.fixture(scope="module")
def clouds(tmp_path_factory):
    """Three clouds, each sample said again by its neighbours, but for a fifth that carry a label of their own."""
    import polars as pl

    rng = np.random.default_rng(0)
    labels = np.arange(200) % 3
    values = (4 * rng.normal(size=(3, 5)))[labels] + rng.normal(size=(200, 5))
    columns = {f"x{at}": values[:, at] for at in range(5)}
    frame = pl.DataFrame(
        {"id": [f"s{at:03d}" for at in range(200)], "label": [f"c{one}" for one in labels], **columns}
    )
    dataset = plant_label_noise(open_dataset(frame, name="clouds"), 0.2, seed=0)
    workspace = tmp_path_factory.mktemp("clouds")
    config = TrainConfig(seed=0, model="mlp", epochs=20, batch_size=32, lr=0.01, device="cpu", threads=1)
    run_id = record(dataset, workspace, config)
    samples = dataset.samples[dataset.rows("train")]
    return dataset, workspace, run_id, (samples["label"] != samples["label_true"]).to_numpy()


def test_the_worst_case_is_what_the_rest_of_the_data_says_anyway(clouds):
    dataset, workspace, run_id, own = clouds
    params = {"rounds": 5, "epochs": 5, "size": 30}
    run_job("worst_case", dataset, workspace, run_id, params, device="cpu")
    run_job("worst_case", dataset, workspace, run_id, {**params, "easiest": True}, device="cpu")
    run_job("subset_training", dataset, workspace, run_id, {"models": 16}, device="cpu")
    found = read(workspace, run_id)
    scores = compute(["memorization_subset", "worst_case_weight", "easiest_weight"], found).with_columns(
        sample_id=dataset.samples["sample_id"].gather(dataset.rows("train")),
        label=dataset.samples["label"].gather(dataset.rows("train")),
    )
    sets = {
        name: (select(name, scores, budget=30, seed=0)["role"] == "forget").to_numpy()
        for name in ("worst_case_forget_set", "random_forget_set", "easiest_forget_set")
    }
    worst, random, easiest = sets.values()
    memorized = scores["memorization_subset"].to_numpy()
    assert memorized[worst].mean() < memorized[random].mean() - 0.03
    assert memorized[easiest].mean() > memorized[random].mean() + 0.1
    assert own[worst].sum() <= 1
    assert own[easiest].mean() > 0.8
    model = find_model("mlp", "tabular").with_recipe(epochs=20, batch_size=32, lr=0.01)
    trained = trained_on(None, dataset, model)
    rows = torch.from_numpy(dataset.rows("train"))
    unlearned = {}
    for name, inside in sets.items():
        module = retrain(trained, rows[inside], rows[~inside], seed=1)
        with torch.inference_mode():
            right = module(trained.inputs.batch(rows[inside])).argmax(1) == trained.labels[rows[inside]]
        unlearned[name] = 1 - right.double().mean().item()
    assert unlearned["worst_case_forget_set"] <= 0.07
    assert unlearned["random_forget_set"] > 0.08
    assert unlearned["easiest_forget_set"] > 0.7


def test_one_round_by_hand(recorded):
    dataset, workspace, run_id = recorded("by hand")
    run_job(
        "worst_case", dataset, workspace, run_id,
        {"rounds": 1, "epochs": 1, "size": 12, "w_lr": 0.3, "gamma": 0.1}, device="cpu",
    )  # fmt: skip
    found = read(workspace, run_id)
    first = np.full(len(dataset.rows("train")), 12 / len(dataset.rows("train")))
    moved = first - 0.3 * (found["unlearn_loss"].astype(np.float64) + 0.2 * first)
    np.testing.assert_allclose(found["worst_case_weight"], onto_capped_simplex(moved, 12), atol=1e-6)
    order = np.argsort(found["unlearn_loss"])
    assert (np.diff(found["worst_case_weight"][order]) <= 1e-7).all()  # the lowest loss weighs most


def test_the_lower_level_is_what_was_asked_for(recorded, monkeypatch):
    dataset, workspace, run_id = recorded("lower")
    seen = []

    def watched(trained, rows, weights, *, seed, **asked):
        seen.append((weights[rows].double().numpy(), asked))
        return trained.module

    monkeypatch.setattr(module_of, "sign_fine_tune", watched)
    before = {name: value.clone() for name, value in load_state(workspace, run_id).items()}
    run_job(
        "worst_case",
        dataset,
        workspace,
        run_id,
        {"rounds": 3, "size": 12, "lr": 0.5, "w_lr": 1.0},
        device="cpu",
    )
    found = read(workspace, run_id)
    np.testing.assert_allclose(seen[0][0], 1 - 12 / len(dataset.rows("train")), rtol=1e-6)
    assert seen[0][1] == {"lr": 0.5}
    # the network is the recorded one in every round, so the last step follows from the weights it was given
    moved = 1 - seen[2][0] - found["unlearn_loss"]
    np.testing.assert_allclose(found["worst_case_weight"], onto_capped_simplex(moved, 12), atol=1e-5)
    for name, value in load_state(workspace, run_id).items():
        assert torch.equal(value, before[name])


def load_state(workspace, run_id):
    from tracesift.pipelines.checkpoint import load_checkpoint
    from tracesift.pipelines.signals import run_folder

    return load_checkpoint(run_folder(workspace, run_id))["learner"]["module"]


@pytest.mark.parametrize("method", ["fine_tune", "gradient_ascent", "salun"])
def test_any_unlearning_method_can_be_the_lower_level(recorded, method):
    dataset, workspace, run_id = recorded(f"with {method}")
    params = {"method": method, "rounds": 2, "epochs": 1, "size": 0.1}
    assert run_job("worst_case", dataset, workspace, run_id, params, device="cpu") == (
        "unlearn_loss",
        "worst_case_weight",
    )
    assert read(workspace, run_id)["worst_case_weight"].sum() == pytest.approx(12)
    assert read_run(workspace, run_id)["arrays"]["unlearn_loss"]["settings"]["method"] == method


def test_a_method_is_given_the_highest_weights_to_forget(recorded, monkeypatch):
    dataset, workspace, run_id = recorded("given")
    seen = []

    def method(trained, forget, retain, *, seed, weights, **settings):
        seen.append((forget, retain, weights, settings))
        return trained.module

    monkeypatch.setattr(
        module_of, "find", lambda name: SimpleNamespace(function=method, defaults={"share": 0.5})
    )
    params = {"method": "salun", "rounds": 2, "size": 12, "w_lr": 1.0, "settings": {"share": 0.2}}
    run_job("worst_case", dataset, workspace, run_id, params, device="cpu")
    train = dataset.rows("train")
    for forget, retain, weights, settings in seen:
        assert len(forget) == 12
        assert sorted([*forget.tolist(), *retain.tolist()]) == train.tolist()
        assert settings == {"share": 0.2}
        assert 1 - weights[retain].max() <= weights[forget].min() + 1e-9
        assert weights.sum() == pytest.approx(weights[forget].sum() + weights[retain].sum())


def test_whole_classes_keep_the_budget_that_was_asked_for(recorded):
    """The published code starts from a tenth of the classes and projects to nine tenths of that."""
    dataset, workspace, run_id = recorded("classes")
    run_job(
        "worst_case",
        dataset,
        workspace,
        run_id,
        {**QUICK, "by": "class", "size": 1, "w_lr": 5.0},
        device="cpu",
    )
    found = read(workspace, run_id)
    labels = dataset.labels[dataset.rows("train")]
    each = [np.unique(found["worst_case_weight"][labels == label]) for label in range(3)]
    assert all(len(one) == 1 for one in each)
    assert sum(float(one[0]) for one in each) == pytest.approx(1)
    mean = np.array([found["unlearn_loss"][labels == label].mean() for label in range(3)])
    assert np.argmax([one[0] for one in each]) == mean.argmin()


def test_one_round_over_classes_by_hand(recorded):
    """A class's loss is the mean over its samples: no sum, and not divided by their number once more, as published."""
    dataset, workspace, run_id = recorded("by class and hand")
    params = {"by": "class", "size": 1, "rounds": 1, "epochs": 1, "w_lr": 100.0}
    run_job("worst_case", dataset, workspace, run_id, params, device="cpu")
    found, labels = read(workspace, run_id), dataset.labels[dataset.rows("train")]
    mean = np.array([found["unlearn_loss"][labels == label].astype(np.float64).mean() for label in range(3)])
    expected = onto_capped_simplex(1 / 3 - 100 * mean, 1)
    assert 0.01 < np.ptp(expected) < 0.9
    np.testing.assert_allclose(found["worst_case_weight"], expected[labels], atol=1e-5)


def test_a_random_start_is_the_published_one_and_says_when_it_stays(recorded):
    dataset, workspace, run_id = recorded("random start")
    params = {**QUICK, "size": 12, "start": "random"}
    with pytest.raises(BadInput, match="still the one that was drawn at random; raise w_lr above 1e-09"):
        run_job("worst_case", dataset, workspace, run_id, {**params, "w_lr": 1e-9}, device="cpu")
    run_job("worst_case", dataset, workspace, run_id, {**params, "w_lr": 1e4}, device="cpu")
    samples = len(dataset.rows("train"))
    first = np.zeros(samples, dtype=bool)
    first[np.random.default_rng(0).permutation(samples)[:12]] = True
    weight = read(workspace, run_id)["worst_case_weight"]
    assert 0 < first[np.argsort(-weight, kind="stable")[:12]].sum() < 12


def test_stopped_and_gone_on_with_it_ends_with_the_same_bits(recorded, monkeypatch):
    params = {"rounds": 4, "epochs": 1, "size": 12}
    dataset, workspace, run_id = recorded("undisturbed")
    run_job("worst_case", dataset, workspace, run_id, params, device="cpu")
    dataset, stopped, _ = recorded("stopped")
    real, rounds = sign_fine_tune, []

    def counted(*given, **more):
        if len(rounds) == 2:
            raise KeyboardInterrupt
        rounds.append(1)
        return real(*given, **more)

    monkeypatch.setattr(module_of, "sign_fine_tune", counted)
    with pytest.raises(KeyboardInterrupt):
        run_job("worst_case", dataset, stopped, run_id, params, device="cpu")
    rounds[:] = [1] * 10  # never 2 again
    run_job("worst_case", dataset, stopped, run_id, params, device="cpu")
    assert len(rounds) == 12  # two of four rounds were there
    for name in ("worst_case_weight", "unlearn_loss"):
        assert read(stopped, run_id)[name].tobytes() == read(workspace, run_id)[name].tobytes()


def test_losses_are_of_eval_mode_and_leave_the_network_as_it_is():
    """In train mode, as published, a batch's own statistics leak into its losses and running ones move."""
    values = torch.randn(700, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(700) % 3
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3))
    model = find_model("mlp", "tabular")
    bench = SimpleNamespace(inputs=Rows(values), labels=labels, train=torch.arange(100, 700), device=CPU)
    trained = Trained(
        module=network, model=model, inputs=bench.inputs, labels=labels, num_classes=3, device=CPU
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    found = losses(bench, trained, network)
    network.eval()
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(
            network(values[100:]).double(), labels[100:], reduction="none"
        )
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.no_grad():
        network[2].bias[0] = np.nan
    with pytest.raises(BadInput, match="600 of 600 losses are not finite; lower lr"):
        losses(bench, trained, network)


def test_signs_set_the_length_of_every_step_and_weights_say_who_counts():
    values = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(40) % 3
    network = torch.nn.Linear(4, 3)
    model = find_model("mlp", "tabular").with_recipe(batch_size=64)
    trained = Trained(
        module=network, model=model, inputs=Rows(values), labels=labels, num_classes=3, device=CPU
    )
    weights = (torch.arange(40) < 30).float()
    found = sign_fine_tune(trained, torch.arange(40), weights, seed=0, epochs=1, lr=0.01)
    logits = network(values[:30])
    torch.nn.functional.cross_entropy(logits, labels[:30]).backward()
    for after, given in zip(found.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(after.detach(), given.detach() - 0.01 * given.grad.sign())
    scaled = sign_fine_tune(trained, torch.arange(40), 7 * weights, seed=0, epochs=1, lr=0.01)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), scaled.parameters(), strict=True))


def test_texts_have_sparse_gradients(sentences, tmp_path):
    run_id = record(sentences, tmp_path, TrainConfig(seed=0, epochs=2, device="cpu", threads=1))
    run_job("worst_case", sentences, tmp_path, run_id, {"rounds": 2, "epochs": 1, "lr": 0.001}, device="cpu")
    assert read(tmp_path, run_id)["worst_case_weight"].sum() == pytest.approx(
        round(0.1 * len(sentences.rows("train")))
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 0}, "leaves none to forget"),
        ({"size": 150}, "or none to retain"),
        ({"size": 1.0}, "or none to retain"),
        ({"by": "class", "size": 3}, "3 classes"),
        ({"by": "group"}, "must be 'sample' or 'class'"),
        ({"start": "zero"}, "must be 'uniform' or 'random'"),
        ({"rounds": 0}, "rounds is 0"),
        ({"w_lr": -1.0}, "w_lr is -1.0"),
        ({"settings": {"share": 0.1}}, "takes epochs and lr alone"),
        ({"method": "salun", "settings": {"shape": 0.1}}, "has no setting shape"),
    ],
)
def test_settings_that_cannot_be_meant(recorded, params, message, request):
    dataset, workspace, run_id = recorded(f"refused {request.node.name}".replace("/", " "))
    with pytest.raises(BadInput, match=message):
        run_job("worst_case", dataset, workspace, run_id, params, device="cpu")


def test_it_needs_the_recorded_network(recorded):
    dataset, workspace, run_id = recorded("no network")
    with pytest.raises(UnknownName, match="did you mean 'fine_tune'"):
        run_job("worst_case", dataset, workspace, run_id, {"method": "finetune"}, device="cpu")
    with pytest.raises(BadInput, match="goes on from the recorded network"):
        run_job("worst_case", dataset, workspace, run_id, QUICK, model="linear", device="cpu")
