"""How many labels are wrong by the losses: the weight of the large-loss part of a mixture of two Gaussians."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracesift.scorers.contract import diagnostic
from tracesift.scorers.noise.loss_gmm import loss_gmm


@diagnostic(
    mode="epoch_end",
    reference="Arazo et al., Unsupervised label noise modeling, ICML 2019; Li et al., ICLR 2020",
)
def loss_mixture_rate(loss: np.ndarray) -> dict[str, Any]:
    """Estimate the share of wrong labels as the mean posterior of the large-loss component.

    Parameters
    ----------
    loss : array of shape (T, N)
        Loss of each sample after each epoch; NaN where there is none. The mixture is that of `loss_gmm`.

    Returns
    -------
    dict
        `rate`, null where no sample has a loss, and `assumes`, a sentence. Hard samples with the right label
        have large losses as well, and a network that has memorised its labels has none.

    References
    ----------
    Arazo, Ortego, Albert, O'Connor, McGuinness, ICML 2019, section 3.1; Li, Socher, Hoi, ICLR 2020, section 3.1.

    Examples
    --------
    >>> loss_mixture_rate(np.array([[0.1, 0.2, 0.15, 0.1, 4.0, 5.0]]))["rate"]
    0.333333
    """
    clean = loss_gmm(loss)
    assumes = "large losses after the last epoch are wrong labels; hard samples count as noise, memorised ones do not"
    there = np.isfinite(clean)
    return {"rate": round(float(1 - clean[there].mean()), 6) if there.any() else None, "assumes": assumes}
