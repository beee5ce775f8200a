"""Hashed word and character n-grams, summed into one vector, and a linear head: the default for text.

A low-rank linear classifier in the manner of fastText (Joulin et al. 2017), over inputs weighted by inverse
document frequency. No vocabulary file, no download, any language.
"""

from __future__ import annotations

from torch import Tensor, nn

from tracesift.pipelines.models.contract import Bags, Recipe

RECIPE = Recipe(
    optimizer="sparse_adam", lr=1e-2, batch_size=128, epochs=10, weight_decay=1e-4, kinds=("text",)
)
WIDTH = 64


class HashedNgrams(nn.Module):
    """Weighted sum of n-gram vectors, then the logits."""

    def __init__(self, size: int, num_classes: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(size, WIDTH, mode="sum", sparse=True)
        nn.init.normal_(self.bag.weight, 0.0, 0.5)
        self.head = nn.Linear(WIDTH, num_classes)

    def features(self, x: Bags) -> Tensor:
        """Return the text's vector (B, 64)."""
        return self.bag(x.indices, x.offsets, per_sample_weights=x.weights)

    def forward(self, x: Bags) -> Tensor:
        """Return logits (B, K)."""
        return self.head(self.features(x))


def hashed_ngrams(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Return the model for ``input_shape`` (-1, V)."""
    return HashedNgrams(input_shape[1], num_classes)
