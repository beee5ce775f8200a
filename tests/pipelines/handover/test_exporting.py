"""What lies in an exported folder is the manifest's members, all of them and nothing else; and it is whole or not there."""

import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile

import datasets
import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from tracesift.catalog.manifest import DatasetBlock, SelectorBlock, verify_manifest, write_manifest
from tracesift.catalog.schema import BadInput, FingerprintMismatch, UnknownName
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.handover import exporting
from tracesift.pipelines.handover.contents import plain_name
from tracesift.pipelines.handover.exporting import export
from tracesift.pipelines.handover.index_files import write_indices
from tracesift.pipelines.subset import load_manifest

ALL = ("open-unlearning", "parquet", "indices")
TEN = ("forget", *["retain"] * 8, "neighbor")


def texts(rows=80):
    return pl.DataFrame(
        {
            "key": [f"k{number * 7 % rows:03d}" for number in range(rows)],
            "question": [f"Who is number {number}, «{number % 3}»?" for number in range(rows)],
            "answer": [f"It is\n{number}." for number in range(rows)],
            "animal": [("cat", "dog", "owl")[number % 3] for number in range(rows)],
            "reason": [f"theirs {number}" for number in range(rows)],
        }
    )


def opened(frame=None, **more):
    return open_dataset(
        texts() if frame is None else frame, label="animal", id="key", text="question", name="my set", **more
    )


@pytest.fixture
def made(tmp_path, forget_ready):
    """Data, and a manifest that forgets a tenth of them."""
    dataset = opened(test=0.2)
    return dataset, forget_ready(dataset, tmp_path, TEN, holdout=True)


@pytest.fixture
def load(tmp_path):
    """A function: what `datasets` reads of a folder, with a cache of its own."""
    return lambda *words, **named: datasets.load_dataset(
        *map(str, words), cache_dir=str(tmp_path / "cache"), **named
    )


def members(subset, *roles):
    return subset.members.filter(pl.col("role").is_in(roles))


