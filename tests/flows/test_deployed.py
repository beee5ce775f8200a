"""The Prefect skin on a real server: the results of plain calls, retries, limits, and what its page shows."""

import asyncio
import contextvars
import json
import os
import pickle
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from filelock import FileLock
from prefect import settings
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ParameterTypeError
from prefect.flows import load_flow_from_entrypoint
from prefect.server.services.scheduler import schedule_deployments
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_TASK_RUN_TAG_CONCURRENCY_SLOT_WAIT_SECONDS,
    temporary_settings,
)
from prefect.testing.utilities import prefect_test_harness

from tracesift.catalog.schema import BadInput, WorkspaceBusy
from tracesift.catalog.store import Catalog
from tracesift.flows import curate as body
from tracesift.flows import deployed, record
from tracesift.flows.cli import run
from tracesift.flows.forget_requests import forget_requests
from tracesift.flows.forgetting import inbox as inbox_of_requests
from tracesift.flows.forgetting.inbox import waiting
from tracesift.flows.options import Choosing, CurateJob, Training
from tracesift.flows.progress import say
from tracesift.flows.subset_models import subset_models, train_in_a_task
from tracesift.pipelines.loop import Learner

pytestmark = pytest.mark.prefect

ROOT = Path(__file__).parents[2]
TRAINING = Training(epochs=3, folds=2, threads=1)
OPTIONS = ["--epochs", "3", "--folds", "2", "--threads", "1"]
PATIENCE = 240
"""Seconds that a loaded machine may take for what happens at once on an idle one; a server on SQLite that finds its
database locked tries for 60."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of our own with a folder of its own; its address."""
    settings = {
        PREFECT_HOME: tmp_path_factory.mktemp("prefect"),
        PREFECT_TASK_RUN_TAG_CONCURRENCY_SLOT_WAIT_SECONDS: 0.2,  # how long a waiting task sleeps before it asks again
    }
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=180):
        yield PREFECT_API_URL.value()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small table: 150 rows, three classes that overlap a little."""
    draw = np.random.default_rng(0)
    kind = np.arange(150) % 3
    x = draw.normal(size=(150, 4)) + kind[:, None] * np.array([2.0, 0.0, -2.0, 1.0])
    columns = {f"x{number}": x[:, number].round(3) for number in range(4)}
    path = tmp_path_factory.mktemp("source") / "Tiny_table.csv"
    pl.DataFrame(
        {"id": [f"s{row:03}" for row in range(150)], **columns, "label": [f"class {one}" for one in kind]}
    ).write_csv(path)
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def _no_charts():
    """Leave the charts out of the report: they take longer than everything else, and are tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracesift.flows.publish.render_report", lambda _data: "<html></html>")
        yield


@pytest.fixture(scope="module")
def called(source, tmp_path_factory):
    """A workspace made by plain calls, and the body's result."""
    workspace = tmp_path_factory.mktemp("calls")
    return workspace, body.curate(CurateJob(source=source, workspace=str(workspace), training=TRAINING))


@pytest.fixture(scope="module")
def flown(server, source, tmp_path_factory):
    """A workspace made by the flow, and the final state of its run."""
    del server
    workspace = tmp_path_factory.mktemp("flown")
    return workspace, deployed.curate(
        source=source, workspace=str(workspace), training=TRAINING, return_state=True
    )


@pytest.fixture
def quick(monkeypatch):
    """Repeat failed steps without a pause."""
    monkeypatch.setattr(deployed, "RETRY_DELAY", 0)


def stand_in(monkeypatch, **steps):
    """Replace steps of the body by functions of the same name."""
    for name, step in steps.items():
        step.__name__ = name
        monkeypatch.setattr(body, name, step)


def skip_scoring(monkeypatch):
    """Let the flow end after its training steps."""
    summary = {
        "dataset": {"name": "tiny"}, "runs": [], "flags": {}, "worklist": [], "worth_a_look": 0, "subsets": [],
        "evaluations": [], "report": "report.html",
    }  # fmt: skip
    stand_in(
        monkeypatch,
        score=lambda *_: {},
        flag=lambda *_: {},
        make_subsets=lambda *_: [],
        publish=lambda *_: summary,
    )


