import numpy as np

from tracesift.scorers.contract import compute, find
from tracesift.scorers.influence.datainf import datainf
from tracesift.scorers.influence.tracin import tracin


def test_hand_worked():
    assert tracin(np.array([[0.5, 0.25], [-2.0, 1.0]], dtype=np.float32)).tolist() == [0.75, -1.0]
    assert find("tracin").direction == "keep"


def test_what_harms_is_negative_and_datainf_has_the_other_sign(clusters):
    # one checkpoint of a softmax regression, whose sample 0 contradicts everybody
    x, labels, true = clusters(samples=200, classes=2, rate=0.0, size=4)
    labels[0] = 1 - true[0]
    logits = 3 * x @ np.linalg.lstsq(x, np.eye(2)[true], rcond=None)[0]
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.einsum("nk,nd->nkd", probs - np.eye(2)[labels], np.hstack([x, np.ones((200, 1))])).reshape(
        200, -1
    )
    towards = 0.1 * rows @ rows[100:].mean(axis=0)
    score = compute("tracin", {"tracin_val": towards[:100, None]}).to_series().to_numpy()
    assert score[0] < 0 < score[1:].mean()
    assert score.argmin() == 0
    parts = (probs, labels, x)
    other = datainf(*(part[:100] for part in parts), *(part[100:] for part in parts))
    assert np.corrcoef(score, other)[0, 1] < -0.5


def test_missing():
    found = tracin(np.array([[np.nan, 1.0], [1.0, -np.inf], [1.0, 1.0]]))
    assert np.isnan(found).tolist() == [True, True, False]