def files(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


# open-unlearning


def test_the_sets_are_named_as_tofus_and_divide_the_members(made, tmp_path, load):
    dataset, subset = made
    record = export(subset, dataset, tmp_path / "out", format="open-unlearning")
    trained = members(subset, "forget", "retain", "neighbor").height
    forgotten = members(subset, "forget").height
    percent = round(100 * forgotten / trained)
    names = {
        "forget": f"forget{percent:02d}",
        "retain": f"retain{100 - percent}",
        "holdout": f"holdout{percent:02d}",
    }
    said = dict(zip(texts()["key"], texts().select("question", "answer").iter_rows(), strict=True))
    held = {}
    for name, roles in (("forget", ["forget"]), ("retain", ["retain", "neighbor"]), ("holdout", ["holdout"])):
        rows = load(tmp_path / "out", names[name], split="train")
        wanted = members(subset, *roles)
        assert rows["sample_id"][:] == wanted["sample_id"].to_list()
        assert rows["weight"][:] == wanted["weight"].to_list()
        assert rows["label"][:] == wanted["label"].to_list()
        assert [(row["question"], row["answer"]) for row in rows] == [said[one] for one in rows["sample_id"]]
        held[name] = set(rows["sample_id"])
        assert record["shares"][names[name]]["samples"] == len(rows)
    assert held["forget"] | held["retain"] == set(dataset.samples.filter(split="train")["sample_id"])
    assert not held["forget"] & held["retain"]
    assert not held["holdout"] & (held["forget"] | held["retain"])
    assert record["shares"][names["forget"]]["share"] == forgotten / trained


def test_its_configurations_say_what_its_loaders_take(made, tmp_path, load):
    dataset, subset = made
    folder = tmp_path / "out"
    export(subset, dataset, folder, format="open-unlearning")
    configs = folder / "configs" / "data"
    both = yaml.safe_load((configs / "my_set_unlearn.yaml").read_text())
    assert both["defaults"] == [
        {"datasets@forget": "my_set_forget"}, {"datasets@retain": "my_set_retain"}, {"datasets@eval": None},
    ]  # fmt: skip
    assert both["anchor"] == "forget"
    mia = yaml.safe_load((configs / "datasets" / "my_set_MIA.yaml").read_text())
    assert {block["access_key"] for block in mia.values()} == {"forget", "holdout"}
    for name, role in (("forget", "forget"), ("neighbor", "neighbor")):
        (block,) = yaml.safe_load((configs / "datasets" / f"my_set_{name}.yaml").read_text()).values()
        assert block["handler"] == "QADataset"
        assert block["args"].keys() == {"hf_args", "question_key", "answer_key", "max_length"}
        rows = load(block["args"]["hf_args"].pop("path"), **block["args"]["hf_args"])
        assert rows["sample_id"][:] == members(subset, role)["sample_id"].to_list()
        assert isinstance(rows[0][block["args"]["answer_key"]], str)


def test_texts_alone_go_under_text(tmp_path, forget_ready):
    dataset = opened(texts().drop("answer"))
    export(forget_ready(dataset, tmp_path), dataset, tmp_path / "out", format="open-unlearning")
    (file,) = (tmp_path / "out").glob("forget*.json")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert all(list(line) == ["text", "sample_id", "label", "weight"] for line in lines)
    assert "CompletionDataset" in (tmp_path / "out/configs/data/datasets/my_set_forget.yaml").read_text()
    assert not (tmp_path / "out/configs/data/datasets/my_set_MIA.yaml").exists()


@pytest.mark.parametrize(
    ("forgotten", "name"), [(1, "forget01"), (30, "forget05"), (33, "forget06"), (599, "forget99")]
)
def test_the_nearest_per_cent_stands_in_the_name(forgotten, name, tmp_path, forget_ready):
    frame = pl.DataFrame(
        {
            "id": [f"{n:03d}" for n in range(600)],
            "text": [f"t {n}" for n in range(600)],
            "label": ["x", "y"] * 300,
        }
    )
    dataset = open_dataset(frame, val=0, test=0)
    subset = forget_ready(dataset, tmp_path, ("forget",) * forgotten + ("retain",) * (600 - forgotten))
    record = export(subset, dataset, tmp_path / "out", format="open-unlearning")
    assert record["shares"][name]["share"] == forgotten / 600
    assert f"retain{100 - int(name[-2:]):02d}" in record["shares"]


def test_an_answer_that_is_missing_is_told_by_its_sample(tmp_path, forget_ready):
    frame = texts().with_columns(answer=pl.when(pl.col("key") != "k007").then("answer"))
    dataset = opened(frame, val=0, test=0)
    with pytest.raises(BadInput, match="sample 'k007' has no answer"):
        export(forget_ready(dataset, tmp_path), dataset, tmp_path / "out", format="open-unlearning")
    assert not (tmp_path / "out").exists()


# parquet


def test_parquet_comes_back_as_the_members_through_datasets_and_through_us(made, tmp_path, load):
    dataset, subset = made
    record = export(subset, dataset, tmp_path / "out", format="parquet")
    said = dict(texts().select("key", "question").iter_rows())
    splits = load(tmp_path / "out")
    assert splits.keys() == {"forget", "retain", "neighbor", "holdout"}
    for role, rows in splits.items():
        wanted = members(subset, role)
        file = tmp_path / "out" / "data" / f"{role}.parquet"
        assert (
            load("parquet", data_files=str(file), split="train")["sample_id"][:]
            == wanted["sample_id"].to_list()
        )
        for name in ("sample_id", "label", "weight", "reason"):
            assert rows[name][:] == wanted[name].to_list()
        assert rows["question"][:] == [said[one] for one in wanted["sample_id"]]
        assert rows["reason_source"][0].startswith("theirs")
        again = open_dataset(file, **record["reading"])
        assert again.samples["sample_id"].to_list() == wanted["sample_id"].to_list()
        assert again.inputs == rows["question"][:]
    whole = open_dataset(tmp_path / "out" / "data", **record["reading"])
    assert whole.samples["sample_id"].to_list() == subset.members["sample_id"].to_list()
    assert record["label_column"] == "animal"


def test_new_labels_are_those_to_train_on(tmp_path):
    dataset = opened()
    train = dataset.samples.filter(split="train").select("sample_id", "label")
    wrong = pl.col("label") == "cat"
    plan = train.with_columns(
        role=pl.when(wrong).then(pl.lit("relabel")).otherwise(pl.lit("keep")),
        new_label=pl.when(wrong).then(pl.lit("owl")),
    )
    state = DatasetBlock(
        name="my set", source=dataset.source, fingerprint=dataset.fingerprint, num_samples=len(dataset),
        options=dataset.options,
    )  # fmt: skip
    write_manifest(tmp_path, "clean", plan, dataset=state, selector=SelectorBlock(name="denoise", version=1))
    export(load_manifest(tmp_path / "clean"), dataset, tmp_path / "out", format="parquet")
    data = {path.stem: pl.read_parquet(path)["label"] for path in (tmp_path / "out" / "data").iterdir()}
    assert data.keys() == {"keep", "relabel"}
    assert set(data["relabel"]) == {"owl"}
    assert len(data["relabel"]) == (train["label"] == "cat").sum()
    assert data["keep"].to_list() == train.filter(~wrong)["label"].to_list()


def test_images_are_their_files_bytes_and_load_as_images(tmp_path, forget_ready, load):
    for number in range(24):
        path = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number * 5, dtype=np.uint8)).save(path)
    photos = open_dataset(tmp_path / "photos")
    record = export(forget_ready(photos, tmp_path), photos, tmp_path / "out", format="parquet")
    rows = load(tmp_path / "out", split="forget")
    assert rows.features["image"] == datasets.Image()
    assert rows[0]["image"].size == (9, 9)
    held = pl.read_parquet(tmp_path / "out" / "data" / "forget.parquet")
    for row in held.to_dicts():
        (file,) = (tmp_path / "photos").rglob(row["path"].rsplit("/", 1)[-1])
        assert row["image"] == {"bytes": file.read_bytes(), "path": None}
    again = open_dataset(tmp_path / "out" / "data", **record["reading"])
    assert (
        again.samples["content_hash"].to_list()
        == photos.samples.filter(split="train")["content_hash"].to_list()
    )


