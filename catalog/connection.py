"""Opening the catalog file for the length of one transaction, and no longer.

DuckDB lets one process write or many read, never both, and one process may not open a file both ways. So
every file here is opened for a step and closed; a file held elsewhere is waited for, with a bound, and
then the holder is named. Readers attach the file to a private in-memory database: that can stand beside a
user's own read-only connection in the same process, and can be sealed without sealing theirs.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import psutil
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from tracesift.catalog.schema import BadInput, WorkspaceBusy

CATALOG_FILE = "catalog.duckdb"

_turn = threading.Lock()
"""One catalog connection at a time in this process: reading beside writing raises in DuckDB."""

_T = TypeVar("_T")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BROKEN = (
    duckdb.IOException,
    duckdb.FatalException,
    duckdb.OutOfMemoryException,
    duckdb.TransactionException,  # a commit that could not be written
    OSError,
)
_DAMAGED = ("not a valid DuckDB database file", "Corrupt database file")
"""What DuckDB says of a file that is none, and of a block whose checksum is another."""


def identifier(name: str) -> str:
    """Return `name` quoted for SQL, or raise BadInput where it is not of the form ``[a-z][a-z0-9_]*``."""
    if not _NAME.fullmatch(name):
        raise BadInput(f"'{name}' cannot name a scorer or flag: use small letters, digits and underscores")
    return f'"{name}"'


def literal(text: str) -> str:
    """Return `text` as an SQL string literal, for the places where SQL takes no bound parameter (views)."""
    return "'" + text.replace("'", "''") + "'"


def rows(con: duckdb.DuckDBPyConnection, sql: str, parameters: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Run `sql` and fetch everything, so that no unfinished result blocks the connection."""
    return con.execute(sql, list(parameters)).fetchall()


def records(
    con: duckdb.DuckDBPyConnection, sql: str, parameters: tuple[Any, ...] = ()
) -> list[dict[str, Any]]:
    """Run `sql` and return its rows as dicts."""
    con.execute(sql, list(parameters))
    names = [column[0] for column in con.description or ()]
    return [dict(zip(names, row, strict=True)) for row in con.fetchall()]


def interruptible(con: duckdb.DuckDBPyConnection, ask: Callable[[], _T]) -> _T:
    """Return what `ask` returns of a query on `con`, and let Ctrl-C stop it at once.

    DuckDB 2.0.0 with several threads often hears of the signal only when a query has ended, and so may a Python
    thread that waits without an end; so the query runs beside this thread, which looks up now and then.
    """
    with futures.ThreadPoolExecutor(max_workers=1) as beside:
        answer = beside.submit(ask)
        try:
            while not futures.wait([answer], timeout=0.1).done:
                pass
        except KeyboardInterrupt:
            con.interrupt()
            raise
        return answer.result()


