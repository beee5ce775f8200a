"""How many of the nearest neighbours carry another label, in the data themselves or in a trusted set.

With a trusted set this is the extrinsic strategy of the TACRED study; with a background class (no relation, none of
the above) its intrinsic one: where a model overlooks a positive, negatives that look like it are suspects. The study
names neither the distance nor the number of neighbours; ours are the cosine and 10.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracesift.catalog.nearest_rows import nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.arrays import Floats
from tracesift.scorers.contract import scorer
from tracesift.scorers.noise.neighbors.nearest_others import nearest_others, with_vector


@scorer(
    mode=None,
    direction="suspicious",
    experimental=True,
    reference="Parekh, Anand, Awekar, Noise in relation classification dataset TACRED, 2023",
)
def knn_label_disagreement(
    embedding: np.ndarray,
    labels: np.ndarray,
    probs_oos: np.ndarray | None = None,
    val_embedding: np.ndarray | None = None,
    val_labels: np.ndarray | None = None,
    *,
    k: int = 10,
    reference: str | Sequence[int] = "others",
    anchors: str | int = "all",
) -> np.ndarray:
    """Return the share of the nearest neighbours that are labelled otherwise; high is suspicious.

    Parameters
    ----------
    embedding : array of shape (N, D)
        One vector per sample, best of a model that has not seen these labels, compared by cosine; a row that is
        all zero or not finite stands for none.
    labels : array of shape (N,)
    probs_oos : array of shape (N, K), optional
        Out-of-sample probabilities, needed where `anchors` is a class; NaN rows for samples without a prediction.
    val_embedding, val_labels : arrays of shape (M, D) and (M,), optional
        The trusted set, needed where `reference` is ``"validation"``.
    k
        How many neighbours, the sample itself not among them; all there are where there are fewer.
    reference
        Whose labels count: ``"others"``, all other samples; ``"validation"``, the validation samples; or the rows
        of trusted samples, which are judged by one another.
    anchors
        ``"all"``, or the index of a background class. Then the anchors are the samples of other classes that
        out-of-sample models take for the background, and the suspects the background samples nearest to them.

    Returns
    -------
    array of shape (N,)
        A share in [0, 1], NaN for a sample without a vector or neighbour. With a background class: for how many
        anchors the sample is one of the k nearest background samples, NaN for samples of other classes, which
        the strategy takes to be clean; above 0 is the published suspect.

    Raises
    ------
    MissingSignal
        The signal that a setting needs is absent.
    BadInput
        A setting that does not exist, or rows and classes that do not.

    References
    ----------
    Parekh, Anand, Awekar, 2023 (intrinsic and extrinsic strategies).

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0], [0.1, 0.9]])
    >>> knn_label_disagreement(x, np.array([0, 0, 1, 1, 1]), k=2).tolist()
    [0.5, 0.5, 1.0, 0.0, 0.0]
    """
    if k < 1:
        raise BadInput(f"knn_label_disagreement: k is a number of neighbours, at least 1, got {k}")
    if anchors != "all":
        if reference != "others":
            raise BadInput(
                "knn_label_disagreement: a background class as anchors goes with reference='others' only"
            )
        return _near_overlooked(embedding, labels, probs_oos, int(anchors), k)
    if reference == "others":
        found = nearest_others(embedding, k)
        return _share(len(labels), found.rows, labels[found.nearest] != labels[found.rows, None])
    if reference == "validation":
        if val_embedding is None or val_labels is None:
            absent = "val_embedding" if val_embedding is None else "val_labels"
            raise MissingSignal(
                f"knn_label_disagreement needs the signal '{absent}' for reference='validation'"
            )
        return _beside(embedding, labels, val_embedding, val_labels, k)
    return _beside_trusted(embedding, labels, _rows(reference, len(labels)), k)


def _near_overlooked(
    embedding: np.ndarray, labels: np.ndarray, probs_oos: np.ndarray | None, background: int, k: int
) -> Floats:
    """Count for each background sample the overlooked others that it is near to."""
    if probs_oos is None:
        raise MissingSignal(
            "knn_label_disagreement needs the signal 'probs_oos' to find the anchors of a class"
        )
    if not 0 <= background < probs_oos.shape[1]:
        raise BadInput(
            f"knn_label_disagreement: anchors is a class from 0 to {probs_oos.shape[1] - 1}, got {background}"
        )
    there = with_vector(embedding)
    negatives = there[labels[there] == background]
    predicted = there[~np.isnan(probs_oos[there, 0])]
    overlooked = predicted[
        (labels[predicted] != background) & (probs_oos[predicted].argmax(axis=1) == background)
    ]
    index, _ = nearest_rows(unit_rows(embedding), overlooked, negatives, k)
    score = np.full(len(labels), np.nan)
    score[negatives] = np.bincount(index.ravel(), minlength=len(negatives))
    return score


def _beside(
    embedding: np.ndarray, labels: np.ndarray, trusted: np.ndarray, trusted_labels: np.ndarray, k: int
) -> Floats:
    rows, base = with_vector(embedding), with_vector(trusted)
    index, _ = nearest_rows(unit_rows(embedding), rows, base, k, among=unit_rows(trusted))
    return _share(len(labels), rows, trusted_labels[base[index]] != labels[rows, None])


def _beside_trusted(embedding: np.ndarray, labels: np.ndarray, trusted: np.ndarray, k: int) -> Floats:
    rows = with_vector(embedding)
    base = np.intersect1d(rows, trusted)
    index, _ = nearest_rows(unit_rows(embedding), rows, base, k + 1)
    near = base[index]
    # A trusted sample is not its own witness; who is not trusted, or has k + 1 copies there, loses the farthest.
    counted = near != rows[:, None]
    if near.shape[1] > k:
        counted[counted.all(axis=1), -1] = False
    return _share(len(labels), rows, labels[near] != labels[rows, None], counted)


def _share(samples: int, rows: np.ndarray, differs: np.ndarray, counted: np.ndarray | None = None) -> Floats:
    score = np.full(samples, np.nan)
    counted = np.ones_like(differs) if counted is None else counted
    number = counted.sum(axis=1)
    with np.errstate(invalid="ignore"):
        score[rows] = np.where(number > 0, (differs & counted).sum(axis=1) / number, np.nan)
    return score


def _rows(reference: str | Sequence[int], samples: int) -> np.ndarray:
    if isinstance(reference, str):
        raise BadInput(
            "knn_label_disagreement: reference is 'others', 'validation' or a list of trusted rows, "
            f"not '{reference}'"
        )
    rows = np.unique(np.asarray(reference, dtype=np.int64))
    if not rows.size or rows[0] < 0 or rows[-1] >= samples:
        raise BadInput(f"knn_label_disagreement: reference lists rows from 0 to {samples - 1}, at least one")
    return rows
