"""Thumbnails and text previews."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tracesift.flows.reporting.previews import preview, thumbnail


def decoded(shown):
    head, body = shown["uri"].split(",")
    return head, Image.open(io.BytesIO(base64.b64decode(body)))


def test_small_pictures_keep_their_pixels_and_grow_by_a_whole_factor():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    shown = thumbnail(Image.fromarray(pixels))
    assert (shown["width"], shown["height"], shown["pixelated"]) == (96, 96, True)
    head, image = decoded(shown)
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((28, 28), (84, 84)),
        ((32, 16), (96, 48)),
        ((96, 96), (96, 96)),
        ((640, 320), (96, 48)),
        ((1, 500), (1, 96)),
    ],
)
def test_shown_size(size, expected):
    shown = thumbnail(Image.new("RGB", size))
    assert (shown["width"], shown["height"]) == expected
    assert shown["size"] == f"{size[0]} × {size[1]}"


def test_photographs_are_small_and_the_original_is_untouched():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    before = noise.tobytes()
    shown = thumbnail(noise)
    assert shown["uri"].startswith("data:image/jpeg;base64,")
    assert len(shown["uri"]) < 12_000
    assert noise.size == (300, 200)
    assert noise.tobytes() == before


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16"])
def test_every_mode_is_drawn(mode):
    head, image = decoded(thumbnail(Image.new(mode, (20, 20))))
    assert head.startswith("data:image/")
    assert image.size == (20, 20)


def test_sixteen_bits_are_stretched():
    pixels = np.linspace(1000, 3000, 100).reshape(10, 10).astype(np.int32)
    _, image = decoded(thumbnail(Image.fromarray(pixels)))
    assert (np.asarray(image).min(), np.asarray(image).max()) == (0, 255)


def test_long_text_is_cut_between_words_and_nothing_is_lost_before_the_limit():
    text = " ".join(f"word{i}" for i in range(150))
    shown = preview(text)
    assert 240 <= len(shown["head"]) <= 280
    assert shown["head"] + shown["tail"] == text
    assert shown["omitted"] == 0
    assert preview("y" * 10_000)["omitted"] == 10_000 - 280 - 2_000
    assert preview("short") == {"kind": "text", "head": "short", "tail": "", "omitted": 0}


def test_control_characters_are_replaced():
    assert preview("a\x00b\x1b[0m\tc\n")["head"] == "a\ufffdb\ufffd[0m\tc"


def test_a_row_of_a_table():
    shown = preview({f"c{i}": i / 3 for i in range(10)} | {"none": None})
    assert shown["first"][1] == ("c1", "0.333333")
    assert len(shown["first"]) == 8
    assert shown["rest"][-1] == ("none", "")
    assert preview(None) == {"kind": "none"}
