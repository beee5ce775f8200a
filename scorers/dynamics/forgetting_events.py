"""Forgetting events: how often a sample that was right turned wrong while the model trained.

The paper's acc_i^t > acc_i^{t+1}. Implementations disagree most about samples that were never right: they
have no event to count and are yet the hardest, so the paper's own code gives them T, and that is the default.
With 0 for them, wrong labels end up among the easiest samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tracesift.catalog.compiled import loop
from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import ABSENT, RIGHT, WRONG, first_epochs, outcomes, rights_so_far
from tracesift.scorers.twins import twinned

if TYPE_CHECKING:
    from torch import Tensor

NEVER_LEARNED = ("epochs", "inf", "zero", "const")


@scorer(
    mode="in_training",
    direction="hard",
    combine="sum",
    per_sample=True,
    tensors=True,
    reference="Toneva et al., An empirical study of example forgetting, ICLR 2019",
)
def forgetting_events(
    correct: np.ndarray,
    seen: np.ndarray | None = None,
    loss: np.ndarray | None = None,
    *,
    never_learned: str = "epochs",
    const: float = 1000.0,
    epochs: int | None = None,
) -> np.ndarray:
    """Count how often a sample went from right to wrong between two presentations; high is hard.

    Parameters
    ----------
    correct : array of shape (T, N)
        Whether the prediction equals the given label, at each presentation.
    seen : array of shape (T, N), optional
        Where False, there was no presentation: the sample's neighbouring presentations are compared instead.
    loss : array of shape (T, N), optional
        A presentation whose loss is NaN counts as wrong.
    never_learned
        What a sample that was never right scores: ``"epochs"``, the number of epochs T (the paper's own code);
        ``"inf"`` (data_diet, the code of EL2N); ``"zero"`` (the codes of DeepCore, CCS, DUAL and SSFT), which puts
        wrong labels among the easiest; or ``"const"``, the value `const` (dataset cartography).
    const
        Used by ``never_learned="const"`` alone; 1000 in the dataset cartography code.
    epochs
        Count within the first that many epochs; all for None.

    Returns
    -------
    array of shape (N,)
        Number of events, from 0; NaN for a sample that was never presented.

    Raises
    ------
    BadInput
        An unknown `never_learned`, or more `epochs` than were recorded.

    Notes
    -----
    Totals of several runs are summed as in the paper's code, so a sample never learned in R runs scores R T; data_diet
    takes their mean, which orders the samples alike, and the others have one run.

    References
    ----------
    Toneva, Sordoni, Tachet des Combes, Trischler, Bengio, Gordon, ICLR 2019, section 3, algorithm 1.

    Examples
    --------
    >>> right = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], dtype=bool)
    >>> forgetting_events(right).tolist()
    [2.0, 4.0, 0.0]
    """
    if never_learned not in NEVER_LEARNED:
        raise BadInput(f"forgetting_events: never_learned is one of {', '.join(NEVER_LEARNED)}")
    correct = first_epochs(correct, epochs, setting="forgetting_events: epochs")
    window = slice(len(correct))
    outcome = outcomes(
        correct, seen if seen is None else seen[window], loss if loss is None else loss[window]
    )
    events, ever = _events(outcome)
    never = {"epochs": len(correct), "inf": np.inf, "zero": 0.0, "const": const}[never_learned]
    score = events * 1.0  # float64
    score[ever == WRONG] = never
    score[ever == ABSENT] = np.nan
    return score


@twinned
@loop
def _events(outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of events, and the outcomes that ever occurred, each of shape (N,)."""
    epochs, samples = outcome.shape
    events, lately = np.zeros(samples, np.int32), np.zeros(samples, np.uint8)
    before, ever = np.zeros(samples, np.uint8), np.zeros(samples, np.uint8)
    for t in range(epochs):
        # Bytes alone and no branch, which the compiler turns into vector instructions.
        for i in range(samples):
            now, last = outcome[t, i], before[i]
            lately[i] += np.uint8(last == RIGHT) & np.uint8(now == WRONG)
            before[i] = last if now == ABSENT else now
            ever[i] |= now
        if t % 255 == 254 or t == epochs - 1:  # before a byte is full
            for i in range(samples):
                events[i] += lately[i]
                lately[i] = 0
    return events, ever


@_events.on_tensors
def _(outcome: Tensor) -> tuple[Tensor, Tensor]:
    _, until_wrong = rights_so_far(outcome)  # it grows at those wrong presentations that follow a right one
    events = (until_wrong[1:] > until_wrong[:-1]).sum(0)
    ever = (outcome == RIGHT).any(0) * RIGHT + (outcome == WRONG).any(0) * WRONG
    return events.double(), ever
