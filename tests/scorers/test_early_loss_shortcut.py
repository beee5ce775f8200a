"""Held-out probability of the label, compared with the class: by hand, by a loop, and with planted easy samples."""

import numpy as np

from tracesift.scorers.contract import find
from tracesift.scorers.unlearnable.early_loss_shortcut import early_loss_shortcut


def test_by_hand():
    probs = np.array([[0.9, 0.1], [0.5, 0.5], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]])
    score = early_loss_shortcut(probs, np.array([0, 0, 0, 1, 1]))
    # class 0 gives its label .9 .5 .4 (median .5); class 1 gives .7 .2 (median .45)
    np.testing.assert_allclose(score, [0.4, 0.0, -0.1, 0.25, -0.25], atol=1e-12)


def test_a_sample_without_prediction_is_nan_and_leaves_the_median_alone():
    probs = np.array([[0.9, 0.1], [np.nan, np.nan], [0.5, 0.5]])
    np.testing.assert_allclose(
        early_loss_shortcut(probs, np.array([0, 0, 0])), [0.2, np.nan, -0.2], atol=1e-12
    )


def test_easier_than_the_class_scores_high(auroc):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=300)
    easy = rng.random(300) < 0.3
    own = np.clip(np.array([0.3, 0.5, 0.7])[labels] + 0.2 * easy + rng.normal(0, 0.05, 300), 0, 1)
    probs = np.repeat((1 - own)[:, None] / 2, 3, axis=1)
    probs[np.arange(300), labels] = own
    assert auroc(early_loss_shortcut(probs, labels), easy) > 0.97
    assert auroc(own, easy) < 0.9  # without the centring the classes hide it
    assert find("early_loss_shortcut").direction == "suspicious"
