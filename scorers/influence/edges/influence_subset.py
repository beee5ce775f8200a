"""Whom training on a sample helped and harmed, counted over models that trained on it and models that did not.

The influence of i on j is how much more often models with i in their subset are right about j. Read from the job
`subset_training`. Of the N x M estimates only the few that matter for each training sample are ever kept.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats
from tracesift.scorers.influence.edge_search import Edges, Kept, edges_of, gather, keep, nothing
from tracesift.scorers.influence.edges.contract import edges
from tracesift.scorers.influence.subset_sides import Of, answers

WIDTH = 2_048
"""Validation samples that are worked on at a time."""

PAIRS = 65_536
"""Pairs whose errors are worked on at a time."""

GRID = 2.0**30
"""Values are rounded to one part in so many. Then their sums over fewer than 2^18 models are exact in float64, so
that a matrix product may add them up in any order."""


@edges(version=3, reference="Feldman, Zhang, What neural networks memorize and why, NeurIPS 2020, equation 2")
def influence_subset(
    subset_trained: np.ndarray,
    val_subset_correct: np.ndarray,
    val_subset_prob_label: np.ndarray,
    *,
    k: int = 10,
    of: Of = "correct",
    rows: int = 512,
    threads: int | None = None,
) -> Edges:
    """Return the k strongest partners of either kind of every training and every validation sample, with errors.

    Parameters
    ----------
    subset_trained : bool array of shape (N, R)
        Whether each of R models trained on the sample.
    val_subset_correct, val_subset_prob_label : arrays of shape (M, R)
        Whether it predicts the validation sample's label, and the probability that it gives this label.
    k
        Partners of either kind.
    of : {"correct", "prob_label", "margin"}
        The mean of what: correctness as in the paper; the probability, whose estimate varies less; or the margin
        log(p / (1 - p)), as datamodels have it.
    rows
        Training samples that are worked on at a time; it leaves no trace in the result, nor does `threads`.
    threads
        As many as there are processors where None.

    Returns
    -------
    Edges
        Mean over the models that saw the sample minus the mean over those that did not: in [-1, 1] but for margins,
        above 0 where it helps. With it the standard error, sqrt(s_in^2 / n_in + s_out^2 / n_out) of the two
        sides' variances; that of correctness with half a right and half a wrong model more on either side, as in
        `memorization_subset_error`, since few models that all agree are no proof. Nothing for a sample
        that all the models saw, or none. Of few models most edges are chance: the strongest of many estimates
        are also the luckiest, so hold a value against its error, and R against M.

    Raises
    ------
    BadInput
        k or rows below 1, or another `of`.

    Notes
    -----
    2 N M R operations, as products of matrices of at most `rows` x 2,048; memory for 6 (N + M) k results, (M, R) twice,
    and 4 M k results for each thread.

    References
    ----------
    Feldman, Zhang, NeurIPS 2020, section 2, equation 2, and its estimator by subsets.

    Examples
    --------
    >>> seen = np.array([[True, True, False, False]])
    >>> right = np.array([[True, True, True, False], [False, False, False, True]])
    >>> found = influence_subset(seen, right, right * 1.0, k=1)
    >>> found.helped.tolist(), found.help.tolist(), found.harmed.tolist(), found.harm.tolist()
    ([[0]], [[0.5]], [[1]], [[-0.5]])
    """
    if k < 1 or rows < 1:
        raise BadInput(f"influence_subset: k and rows are at least 1, got {k} and {rows}")
    given = answers(of, val_subset_correct, val_subset_prob_label)
    values = np.rint(given.astype(np.float64) * GRID) / GRID
    seen = subset_trained.sum(axis=1)
    there = np.flatnonzero((seen > 0) & (seen < subset_trained.shape[1]))
    partners = np.flatnonzero(np.isfinite(values).all(axis=1))
    values = values[partners]
    whole = values.sum(axis=1)
    kept, origins = nothing(len(subset_trained), k), nothing(len(val_subset_correct), k)
    workers = threads or os.cpu_count() or 1

    def work(first: int) -> Kept:
        """Go through every so many blocks of training samples, in the order of their rows."""
        from_here = nothing(k, len(partners))
        for start in range(first * rows, len(there), workers * rows):
            these = there[start : start + rows]
            ours = subset_trained[these].astype(np.float64)
            inside = seen[these].astype(np.float64)[:, None]
            outside = subset_trained.shape[1] - inside
            for at in range(0, len(partners), WIDTH):
                block = slice(at, at + WIDTH)
                of_seen = ours @ values[block].T
                effect = of_seen / inside - (whole[block] - of_seen) / outside
                keep(effect, partners[block], these, kept, from_here.only(block))
        return from_here

    half = 0.5 if of == "correct" else 0.0
    place = np.full(len(val_subset_correct), -1, np.int64)
    place[partners] = np.arange(len(partners))

    def error(samples: np.ndarray, others: np.ndarray) -> Floats:
        """Return the standard error of each pair of a training row and a validation row; NaN where one is -1."""
        pairs = samples.ravel(), np.where(others < 0, -1, place[others]).ravel()
        found = np.full(samples.size, np.nan)

        def part(start: int) -> None:
            taken = slice(start, start + PAIRS)
            _error(subset_trained, values, pairs[0][taken], pairs[1][taken], half, found[taken])

        for _ in pool.map(part, range(0, samples.size, PAIRS)):
            pass
        return found.reshape(samples.shape)

    with ThreadPoolExecutor(workers) as pool:
        gather(list(pool.map(work, range(workers))), partners, origins)
        samples, others = (
            np.repeat(np.arange(len(one.rows[0]))[:, None], k, axis=1) for one in (kept, origins)
        )
        return edges_of(
            kept,
            origins,
            (error(samples, kept.rows[0]), error(samples, kept.rows[1])),
            (error(origins.rows[0], others), error(origins.rows[1], others)),
        )


@loop
def _error(
    trained: np.ndarray,
    values: Floats,
    samples: np.ndarray,
    places: np.ndarray,
    half: float,
    error: Floats,
) -> None:
    """Write the standard error of each pair; a value of 0 and one of 1 count `half` more on each side."""
    for pair in range(samples.size):
        row, at = samples[pair], places[pair]
        if row < 0 or at < 0:
            continue
        variance = 0.0
        for side in (True, False):
            count, mean = 2.0 * half, half
            for r in range(trained.shape[1]):
                if trained[row, r] == side:
                    count += 1.0
                    mean += values[at, r]
            mean /= count
            square = half * (mean**2 + (1.0 - mean) ** 2)
            for r in range(trained.shape[1]):
                if trained[row, r] == side:
                    square += (values[at, r] - mean) ** 2
            variance += square / count / count
        error[pair] = np.sqrt(variance)
