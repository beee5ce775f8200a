"""Small datasets that train in a second."""

import numpy as np
import polars as pl
import pytest

from tracesift.pipelines.dataset import Dataset, open_dataset


def make_blobs(size: int = 150, classes: int = 3, seed: int = 0) -> pl.DataFrame:
    """Well-separated clouds in five columns, ids that are no positions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % classes
    centres = 4 * rng.normal(size=(classes, 5))
    values = centres[labels] + rng.normal(size=(size, 5))
    ids = [f"s{number:04d}" for number in rng.permutation(10_000)[:size]]
    columns = {f"x{at}": values[:, at] for at in range(5)}
    return pl.DataFrame({"id": ids, "label": [f"class {label}" for label in labels], **columns})


@pytest.fixture(scope="session")
def blobs() -> Dataset:
    return open_dataset(make_blobs(), name="blobs")


@pytest.fixture(scope="session")
def squares() -> Dataset:
    """120 images of 8 x 8, two classes told apart by the bright half."""
    rng = np.random.default_rng(1)
    labels = np.arange(120) % 2
    pixels = rng.integers(0, 120, size=(120, 8, 8, 1), dtype=np.uint8)
    pixels[labels == 0, :4] += 120
    pixels[labels == 1, 4:] += 120
    folder = pl.DataFrame({"label": [f"half {label}" for label in labels]})
    return image_dataset(pixels, folder["label"].to_list())


@pytest.fixture(scope="session")
def sentences() -> Dataset:
    rng = np.random.default_rng(2)
    words = {"animal": ["cat", "dog", "horse", "cow"], "city": ["paris", "lagos", "lima", "oslo"]}
    rows = []
    for number in range(160):
        label = ("animal", "city")[number % 2]
        picked = [words[label][at] for at in rng.integers(0, 4, 3)]
        rows.append({"id": f"t{number:03d}", "text": f"{' '.join(picked)} number {number}", "label": label})
    return open_dataset(pl.DataFrame(rows), name="sentences")


def image_dataset(pixels: np.ndarray, labels: list[str]) -> Dataset:
    import datasets
    from PIL import Image

    images = [Image.fromarray(image[..., 0]) for image in pixels]
    ids = [f"i{number:04d}" for number in range(len(images))]
    made = datasets.Dataset.from_dict(
        {"id": ids, "image": images, "label": labels},
        features=datasets.Features(
            {"id": datasets.Value("string"), "image": datasets.Image(), "label": datasets.Value("string")}
        ),
    )
    return open_dataset(made, name="squares")
