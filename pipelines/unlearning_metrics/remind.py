"""Residual memory seen in the neighbourhood of a sample: how fast the loss changes around it."""

from __future__ import annotations

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.given import Floats, numbers


def remind(loss: np.ndarray, perturbed_loss: np.ndarray, radius: np.ndarray) -> dict[str, Floats]:
    """Return how much the loss changes around each sample; flat is what unlearned samples look like.

    Parameters
    ----------
    loss : array of shape (n,)
        Cross-entropy of each sample, in nats.
    perturbed_loss : array of shape (R, V, n)
        Of V variations of each sample at each of R radii: noise of that norm, neighbours at that distance.
    radius : array of shape (R,)
        Above 0, in the units of the inputs or embeddings.

    Returns
    -------
    dict
        ``change`` (n,), mean |loss(x') - loss(x)| over all variations, in nats; ``slope`` (n,), the least-squares slope
        through 0 of the mean change at a radius over the radius. Low says unlearned, and that there was something to
        unlearn: its neighbourhood is flatter than that of retained or unrelated samples. That is the opposite of what
        one might expect, a forgotten sample that looks like one never seen. Compare with retained and with unseen
        samples of the same model.

    Raises
    ------
    BadInput
        Shapes that do not agree, a radius that is not above 0, or a loss that is not finite.

    References
    ----------
    REMIND, residual memorization by input neighbourhood dynamics; the abstract alone was at hand: how variations are
    drawn, and the classifier on top, are not part of this function.

    Examples
    --------
    >>> got = remind(np.array([1.0]), np.array([[[1.5], [0.5]], [[3.0], [1.0]]]), np.array([1.0, 2.0]))
    >>> got["change"].tolist(), got["slope"].tolist()  # changes of 0.5 at radius 1 and 1 at radius 2
    ([0.75], [0.5])
    """
    given = numbers("loss", loss, "samples")
    around = numbers("perturbed_loss", perturbed_loss, "radii, variations, samples")
    radii = numbers("radius", radius, "radii")
    if around.shape[0] != len(radii) or around.shape[2] != len(given):
        raise BadInput(
            f"perturbed_loss has shape {around.shape}; with {len(radii)} radii and {len(given)} samples it is "
            f"({len(radii)}, variations, {len(given)})"
        )
    if radii.min() <= 0:
        raise BadInput(
            f"radius holds {radii.min()}; a sample itself is no variation of it, radii are above 0"
        )
    changes = np.sort(abs(around - given), axis=1).mean(
        axis=1
    )  # sorted: whatever the order of the variations
    return {
        "change": changes.mean(axis=0),
        "slope": (radii[:, None] * changes).sum(axis=0) / (radii**2).sum(),
    }
