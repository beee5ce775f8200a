"""Who a sample is: ids from content, the dataset's fingerprint, and stable hashes that stand in for chance.

An id is 128 bits of BLAKE2b over the canonical form of the model inputs alone. Every canonical form is local
to one value: it never looks at other rows, so a source that grows, shrinks or is shuffled renames nobody, and
a table has the same ids whichever format it arrives in. The rule is named by `catalog.schema.ID_RULE`, which
is mixed into each hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np
import polars as pl

from tracesift.catalog.files import canonical_json
from tracesift.catalog.schema import ID_RULE, BadInput

PLAIN_INTEGER = r"^(?:0|-?[1-9][0-9]*)$"
NUMBER = r"^-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
NOT_FINITE = r"^(?:[nN][aA][nN]|[+-]?(?:inf|Inf|INF|Infinity))$"
TRUTH = r"^(?:[tT][rR][uU][eE]|[fF][aA][lL][sS][eE])$"
MOMENT = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<time>[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)
CLOCK = r"^[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]+$"

_SPECIAL = f"(?:^[-.0-9])|(?:{NOT_FINITE})|(?:{TRUTH})"
_PERSON = ID_RULE.encode()


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16, person=_PERSON).hexdigest()


def _canonical_number(text: str) -> str:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        return text  # digits beyond float64: the text is all there is
    shortest = repr(value)
    if shortest.endswith(".0") or "e" in shortest:
        decimal = Decimal(shortest)
        if decimal == decimal.to_integral_value():
            return str(int(decimal))
    return shortest


def _canonical_moment(match: re.Match[str]) -> str:
    date, time, zone = match["date"], match["time"], match["zone"]
    if time is None:
        return date
    if time.count(":") == 1:
        time += ":00"
    if "." in time:
        time = time.rstrip("0").rstrip(".")
    if zone is None:
        return date if time == "00:00:00" else f"{date}T{time}"
    if zone not in ("Z", "+00:00", "+0000"):
        from datetime import UTC, datetime

        whole, _, rest = time.partition(".")  # the standard library keeps six digits only
        moment = datetime.fromisoformat(f"{date}T{whole}{zone}").astimezone(UTC)
        date, time = moment.strftime("%Y-%m-%d %H:%M:%S").split()
        time += f".{rest}" if rest else ""
    return f"{date}T{time}Z"


def canonical_text(value: str) -> str | None:
    """Return the one text of a table value, or None for what counts as missing.

    Examples
    --------
    >>> [canonical_text(v) for v in ("1.0", "01", "TRUE", "1e-7", "2024-05-01 00:00:00", "NaN", "")]
    ['1', '01', 'true', '1e-07', '2024-05-01', None, None]
    """
    if value == "" or re.fullmatch(PLAIN_INTEGER, value):
        return value or None
    if re.fullmatch(NUMBER, value):
        return _canonical_number(value)
    if re.fullmatch(NOT_FINITE, value):
        lowered = value.lower().lstrip("+")
        return None if lowered == "nan" else ("-inf" if lowered.startswith("-") else "inf")
    if re.fullmatch(TRUTH, value):
        return value.lower()
    if moment := re.fullmatch(MOMENT, value):
        try:
            return _canonical_moment(moment)
        except ValueError:  # 2024-02-31 with an offset: looks like a date and is none
            return value
    return value.rstrip("0").rstrip(".") if re.fullmatch(CLOCK, value) else value


def _canonical_strings(values: pl.Series) -> pl.Series:
    odd = values.filter(values.str.contains(_SPECIAL) & ~values.str.contains(PLAIN_INTEGER)).unique()
    odd = pl.concat([odd, values.filter(values == "").head(1)])
    changed = [(old, new) for old in odd.to_list() if (new := canonical_text(old)) != old]
    if not changed:
        return values
    old = [before for before, _ in changed]
    return values.replace_strict(old, [after for _, after in changed], default=values, return_dtype=pl.String)


def _canonical_lists(values: pl.Series) -> pl.Series:
    lists = values.arr.to_list() if isinstance(values.dtype, pl.Array) else values
    lengths = lists.list.len().to_list()
    flat = lists.filter(lists.list.len() > 0).explode() if any(lengths) else pl.Series([], dtype=pl.String)
    parts = _prefixed(canonical_column(flat)).to_list()
    texts: list[str | None] = []
    at = 0
    for length in lengths:
        if length is None:
            texts.append(None)
            continue
        texts.append(f"[{length}]" + "".join(parts[at : at + length]))
        at += length
    return pl.Series(values.name, texts, dtype=pl.String)


def canonical_column(values: pl.Series) -> pl.Series:
    """Return the canonical text of each value of a column; null where the value is missing, NaN or empty.

    Integral numbers become decimals, other floats the shortest text that reads back in the column's own
    width, dates ISO (a midnight without zone is its date), categories their names, lists their
    length-prefixed elements. A text that looks like one of these is written the same way, so a CSV agrees
    with a Parquet file.
    """
    dtype = values.dtype
    if isinstance(dtype, (pl.List, pl.Array)):
        return _canonical_lists(values)
    if isinstance(dtype, pl.Struct) or dtype in (pl.Binary, pl.Object):
        raise BadInput(
            f"column '{values.name}' holds {dtype} values, which are no model input here; "
            "name the columns to use with features= (--features)"
        )
    if dtype == pl.Boolean:
        return values.replace_strict([True, False], ["true", "false"], default=None, return_dtype=pl.String)
    if dtype.is_integer():
        return values.cast(pl.String)
    if dtype.is_temporal() and dtype != pl.Duration and dtype != pl.Date:
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
            values = values.dt.convert_time_zone("UTC")
        values = values.dt.to_string("iso")
    elif dtype == pl.Duration:
        values = values.dt.to_string("iso")
    return _canonical_strings(values.cast(pl.String))


def _prefixed(text: pl.Series) -> pl.Series:
    """Write each value with its length in bytes before it, and a missing one as a tag of its own."""
    frame = pl.DataFrame({"text": text})
    value = pl.concat_str(pl.col("text").str.len_bytes().cast(pl.String), pl.lit(":"), pl.col("text"))
    return frame.select(pl.when(pl.col("text").is_null()).then(pl.lit("n")).otherwise(value).alias("p"))["p"]


def hash_table(frame: pl.DataFrame) -> list[str]:
    """Return the content hash of each row over all columns of `frame`, taken by sorted name."""
    parts = []
    for name in sorted(frame.columns):
        prefix = f"{len(name.encode())}:{name}"
        parts.append((pl.lit(prefix) + _prefixed(canonical_column(frame[name]))).alias(name))
    rows = frame.select(pl.concat_str(parts).alias("row"))["row"]
    return [_hash(b"table:" + row.encode()) for row in rows]


def hash_texts(texts: Iterable[str]) -> list[str]:
    """Return the content hash of each text: its UTF-8 bytes, nothing trimmed or folded."""
    return [_hash(b"text:" + text.encode("utf-8", "surrogatepass")) for text in texts]


def hash_matrix(matrix: np.ndarray) -> list[str]:
    """Return the content hash of each row of a feature array (N, D): little-endian bytes, dtype and shape."""
    ordered = np.ascontiguousarray(matrix, dtype=matrix.dtype.newbyteorder("<"))
    head = f"array:{ordered.dtype.str}:{ordered.shape[1:]}:".encode()
    return [_hash(head + row.tobytes()) for row in ordered]


def hash_pixels(mode: str, size: tuple[int, int], pixels: bytes) -> str:
    """Return the content hash of one lossless image: Pillow's mode, width and height, pixel bytes."""
    return _hash(f"pixels:{mode}:{size[0]}x{size[1]}:".encode() + pixels)


