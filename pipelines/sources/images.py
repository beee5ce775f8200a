"""Image files: found in class folders, hashed, brought to one shape, and decoded at once or on demand.

Up to about a gigabyte of pixels is decoded once into a uint8 array; beyond that each access decodes what it
needs. Images of one size stay as they are up to 224 pixels a side; others are resized (bilinear).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from PIL import Image, UnidentifiedImageError

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.identity import hash_file, hash_pixels
from tracesift.pipelines.sources.loaded import ImageList, Loaded, known_split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
LARGEST_SIDE, SMALLEST_SIDE = 224, 8
IN_MEMORY = 1 << 30  # bytes of decoded pixels kept at once
_LOSSY = frozenset({"JPEG", "MPO", "WEBP"})
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_CHUNK = 64

File = Path | bytes
Item = TypeVar("Item")
Result = TypeVar("Result")


def is_image(path: Path) -> bool:
    """Whether a path names an image by its suffix and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _open(file: File) -> Image.Image:
    return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Map in the order of `items`; Pillow decodes outside the interpreter's lock."""
    chunks = [items[at : at + _CHUNK] for at in range(0, len(items), _CHUNK)]

    def work(chunk: Sequence[Item]) -> list[Result]:
        return [function(item) for item in chunk]

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return [result for results in pool.map(work, chunks) for result in results]


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Images decoded on demand: index with an array of rows to get uint8 (n, H, W, C)."""

    files: tuple[File, ...]
    image_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C), as an array would have it."""
        return (len(self.files), *self.image_shape)

    @property
    def dtype(self) -> np.dtype:
        """Always uint8."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: int | slice | Iterable[int] | np.ndarray) -> np.ndarray:
        if not isinstance(rows, (int, slice)):
            rows = np.asarray(rows)
            rows = (
                rows if rows.dtype == bool else rows.astype(np.int64)
            )  # an empty list is an array of floats
        wanted = np.arange(len(self.files))[rows]
        pixels = partial(_pixels, shape=self.image_shape)
        if np.ndim(wanted) == 0:
            return pixels(self.files[int(wanted)])
        decoded = _in_threads(pixels, [self.files[row] for row in wanted])
        return np.stack(decoded) if decoded else np.empty((0, *self.image_shape), dtype=np.uint8)

    def take(self, order: np.ndarray) -> ImageFiles:
        """Return the same images in another order, or some of them; nothing is decoded."""
        return ImageFiles(tuple(self.files[int(row)] for row in order), self.image_shape)

    def sizes(self) -> set[tuple[int, int]]:
        """Return the (height, width) that the files have, from their heads."""
        probes = _in_threads(_probe, self.files)
        return {(probe[1], probe[0]) for probe in probes if not isinstance(probe, str)}

    def original(self, row: int) -> Image.Image:
        """Return one image as it is in its file, for a person to look at; `filename` says where it lies."""
        with _open(self.files[row]) as image:
            shown = _displayable(image).copy()
        if isinstance(file := self.files[row], Path):
            shown.filename = str(file.absolute())  # type: ignore[attr-defined]
        return shown


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """What a list of files became; `kept` says which of them are images (all, unless some were skipped)."""

    pixels: np.ndarray | ImageFiles
    originals: ImageFiles
    hashes: list[str]
    kept: np.ndarray
    skipped: tuple[str, ...]
    notes: tuple[str, ...]


def _displayable(image: Image.Image) -> Image.Image:
    """Resolve what is no pixel value by itself: palettes to colours, bits to grey."""
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    return image.convert("L") if image.mode == "1" else image


def _pixels(file: File, shape: tuple[int, int, int]) -> np.ndarray:
    with _open(file) as image:
        return _fit(_displayable(image), shape)


def _fit(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    if image.mode.startswith(("I", "F")):  # 16 bits and more: the array of eight would clip, so scale
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.round(values * (255 / max(float(values.max()), 255.0))).astype(np.uint8))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def _why(error: BaseException) -> str:
    """Return what is wrong with a file; Pillow's own sentence names an object in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "it begins like no known image format"
    return str(error) or type(error).__name__