def test_arrays_of_images_features_and_vectors(tmp_path, forget_ready, load):
    digits = open_dataset("digits")
    (tmp_path / "d").mkdir()
    subset = forget_ready(digits, tmp_path / "d")
    record = export(subset, digits, tmp_path / "digits", format="parquet")
    rows = load(tmp_path / "digits", split="neighbor")
    assert np.array_equal(
        np.asarray(rows[5]["image"]),
        digits.inputs[digits.samples["sample_id"].search_sorted(rows[5]["sample_id"]), :, :, 0],
    )
    again = open_dataset(tmp_path / "digits" / "data", **record["reading"])
    assert again.samples["sample_id"].to_list() == subset.members["sample_id"].to_list()
    table = pl.DataFrame({"weight": range(60), "b": [n / 3 for n in range(60)], "y": ["u", "v"] * 30})
    features = open_dataset(table, label="y")
    (tmp_path / "t").mkdir()
    record = export(forget_ready(features, tmp_path / "t"), features, tmp_path / "table", format="parquet")
    assert record["reading"]["features"] == ["weight_source", "b"]
    again = open_dataset(tmp_path / "table" / "data" / "forget.parquet", **record["reading"])
    assert again.inputs.columns == ["weight_source", "b"]
    np.savez(
        tmp_path / "m.npz",
        x=np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32),
        y=np.arange(60) % 3,
    )
    matrix = open_dataset(tmp_path / "m.npz")
    (tmp_path / "m").mkdir()
    record = export(forget_ready(matrix, tmp_path / "m"), matrix, tmp_path / "matrix", format="parquet")
    again = open_dataset(tmp_path / "matrix" / "data", **record["reading"])
    train = matrix.rows("train")
    assert np.array_equal(again.inputs, matrix.inputs[train])


def test_many_samples_are_written_in_parts(tmp_path, forget_ready, monkeypatch):
    monkeypatch.setattr("tracesift.pipelines.handover.contents.CHUNK", 7)
    dataset = opened()
    subset = forget_ready(dataset, tmp_path)
    for format in ALL:
        export(subset, dataset, tmp_path / format, format=format)
    ids = pl.read_parquet(tmp_path / "parquet" / "data" / "retain.parquet")["sample_id"]
    assert ids.to_list() == members(subset, "retain")["sample_id"].to_list()
    (file,) = (tmp_path / "open-unlearning").glob("retain*.json")
    assert len(file.read_text(encoding="utf-8").splitlines()) == members(subset, "retain", "neighbor").height


