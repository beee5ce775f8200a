import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.noise import heldout_self_influence as module
from tracesift.scorers.noise.heldout_self_influence import heldout_self_influence


def test_hand_worked():
    seen = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [0.0, 0.0, 1.0]])
    held_out = np.array([[0.25, 0.5, 0.25], [0.0, 1.0, 0.0], [np.nan] * 3])
    np.testing.assert_array_equal(
        heldout_self_influence(seen, held_out, np.array([0, 1, 2])), [0.25, -0.25, np.nan]
    )
    np.testing.assert_array_equal(
        heldout_self_influence(held_out, seen, np.array([0, 1, 2])), [-0.25, 0.25, np.nan]
    )


def test_against_a_loop_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    seen, held_out = (rng.dirichlet(np.ones(7), 101).astype(np.float32) for _ in range(2))
    labels = rng.integers(0, 7, 101)
    expected = [float(a[y]) - float(b[y]) for a, b, y in zip(seen, held_out, labels, strict=True)]
    whole = heldout_self_influence(seen, held_out, labels)
    np.testing.assert_array_equal(whole, expected)
    blocks = module.row_blocks
    monkeypatch.setattr(module, "row_blocks", lambda rows, width: blocks(rows, width, elements=21))
    np.testing.assert_array_equal(heldout_self_influence(seen, held_out, labels), whole)


def test_what_was_memorised_stands_out(planted_signals, auroc):
    signals, wrong = planted_signals(
        epochs=20
    )  # wrong labels are fitted in the end, and not by held-out models
    score = compute(["heldout_self_influence"], signals)["heldout_self_influence"].to_numpy()
    assert auroc(score, wrong) > 0.9


def test_a_model_that_memorises_a_minority():
    """Two-fold cross-fitting of nearest neighbours: a lone class has nobody to be learned from."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(0, 1, (60, 2)), rng.normal(8, 30, (6, 2))])
    labels = np.repeat([0, 1], [60, 6])
    fold = np.arange(66) % 2

    def predict(train):
        near = np.abs(x[:, None] - x[None, train]).sum(axis=2).argmin(axis=1)
        return np.eye(2)[labels[np.flatnonzero(train)[near]]]

    held_out = np.where(fold[:, None] == 0, predict(fold == 1), predict(fold == 0))
    score = heldout_self_influence(predict(np.ones(66, dtype=bool)), held_out, labels)
    assert score[labels == 1].mean() > 0.3 > 0.1 > score[labels == 0].mean()