def _probe(file: File) -> tuple[int, int, bool] | str:
    """Return width, height and whether an image is grey, from its head; or why it cannot be read."""
    try:
        with _open(file) as image:
            return (*image.size, image.mode in ("1", "L", "LA") or image.mode.startswith(("I", "F")))
    except _UNREADABLE as error:
        return _why(error)


def _read(file: File, shape: tuple[int, int, int], *, keep: bool) -> tuple[str, np.ndarray | None] | str:
    """Return content hash and pixels (None unless `keep`) of one file, or why it cannot be read."""
    try:
        content = file if isinstance(file, bytes) else file.read_bytes()
        with _open(content) as image:
            if image.format in _LOSSY:
                if not keep:
                    image.draft("RGB", (1, 1))  # the cheapest decoding that still meets a cut file
                image.load()
                return hash_file(content), _fit(_displayable(image), shape) if keep else None
            plain = _displayable(image)
            if keep and (plain.height, plain.width, {"L": 1, "RGB": 3}.get(plain.mode)) == shape:
                pixels = np.asarray(plain)  # as it is: the common case, and twice as fast
                return hash_pixels(plain.mode, plain.size, pixels.tobytes()), pixels.reshape(shape)
            digest = hash_pixels(plain.mode, plain.size, plain.tobytes())
            return digest, _fit(plain, shape) if keep else None
    except _UNREADABLE as error:
        return _why(error)


def _target(probes: list[tuple[int, int, bool]]) -> tuple[tuple[int, int, int], list[str]]:
    """Return the shape that all images get, and a note where that changes any."""
    channels = 1 if all(grey for _, _, grey in probes) else 3
    sizes = {(width, height) for width, height, _ in probes}
    if len(sizes) == 1:
        width, height = sizes.pop()
        scale = min(1.0, LARGEST_SIDE / max(width, height))
        shape = (max(1, round(height * scale)), max(1, round(width * scale)), channels)
        notes = [] if scale == 1 else [f"images of {width}x{height} are resized to {shape[1]}x{shape[0]}."]
        return shape, notes
    median = int(np.median([min(width, height) for width, height, _ in probes]))
    side = min(max(median, SMALLEST_SIDE), LARGEST_SIDE)
    return (side, side, channels), [f"images of {len(sizes)} sizes are resized to {side}x{side}."]


def decode(listed: ImageList, names: Sequence[str], *, on_error: str) -> DecodedImages:
    """Hash and decode image files; an unreadable one is an error, or left out with ``on_error="skip"``."""
    probes = _in_threads(_probe, listed.files)
    good = [probe for probe in probes if not isinstance(probe, str)]
    if not good:
        raise BadInput(f"{names[0]}: none of {len(names)} files can be read as an image ({probes[0]})")
    shape, notes = _target(good)
    in_memory = len(good) * int(np.prod(shape)) <= IN_MEMORY
    results = _in_threads(partial(_read, shape=shape, keep=in_memory), listed.files)
    bad = [(name, why) for name, why in zip(names, results, strict=True) if isinstance(why, str)]
    if bad and on_error != "skip":
        name, why = bad[0]
        raise BadInput(
            f"{name}: cannot be read as an image ({why}; {len(bad)} such); mend it, or leave such files out "
            'with on_error="skip" (--on-error skip)'
        )
    kept = np.array([not isinstance(result, str) for result in results])
    whole = [result for result in results if not isinstance(result, str)]
    if bad:
        notes.append(
            f"{len(bad)} unreadable image {'file is' if len(bad) == 1 else 'files are'} left out: "
            f"{', '.join(name for name, _ in bad[:5])}."
        )
    originals = ImageFiles(tuple(file for file, keep in zip(listed.files, kept, strict=True) if keep), shape)
    pixels: np.ndarray | ImageFiles = originals
    if in_memory:
        pixels = np.stack([array for _, array in whole if array is not None])
    else:
        notes.append("images are decoded when they are needed, for together they exceed a gigabyte.")
    return DecodedImages(
        pixels=pixels,
        originals=originals,
        hashes=[digest for digest, _ in whole],
        kept=kept,
        skipped=tuple(name for name, _ in bad),
        notes=tuple(notes),
    )


