"""Images: class folders, sizes, unreadable files, decoding on demand, IDX folders, images in tables."""

import gzip
import io

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.sources import images


def folder_of(root, sizes=((8, 8),) * 12, suffix="png", mode="RGB", classes=("cat", "dog")):
    draw = np.random.default_rng(0)
    for at, (width, height) in enumerate(sizes):
        place = root / classes[at % len(classes)]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 256, (height, width) if mode == "L" else (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{at:02d}.{suffix}")
    return root


def test_class_folders(tmp_path):
    opened = open_dataset(folder_of(tmp_path / "pets"), val=0, test=0)
    assert (opened.name, opened.kind, opened.classes) == ("pets", "image", ("cat", "dog"))
    assert opened.inputs.shape == (12, 8, 8, 3)
    assert opened.samples["path"].str.starts_with("cat/").sum() == 6
    for row, path in enumerate(opened.samples["path"]):
        with Image.open(tmp_path / "pets" / path) as image:
            np.testing.assert_array_equal(opened.inputs[row], np.asarray(image))
            assert opened.content([row])[0].tobytes() == image.tobytes()
            assert opened.content([row])[0].filename == str(tmp_path / "pets" / path)
        assert opened.samples["label"][row] == path.split("/")[0]


def test_splits_above_the_classes(tmp_path):
    for at, split in enumerate(("train", "val", "test")):
        folder_of(tmp_path / split, sizes=((8, 8 + at),) * 4)
    opened = open_dataset(tmp_path)
    assert opened.samples["split"].value_counts().sort("split")["count"].to_list() == [4, 4, 4]
    assert opened.classes == ("cat", "dog")
    folder_of(tmp_path / "birds")
    with pytest.raises(BadInput, match=r"holds splits .* beside other folders of images .birds"):
        open_dataset(tmp_path)


def test_sizes_meet_at_the_median_side_and_are_told(tmp_path):
    opened = open_dataset(folder_of(tmp_path, sizes=[(10, 12), (20, 30), (40, 22)] * 4), val=0, test=0)
    assert opened.inputs.shape == (12, 20, 20, 3)
    assert any("3 sizes are resized to 20x20" in note for note in opened.notes)
    assert opened.content([0])[0].size in {(10, 12), (20, 30), (40, 22)}


def test_sizes_are_bounded(tmp_path):
    tiny = open_dataset(folder_of(tmp_path / "tiny", sizes=[(3, 4), (5, 3)] * 4), val=0, test=0)
    assert tiny.inputs.shape[1:3] == (8, 8)
    large = open_dataset(folder_of(tmp_path / "large", sizes=[(448, 300)] * 4, suffix="jpg"), val=0, test=0)
    assert large.inputs.shape[1:3] == (150, 224)


def test_grey_stays_one_channel(tmp_path):
    assert open_dataset(folder_of(tmp_path, mode="L"), val=0, test=0).inputs.shape == (12, 8, 8, 1)


def test_an_unreadable_file_is_named_or_skipped(tmp_path):
    folder_of(tmp_path)
    whole = open_dataset(tmp_path, val=0, test=0)
    (tmp_path / "cat" / "bad.png").write_bytes(b"no image")
    (tmp_path / "dog" / "cut.png").write_bytes((tmp_path / "dog" / "01.png").read_bytes()[:120])
    with pytest.raises(BadInput, match=r"cat/bad\.png: cannot be read as an image .*2 such"):
        open_dataset(tmp_path)
    opened = open_dataset(tmp_path, on_error="skip", val=0, test=0)
    assert opened.skipped == ("cat/bad.png", "dog/cut.png")
    assert any("2 unreadable image files are left out" in note for note in opened.notes)
    assert opened.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(opened.inputs, whole.inputs)
    (tmp_path / "dog" / "cut.png").unlink()
    one = open_dataset(tmp_path, on_error="skip", val=0, test=0)
    assert "1 unreadable image file is left out: cat/bad.png." in one.notes


def test_large_sets_are_decoded_on_demand(tmp_path, monkeypatch):
    folder_of(tmp_path, sizes=[(10, 12), (20, 30)] * 6)
    at_once = open_dataset(tmp_path, val=0, test=0)
    monkeypatch.setattr(images, "IN_MEMORY", 100)
    lazy = open_dataset(tmp_path, val=0, test=0)
    assert isinstance(lazy.inputs, images.ImageFiles)
    assert lazy.inputs.shape == at_once.inputs.shape
    assert lazy.inputs.dtype == np.uint8
    assert len(lazy.inputs) == 12
    rows = np.array([7, 0, 7])
    np.testing.assert_array_equal(lazy.inputs[rows], at_once.inputs[rows])
    np.testing.assert_array_equal(lazy.inputs[3], at_once.inputs[3])
    np.testing.assert_array_equal(lazy.inputs[2:9:3], at_once.inputs[2:9:3])
    assert lazy.inputs[[]].shape == (0, *at_once.inputs.shape[1:])
    assert lazy.fingerprint == at_once.fingerprint
    assert any("decoded when they are needed" in note for note in lazy.notes)
    (tmp_path / "cat" / "00.png").write_bytes((tmp_path / "cat" / "00.png").read_bytes()[:120])
    with pytest.raises(BadInput, match=r"00\.png: cannot be read"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_files_are_known_by_their_bytes(tmp_path, suffix, monkeypatch):
    folder_of(tmp_path, suffix=suffix)
    first = open_dataset(tmp_path, val=0, test=0)
    monkeypatch.setattr(images, "IN_MEMORY", 100)
    assert open_dataset(tmp_path, val=0, test=0).fingerprint == first.fingerprint
    victim = next((tmp_path / "cat").iterdir())
    victim.write_bytes(victim.read_bytes() + b"\0")
    assert (
        len(set(open_dataset(tmp_path, val=0, test=0).samples["sample_id"]) - set(first.samples["sample_id"]))
        == 1
    )


def test_palette_and_transparency_are_their_colours(tmp_path):
    folder_of(tmp_path / "plain", sizes=((8, 8),) * 4)
    for path in sorted((tmp_path / "plain").rglob("*.png")):
        place = tmp_path / "palette" / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            flat = image.quantize(16).convert("RGB")
        flat.save(path)
        flat.quantize(16).save(place / path.name)
    plain = open_dataset(tmp_path / "plain", val=0, test=0)
    assert set(open_dataset(tmp_path / "palette", val=0, test=0).samples["sample_id"]) == set(
        plain.samples["sample_id"]
    )


def test_images_without_classes_and_single_files(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(BadInput, match="images without class folders"):
        open_dataset(tmp_path)
    with pytest.raises(BadInput, match="one image is no dataset"):
        open_dataset(tmp_path / "a.png")


def test_images_named_or_held_by_a_table(tmp_path):
    folder_of(tmp_path / "pics")
    by_folder = open_dataset(tmp_path / "pics", val=0, test=0)
    paths = sorted(path.relative_to(tmp_path) for path in (tmp_path / "pics").rglob("*.png"))
    named = pl.DataFrame(
        {"file": [str(path) for path in paths], "label": [path.parent.name for path in paths]}
    )
    named.write_csv(tmp_path / "list.csv")
    opened = open_dataset(tmp_path / "list.csv", val=0, test=0)
    assert opened.samples.select("sample_id", "label").equals(by_folder.samples.select("sample_id", "label"))
    held = named.select("label", image=pl.Series([(tmp_path / path).read_bytes() for path in paths]))
    held.write_parquet(tmp_path / "held.parquet")
    opened = open_dataset(tmp_path / "held.parquet", val=0, test=0)
    np.testing.assert_array_equal(opened.inputs, by_folder.inputs)
    holed = held.with_columns(image=pl.when(pl.int_range(pl.len()) != 2).then("image"))
    with pytest.raises(BadInput, match="row 3, column 'image': cannot be read"):
        open_dataset(holed)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


def test_idx_folders(tmp_path):
    draw = np.random.default_rng(1)
    for prefix, count in (("train", 30), ("t10k", 10)):
        pixels = draw.integers(0, 256, (count, 5, 4), dtype=np.uint8)
        labels = (np.arange(count) % 3).astype(np.uint8)
        (tmp_path / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (tmp_path / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    opened = open_dataset(tmp_path, val=0)
    assert opened.inputs.shape == (40, 5, 4, 1)
    assert (len(opened.rows("train")), len(opened.rows("test"))) == (30, 10)
    row = opened.rows("test")[0]
    at = [image.tobytes() for image in pixels].index(opened.inputs[row].tobytes())
    assert opened.samples["label"][int(row)] == str(at % 3)
    path = tmp_path / "train-labels-idx1-ubyte"
    for content, message in ((idx(np.zeros(3, dtype=np.uint8)), "30 images and 3 labels"), (path.read_bytes()[:-1], "holds 29 values"), (b"abcd", "not an IDX file")):  # fmt: skip
        path.write_bytes(content)
        with pytest.raises(BadInput, match=message):
            open_dataset(tmp_path)
    path.unlink()
    with pytest.raises(BadInput, match="one images and one labels file"):
        open_dataset(tmp_path)


def test_npz_of_images_in_both_channel_orders(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (6, 9, 7, 3), dtype=np.uint8)
    y = np.array([0, 1] * 3)
    np.savez(tmp_path / "last.npz", x=pixels, y=y)
    np.savez(tmp_path / "first.npz", x=pixels.transpose(0, 3, 1, 2), y=y)
    last, first = (open_dataset(tmp_path / f"{name}.npz", val=0, test=0) for name in ("last", "first"))
    assert last.fingerprint == first.fingerprint
    np.testing.assert_array_equal(last.inputs, first.inputs)
    assert any("channels of the images stand first" in note for note in first.notes)
    stream = io.BytesIO()
    last.content([0])[0].save(stream, "PNG")
    np.testing.assert_array_equal(np.asarray(Image.open(stream)), last.inputs[0])


def test_tables_in_two_folders_name_images_beside_themselves(tmp_path):
    for name, count in (("main", 8), ("held", 4)):
        folder_of(tmp_path / name / "pics", sizes=((8, 8 + count % 5),) * count)
        paths = sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.png"))
        rows = {"image": [str(path) for path in paths], "label": [path.parent.name for path in paths]}
        pl.DataFrame(rows).write_csv(tmp_path / name / "list.csv")
    opened = open_dataset(tmp_path / "main" / "list.csv", test=tmp_path / "held" / "list.csv", val=0)
    held = opened.samples.filter(pl.col("split") == "test")
    assert held["image"].str.starts_with("../held/pics/").all()
    by_folder = open_dataset(tmp_path / "held" / "pics", val=0, test=0)
    assert held["content_hash"].to_list() == by_folder.samples["content_hash"].to_list()


def test_a_class_folder_without_images_is_told(tmp_path):
    folder_of(tmp_path / "pets")
    (tmp_path / "pets" / "bird").mkdir()
    (tmp_path / "pets" / "bird" / "notes.txt").write_text("no picture yet")
    opened = open_dataset(tmp_path / "pets", val=0, test=0)
    assert opened.classes == ("cat", "dog")
    assert "Folder 'bird' holds no image and is no class." in opened.notes
    (tmp_path / "pets" / "fish").mkdir()
    notes = open_dataset(tmp_path / "pets", val=0, test=0).notes
    assert "Folders 'bird', 'fish' hold no image and are no classes." in notes


def test_what_is_empty_below_splits_is_told(tmp_path):
    for split in ("train", "val"):
        folder_of(tmp_path / split)
    folder_of(tmp_path / "val", classes=("bird",))
    for empty in ("train/bird", "train/fish", "test/cat"):
        (tmp_path / empty).mkdir(parents=True)
    notes = open_dataset(tmp_path).notes
    assert "Folder 'train/fish' holds no image and is no class." in notes
    assert "1 class has no train sample: 'bird'." in notes  # of bird there are images, in val
    assert "Folder 'test' holds no class folder with an image and is no split." in notes


@pytest.mark.parametrize("link", ["cat/linked.png", "cat/more", "bird", "cat"])
def test_links_out_of_the_folder_are_refused(tmp_path, link):
    folder_of(tmp_path / "pets")
    folder_of(tmp_path / "elsewhere")
    place = tmp_path / "pets" / link
    if link == "cat":
        (tmp_path / "pets" / "cat").rename(tmp_path / "aside")
    place.symlink_to(tmp_path / "elsewhere" / ("dog/01.png" if place.suffix else "cat"))
    with pytest.raises(
        BadInput, match=rf"pets/{link}: a link that leads out of .*pets, to .*elsewhere"
    ) as refused:
        open_dataset(tmp_path / "pets")
    assert "copy what it leads to in its place" in str(refused.value)
    assert "give the folder where the images lie" in str(refused.value)


def test_a_linked_split_is_refused_too(tmp_path):
    folder_of(tmp_path / "pets" / "train")
    folder_of(tmp_path / "elsewhere")
    (tmp_path / "pets" / "val").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadInput, match=r"pets/val: a link that leads out of .*pets"):
        open_dataset(tmp_path / "pets")


def test_links_within_the_folder_and_to_the_folder_are_fine(tmp_path):
    folder_of(tmp_path / "pets")
    whole = open_dataset(tmp_path / "pets", val=0, test=0)
    store = tmp_path / "pets" / ".store"
    store.mkdir()
    (tmp_path / "pets" / "cat").rename(store / "cat")
    (tmp_path / "pets" / "cat").symlink_to(".store/cat")
    (tmp_path / "pets" / "dog" / "01.png").rename(store / "one.png")
    (tmp_path / "pets" / "dog" / "01.png").symlink_to("../.store/one.png")
    (tmp_path / "pets" / "dog" / "more").symlink_to("../.store")
    (tmp_path / "called").symlink_to(tmp_path / "pets")
    opened = open_dataset(tmp_path / "called", val=0, test=0)
    assert opened.fingerprint == whole.fingerprint
    assert "'dog/more' links to a folder and is not gone into." in opened.notes
