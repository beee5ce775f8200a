"""The documentation holds: generated parts are fresh, code in the README runs, every command explains itself."""

import doctest
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from tracesift.flows.cli import COMMANDS, run

ROOT = Path(__file__).parents[1]
FOLDERS = ("catalog", "flows", "pipelines", "scorers", "selectors")
MODULES = sorted(
    ".".join(("tracesift", *path.relative_to(ROOT).with_suffix("").parts))
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
)
CODE = re.compile(r"```python\n(.*?)```", re.S)


def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_files_are_fresh():
    for path, text in generator().generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: run `make docs`"


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert not failed


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"tracesift {command}" in text
    # A parameter without help text shows nothing between its name and its default.
    assert not re.search(r"│\s+(\*\s+)?--[a-z-]+( [A-Z.]+)?\s*(\[default: [^\]]*\])?\s*│", text), text


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"`{command}" in text or f"tracesift {command}" in text, command


def test_python_in_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = CODE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert blocks
    scope: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)


def test_the_changelog_has_this_version():
    from importlib.metadata import version

    assert f"## {version('tracesift')}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
