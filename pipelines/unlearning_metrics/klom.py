"""KL divergence of margins: whether unlearned models answer as retrained ones do, point by point, over many models."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.given import Floats, numbers

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def klom(
    unlearned: np.ndarray,
    oracle: np.ndarray,
    *,
    bins: int = 20,
    clip: float = 100.0,
    least: float = 1e-5,
) -> dict[str, Any]:
    """Return how far the margins of unlearned models are from those of retrained ones, per point; 0 is not at all.

    Parameters
    ----------
    unlearned, oracle : arrays of shape (A, n) and (B, n)
        `logit_margin` of n points under A unlearned models, and under B models retrained without the forget set;
        100 each in the paper. Ask separately for points to forget, retained points and unseen points.
    bins
        Of equal width, from the smallest to the largest margin of both.
    clip
        Margins beyond +- `clip` count as that.
    least
        Stands for the share of oracles in a bin without any, so that the divergence stays finite: at most
        log(1 / `least`), 11.5 nats by default.

    Returns
    -------
    dict
        ``per_point`` (n,), KL(unlearned | oracle) of the histograms, in nats, at least 0 up to what `least` adds; high
        is far from retraining. ``quantiles``, its 5, 25, 50, 75, 95 and 99 % quantiles, by their share.

    Raises
    ------
    BadInput
        Different numbers of points, or a setting that makes no histogram.

    Notes
    -----
    Finite samples have a divergence above 0 without any difference; that of one half of the oracles from the other
    half is the value to hold against. The authors' code leaves out the largest margin of all, which falls off its last
    bin; here it is counted.

    References
    ----------
    Georgiev et al., Machine unlearning via simulated oracle matching, ICLR 2025 (KLoM); the authors' code for the
    order of the two, bins, clipping and `least`.

    Examples
    --------
    >>> got = klom(np.array([[0.0], [1.0]]), np.array([[0.0], [0.0]]), bins=2)
    >>> got["per_point"].round(4).tolist()  # half log(1/2) + half log(1/2 / 1e-5)
    [5.0633]
    """
    ours, theirs = (
        numbers(name, values, "models, samples").clip(-clip, clip)
        for name, values in (("unlearned", unlearned), ("oracle", oracle))
    )
    if ours.shape[1] != theirs.shape[1]:
        raise BadInput(f"klom: {ours.shape[1]} points of unlearned models, {theirs.shape[1]} of oracles")
    if bins < 2 or not clip > 0 or not 0 < least < 1:
        raise BadInput(f"klom: bins={bins}, clip={clip}, least={least}; at least 2, above 0, between 0 and 1")
    divergence = np.array([_divergence(*point, bins, least) for point in zip(ours.T, theirs.T, strict=True)])
    return {
        "per_point": divergence,
        "quantiles": {share: float(np.quantile(divergence, share)) for share in QUANTILES},
    }


def _divergence(ours: Floats, theirs: Floats, bins: int, least: float) -> float:
    both = np.concatenate([ours, theirs])
    edges = np.linspace(both.min(), both.max(), bins + 1)
    if edges[0] == edges[-1]:
        return 0.0  # one margin under all models of both kinds
    p = np.histogram(ours, edges)[0] / len(ours)
    q = np.maximum(np.histogram(theirs, edges)[0] / len(theirs), least)
    present = p > 0
    return float((p[present] * np.log(p[present] / q[present])).sum())
