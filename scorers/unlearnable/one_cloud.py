"""What a view would show if each class were one cloud: the reference that two groups are held against (ours).

Cut in the middle, even a bell curve falls into two groups 2.65 deviations apart, and how much of the label goes with
them depends on the number of samples, of classes, and on how unlike the classes are. So the very set is asked: each
class keeps its mean, the covariance within its two groups, and how far its samples lie from the mean of their group;
and it loses the groups, because every sample becomes a mixture of many of its class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracesift.scorers.unlearnable.view_separation import Layout

PARTNERS = 12
"""Samples in a mixture: enough that mixtures of two groups form one."""
_TALLEST = 60  # small whole numbers are stretched towards this before mixtures are rounded


def one_cloud(
    view: NDArray[np.int8], layout: Layout, upper: NDArray[np.bool_], seed: int
) -> NDArray[np.int8]:
    """Return a view of as many samples, in which every class is one cloud.

    Parameters
    ----------
    view : (n, D) int8
        One row per sample in layout order.
    layout : Layout
        Which rows belong to which class.
    upper : (n,) bool
        Which of its class's two groups a row was found in.
    seed : int
        Another seed, another draw of the same clouds.

    Returns
    -------
    (n, D) int8
        Stretched by a whole factor, so that rounding costs little; separations do not depend on the scale.

    Examples
    --------
    >>> import numpy as np
    >>> layout = Layout(order=np.arange(9), bounds=np.array([[0, 3, 6, 9]]), classes=np.array([0]))
    >>> two = np.array([[-6], [-5], [-4], [-5], [4], [5], [6], [5], [5]], dtype=np.int8)
    >>> made = one_cloud(two, layout, two[:, 0] > 0, 0).astype(int)  # stretched ten times
    >>> int(np.ptp(10 * two.astype(int))), bool(np.ptp(made) < 120)
    (120, True)
    """
    rng = np.random.default_rng(seed)
    stretch = max(1, _TALLEST // max(1, int(np.abs(view).max(initial=0))))
    out = np.empty_like(view)
    for group in range(len(layout.classes)):
        part = layout.whole(group)
        members = view[part].astype(np.float64) * stretch
        mean = members.mean(axis=0)
        for side in (upper[part], ~upper[part]):
            if side.any():
                members[side] -= members[side].mean(axis=0)
        mixture = np.zeros_like(members)
        for _ in range(PARTNERS):
            mixture += rng.standard_normal((len(members), 1)) * members[rng.permutation(len(members))]
        far, now = np.linalg.norm(members, axis=1), np.linalg.norm(mixture, axis=1)
        mixture *= (far / np.where(now > 0, now, 1.0))[:, None]
        out[part] = np.clip(np.rint(mean + mixture), -107, 107)
    return out
