"""Which skin `curate` wears: no server named, one that answers, one that does not; prefect stays unimported."""

import http.server
import socket
import subprocess
import sys
import threading

import pytest

from tracesift.catalog.schema import BadInput
from tracesift.flows.cli import run
from tracesift.flows.prefect_server import check_answers, named_server

PROFILES = """
active = "work"
[profiles.work]
PREFECT_API_URL = "http://work:4200/api"
[profiles.alone]
PREFECT_SERVER_EPHEMERAL_ENABLED = "true"
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty Prefect home, and no setting of this machine."""
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def answering():
    """Start a web server that gives one answer to everything; its address."""
    started = []

    def start(status, text):
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}/api"

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def nobody():
    """Return an address where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/api"


def test_no_server_is_named_by_default(home):
    assert named_server() is None
    assert not list(home.iterdir())


def test_the_active_profile_names_a_server_and_the_environment_wins(home, monkeypatch):
    (home / "profiles.toml").write_text(PROFILES)
    assert named_server() == "http://work:4200/api"
    monkeypatch.setenv("PREFECT_PROFILE", "alone")
    assert named_server() is None
    monkeypatch.setenv("PREFECT_PROFILE", "no such profile")
    assert named_server() is None
    monkeypatch.setenv("PREFECT_API_URL", "http://other/api")
    assert named_server() == "http://other/api"
    monkeypatch.delenv("PREFECT_PROFILE")
    monkeypatch.setenv("PREFECT_API_URL", "")
    assert named_server() is None, "set to nothing, the environment turns the profile's server off"


def test_profiles_that_cannot_be_read_are_named(home):
    (home / "profiles.toml").write_text("active = ")
    with pytest.raises(BadInput, match=r"profiles\.toml is not TOML"):
        named_server()


@pytest.mark.parametrize(("status", "text"), [(200, b"true"), (401, b""), (403, b"no")])
def test_a_prefect_server_passes_also_where_it_wants_a_key(answering, status, text):
    check_answers(answering(status, text))


@pytest.mark.parametrize(("status", "text"), [(200, b"<html>"), (200, b"false"), (404, b""), (502, b"")])
def test_what_is_no_prefect_server_is_refused(answering, status, text):
    with pytest.raises(BadInput, match="address ends in /api"):
        check_answers(answering(status, text))


@pytest.mark.parametrize("address", ["127.0.0.1:4200/api", "file:///etc/passwd", "/api"])
def test_only_web_addresses_are_asked(address):
    with pytest.raises(BadInput, match="no http address"):
        check_answers(address)


def test_a_server_that_is_down_is_one_line_and_exit_code_2(home, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", nobody())
    assert run(["curate", "digits", "--workspace", str(tmp_path / "w")]) == 2
    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert "does not answer" in line
    assert "prefect server start" in line
    assert "PREFECT_API_URL=" in line
    assert told.out == ""
    assert not (tmp_path / "w").exists()


def test_without_a_server_prefect_is_not_imported(home, tmp_path):
    source = tmp_path / "tiny.csv"
    rows = [f"s{row},{row % 2 + row / 100},{row % 7},{'ab'[row % 2]}" for row in range(60)]
    source.write_text("id,x,z,label\n" + "\n".join(rows) + "\n")
    words = ["curate", str(source), "--workspace", str(tmp_path / "w"), "--epochs", "3", "--folds", "0"]
    code = (
        "import sys\n"
        "import tracesift.flows.publish as publish\n"
        "publish.render_report = lambda data: ''\n"  # charts take longer than all the rest
        "from tracesift.flows.cli import run\n"
        f"done = run({words!r})\n"
        "print([done, 'prefect' in sys.modules], file=sys.__stdout__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[0, False]", done.stderr


def test_the_flow_turns_telemetry_off_unless_the_user_turns_it_on(home, monkeypatch):
    del home
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    code = (
        "import os, tracesift.flows.deployed\n"
        "print(os.environ['DO_NOT_TRACK'], os.environ['PREFECT_SERVER_ANALYTICS_ENABLED'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "true"]
