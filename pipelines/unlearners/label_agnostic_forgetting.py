"""Forgetting without labels: features leave the distribution of the forget set, and the others stay in place: LAF."""

from __future__ import annotations

from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.determinism import generator
from tracesift.pipelines.encoding.encode import Encoded
from tracesift.pipelines.loop import EVAL_BATCH
from tracesift.pipelines.unlearners.contract import Trained, batches, unlearner

HIDDEN = (128, 32)
"""Widths between features and latent variables, in the authors' code."""


@unlearner(reference="Shen et al., Label-agnostic forgetting, ICLR 2024 (LAF, with repair LAF+R)")
def label_agnostic_forgetting(
    trained: Trained,
    forget: Tensor,
    retain: Tensor,
    *,
    seed: int,
    weights: Tensor | None = None,
    epochs: int = 40,
    extractor_lr: float = 1e-5,
    alignment_lr: float = 4e-5,
    temperature: float = 20.0,
    latent: int = 16,
    vae_epochs: int = 10,
    vae_lr: float = 1e-3,
    divergence: float = 0.025,
    batch_size: int = 32,
    repair_epochs: int = 0,
    repair_lr: float = 1e-3,
) -> nn.Module:
    """Return the model after moving its extractor away from what a variational autoencoder knows of the forget set.

    Two autoencoders learn the features of either set. Then two steps take turns, with e the features and q = exp(m /
    (m + 1)) of an autoencoder's squared error m. Extractor unlearning lowers q of the retain set's and raises q of the
    forget set's. Representation alignment lowers the mean over the retain set of 1 - cos(e, e_0) and raises log sum
    exp((1 - cos(e, e_0)) / temperature) over the forget set, with e_0 of the given model.

    Parameters
    ----------
    trained
        Left as it is. Features are the input of its last linear layer, which is not moved but by repair.
    forget, retain : int64 arrays
        Distinct rows (f,) and (r,). Their labels are read for repair only.
    seed
        Of autoencoders, order and repair.
    weights
        Factor of each row's terms (N,); brought to mean 1 over either set.
    epochs
        Over the forget set, each batch with one of the retain set.
    extractor_lr, alignment_lr
        Of Adam, for either step. These, `epochs`, `temperature` and `latent` are the authors' for ResNet-18 on CIFAR-10
        and random samples; for a small network on MNIST they take 5e-5, 1e-4, 20, 5 and 8.
    temperature
        Of the forget set's part of the alignment.
    latent
        Latent variables.
    vae_epochs, vae_lr, divergence
        Of the autoencoders: Adam, and the factor of the divergence from N(0, 1).
    batch_size
        Of all; 32 in the authors' code.
    repair_epochs
        Of LAF+R: passes over as many batches of the retain set, with labels, in which the last layer alone is trained
        on cross-entropy. 0 is LAF.
    repair_lr
        Of its Adam; ours.

    Returns
    -------
    torch.nn.Module
        In eval mode; as in the authors' code it stays in it, so running statistics of normalisation are those of the
        given model, and nothing is augmented.

    Raises
    ------
    BadInput
        Sets that share a row, an empty one, weights that are none, a setting out of range, or a model without a linear
        layer or with nothing to train before it.

    Notes
    -----
    Two things differ from the authors' code. Theirs learns the retain set's features from all samples; here, as the
    method is described, from the retain set. Theirs ends the autoencoder in a sigmoid, which features above 1 cannot
    pass; here it ends in a linear layer. The losses are means, theirs sums, which Adam does not tell apart.

    References
    ----------
    Shen et al., ICLR 2024; the authors' code for losses and settings.

    Examples
    --------
    >>> label_agnostic_forgetting(trained, forget, retain, seed=0)  # doctest: +SKIP
    """
    if not temperature > 0 or min(epochs, latent, vae_epochs, batch_size) < 1 or repair_epochs < 0:
        raise BadInput(
            f"label_agnostic_forgetting: temperature={temperature}, epochs={epochs}, latent={latent}, vae_epochs="
            f"{vae_epochs}, batch_size={batch_size}, repair_epochs={repair_epochs}; all are above 0, repair at least 0"
        )
    inputs = trained.inputs
    module = deepcopy(trained.module).to(trained.device).eval()
    original = deepcopy(module)
    if not features(module, inputs.batch(retain[:2])).requires_grad:
        raise BadInput(
            f"label_agnostic_forgetting: {type(module).__name__} has no weights before its last layer, so its features "
            "cannot forget; choose a model with a hidden layer"
        )
    factor = torch.ones(len(trained.labels), device=trained.device) if weights is None else weights
    known, gone = (
        _learned(
            original, inputs, rows, factor, latent, vae_epochs, vae_lr, divergence, batch_size, seed, number
        )
        for number, rows in enumerate((retain, forget))
    )
    adam = {"optimizer": "adamw", "weight_decay": 0.0, "schedule": "constant", "batch_size": batch_size}
    away, aligned = (
        trained.learner(len(forget), epochs, module=module, lr=lr, **adam)
        for lr in (extractor_lr, alignment_lr)
    )
    for epoch in range(epochs):
        noise = generator(seed, epoch, 1)
        pairs = zip(
            batches(forget, batch_size, seed, epoch, 2),
            batches(retain, batch_size, seed, epoch),
            strict=False,
        )
        for lost, kept in pairs:
            x_lost, x_kept = inputs.batch(lost), inputs.batch(kept)
            w_lost, w_kept = (factor[rows.to(trained.device)] for rows in (lost, kept))
            away.descend(
                (w_kept * known.strangeness(features(module, x_kept), noise)).mean()
                - (w_lost * gone.strangeness(features(module, x_lost), noise)).mean()
            )
            with torch.no_grad():
                before = features(original, x_lost), features(original, x_kept)
            aligned.descend(
                alignment(
                    turned(features(module, x_kept), before[1]),
                    turned(features(module, x_lost), before[0]),
                    temperature, w_kept, w_lost,
                )
            )  # fmt: skip
    if repair_epochs:
        optimizer = torch.optim.Adam(last_layer(module).parameters(), lr=repair_lr)
        for epoch in range(repair_epochs):
            count = -(-len(forget) // batch_size)
            for _, kept in zip(range(count), batches(retain, batch_size, seed, epoch, 4), strict=False):
                optimizer.zero_grad()
                trained.losses(module(inputs.batch(kept)), kept, weights).mean().backward()
                optimizer.step()
    module.zero_grad()
    return module


class Autoencoder(nn.Module):
    """A variational autoencoder of features (B, D)."""

    def __init__(self, size: int, latent: int) -> None:
        super().__init__()
        wide, narrow = HIDDEN
        self.encoder = nn.Sequential(
            nn.Linear(size, wide),
            nn.ReLU(),
            nn.Linear(wide, narrow),
            nn.ReLU(),
            nn.Linear(narrow, 2 * latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, narrow), nn.ReLU(), nn.Linear(narrow, wide), nn.ReLU(), nn.Linear(wide, size)
        )

    def forward(self, features: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return each sample's squared error, summed over features, and its divergence from N(0, 1), both (B,)."""
        mean, log_variance = self.encoder(features).chunk(2, dim=1)
        drawn = torch.randn(mean.shape, generator=noise).to(mean.device)
        rebuilt = self.decoder(mean + (0.5 * log_variance).exp() * drawn)
        apart = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
        return (rebuilt - features).square().sum(1), apart

    def strangeness(self, features: Tensor, noise: torch.Generator) -> Tensor:
        """Return exp(m / (m + 1)) of the squared error m (B,), in [1, e): high for features unlike its own."""
        error, _ = self(features, noise)
        return (error / (error + 1)).exp()


def alignment(
    kept: Tensor, lost: Tensor, temperature: float, kept_weights: Tensor, lost_weights: Tensor
) -> Tensor:
    """Return the mean of `kept` minus log sum exp(lost / temperature), of how far the features have turned, (B,) each.

    Examples
    --------
    >>> round(alignment(torch.tensor([0.5]), torch.zeros(2), 5.0, torch.ones(1), torch.ones(2)).item(), 4)
    -0.1931
    """
    pushed = (lost_weights * (lost / temperature).exp()).sum()
    return (kept_weights * kept).mean() - pushed.clamp(min=1e-12).log()


def turned(features: Tensor, original: Tensor) -> Tensor:
    """Return 1 - cos of the features and the original ones (B,)."""
    return 1 - F.cosine_similarity(features, original, dim=1)


def features(module: nn.Module, x: Tensor) -> Tensor:
    """Return what the last linear layer is given (B, D), with its graph."""
    caught: list[Tensor] = []
    handle = last_layer(module).register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        module(x)
    finally:
        handle.remove()
    return torch.flatten(caught[-1], 1).float()


def last_layer(module: nn.Module) -> nn.Linear:
    """Return the last linear layer, which takes the features."""
    linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise BadInput(
            f"label_agnostic_forgetting: {type(module).__name__} has no linear layer whose input could be features"
        )
    return linear[-1]


def _learned(
    module: nn.Module, inputs: Encoded, rows: Tensor, factor: Tensor, latent: int, epochs: int, lr: float,
    divergence: float, batch_size: int, seed: int, number: int,
) -> Autoencoder:  # fmt: skip
    """Return an autoencoder of the features of `rows`, frozen."""
    with torch.no_grad():
        values = torch.cat([features(module, inputs.batch(part)) for part in rows.split(EVAL_BATCH)])
    vae = Autoencoder(values.shape[1], latent).to(values.device)
    optimizer = torch.optim.Adam(vae.parameters(), lr=lr)
    own = factor[rows.to(factor.device)]
    for epoch in range(epochs):
        noise = generator(seed, epoch, 5, number)
        for at in batches(torch.arange(len(rows)), batch_size, seed, epoch, 6 + number):
            error, apart = vae(values[at], noise)
            optimizer.zero_grad()
            (own[at] * (error + divergence * apart)).mean().backward()
            optimizer.step()
    return vae.requires_grad_(requires_grad=False)
