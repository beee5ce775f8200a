"""Who may import whom, and the names that must not shadow the standard library."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("catalog", "flows", "pipelines", "scorers", "selectors")
LIGHT_SHARED = {"tracesift.catalog.schema", "tracesift.catalog.files", "tracesift.catalog.manifest"}
SHARED = LIGHT_SHARED | {
    "tracesift.catalog.clusters",
    "tracesift.catalog.compiled",
    "tracesift.catalog.deletions",
    "tracesift.catalog.earlier_twins",
    "tracesift.catalog.goldfish",
    "tracesift.catalog.known_graphs",
    "tracesift.catalog.nearest_rows",
    "tracesift.catalog.neighbor_graph",
    "tracesift.catalog.parameter_types",
}
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
            # `from tracesift.flows import curate` imports the module tracesift.flows.curate.
            if node.module.count(".") == 1 and node.module.startswith("tracesift."):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        if name.startswith("tracesift.") and folder != "flows":
            assert name.split(".")[1] == folder or name in SHARED or name == "tracesift.catalog", (
                f"{path} imports {name}"
            )
        library = name.split(".")[0]
        assert library != "prefect" or folder == "flows", f"{path}: prefect belongs in flows/"
        assert library != "duckdb" or folder == "catalog", f"{path}: duckdb belongs in catalog/"
        assert library != "datasets" or folder == "pipelines", f"{path}: datasets belongs in pipelines/"
        assert library != "torch" or folder not in ("catalog", "selectors"), f"{path}: no torch here"


def test_shared_modules_stay_light():
    for name in LIGHT_SHARED:
        path = ROOT / (name.removeprefix("tracesift.").replace(".", "/") + ".py")
        assert {found.split(".")[0] for found in imports(path)} <= {
            *sys.stdlib_module_names,
            "polars",
            "tracesift",
        }


def test_no_init_files_and_no_shadowed_names():
    for folder in (*FOLDERS, "tests"):
        assert not list((ROOT / folder).rglob("__init__.py"))
    shadowing = [path for path in SOURCES if path.stem in sys.stdlib_module_names]
    assert not shadowing


@pytest.mark.parametrize(
    "command", [["-c", "import asyncio, selectors; selectors.DefaultSelector"], ["-m", "pip", "--version"]]
)
def test_the_standard_library_works_from_the_root(command):
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)


def test_every_folder_of_modules_is_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {".".join(("tracesift", *path.parent.relative_to(ROOT).parts)) for path in SOURCES}
    assert folders == set(settings["packages"]) == set(settings["package-dir"])


LIGHT = (
    "--help", "--version", "curate --help", "sql SELECT --workspace /nowhere", "why x --workspace /nowhere",
    "scorers", "selectors", "verify /nowhere", "diff a b --workspace /nowhere", "gc --keep 1 --workspace /nowhere",
    "select ccs --keep 0.3 --workspace /nowhere", "forget --class x --workspace /nowhere",
    "ingest /nowhere --workspace /nowhere", "curate /nowhere", "curate /nowhere --dry-run",
    "curate /dev/null --format csv", "curate digits --selector dula", "curate digits --selector top_k",
    "curate digits --keep 0",
)  # fmt: skip


def test_commands_that_train_nothing_load_neither_torch_nor_prefect():
    code = (
        "import sys; from tracesift.flows.cli import run\n"
        "for words in sys.argv[1:]:\n"
        "    run(words.split())\n"
        "    loaded = [name for name in ('torch', 'prefect', 'datasets', 'sklearn') if name in sys.modules]\n"
        "    assert not loaded, (words, loaded)"
    )
    done = subprocess.run([sys.executable, "-c", code, *LIGHT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
