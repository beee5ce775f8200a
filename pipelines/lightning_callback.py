"""Recording under Lightning: `training_step` returns what it has anyway, the callback records it.

def training_step(self, batch, _):
    rows, x, y = batch
    logits = self(x)
    return {"loss": F.cross_entropy(logits, y), "rows": rows, "logits": logits, "labels": y}

Trainer(callbacks=[RecorderCallback(recorder)]).fit(module, loader)
run_id = recorder.finalize()
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.recorder import Recorder

NEEDED = ("rows", "logits", "labels")


class RecorderCallback(Callback):
    """Record each training batch from the mapping that `training_step` returned.

    Raises
    ------
    BadInput
        At the first batch whose mapping lacks rows, logits or labels.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record one batch."""
        absent = [name for name in NEEDED if not isinstance(outputs, dict) or name not in outputs]
        if absent:
            raise BadInput(
                f"training_step returned no {', '.join(absent)}; return a dict with loss and {NEEDED}"
            )
        self.recorder.update(outputs["rows"], outputs["logits"], outputs["labels"])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the epoch's file."""
        self.recorder.end_epoch()
