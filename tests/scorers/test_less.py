import numpy as np

from tracesift.scorers.contract import compute, find
from tracesift.scorers.influence.less import less


def test_hand_worked():
    # over checkpoints first, then the best subtask: not the sum of each checkpoint's best
    given = np.array([[[0.5, 0.0], [0.0, 0.25]], [[-0.5, -0.25], [0.0, -0.5]]], dtype=np.float32)
    assert less(given).tolist() == [0.5, -0.5]
    assert find("less").direction == "keep"
    assert find("less").experimental


def test_what_points_at_one_of_the_targets_comes_first(auroc):
    rng = np.random.default_rng(0)
    task = rng.integers(0, 3, 300)  # 2 is no target
    cosine = 0.05 * rng.normal(size=(300, 4, 2))
    for target in (0, 1):
        cosine[task == target, :, target] += 0.1
    score = compute("less", {"less_cosine": cosine}).to_series().to_numpy()
    assert auroc(score, task < 2) > 0.95


def test_missing():
    given = np.zeros((3, 2, 2))
    given[1, 0, 1] = np.nan
    assert np.isnan(less(given)).tolist() == [False, True, False]
    assert less(np.zeros((0, 2, 1))).shape == (0,)
