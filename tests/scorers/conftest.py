"""Made-up recordings: random ones over the whole vocabulary, and trajectories with known wrong labels."""

import numpy as np
import pytest

from tracesift.scorers.derived import derive


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def signals_of(logits, labels, val_logits, val_labels):
    """Return all signals that follow from logits (T, N, K), by the definitions, in float64."""
    probs = softmax(logits)
    epochs, samples, classes = logits.shape
    own = np.take_along_axis(logits, labels[None, :, None], axis=2)[..., 0]
    others = np.where(np.eye(classes, dtype=bool)[labels][None], -np.inf, logits).max(axis=2)
    val_own = np.take_along_axis(softmax(val_logits), val_labels[None, :, None], axis=2)[..., 0]
    signals = {
        name: derive(name, probs, labels)
        for name in ("prob_label", "prob_margin", "error_norm", "entropy", "pred", "correct")
    }
    steps = np.abs(probs[1:] * (np.log(probs[1:]) - np.log(probs[:-1]))).sum(axis=2)
    signals |= {
        "loss": -np.log(signals["prob_label"]),
        "margin": own - others,
        "kl_step": np.concatenate([np.full((1, samples), np.nan), steps]),
        "seen": np.ones((epochs, samples), dtype=bool),
        "labels": labels,
        "probs": probs,
        "probs_last": probs[-1],
        "probs_oos": softmax(logits.mean(axis=0)),
        "probs_oos_weak": softmax(0.7 * logits.mean(axis=0)),
        "elr_target": probs[: max(1, epochs // 3)].mean(axis=0) * (1 - 0.7**3),
        "val_loss": -np.log(val_own),
        "val_labels": val_labels,
        "val_probs_last": softmax(val_logits)[-1],
    }
    return signals


def signals_of_jobs(rng, samples, classes):
    """Return random signals of the jobs that train on their own."""
    norms = {name: rng.random((samples, 3)) for name in ("early_error_norm", "early_feature_norm")}
    runs = np.array([[True, False], [False, True], [False, False]])
    return norms | {
        "first_split_correct": rng.random((samples, 9)) < 0.6,
        "second_split_correct": rng.random((samples, 9)) < 0.6,
        "early_gradient_norm": rng.random((samples, 3)),
        "input_gradient_variance": rng.random((samples, 8, 8)),
        "boundary_distance": rng.random(samples),
        "boundary_crossed": rng.random(samples) < 0.9,
        "layer_votes": rng.integers(0, classes, size=(samples, 5)),
        "final_pred": rng.integers(0, classes, size=samples),
        "threshold_margin": rng.normal(size=(samples, 2)),
        "threshold_sample": runs[np.arange(samples) % 3],
        "subset_trained": rng.random((samples, 9)) < 0.7,
        "subset_correct": rng.random((samples, 9)) < 0.8,
        "subset_prob_label": rng.random((samples, 9)).astype(np.float32),
        "late_stopping_kept": np.sort(rng.random((samples, 12)) < 0.8, axis=1)[:, ::-1],
        "bias_shift_margin": rng.normal(size=samples),
        "linear_correct": rng.random(samples) < 0.6,
        "two_layer_correct": rng.random(samples) < 0.7,
        "extra_class_margin": rng.normal(size=(samples, 3)),
        "tracin_self": rng.random((samples, 3)),
        "tracin_val": rng.normal(size=(samples, 3)),
        "trak_self": rng.random((samples, 3)),
        "trak_val": rng.normal(size=(samples, 3)),
        "trak_residual": rng.random((samples, 3)),
        "input_curvature": rng.random((samples, 9)),
        "worst_case_weight": rng.random(samples),
        "unlearn_loss": rng.exponential(size=samples),
        "easiest_weight": rng.random(samples),
        "less_cosine": rng.normal(size=(samples, 4, 2)),
    }


def made_up_texts(rng, labels):
    """Ten words each, from eight for all classes and three for each."""
    words = rng.integers(0, 11, size=(len(labels), 10))
    return np.array(
        [
            " ".join(f"w{word}" if word < 8 else f"w{word}c{label}" for word in row)
            for row, label in zip(words, labels, strict=True)
        ],
        dtype=object,
    )


@pytest.fixture(scope="session")
def random_signals():
    """Random logits without structure; embeddings and images carry the labels a little."""

    def make(*, epochs=12, samples=80, classes=4, validation=30, seed=0):
        rng = np.random.default_rng(seed)
        labels = rng.permutation(np.arange(samples) % classes)
        val_labels = rng.permutation(np.arange(validation) % classes)
        signals = signals_of(
            rng.normal(size=(epochs, samples, classes)) * 2, labels,
            rng.normal(size=(epochs, validation, classes)) * 2, val_labels,
        )  # fmt: skip
        centres = rng.normal(size=(classes, 6))
        pixels = rng.integers(0, 200, size=(samples, 8, 8, 3)) + labels[:, None, None, None] * 8
        return signals | {
            "embedding": centres[labels] + rng.normal(size=(samples, 6)),
            "val_embedding": centres[val_labels] + rng.normal(size=(validation, 6)),
            "grad_last": rng.normal(size=(samples, 5)),
            "num_tokens": rng.integers(1, 50, size=samples),
            "images": pixels.astype(np.uint8),
            "texts": made_up_texts(np.random.default_rng(seed), labels),
            **signals_of_jobs(rng, samples, classes),
        }

    return make


@pytest.fixture(scope="session")
def planted_signals():
    """Training with wrong labels: the true class is found early, the wrong label is memorised late.

    Returns the signals and which labels are wrong (N,).
    """

    def make(*, epochs=20, samples=400, classes=4, rate=0.2, seed=0):
        rng = np.random.default_rng(seed)
        true = rng.integers(0, classes, size=samples)
        wrong = np.zeros(samples, dtype=bool)
        wrong[rng.permutation(samples)[: int(rate * samples)]] = True
        labels = np.where(wrong, (true + rng.integers(1, classes, size=samples)) % classes, true)
        val_labels = np.arange(40) % classes
        t = np.arange(1, epochs + 1)[:, None, None]
        learning = 4 * (1 - np.exp(-t / 3)) * np.exp(rng.normal(0, 0.3, size=(1, samples, 1)))
        memory = wrong[:, None] / (1 + np.exp(14 + rng.uniform(0, 2, size=(1, samples, 1)) - t))
        logits = learning * ((1 - memory) * np.eye(classes)[true] + memory * np.eye(classes)[labels])
        logits = logits + rng.normal(0, 0.5, size=logits.shape)
        val_logits = 3 * (1 - np.exp(-t / 3)) * np.eye(classes)[val_labels] + rng.normal(
            0, 0.3, size=(epochs, 40, classes)
        )
        signals = signals_of(logits, labels, val_logits, val_labels)
        return signals | {
            "probs_oos": softmax(3 * np.eye(classes)[true] + rng.normal(size=(samples, classes)))
        }, wrong

    return make


@pytest.fixture(scope="session")
def auroc():
    """Area under the curve for finding `positive` by a high score; samples without a score are left out."""

    def area(score, positive):
        there = ~np.isnan(score)
        score, positive = score[there], positive[there]
        wins = score[positive][:, None] - score[~positive][None, :]
        return float(((wins > 0) + 0.5 * (wins == 0)).mean())

    return area


@pytest.fixture(scope="session")
def clusters():
    """Unit vectors around one centre per class, and labels of which a known part is wrong.

    Returns the embedding (N, D), the labels and the true classes.
    """

    def make(*, samples=600, classes=5, rate=0.2, kind="symmetric", spread=0.3, size=16, seed=0):
        rng = np.random.default_rng(seed)
        true = rng.integers(0, classes, size=samples)
        step = rng.integers(1, classes, size=samples) if kind == "symmetric" else 1
        labels = np.where(rng.random(samples) < rate, (true + step) % classes, true)
        centres = np.linalg.qr(rng.normal(size=(size, classes)))[0].T
        return centres[true] + rng.normal(0, spread / np.sqrt(size), size=(samples, size)), labels, true

    return make
