"""A pretrained Transformer for text, fine-tuned: ``--model hf_classifier:NAME`` or a local folder.

Code that comes with a checkpoint is never run (``trust_remote_code=False``).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.models.contract import Recipe

RECIPE = Recipe(
    optimizer="adamw",
    lr=5e-5,
    batch_size=32,
    epochs=3,
    weight_decay=1e-2,
    schedule="linear",
    encoding="tokens",
    kinds=("text",),
    most_steps=None,
    threads=None,
)


class HFClassifier(nn.Module):
    """An `AutoModelForSequenceClassification`, taking the tokenizer's mapping and giving plain logits."""

    def __init__(self, name: str, num_classes: int) -> None:
        super().__init__()
        from transformers import AutoModelForSequenceClassification

        self.inner = _loaded(
            AutoModelForSequenceClassification, name, num_labels=num_classes, ignore_mismatched_sizes=True
        )

    def features(self, x: dict[str, Tensor]) -> Tensor:
        """Return the mean of the last hidden states over the text's tokens (B, D)."""
        hidden = self.inner.base_model(**x).last_hidden_state
        mask = x["attention_mask"][..., None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """Return logits (B, K)."""
        return self.inner(**x).logits


def hf_classifier(input_shape: tuple[int, ...], num_classes: int, name: str = "") -> nn.Module:
    """Return the pretrained model `name` with a fresh head; its tokenizer comes from the same place."""
    if not name:
        raise BadInput("model hf_classifier needs a checkpoint: --model hf_classifier:NAME or a local folder")
    return HFClassifier(name, num_classes)


def tokenizer(name: str) -> Any:
    """Return the tokenizer that belongs to the checkpoint `name`."""
    from transformers import AutoTokenizer

    return _loaded(AutoTokenizer, name)


def _loaded(loader: Any, name: str, **options: Any) -> Any:
    try:
        return loader.from_pretrained(name, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"model hf_classifier:{name} cannot be loaded ({str(error).splitlines()[0]}); "
            "give a name on the hub or a local folder with model and tokenizer"
        ) from None
