"""Killed with SIGKILL at any write, between two writes, or in the middle of an epoch: the same bytes at the end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

from tracesift.pipelines.signals import read_run

# One process imports everything and compiles; its clean children are killed and started again.
DRIVER = """
import json, multiprocessing, os, signal, sys
from pathlib import Path

EPOCHS = 3

def job(folder, workspace, moment):
    import torch
    from tracesift.pipelines.dataset import open_dataset
    from tracesift.pipelines.recorder import Recorder
    from tracesift.pipelines.train import TrainConfig, record

    torch.set_num_threads(1)
    sys.path.insert(0, folder)
    what, at = moment
    done = {"before": 0, "after": 0, "update": 0}

    def tick(name):
        done[name] += 1
        if name == what and done[name] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    rename, update = Path.replace, Recorder.update

    def killing_replace(path, target):
        tick("before")
        rename(path, target)
        tick("after")

    def killing_update(recorder, *batch):
        tick("update")
        update(recorder, *batch)

    Path.replace, Recorder.update = killing_replace, killing_update
    dataset = open_dataset(f"{folder}/data.parquet")
    record(dataset, workspace, TrainConfig(model="forgetful:net", seed=1, epochs=EPOCHS, batch_size=16, device="cpu", threads=1))

def run(context, *arguments):
    child = context.Process(target=job, args=arguments)
    child.start()
    child.join()
    return child.exitcode

if __name__ == "__main__":
    folder = sys.argv[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "sklearn.feature_extraction.text", "tracesift.pipelines.train", "tracesift.pipelines.recording.batch_loop"]
    )
    outcome = []
    assert run(context, folder, f"{folder}/whole", ("never", 0)) == 0
    for number, moments in enumerate(json.loads(sys.argv[2])):
        workspace = f"{folder}/cut{number}"
        codes = [run(context, folder, workspace, tuple(moment)) for moment in moments]
        unfinished = not list(Path(workspace).rglob("run.json"))
        codes.append(run(context, folder, workspace, ("never", 0)))
        outcome.append({"codes": codes, "unfinished": unfinished})
    print(json.dumps(outcome))
"""

# Draws while it trains, from the generator that a resumed run has to find where the killed one left it.
MODEL = """
from torch import nn

def net(input_shape, num_classes):
    return nn.Sequential(nn.Linear(*input_shape, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, num_classes))
"""

# Writes: per epoch the epoch_end file, validation, in_training, checkpoint (probs_last and val_probs_last first in
# the last epoch); then labels, elr_target, val_labels, run.json. 18 renames in all.
MOMENTS = [
    [["after", 3]],  # every file of the first epoch is there, the checkpoint is not
    [["before", 8], ["update", 13]],  # in the rename of a checkpoint, then in the middle of an epoch
    [["after", 14]],  # the last checkpoint is there, the arrays are not
    [["before", 18]],  # only the record is missing
]


def test_killed_runs_end_with_the_bytes_of_an_undisturbed_one(tmp_path, blobs):
    blobs.samples.select("sample_id", "label", "split").hstack(blobs.inputs).write_parquet(
        tmp_path / "data.parquet"
    )
    (tmp_path / "forgetful.py").write_text(MODEL)
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    moments = json.dumps(MOMENTS)
    driver = subprocess.run(
        [sys.executable, script, tmp_path, moments], capture_output=True, text=True, timeout=300, check=False
    )
    assert driver.returncode == 0, driver.stderr[-3000:]
    (run,) = (tmp_path / "whole" / "signals").iterdir()
    whole = contents(run)
    assert len(whole) == 3 * 3 + 5
    for number, outcome in enumerate(json.loads(driver.stdout.strip().splitlines()[-1])):
        *killed, last = outcome["codes"]
        assert killed == [-signal.SIGKILL] * len(MOMENTS[number]), "the moment was never reached"
        assert outcome["unfinished"], "a killed run must not read as whole"
        assert last == 0
        again = tmp_path / f"cut{number}" / "signals" / run.name
        assert contents(again) == whole, MOMENTS[number]
        assert read_run(tmp_path / f"cut{number}", run.name.removeprefix("run="), verify=True)["epochs"] == 3
        assert not list(again.rglob(".tmp-*"))


def contents(run: Path) -> dict[str, bytes]:
    paths = [path for path in run.rglob("*") if path.suffix in {".parquet", ".npz"}]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in paths}
