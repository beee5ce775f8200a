import numpy as np

from tracesift.scorers.contract import compute, find
from tracesift.scorers.dynamics.misclassification_margin import misclassification_margin


def test_from_logits_by_hand():
    logits = np.array([[[2.0, 5.0, 1.0]], [[4.0, 1.0, 3.5]]])  # (T, N, K)
    label = 0
    margins = [row[0, label] - max(row[0, 1:]) for row in logits]
    assert margins == [-3.0, 0.5]
    assert misclassification_margin(np.array(margins)[:, None]).tolist() == [-1.25]


def test_it_is_aum_under_the_name_of_the_forgetting_paper(random_signals):
    scores = compute(["aum", "misclassification_margin"], random_signals())
    assert scores["aum"].to_list() == scores["misclassification_margin"].to_list()
    assert find("misclassification_margin").direction == "easy"
