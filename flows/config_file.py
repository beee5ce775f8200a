"""The file of `--config`: any option of any command, under the command's name, in TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclopts import App

from tracesift.catalog.schema import BadInput, nearest

STEPS = ("ingest", "record", "embed", "score", "select", "evaluate", "forget", "report")
"""Tables that `curate` reads beside its own."""

NOT_IN_A_FILE = ("config", "debug", "help", "version")

Table = dict[str, Any]


def take_config(app: App, arguments: list[str]) -> tuple[list[str], dict[str, Table]]:
    """Take ``--config FILE`` out of the arguments; return the rest, and the table of the command that is called.

    Every table of the file is checked against its own command, whichever is called.

    Raises
    ------
    BadInput
        There is no such file, it is no TOML, or a table or key in it is unknown; the nearest known one is named.
    """
    rest, path = _without_config(arguments)
    if path is None:
        return rest, {}
    where = f"--config {path}"
    tables = _read(path, where)
    commands = _names(app)
    for name in tables:
        if not isinstance(tables[name], dict):
            raise BadInput(
                f"{where}: {name} stands in no table; write it under its command, such as [curate]"
            )
        if name not in commands:
            raise BadInput(f"{where}: [{name}] is no command{nearest(name, commands)}")
        # What is an argument of the step, such as the selector, is an option where `curate` does the step.
        besides = _options(app["curate"]) if name in STEPS and rest[:1] != [name] else []
        tables[name] = _checked(app[name], name, tables[name], where, besides)
    if rest[:1] == ["curate"]:
        tables["curate"] = _merged(_options(app["curate"]), tables, where)
    return rest, {name: table for name, table in tables.items() if rest[:1] == [name]}


def workspace_in(tables: Mapping[str, Table], arguments: Sequence[str]) -> str | None:
    """Return the workspace that the table of a command names, if any.

    Examples
    --------
    >>> workspace_in({"review": {"export": {"workspace": "w"}}}, ["review", "export", "label_noise"])
    'w'
    """
    table: Any = tables
    for word in arguments[:2]:
        table = inner if isinstance(inner := table.get(word), dict) else table
    workspace = table.get("workspace")
    return workspace if isinstance(workspace, str) else None


def _without_config(arguments: list[str]) -> tuple[list[str], str | None]:
    rest: list[str] = []
    path: str | None = None
    words = iter(arguments)
    for word in words:
        if word == "--config":
            path = next(words, "")
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
        else:
            rest.append(word)
    return rest, path


def _read(path: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{where}: no such file") from None
    except IsADirectoryError:
        raise BadInput(f"--config needs a TOML file, not {path or 'nothing'}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{where} is not text; write TOML in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where} is not TOML: {error}") from None


def _names(app: App) -> list[str]:
    return [name for name in app if not name.startswith("-")]


def _options(command: App) -> list[str]:
    """Return the long options of a command, without their dashes."""
    names = (name for argument in command.assemble_argument_collection() for name in argument.names)
    options = [name.removeprefix("--") for name in names if name.startswith("--")]
    return [name for name in options if name not in NOT_IN_A_FILE]


def _checked(command: App, title: str, table: Any, where: str, besides: Sequence[str] = ()) -> Table:
    """Return a table with its keys as options are written, or raise for one that the command does not have."""
    if not isinstance(table, dict):
        raise BadInput(f"{where}: {title} is a command; write its options in a table [{title}]")
    parts = _names(command)
    if parts:  # a command of several, such as `review`: a table each
        for name in table:
            if name not in parts:
                raise BadInput(f"{where}: [{title}] holds {name}; write [{title}.{parts[0]}] or such")
        return {
            name: _checked(command[name], f"{title}.{name}", inner, where) for name, inner in table.items()
        }
    known = [*_options(command), *besides]
    written = {key.replace("_", "-"): value for key, value in table.items()}
    for key in written:
        if key not in known:
            raise BadInput(f"{where}: [{title}] has no option {key}{nearest(key, known)}")
    return written


def _merged(known: list[str], tables: Mapping[str, Table], where: str) -> Table:
    """Return what `curate` takes from the tables of its steps and from its own, which wins."""
    own = tables.get("curate", {})
    said_by: dict[str, str] = {}
    merged: Table = {}
    for step in STEPS:
        for key, value in tables.get(step, {}).items():
            if key not in known:
                raise BadInput(
                    f"{where}: curate cannot do {key} of [{step}]; run `tracesift {step}` with it, from another file"
                )
            if key not in own and merged.get(key, value) != value:
                raise BadInput(
                    f"{where}: [{said_by[key]}] and [{step}] differ in {key}, and curate has one; say it in [curate]"
                )
            merged[key], said_by[key] = value, step
    return merged | own
