import numpy as np

from tracesift.scorers.contract import compute, find
from tracesift.scorers.influence.loss_curvature import loss_curvature


def test_hand_worked():
    assert loss_curvature(np.array([[0.5, 0.25, 0.0], [3.0, 3.0, 3.0]], dtype=np.float32)).tolist() == [
        0.25,
        3.0,
    ]
    assert find("loss_curvature").direction == "hard"


def test_what_bends_most_comes_first_and_what_is_missing_is_missing(auroc):
    rng = np.random.default_rng(0)
    hard = rng.random(300) < 0.2
    measured = np.exp(rng.normal(0, 0.5, size=(300, 6)) + hard[:, None])
    measured[0, 3] = np.nan
    score = compute("loss_curvature", {"input_curvature": measured}).to_series().to_numpy()
    assert np.isnan(score[0])
    assert auroc(score, hard) > 0.95
    np.testing.assert_allclose(score[1:], measured[1:].mean(axis=1), rtol=1e-12)
