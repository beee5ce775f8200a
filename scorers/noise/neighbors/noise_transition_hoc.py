"""The noise transition matrix from how often neighbours' labels agree, without training and without clean labels.

If a sample and its two nearest neighbours share their true class, their labels are three independent draws from the
same row of T. How often each label, pair and triple occurs then determines T and the class prior p: three noisy
labels are enough, and fewer are not in general.

Everything rests on that premise, clusterability. Where neighbours are of other classes, the estimate takes that for
label noise. Two things make noise look rarer. The label of a copied image is copied as well: remove copies first. And
a model trained on these labels has put wrong labels that it remembers among their own: the penultimate layer of a small
text model, trained for ten epochs on 20 % wrong labels, gave an estimate of 4 %. The paper's features are of a model
trained on other data.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tracesift.catalog.nearest_rows import nearest_rows, unit_rows
from tracesift.scorers.arrays import Floats
from tracesift.scorers.contract import diagnostic
from tracesift.scorers.noise.neighbors.nearest_others import with_vector

MOST_CLASSES = 100
"""The equations for triples have K^3 numbers and each of the steps costs K^4; the paper goes to 100 too."""
STEPS, RATE, SETTLED = 501, 0.1, 5
"""Steps of Adam, its learning rate, and the step after which the best one is kept."""
LEAST_CLUSTERABLE = 0.9
"""Below this share of samples in one class with their two neighbours the noise rate is no finding."""
NUMBERS = (
    "rate", "transition", "prior", "agreement", "expected_agreement", "clusterability", "clusterability_error",
)  # fmt: skip


@diagnostic(
    mode=None,
    experimental=True,
    reference="Zhu, Song, Liu, Clusterability as an alternative to anchor points, ICML 2021",
)
def noise_transition_hoc(
    embedding: np.ndarray,
    labels: np.ndarray,
    *,
    rounds: int = 10,
    draw: int = 15_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Estimate the noise transition matrix and the rate of wrong labels from triples of neighbours.

    Parameters
    ----------
    embedding : array of shape (N, D)
        Features of a model that has not seen these labels, compared by cosine. A row that is all zero or not
        finite stands for no vector.
    labels : array of shape (N,)
    rounds
        In each one, `draw` samples are drawn and neighbours are looked for among them; 50 in the paper, 10 in
        its authors' later work. One is enough where all samples fit into a draw.
    draw
        Samples in a round; all where there are fewer.
    seed
        Of the draws, and of where the prior starts.

    Returns
    -------
    dict
        `reading`, a sentence; `rate`, the share of wrong labels 1 - sum_k p_k T_kk; `transition`, T as K rows of
        P(label j | true class i); `prior`, p. `agreement`, the share of samples whose two neighbours both carry
        their label; `expected_agreement`, what T and p make of it where neighbours always share the class.
        `clusterability`, how often they do as far as labels tell: a sample and its nearest neighbour are one
        step apart, its two neighbours two, and by how much these agree less, chance taken off, says how many
        neighbours stray. Whole groups among another class go unnoticed, so this is an upper bound;
        `clusterability_error` is its standard error. All null but `reading` where there are fewer than 3
        samples, one class, or more than 100. The rate is told in words only where the clusterability is within
        one error of 0.9 or above, and each class carries its own label most often.

    References
    ----------
    Zhu, Song, Liu, ICML 2021, section 3 and algorithm 1; Liu, Cheng, Zhang, Identifiability of label noise
    transition matrix, ICML 2023 (three labels are needed).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> true = rng.integers(0, 2, size=4000)
    >>> labels = np.where(rng.random(4000) < 0.2, 1 - true, true)  # 21 % of these 4000
    >>> x = np.eye(8)[true] + rng.normal(0, 0.1, size=(4000, 8))
    >>> noise_transition_hoc(x, labels)["reading"]
    'about 21% of the labels are wrong'
    """
    there = with_vector(embedding)
    classes = int(labels.max()) + 1 if len(labels) else 0
    refused = _refused(len(there), labels[there], classes)
    if refused is not None:
        return {"reading": f"cannot tell: {refused}", **dict.fromkeys(NUMBERS)}
    triples = _triples(embedding, labels, there, rounds=rounds, draw=draw, seed=seed)
    transition, prior = _solved(triples, seed)
    rate = float(1 - prior @ transition.diagonal())
    clusterability, error = _clusterability(triples, min(len(there), rounds * draw))
    return {
        "reading": _reading(rate, clusterability, error, transition, prior),
        "rate": round(rate, 4),
        "transition": transition.round(4).tolist(),
        "prior": prior.round(4).tolist(),
        "agreement": round(float(np.einsum("iii->", triples)), 4),
        "expected_agreement": round(float(prior @ (transition**3).sum(axis=1)), 4),
        "clusterability": round(clusterability, 4),
        "clusterability_error": round(error, 4),
    }


