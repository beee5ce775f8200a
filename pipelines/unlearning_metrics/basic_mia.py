"""Membership attack on the loss alone: whether forgotten samples are told from unseen ones by a smaller loss."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.given import numbers


def basic_mia(
    forget_loss: np.ndarray, test_loss: np.ndarray, *, seed: int, folds: int = 10
) -> dict[str, float]:
    """Return how well the loss tells forgotten samples from unseen ones; 0.5 is not at all.

    Parameters
    ----------
    forget_loss, test_loss : arrays of shape (n,) and (m,)
        Cross-entropy of each sample, in nats, from one model in eval mode. Compare like with like: a forget set of one
        class with test samples of that class.
    seed
        Of the draw that brings both to one size, and of the folds.
    folds
        Of the cross-validation; the attack is judged only on samples it was not fitted on.

    Returns
    -------
    dict
        ``auc``, of all thresholds on the loss: the chance that a forget sample has a smaller loss than a test sample.
        Above 0.5 the set is still remembered; below, its loss is larger than that of unseen samples, which gives it
        away as well. ``accuracy``, of a logistic regression on the loss, balanced and cross-validated: 0.5 is what
        chance gives, above it the set is told apart in either direction.

    Raises
    ------
    BadInput
        A loss that is not finite, or fewer samples than folds on one side.

    References
    ----------
    Kurmanji et al., Towards unbounded machine unlearning, NeurIPS 2023 (Basic MIA); Yeom et al., CSF 2018
    (threshold on the loss).

    Examples
    --------
    >>> unseen = np.linspace(0, 2, 40)
    >>> basic_mia(unseen / 100 - 1, unseen, seed=0)["auc"]
    1.0
    """
    forget, test = numbers("forget_loss", forget_loss, "samples"), numbers("test_loss", test_loss, "samples")
    size = min(len(forget), len(test))
    if not 2 <= folds <= size:
        raise BadInput(f"basic_mia: {folds} folds of {size} samples a side; take 2 to {size}")
    rng = np.random.default_rng(seed)
    drawn = [
        values[np.sort(rng.choice(len(values), size, replace=False))] if len(values) > size else values
        for values in (forget, test)
    ]
    attack = make_pipeline(StandardScaler(), LogisticRegression())
    shuffled = StratifiedKFold(folds, shuffle=True, random_state=seed)
    right = cross_val_score(
        attack,
        np.concatenate(drawn)[:, None],
        np.repeat([1, 0], size),
        cv=shuffled,
        scoring="balanced_accuracy",
    )
    member = np.repeat([1, 0], [len(forget), len(test)])
    return {
        "auc": float(roc_auc_score(member, -np.concatenate([forget, test]))),
        "accuracy": float(right.mean()),
    }
