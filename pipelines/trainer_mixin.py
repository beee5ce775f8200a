"""Recording under a Hugging Face `Trainer`: a mixin, and a `row` column in the training set.

    class RecordingTrainer(RecorderMixin, Trainer): ...

    trainer = RecordingTrainer(model, args, train_dataset=with_rows, recorder=Recorder(workspace, dataset))
    trainer.train()
    run_id = trainer.recorder.finalize()

`Trainer` drops columns that the model's `forward` does not name, and the default collator drops strings: an
int64 `row` is the only carrier that arrives, and only because the mixin names it. Losses are taken per sample
from the logits, so gradient accumulation and label smoothing change nothing. Where a model answers at every
token, such as a causal language model, the recorder gets one loss per sample, the mean over its tokens, with their
number; it must be one of ``fields=("loss",)``.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.recording.token_losses import token_losses

ROW = "row"


class RecorderMixin:
    """Put before `transformers.Trainer` in the bases; takes ``recorder=`` beside Trainer's own arguments."""

    _signature_columns: list[str]

    def __init__(self, *args: Any, recorder: Recorder, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.recorder = recorder
        self.add_callback(_EndEpoch(recorder))  # type: ignore[attr-defined]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if ROW not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, ROW]

    def compute_loss(  # the signature is Trainer's
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002
        **kwargs: Any,
    ) -> Any:
        """Return Trainer's loss, and record the batch when the model trains.

        Raises
        ------
        BadInput
            At the first training step whose batch has no ``row``.
        """
        rows = inputs.pop(ROW, None)
        if model.training and rows is None:
            raise BadInput(
                f"the training batch has no column {ROW!r}; add the int64 row of each sample to the training "
                "set (dataset.add_column('row', ...)) and keep it in your collator"
            )
        labels = inputs.get("labels")
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)  # type: ignore[misc]
        if model.training:
            if labels is None:
                raise BadInput("the training batch has no 'labels'; a recorder needs the given label")
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs[1]
            if logits.ndim == labels.ndim + 1 == 3:
                losses, tokens = token_losses(logits.detach(), labels, shifted=_is_causal(model))
                self.recorder.update_loss(rows, losses, tokens)
            else:
                self.recorder.update(rows, logits, labels)
        return (loss, outputs) if return_outputs else loss


def _is_causal(model: torch.nn.Module) -> bool:
    """Return whether the logits at a token are for the next one; also within the wrappers of DDP and PEFT."""
    names = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    return any(type(module).__name__ in names for module in model.modules())


class _EndEpoch(TrainerCallback):
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the epoch's file."""
        self.recorder.end_epoch()
