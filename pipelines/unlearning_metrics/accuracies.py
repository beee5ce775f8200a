"""How much is still known: accuracy on the forgotten, the retained and the unseen, and the distance to retraining."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.given import classes

COMPARED = ("ua", "ra", "ta", "mia")


def accuracies(
    *,
    forget: tuple[np.ndarray, np.ndarray],
    retain: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:
    """Return unlearning, retain and test accuracy of one model.

    Parameters
    ----------
    forget, retain, test
        Predicted classes (n,) and labels (n,) of the three sets, as class indices.

    Returns
    -------
    dict
        ``ua``, 1 - accuracy on `forget`; ``ra`` and ``ta``, accuracies on `retain` and `test`; all in [0, 1]. None is
        good by being high: each is to be that of a model retrained without the forget set. A `ua` far above
        retraining's says that too much was destroyed, one below it that something is still remembered.

    Raises
    ------
    BadInput
        An empty set, predictions and labels of different length, or values that are no class indices.

    References
    ----------
    Jia et al., Model sparsity can simplify machine unlearning, NeurIPS 2023 (UA, RA, TA).

    Examples
    --------
    >>> three = dict(forget=([0, 1], [0, 0]), retain=([1, 1], [1, 1]), test=([0, 1, 1, 1], [0, 0, 1, 1]))
    >>> accuracies(**three)
    {'ua': 0.5, 'ra': 1.0, 'ta': 0.75}
    """
    shares = {}
    for name, (predicted, labels) in {"forget": forget, "retain": retain, "test": test}.items():
        given, truth = (
            classes(f"predicted classes of {name}", predicted),
            classes(f"labels of {name}", labels),
        )
        if len(given) != len(truth):
            raise BadInput(f"{name} has {len(given)} predictions for {len(truth)} labels")
        shares[name] = float((given == truth).mean())
    return {"ua": 1.0 - shares["forget"], "ra": shares["retain"], "ta": shares["test"]}


def average_gap(unlearned: Mapping[str, float], retrained: Mapping[str, float]) -> float:
    """Return the mean distance to a retrained model over UA, RA, TA and MIA, in points.

    Parameters
    ----------
    unlearned, retrained
        ``ua``, ``ra``, ``ta`` of `accuracies` and ``mia``, the efficacy of an attack such as `svc_mia`, in [0, 1], of
        the unlearned model and of one retrained without the forget set; means over seeds where there are several.

    Returns
    -------
    float
        In [0, 100] points; low is good, 0 is what retraining gives.

    Raises
    ------
    BadInput
        One of the four is missing or outside [0, 1], as percentages would be.

    References
    ----------
    Fan et al., SalUn, ICLR 2024 ("Avg. Gap").

    Examples
    --------
    >>> average_gap(dict(ua=0.25, ra=1, ta=0.5, mia=0.5), dict(ua=0.5, ra=1, ta=0.75, mia=0.0))
    25.0
    """
    distances = gaps(unlearned, retrained, COMPARED)
    return 100.0 * sum(distances.values()) / len(COMPARED)


def gaps(
    unlearned: Mapping[str, float], retrained: Mapping[str, float], names: tuple[str, ...]
) -> dict[str, float]:
    """Return the distance of each named share between two models.

    Raises
    ------
    BadInput
        A share is missing or outside [0, 1].
    """
    for owner, values in (("unlearned", unlearned), ("retrained", retrained)):
        for name in names:
            if name not in values:
                raise BadInput(f"the {owner} model has no '{name}'; {', '.join(names)} are compared")
            if not 0 <= values[name] <= 1:
                raise BadInput(f"'{name}' of the {owner} model is {values[name]}; it is a share from 0 to 1")
    return {name: abs(float(unlearned[name]) - float(retrained[name])) for name in names}
