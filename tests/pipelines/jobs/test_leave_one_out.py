"""Influence against the truth: a convex problem, fitted anew without each sample, and what that changes for others."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.embedding.embeddings import embed
from tracesift.pipelines.jobs.contract import run_job
from tracesift.pipelines.signals import load_signals
from tracesift.pipelines.train import TrainConfig, record
from tracesift.scorers.contract import compute

DECAY = 0.05
MODEL = f"""
from torch import nn
from tracesift.pipelines.models.contract import Recipe

RECIPE = Recipe(
    optimizer="sgd", lr=0.5, momentum=0.9, batch_size=4096, epochs=70, weight_decay={DECAY}, schedule="constant", threads=1)

def regression(input_shape, num_classes):
    return nn.Linear(input_shape[0], num_classes)
"""
"""A softmax regression by gradient descent with momentum on all samples at once, long enough to arrive."""


def fit(x, labels, classes=3):
    """Weights (K, D + 1), the bias last, of the same regression by Newton's method in float64."""
    x = np.hstack([x, np.ones((len(x), 1))])
    size = classes * x.shape[1]
    theta = np.zeros((classes, x.shape[1]))
    for _ in range(8):
        p = softmax(x @ theta.T)
        slope = (p - np.eye(classes)[labels]).T @ x / len(x) + DECAY * theta
        curved = np.einsum("nk,kl,nd,ne->kdle", p, np.eye(classes), x, x, optimize=True)
        curved = (curved - np.einsum("nk,nl,nd,ne->kdle", p, p, x, x, optimize=True)) / len(x)
        theta = theta - np.linalg.solve(
            curved.reshape(size, size) + DECAY * np.eye(size), slope.ravel()
        ).reshape(theta.shape)
    assert np.abs(slope).max() < 1e-10
    return theta


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def label_probs(theta, x, labels):
    return softmax(np.hstack([x, np.ones((len(x), 1))]) @ theta.T)[np.arange(len(x)), labels]


def log_odds(p):
    return np.log(p) - np.log1p(-p)


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    """Signals of the jobs, and what leaving out each sample does: to validation losses and log odds, and to its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(130) % 3
    values = 1.2 * rng.normal(size=(3, 4))[labels] + rng.normal(size=(130, 4))
    wrong = rng.random(130) < 0.1
    given = np.where(wrong, (labels + 1) % 3, labels)
    split = np.where(np.arange(130) < 90, "train", np.where(np.arange(130) < 125, "val", "test"))
    given = np.where(split == "train", given, labels)
    columns = {f"x{at}": values[:, at] for at in range(4)}
    frame = pl.DataFrame(
        {"id": [f"s{i:03d}" for i in range(130)], "label": [f"c{c}" for c in given], **columns}
    )
    dataset = open_dataset(frame.with_columns(split=pl.Series(split)), name="convex", split="split")
    folder = tmp_path_factory.mktemp("convex")
    (folder / "convex_regression.py").write_text(MODEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        config = TrainConfig(seed=0, model="convex_regression:regression", epochs=70, device="cpu", threads=1)
        run_id = record(dataset, folder / "work", config)
        embed(dataset, folder / "work", run_id, device="cpu")
        run_job("tracin", dataset, folder / "work", run_id, {"checkpoints": 10}, device="cpu")
        run_job(
            "trak",
            dataset,
            folder / "work",
            run_id,
            {"models": 1, "dimension": 15, "damping": 20.0, "pairs": True},
            device="cpu",
        )
    signals = load_signals(folder / "work", run_id).in_mode("epoch_end")
    train, val = (slice(0, 90), slice(90, 125))
    x, y = np.asarray(signals["embedding"], dtype=np.float64), np.asarray(signals["labels"])
    others, theirs = np.asarray(signals["val_embedding"], dtype=np.float64), np.asarray(signals["val_labels"])
    assert (y == given[train]).all()
    assert (theirs == given[val]).all()
    whole = fit(x, y)
    np.testing.assert_allclose(
        label_probs(whole, x, y), np.asarray(signals["probs_last"])[np.arange(90), y], atol=2e-3
    )
    without = [fit(np.delete(x, i, axis=0), np.delete(y, i)) for i in range(90)]
    before, after = (
        label_probs(whole, others, theirs),
        [label_probs(theta, others, theirs) for theta in without],
    )
    alone = np.array([label_probs(theta, x[[i]], y[[i]])[0] for i, theta in enumerate(without)])
    truth = {
        "loss": np.array([(np.log(before) - np.log(p)).mean() for p in after]),
        "odds": np.array([(log_odds(before) - log_odds(p)).mean() for p in after]),
        "odds_pairs": np.array([log_odds(before) - log_odds(p) for p in after]),
        "own_loss": np.log(label_probs(whole, x, y)) - np.log(alone),
        "own_odds": log_odds(label_probs(whole, x, y)) - log_odds(alone),
    }
    return signals, truth


@pytest.mark.parametrize(
    ("name", "params", "target", "sign", "least"),
    [
        ("tracin", {}, "loss", 1, 0.83),
        ("datainf", {}, "loss", -1, 0.88),
        ("datainf", {"damping": 100.0}, "loss", -1, 0.83),
        ("trak", {}, "odds", 1, 0.86),
        ("trak_self_influence", {}, "own_odds", 1, 0.95),
        ("tracin_self_influence", {}, "own_loss", 1, 0.95),
        ("last_layer_self_influence", {}, "own_loss", 1, 0.95),
    ],
)
def test_ranks_are_those_of_leaving_out(name, params, target, sign, least, problem):
    signals, truth = problem
    score = compute([name], signals, device="cpu", params={name: params})[name].to_numpy()
    assert spearmanr(sign * score, truth[target]).statistic > least
    slope, offset = np.polyfit(sign * score, truth[target], 1)
    assert slope > 0
    assert (
        abs(offset) < 0.3 * np.abs(truth[target]).max()
    )  # the sign is that of the change, not only its order


def test_pairs_rank_as_leaving_out_does(problem):
    signals, truth = problem
    names = ("trak_feature", "val_trak_feature", "trak_residual")
    feature, others, residual = (np.asarray(signals[name], dtype=np.float64) for name in names)
    pairs = np.einsum("nrp,mrp->nm", feature, others) * residual.mean(axis=1, keepdims=True)
    found = [spearmanr(*both).statistic for both in zip(pairs.T, truth["odds_pairs"].T, strict=True)]
    assert np.mean(found) > 0.85
    assert min(found) > 0.5
