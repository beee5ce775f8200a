"""`tracesift project`: a cured dataset that curate opens, its record, and what is refused."""

import json
from pathlib import Path

import pytest

from tracesift.flows.cli import run
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.protection import writing


@pytest.fixture
def told(capsys, tmp_path, monkeypatch):
    """A function: run a command in an empty folder, and return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        code = run([*map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_project_what_protect_made(told):
    assert told("protect", "digits", "--method", "class_patches", "--eps", "32", "--out", "spoiled")[0] == 0
    code, out, err = told("project", "spoiled", "--out", "cured", "--json")
    assert code == 0, err
    answer = json.loads(out)
    record = json.loads(Path(answer["record"]).read_text())
    assert (answer["projected"], answer["directions"]) == (1797, 9)
    assert answer["energy_removed"] == record["report"]["energy_removed"]
    assert record["source"]["source"] == "spoiled"
    assert len(open_dataset("cured")) == 1797
    code, out, err = told("project", "spoiled", "--train-only", "--param", "iterations=1", "--out", "half")
    assert code == 0
    assert "projected: 1455" in out
    assert "still improving after 1 iterations" in err
    assert "--param iterations=2" in err
    assert err.splitlines()[-1] == "next: tracesift curate half"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "nowhere: no such file"),
        (["lines.csv"], "its samples are of kind 'text'"),
        (["table.csv"], "its samples are of kind 'tabular'"),
        (["digits", "--param", "penalty=0"], "penalty=0: above 0"),
        (["digits", "--param", "penalty=high"], "project: penalty='high' must be a number"),
        (["digits", "--param", "penalti=1"], "did you mean 'penalty'?"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(words, says, told):
    texts = "".join(f"a line about thing number {at},{'xy'[at % 2]}\n" for at in range(60))
    Path("lines.csv").write_text("text,label\n" + texts)
    numbers = "".join(f"{at},{at * at},{'xy'[at % 2]}\n" for at in range(60))
    Path("table.csv").write_text("a,b,label\n" + numbers)
    code, out, err = told("project", *words, "--out", "cured")
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not Path("cured").exists()


def test_nothing_is_written_over_and_ctrl_c_leaves_nothing(told, monkeypatch):
    words = ("project", "digits", "--out", "cured")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_json", interrupted)
        assert told(*words)[0] == 130
    assert not [*Path().iterdir()]
    assert told(*words)[0] == 0
    code, _, err = told(*words)
    assert code == 2
    assert "is there and holds something" in err
