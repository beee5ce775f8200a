"""GraNd: how hard a sample pulls at the weights early in training, over several initialisations.

Of the last layer the gradient's norm is |p - y| sqrt(1 + |h|^2): the EL2N score of `el2n`, stretched by the size
of the features. Read from the job `grand`; several of its runs are averaged once more.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tracesift.catalog.schema import SIGNALS, BadInput, MissingSignal
from tracesift.scorers.contract import scorer


@scorer(
    mode=None,
    direction="hard",
    per_sample=True,
    reference="Paul, Ganguli, Dziugaite, Deep learning on a data diet, NeurIPS 2021",
)
def grand(
    early_error_norm: np.ndarray,
    early_feature_norm: np.ndarray,
    early_gradient_norm: np.ndarray | None = None,
    *,
    parameters: Literal["last", "all"] = "last",
) -> np.ndarray:
    """Return the mean over initialisations of the norm of the loss's gradient; high is hard.

    Parameters
    ----------
    early_error_norm : array of shape (N, R)
        L2 norm of p - onehot(label) early in training, in each of R models.
    early_feature_norm : array of shape (N, R)
        L2 norm of the last layer's input h at the same moment.
    early_gradient_norm : array of shape (N, R), optional
        Norm of the gradient by all parameters, where the job measured it.
    parameters
        ``"last"``: the gradient by weights and bias of the last layer, as in DeepCore. ``"all"``: by all of them, as
        in the paper and its code.

    Returns
    -------
    array of shape (N,)
        At least 0; NaN where a model gave no finite logits.

    Raises
    ------
    MissingSignal
        ``parameters="all"`` without `early_gradient_norm`.

    References
    ----------
    Paul, Ganguli, Dziugaite, NeurIPS 2021, definition 2.1.

    Examples
    --------
    >>> grand(np.array([[0.5, 1.0]]), np.array([[0.0, np.sqrt(3.0)]])).round(6).tolist()
    [1.25]
    """
    if parameters not in ("last", "all"):
        raise BadInput(f"grand: parameters is 'last' or 'all', not {parameters!r}")
    if parameters == "all":
        if early_gradient_norm is None:
            source = SIGNALS["early_gradient_norm"].source
            raise MissingSignal(
                f"'grand' needs the signal 'early_gradient_norm' for parameters=all; {source}"
            )
        return _mean_over_runs(early_gradient_norm.astype(np.float64))
    error, features = early_error_norm.astype(np.float64), early_feature_norm.astype(np.float64)
    return _mean_over_runs(error * np.sqrt(1.0 + features**2))


def _mean_over_runs(norms: np.ndarray) -> np.ndarray:
    total = np.zeros(len(norms))
    for run in norms.T:
        total += run
    return np.asarray(total / norms.shape[1])
