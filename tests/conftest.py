"""What every test shares: one thread, and the real datasets where they are at hand."""

import os
from pathlib import Path

# Before anything reads them, and for the processes that tests start: tests run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

import pytest
import torch


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
