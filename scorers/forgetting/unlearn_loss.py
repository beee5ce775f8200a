"""Loss after unlearning, as the search for the worst-case forget set last saw it; from the job `worst_case`."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Fan, Liu, Hero, Liu, Challenging forgets: unveiling the worst-case forget sets in machine unlearning, "
    "ECCV 2024 (by-product)",
)
def unlearn_loss(unlearn_loss: np.ndarray) -> np.ndarray:
    """Return the sample's loss under the model of the job's last unlearning; low is hard to forget.

    Parameters
    ----------
    unlearn_loss : array of shape (N,)
        Cross-entropy in eval mode.

    Returns
    -------
    array of shape (N,)
        In nats, at least 0; not finite where the unlearned model diverged.

    Notes
    -----
    Samples of weight 1 in that round were forgotten, those of weight 0 trained on, so that theirs is low in any case:
    compare samples with `worst_case_weight` beside it.

    References
    ----------
    Fan et al., ECCV 2024, section 4 (the gradient of the upper level).

    Examples
    --------
    >>> unlearn_loss(np.array([0.5, 2.0])).tolist()
    [0.5, 2.0]
    """
    return np.asarray(unlearn_loss, dtype=np.float64)
