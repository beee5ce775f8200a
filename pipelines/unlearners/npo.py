"""Ascent that ends by itself: the more of a sample is gone, the less it is pulled at. For classifiers and texts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.less import Sample
from tracesift.pipelines.loop import Learner
from tracesift.pipelines.models.contract import Recipe
from tracesift.pipelines.unlearners.contract import SGD, Trained, batches, unlearner

Likelihoods = Callable[[nn.Module, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""log pi(y | x) of the rows in nats (B,), and of how many tokens each is (B,)."""


@dataclass(frozen=True, kw_only=True)
class TrainedOnTexts:
    """A causal language model that was trained on forget and retain set together, and what it was trained on."""

    module: nn.Module
    """Called with `input_ids` and `attention_mask`, it returns an object with `logits` (B, L, V), as in `transformers`;
    only parameters that require a gradient are trained, such as those of an adapter. No method changes it."""
    samples: Sequence[Sample]
    """All texts, each ``input_ids`` (L,) and ``labels`` (L,), -100 where a token is given and not learned."""
    device: torch.device
    threads: int | None = 1

    @property
    def labels(self) -> list[Tensor]:
        """Return each text's labels: as many as there are rows."""
        return [sample["labels"] for sample in self.samples]

    def likelihoods(self, module: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-likelihood of the labels of `rows` (B,), summed over tokens, and the number of these (B,)."""
        chosen = [self.samples[row] for row in rows.tolist()]
        ids, mask, labels = (
            pad_sequence(parts, batch_first=True, padding_value=fill).to(self.device)
            for parts, fill in (
                ([sample["input_ids"] for sample in chosen], 0),
                ([torch.ones_like(sample["input_ids"]) for sample in chosen], 0),
                ([sample["labels"] for sample in chosen], -100),
            )
        )
        logits = module(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        losses = F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")
        return -losses.sum(1), (labels[:, 1:] != -100).sum(1)


@unlearner(reference="Zhang, Lin, Bai, Mei, Negative preference optimization, COLM 2024")
def npo(
    trained: Trained | TrainedOnTexts,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    beta: float = 0.1,
    retain_weight: float = 1.0,
    epochs: int = 10,
    lr: float | None = None,
    batch_size: int | None = None,
) -> nn.Module:
    """Return the model after preferring anything else to the forget set, by how much it still holds of each sample.

    Minimised is (2 / beta) mean log(1 + (pi / pi_ref)^beta) over the forget set, with pi the probability of a sample's
    label or of a text's labelled tokens together and pi_ref the given model's, plus `retain_weight` times the
    cross-entropy of the retain set. For small beta it is gradient ascent; where pi is far below pi_ref nothing pulls.

    Parameters
    ----------
    trained
        Left as it is.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,). Every batch of the forget set is paired with one of the retain set, which begins
        anew when it is through.
    seed
        Of order and augmentation.
    weights
        Factor of each row's loss (N,); brought to mean 1 over either set.
    beta
        Inverse temperature, above 0; 0.1 in the authors' code.
    retain_weight
        Of the retain loss, 1 in the authors' code (NPO+RT); at 0 the retain set takes no part.
    epochs
        Over the forget set; 10 in the authors' code.
    lr, batch_size
        For texts 1e-5 of AdamW with weight decay 0.01, and 32, as in the authors' code for a model of 7 billion
        weights, without its warm-up. For classifiers, which are ours, 0.01 of SGD with momentum 0.9 and weight
        decay 5e-4, and the recipe's batches. The rate is constant.

    Returns
    -------
    torch.nn.Module
        In eval mode.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, a setting out of range, or a text without labels.

    References
    ----------
    Zhang et al., COLM 2024, equation 3, and section 5 for NPO+RT.

    Examples
    --------
    >>> npo(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not beta > 0 or not retain_weight >= 0 or epochs < 1:
        raise BadInput(
            f"npo: beta={beta}, retain_weight={retain_weight}, epochs={epochs}; beta is above 0, the weight at least "
            "0, epochs at least 1"
        )
    learner, likelihoods = _prepared(
        trained, len(forget), torch.cat([forget, retain]), epochs, lr, batch_size
    )
    reference = deepcopy(learner.module).eval()
    learner.module.train()
    size = learner.recipe.batch_size
    kept: Iterator[Tensor] = chain.from_iterable(batches(retain, size, seed, turn, 2) for turn in count())
    for epoch in range(epochs):
        views = generator(seed, epoch, 1)
        for rows in batches(forget, size, seed, epoch):
            state = views.get_state()
            with torch.no_grad():
                before, _ = likelihoods(reference, rows, views)
            views.set_state(state)  # the same views for both
            now, _ = likelihoods(learner.module, rows, views)
            loss = _mean(preference(now - before, beta), rows, weights)
            if retain_weight:
                others = next(kept)
                found, tokens = likelihoods(learner.module, others, views)
                loss = loss + retain_weight * _mean(-found, others, weights, tokens)
            learner.descend(loss)
    return learner.module


def preference(log_ratio: Tensor, beta: float) -> Tensor:
    """Return (2 / beta) log(1 + ratio^beta) for log(pi / pi_ref), of any shape.

    Examples
    --------
    >>> preference(torch.tensor([0.0, -500.0]), 1.0).tolist()
    [1.3862943649291992, 0.0]
    """
    return 2 / beta * F.softplus(beta * log_ratio)


def _prepared(
    trained: Trained | TrainedOnTexts,
    samples: int,
    rows: Tensor,
    epochs: int,
    lr: float | None,
    batch_size: int | None,
) -> tuple[Learner, Likelihoods]:
    """Return a learner on a copy of the model, and how it sees its rows."""
    if isinstance(trained, TrainedOnTexts):
        for row in rows.tolist():
            if (trained.samples[row]["labels"][1:] == -100).all():
                raise BadInput(
                    f"npo: text {row} has no token to learn; mark some in its labels or leave it out"
                )
        texts, size = trained, batch_size or 32
        recipe = Recipe(
            optimizer="adamw",
            lr=1e-5 if lr is None else lr,
            weight_decay=0.01,
            batch_size=size,
            epochs=epochs,
            schedule="constant",
        )
        learner = Learner(
            deepcopy(texts.module), recipe, steps=epochs * -(-samples // size), device=texts.device
        )
        return learner, lambda module, some, _: texts.likelihoods(module, some)
    classes = trained
    changed: dict[str, Any] = {"lr": 0.01 if lr is None else lr, "batch_size": batch_size}
    learner = classes.learner(samples, epochs, **changed, **SGD)

    def of_labels(module: nn.Module, some: Tensor, views: torch.Generator) -> tuple[Tensor, Tensor]:
        logits = module(classes.inputs.batch(some, views)).float()
        return -classes.losses(logits, some, None), torch.ones(len(some), device=classes.device)

    return learner, of_labels


def _mean(values: Tensor, rows: Tensor, weights: Tensor | None, tokens: Tensor | None = None) -> Tensor:
    """Return the weighted sum of `values` (B,) over the number of rows, or of their tokens."""
    weighted = values if weights is None else values * weights[rows.to(values.device)]
    return weighted.sum() / (len(rows) if tokens is None else tokens.sum())
