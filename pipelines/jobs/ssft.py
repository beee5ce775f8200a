"""Second-split forgetting: learn one half, go on with the other alone, and watch what becomes of the first.

What was memorised rather than understood, above all a wrong label, is given up as soon as it is no longer
shown. Both halves take both parts, so every sample has both curves.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from tracesift.pipelines.crossfit import assign_folds
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least


@job(reference="Maini et al., Characterizing datapoints via second-split forgetting, NeurIPS 2022")
def ssft(bench: Workbench, *, epochs: int | None = None) -> dict[str, np.ndarray]:
    """Train on one half of the data, then with the same weights on the other alone; watch the first half in both.

    Parameters
    ----------
    bench
        The two halves are the folds of `pipelines.crossfit.assign_folds`: every class in its share, a group
        never cut apart, and the same halves for every seed.
    epochs
        Of each of the two phases, each with the recipe's whole schedule; as the recording by default. The
        paper trains the first phase until everything is learned.

    Returns
    -------
    dict
        ``first_split_correct`` and ``second_split_correct``, bool (N, E).

    References
    ----------
    Maini, Garg, Lipton, Kolter, NeurIPS 2022, section 3.
    """
    epochs = bench.epochs if epochs is None else epochs
    at_least("ssft", epochs=(epochs, 1))
    half = assign_folds(bench.dataset, 2)
    first, second = np.empty((2, len(half), epochs), dtype=bool)
    for number in (0, 1):
        own = half == number
        made = bench.part(number, 2, partial(_two_phases, bench, own, epochs))
        first[own], second[own] = made["first"], made["second"]
    return {"first_split_correct": first, "second_split_correct": second}


def _two_phases(bench: Workbench, own: np.ndarray, epochs: int, seed: int) -> dict[str, np.ndarray]:
    """Return whether the samples of the own half were right, bool (n, E), in each epoch of each phase."""
    ours, others = (bench.train[torch.from_numpy(which)] for which in (own, ~own))
    learner = bench.learner(len(ours), epochs)
    first = [bench.correct(learner, ours) for _ in bench.fit(learner, ours, seed=seed)]
    learner = bench.learner(len(others), epochs, module=learner.module)
    second = [bench.correct(learner, ours) for _ in bench.fit(learner, others, seed=seed + 500)]
    return {"first": np.stack(first, axis=1), "second": np.stack(second, axis=1)}
