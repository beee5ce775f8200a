"""Recording in two processes: the same files as in one, padding dropped."""

import subprocess
import sys

import numpy as np
import polars as pl
import torch

from tracesift.catalog.schema import SCALAR_FIELDS
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.recorder import Recorder
from tracesift.pipelines.signals import load_signals

WORKER = """
import sys, warnings
import polars as pl, torch, torch.distributed as dist
from torch.utils.data import DistributedSampler
from tracesift.catalog.schema import SCALAR_FIELDS
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.recorder import Recorder

warnings.simplefilter("error")
torch.set_num_threads(1)
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
dataset = open_dataset(pl.read_parquet(f"{folder}/data.parquet"), name="blobs")
rows = torch.from_numpy(dataset.rows("train"))
assert len(rows) % 2, "an odd number, so that the sampler pads"
sampler = DistributedSampler(rows, num_replicas=2, rank=rank, shuffle=True, seed=3)
rec = Recorder(f"{folder}/two", dataset, fields=(*SCALAR_FIELDS, "elr_target"))
for epoch in range(3):
    sampler.set_epoch(epoch)
    logits = torch.randn(len(dataset), 3, generator=torch.Generator().manual_seed(epoch))
    mine = rows[torch.tensor(list(sampler))]
    for part in mine.split(16):
        rec.update(part, logits[part], torch.tensor(dataset.labels)[part])
    assert rec.end_epoch().complete
print(rec.finalize())
dist.destroy_process_group()
"""


def test_two_processes_write_what_one_would(tmp_path):
    rng = np.random.default_rng(0)
    splits = ["train"] * 75 + ["val"] * 3 + ["test"] * 3
    frame = pl.DataFrame(
        {
            "id": [f"s{n:03d}" for n in rng.permutation(len(splits))],
            "label": ["abc"[n % 3] for n in range(len(splits))],
            "x": rng.normal(size=len(splits)),
            "split": splits,
        }
    )
    frame.write_parquet(tmp_path / "data.parquet")
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    workers = [
        subprocess.Popen(
            [sys.executable, script, tmp_path, str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outcomes = [worker.communicate(timeout=120) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outcomes
    run_ids = {out.strip().splitlines()[-1] for out, _ in outcomes}

    dataset = open_dataset(pl.read_parquet(tmp_path / "data.parquet"), name="blobs")
    rows = torch.from_numpy(dataset.rows("train"))
    alone = Recorder(tmp_path / "one", dataset, fields=(*SCALAR_FIELDS, "elr_target"))
    for epoch in range(3):
        logits = torch.randn(len(dataset), 3, generator=torch.Generator().manual_seed(epoch))
        alone.update(rows, logits[rows], torch.tensor(dataset.labels)[rows])
        alone.end_epoch()
    assert run_ids == {alone.finalize()}
    one, two = (load_signals(tmp_path / side, alone.run_id).in_mode("in_training") for side in ("one", "two"))
    for name in (*SCALAR_FIELDS, "elr_target", "seen", "labels"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, err_msg=name)
