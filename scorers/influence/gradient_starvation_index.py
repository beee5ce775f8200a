"""How few directions the features have: what a network that starves its other features looks like from outside.

Where one feature brings the loss down first, the gradient that others need vanishes, and they are not learned. In the
paper's analysis the strength of features is given by the singular values of the label-scaled tangent features; signs of
labels do not change singular values, so of the last layer they are those of its inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.scorers.arrays import Floats, Integers, row_blocks
from tracesift.scorers.contract import diagnostic
from tracesift.scorers.geometry.cal import finite_rows

DIGITS = 6
"""Decimals that are kept: an eigenvalue's last digits differ from machine to machine."""


@diagnostic(
    mode=None,
    experimental=True,
    reference="Pezeshki, Kaba, Bengio, Courville, Precup, Lajoie, Gradient starvation: a learning proclivity in neural "
    "networks, NeurIPS 2021 (the spectrum); Roy, Vetterli, The effective rank, EUSIPCO 2007",
)
def gradient_starvation_index(embedding: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Report the spectrum of the last layer's inputs, over all samples and by class; few directions are a warning.

    Parameters
    ----------
    embedding : array of shape (N, D)
        What the trained model's last layer reads, as `tracesift embed` records it; not centred. A row that is not
        finite stands for no vector.
    labels : array of shape (N,)

    Returns
    -------
    dict
        ``samples`` with a vector; ``effective_rank``, the exponential of the entropy of the singular values as
        shares of their sum, from 1 to D; ``top_share``, the largest one's share, from 1/D to 1; ``classes``, the same
        for each ``class``; and ``reading``, a sentence. Rounded to 6 decimals; None where all features are 0 or there
        is no vector.

    Notes
    -----
    The paper defines no such index and no score of a sample: it derives which features starve from the singular
    values, and these two numbers summarise them. They are comparable between trainings of one architecture on one
    dataset, such as with and without spectral decoupling, and have no absolute threshold: a well-trained network has
    about as many directions as classes anyway.

    References
    ----------
    Pezeshki et al., NeurIPS 2021, section 3; Roy, Vetterli 2007, definition 1.

    Examples
    --------
    >>> found = gradient_starvation_index(np.array([[3.0, 0.0], [0.0, 3.0], [6.0, 0.0]]), np.array([0, 0, 1]))
    >>> found["classes"][0]["effective_rank"], found["classes"][1]["top_share"]
    (2.0, 1.0)
    """
    if embedding.shape[1] < 1:
        raise BadInput("gradient_starvation_index: the embedding has no dimensions")
    rows = finite_rows(embedding)
    overall = _spectrum(embedding, rows)
    classes = [
        {"class": int(label), **_spectrum(embedding, rows[labels[rows] == label])}
        for label in np.unique(labels[rows])
    ]
    if overall["effective_rank"] is None:
        reading = "no sample has a feature above 0: there is no spectrum to read"
    else:
        reading = (
            f"the features spread over about {overall['effective_rank']:.1f} of {embedding.shape[1]} directions, and "
            f"the strongest holds {overall['top_share']:.0%}; compare with another training of the same network"
        )
    return {**overall, "classes": classes, "reading": reading}


def _spectrum(embedding: np.ndarray, rows: Integers) -> dict[str, Any]:
    gram: Floats = np.zeros((embedding.shape[1],) * 2)
    for block in row_blocks(len(rows), embedding.shape[1]):
        x = np.ascontiguousarray(embedding[rows[block]], dtype=np.float64)
        gram += x.T @ x
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    # What an eigenvalue of 0 comes out as is no direction.
    values = values[values > values[-1] * np.sqrt(len(values) * np.finfo(np.float64).eps)]
    if not len(values):
        return {"samples": len(rows), "effective_rank": None, "top_share": None}
    shares = values / values.sum()
    rank = float(np.exp(-(shares * np.log(shares)).sum()))
    return {
        "samples": len(rows),
        "effective_rank": round(rank, DIGITS),
        "top_share": round(float(shares[-1]), DIGITS),
    }
