"""A share of a dataset protected and written: exact, by id, opened again with the truth, whole or not at all."""

import datetime
import json

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tracesift.catalog.files import sha256
from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.protection import writing
from tracesift.pipelines.protection.projecting import project
from tracesift.pipelines.protection.protecting import TRUTH_COLUMN, drawn, protect
from tracesift.pipelines.protection.writing import write_protected
from tracesift.pipelines.sources import images


@pytest.fixture(scope="module")
def digits():
    return open_dataset("digits")


def texts(count=120, **columns):
    rows = {
        "text": [f"some words about {at} and more" for at in range(count)],
        "kind": ["x", "y", "z"] * (count // 3),
    }
    return pl.DataFrame(rows | columns)


@pytest.mark.parametrize("share", [0.001, 0.25, 1.0])
def test_the_share_is_exact_in_train_alone_and_nests(share, digits):
    train = digits.rows("train")
    made = protect(digits, "class_patches", share=share)
    assert len(made.rows) == round(share * len(train))
    assert set(made.rows) <= set(train)
    assert set(made.rows) <= set(drawn(digits, 1.0, 0))
    if share < 1:
        assert set(made.rows) <= set(drawn(digits, 2 * share, 0))
        assert set(made.rows) != set(drawn(digits, share, 1))
    difference = np.abs(made.inputs.astype(int) - digits.inputs[made.rows]).max((1, 2, 3))
    assert (difference == 8).all()


def test_which_samples_does_not_depend_on_the_order_of_the_source():
    frame = texts()
    ids = protect(open_dataset(frame), "rare_token_trigger", share=0.3).changed
    shuffled = frame.sample(fraction=1, shuffle=True, seed=1)
    assert protect(open_dataset(shuffled), "rare_token_trigger", share=0.3).changed == ids


@pytest.mark.parametrize("chunk", [1024, 100])
def test_images_written_and_opened_again(chunk, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_CHUNK", chunk)
    made = protect(digits, "lsp", share=0.4, seed=2, settings={"eps": 9})
    heard = []
    record = write_protected(made, tmp_path / "deep" / "out", progress=lambda *told: heard.append(told))
    assert heard[0] == (0, 1797, "samples written")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "deep/out/data.parquet", "deep/out/truth/protection.json",
    ]  # fmt: skip
    again = open_dataset(tmp_path / "deep" / "out")
    assert again.samples["sample_id"].to_list() == digits.samples["sample_id"].to_list()
    assert again.samples["label"].to_list() == digits.samples["label"].to_list()
    assert again.samples["split"].to_list() == digits.samples["split"].to_list()
    expected = digits.inputs.copy()
    expected[made.rows] = made.inputs
    assert (again.inputs == expected).all()
    truth = again.samples[TRUTH_COLUMN]
    assert truth.arg_true().to_list() == made.rows.tolist()
    assert truth.is_null().to_list() == (digits.samples["split"] != "train").to_list()
    assert record == json.loads((tmp_path / "deep" / "out" / "truth" / "protection.json").read_text())
    assert record["schema_version"] == 1
    assert record["changed"] == made.changed == sorted(made.changed)
    assert record["data"]["fingerprint"] == again.fingerprint
    assert record["data"]["sha256"] == sha256(tmp_path / "deep" / "out" / "data.parquet")
    assert record["source"]["fingerprint"] == digits.fingerprint
    assert (record["method"], record["seed"], record["share"]) == ("lsp", 2, 0.4)
    assert record["parameters"] == {"eps": 9, "patch": None}
    assert record["counts"]["changed"] == sum(record["counts"]["changed_by_label"].values()) == len(made.rows)
    with pytest.raises(BadInput, match="protect the plain source"):
        protect(again, "lsp")


def test_the_same_bytes_again(digits, tmp_path):
    for name in ("one", "two"):
        write_protected(
            protect(digits, "error_min_noise_classwise", share=0.1, settings={"rounds": 1}), tmp_path / name
        )
    for file in (writing.DATA, writing.RECORD):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_texts_with_groups_known_truth_and_ids_of_their_own(tmp_path):
    frame = texts(
        key=[f"k{at:03d}" for at in range(120)], owner=[f"o{at % 7}" for at in range(120)],
        day=[datetime.date(2024, 1, 1)] * 120, label_true=["x"] * 120,
    )  # fmt: skip
    dataset = open_dataset(frame, id="key", label="kind", text="text", group="owner")
    made = protect(dataset, "rare_token_trigger", share=0.5)
    record = write_protected(made, tmp_path / "out")
    again = open_dataset(tmp_path / "out", group="group")
    for name in ("sample_id", "label", "split", "label_true", "group"):
        assert again.samples[name].to_list() == dataset.samples[name].to_list(), name
    tokens = dict(zip(record["classes"], record["report"]["tokens"], strict=True))
    for before, after, label, changed in zip(
        dataset.inputs, again.inputs, again.samples["label"], again.samples[TRUTH_COLUMN], strict=True
    ):
        assert (tokens[label] in after.split()) is bool(changed)
        assert after == before or changed
    assert record["data"]["fingerprint"] == again.fingerprint


@pytest.mark.parametrize("in_memory", [1 << 30, 0])
def test_a_folder_of_colour_photos(in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "IN_MEMORY", in_memory)
    rng = np.random.default_rng(0)
    for at in range(40):
        folder = tmp_path / "photos" / f"kind/{'ab'[at % 2]}".replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (10, 12, 3), dtype=np.uint8)).save(folder / f"{at}.png")
    dataset = open_dataset(tmp_path / "photos")
    write_protected(protect(dataset, "one_pixel", share=0.5), tmp_path / "out")
    again = open_dataset(tmp_path / "out")
    assert again.samples["sample_id"].to_list() == dataset.samples["sample_id"].to_list()
    changed = again.samples[TRUTH_COLUMN].fill_null(value=False).to_numpy()
    assert isinstance(dataset.inputs, images.ImageFiles) is (in_memory == 0)
    assert ((again.inputs[:] != dataset.inputs[:]).any(3).sum((1, 2)) == changed).all()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ZeroDivisionError])