@contextmanager
def writing(path: Path, *, wait: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open `path` for one transaction: committed on a clean exit, rolled back on any exception.

    Raises
    ------
    WorkspaceBusy
        Another process, thread or connection held the file for longer than `wait` seconds.
    BadInput
        The file or its folder cannot be written, the disk is full, or it is no catalog.
    """
    with _one_at_a_time(path, wait), _translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        con = _patiently(lambda: duckdb.connect(str(path)), path, wait)
        try:
            con.execute("BEGIN")
            try:
                yield con
                con.execute("COMMIT")
            except BaseException:
                with suppress(duckdb.Error):  # a fatal error has already closed the transaction
                    con.execute("ROLLBACK")
                raise
        finally:
            con.close()


@contextmanager
def reading(path: Path, *, wait: float, sealed_to: Path | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open `path` read-only. Raises as `writing` does, and BadInput where there is no catalog yet.

    With `sealed_to`, a workspace, the file system is closed to what is asked, its signals folder excepted.
    """
    if not path.is_file():
        raise BadInput(f"no catalog at {path}: run `tracesift curate` or `tracesift ingest` there first")
    with _one_at_a_time(path, wait), _translated(path):
        key, con = _kept_reader(path, sealed_to)
        try:
            _patiently(lambda: con.execute(f"ATTACH {literal(str(path))} AS catalog (READ_ONLY)"), path, wait)
            con.execute("USE catalog")
            yield con
            con.execute("USE memory")
            con.execute("DETACH catalog")
        except BaseException:
            # Nobody knows what such a connection still holds, so the next reader gets another.
            _kept.pop(key, None)
            con.close()
            raise


_SUFFIXES = ("", ".wal", ".wal.checkpoint", ".wal.recovery")  # what DuckDB may leave beside a database

_Key = tuple[int, Path | None, Path | None]
_kept: dict[_Key, duckdb.DuckDBPyConnection] = {}
"""In-memory databases to attach catalogs to: making one takes far longer than attaching."""


def _kept_reader(path: Path, sealed_to: Path | None) -> tuple[_Key, duckdb.DuckDBPyConnection]:
    # By process: DuckDB's threads are not there in a fork, where an inherited database could not even be closed.
    key = (os.getpid(), None if sealed_to is None else path, sealed_to)
    if key not in _kept:
        own = [one for one in _kept if one[0] == key[0]]
        if len(own) >= 4:
            _kept.pop(own[0]).close()
        _kept[key] = _reader(path, sealed_to)
    return key, _kept[key]


def _reader(path: Path, sealed_to: Path | None) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:")
    con.execute("SET enable_progress_bar = false")  # drawn on stderr once a query takes two seconds
    con.execute("SET enable_external_file_cache = false")  # files change between two readings
    if sealed_to is None:
        return con
    folder = str(sealed_to)
    if not any(letter in folder for letter in "*["):  # DuckDB matches these escaped, and so never allows them
        con.execute(f"SET allowed_directories = [{literal(folder + '/signals/')}]")
        files = (literal(f"{path}{suffix}") for suffix in _SUFFIXES)
        con.execute(f"SET allowed_paths = [{', '.join(files)}]")
        con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con


@contextmanager
def _one_at_a_time(path: Path, wait: float) -> Iterator[None]:
    if not _turn.acquire(timeout=max(wait, 0.0)):
        raise WorkspaceBusy(
            f"{path} is in use by another thread of this process, waited {wait:g} s: "
            "let that step end, then try again"
        )
    try:
        yield
    finally:
        _turn.release()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, duckdb.InterruptException) as error:
        # Ctrl-C while DuckDB works arrives under either name, and means what it means everywhere.
        if isinstance(error, duckdb.InterruptException) or "interrupted" in str(error):
            raise KeyboardInterrupt from error
        raise
    except (duckdb.Error, OSError) as error:
        told = first_line(error).removesuffix("!")
        mend = "check the disk's free space and the file's permissions, then run again"
        if any(words in told for words in _DAMAGED):
            mend = (
                "it is damaged: move it away, then put back a copy or run the same commands again. Recordings are "
                "files of their own, which `tracesift curate` takes in without training; reviews and deletion requests "
                "are in the catalog alone"
            )
        elif not isinstance(error, _BROKEN):
            raise
        raise BadInput(f"the catalog {path} cannot be read or written: {told}; {mend}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without DuckDB's pointer to its documentation."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0].split(" See also ")[0]


def _is_held(error: BaseException) -> bool:
    if isinstance(error, duckdb.ConnectionException):
        return "different configuration" in str(error)
    text = str(error)
    return isinstance(error, duckdb.Error) and ("lock on file" in text or "file handle conflict" in text)


def _patiently(attempt: Callable[[], _T], path: Path, wait: float) -> _T:
    retrying = Retrying(
        retry=retry_if_exception(_is_held),
        stop=stop_after_delay(wait),
        wait=wait_random_exponential(multiplier=0.05, max=0.5),
        reraise=True,
    )
    try:
        return retrying(attempt)
    except duckdb.Error as error:
        if not _is_held(error):
            raise
        raise WorkspaceBusy(
            f"{path} is held by {_holder(str(error))}, waited {wait:g} s: "
            "close it there or wait for it to end, then try again"
        ) from error


def _holder(message: str) -> str:
    found = re.search(r"\(PID (\d+)\)", message)
    if found is None:
        return "another connection of this process"
    number = int(found[1])
    try:
        command = " ".join(" ".join(psutil.Process(number).cmdline()).split())
    except psutil.Error:
        command = "command line not readable"
    return f"process {number} ({command or 'no command line'})"
