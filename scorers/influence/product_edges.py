"""Which validation samples a training sample helps most, and which it harms, by features of each model or checkpoint.

For TRAK with its features, and for TracIn with projected gradients by all parameters.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.influence.edge_search import Edges, strongest


def product_edges(
    features: np.ndarray,
    val_features: np.ndarray,
    residual: np.ndarray | None = None,
    *,
    k: int = 10,
    rows: int = 256,
    threads: int | None = None,
) -> Edges:
    """Return the k strongest partners of either kind of every training and every validation sample.

    Parameters
    ----------
    features, val_features : arrays of shape (N, R, P), (M, R, P)
        ``trak_feature`` and ``val_trak_feature`` of the job `trak`, or ``tracin_gradient`` and ``val_tracin_gradient``
        of the job `tracin`, each with ``pairs=true``.
    residual : array of shape (N, R), optional
        ``trak_residual``: the influence is times its mean over the models. None for TracIn.
    k
        Partners of either kind.
    rows
        Training samples that are worked on at a time; it leaves no trace in the result, nor does `threads`.
    threads
        As many as there are processors where None.

    Returns
    -------
    Edges
        For TRAK in units of the validation sample's log odds, above 0 where the sample raises those of its label; for
        TracIn in units of the loss, above 0 where it lowers that. Nothing for a sample with a missing value, nor to
        such a validation sample.

    Raises
    ------
    BadInput
        k or rows below 1, or arrays of different jobs.

    Notes
    -----
    N M R P multiplications in float64; memory for 4 (N + M) k results and a block of the validation samples.

    References
    ----------
    Park et al., TRAK: attributing model behavior at scale, ICML 2023, equation 17.

    Examples
    --------
    >>> found = product_edges(np.array([[[1.0], [2.0]]]), np.array([[[1.0], [1.0]], [[0.0], [-1.0]]]), k=1)
    >>> found.helped.tolist(), found.help.tolist(), found.harmed.tolist(), found.harm.tolist()
    ([[0]], [[3.0]], [[1]], [[-2.0]])
    """
    weights = (
        np.ones(len(features)) if residual is None else np.asarray(residual, dtype=np.float64).mean(axis=1)
    )
    alone = [np.ones((len(part), part.shape[1], 1), dtype=np.float32) for part in (features, val_features)]
    return strongest(
        (alone[0], features), (alone[1], val_features), weights,
        bias=0.0, k=k, rows=rows, threads=threads, name="product_edges",
    )  # fmt: skip
