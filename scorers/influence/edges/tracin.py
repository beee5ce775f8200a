"""Which validation samples the steps on a training sample helped most, and which they harmed, over the checkpoints.

What `last_layer` says for the last checkpoint, summed over those of the job `tracin` as the paper has it.
"""

from __future__ import annotations

import numpy as np

from tracesift.scorers.influence.edge_search import Edges, strongest
from tracesift.scorers.influence.edges.contract import edges


@edges(
    version=2,
    reference="Pruthi et al., Estimating training data influence by tracing gradient descent, NeurIPS 2020",
)
def tracin(
    tracin_error: np.ndarray,
    tracin_hidden: np.ndarray,
    val_tracin_error: np.ndarray,
    val_tracin_hidden: np.ndarray,
    *,
    k: int = 10,
    rows: int = 256,
    threads: int | None = None,
) -> Edges:
    """Return the k strongest partners of either kind of every training and every validation sample.

    Parameters
    ----------
    tracin_error, tracin_hidden : arrays of shape (N, C, K), (N, C, D)
        sqrt(eta_c) (p - onehot(y)) and the last layer's input at each of C checkpoints: the job `tracin` with
        ``pairs=true``.
    val_tracin_error, val_tracin_hidden : arrays of shape (M, C, K), (M, C, D)
        The same of the validation samples.
    k
        Partners of either kind.
    rows
        Training samples that are worked on at a time; it leaves no trace in the result, nor does `threads`.
    threads
        As many as there are processors where None.

    Returns
    -------
    Edges
        The sums over c of eta_c <g_ic, g_vc>, in units of the loss: above 0 where steps on the sample lower the loss of
        the other. Nothing for a sample with a missing value, nor to such a validation sample.

    Raises
    ------
    BadInput
        k or rows below 1, or arrays of different jobs.

    Notes
    -----
    C N M (K + D) multiplications in float64; memory for 4 (N + M) k results and a block of the validation samples. For
    gradients by all parameters see `tracin_all`.

    References
    ----------
    Pruthi et al., NeurIPS 2020, section 3 (TracInCP, proponents and opponents).

    Examples
    --------
    >>> error, hidden = np.array([[[1.0, -1.0], [0.5, -0.5]]]), np.array([[[1.0], [3.0]]])
    >>> others = np.concatenate([error, -error]), np.concatenate([hidden, 0 * hidden])
    >>> found = tracin(error, hidden, *others, k=1)
    >>> found.helped.tolist(), found.help.tolist(), found.harmed.tolist(), found.harm.tolist()
    ([[0]], [[9.0]], [[1]], [[-2.5]])
    """
    return strongest(
        (tracin_error, tracin_hidden), (val_tracin_error, val_tracin_hidden), np.ones(len(tracin_error)),
        bias=1.0, k=k, rows=rows, threads=threads, name="tracin",
    )  # fmt: skip
