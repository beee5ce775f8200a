import numpy as np

from tracesift.scorers.contract import compute, find
from tracesift.scorers.influence.last_layer_self_influence import last_layer_self_influence
from tracesift.scorers.influence.tracin_self_influence import tracin_self_influence


def test_hand_worked():
    assert tracin_self_influence(np.array([[0.5, 0.25], [0.0, 0.0]], dtype=np.float32)).tolist() == [
        0.75,
        0.0,
    ]
    assert find("tracin_self_influence").direction == "suspicious"


def test_one_checkpoint_is_the_square_of_the_last_layer_s_gradient():
    rng = np.random.default_rng(0)
    probs, labels, hidden = rng.dirichlet(np.ones(3), 20), rng.integers(0, 3, 20), rng.normal(size=(20, 4))
    error = probs - np.eye(3)[labels]
    squared = (error**2).sum(axis=1) * (1 + (hidden**2).sum(axis=1))
    found = compute("tracin_self_influence", {"tracin_self": 0.1 * squared[:, None]}).to_series().to_numpy()
    np.testing.assert_allclose(found, 0.1 * last_layer_self_influence(probs, labels, hidden), rtol=1e-12)


def test_what_is_never_learned_pulls_longest(auroc):
    rng = np.random.default_rng(1)
    wrong = rng.random(400) < 0.1
    fades = np.exp(-np.arange(5) * np.where(wrong, 0.1, 1.0)[:, None])
    score = tracin_self_influence(fades * np.exp(rng.normal(0, 0.3, size=(400, 5))))
    assert auroc(score, wrong) > 0.95


def test_missing_and_infinite():
    found = tracin_self_influence(np.array([[np.nan, 1.0], [np.inf, 1.0], [1.0, 1.0]]))
    assert np.isnan(found).tolist() == [True, True, False]
    assert tracin_self_influence(np.zeros((0, 3))).shape == (0,)
