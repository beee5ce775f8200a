import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute, find
from tracesift.scorers.unlearnable.iterative_filtering import iterative_filtering


def test_the_last_round_counts():
    margin = np.array([[5.0, 1.0, -2.0], [-1.0, 0.5, 3.0]], dtype=np.float32)
    assert iterative_filtering(margin).tolist() == [-2, 3]
    with pytest.raises(BadInput, match="no round"):
        iterative_filtering(margin[:, :0])


def test_those_still_named_by_their_label_score_high(auroc):
    rng = np.random.default_rng(0)
    poisoned = rng.random(400) < 0.4
    margin = rng.normal(size=(400, 3)) + np.where(poisoned, 1, -1)[:, None] * np.arange(3)
    score = compute("iterative_filtering", {"extra_class_margin": margin})["iterative_filtering"].to_numpy()
    assert auroc(score, poisoned) > 0.95
    assert auroc(score, poisoned) > auroc(margin[:, 0], poisoned)
    assert find("iterative_filtering").experimental
    assert find("iterative_filtering").direction == "suspicious"
