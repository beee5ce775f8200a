"""Small loss, made a probability: the posterior of the cleaner of two Gaussians fitted to the losses.

The paper fits once, after a warm-up of 10 to 30 epochs; we read the last epoch recorded. What we fix: the
seed, and the order of the values, so that neither the run nor the order of the samples changes the fit.
"""

from __future__ import annotations

import warnings

import numpy as np

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.arrays import Floats
from tracesift.scorers.contract import scorer
from tracesift.scorers.presentations import mean_and_count


@scorer(
    mode="epoch_end",
    direction="clean",
    reference="Li, Socher, Hoi, DivideMix, ICLR 2020",
)
def loss_gmm(
    loss: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    last_epochs: int = 1,
    per_class_centred: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """Return the posterior of the small-loss component of a two-component mixture; high is clean.

    Parameters
    ----------
    loss : array of shape (T, N)
        Loss of each sample after each epoch; NaN where there is none.
    labels : array of shape (N,), optional
        Needed by `per_class_centred`.
    last_epochs
        Fit the mean of that many last epochs, each scaled to [0, 1]; 5 in the paper at 90 % noise.
    per_class_centred
        Take the mean loss of the sample's class off first, so that a hard class is no noisy class.
    seed
        Of the mixture's start.

    Returns
    -------
    array of shape (N,)
        In [0, 1]; the paper takes above 0.5 for clean. 0.5 for all where the losses are constant, 1 for all
        where the large-loss component holds less than one sample; NaN for a sample without a loss.

    Notes
    -----
    The published fit stops after ten steps, or at a gain below 0.01, and so may depend on its start where few losses
    are large: of breast_cancer's 457 clean training samples the seed alone puts 56 or 72 below 0.5 at one epoch, and
    45 or 48 at another; on digits with a fifth of the labels wrong, 20 seeds agreed on all.

    References
    ----------
    Li, Socher, Hoi, ICLR 2020, section 3.1.

    Examples
    --------
    >>> loss_gmm(np.array([[0.1, 0.2, 0.15, 0.1, 4.0, 5.0]])).round(2).tolist()
    [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    """
    if not 1 <= last_epochs <= len(loss):
        raise BadInput(f"loss_gmm: last_epochs is {last_epochs}, but the recording has {len(loss)} epochs")
    if per_class_centred and labels is None:
        raise MissingSignal("loss_gmm needs the signal 'labels' to centre the losses per class")
    late = np.stack([_scaled(row, labels if per_class_centred else None) for row in loss[-last_epochs:]])
    values = mean_and_count(late)[0]
    score = np.where(np.isnan(values), np.nan, 0.5)
    there = np.flatnonzero(~np.isnan(values))
    order = there[np.argsort(values[there], kind="stable")]
    if len(order) and values[order[0]] < values[order[-1]]:
        score[order] = _clean_posterior(values[order], seed)
    return score


def _scaled(loss: Floats, labels: np.ndarray | None) -> Floats:
    """Scale one epoch's losses to [0, 1], constant ones to 0; infinite ones count as the largest finite."""
    loss = loss.astype(np.float64)
    finite = np.isfinite(loss)
    if not finite.any():
        return np.where(np.isnan(loss), np.nan, 0.0)
    loss = np.minimum(loss, loss[finite].max())
    if labels is not None:
        there = ~np.isnan(loss)
        total = np.bincount(labels[there], weights=loss[there], minlength=labels.max() + 1)
        loss = loss - (total / np.maximum(np.bincount(labels[there], minlength=len(total)), 1))[labels]
    low, high = np.nanmin(loss), np.nanmax(loss)
    return (loss - low) / (high - low if high > low else 1.0)


def _clean_posterior(ascending: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.exceptions import ConvergenceWarning  # a second of import that listing the scorers spares
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(n_components=2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=seed)
    with warnings.catch_warnings():  # ten iterations are the definition, whether converged or not
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(ascending[:, None])
    clean = int(mixture.means_[:, 0].argmin())
    if mixture.weights_[1 - clean] * len(ascending) < 1:
        return np.ones(len(ascending))
    posterior: np.ndarray = mixture.predict_proba(ascending[:, None])[:, clean]
    return posterior