def _refused(samples: int, labels: np.ndarray, classes: int) -> str | None:
    if samples < 3:
        return f"{samples} samples have a vector, and it takes three"
    if (labels == labels[0]).all():
        return "all labels are the same"
    if classes > MOST_CLASSES:
        return f"{classes} classes, and this is solved for at most {MOST_CLASSES}"
    return None


def _reading(rate: float, clusterability: float, error: float, transition: Floats, prior: Floats) -> str:
    if clusterability + error < LEAST_CLUSTERABLE:
        return (
            f"cannot tell: only {clusterability:.0%} of the samples are of one class with their two nearest "
            f"neighbours, and {LEAST_CLUSTERABLE:.0%} should be"
        )
    taken = (transition.argmax(axis=1) != np.arange(len(prior))) & (prior > 0.01 / len(prior))
    if taken.any():
        return (
            f"cannot tell: class {taken.argmax()} would carry another label more often than its own, and then "
            "nothing says which is which"
        )
    return f"about {rate:.0%} of the labels are wrong"


def _triples(
    embedding: np.ndarray, labels: np.ndarray, there: np.ndarray, *, rounds: int, draw: int, seed: int
) -> Floats:
    """Return how often (own, nearest, second nearest) labels occur together, (K, K, K), adding up to 1."""
    classes = int(labels.max()) + 1
    vectors = unit_rows(embedding)
    rng = np.random.default_rng(seed)
    counts = np.zeros(classes**3, dtype=np.int64)
    for _ in range(rounds if len(there) > draw else 1):
        drawn = np.sort(rng.choice(there, min(draw, len(there)), replace=False))
        index, _ = nearest_rows(vectors, drawn, drawn, 3)
        own = index == np.arange(len(drawn))[:, None]
        own[~own.any(axis=1), -1] = True
        near = labels[drawn[index[~own].reshape(-1, 2)]]
        cell = (labels[drawn] * classes + near[:, 0]) * classes + near[:, 1]
        counts += np.bincount(cell, minlength=len(counts))
    return (counts / counts.sum()).reshape(classes, classes, classes)


def _solved(triples: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return T and p whose labels, pairs and triples come nearest to the observed ones.

    Adam on softmax logits; T starts near the identity, which settles which row is which class.
    """
    import torch  # a second of import that listing the scorers spares

    classes = len(triples)
    with _one_thread():
        generator = torch.Generator().manual_seed(seed)
        observed = torch.from_numpy(triples)
        seen = observed.sum(dim=(1, 2)), observed.sum(dim=2), observed
        rows = (5 * torch.eye(classes, dtype=torch.float64) - 1).requires_grad_()
        start = 0.1 * torch.rand(classes, generator=generator, dtype=torch.float64) + 1 / classes
        weights = start.requires_grad_()
        adam = torch.optim.Adam([rows, weights], lr=RATE)
        least, best = float("inf"), (rows.detach().clone(), weights.detach().clone())
        for step in range(STEPS):
            loss = _distance(seen, rows.softmax(dim=1), weights.softmax(dim=0))
            if step > SETTLED and loss.item() < least:
                least, best = loss.item(), (rows.detach().clone(), weights.detach().clone())
            adam.zero_grad()
            loss.backward()
            adam.step()
    transition, prior = best[0].softmax(dim=1).numpy(), best[1].softmax(dim=0).numpy()
    return transition, prior


def _distance(seen: tuple[Any, Any, Any], transition: Any, prior: Any) -> Any:
    """Return the sum of the distances of labels, pairs and triples from those that T and p predict."""
    classes = len(prior)
    weighted = (prior[:, None] * transition).T
    pairs = (transition[:, :, None] * transition[:, None, :]).reshape(classes, -1)
    triples = (weighted @ pairs).reshape(classes, classes, classes)
    predicted = (weighted.sum(dim=1), weighted @ transition, triples)
    return sum((one - other).norm() for one, other in zip(seen, predicted, strict=True))


def _clusterability(triples: Floats, samples: int) -> tuple[float, float]:
    """Return the share of samples that are of one class with both neighbours, and its standard error.

    With g the chance that a neighbour is of the sample's class, the nearest agrees with it in g of the cases
    that are beyond chance, and the two neighbours with each other in g^2.
    """
    chance = float((triples.sum(axis=(1, 2)) ** 2).sum())
    near = float(np.einsum("iij->", triples) + np.einsum("iji->", triples)) / 2
    between = float(np.einsum("jii->", triples))
    if near <= chance or between <= chance:
        return 0.0, 0.0
    share = min(1.0, (between - chance) / (near - chance))
    error = float(np.sqrt(2 * near * (1 - near) / samples)) / (near - chance)
    return share**2, 2 * share * error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch add up in one order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
