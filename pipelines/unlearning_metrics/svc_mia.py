"""Membership attack by a support vector machine: whether forgotten samples are treated like samples never seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import entr
from sklearn.svm import SVC

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.unlearning_metrics.given import Classes, Floats, classes, probabilities

LEAST = 1e-30
"""Stands for a probability of 0 inside a logarithm, as in the code of the papers."""


def modified_entropy(probs: np.ndarray, labels: np.ndarray) -> Floats:
    """Return the entropy that knows the label: near 0 for the sure and right, large for the sure and wrong.

    Parameters
    ----------
    probs : array of shape (n, K)
    labels : array of shape (n,)

    Returns
    -------
    array of shape (n,)
        -(1 - p_y) log p_y - sum over k != y of p_k log(1 - p_k), in nats.

    References
    ----------
    Song, Mittal, Systematic evaluation of privacy risks of machine learning models, USENIX Security 2021.

    Examples
    --------
    >>> modified_entropy(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0])).round(4).tolist()
    [0.6931, 0.0]
    """
    rows = np.arange(len(labels))
    of_label = probs[rows, labels]
    terms = -probs * np.log(np.maximum(1.0 - probs, LEAST))
    terms[rows, labels] = -(1.0 - of_label) * np.log(np.maximum(of_label, LEAST))
    return np.asarray(terms.sum(axis=1))


FEATURES: dict[str, Callable[[Floats, Classes], Floats]] = {
    "correctness": lambda probs, labels: (probs.argmax(axis=1) == labels).astype(np.float64),
    "confidence": lambda probs, labels: probs[np.arange(len(labels)), labels],
    "entropy": lambda probs, labels: entr(probs).sum(axis=1),
    "modified_entropy": modified_entropy,
    "probability": lambda probs, labels: probs,
}
"""What the attack looks at, one at a time; `probability` is the whole vector."""


def svc_mia(
    *,
    forget: tuple[np.ndarray, np.ndarray],
    retain: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> dict[str, float]:
    """Return the share of forget samples that an attack takes for samples never trained on, for each attack feature.

    A support vector machine (RBF kernel, C = 3, gamma "auto") learns to tell retain (member) from test (not), and is
    then shown the forget set.

    Parameters
    ----------
    forget, retain, test
        Class probabilities (n, K) of one model in eval mode, and labels (n,), of the three sets.
    seed
        Of the draw by which retain and test, whichever is larger, is brought to the size of the other.

    Returns
    -------
    dict
        Efficacy in [0, 1] by ``correctness``, ``confidence`` of the label, ``entropy``, ``modified_entropy`` and
        ``probability``, the whole vector; ``confidence`` is the one that papers print as MIA. High: the forget set
        looks never seen; low: remembered. Good is the value of a retrained model, not 1.

    Raises
    ------
    BadInput
        An empty set, or rows that are no probabilities.

    Notes
    -----
    The authors' code differs in two ways that are not followed. Its modified entropy is indexed by all labels at once
    and takes log p for log(1 - p), so that a sample's value depends on the labels of the others. And it trains on the
    *first* retain samples, as many as there are test samples, which are those of a few classes where the data are
    sorted; here they are drawn. Rows are taken in the order given: sort them by `sample_id` for the same draw again.

    References
    ----------
    Jia et al., NeurIPS 2023 (MIA-Efficacy); Song, Mittal, USENIX Security 2021 (the features).

    Examples
    --------
    >>> sure, unsure = np.tile([0.99, 0.01], (40, 1)), np.tile([0.6, 0.4], (40, 1))
    >>> zeros = np.zeros(40, dtype=np.int64)
    >>> svc_mia(forget=(unsure, zeros), retain=(sure, zeros), test=(unsure, zeros), seed=0)["confidence"]
    1.0
    """
    sets = {}
    for name, (probs, labels) in {"forget": forget, "retain": retain, "test": test}.items():
        truth = classes(f"labels of {name}", labels)
        sets[name] = probabilities(f"probabilities of {name}", probs, truth), truth
    if len({probs.shape[1] for probs, _ in sets.values()}) > 1:
        raise BadInput("forget, retain and test have different numbers of classes; they are of one model")
    size = min(len(sets["retain"][1]), len(sets["test"][1]))
    rng = np.random.default_rng(seed)
    for name in ("retain", "test"):
        probs, truth = sets[name]
        drawn = np.sort(rng.choice(len(truth), size, replace=False)) if len(truth) > size else slice(None)
        sets[name] = probs[drawn], truth[drawn]
    member = np.repeat([1, 0], size)
    efficacy = {}
    for name, feature in FEATURES.items():
        values = {part: feature(*given).reshape(len(given[1]), -1) for part, given in sets.items()}
        attack = SVC(C=3, gamma="auto", kernel="rbf")
        attack.fit(np.concatenate([values["retain"], values["test"]]), member)
        efficacy[name] = float((attack.predict(values["forget"]) == 0).mean())
    return efficacy