# indices


def test_indices_are_rows_of_the_source_in_whatever_order_it_comes(made, tmp_path):
    _, subset = made
    shuffled = texts().sample(fraction=1, shuffle=True, seed=3)
    count = members(subset, "forget").height
    for name, source in (("plain", texts()), ("shuffled", shuffled)):
        export(subset, opened(source, test=0.2), tmp_path / name, format="indices")
        for part, roles in (("forget", ["forget"]), ("remain", ["retain", "neighbor"])):
            places = np.load(tmp_path / name / f"my_set_{count}_{part}.npy", allow_pickle=False)
            assert places.dtype == np.int64
            assert (np.diff(places) > 0).all()
            found = source["key"].gather(places).sort().to_list()
            assert found == members(subset, *roles)["sample_id"].to_list()


def test_indices_of_a_pruned_set_are_what_is_kept_and_dropped(made, tmp_path, forget_ready):
    dataset, _ = made
    (tmp_path / "p").mkdir()
    pruned = forget_ready(dataset, tmp_path / "p", ("keep", "drop", "keep"))
    plain = pruned.members.with_columns(weight=pl.lit(1.0), new_label=pl.lit(None, pl.String))
    pruned = dataclasses.replace(pruned, members=plain)
    export(pruned, dataset, tmp_path / "out", format="indices")
    count = members(pruned, "keep").height
    for part in ("keep", "drop"):
        places = np.load(tmp_path / "out" / f"my_set_{count}_{part}.npy", allow_pickle=False)
        assert texts()["key"].gather(places).sort().to_list() == members(pruned, part)["sample_id"].to_list()
        assert (np.diff(places) > 0).all()
    for given in ({"weight": pl.lit(0.5)}, {"new_label": pl.lit("dog")}):
        changed = dataclasses.replace(pruned, members=pruned.members.with_columns(**given))
        with pytest.raises(BadInput, match="new labels or weights, which row numbers cannot carry"):
            write_indices(changed, dataset, tmp_path, tmp_path)


# the folder


