"""Which validation samples would lose most without a training sample, as TRAK has it."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.influence.edge_search import Edges
from tracesift.scorers.influence.edges.contract import edges
from tracesift.scorers.influence.product_edges import product_edges


@edges(version=2, reference="Park et al., TRAK: attributing model behavior at scale, ICML 2023, equation 17")
def trak(
    trak_feature: np.ndarray,
    val_trak_feature: np.ndarray,
    trak_residual: np.ndarray,
    *,
    k: int = 10,
    rows: int = 256,
    threads: int | None = None,
) -> Edges:
    """Return the k strongest partners of either kind of every training and every validation sample.

    Parameters
    ----------
    trak_feature, val_trak_feature : arrays of shape (N, R, P), (M, R, P)
        Features of R models, those of the validation samples times G^-1 / R, so that the sum over models is their mean:
        the job `trak` with ``pairs=true``.
    trak_residual : array of shape (N, R)
        1 - p_i.
    k, rows, threads
        As in `product_edges`.

    Returns
    -------
    Edges
        In units of the validation sample's log odds: to first order, what leaving the sample out takes off them.

    References
    ----------
    Park et al., ICML 2023, equation 17.

    Examples
    --------
    >>> feature, others = np.array([[[1.0], [2.0]]]), np.array([[[1.0], [1.0]], [[0.0], [-1.0]]])
    >>> trak(feature, others, np.array([[0.5, 0.5]]), k=1).help.tolist()
    [[1.5]]
    """
    return product_edges(trak_feature, val_trak_feature, trak_residual, k=k, rows=rows, threads=threads)
