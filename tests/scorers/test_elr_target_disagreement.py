import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.noise import elr_target_disagreement as module
from tracesift.scorers.noise.elr_target_disagreement import elr_target_disagreement


def test_hand_worked():
    target = np.array([[0.3, 0.1, 0.1], [0.3, 0.1, 0.1], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(elr_target_disagreement(target, np.array([0, 2, 1])), [0.4, 0.8, np.nan])


def test_the_start_at_zero_does_not_matter():
    p = np.array([[0.7, 0.2, 0.1]])
    one = (1 - 0.7) * p  # after one update
    many = (1 - 0.7**50) * p
    np.testing.assert_allclose(
        elr_target_disagreement(one, np.array([0])), elr_target_disagreement(many, np.array([0]))
    )


def test_against_a_loop_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    target, labels = rng.random((101, 7)).astype(np.float32), rng.integers(0, 7, 101)
    expected = [1 - float(t[y]) / sum(float(v) for v in t) for t, y in zip(target, labels, strict=True)]
    whole = elr_target_disagreement(target, labels)
    np.testing.assert_allclose(whole, expected, rtol=1e-12)
    blocks = module.row_blocks
    monkeypatch.setattr(module, "row_blocks", lambda rows, width: blocks(rows, width, elements=21))
    np.testing.assert_array_equal(elr_target_disagreement(target, labels), whole)


def test_wrong_labels_are_suspicious(planted_signals, auroc):
    signals, wrong = planted_signals()
    assert (
        auroc(compute(["elr_target_disagreement"], signals)["elr_target_disagreement"].to_numpy(), wrong)
        > 0.95
    )