def task_runs(state, expected):
    """Return the task runs of a flow run by name; the server hears of them a moment after they happen."""
    chosen = FlowRunFilter(id={"any_": [state.state_details.flow_run_id]})
    deadline = time.monotonic() + PATIENCE
    with get_client(sync_client=True) as client:
        while True:
            runs = {one.name: one for one in client.read_task_runs(flow_run_filter=chosen)}
            settled = len(runs) == expected and all(one.state.is_final() for one in runs.values())
            if settled or time.monotonic() > deadline:
                return runs
            time.sleep(0.2)


def fingerprints(workspace):
    found = {
        path.parent.name: json.loads(path.read_text())["fingerprint"]
        for path in workspace.glob("manifests/*/manifest.json")
    }
    assert {"pruned", "denoised", "forget-ready", "pruned-random"} <= set(found)
    return found


def written(workspace):
    """Return when each file of the recordings was written."""
    return {path: path.stat().st_mtime_ns for path in workspace.glob("signals/run=*/**/*") if path.is_file()}


def test_both_skins_make_the_same_manifests(called, flown):
    assert flown[1].is_completed()
    assert fingerprints(called[0]) == fingerprints(flown[0])


def test_each_step_is_a_task_that_says_what_it_found(flown):
    state = flown[1]
    runs = task_runs(state, expected=11)
    assert set(runs) == {
        "open", "ingest", "record, seed 0", "cross-fit, fold 1", "cross-fit, fold 2", "join folds",
        "embed", "score", "flag", "select", "report",
    }  # fmt: skip
    assert {one.run_count for one in runs.values()} == {1}
    assert runs["open"].state.message == "Tiny_table, 150 samples"
    assert "samples 150" in runs["ingest"].state.message
    assert "label_noise (yes" in runs["flag"].state.message
    assert "9 subsets" in runs["select"].state.message
    tagged = {name for name, one in runs.items() if "tracesift-train" in one.tags}
    assert tagged == {"record, seed 0", "cross-fit, fold 1", "cross-fit, fold 2", "embed"}


def test_the_flow_returns_and_stores_little(flown, called):
    result = flown[1].result()
    assert set(result) == {"dataset", "runs", "flags", "suspects", "report"}
    assert result["runs"] == called[1]["runs"]
    assert result["suspects"] == len(called[1]["worklist"]) > 0
    assert not list(Path(PREFECT_HOME.value()).glob("storage/*"))


def test_worklist_subsets_and_report_are_artifacts(flown, called):
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/latest/filter", json={}).json()
    kept = {
        one["key"]: one for one in answer if one["flow_run_id"] == str(flown[1].state_details.flow_run_id)
    }
    assert set(kept) == {"tiny-table-worklist", "tiny-table-subsets", "tiny-table-report"}
    rows = json.loads(kept["tiny-table-worklist"]["data"])
    assert [row["sample_id"] for row in rows] == [row["sample_id"] for row in called[1]["worklist"]][
        : len(rows)
    ]
    assert 0 < len(rows) <= deployed.SHOWN
    assert {row["name"] for row in json.loads(kept["tiny-table-subsets"]["data"])} == set(
        fingerprints(flown[0])
    )
    assert str((flown[0] / "report.html").resolve()) in kept["tiny-table-report"]["data"]
    assert "](file:" not in kept["tiny-table-report"]["data"], (
        "a browser opens no file from a page that came over http"
    )


