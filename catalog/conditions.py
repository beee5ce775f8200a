"""A condition that a user writes in SQL is one expression over the catalog, and nothing else.

It is parsed by itself before it stands inside a statement of ours, so that no parenthesis, semicolon or comment
in it can end what we wrote around it; and whatever it reads must be a table of the catalog.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from tracesift.catalog.connection import first_line
from tracesift.catalog.schema import BadInput

TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest"})
"""Functions that stand after FROM and read nothing."""

REFUSED = frozenset({"getenv", "getvariable", "current_setting", "nextval", "currval"})
"""Functions that read what is not in the catalog, or change what they read."""

CLOCKS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
"""Functions that are written without parentheses, and are parsed as if they were columns."""


def checked_condition(text: str, what: str = "--where") -> str:
    """Return the condition, to be put in parentheses on lines of its own.

    Raises
    ------
    BadInput
        It is not one expression, reads something beside the tables of the catalog, or means something else each time.

    Examples
    --------
    >>> checked_condition("aum < 0 AND label = 'cat'")
    "aum < 0 AND label = 'cat'"
    """
    refused = f"{what} {text}: this query cannot be run"
    try:
        duckdb.SQLExpression(text)
    except duckdb.Error as error:
        raise BadInput(
            f'{refused}: it has to be one condition over the catalog, such as "aum < 0" ({first_line(error)})'
        ) from None
    with duckdb.connect(":memory:") as con:
        ((tree,),) = con.execute("SELECT json_serialize_sql(?)", [f"SELECT (\n{text}\n)"]).fetchall()
        changing = _changing(con)
    parsed = json.loads(tree)
    if parsed.get("error"):
        raise BadInput(f"{refused}: it has to be one condition ({parsed.get('error_message', 'not parsed')})")
    for node in _nodes(parsed["statements"]):
        if node.get("type") == "TABLE_FUNCTION":
            name = node["function"]["function_name"]
            if name not in TABLE_FUNCTIONS:
                raise BadInput(f"{refused}: {name}() may read files; a condition reads the catalog alone")
        elif node.get("type") == "BASE_TABLE":
            name = node["table_name"]
            if not name.replace("_", "a").isalnum():
                raise BadInput(f"{refused}: '{name}' is no table of the catalog")
        elif node.get("class") == "FUNCTION" and node["function_name"].lower() in REFUSED:
            raise BadInput(f"{refused}: {node['function_name']}() reads more than the catalog")
        if found := _changes(node, changing):
            raise BadInput(
                f"{refused}: {found} is something else each time; a condition must always mean the same samples"
            )
    return text


def _changing(con: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the functions whose value DuckDB does not take for granted from one call, or one query, to the next."""
    found = con.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() "
        "WHERE stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
    )
    return frozenset(name for (name,) in found.fetchall())


def _changes(node: dict[str, Any], changing: frozenset[str]) -> str | None:
    """Return what of a node differs from one time to the next: chance, or the time itself; None where nothing does."""
    if node.get("sample"):
        return "a sample drawn at random"
    if node.get("class") == "COLUMN_REF" and node["column_names"][-1].lower() in CLOCKS:
        return str(node["column_names"][-1])
    if node.get("class") != "FUNCTION":
        return None
    name = node["function_name"].lower()
    since_today = name == "age" and len(node["arguments"]) == 1
    return f"{name}()" if name in changing or since_today else None


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a parsed statement."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
