"""Class-wise error-minimising noise (Huang et al., ICLR 2021): one noise per class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracesift.pipelines.protection.contract import Progress, Protected, generator
from tracesift.pipelines.protection.grey_levels import Images
from tracesift.pipelines.protection.min_min import Search, min_min


@generator(kind="image", reference="Huang, Ma, Erfani, Bailey, Wang, ICLR 2021: Unlearnable Examples")
def error_min_noise_classwise(
    images: Images,
    labels: NDArray[np.int64],
    *,
    seed: int,
    eps: float = 8.0,
    step: float = 0.8,
    steps: int = 1,
    stop_error: float = 0.1,
    rounds: int = 200,
    train_steps: int = 10,
    batch_size: int = 512,
    portion: float = 0.2,
    model: str = "small_cnn",
    num_classes: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Protected[NDArray[np.uint8]]:
    """Add to each image the noise of its class, which a surrogate network learns in place of the picture.

    The loop, and where it differs from the published code, is told in `min_min`. After each batch the noise of a class
    is the mean of what its images in the batch asked for. The same seed, machine and thread count give the same bytes,
    whatever the order of the rows.

    Parameters
    ----------
    images : (N, C, H, W) uint8, or float in [0, 1]
    labels : (N,) int
        Class indices.
    seed : int
        Of the surrogate's weights and batches.
    eps : float
        Largest change of any value, in grey levels of 255 (L-infinity).
    step, steps
        Length of a step of the noise in grey levels, and steps per batch.
    stop_error : float
        The surrogate's error on the perturbed images at which the search stops; 0.1 as in the published
        command for class-wise noise; the paper speaks of 0.01.
    rounds : int
        Rounds at most; the report says whether `stop_error` was reached.
    train_steps, batch_size : int
        Batches that the surrogate learns per round, and their size.
    portion : float
        Share of the images of each class that noise is searched on; of a class, 200 where it has them.
    model : str
        The surrogate: a built-in model for images, or your own module:function.
    num_classes : int, optional
        K, where not every class occurs.
    device : str
        Where the surrogate runs.
    progress : callable, optional
        Called with rounds done, rounds at most, and words.

    Returns
    -------
    Protected
        `inputs` uint8 (N, C, H, W); the report says `surrogate_error`, `rounds` and `reached`.

    Raises
    ------
    BadInput
        For images, labels or settings that are none.

    Examples
    --------
    >>> dark = np.random.default_rng(0).integers(9, 99, (20, 1, 8, 8), dtype=np.uint8)
    >>> made = error_min_noise_classwise(dark, np.arange(20) % 2, seed=0)
    >>> change = made.inputs.astype(int) - dark
    >>> made.report["reached"], bool((change[0] == change[2]).all()), int(np.abs(change).max()) <= 8
    (True, True, True)
    """
    search = Search(
        eps=eps, step=step, steps=steps, stop_error=stop_error, rounds=rounds, train_steps=train_steps,
        batch_size=batch_size, portion=portion, model=model,
    )  # fmt: skip
    return min_min(
        images, labels, search, classwise=True, seed=seed, num_classes=num_classes, device=device,
        progress=progress,
    )  # fmt: skip
