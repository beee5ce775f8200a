"""Which validation samples the steps on a training sample helped most, by the gradients of all parameters."""

from __future__ import annotations

import numpy as np

from tracesift.scorers.influence.edge_search import Edges
from tracesift.scorers.influence.edges.contract import edges
from tracesift.scorers.influence.product_edges import product_edges


@edges(
    version=2,
    reference="Pruthi et al., Estimating training data influence by tracing gradient descent, NeurIPS 2020",
)
def tracin_all(
    tracin_gradient: np.ndarray,
    val_tracin_gradient: np.ndarray,
    *,
    k: int = 10,
    rows: int = 256,
    threads: int | None = None,
) -> Edges:
    """Return the k strongest partners of either kind of every training and every validation sample.

    Parameters
    ----------
    tracin_gradient, val_tracin_gradient : arrays of shape (N, C, P), (M, C, P)
        sqrt(eta_c) times the projected gradient at each of C checkpoints: the job `tracin` with ``parameters=all`` and
        ``pairs=true``.
    k, rows, threads
        As in `product_edges`.

    Returns
    -------
    Edges
        In units of the loss, above 0 where steps on the sample lower the loss of the other; as true as the projection
        keeps products.

    References
    ----------
    Pruthi et al., NeurIPS 2020, section 3 (TracInCP), and section 4.3 for the projection.

    Examples
    --------
    >>> tracin_all(np.array([[[2.0]]]), np.array([[[0.5]], [[-1.0]]]), k=1).harm.tolist()
    [[-2.0]]
    """
    return product_edges(tracin_gradient, val_tracin_gradient, k=k, rows=rows, threads=threads)
