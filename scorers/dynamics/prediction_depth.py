"""Prediction depth: the layer from which on a sample's neighbours agree with what the network says in the end.

Read from the job `prediction_depth`. Easy samples are settled in the first layers, ambiguous and wrongly
labelled ones in the last.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Baldock, Maennel, Neyshabur, Deep learning through the lens of example difficulty, NeurIPS 2021",
)
def prediction_depth(layer_votes: np.ndarray, final_pred: np.ndarray) -> np.ndarray:
    """Return the first layer from which on every vote is the network's own prediction; deep is hard.

    Parameters
    ----------
    layer_votes : integer array of shape (N, L)
        Class that the nearest training samples vote for at each layer, from the input on.
    final_pred : integer array of shape (N,)
        Class that the network predicts.

    Returns
    -------
    array of shape (N,)
        Layers are counted from 0, the input; L where even the votes at the last layer differ.

    References
    ----------
    Baldock, Maennel, Neyshabur, NeurIPS 2021, section 2.

    Examples
    --------
    >>> votes = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]])
    >>> prediction_depth(votes, np.array([1, 1, 1])).tolist()
    [0.0, 2.0, 3.0]
    """
    differs = layer_votes != final_pred[:, None]
    after_last = layer_votes.shape[1] - np.argmax(differs[:, ::-1], axis=1)
    return np.where(differs.any(axis=1), after_last, 0).astype(np.float64)
