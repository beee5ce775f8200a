"""Area under the margin: the mean, over training, of how far the given label's logit leads.

A wrongly labelled sample is pulled towards its true class by its neighbours, so its margin stays low. The
margin of one presentation is the paper's z_y - max_{k != y} z_k, recorded as `margin`; the misclassification
margin of the forgetting paper is the same number. What some coreset code calls AUM, a sum of probability
margins, is `aum_prob_sum` here.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import mean_and_count


@scorer(
    mode="in_training",
    direction="clean",
    per_sample=True,
    tensors=True,
    reference="Pleiss et al., Identifying mislabeled data using the area under the margin, NeurIPS 2020",
)
def aum(margin: np.ndarray) -> np.ndarray:
    """Return the mean logit margin over the recorded presentations; low is suspicious.

    Parameters
    ----------
    margin : array of shape (T, N)
        Logit of the given label minus the largest other logit; NaN where the sample was not presented.

    Returns
    -------
    array of shape (N,)
        In units of logits, unbounded; NaN for a sample that was never presented.

    References
    ----------
    Pleiss, Zhang, Elenberg, Weinberger, NeurIPS 2020, section 3.1.

    Examples
    --------
    >>> aum(np.array([[1.0, -2.0], [3.0, np.nan]])).tolist()
    [2.0, -2.0]
    """
    return mean_and_count(margin)[0]
