"""A small table and the workspace that `curate` makes of it, once for all tests of the command line."""

import contextlib
import hashlib
import shutil
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run


def small_table(rows=60):
    """Two classes, told apart by two of three features."""
    rng = np.random.default_rng(0)
    label = np.arange(rows) % 2
    values = rng.normal(size=(rows, 3)) + 2 * label[:, None] * [1, 1, 0]
    names = {name: values[:, place].round(6) for place, name in enumerate("abc")}
    return pl.DataFrame(
        {"id": [f"s{row:03d}" for row in range(rows)], **names, "label": [*map("xy".__getitem__, label)]}
    )


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder that holds good.csv and `base`, the workspace curated from it; nobody writes here."""
    folder = tmp_path_factory.mktemp("made")
    small_table().write_csv(folder / "good.csv")
    with contextlib.chdir(folder):
        words = [
            "curate",
            "good.csv",
            "--workspace",
            "base",
            "--epochs",
            "3",
            "--folds",
            "2",
            "--threads",
            "1",
        ]
        assert run(words) == 0
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """An own working directory with good.csv and an own copy `w` of the curated workspace."""
    shutil.copy(made / "good.csv", tmp_path)
    shutil.copytree(made / "base", tmp_path / "w")
    Catalog(tmp_path / "w").check_writable()  # a catalog remembers where it lies
    monkeypatch.chdir(tmp_path)
    return tmp_path


PASSAGE = "and everybody knows this line by heart, because it stands in every song that was ever written"


@pytest.fixture(scope="session")
def songs(tmp_path_factory):
    """A folder with songs.csv, its workspace `texts` with the subset `half`, and a `tokenizer` of bytes after a mark.

    PASSAGE stands in all songs, each time behind other words. Nobody writes here.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("songs")
    vocabulary = {
        one: at for at, one in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "<pad>"])
    }
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    begins = [("<s>", vocabulary["<s>"])]
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=begins)
    whole = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", pad_token="<pad>")
    whole.save_pretrained(folder / "tokenizer")
    rng = np.random.default_rng(0)
    rows = []
    for at in range(40):  # mostly letters of its own, so that no song is a copy of another
        own = ["".join(rng.choice([*"abcdefghiklmnoprstuvwy"], 6)) for _ in range(30 + at)]
        text = " ".join([*own[: at + 3], PASSAGE, *own[at + 3 :]])
        rows.append({"id": f"song-{at:04d}", "text": text, "label": "ab"[at % 2]})
    pl.DataFrame(rows).write_csv(folder / "songs.csv")
    with contextlib.chdir(folder):
        assert run(["ingest", "songs.csv", "--workspace", "texts"]) == 0
        assert run(["select", "random", "--keep", "0.5", "--name", "half", "--workspace", "texts"]) == 0
    return folder


@pytest.fixture(scope="session")
def state():
    """A function: everything a workspace holds, to be compared; times that change nothing left out."""
    return _state


def _state(workspace: Path):
    files = {
        str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workspace.rglob("*"))
        if path.is_file() and path.name not in ("catalog.duckdb", ".lock")
    }
    with duckdb.connect(str(workspace / "catalog.duckdb"), read_only=True) as con:
        tables = con.execute("SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL").fetchall()
        rows = {
            name: repr(con.execute(f'SELECT * FROM "{schema}"."{name}" ORDER BY ALL').fetchall())
            for schema, name in tables
        }
    return files, rows
