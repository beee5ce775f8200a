"""How entangled a forget set is with what is retained: their spread, over the distance of their centres.

A number of two sets and of no single sample, so this is no scorer; `entanglement_distance` orders samples by.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats
from tracesift.scorers.geometry.class_centroid_distance import centre


def entanglement(
    embedding: np.ndarray,
    forget: Any,
    retain: Any = None,
    *,
    variant: Literal["pooled", "published"] = "pooled",
    batch: int = 256,
) -> float:
    """Return the entanglement score of a forget and a retain set; high is entangled, and hard to unlearn.

    Parameters
    ----------
    embedding : array of shape (N, D)
        What the last layer of the trained model reads, without augmentation; finite.
    forget : array
        Rows of the forget set, or a mask (N,).
    retain : array, optional
        Rows of the retain set, or a mask (N,); all others by default.
    variant : {"pooled", "published"}
        ``"pooled"``: means over samples, and the centre of both sets together. ``"published"``: as the authors' code
        computes, where a set's mean is the mean of the means of its batches, a short last one counting fully, and the
        centre is halfway between the two means, whatever the sizes of the sets.
    batch : int
        Samples per batch of the published variant, in the order of their rows.

    Returns
    -------
    float
        [mean |x - m_R|^2 + mean |x - m_S|^2] / [(|m_R - m|^2 + |m_S - m|^2) / 2], at least 0; infinite where the two
        means coincide.

    Raises
    ------
    BadInput
        An empty set, sets that overlap, vectors that are not finite, or another variant.

    References
    ----------
    Zhao et al., NeurIPS 2024, equation 2; after Goldblum et al., ICML 2020, on the clustering of features.

    Examples
    --------
    >>> x = np.array([[0.0], [2.0], [9.0], [11.0]])
    >>> entanglement(x, [2, 3])  # variances 1 and 1, means 4.5 from the centre
    0.09876543209876543
    >>> entanglement(x, [1, 3]) > entanglement(x, [2, 3])
    True
    """
    if variant not in ("pooled", "published"):
        raise BadInput(f"entanglement: variant is 'pooled' or 'published', not {variant!r}")
    if batch < 1:
        raise BadInput(f"entanglement: batch is {batch}, it must be at least 1")
    inside = _mask(forget, len(embedding), "forget")
    outside = ~inside if retain is None else _mask(retain, len(embedding), "retain")
    if (inside & outside).any():
        raise BadInput(
            "entanglement: a sample is in both the forget and the retain set; it can only be in one"
        )
    sets = [np.asarray(embedding[rows], dtype=np.float64) for rows in (outside, inside)]
    for name, vectors in zip(("retain", "forget"), sets, strict=True):
        if not len(vectors):
            raise BadInput(f"entanglement: the {name} set is empty")
    for name, vectors in zip(("retain", "forget"), sets, strict=True):
        if not np.isfinite(vectors).all():
            raise BadInput(
                f"entanglement: the {name} set holds samples without a finite vector; leave them out"
            )
    means = [_mean(vectors, variant, batch) for vectors in sets]
    middle = centre(np.concatenate(sets), "mean") if variant == "pooled" else (means[0] + means[1]) / 2
    spread = sum(
        float(((vectors - mean) ** 2).sum(axis=1).mean()) for vectors, mean in zip(sets, means, strict=True)
    )
    apart = sum(float(((mean - middle) ** 2).sum()) for mean in means) / 2
    return spread / apart if apart else np.inf


def _mask(rows: Any, samples: int, name: str) -> np.ndarray:
    given = np.asarray(rows)
    if given.dtype == bool and given.shape == (samples,):
        return given
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise BadInput(f"entanglement: the {name} set is row numbers or a mask of {samples} samples")
    if given.size and not 0 <= given.min() <= given.max() < samples:
        raise BadInput(f"entanglement: the {name} set names a row that is not among {samples} samples")
    mask = np.zeros(samples, dtype=bool)
    mask[given.astype(np.int64)] = True
    return mask


def _mean(vectors: Floats, variant: str, batch: int) -> Floats:
    if variant == "pooled":
        return centre(vectors, "mean")
    parts = [vectors[at : at + batch].mean(axis=0) for at in range(0, len(vectors), batch)]
    return np.asarray(np.mean(parts, axis=0))
