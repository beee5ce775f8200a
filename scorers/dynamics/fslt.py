"""First-split learning time: how late a sample is learned for good while its own half is trained on.

The mirror image of `ssft`, and read from the same job. Late alone says hard; late and soon forgotten says that
the label is probably wrong.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Maini et al., Characterizing datapoints via second-split forgetting, NeurIPS 2022",
)
def fslt(first_split_correct: np.ndarray) -> np.ndarray:
    """Return the epoch of the first phase from which a sample is right for good; late is hard.

    Parameters
    ----------
    first_split_correct : bool array of shape (N, E)
        Whether the sample is predicted as labelled, after each epoch of training on its own half.

    Returns
    -------
    array of shape (N,)
        Epochs are counted from 1: 1 for a sample that is never wrong, E + 1 for one that is wrong at the last
        epoch, so was not learned for good.

    References
    ----------
    Maini, Garg, Lipton, Kolter, NeurIPS 2022, definition 1.

    Examples
    --------
    >>> fslt(np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=bool)).tolist()
    [2.0, 3.0, 4.0, 1.0]
    """
    epochs = first_split_correct.shape[1]
    after_last_wrong = np.argmax(~first_split_correct[:, ::-1], axis=1)  # epochs since, where it ever was
    return np.where(first_split_correct.all(axis=1), 0, epochs - after_last_wrong) + 1.0
