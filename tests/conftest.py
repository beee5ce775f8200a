"""What every test shares: one thread, and the real datasets where they are at hand."""

import os
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

# Before anything reads them, and for the processes that tests start: tests run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import pytest
import torch

LONG = (
    "test_purge.py", "test_bad_input.py", "test_kill.py", "test_deployed.py", "test_curate.py", "test_requests.py",
    "test_unlearn.py", "test_second_run.py", "test_docs.py", "test_resume.py", "test_prefect_server.py",
)  # fmt: skip
"""Files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long: a long file that is begun last keeps one process busy while the others wait.

    The files of flows, with seconds per test, come before the rest; within a file the order stays.
    """

    def place(item: pytest.Item) -> tuple[int, bool]:
        name = item.path.name
        return LONG.index(name) if name in LONG else len(LONG), "flows" not in item.path.parts

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real datasets, one sub-folder each."""
    folder = os.environ.get("TRACESIFT_DATA")
    if folder is None or not Path(folder).is_dir():
        pytest.skip("the real datasets are not here: set TRACESIFT_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def wrong_for():
    """Values that a parameter with an annotation must refuse."""

    def wrong(hint: Any) -> list[Any]:
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        values: list[Any] = [[2.5], {"a": 1}, ("a", 3)]
        values += [] if str in parts else ["a text"]
        values += [] if float in parts else [2.5]
        values += [] if {int, float} & set(parts) else [3]
        values += [] if bool in parts else [True]
        return values + ([] if NoneType in parts else [None])

    return wrong
