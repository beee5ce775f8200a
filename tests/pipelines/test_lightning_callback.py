"""Recording under Lightning."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.rows import RowDataset
from tracesift.pipelines.signals import load_signals

pytest.importorskip("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns about loaders, loggers and its own future


def fit(dataset, recorder, outputs):
    from lightning.pytorch import LightningModule, Trainer

    from tracesift.pipelines.lightning_callback import RecorderCallback

    class Module(LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(5, 3)

        def training_step(self, batch, _):
            rows, x, y = batch
            logits = self.layer(x)
            made = {"loss": F.cross_entropy(logits, y), "rows": rows, "logits": logits, "labels": y}
            return {name: made[name] for name in outputs}

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.1)

    data = RowDataset(dataset, transform=lambda row: torch.tensor(list(row.values()), dtype=torch.float32))
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[RecorderCallback(recorder)], num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(data, batch_size=16, shuffle=True))


def test_callback_records_each_epoch(blobs, tmp_path):
    recorder = Recorder(tmp_path, blobs)
    fit(blobs, recorder, ("loss", "rows", "logits", "labels"))
    arrays = load_signals(tmp_path, recorder.finalize()).in_mode("in_training")
    assert arrays["loss"].shape == (2, len(blobs.rows("train")))
    assert arrays["seen"].all()
    assert arrays["loss"][1].mean() < arrays["loss"][0].mean()


def test_missing_outputs_are_named(blobs, tmp_path):
    with pytest.raises(BadInput, match="no rows, labels"):
        fit(blobs, Recorder(tmp_path, blobs), ("loss", "logits"))