@pytest.mark.parametrize("format", ALL)
def test_the_record_lists_every_file_with_its_hash_and_the_manifest_verifies(format, made, tmp_path):
    dataset, subset = made
    record = export(subset, dataset, tmp_path / "out", format=format)
    found = files(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == record
    found.pop("export.json")
    assert {one["file"]: one["sha256"] for one in record["files"]} == found
    assert record["counts"] == subset.manifest.counts.by_role
    assert record["schema_version"] == 1
    assert verify_manifest(tmp_path / "out" / "manifest") == []
    assert sum(one["rows"] or 0 for one in record["files"]) >= members(subset, "forget", "retain").height


@pytest.mark.parametrize("format", ALL)
def test_the_same_again_gives_the_same_bytes_and_leftovers_go(format, made, tmp_path):
    dataset, subset = made
    export(subset, dataset, tmp_path / "out", format=format)
    before = files(tmp_path / "out")
    export(subset, opened(texts().reverse(), test=0.2), tmp_path / "out", format=format)
    after = files(tmp_path / "out")
    if format != "indices":  # rows of another order are others
        assert after == before
    assert not [*tmp_path.glob(".tmp-*")]


def test_side_files_of_the_manifest_come_along(made, tmp_path):
    dataset, subset = made
    (tmp_path / "fr" / "facts.parquet").write_bytes(b"facts")
    (tmp_path / "fr" / "versions" / "0001" / "batches.parquet").write_bytes(b"plan")
    (tmp_path / "fr" / ".hidden").write_bytes(b"no")
    (tmp_path / "fr" / "link").symlink_to("/etc/hostname")
    export(subset, dataset, tmp_path / "out", format="indices")
    names = {path.name for path in (tmp_path / "out" / "manifest").iterdir()}
    assert names == {"manifest.json", "members.parquet", "facts.parquet", "batches.parquet"}
    assert verify_manifest(tmp_path / "out" / "manifest") == []


@pytest.mark.parametrize("format", ALL)
def test_the_manifest_in_an_export_names_nothing_that_was_deleted_since(format, made, tmp_path):
    dataset, subset = made
    gone, near = (
        members(subset, "retain")["sample_id"][:2].to_list(),
        members(subset, "neighbor")["sample_id"][0],
    )
    said = pl.when(pl.col("sample_id") == near).then(pl.lit(f"near '{gone[0]}'")).otherwise("reason")
    subset = load_manifest(rewritten(subset, tmp_path, reason=said))
    beside = subset.path / "versions" / "0001"
    facts = pl.DataFrame({"sample_id": [*gone, near], "pulled_by": [None, gone[0], gone[1]], "label": "x"})
    facts.write_parquet(beside / "forget.parquet")
    (beside / "overlap.json").write_text(json.dumps({"first": gone[0], "share": 0.5}))
    (beside / "notes.txt").write_text(gone[0])
    (beside / "torn.parquet").write_bytes(b"torn")
    record = export(
        dataclasses.replace(subset, deleted=frozenset(gone)), dataset, tmp_path / "out", format=format
    )
    folder = tmp_path / "out" / "manifest"
    left = load_manifest(folder)
    assert verify_manifest(folder) == []
    left.verify(dataset)
    assert left.manifest.purged == 2
    assert record["manifest"]["fingerprint"] == left.manifest.fingerprint != subset.manifest.fingerprint
    assert record["counts"] == dict(left.members.group_by("role").len().iter_rows())
    assert left.members["sample_id"].to_list() == sorted(set(subset.members["sample_id"]) - set(gone))
    assert left.members.filter(sample_id=near)["reason"].to_list() == ["near a purged sample"]
    assert pl.read_parquet(folder / "forget.parquet").rows() == [(near, None, "x")]
    assert json.loads((folder / "overlap.json").read_text()) == {"first": "a purged sample", "share": 0.5}
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json", "members.parquet", "forget.parquet", "overlap.json",
    }  # fmt: skip


def rewritten(subset, root, **columns):
    """The same manifest, under another name, with other columns."""
    facts = subset.manifest
    changed = subset.members.with_columns(**columns)
    write_manifest(root, "rewritten", changed, dataset=facts.dataset, selector=facts.selector)
    return root / "rewritten"


def test_where_all_that_was_asked_for_is_deleted_nothing_can_be_unlearned(made, tmp_path):
    dataset, subset = made
    for role, says in (("forget", "forgets"), ("retain", "retains")):
        gone = members(subset, *(["retain", "neighbor"] if role == "retain" else [role]))["sample_id"]
        emptied = dataclasses.replace(subset, deleted=frozenset(gone))
        with pytest.raises(
            BadInput, match=f"fr {says} nothing, but for samples that were asked to be deleted"
        ):
            export(emptied, dataset, tmp_path / "out", format="open-unlearning")
        assert not (tmp_path / "out").exists()
    export(
        emptied, dataset, tmp_path / "out", format="parquet"
    )  # of the others there is something to hand over
    assert {path.stem for path in (tmp_path / "out" / "data").iterdir()} == {"forget", "holdout"}


def test_no_folder_that_holds_anything_else_is_written_over(made, tmp_path):
    dataset, subset = made
    out = tmp_path / "out"
    out.mkdir()
    export(subset, dataset, out, format="parquet")  # an empty one will do
    with pytest.raises(BadInput, match="holds another export"):
        export(subset, dataset, out, format="indices")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"notes\.txt was added or changed"):
        export(subset, dataset, out, format="parquet")
    (out / "notes.txt").unlink()
    (out / "README.md").write_text("my own words")
    with pytest.raises(BadInput, match=r"README\.md was added or changed"):
        export(subset, dataset, out, format="parquet")
    assert (out / "README.md").read_text() == "my own words"
    other = tmp_path / "other"
    other.mkdir()
    (other / "export.json").write_text("{}")
    with pytest.raises(BadInput, match="no export"):
        export(subset, dataset, other, format="parquet")
    for place in (tmp_path / "fr" / "manifest.json", tmp_path / "fr" / "manifest.json" / "x"):
        with pytest.raises(BadInput, match="is a file"):
            export(subset, dataset, place, format="parquet")


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("at", ["write_json", "sha256", "_copy_manifest"])
def test_ctrl_c_leaves_no_half_folder(before, at, made, tmp_path, monkeypatch):
    dataset, subset = made
    if before:
        export(subset, dataset, tmp_path / "out", format="parquet")
    held = files(tmp_path)

    def interrupted(*_):
        raise KeyboardInterrupt

    if not (before and at == "sha256"):  # which checks the earlier export first
        monkeypatch.setattr(exporting, at, interrupted)
        with pytest.raises(KeyboardInterrupt):
            export(subset, dataset, tmp_path / "out", format="parquet")
    assert files(tmp_path) == held
    assert (tmp_path / "out").exists() == before
    assert not [*tmp_path.glob(".tmp-*")]


