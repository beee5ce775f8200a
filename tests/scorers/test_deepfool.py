import numpy as np

from tracesift.scorers.contract import compute
from tracesift.scorers.geometry.deepfool import deepfool


def test_hand_worked_and_missing():
    score = deepfool(np.array([0.0, 1.5, np.nan], dtype=np.float32))
    assert score[:2].tolist() == [0, 2.25]
    assert np.isnan(score[2])
    assert score.dtype == np.float64


def test_squares_of_single_precision_are_taken_in_double():
    small = np.array([1e-30], dtype=np.float32)
    assert compute("deepfool", {"boundary_distance": small})["deepfool"][0] > 0
