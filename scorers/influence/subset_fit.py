"""Do the models of `subset_training` fit what they trained on? What they do not know, they cannot have by heart."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.scorers.contract import diagnostic
from tracesift.scorers.influence.memorization_subset_error import memorization_subset_error
from tracesift.scorers.influence.subset_sides import in_and_out

FITTED = 0.95
"""Share of the samples trained on that the models are right about, below which memorization is understated."""


@diagnostic(
    version=2,
    mode=None,
    reference="ours; memorization after Feldman, Zhang, NeurIPS 2020, is at most the first share",
)
def subset_fit(subset_trained: np.ndarray, subset_correct: np.ndarray) -> dict[str, Any]:
    """Say how often the models are right about what they trained on and about the rest, and how sure estimates are.

    Parameters
    ----------
    subset_trained, subset_correct : bool arrays of shape (N, R)
        As in `memorization_subset`.

    Returns
    -------
    dict
        ``models``, R; ``right_trained`` and ``right_untrained``, the mean over the samples of the shares of models that
        saw them, or did not, and are right; ``standard_error``, the mean of `memorization_subset_error`; and
        ``reading``, a sentence. Numbers rounded to 6 digits, null where no sample has both sides.

    Notes
    -----
    Memorization is the first share minus the second, so a sample that the models do not learn has none, whatever a
    longer training would make of it. Wrong labels and rare samples are learned last.

    References
    ----------
    Feldman, Zhang, NeurIPS 2020, section 3, whose models fit the training data.

    Examples
    --------
    >>> seen = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    >>> right = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    >>> subset_fit(seen, right)["reading"]
    '4 models, right about 100.0 % of what they trained on and 0.0 % of the rest; standard error 0.304 on average'
    """
    inside, outside, seen, unseen = in_and_out(subset_trained, subset_correct)
    both = (seen > 0) & (unseen > 0)
    models = subset_trained.shape[1]
    if not both.any():
        return {
            "models": models, "right_trained": None, "right_untrained": None, "standard_error": None,
            "reading": f"{models} models, and every sample was always in or always out; train more",
        }  # fmt: skip
    error = memorization_subset_error(subset_trained, subset_correct)
    known, unknown, spread = (float(values[both].mean()) for values in (inside, outside, error))
    reading = (
        f"{models} models, right about {100 * known:.1f} % of what they trained on and {100 * unknown:.1f} % of the "
        f"rest; standard error {spread:.3f} on average"
    )
    if known < FITTED:
        reading += (
            "; what they have not learned counts as not memorized, wrong labels and rare samples first: train longer "
            "(--epochs)"
        )
    return {
        "models": models, "right_trained": round(known, 6), "right_untrained": round(unknown, 6),
        "standard_error": round(spread, 6), "reading": reading,
    }  # fmt: skip
