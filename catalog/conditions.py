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


def checked_condition(text: str, what: str = "--where") -> str:
    """Return the condition, to be put in parentheses on lines of its own.

    Raises
    ------
    BadInput
        It is not one expression, or reads something beside the tables of the catalog.

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
    return text


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a parsed statement."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)