def hash_file(content: bytes) -> str:
    """Return the content hash of one lossy image (JPEG, WebP): the bytes of its file."""
    return _hash(b"file:" + content)


def hash_images(images: np.ndarray) -> list[str]:
    """Return the content hash of each image of a uint8 array (N, H, W, C), equal to that of its PNG."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[images.shape[3]]
    size = (images.shape[2], images.shape[1])
    return [hash_pixels(mode, size, image.tobytes()) for image in np.ascontiguousarray(images)]


def number_twins(hashes: Sequence[str], label: pl.Series, rest: pl.DataFrame) -> list[str]:
    """Return one id per sample: its content hash, with ``-1``, ``-2``, ... after the first of exact twins.

    Twins are ordered by label, then by the remaining columns in the order of their names. Removing one of
    several identical samples may therefore rename its twin; nothing else renames anybody.
    """
    frame = pl.DataFrame({"hash": hashes, "at": np.arange(len(hashes))})
    twins = frame.filter(pl.col("hash").is_duplicated())
    if twins.is_empty():
        return list(hashes)
    at = twins["at"]
    keys = [canonical_column(label.cast(pl.String).gather(at)).alias("label")]
    keys += [canonical_column(rest[name].gather(at)).alias(f"rest:{name}") for name in sorted(rest.columns)]
    names = [key.name for key in keys]
    order = twins.with_columns(keys).sort(["hash", *names, "at"])
    order = order.with_columns(pl.int_range(pl.len()).over("hash").alias("count"))
    ids = list(hashes)
    for digest, row, count in order.select("hash", "at", "count").iter_rows():
        ids[row] = f"{digest}-{count}" if count else digest
    return ids


def user_ids(values: pl.Series, where: str, mixed: str | None = None) -> list[str]:
    """Return the user's own ids as text (1.0 is "1"); missing, doubled or mixed ones are an error."""
    name = values.name
    if mixed:
        raise BadInput(f"{where}: id column '{name}' mixes {mixed}; write all ids as text")
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
        raise BadInput(f"{where}: id column '{name}' holds {values.dtype} values; ids are text or numbers")
    text = canonical_column(values) if values.dtype.is_float() else values.cast(pl.String).replace("", None)
    missing = text.is_null().arg_true()
    if len(missing):
        rows = ", ".join(str(row + 1) for row in missing.head(5))
        raise BadInput(
            f"{where}: id column '{name}' is empty in {len(missing)} row{'s' * (len(missing) > 1)} (first: {rows}, "
            "counted from 1); fill it, or give id='content-hash' (--id content-hash)"
        )
    doubled = text.filter(text.is_duplicated()).unique().sort()
    if len(doubled):
        first = ", ".join(f"'{value}'" for value in doubled.head(3))
        raise BadInput(
            f"{where}: id column '{name}' holds {len(doubled)} id{'s' * (len(doubled) > 1)} more than once "
            f"(first: {first}); make them unique over all splits, or give id='content-hash' (--id content-hash)"
        )
    return text.to_list()


def fingerprint(samples: pl.DataFrame, schema: dict[str, object]) -> str:
    """Return 64 hex digits that stand for the whole dataset, whatever the order of its rows.

    The sum modulo 2^256 of one hash per row over (id, content hash, label, split), plus a hash of the count
    and of `schema` (kind and names of the inputs). Planted label noise must not be in `samples` yet.
    """
    total = int.from_bytes(_wide(canonical_json({"count": samples.height, "id_rule": ID_RULE, **schema})))
    columns = samples.select("sample_id", "content_hash", "label", "split")
    for row in columns.iter_rows():
        total += int.from_bytes(_wide("\0".join(f"{len(value)}:{value}" for value in row).encode()))
    return f"{total % 2**256:064x}"


def _wide(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=32, person=_PERSON).digest()


def stable_uniform(keys: Iterable[str], salt: str) -> np.ndarray:
    """Return one float64 in [0, 1) per key, decided by the key and `salt` alone (N,)."""
    head = f"{len(salt)}:{salt}:".encode()
    words = b"".join(hashlib.blake2b(head + key.encode(), digest_size=8).digest() for key in keys)
    return (np.frombuffer(words, dtype="<u8") >> np.uint64(11)) * 2.0**-53
