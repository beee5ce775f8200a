"""SnP's search: of all training data, the part that looks most like an unlabelled target domain.

Groups of samples (identities, in the paper) are put into clusters of equal size by their mean vectors. Clusters are
ordered by the Fréchet distance of their samples to the target's, the nearest first, and added one by one; of these
unions the one nearest to the target is kept.

The target is what is passed as `val_embedding`: vectors of the domain where the model shall work, no labels needed.
All its vectors and all samples of a union take part in every distance. The published code draws part of the union, or
of the target and then does not use that draw; moments that add up need no drawing at all.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from tracesift.catalog.schema import BadInput, nearest
from tracesift.selectors.contract import selector
from tracesift.selectors.geometry.distances import laid_out, mean_point, space, squared_distances
from tracesift.selectors.geometry.frechet import FrechetDistance, Moments, moments
from tracesift.selectors.ranking import outcome

ROUNDS = 50


@selector(
    version=1, budget=False, reference="Yao, Gedeon, Zheng 2023 (SnP), section on target-specific search"
)
def snp_search(
    frame: pl.DataFrame,
    embedding: np.ndarray,
    val_embedding: np.ndarray,
    *,
    group: str | None = None,
    clusters: int = 50,
    ridge: float = 1e-6,
) -> pl.DataFrame:
    """Keep the clusters of samples whose union is nearest to a target domain by the Fréchet distance.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Vectors of the samples.
    val_embedding : array of shape (M, D)
        Vectors of the target domain by the same model, at least two; the validation samples where they come from
        there.
    group : str, optional
        Column whose equal values stay together, such as ``group`` or ``label``; every sample by itself where None.
    clusters : int
        How many clusters of about equal numbers of groups, or as many as there are groups.
    ridge : float
        Added to the diagonals of the covariances, which fewer vectors than dimensions leave singular.

    Raises
    ------
    BadInput
        No such column, or a target of other dimensions or fewer than two vectors.

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "label": ["x"] * 4})
    >>> places, target = np.array([[0.0], [0.2], [9.0], [9.2]]), np.array([[9.0], [9.1], [9.2]])
    >>> snp_search(frame, places, target, clusters=2)["role"].to_list()
    ['drop', 'drop', 'keep', 'keep']
    """
    if val_embedding.shape[1] != embedding.shape[1] or len(val_embedding) < 2:
        raise BadInput(
            f"snp_search: the target (val_embedding) must be at least two vectors of {embedding.shape[1]} dimensions, "
            f"by the same model as the samples; got {val_embedding.shape}"
        )
    if clusters < 1 or not ridge >= 0:
        raise BadInput(f"snp_search: clusters={clusters} must be 1 or more, ridge={ridge} 0 or more")
    codes = group_codes(frame, group, "snp_search")[1]
    means = group_means(embedding, codes)
    cluster = equal_clusters(means, min(clusters, len(means)))[codes]
    target = FrechetDistance(val_embedding, ridge)
    parts = [moments(embedding[cluster == one]) for one in range(int(cluster.max()) + 1)]
    alone = np.array([target.of(part) for part in parts])
    order = np.argsort(alone, kind="stable")
    unions: list[float] = []
    union: Moments | None = None
    for one in order:
        union = parts[one] if union is None else union + parts[one]
        unions.append(target.of(union))
    chosen = int(np.argmin(unions)) + 1
    place = np.argsort(order)[cluster]
    reason = pl.format(
        f"cluster {{}} of {order.size} by its Fréchet distance to the target, {{}}; the first {chosen} together are "
        f"nearest, {unions[chosen - 1]:.4g} (all samples: {unions[-1]:.4g})",
        pl.Series(place + 1),
        pl.Series(alone[cluster]).round_sig_figs(4),
    )
    return outcome(frame, place < chosen, frame.select(reason.alias("reason"))["reason"])


def group_codes(frame: pl.DataFrame, group: str | None, selector: str) -> tuple[list[str], np.ndarray]:
    """Return the groups' names, ascending, and each sample's group; every sample is one where `group` is None."""
    column = "sample_id" if group is None else group
    if column not in frame.columns:
        others = [
            name for name, dtype in frame.schema.items() if not dtype.is_float()
        ]  # no score groups samples
        raise BadInput(
            f"{selector}: the frame has no column '{column}'{nearest(column, others)}; it has {', '.join(others)}"
        )
    if frame[column].null_count():
        raise BadInput(
            f"{selector}: '{column}' is null for {frame[column].null_count()} of {frame.height} samples; fill it first"
        )
    names, codes = np.unique(frame[column].cast(pl.String).to_numpy(), return_inverse=True)
    return names.tolist(), codes


def group_means(embedding: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the mean vector (G, D) of each group, added up in the order of rows."""
    total = np.zeros((int(codes.max()) + 1, embedding.shape[1]))
    np.add.at(total, codes, embedding.astype(np.float64))
    return total / np.bincount(codes)[:, None]


def equal_clusters(points: np.ndarray, clusters: int) -> np.ndarray:
    """Return the cluster (G,) of each point: k-means whose clusters differ by at most one point.

    It begins at the point nearest to the mean and those farthest from it and from each other. In each round the points
    that would lose most by the worst cluster instead of the best choose first, among clusters with room.
    """
    where = space(points, "euclidean", "snp_search")
    laid = laid_out(where, np.arange(len(points)))
    nearest_centre = squared_distances(laid, mean_point(laid))
    begin = [int(nearest_centre.argmin())]
    apart = squared_distances(laid, where.at(begin[0]))
    while len(begin) < clusters:
        begin.append(int(apart.argmax()))
        apart = np.minimum(apart, squared_distances(laid, where.at(begin[-1])))
        apart[begin] = -1.0
    centres = points[begin]
    assigned = np.full(len(points), -1)
    for _ in range(ROUNDS):
        distances = np.stack([squared_distances(laid, centre) for centre in centres], axis=1)
        chosen = _with_room(distances)
        if (chosen == assigned).all():
            break
        assigned = chosen
        centres = group_means(points, assigned)
    return assigned


def _with_room(distances: np.ndarray) -> np.ndarray:
    """Return a column for each row of (G, C): cheap ones, each column used floor(G / C) times or once more."""
    rows, columns = distances.shape
    least, once_more = divmod(rows, columns)
    used, chosen = np.zeros(columns, dtype=np.int64), np.empty(rows, dtype=np.int64)
    order = np.argsort(distances.min(axis=1) - distances.max(axis=1), kind="stable")
    preferred = np.argsort(distances, axis=1, kind="stable")
    for row in order:
        for column in preferred[row]:
            if used[column] < least or (used[column] == least and once_more):
                once_more -= int(used[column] == least)
                used[column] += 1
                chosen[row] = column
                break
    return chosen