def test_the_table_of_suspects_shows_the_reason_and_no_order_as_a_probability():
    row = {"rank": 1, "sample_id": "a", "label": "x", "suggestion": None, "confidence": 0.98, "confidence_from": "rank",
           "status": "worth a look", "flag": "label_noise", "reason": "why"}  # fmt: skip
    assert deployed.table_of([row, {**row, "sample_id": "b"}]) == [
        {"label": "x", "reason": "why", "sample_id": "a"},
        {"label": "x", "reason": "why", "sample_id": "b"},
    ]
    flagged = {**row, "status": "flagged", "suggestion": "y", "confidence": 0.999, "confidence_from": "flag"}
    assert deployed.table_of([flagged, row]) == [
        {
            "label": "x → y",
            "label wrong": "over 99 %",
            "reason": "why",
            "sample_id": "a",
            "status": "flagged",
        },
        {"label": "x", "label wrong": None, "reason": "why", "sample_id": "a", "status": "worth a look"},
    ]


def test_a_second_run_trains_nothing_in_either_skin(called, flown, server, source, monkeypatch, capsys):
    def trained(*_args, **_settings):
        raise AssertionError("a second run trains")

    monkeypatch.setattr(Learner, "__init__", trained)
    answers = []
    for address, workspace in ((server, called[0]), ("", flown[0])):
        monkeypatch.setenv("PREFECT_API_URL", address)
        before, marks = written(workspace), fingerprints(workspace)
        assert run(["curate", source, "--workspace", str(workspace), *OPTIONS]) == 0
        assert written(workspace) == before
        assert fingerprints(workspace) == marks
        answers.append(capsys.readouterr().out.replace(str(workspace), "WORKSPACE"))
    assert answers[0] == answers[1], "the command line prints the same in both skins"
    assert "Subsets" in answers[0]


def test_subset_models_are_tasks_in_processes_of_their_own(flown, called, tmp_path):
    signals = {}
    for skin, workspace in (("calls", called[0]), ("flown", flown[0])):
        shutil.copytree(workspace, tmp_path / skin)
        Catalog(tmp_path / skin).check_writable()
    training = Training(epochs=2, threads=1)
    words = ["--job", "subset_training", "--param", "models=20", "--epochs", "2", "--threads", "1"]
    assert run(["record", "--workspace", str(tmp_path / "calls"), *words]) == 0
    state = subset_models(workspace=str(tmp_path / "flown"), training=training, models=20, return_state=True)
    assert state.is_completed()
    assert set(task_runs(state, expected=2)) == {"models 0 to 15", "models 16 to 19"}
    for skin in ("calls", "flown"):
        signals[skin] = {
            path.name: path.read_bytes() for path in (tmp_path / skin).rglob("subset_*") if path.is_file()
        }
    assert signals["calls"]
    assert signals["calls"] == signals["flown"]


def test_a_deleted_artifact_is_made_again_and_nothing_else(flown, source, tmp_path, monkeypatch):
    workspace = tmp_path / "copy"
    shutil.copytree(flown[0], workspace)
    (lost,) = workspace.glob("signals/run=*/embedding.npz")
    content = lost.read_bytes()
    lost.unlink()
    before = written(workspace)
    skip_scoring(monkeypatch)
    state = deployed.curate(source=source, workspace=str(workspace), training=TRAINING, return_state=True)
    assert state.is_completed()
    changed = {path.name for path, when in written(workspace).items() if before.get(path) != when}
    assert changed == {"embedding.npz", "val_embedding.npz", "run.json"}
    assert lost.read_bytes() == content


@pytest.mark.usefixtures("server", "quick")
def test_a_fold_that_fails_once_is_repeated_alone(source, tmp_path, monkeypatch):
    fit_fold, fitted, recorded = record.fit_fold, [], []

    def fails_once(*arguments, name, fold, **settings):
        fitted.append((name, fold))
        if fitted.count(("probs_oos", 1)) == 1 and fold == 1:
            raise OSError("the disk was away")
        return fit_fold(*arguments, name=name, fold=fold, **settings)

    monkeypatch.setattr(record, "fit_fold", fails_once)
    real = record.record
    monkeypatch.setattr(
        record, "record", lambda *given, **inputs: recorded.append(1) or real(*given, **inputs)
    )
    skip_scoring(monkeypatch)
    state = deployed.curate(source=source, workspace=str(tmp_path), training=TRAINING, return_state=True)
    assert state.is_completed()
    both = ("probs_oos", "probs_oos_weak")
    again = [("probs_oos", 1)]
    assert sorted(fitted) == sorted([(name, fold) for name in both for fold in range(2)] + again)
    assert recorded == [1]
    counts = {name: one.run_count for name, one in task_runs(state, expected=11).items()}
    assert counts.pop("cross-fit, fold 2") == 2
    assert set(counts.values()) == {1}


