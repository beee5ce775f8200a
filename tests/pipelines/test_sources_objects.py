"""Python objects and the datasets library: selections, class names, splits, torch datasets, the loading path."""

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import TensorDataset

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import open_dataset

FRAME = pl.DataFrame({"text": [f"words number {i}" for i in range(12)], "mood": [i % 3 for i in range(12)]})
NAMES = ["sad", "calm", "glad"]


def held(frame: pl.DataFrame = FRAME) -> datasets.Dataset:
    return datasets.Dataset.from_polars(frame).cast_column("mood", datasets.ClassLabel(names=NAMES))


def test_class_labels_become_their_names():
    opened = open_dataset(held(), val=0, test=0)
    assert opened.classes == ("calm", "glad", "sad")
    by_text = dict(zip(opened.inputs, opened.samples["label"], strict=True))
    assert by_text["words number 4"] == "calm"
    assert "Column 'mood' is taken as the label." in opened.notes
    told = open_dataset(held(), label="mood", val=0, test=0).notes
    assert not any("taken as the label" in note for note in told)


def test_a_selection_or_shuffle_holds_only_its_rows():
    chosen = held().shuffle(seed=1).select([3, 1, 7, 5])
    assert len(chosen.data) == 12  # the trap: the table below still has every row
    opened = open_dataset(chosen, val=0, test=0)
    assert sorted(opened.inputs) == sorted(chosen["text"])
    whole = set(open_dataset(held(), val=0, test=0).samples["sample_id"])
    assert set(opened.samples["sample_id"]) < whole


def test_keys_of_a_dataset_dict_are_splits(tmp_path):
    parts = datasets.DatasetDict(
        {"train": held(FRAME.head(6)), "validation": held(FRAME[6:9]), "test": held(FRAME[9:])}
    )
    parts.save_to_disk(tmp_path / "saved")
    for source in (parts, tmp_path / "saved"):
        opened = open_dataset(source)
        assert opened.samples["split"].value_counts().sort("split").rows() == [
            ("test", 3),
            ("train", 6),
            ("val", 3),
        ]
        assert opened.classes == ("calm", "glad", "sad")
        assert "Column 'mood' is taken as the label." in opened.notes
    parts["extra"] = parts.pop("validation")
    with pytest.raises(BadInput, match=r"'extra' is no split known here .*val= and test="):
        open_dataset(parts)
    (tmp_path / "saved" / "train" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(BadInput, match="not a whole save_to_disk folder"):
        open_dataset(tmp_path / "saved")


def test_hub_names_go_through_load_dataset(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "news").mkdir()
    for name, frame in (("train", FRAME.head(8)), ("test", FRAME.tail(4))):
        frame.write_parquet(tmp_path / "news" / f"{name}.parquet")
    opened = open_dataset(f"hf:{tmp_path / 'news'}", label="mood")
    assert opened.name == "news"
    assert len(opened.rows("test")) == 4
    assert open_dataset(f"hf:{tmp_path / 'news'}:default", label="mood").fingerprint == opened.fingerprint
    with pytest.raises(BadInput, match="could not be loaded"):
        open_dataset(f"hf:{tmp_path / 'nothing'}")
    with pytest.raises(BadInput, match="needs a name"):
        open_dataset("hf:")


def test_images_in_datasets_have_the_ids_of_their_files(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5), dtype=np.uint8)
    for at, image in enumerate(pixels):
        place = tmp_path / NAMES[at % 2]
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{at}.png")
    by_folder = open_dataset(tmp_path, val=0, test=0)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    rows = {"image": [Image.fromarray(image) for image in pixels], "label": [0, 1, 0, 1]}
    opened = open_dataset(datasets.Dataset.from_dict(rows, features=features), val=0, test=0)
    assert opened.samples["sample_id"].to_list() == by_folder.samples["sample_id"].to_list()
    assert opened.samples["label"].to_list() == by_folder.samples["label"].to_list()
    assert opened.samples.columns == ["sample_id", "split", "label", "label_true", "content_hash"]


class Pictures(TorchDataset):
    classes = ("zero", "one")

    def __init__(self, images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], row % 2


def test_torch_datasets(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 4), dtype=np.uint8)
    channels_last = pixels.transpose(0, 2, 3, 1)
    kinds = [
        torch.from_numpy(pixels),
        torch.from_numpy(pixels).float() / 255,
        [Image.fromarray(image) for image in channels_last],
    ]
    seen = set()
    for images in kinds:
        opened = open_dataset(Pictures(images), ids=list("fedcba"), val=0, test=0)
        assert opened.samples["sample_id"].to_list() == list("abcdef")
        np.testing.assert_array_equal(opened.inputs, channels_last[::-1])
        assert opened.samples["label"].to_list() == ["one", "zero"] * 3
        seen.add(opened.fingerprint)
    assert len(seen) == 1
    features = TensorDataset(torch.arange(8.0).reshape(4, 2), torch.tensor([0, 1, 0, 1]))
    opened = open_dataset(features, ids=torch.tensor([10, 9, 8, 7]), val=0, test=0)
    assert opened.samples["sample_id"].to_list() == ["10", "7", "8", "9"]
    np.testing.assert_array_equal(opened.inputs[:, 0], [0, 6, 4, 2])
    texts = [("some text", "a"), ("other text", "b")]
    assert sorted(open_dataset(texts, val=0, test=0).inputs) == ["other text", "some text"]


@pytest.mark.parametrize(
    ("source", "ids", "message"),
    [
        (Pictures(torch.randn(4, 3, 5, 5)), None, "normalising transform"),
        (Pictures(torch.zeros(4, 3, 5, 5, dtype=torch.uint8)), ["a", "b"], "2 entries where the dataset has 4"),
        (Pictures(torch.zeros(4, 3, 5, 5, dtype=torch.uint8)), [1, "b", 2, 3], "mixes int and str"),
        (Pictures(torch.zeros(4, 3, 5, 5, dtype=torch.uint8)), ["a", "a", "b", "c"], "more than once"),
        ([("a", [1, 2])], None, "multi-label"),
        ([("a", {"name": "x"})], None, "its label is a dict of several fields"),
        ([("a", "b", "c")], None, "no .input, label. pair"),
        ([], None, "no rows"),
        (3, None, "no source known here"),
        (pl.Series([1]).to_pandas(), None, "pandas.Series"),
        ({"train": FRAME}, None, "not a datasets.Dataset"),
    ],
)  # fmt: skip
def test_objects_that_cannot_be_used(source, ids, message):
    with pytest.raises(BadInput, match=message):
        open_dataset(source, ids=ids)


def test_pandas_index_and_mixed_columns_are_told():
    frame = FRAME.to_pandas().rename_axis("key")
    opened = open_dataset(frame, label="mood", val=0, test=0)
    assert any("index 'key'" in note for note in opened.notes)
    frame["odd"] = [1, "a"] * 6
    with pytest.raises(BadInput, match="mixed types"):
        open_dataset(frame, label="mood")


def test_the_source_is_named():
    opened = open_dataset(FRAME, label="mood", text="text")
    assert opened.source == "<polars.dataframe.frame.DataFrame>"
    assert open_dataset(FRAME.lazy(), label="mood").fingerprint == opened.fingerprint
