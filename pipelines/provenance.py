"""What a run's record says of the dataset it saw and the machine it ran on."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import torch

from tracesift.pipelines.signals import withheld_from


def dataset_facts(dataset: Any) -> dict[str, Any]:
    """Return the identity of a dataset as plain JSON."""
    return {
        "dataset_id": dataset.dataset_id,
        "name": dataset.name,
        "source": dataset.source,
        "kind": dataset.kind,
        "fingerprint": dataset.fingerprint,
        "transform": dataset.transform,
        "classes": list(dataset.classes),
        "counts": {split: len(dataset.rows(split)) for split in ("train", "val", "test")},
        **withheld_from(dataset),
    }


def machine_facts(device: torch.device | str) -> dict[str, Any]:
    """Return what decides the bits beside the inputs: threads, CPU capability, device, wheels."""
    device = torch.device(device)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "wheels": {name: metadata.version(name) for name in ("torch", "numpy", "polars", "tracesift")},
    }
