"""Small previews of samples for the report: a picture as a data URI, a text cut in two, a row of a table."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

SIDE = 96
"""Longest side of a thumbnail on the page, in CSS pixels."""

_PNG_BYTES = 5_000
"""A larger PNG is a photograph: it is written as JPEG, so that 200 of them stay near one megabyte."""

_HEAD, _TAIL = 280, 2_000
_FIELDS = 8
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def preview(content: Any) -> dict[str, Any]:
    """Return what the template needs to show one sample.

    Parameters
    ----------
    content : PIL image, str, mapping or None
        A sample as a person would see it.

    Returns
    -------
    dict
        `kind` is "image" (uri, width, height, pixelated, size), "text" (head, tail, omitted characters),
        "fields" (first, rest: pairs) or "none".
    """
    if content is None:
        return {"kind": "none"}
    if isinstance(content, Image.Image):
        return thumbnail(content)
    if isinstance(content, Mapping):
        pairs = [(str(name), short(value)) for name, value in content.items()]
        return {"kind": "fields", "first": pairs[:_FIELDS], "rest": pairs[_FIELDS:]}
    return _text(str(content))


def short(value: Any) -> str:
    """Return a value of a table's cell for people: numbers with six digits, long texts cut, nothing that is no text."""
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return _CONTROL.sub("\ufffd", text if len(text) <= 200 else text[:200] + " …")


def _text(text: str) -> dict[str, Any]:
    text = _CONTROL.sub("\ufffd", text.strip())
    if len(text) <= _HEAD + 80:  # a tail of a few words is not worth a click
        return {"kind": "text", "head": text, "tail": "", "omitted": 0}
    cut = text.rfind(" ", _HEAD - 40, _HEAD)
    cut = _HEAD if cut < 0 else cut
    tail = text[cut : cut + _TAIL]
    return {"kind": "text", "head": text[:cut], "tail": tail, "omitted": len(text) - cut - len(tail)}


def thumbnail(image: Image.Image) -> dict[str, Any]:
    """Return a picture of at most 96 pixels as a data URI, with the size to show it at.

    A small picture keeps its pixels and is enlarged by the browser, by a whole factor and without smoothing,
    since single pixels are what one wants to see there.

    Examples
    --------
    >>> shown = thumbnail(Image.new("L", (8, 8)))
    >>> shown["width"], shown["height"], shown["pixelated"]
    (96, 96, True)
    """
    width, height = image.size
    shown = _plain(image)
    factor = SIDE // max(width, height)
    if factor >= 1:
        size = (width * factor, height * factor)
    else:
        shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        size = shown.size
    return {
        "kind": "image",
        "uri": _data_uri(shown),
        "width": size[0],
        "height": size[1],
        "pixelated": factor >= 2,
        "size": f"{width} × {height}",
    }


def _plain(image: Image.Image) -> Image.Image:
    """Return a copy in a mode that every browser draws; 16-bit and float pictures are stretched to 8 bits."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image.copy()
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if not image.mode.startswith(("I", "F")):
        return image.convert("L" if image.mode == "1" else "RGB")
    pixels = np.asarray(image, dtype=np.float64)
    low, high = np.nanmin(pixels), np.nanmax(pixels)
    scaled = (pixels - low) / (high - low) * 255 if high > low else np.zeros_like(pixels)
    return Image.fromarray(np.nan_to_num(scaled).astype(np.uint8))


def _data_uri(image: Image.Image) -> str:
    kind, content = "png", _encoded(image, "PNG", optimize=True)
    if len(content) > _PNG_BYTES:
        ground = Image.new("RGB", image.size, "white")
        ground.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
        kind, content = min(
            (kind, content), ("jpeg", _encoded(ground, "JPEG", quality=85)), key=lambda pair: len(pair[1])
        )
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()
