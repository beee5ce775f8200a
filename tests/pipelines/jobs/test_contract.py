"""What holds for every job: found by its file, done once, gone on with, and never half there."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tracesift.catalog.schema import SIGNALS, BadInput, FingerprintMismatch, UnknownName
from tracesift.pipelines.jobs.contract import find, names, run_job
from tracesift.pipelines.jobs.workbench import Workbench
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.signals import read_run, run_folder
from tracesift.scorers.contract import diagnostics, find_diagnostic
from tracesift.scorers.contract import find as find_scorer
from tracesift.scorers.contract import names as scorers


@pytest.mark.parametrize("name", names())
def test_facts(name):
    known = find(name)
    assert known.name == name
    assert known.reference
    assert known.summary.endswith(".")
    assert known.signals
    assert "epochs" in known.defaults
    for section in ("Parameters", "Returns", "References"):
        assert f"    {section}\n    ---" in known.function.__doc__, section


def test_every_file_is_a_job_and_every_job_has_a_reader():
    folder = Path(sys.modules[find.__module__].__file__).parent
    assert {path.stem for path in folder.glob("*.py")} == {*names(), "contract", "workbench"}
    readers = [*map(find_scorer, scorers()), *map(find_diagnostic, diagnostics())]
    assert {job for known in readers for job in known.jobs} == set(names())
    for one in SIGNALS.values():
        assert (one.job is None) or f"--job {one.job}" in one.source


def test_the_second_time_trains_nothing(recorded, monkeypatch, signals_of):
    dataset, workspace, run_id = recorded("twice")
    made = run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    before = {name: signals_of(workspace, run_id)[name] for name in made}
    assert not (run_folder(workspace, run_id) / "jobs").exists()
    monkeypatch.setattr(Workbench, "fit", lambda *a, **k: pytest.fail("trained"))
    assert run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu") == made
    with pytest.raises(pytest.fail.Exception, match="trained"):
        run_job("ssft", dataset, workspace, run_id, {"epochs": 3}, device="cpu")
    for name, values in before.items():
        np.testing.assert_array_equal(signals_of(workspace, run_id)[name], values)


def test_a_lost_file_is_made_again(recorded, signals_of):
    dataset, workspace, run_id = recorded("lost")
    run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    path = run_folder(workspace, run_id) / "second_split_correct.npz"
    before = path.read_bytes()
    path.unlink()
    run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    assert path.read_bytes() == before
    assert set(read_run(workspace, run_id, verify=True)["arrays"]) == set(find("ssft").signals)


def test_one_part_is_kept_while_another_fails(recorded, monkeypatch):
    dataset, workspace, run_id = recorded("failed")
    real, trained = Workbench.fit, []

    def failing(bench, learner, rows, **more):
        trained.append(len(rows))
        if len(trained) == 4:
            raise RuntimeError("the machine went away")
        yield from real(bench, learner, rows, **more)

    monkeypatch.setattr(Workbench, "fit", failing)
    with pytest.raises(RuntimeError):
        run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    assert "arrays" not in read_run(workspace, run_id)
    run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    assert len(trained) == 6  # two phases of the first half, two of the second that failed, and these again


def test_the_seed_of_the_recording_is_the_job_s(recorded, signals_of):
    dataset, workspace, run_id = recorded("seeded")
    run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu", seed=7)
    said = read_run(workspace, run_id)["arrays"]["first_split_correct"]
    assert said["seed"] == 0
    assert said["settings"] == {"epochs": 2}
    assert said["model"]["batch_size"] == 16  # as recorded


def test_what_is_refused(recorded):
    dataset, workspace, run_id = recorded("refused")
    with pytest.raises(BadInput, match="ssft: epochs='2' must be a whole number"):
        run_job("ssft", dataset, workspace, run_id, {"epochs": "2"}, device="cpu")
    with pytest.raises(UnknownName, match="did you mean 'ssft'"):
        run_job("sstf", dataset, workspace, run_id)
    with pytest.raises(BadInput, match="did you mean 'epochs'"):
        run_job("ssft", dataset, workspace, run_id, {"epoch": 3})
    with pytest.raises(BadInput, match="epochs is 0"):
        run_job("ssft", dataset, workspace, run_id, {"epochs": 0})
    with pytest.raises(FingerprintMismatch, match="another state"):
        run_job("ssft", plant_and_change(dataset), workspace, run_id)


def plant_and_change(dataset):
    from dataclasses import replace

    return replace(plant_label_noise(dataset, 0.2, seed=0), fingerprint="0" * 64)


# One process imports everything; its clean children are killed and started again.
DRIVER = """
import multiprocessing, os, signal, sys
from pathlib import Path

def job(folder, workspace, run_id, moment):
    import torch
    from tracesift.pipelines.dataset import open_dataset
    from tracesift.pipelines.jobs.contract import run_job

    torch.set_num_threads(1)
    dataset = open_dataset(f"{folder}/data.parquet")
    done = {"before": 0, "after": 0}

    def tick(name):
        done[name] += 1
        if (name, done[name]) == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    rename = Path.replace

    def killing_replace(path, target):
        tick("before")
        rename(path, target)
        tick("after")

    Path.replace = killing_replace
    run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")

if __name__ == "__main__":
    folder, run_id = sys.argv[1:]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch._dynamo", "sklearn.feature_extraction.text", "tracesift.pipelines.train", "tracesift.pipelines.jobs.ssft"]
    )
    # Renames: two parts, then for each of two signals its array and the run's record. What was kept is not renamed
    # again: killed in the second part, before the first record, and when all is there but the parts remain.
    for moment in [("before", 2), ("before", 3), ("after", 4), None]:
        child = context.Process(target=job, args=(folder, f"{folder}/cut", run_id, moment))
        child.start()
        child.join()
        print(child.exitcode, len(list(Path(folder).glob("cut/signals/*/jobs/*/[0-9]*.part"))))
"""


def test_killed_jobs_end_with_the_bytes_of_an_undisturbed_one(tmp_path, recorded):
    dataset, workspace, run_id = recorded("whole")
    dataset.samples.select("sample_id", "label", "split").hstack(dataset.inputs).write_parquet(
        tmp_path / "data.parquet"
    )
    shutil.copytree(workspace, tmp_path / "cut")
    run_job("ssft", dataset, workspace, run_id, {"epochs": 2}, device="cpu")
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    driver = subprocess.run(
        [sys.executable, script, tmp_path, run_id], capture_output=True, text=True, timeout=300, check=False
    )
    assert driver.returncode == 0, driver.stderr[-3000:]
    killed = -signal.SIGKILL
    assert driver.stdout.splitlines() == [f"{killed} 1", f"{killed} 2", f"{killed} 2", "0 0"]
    assert contents(run_folder(tmp_path / "cut", run_id)) == contents(run_folder(workspace, run_id))
    assert set(read_run(tmp_path / "cut", run_id, verify=True)["arrays"]) == set(find("ssft").signals)


def contents(run: Path) -> dict[str, bytes]:
    paths = [path for path in run.rglob("*") if path.suffix in {".parquet", ".npz", ".part"}]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in paths}
