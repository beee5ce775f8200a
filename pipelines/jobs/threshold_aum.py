"""Threshold samples: how low the margins of samples fall that are wrong for certain, in the same training.

Some samples are given to a class that does not exist. Their margins say what a margin is worth that only
memory can raise, so no share of wrong labels has to be guessed. Two trainings with different threshold samples
let every sample keep its label in at least one.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.jobs.contract import job
from tracesift.pipelines.jobs.workbench import Workbench, at_least
from tracesift.pipelines.recording.scalars import scalars

RUNS = 2


@job(reference="Pleiss et al., Identifying mislabeled data using the area under the margin, NeurIPS 2020")
def threshold_aum(bench: Workbench, *, epochs: int | None = None) -> dict[str, np.ndarray]:
    """Train twice with one class more, which holds N // K samples in place of their own; average the margins.

    Parameters
    ----------
    bench
        The rate is constant at its peak, because AUM is meant before the first drop of the rate; the paper trains
        for 150 epochs at 0.1.
    epochs
        Of each run; as the recording by default.

    Returns
    -------
    dict
        ``threshold_margin``, float32 (N, 2): mean over the presentations of the logit margin of the label that
        the run trained with. ``threshold_sample``, bool (N, 2): whether that label was the extra class. N // K
        samples as in the published code, with K the number of real classes; the paper's text has N / (K + 1).

    Raises
    ------
    BadInput
        Fewer samples than classes.

    References
    ----------
    Pleiss, Zhang, Elenberg, Weinberger, NeurIPS 2020, section 3.2.
    """
    epochs = bench.epochs if epochs is None else epochs
    at_least("threshold_aum", epochs=(epochs, 1))
    samples, classes = len(bench.train), bench.dataset.num_classes
    size = samples // classes
    if size < 1:
        raise BadInput(
            f"job 'threshold_aum': {samples} training samples of {classes} classes give no threshold sample"
        )
    order = np.random.default_rng(bench.seed).permutation(samples)
    moved = np.zeros((samples, RUNS), dtype=bool)
    for run in range(RUNS):
        moved[order[run * size : (run + 1) * size], run] = True
    margins = [
        bench.part(run, RUNS, partial(_one_run, bench, moved[:, run], epochs))["margin"]
        for run in range(RUNS)
    ]
    return {"threshold_margin": np.stack(margins, axis=1), "threshold_sample": moved}


def _one_run(bench: Workbench, moved: np.ndarray, epochs: int, seed: int) -> dict[str, np.ndarray]:
    """Return the mean margin of each training sample, float32 (N,)."""
    extra = bench.dataset.num_classes
    labels = bench.labels.clone()
    labels[bench.train[torch.from_numpy(moved)].to(bench.device)] = extra
    learner = bench.learner(len(bench.train), epochs, classes=extra + 1, schedule="constant")
    margins = MarginMeans(len(labels), bench.device)
    for _ in bench.fit(learner, bench.train, seed=seed, labels=labels, watch=margins):
        pass
    return {"margin": margins.means()[bench.train].numpy()}


class MarginMeans:
    """Mean over all presentations of each row's margin, in float64 on the device; no wait for it in between."""

    def __init__(self, rows: int, device: torch.device) -> None:
        self.total = torch.zeros(rows, dtype=torch.float64, device=device)
        self.count = torch.zeros(rows, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, rows: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Take in one batch, of one sample or more: rows (B,), logits (B, K + 1), labels (B,)."""
        margin = scalars(logits, labels, ("margin",))["margin"]
        self.total.index_add_(0, rows, margin.double())
        self.count.index_add_(0, rows, torch.ones_like(margin, dtype=torch.float64))

    def means(self) -> Tensor:
        """Return the means, float32 (rows,) on the CPU; NaN for a row that was never presented."""
        return (self.total / self.count).float().cpu()