def test_an_interrupted_exchange_brings_the_earlier_export_back(made, tmp_path, monkeypatch):
    dataset, subset = made
    export(subset, dataset, tmp_path / "out", format="parquet")
    held, replaced = files(tmp_path), exporting.Path.replace

    def once(path, target):
        if target == (tmp_path / "out") and (path / "export.json").exists() and once.first:
            once.first = False
            raise KeyboardInterrupt
        return replaced(path, target)

    once.first = True
    monkeypatch.setattr(exporting.Path, "replace", once)
    with pytest.raises(KeyboardInterrupt):
        export(subset, dataset, tmp_path / "out", format="parquet")
    assert files(tmp_path) == held
    assert not [*tmp_path.glob(".tmp-*")]


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])  # the second is that of /proc
def test_a_folder_that_cannot_be_written_is_one_clear_line(number, made, tmp_path, monkeypatch):
    dataset, subset = made

    def refused(**_):
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    with pytest.raises(BadInput, match=re.escape(f"cannot be written ({os.strerror(number)})")):
        export(subset, dataset, tmp_path / "out", format="parquet")


def test_names_of_data_lead_nowhere_else(tmp_path, forget_ready):
    dataset = open_dataset(texts(), label="animal", id="key", text="question", name="../../x/y z")
    subset = forget_ready(dataset, tmp_path)
    for format in ("open-unlearning", "indices"):
        export(subset, dataset, tmp_path / "deep" / format, format=format)
    assert {path.name for path in tmp_path.iterdir()} == {"fr", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"open-unlearning", "indices"}
    assert plain_name("..") == "dataset"


# refusals


def test_manifests_and_data_that_cannot_be_handed_over(made, tmp_path, forget_ready):
    dataset, subset = made
    (tmp_path / "p").mkdir()
    pruned = forget_ready(dataset, tmp_path / "p", ("keep", "drop"))
    with pytest.raises(BadInput, match="no member with role forget"):
        export(pruned, dataset, tmp_path / "out", format="open-unlearning")
    (tmp_path / "all").mkdir()
    everything = forget_ready(dataset, tmp_path / "all", ("forget",))
    with pytest.raises(BadInput, match="retains nothing"):
        export(everything, dataset, tmp_path / "out", format="open-unlearning")
    with pytest.raises(FingerprintMismatch, match="gone: "):
        export(subset, opened(texts()[:-3], test=0.2), tmp_path / "out", format="parquet")
    with pytest.raises(UnknownName, match=r"did you mean 'parquet'\?"):
        export(subset, dataset, tmp_path / "out", format="parket")
    digits = open_dataset("digits")
    (tmp_path / "g").mkdir()
    with pytest.raises(BadInput, match="these data are image"):
        export(forget_ready(digits, tmp_path / "g"), digits, tmp_path / "out", format="open-unlearning")
    assert not (tmp_path / "out").exists()


def test_damaged_members_are_not_handed_over(made, tmp_path):
    dataset, subset = made
    file = tmp_path / "fr" / "manifest.json"
    file.write_text(file.read_text().replace('"forget": ', '"forget": 1'))
    with pytest.raises(BadInput, match="counts"):
        export(subset, dataset, tmp_path / "out", format="parquet")
    shutil.rmtree(tmp_path / "fr")
    with pytest.raises(BadInput):
        export(subset, dataset, tmp_path / "out", format="parquet")
