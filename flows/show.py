"""How answers look: one JSON document for programs, tables for people, both on stdout."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

WIDEST = 60
"""Characters shown of one cell."""


def print_json(value: Any) -> None:
    """Print exactly one JSON document; NaN and infinities, which JSON does not have, become null."""
    sys.stdout.write(json.dumps(_plain(value), ensure_ascii=False, indent=2) + "\n")


def print_table(
    rows: pl.DataFrame | Sequence[dict[str, Any]], title: str | None = None, *, widest: int = WIDEST
) -> None:
    """Print rows as a table that keeps to the width of the terminal; cells are cut at `widest` characters."""
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows), infer_schema_length=None)
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(cell(value, widest) for value in row))
    console().print(table)


def console() -> Console:
    """Return a console on stdout that never reads markup in data."""
    width = None if sys.stdout.isatty() else 160
    return Console(file=sys.stdout, markup=False, highlight=False, width=width)


def cell(value: Any, widest: int = WIDEST) -> str:
    """Return one value as short text for people."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else f"{value:.4g}"
    text = str(value)
    return text if len(text) <= widest else text[: widest - 1] + "…"


def chance(probability: float) -> str:
    """Return an estimated probability in per cent, rounded down as in the reasons; it is never written as certain.

    Examples
    --------
    >>> chance(0.874), chance(0.7999), chance(0.29), chance(0.9901), chance(0.0)
    ('87 %', '79 %', '29 %', '> 99 %', '< 1 %')
    """
    percent = round(100 * probability, 3)  # 100 * 0.29 is a little below 29
    if percent > 99:
        return "> 99 %"
    return f"{math.floor(percent)} %" if percent >= 1 else "< 1 %"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, pl.DataFrame):
        return [_plain(row) for row in value.to_dicts()]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (Path, datetime, date)):
        return str(value)
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    return str(value)