@pytest.mark.usefixtures("server", "quick")
@pytest.mark.parametrize(
    ("error", "tries", "told"),
    [
        (
            BadInput("cld needs 3 epochs, got 2: run `tracesift record`"),
            1,
            "run `tracesift record --workspace {}`",
        ),
        (
            WorkspaceBusy("held by process 7 (forget --owner me)"),
            1 + deployed.RETRIES,
            "the workspace is in use",
        ),
        (OSError("the disk was away"), 1 + deployed.RETRIES, "the disk was away"),
    ],
    ids=["BadInput", "WorkspaceBusy", "OSError"],
)
def test_only_what_may_pass_is_tried_again(error, tries, told, source, tmp_path, monkeypatch, caplog):
    calls = []

    def fail(*_):
        calls.append(1)
        say("try `tracesift report`")
        raise error

    skip_scoring(monkeypatch)
    stand_in(monkeypatch, record_seed=lambda *_: "run", embed_run=lambda *_: {}, score=fail)
    state = deployed.curate(
        source=source, workspace=str(tmp_path), training=Training(folds=0), return_state=True
    )
    assert state.is_failed()
    assert told.format(tmp_path) in state.message
    whole = said_to_the_server(state, caplog, expected=5)
    assert "--owner me" not in whole
    assert f"try `tracesift report --workspace {tmp_path}`" in whole
    assert len(calls) == tries