def test_stopped_while_writing_it_leaves_nothing(stop, digits, tmp_path, monkeypatch):
    def stopped(*_):
        raise stop

    monkeypatch.setattr(writing, "write_json", stopped)
    made = protect(digits, "class_patches", share=0.1)
    (tmp_path / "out").mkdir()
    with pytest.raises(stop):
        write_protected(made, tmp_path / "out")
    assert [*tmp_path.iterdir()] == [tmp_path / "out"]
    assert not [*(tmp_path / "out").iterdir()]
    monkeypatch.undo()
    write_protected(made, tmp_path / "out")  # an empty folder is as good as none
    assert len(open_dataset(tmp_path / "out")) == 1797


def test_refusals(digits, tmp_path):
    for share in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(BadInput, match="lies in"):
            protect(digits, "lsp", share=share)
    with pytest.raises(BadInput, match="of 1455 training samples that is none"):
        protect(digits, "lsp", share=0.0001)
    with pytest.raises(UnknownName, match=r"lsp has no setting 'esp'.*did you mean 'eps'"):
        protect(digits, "lsp", settings={"esp": 3})
    with pytest.raises(BadInput, match="lsp: eps='6' must be a number"):
        protect(digits, "lsp", settings={"eps": "6"})
    with pytest.raises(BadInput, match="project: penalty=True must be a number"):
        project(digits, settings={"penalty": True})
    with pytest.raises(UnknownName, match="did you mean 'lsp'"):
        protect(digits, "lspp")
    with pytest.raises(BadInput, match="methods for these: rare_token_trigger"):
        protect(open_dataset(texts()), "lsp")
    table = pl.DataFrame({"a": np.arange(60) % 7 / 3, "label": ["x", "y"] * 30})
    with pytest.raises(BadInput, match="there is no method for these"):
        protect(open_dataset(table), "rare_token_trigger")
    made = protect(digits, "lsp", share=0.1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, says in (("full", "holds something"), ("file", "is a file"), ("file/deeper/out", "is a file")):
        with pytest.raises(BadInput, match=says):
            write_protected(made, tmp_path / name)
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"
