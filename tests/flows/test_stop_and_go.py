"""`curate`, killed at a file's renaming and started again, ends as if nothing had happened."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [
    "curate",
    "digits",
    "--epochs",
    "2",
    "--folds",
    "2",
    "--plant-noise",
    "0.1",
    "--json",
    "--threads",
    "1",
]

KILLED = """
import os, signal, sys
from pathlib import Path
from tracesift.flows.cli import run

left, rename = int(sys.argv[1]), Path.replace

def replace(self, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

Path.replace = replace
sys.exit(run(sys.argv[2:]))
"""


def curate(workspace: Path, *, killed_at: int = -1) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", KILLED, str(killed_at), *COMMAND, "--workspace", str(workspace)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def contents(workspace: Path) -> dict[str, str]:
    """The bytes of all signals and members, and the fingerprints of all manifests."""
    signals = [path for path in (workspace / "signals").rglob("*") if path.suffix in (".parquet", ".npz")]
    members = list((workspace / "manifests").glob("*/members.parquet"))
    found = {
        str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (*signals, *members)
    }
    for path in (workspace / "manifests").glob("*/manifest.json"):
        found[path.parent.name] = json.loads(path.read_text())["fingerprint"]
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("undisturbed") / "work"
    done = curate(workspace)
    assert done.returncode == 0, done.stderr
    return workspace


# The renames of a run: epoch files and checkpoints first, then arrays and records, then manifests.
@pytest.mark.parametrize("at", [[2, 9], [45]])
def test_a_killed_run_ends_as_an_undisturbed_one(undisturbed, tmp_path, at):
    workspace = tmp_path / "work"
    for point in at:
        assert curate(workspace, killed_at=point).returncode == -9
    done = curate(workspace)
    assert done.returncode == 0, done.stderr
    assert contents(workspace) == contents(undisturbed)
    assert not list(workspace.rglob(".tmp-*"))


def test_a_second_run_trains_nothing_and_changes_nothing(undisturbed):
    before = {
        path: path.stat().st_mtime_ns for path in (undisturbed / "signals").rglob("*.*") if path.is_file()
    }
    kept = contents(undisturbed)
    done = curate(undisturbed)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["subsets"]) == 9
    assert contents(undisturbed) == kept
    after = {
        path: path.stat().st_mtime_ns for path in (undisturbed / "signals").rglob("*.*") if path.is_file()
    }
    recorded = {path for path in before if "_schema" not in str(path)}
    assert {path: after[path] for path in recorded} == {path: before[path] for path in recorded}
