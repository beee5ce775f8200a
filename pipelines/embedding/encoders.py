"""Vectors of a pretrained encoder for text or images: of the Hugging Face Hub, or of a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tracesift.catalog.files import digest, sha256
from tracesift.catalog.schema import BadInput

TOKENS = 256
"""A longer text is cut after so many tokens of the encoder."""
BATCH = 64


def encoded(dataset: Any, name: str, *, device: str = "auto") -> np.ndarray:
    """Return the vectors that a pretrained encoder gives all samples, float32 (N, D) in the order of sample_id.

    The last hidden states are averaged: for a text over its tokens (the attention mask), for an image over its patches
    or places. Code that comes with a checkpoint is never run.

    Parameters
    ----------
    name
        On the hub, or a local folder with model and tokenizer or image processor.

    Raises
    ------
    BadInput
        transformers is not installed, the checkpoint cannot be loaded, or the data are neither text nor images.
    """
    if dataset.kind not in ("text", "image"):
        raise BadInput(
            f"--source hf:{name}: {dataset.name} is {dataset.kind}; encoders take text or images, so use --source "
            "content, or your own vectors"
        )
    import torch

    from tracesift.pipelines.determinism import choose_device, settled

    prepare = _processor(name, dataset.kind)
    model = _loaded("AutoModel", name).eval()
    with settled(0, None), torch.inference_mode():
        where = choose_device(device)
        model.to(where)
        parts = []
        for start in range(0, len(dataset), BATCH):
            batch = prepare(dataset, range(start, min(start + BATCH, len(dataset))))
            taken = {key: value.to(where) for key, value in batch.items()}
            parts.append(_pooled(model, taken, name).float().cpu().numpy())
    return np.concatenate(parts)


def _processor(name: str, kind: str) -> Any:
    """Return a function of a dataset and rows that makes the encoder's inputs."""
    if kind == "text":
        tokenizer = _loaded("AutoTokenizer", name)
        most = min(TOKENS, tokenizer.model_max_length)
        options = {"padding": True, "truncation": True, "max_length": most, "return_tensors": "pt"}
        return lambda dataset, rows: tokenizer([str(dataset.inputs[row]) for row in rows], **options)
    processor = _loaded("AutoImageProcessor", name)
    return lambda dataset, rows: processor(
        [image.convert("RGB") for image in dataset.content(rows)], return_tensors="pt"
    )


def _pooled(model: Any, batch: Mapping[str, Any], name: str) -> Any:
    """Return one vector per sample: the mean of the last hidden states, of tokens those that the mask shows."""
    inner = (
        getattr(model, "vision_model", model)
        if "pixel_values" in batch
        else getattr(model, "text_model", model)
    )
    answer = inner(**batch)
    hidden = getattr(answer, "last_hidden_state", None)
    if hidden is None:
        raise BadInput(f"--source hf:{name}: {type(model).__name__} gives no hidden states; name an encoder")
    if hidden.ndim == 4:  # (B, C, H, W), a convolutional network
        return hidden.flatten(2).mean(2)
    if "attention_mask" not in batch:
        return hidden.mean(1)
    mask = batch["attention_mask"][..., None].to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def _loaded(loader: str, name: str) -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise BadInput(
            f"--source hf:{name} needs transformers, which is not installed: pip install 'tracesift[hf]'"
        ) from error
    try:
        return getattr(transformers, loader).from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise BadInput(
            f"--source hf:{name} cannot be loaded by {loader} ({str(error).strip().splitlines()[0]}); give a name on "
            "the hub or a local folder with model and tokenizer or image processor"
        ) from None


def weights(name: str) -> str:
    """Return what tells two states of a checkpoint apart: the files of a local folder, on the hub its name."""
    folder = Path(name)
    if not folder.is_dir():
        return name
    return digest({path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}, length=32)
