"""CSV and TSV: every value is read as text, and only the empty field is missing.

Types are settled later (`columns.infer`), by one rule for every format, so a file and a typed table agree.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import sys
from itertools import islice
from pathlib import Path

import polars as pl

from tracesift.catalog.schema import BadInput

DELIMITERS = {"csv": ",", "tsv": "\t"}
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
"""Byte order mark to the encoding whose text begins with it; the longer ones first, which begin like others."""


def read_text(path: Path, encoding: str | None) -> str:
    """Return the text of a file (gz or not), or say which byte is not in the encoding."""
    raw = path.read_bytes()
    try:
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError) as error:
        raise BadInput(f"{path}: not a whole gzip file ({error}); fetch or compress it again") from error
    wanted = encoding or "utf-8"
    try:
        text = raw.decode(wanted)
    except LookupError as error:
        raise BadInput(f"unknown encoding '{wanted}'; try utf-8, latin-1 or cp1252 (--encoding)") from error
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        marked = next((name for mark, name in MARKS.items() if raw.startswith(mark)), None)
        advice = (
            f"it begins with the byte order mark of {marked}: give --encoding {marked}"
            if marked
            else "give --encoding, such as latin-1 or cp1252"
        )
        raise BadInput(
            f"{path}: line {line} is not {wanted} (byte 0x{raw[error.start]:02x} at {error.start}); {advice}"
        ) from error
    return text.removeprefix("\ufeff")


def sniff_delimiter(text: str) -> str:
    """Return the delimiter of a CSV: comma, semicolon, tab or bar, whichever gives most equal columns."""
    head = text[: 1 << 16].splitlines(keepends=True)[:20]
    best, columns = ",", 1
    for delimiter in ",;\t|":
        widths = {len(row) for row in csv.reader(head, delimiter=delimiter) if row}
        if len(widths) == 1 and (width := widths.pop()) > columns:
            best, columns = delimiter, width
    return best


def _rows(text: str, delimiter: str, *, blanks: bool, quoted: bool) -> list[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        skipinitialspace=blanks,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
    )
    rows = []
    line = 1
    for row in reader:
        if row and not (len(row) == 1 and not row[0].strip()):
            rows.append((line, row))
        line = reader.line_num + 1
    return rows


def _parse(
    path: Path, text: str, delimiter: str, *, blanks: bool
) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Return rows with their line numbers; quotes that do not pair up are taken as plain characters."""
    try:
        return _rows(text, delimiter, blanks=blanks, quoted=True), []
    except csv.Error as error:
        reason = error
    plain = _rows(text, delimiter, blanks=blanks, quoted=False)
    if len({len(row) for _, row in plain}) == 1:
        return plain, [
            f"in {path.name}, quotes are taken as plain characters, for they do not pair ({reason})."
        ]
    raise BadInput(
        f"{path}: cannot be read as delimited text ({reason}); look for a quote that is not closed"
    )


def read_delimited(
    path: Path, *, delimiter: str | None, encoding: str | None, kind: str
) -> tuple[pl.DataFrame, list[str]]:
    """Return the table of a CSV or TSV file with every column as text, and what was found out about it."""
    csv.field_size_limit(sys.maxsize)  # the standard library refuses texts over 128 KiB otherwise
    text = read_text(path, encoding)
    if not text.strip():
        raise BadInput(f"{path}: the file is empty; a header line and rows are needed")
    notes = []
    if delimiter is None:
        delimiter = DELIMITERS["tsv"] if kind == "tsv" else sniff_delimiter(text)
        if kind == "csv" and delimiter != ",":
            notes.append(f"the delimiter of {path.name} is {delimiter!r}.")
    delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(delimiter) != 1:
        raise BadInput(f"a delimiter is one character, not {delimiter!r} (--delimiter)")
    header_line = next(line for line in text.splitlines() if line.strip())
    blanks = delimiter + " " in header_line
    rows, found = _parse(path, text, delimiter, blanks=blanks)
    notes += found
    if blanks:
        rows = [(line, [value.strip() for value in row]) for line, row in rows]
        notes.append(f"in {path.name}, blanks around names and values are stripped.")
    (_, header), body = rows[0], rows[1:]
    check_header(path, header)
    ragged = [(line, len(row)) for line, row in body if len(row) != len(header)]
    if ragged:
        line, width = ragged[0]
        raise BadInput(
            f"{path}: line {line} has {width} field{'s' * (width > 1)} where the header has {len(header)} "
            f"({len(ragged)} such line{'s' * (len(ragged) > 1)}); mend the file or give --delimiter"
        )
    columns = zip(*(row for _, row in body), strict=True) if body else [()] * len(header)
    data = {name: [value or None for value in values] for name, values in zip(header, columns, strict=True)}
    return pl.DataFrame(data, schema=dict.fromkeys(header, pl.String)), notes


def check_header(path: Path, header: list[str]) -> None:
    """Refuse a header that names a column twice."""
    doubled = [name for at, name in islice(enumerate(header), 1, None) if name in header[:at]]
    if doubled:
        raise BadInput(f"{path}: the column name '{doubled[0]}' stands twice in the header; rename one")
