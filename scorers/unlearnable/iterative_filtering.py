"""Iterative filtering: what a network still calls by its label while it learns to call clean samples otherwise.

Read from the job `iterative_filtering`, which is written from the paper's abstract.
"""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="suspicious",
    per_sample=True,
    experimental=True,
    reference="Yu et al., Unlearnable examples detection via iterative filtering, 2024 (arXiv 2408.08143), from the "
    "abstract; start and rounds are ours",
)
def iterative_filtering(extra_class_margin: np.ndarray) -> np.ndarray:
    """Return the label's margin in the last round; above 0 the sample is still predicted as labelled, a suspect.

    Parameters
    ----------
    extra_class_margin : array of shape (N, R)
        Held-out margin of the label over the other classes and the extra ones, after each round.

    Returns
    -------
    array of shape (N,)
        In units of logits. Above 0 is the paper's judgement, "poisoned".

    Raises
    ------
    BadInput
        There is no round.

    Notes
    -----
    In mixtures on Fashion-MNIST it was near chance (AUROC 0.51 to 0.55), and on clean data a rule that looks for two
    groups flagged two fifths: whatever is iterated makes two groups. Blind to: shortcuts beside classes that are as
    easily learned, a signal that all of a class carry, and poison that makes samples harder.

    References
    ----------
    Yu et al. 2024 (arXiv 2408.08143), abstract.

    Examples
    --------
    >>> iterative_filtering(np.array([[1.0, 2.0], [0.5, -3.0]])).tolist()
    [2.0, -3.0]
    """
    if not extra_class_margin.shape[1]:
        raise BadInput("iterative_filtering: 'extra_class_margin' holds no round; run the job again")
    return extra_class_margin[:, -1].astype(np.float64)