def _folders_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _classes_in(folder: Path) -> dict[Path, tuple[list[Path], list[Path]]]:
    """Return the images below each sub-folder, and the linked folders, which are not gone into."""
    found = {}
    for child in _folders_in(folder):
        images: list[Path] = []
        links: list[Path] = []
        for path in sorted(child.rglob("*")):
            if is_image(path):
                images.append(path)
            elif path.is_symlink() and path.is_dir():
                links.append(path)
        found[child] = images, links
    return found


def _holds_class_folders(folder: Path) -> bool:
    return any(child.is_dir() and any(map(is_image, child.rglob("*"))) for child in folder.iterdir())


def has_class_folders(folder: Path) -> bool:
    """Whether some sub-folder holds images."""
    return _holds_class_folders(folder)


def read_class_folders(folder: Path) -> Loaded:
    """Return a folder of class folders; ``train``, ``val``, ``test`` above them are splits.

    Links within the folder are followed where they stand for an image, a class folder or a split, and noted below
    that; one that leads out of the folder is an error, because what it shows is not what was given.
    """
    children = _folders_in(folder)
    splits = [path for path in children if known_split(path.name) and _holds_class_folders(path)]
    others = [path.name for path in children if path not in splits and any(map(is_image, path.rglob("*")))]
    if splits and others:
        raise BadInput(
            f"{folder}: holds splits ({', '.join(p.name for p in splits)}) beside other folders of images "
            f"({', '.join(others[:3])}); keep one kind"
        )
    files, labels, split = [], [], []
    empty: list[Path] = []
    linked: list[Path] = []
    for part in splits or [folder]:
        for place, (images, links) in _classes_in(part).items():
            files += images
            linked += links
            labels += [place.name] * len(images)
            split += [known_split(part.name)] * len(images)
            empty += [] if images else [place]
    _check_links(folder, [*files, *linked])
    notes = [_of_no_class([place for place in empty if place.name not in labels], folder)]
    notes += [f"'{path.relative_to(folder)}' links to a folder and is not gone into." for path in linked]
    notes += [
        f"folder '{path.name}' holds no class folder with an image and is no split."
        for path in children
        if splits and path not in splits and known_split(path.name)
    ]
    paths = [str(path.relative_to(folder)) for path in files]
    return Loaded(
        table=pl.DataFrame({"label": labels, "path": paths}),
        name=folder.resolve().name,
        arrays=ImageList(files=tuple(path.absolute() for path in files)),
        split=pl.Series("split", split) if splits else None,
        label="label",
        root=folder,
        notes=tuple(filter(None, notes)),
    )


def read_unlabelled(folder: Path) -> Loaded:
    """Return the images of a folder and of all folders in it, which say nothing of classes or splits."""
    files = [path for path in sorted(folder.rglob("*")) if is_image(path)]
    _check_links(folder, files)
    return Loaded(
        table=pl.DataFrame({"path": [str(path.relative_to(folder)) for path in files]}),
        name=folder.resolve().name,
        arrays=ImageList(files=tuple(path.absolute() for path in files)),
        root=folder,
    )


def _of_no_class(empty: Sequence[Path], folder: Path) -> str:
    """Say which folders are no class, because no image lies in them."""
    names = [f"'{path.relative_to(folder)}'" for path in empty]
    if not names:
        return ""
    told = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    if len(names) == 1:
        return f"folder {told} holds no image and is no class."
    return f"folders {told} hold no image and are no classes."


def _check_links(folder: Path, files: Sequence[Path]) -> None:
    """Refuse an image that lies outside of the folder and is only linked from it."""
    root = folder.resolve()
    homes: dict[Path, Path] = {}
    for file in files:
        if file.parent not in homes:
            homes[file.parent] = file.parent.resolve()
        lies = file.resolve() if file.is_symlink() else homes[file.parent]
        if not lies.is_relative_to(root):
            link = next(part for part in (*reversed(file.parents), file) if _leads_out(part, folder, root))
            raise BadInput(
                f"{link}: a link that leads out of {folder}, to {link.resolve()}; copy what it leads to in its place "
                "(cp -rL copies a folder with all its links), or give the folder where the images lie"
            )


def _leads_out(path: Path, folder: Path, root: Path) -> bool:
    below = path != folder and path.is_relative_to(folder)
    return below and path.is_symlink() and not path.resolve().is_relative_to(root)
