"""`curate` killed at any moment and started again ends as if nothing had happened, byte for byte."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from tracesift.flows.cli import run

SCRIPT = str(Path(sys.executable).with_name("tracesift"))
FEW = ("--epochs", "3", "--folds", "2", "--threads", "1")


def environment(**more):
    return {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", **more}


def signals(workspace):
    """The bytes of every file of every recording, by path."""
    found = (
        path for path in sorted((workspace / "signals").rglob("*")) if path.suffix in (".parquet", ".npz")
    )
    return {str(path.relative_to(workspace)): path.read_bytes() for path in found}


def manifests(workspace):
    """Fingerprint, version and members' bytes of every subset."""
    found = {}
    for path in sorted((workspace / "manifests").glob("*/manifest.json")):
        written = json.loads(path.read_text())
        found[path.parent.name] = (
            written["fingerprint"],
            written["version"],
            (path.parent / "members.parquet").read_bytes(),
        )
    return found


def answers(workspace):
    """Scores, flags and members as SQL gives them."""
    queries = {
        "scores": "SELECT * FROM sample_scores ORDER BY sample_id",
        "flags": "SELECT * FROM sample_flags ORDER BY sample_id",
        "subsets": "SELECT name, version, fingerprint FROM subsets ORDER BY ALL",
        "members": "SELECT name, m.* EXCLUDE (subset_id) FROM subset_members m JOIN subsets USING (subset_id) ORDER BY ALL",
        "runs": "SELECT run_id, kind, status FROM runs ORDER BY ALL",
    }
    with duckdb.connect(str(workspace / "catalog.duckdb"), read_only=True) as con:
        return {name: repr(con.execute(query).fetchall()) for name, query in queries.items()}


def assert_same(workspace, undisturbed):
    assert signals(workspace) == signals(undisturbed)
    assert manifests(workspace) == manifests(undisturbed)
    assert answers(workspace) == answers(undisturbed)
    files = [
        sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (workspace, undisturbed)
    ]
    assert files[0] == files[1]
    assert not [*workspace.rglob(".tmp-*")]


# --- at chosen points: one process imports everything, and its clean children are killed

CHAIN = """
import itertools, json, os, pathlib, random, shutil, signal, sys
import sklearn.feature_extraction.text, sklearn.mixture, torch._dynamo, altair
import tracesift.flows.commands.curate, tracesift.flows.curate, tracesift.flows.reporting.report
import tracesift.pipelines.recording.batch_loop, tracesift.pipelines.models.mlp
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run

FILES = [(pathlib.Path, "replace"), (pathlib.Path, "rename"), (pathlib.Path, "hardlink_to")]
REMOVALS = [(pathlib.Path, "unlink"), (shutil, "rmtree")]
PUTS = [(Catalog, name) for name in dir(Catalog) if name.startswith("put_")]
HOOKS = {"rename": FILES, "remove": REMOVALS, "put": PUTS}

tracesift.flows.reporting.report._bundle()  # seconds, and the same for all

def kill_at(calls, number, after):
    left = itertools.count(number, -1)

    def wrapped(function):
        def call(*arguments, **more):
            now = next(left) == 1
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **more)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return call

    for owner, name in calls:
        setattr(owner, name, wrapped(getattr(owner, name)))

def attempt(words, kind, number, after):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    kill_at(HOOKS[kind], number, after)
    os._exit(run(words))

chance = random.Random(int(sys.argv[1]))
points = []
while True:
    # Any renaming of the first dozens that are still to come; a put is worth several of them.
    kind = chance.choice(["rename", "rename", "remove", "put"])
    number, after = chance.randint(1, 8 if kind == "put" else 25), chance.random() < 0.5
    code = attempt(sys.argv[2:], kind, number, after)
    points.append([kind, number, after, code])
    if code != -signal.SIGKILL:
        break
print(json.dumps(points))
"""


def test_killed_at_its_writes(made, tmp_path):
    shutil.copy(made / "good.csv", tmp_path)
    words = [sys.executable, "-c", CHAIN, "1", "curate", "good.csv", "--workspace", "w", *FEW]
    done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    points = json.loads(done.stdout.splitlines()[-1])
    assert points[-1][-1] == 0, done.stderr  # the last one had nothing left to be killed at
    assert len(points) >= 6
    assert {"rename", "put"} <= {kind for kind, *_ in points[:-1]}
    assert_same(tmp_path / "w", made / "base")


# --- at random moments: the console script itself


DIGITS = ("curate", "digits", "--plant-noise", "0.1", *FEW)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("digits") / "w"
    assert run([*DIGITS, "--workspace", str(workspace)]) == 0
    return workspace


def start(workspace):
    words = [SCRIPT, *DIGITS, "--workspace", str(workspace)]
    return subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )


def stop(running, workspace, reached, signum, wait):
    """Send a signal a moment after a file is there; return what was said on stderr."""
    while not [*workspace.glob(reached)]:
        assert running.poll() is None, running.stderr.read()
        time.sleep(0.005)
    time.sleep(wait)
    running.send_signal(signum)
    _, said = running.communicate()
    return said


def test_the_console_script_is_killed_and_interrupted(digits, tmp_path):
    chance = random.Random(5)
    workspace = tmp_path / "w"
    epoch = "signals/run=[!_]*/mode=in_training/epoch-0001.parquet"
    moments = [
        (epoch, signal.SIGKILL, chance.uniform(0, 0.1)),
        ("records/score-*.json", signal.SIGINT, chance.uniform(0, 0.4)),  # kills at later writes are above
    ]
    for reached, signum, wait in moments:
        running = start(workspace)
        said = stop(running, workspace, reached, signum, wait)
        if signum == signal.SIGINT:
            assert running.returncode == 130, said
            assert (
                said.splitlines()[-1]
                == "stopped; what was finished is kept, the same command goes on from there"
            )
            assert "Traceback" not in said
            assert "recording of seed 0 goes on after epoch" in said
        else:
            assert running.returncode == -signal.SIGKILL, said
    last = start(workspace)
    _, said = last.communicate()
    assert last.returncode == 0, said
    assert_same(workspace, digits)


def test_a_second_run_trains_nothing_and_changes_no_manifest(digits):
    def times():
        return {
            path: path.stat().st_mtime_ns
            for part in ("signals/run=[!_]*", "manifests/*")
            for path in digits.glob(f"{part}/**/*")
            if path.is_file()
        }

    before, kept, known = times(), manifests(digits), answers(digits)
    assert run([*DIGITS, "--workspace", str(digits)]) == 0
    assert times() == before
    assert manifests(digits) == kept
    assert answers(digits) == known


# --- the same signals give the same manifests


def test_the_same_signals_give_the_same_manifests(made, tmp_path):
    """Whatever the thread count (one made the base), and in whatever order the source brings its rows."""
    source = pl.read_csv(made / "good.csv")
    order = np.random.default_rng(2).permutation(source.height)
    source[order].write_csv(tmp_path / "good.csv")
    shutil.copytree(made / "base" / "signals", tmp_path / "w" / "signals")
    recorded = signals(tmp_path / "w")
    words = [SCRIPT, "curate", "good.csv", "--workspace", "w", *FEW]
    threaded = environment(OMP_NUM_THREADS="2", POLARS_MAX_THREADS="2")
    done = subprocess.run(words, cwd=tmp_path, env=threaded, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert signals(tmp_path / "w") == recorded  # nothing was trained
    assert manifests(tmp_path / "w") == manifests(made / "base")
    assert answers(tmp_path / "w") == answers(made / "base")
