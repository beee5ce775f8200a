"""What was deleted is known again by keyed hashes, and by nothing else.

A row that held the id of a deleted sample, or a plain hash of its id or content, would itself tell who it was:
whoever has the id can hash it. So the table `forgotten` holds BLAKE2b under a random key of the workspace, in
the file ``forget.key`` that its owner alone can read. With the key, a sample that comes back is recognised, by
its id or by its content; without it, the rows say nothing of anybody.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from tracesift.catalog.files import canonical_json
from tracesift.catalog.schema import BadInput

KEY_FILE = "forget.key"
KEY_BYTES = 32

REQUESTED, COPY, UNTRAINED = "requested", "copy", "untrained"
"""How a sample came to be forgotten: it was asked for, it copies one that was, or it was asked for and stood outside
train, so that there was nothing to unlearn."""

KNOWN: dict[str, pl.DataType] = {
    **dict.fromkeys(("sample_id", "request_id", "subset", "how"), pl.String()),
    "seq": pl.Int64(),
}
"""Columns of what `recognised` returns."""


def read_key(workspace: Path) -> bytes | None:
    """Return the workspace's key, None where there is none.

    Raises
    ------
    BadInput
        The file is not a key.
    """
    path = workspace / KEY_FILE
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(key) != KEY_BYTES:
        raise BadInput(f"{path} holds {len(key)} bytes, and a key has {KEY_BYTES}: {how_to_go_on(workspace)}")
    return key


def how_to_go_on(workspace: Path) -> str:
    """Return what to do where what recognises the deleted is lost, with the workspace, since it cannot be undone."""
    command = f"tracesift requests --unlink --workspace {shlex.quote(str(workspace))}"
    return (
        "restore it from a backup, or, where it was deleted so that nobody can be recognised, say so with "
        f"`{command}`"
    )


def make_key(workspace: Path) -> bytes:
    """Return the workspace's key, made at the first call: 32 random bytes that its owner alone can read."""
    known = read_key(workspace)
    if known is not None:
        return known
    workspace.mkdir(parents=True, exist_ok=True)
    path = workspace / KEY_FILE
    temporary = workspace / f".tmp-{secrets.token_hex(8)}.key"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # whoever comes second takes the key of the first
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
    made = read_key(workspace)
    assert made is not None
    return made


def key_name(key: bytes) -> str:
    """Return what a key is called: a hash of it, which tells nothing of the key nor of what it hashed."""
    return hashlib.blake2b(key, digest_size=4, person=b"name").hexdigest()


def keyed(key: bytes, kind: str, text: str) -> str:
    """Return 32 hex digits of BLAKE2b over `text` under the key; each `kind` ("id", "content", "request") is its own.

    Examples
    --------
    >>> key = bytes(32)
    >>> keyed(key, "id", "alice") == keyed(key, "content", "alice")
    False
    """
    return hashlib.blake2b(text.encode(), key=key, digest_size=16, person=kind.encode()).hexdigest()


def request_key(key: bytes, asked: Mapping[str, object]) -> str:
    """Return the keyed hash of what was asked: plain JSON, equal for equal requests."""
    return keyed(key, "request", canonical_json(dict(asked)).decode())


def word_key(key: bytes, way: str, value: str) -> str:
    """Return the keyed hash of what a request names beside ids: in which way (owner, class, …), and what."""
    return keyed(key, "word", canonical_json([way, value]).decode())


def keys_of(key: bytes, samples: pl.DataFrame) -> pl.DataFrame:
    """Return `id_key` and `content_key` of samples (`sample_id`, and `content_hash` where there is one)."""
    none: Iterable[str | None] = [None] * samples.height
    hashes = samples["content_hash"] if "content_hash" in samples.columns else none
    return pl.DataFrame(
        {
            "id_key": [keyed(key, "id", name) for name in samples["sample_id"]],
            "content_key": [None if text is None else keyed(key, "content", text) for text in hashes],
        },
        schema={"id_key": pl.String, "content_key": pl.String},
    )


def recognised(key: bytes | None, rows: pl.DataFrame, samples: pl.DataFrame, workspace: Path) -> pl.DataFrame:
    """Return which of `samples` were forgotten, by which requests: a row per sample and request, earliest first.

    Parameters
    ----------
    key
        The workspace's key.
    rows
        The table `forgotten`.
    samples
        `sample_id`, and `content_hash` where it is known; of any state of the dataset.
    workspace
        Where the key belongs, for the refusal.

    Returns
    -------
    polars.DataFrame
        The columns of `KNOWN`, in the order of request and id.

    Raises
    ------
    BadInput
        There are rows, and the key that made them is gone: nobody could be recognised, and everybody would return.
    """
    if rows.is_empty():
        return pl.DataFrame(schema=KNOWN)
    here = None if key is None else key_name(key)
    strange = rows.filter(pl.col("key_name").ne_missing(pl.lit(here)))
    if key is None or strange.height:
        raise BadInput(
            f"{workspace / KEY_FILE} {'is gone' if key is None else 'is another key'}, and without it {strange.height} "
            f"forgotten samples cannot be recognised and would return: {how_to_go_on(workspace)}"
        )
    ours = pl.concat([samples.select("sample_id"), keys_of(key, samples)], how="horizontal")
    asked = rows.select("request_id", "subset", "how", "seq", "id_key", "content_key")
    by_id = ours.join(asked.drop("content_key"), on="id_key", how="inner")
    by_content = ours.join(
        asked.drop("id_key").drop_nulls("content_key").with_columns(how=pl.lit(COPY)), on="content_key", how="inner"
    )  # fmt: skip
    return (
        pl.concat([by_id.select(*KNOWN), by_content.select(*KNOWN)])  # by its id first: how it was asked for
        .unique(["sample_id", "request_id"], keep="first", maintain_order=True)
        .sort("seq", "sample_id")
    )
