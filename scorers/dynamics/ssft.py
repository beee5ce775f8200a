"""Second-split forgetting time: how soon a sample is given up once the model trains on other data alone.

Read from the job `ssft`, which trains the two phases; several seeds are averaged. Forgotten at once points to
a wrong label; learned late (`fslt`) and yet kept points to a rare but right one.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="clean",
    per_sample=True,
    reference="Maini et al., Characterizing datapoints via second-split forgetting, NeurIPS 2022",
)
def ssft(second_split_correct: np.ndarray) -> np.ndarray:
    """Return the epoch of the second phase from which a sample is wrong for good; early is suspicious.

    Parameters
    ----------
    second_split_correct : bool array of shape (N, E)
        Whether the sample is predicted as labelled, after each epoch of the second phase, in which its own
        half is no longer trained on.

    Returns
    -------
    array of shape (N,)
        Epochs are counted from 1: 1 for a sample that is never right again, E + 1 for one that is right at the
        last epoch, whatever happened before.

    References
    ----------
    Maini, Garg, Lipton, Kolter, NeurIPS 2022, definition 2.

    Examples
    --------
    >>> ssft(np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=bool)).tolist()
    [2.0, 3.0, 4.0, 1.0]
    """
    epochs = second_split_correct.shape[1]
    after_last_right = np.argmax(second_split_correct[:, ::-1], axis=1)  # epochs since, where it ever was
    return np.where(second_split_correct.any(axis=1), epochs - after_last_right, 0) + 1.0