def test_bad_input_is_one_sentence_on_the_command_line(server, source, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setenv("PREFECT_API_URL", server)
    assert run(["curate", source, "--workspace", str(tmp_path / "w"), "--label", "lable"]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("tracesift: ")]
    assert "no column 'lable'" in line
    assert "'label'" in line
    assert not [one for one in caplog.records if one.exc_info], "a sentence for the user needs no traceback"
    assert not (tmp_path / "w").exists()


@pytest.mark.usefixtures("server")
def test_a_limit_on_the_tag_lets_one_flow_train_at_a_time(source, tmp_path, monkeypatch):
    ready, trained = threading.Event(), threading.Event()

    def ingest(work, dataset):
        work.opened = dataset
        ready.set()

    def train(*_):
        trained.set()
        return "run"

    skip_scoring(monkeypatch)
    stand_in(monkeypatch, ingest=ingest, record_seed=train, embed_run=lambda *_: {})

    def flow():
        return deployed.curate(
            source=source, workspace=str(tmp_path / "w"), training=Training(folds=0), return_state=True
        )

    # A process remembers for a minute that certain tags have no limit; with this one they are others than before.
    monkeypatch.setattr(deployed, "choose_device", lambda _: torch.device("cuda"))
    another = uuid4()  # a step of another flow, which holds the only place
    with get_client(sync_client=True) as client, ThreadPoolExecutor(1) as pool:
        client.create_concurrency_limit(tag="tracesift-train", concurrency_limit=1)
        client.increment_v1_concurrency_slots(["tracesift-train"], another)
        # A thread starts without the settings of this test's server, so it is given a copy of the context.
        running = pool.submit(contextvars.copy_context().run, flow)
        assert ready.wait(PATIENCE)
        assert not trained.wait(2)
        client.decrement_v1_concurrency_slots(["tracesift-train"], another, 1.0)
        assert trained.wait(PATIENCE)
        assert running.result().is_completed()
        client.delete_concurrency_limit_by_tag(tag="tracesift-train")


def test_parameters_are_a_form_with_help():
    schema = deployed.curate.parameters.model_dump_for_openapi()
    assert schema["required"] == ["source", "workspace"]
    assert schema["properties"]["training"]["default"]["folds"] == 3
    for name in ("Reading", "Training", "Choosing"):
        assert all("description" in field for field in schema["definitions"][name]["properties"].values())
    given = {"source": "digits", "workspace": "/w", "choosing": {"keep": 0.3}, "training": {"epochs": 4}}
    valid = deployed.curate.validate_parameters(given)
    assert valid["choosing"] == Choosing(keep=0.3)
    assert valid["training"] == Training(epochs=4)
    with pytest.raises(ParameterTypeError, match="--epochs 0: at least 1"):
        deployed.curate.validate_parameters(given | {"training": {"epochs": 0}})
    with pytest.raises(ParameterTypeError, match="keeep"):
        deployed.curate.validate_parameters(given | {"choosing": {"keeep": 0.3}})


def test_the_deployment_in_the_file_fits_the_flow():
    plan = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    nightly = plan["deployments"][0]
    flow = load_flow_from_entrypoint(nightly["entrypoint"])
    flow.validate_parameters(nightly["parameters"])
    assert Path(nightly["parameters"]["workspace"]).is_absolute()
    assert plan["pull"] == []
    assert nightly["work_pool"]["job_variables"]["env"]["DO_NOT_TRACK"] == "1"
    assert nightly["schedules"]


def test_the_deployment_of_deletion_requests_fits_its_flow():
    inbox = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"][1]
    flow = load_flow_from_entrypoint(inbox["entrypoint"])
    flow.validate_parameters(inbox["parameters"])
    assert all(Path(inbox["parameters"][name]).is_absolute() for name in ("inbox", "workspace"))
    assert inbox["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert inbox["work_pool"]["job_variables"]["env"]["DO_NOT_TRACK"] == "1"


@pytest.mark.usefixtures("server")
def test_the_schedules_of_the_file_make_runs():
    plan = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (about,) = plan["deployments"][0]["schedules"]
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            flow_id=client.create_flow(deployed.curate),
            name="nightly",
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(**about))],
        )
        asyncio.run(schedule_deployments())  # what the server does every minute
        made = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        )
    assert len(made) >= 3
    assert all(one.auto_scheduled and one.state.is_scheduled() for one in made)
    assert {one.expected_start_time.hour for one in made} == {3}


@pytest.mark.usefixtures("server")
def test_the_settings_that_the_documentation_names_are_prefects():
    page = (Path(__file__).parents[2] / "docs" / "scheduling.md").read_text(encoding="utf-8")
    named = set(re.findall(r"PREFECT_[A-Z_]+", page))
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS" in named
    assert [name for name in sorted(named) if not hasattr(settings, name)] == []
    assert not hasattr(settings, "PREFECT_SERVER_EPHEMERAL_PATIENCE")  # else anything would be one


@pytest.fixture
def with_inbox(server, source, tmp_path):
    """A workspace that holds data, a folder for requests, and the ids of its training samples."""
    del server
    assert run(["ingest", source, "--workspace", str(tmp_path / "w")]) == 0
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    trained = Catalog(tmp_path / "w").query("SELECT sample_id FROM samples WHERE split = 'train' ORDER BY 1")
    return tmp_path / "w", inbox, trained["sample_id"].to_list()


def test_a_refused_request_fails_the_run_and_no_other_request(with_inbox, caplog):
    workspace, inbox, trained = with_inbox
    (inbox / "1.txt").write_text("nobody")
    (inbox / "2.txt").write_text(trained[0])
    state = forget_requests(inbox=str(inbox), workspace=str(workspace), return_state=True)
    said = "1 of 2 files of requests is refused: see refused/1.txt.json; the other 1 is done"
    assert (state.is_failed(), state.name, state.message) == (True, "Failed", said)
    assert said in [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    runs = task_runs(state, expected=2)
    refused, done = runs["forget, 1.txt"], runs["forget, 2.txt"]
    assert (refused.state.type.value, refused.state.name, refused.run_count) == ("FAILED", "Refused", 1)
    assert refused.state.message == "1.txt is refused: the reason stands in refused/1.txt.json"
    assert done.state.is_completed()
    with get_client(sync_client=True) as client:  # no rule of the server made another of it
        kept = client.read_flow_run(state.state_details.flow_run_id).state
    assert (kept.type.value, kept.name) == ("FAILED", "Failed")  # automations go by the name
    assert sorted(path.name for path in inbox.rglob("*.txt")) == ["1.txt", "2.txt"]
    assert waiting(inbox) == []
    assert json.loads((inbox / "done/2.txt.json").read_text())["answer"][0]["request"]["request_id"] == "r1"
    assert forget_requests(inbox=str(inbox), workspace=str(workspace), return_state=True).is_completed()


SECRETS = ("nobody@clinic.example", "MRN999", "x0 > 77.25", "MRN-of-r1")


def said_to_the_server(state, caplog, expected):
    """Return all that a flow run told: its state, those of its tasks with their names, and every line of its log."""
    lines = [one.getMessage() + (one.exc_text or "") for one in caplog.records]
    runs = task_runs(state, expected).values()
    return "\n".join([state.message, *lines, *(f"{one.name}: {one.state.message}" for one in runs)])


def test_the_server_hears_of_no_id_owner_or_condition(with_inbox, caplog):
    workspace, inbox, trained = with_inbox
    (inbox / "1.txt").write_text(SECRETS[1])
    (inbox / "2.csv").write_text(f"owner\n{SECRETS[0]}\n")
    (inbox / "3.csv").write_text(f"where\n{SECRETS[2]}\n")
    (inbox / "4.csv").write_text(f"request_id,sample_id\n{SECRETS[3]},{trained[0]}\n")
    caplog.set_level("DEBUG", "prefect")
    state = forget_requests(inbox=str(inbox), workspace=str(workspace), return_state=True)
    told = said_to_the_server(state, caplog, expected=4)
    assert "2.csv is refused: the reason stands in refused/2.csv.json" in told
    assert "4.csv: 1 request, 1 training sample forgotten" in told
    assert [secret for secret in (*SECRETS, trained[0]) if secret in told] == []
    for file, secret in (("1.txt", SECRETS[1]), ("3.csv", SECRETS[2])):
        reason = json.loads((inbox / f"refused/{file}.json").read_text())["reason"]
        assert secret in reason
        assert f" --workspace {workspace}`" in reason  # of the command that it advises


@pytest.mark.parametrize("error", [WorkspaceBusy, OSError], ids=lambda kind: kind.__name__)
def test_an_error_quotes_nothing_to_the_server(error, with_inbox, caplog, capsys, monkeypatch):
    workspace, inbox, trained = with_inbox

    def fail(*_args, **_settings):
        raise error(f"process 7 (tracesift forget --owner {SECRETS[0]})")

    monkeypatch.setattr("tracesift.flows.forget_requests.RETRY_DELAY", 0)
    monkeypatch.setattr("tracesift.flows.forget_requests.carry_out", fail)
    (inbox / "1.txt").write_text(trained[0])
    state = forget_requests(inbox=str(inbox), workspace=str(workspace), return_state=True)
    assert state.is_failed()
    told = said_to_the_server(state, caplog, expected=1)
    assert "forget, 1.txt: " in told
    assert SECRETS[0] not in told
    assert SECRETS[0] in capsys.readouterr().err
    assert waiting(inbox) == [inbox / "1.txt"]


def test_a_file_that_breaks_stops_no_other(with_inbox, caplog, capsys, monkeypatch):
    workspace, inbox, trained = with_inbox
    carried_out = inbox_of_requests.carry_out

    def break_on_the_second(work, path, *args, **settings):
        if path.name == "2.txt":
            (workspace / ".tmp-half").mkdir(exist_ok=True)  # what only whoever takes the lock anew may remove
            raise KeyError(SECRETS[0])
        assert not (workspace / ".tmp-half").exists()
        return carried_out(work, path, *args, **settings)

    monkeypatch.setattr("tracesift.flows.forget_requests.RETRY_DELAY", 0)
    monkeypatch.setattr("tracesift.flows.forget_requests.carry_out", break_on_the_second)
    for number in range(1, 4):
        (inbox / f"{number}.txt").write_text(trained[number])
    caplog.set_level("DEBUG", "prefect")
    state = forget_requests(inbox=str(inbox), workspace=str(workspace), return_state=True)
    said = (
        "1 of 3 files of requests broke and waits: 2.txt; the worker's output says more; the other 2 are done"
    )
    assert (state.is_failed(), state.name, state.message) == (True, "Failed", said)
    told = said_to_the_server(state, caplog, expected=3)
    states = {name: one.state.type.value for name, one in task_runs(state, expected=3).items()}
    assert states == {
        "forget, 1.txt": "COMPLETED",
        "forget, 2.txt": "FAILED",
        "forget, 3.txt": "COMPLETED",
    }
    assert [secret for secret in (SECRETS[0], *trained[1:4]) if secret in told] == []
    assert f"KeyError: '{SECRETS[0]}'" in capsys.readouterr().err  # with its traceback, on the worker
    assert waiting(inbox) == [inbox / "2.txt"]
    forgotten = Catalog(workspace).query("SELECT sample_id FROM subset_members WHERE role = 'forget'")
    assert {trained[1], trained[3]} <= set(forgotten["sample_id"])


def test_no_flow_tells_the_server_who_holds_the_workspace(
    with_inbox, server, source, caplog, capsys, monkeypatch
):
    workspace, inbox, trained = with_inbox
    (inbox / "1.txt").write_text(trained[0])
    command = f"tracesift forget --owner {SECRETS[0]}"
    monkeypatch.setattr("tracesift.flows.work.LOCK_WAIT", 0.1)
    caplog.set_level("DEBUG", "prefect")
    with FileLock(workspace / ".lock"):
        (workspace / ".holder.json").write_text(json.dumps({"pid": os.getpid(), "command": command}))
        states = [
            (deployed.curate(source=source, workspace=str(workspace), return_state=True), 1),
            (subset_models(workspace=str(workspace), models=20, return_state=True), 0),
            (forget_requests(inbox=str(inbox), workspace=str(workspace), return_state=True), 0),
        ]
        for state, tasks in states:
            assert state.is_failed()
            told = said_to_the_server(state, caplog, expected=tasks)
            assert "the workspace is in use" in told
            assert SECRETS[0] not in told
        assert capsys.readouterr().err.count(command) == len(states)
        monkeypatch.setenv("PREFECT_API_URL", server)
        assert run(["curate", source, "--workspace", str(workspace)]) == 2
    assert command in capsys.readouterr().err.splitlines()[-1]  # a terminal is told


def test_a_stack_of_models_does_not_say_who_holds_the_workspace(monkeypatch):
    command = f"tracesift forget --owner {SECRETS[0]}"

    def held(*_):
        raise WorkspaceBusy(command)

    monkeypatch.setattr("tracesift.flows.subset_models.train_parts", held)
    with pytest.raises(WorkspaceBusy) as caught:  # in a process of its own otherwise
        train_in_a_task({"workspace": "w"}, range(1))
    assert str(caught.value) == "the workspace is in use; the worker's own output says by whom"
    assert str(pickle.loads(pickle.dumps(caught.value)).whole) == command


@pytest.mark.usefixtures("server")
def test_a_worker_needs_an_absolute_workspace(source, monkeypatch):
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "00000000-0000-0000-0000-000000000000")
    with pytest.raises(BadInput, match="give an absolute path"):
        deployed.curate(source=source, workspace="somewhere")


def test_a_step_in_words():
    one = {"runs": ["6c08"], "worklist": [{"rank": 1}], "subsets": [{"name": "pruned"}], "truth": None}
    assert deployed.in_words(one) == "1 run, worklist of 1, 1 subset"
    more = {"run_id": "6c08", "scorers": ["aum"] * 1200}
    assert deployed.in_words(more) == "run_id 6c08, 1,200 scorers"
