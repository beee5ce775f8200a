import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

from tracesift.catalog.manifest import DatasetBlock, SelectorBlock, write_manifest
from tracesift.catalog.schema import BadInput, FingerprintMismatch, UnknownName
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.planting import plant_label_noise
from tracesift.pipelines.subset import load_manifest

WORDS = ("cat", "dog", "owl")


def texts(count=60):
    return pl.DataFrame(
        {
            "key": [f"k{number:03d}" for number in range(count)],
            "text": [f"a line of text, number {number}" for number in range(count)],
            "animal": [WORDS[number % 3] for number in range(count)],
            "weight": [number / 2 for number in range(count)],
        }
    )


def train_of(dataset):
    return dataset.samples.filter(pl.col("split") == "train").select("sample_id", "label")


def roles_by_turn(dataset, turns=("keep", "drop", "keep")):
    train = train_of(dataset)
    roles = [turns[place % len(turns)] for place in range(train.height)]
    other = {label: WORDS[(place + 1) % 3] for place, label in enumerate(WORDS)}
    new = [
        other.get(label, label) if role == "relabel" else None
        for role, label in zip(roles, train["label"], strict=True)
    ]
    weights = [1.0 + place % 2 for place in range(train.height)]
    return train.with_columns(
        pl.Series("role", roles), pl.Series("weight", weights), pl.Series("new_label", new, dtype=pl.String)
    )


def manifest_of(dataset, root, members=None, name="pruned"):
    block = DatasetBlock(
        name=dataset.name, source=dataset.source, fingerprint=dataset.fingerprint, num_samples=len(dataset),
        options=dataset.options, transform=dataset.transform,
    )  # fmt: skip
    members = roles_by_turn(dataset) if members is None else members
    write_manifest(
        root, name, members, dataset=block, selector=SelectorBlock(name="by_turn", version=1, seed=5)
    )
    return load_manifest(root / name / "manifest.json")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "pets.csv"
    texts().write_csv(path)
    return path


@pytest.fixture
def opened(table):
    return open_dataset(table, label="animal", id="key", text="text")


def expected(subset, frame, role="keep"):
    chosen = subset.members.filter(pl.col("role") == role).select("sample_id", "weight")
    return chosen.join(frame, left_on="sample_id", right_on="key", how="left", suffix="_source")


def sources(path):
    frame = texts()
    hugging = datasets.Dataset.from_polars(frame)
    return {
        "path": path,
        "text": str(path),
        "polars": frame,
        "pandas": frame.to_pandas(),
        "arrow": frame.to_arrow(),
        "datasets": hugging,
        "shuffled": hugging.shuffle(seed=3),
        "tracesift": open_dataset(path, label="animal", id="key", text="text"),
    }


@pytest.mark.parametrize(
    "form", ["path", "text", "polars", "pandas", "arrow", "datasets", "shuffled", "tracesift"]
)
def test_a_subset_of_any_form_of_the_data_has_the_same_rows(opened, table, tmp_path, form):
    subset = manifest_of(opened, tmp_path)
    source = sources(table)[form]
    subset.verify(source)
    found = subset.apply(source, role="keep")
    assert isinstance(found, datasets.Dataset)
    assert found._indices is None
    wanted = expected(subset, texts())
    assert found["sample_id"][:] == wanted["sample_id"].to_list()
    assert found["weight"][:] == wanted["weight"].to_list()
    assert found["text"][:] == wanted["text"].to_list()
    assert found["animal"][:] == wanted["animal"].to_list()
    assert [float(value) for value in found["weight_source"]] == wanted["weight_source"].to_list()
    assert found.data.num_rows == len(found)


def test_new_labels_are_applied_and_relabelled_samples_are_kept(opened, table, tmp_path):
    subset = manifest_of(opened, tmp_path, roles_by_turn(opened, ("keep", "relabel", "drop")))
    new = dict(
        subset.members.filter(pl.col("role") == "relabel").select("sample_id", "new_label").iter_rows()
    )
    plain = dict(texts().select("key", "animal").iter_rows())
    for source in (table, datasets.Dataset.from_polars(texts())):
        found = subset.apply(source)
        assert set(new) <= set(found["sample_id"])
        assert found["animal"][:] == [new.get(key, plain[key]) for key in found["sample_id"]]
        assert set(subset.apply(source, role=["relabel"])["sample_id"]) == set(new)
        assert not set(subset.apply(source, role=["keep"])["sample_id"]) & set(new)
    with pytest.raises(UnknownName, match=r"no role 'kep' \(did you mean 'keep'\?\)"):
        subset.apply(table, role="kep")


def test_a_huggingface_dataset_keeps_its_features_columns_and_format(tmp_path):
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "animal": datasets.ClassLabel(names=list(WORDS)),
            "n": datasets.Value("int16"),
        }
    )
    frame = texts()
    source = datasets.Dataset.from_dict(
        {"text": frame["text"].to_list(), "animal": [number % 3 for number in range(60)], "n": list(range(60))},
        features=features,
    ).with_format("numpy")  # fmt: skip
    dataset = open_dataset(source, text="text")
    subset = manifest_of(dataset, tmp_path, roles_by_turn(dataset, ("relabel", "keep", "drop")))
    found = subset.apply(source)
    assert found.column_names == ["text", "animal", "n", "sample_id", "weight"]
    assert found.features["animal"] == features["animal"]
    assert found.format["type"] == "numpy"
    new = dict(subset.members.select("sample_id", pl.coalesce("new_label", "label")).iter_rows())
    assert [WORDS[label] for label in found["animal"]] == [new[key] for key in found["sample_id"]]
    assert source.column_names == ["text", "animal", "n"]


def test_integer_labels_stay_integers(tmp_path):
    frame = texts().with_columns(animal=pl.Series([number % 3 for number in range(60)]))
    source = datasets.Dataset.from_polars(frame)
    dataset = open_dataset(source, label="animal", id="key", text="text")
    members = train_of(dataset).with_columns(role=pl.lit("relabel"), new_label=pl.lit("2"))
    found = manifest_of(dataset, tmp_path, members).apply(source)
    assert set(found["animal"]) == {2}
    assert found.features["animal"] == source.features["animal"]


def test_an_id_column_of_our_own_name_is_not_doubled(tmp_path):
    source = datasets.Dataset.from_polars(texts().rename({"key": "sample_id"}))
    dataset = open_dataset(source, label="animal", text="text")
    found = manifest_of(dataset, tmp_path).apply(source)
    assert sorted(found.column_names) == ["animal", "sample_id", "text", "weight", "weight_source"]


def test_images_come_as_images(tmp_path):
    digits = open_dataset("digits")
    subset = manifest_of(digits, tmp_path, roles_by_turn(digits).with_columns(new_label=None))
    found = subset.apply("digits", role="drop")
    assert found.features["image"] == datasets.Image()
    rows = digits.samples["sample_id"].search_sorted(pl.Series(found["sample_id"][:3])).to_list()
    for place, row in enumerate(rows):
        assert np.array_equal(np.asarray(found[place]["image"]), digits.inputs[row, :, :, 0])
        assert found[place]["label"] == digits.samples["label"][row]


def test_image_folders_and_feature_tables_and_matrices_come_whole(tmp_path):
    for number in range(24):
        path = tmp_path / "photos" / WORDS[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9), number * 5, dtype=np.uint8)).save(path)
    photos = open_dataset(tmp_path / "photos")
    found = manifest_of(photos, tmp_path, name="pictures").apply(tmp_path / "photos")
    assert found[0]["image"].size == (9, 9)
    frame = pl.DataFrame(
        {"a": range(60), "b": [n / 3 for n in range(60)], "y": [WORDS[n % 3] for n in range(60)]}
    )
    features = open_dataset(frame, label="y")
    found = manifest_of(features, tmp_path, name="features").apply(frame)
    assert {"a", "b", "y", "sample_id", "weight"} == set(found.column_names)
    np.savez(
        tmp_path / "m.npz",
        x=np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32),
        y=np.arange(60) % 3,
    )
    matrix = open_dataset(tmp_path / "m.npz")
    found = manifest_of(matrix, tmp_path, name="matrix").apply(tmp_path / "m.npz")
    row = matrix.samples["sample_id"].search_sorted(found["sample_id"][0])
    assert found[0]["x"] == pytest.approx(matrix.inputs[row].tolist())


def test_a_role_without_members_gives_an_empty_dataset(opened, table, tmp_path):
    found = manifest_of(opened, tmp_path).apply(table, role="forget")
    assert len(found) == 0
    assert {"sample_id", "weight", "animal"} <= set(found.column_names)


# torch


class Pairs(torch.utils.data.Dataset):
    def __init__(self, labels):
        self.labels = labels
        self.inputs = torch.arange(len(labels) * 3, dtype=torch.float32).reshape(-1, 3)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.inputs[row], self.labels[row]


def test_a_torch_dataset_gives_a_subset_and_a_sampler_by_weight(tmp_path):
    source = Pairs([number % 3 for number in range(60)])
    ids = [f"k{number:03d}" for number in range(60)][::-1]
    dataset = open_dataset(source, ids=ids)
    members = roles_by_turn(dataset).with_columns(new_label=None)
    heavy = members.filter(pl.col("role") == "keep")["sample_id"][0]
    members = members.with_columns(weight=pl.when(pl.col("sample_id") == heavy).then(1e9).otherwise(1e-9))
    subset = manifest_of(dataset, tmp_path, members)
    subset.verify(source, ids=ids)
    taken, sampler = subset.apply(source, ids=ids)
    wanted = members.filter(pl.col("role") == "keep")["sample_id"].to_list()
    assert type(taken) is torch.utils.data.Subset
    assert [ids[row] for row in taken.indices] == wanted
    assert torch.equal(taken[1][0], source[ids.index(wanted[1])][0])
    assert {wanted[place] for place in sampler} == {heavy}
    assert len(sampler) == len(wanted)


def test_equal_weights_present_every_member_once_and_repeatably(tmp_path):
    source = Pairs([number % 3 for number in range(60)])
    dataset = open_dataset(source)
    members = train_of(dataset).with_columns(role=pl.lit("keep"))
    subset = manifest_of(dataset, tmp_path, members)
    orders = [list(subset.apply(source)[1]) for _ in range(2)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(members.height))
    assert orders[0] != sorted(orders[0])
    with pytest.raises(BadInput, match="no member has this role"):
        subset.apply(source, role="drop")


def test_new_labels_reach_a_torch_loader(tmp_path):
    source = Pairs([number % 3 for number in range(60)])
    dataset = open_dataset(source)
    members = train_of(dataset).with_columns(
        role=pl.when(pl.col("label") == "0").then(pl.lit("relabel")).otherwise(pl.lit("keep")),
        new_label=pl.when(pl.col("label") == "0").then(pl.lit("2")),
    )
    taken, sampler = manifest_of(dataset, tmp_path, members).apply(source)
    labels = torch.cat([y for _, y in torch.utils.data.DataLoader(taken, sampler=sampler, batch_size=7)])
    assert set(labels.tolist()) == {1, 2}
    assert [taken[place][1] for place in range(3)] == [pair[1] for pair in taken.__getitems__([0, 1, 2])]
    zero = members["label"].to_list().index("0")
    assert source[taken.indices[zero]][1] == 0
    assert taken[zero][1] == 2


# verification


def changed(how):
    frame = texts()
    if how == "grown":
        return pl.concat([frame, texts(70)[60:]])
    if how == "shrunk":
        return frame.filter(~pl.col("key").is_in(SOME_TRAIN[:3]))
    if how == "relabelled":
        hit = pl.col("key").is_in(SOME_TRAIN[:2])
        return frame.with_columns(animal=pl.when(hit).then(pl.lit("owl")).otherwise("animal"))
    raise AssertionError(how)


def _train_ids():
    dataset = open_dataset(texts(), label="animal", id="key", text="text")
    train = dataset.samples.filter((pl.col("split") == "train") & (pl.col("label") != "owl"))
    return train["sample_id"].to_list()


SOME_TRAIN = _train_ids()


def test_an_unchanged_dataset_verifies_in_any_order(opened, tmp_path):
    subset = manifest_of(opened, tmp_path)
    subset.verify(texts().sample(fraction=1, shuffle=True, seed=1))
    subset.verify(texts().to_pandas())
    subset.verify(opened, allow_superset=True)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("grown", "10 samples were added"),
        ("shrunk", "gone: 3 of .* members"),
        ("relabelled", "relabelled: 2 of .* members"),
    ],
)
def test_a_changed_dataset_is_refused_and_the_change_is_told(opened, tmp_path, how, words):
    subset = manifest_of(opened, tmp_path)
    for action in (subset.verify, subset.apply):
        with pytest.raises(FingerprintMismatch, match=words):
            action(changed(how))


def test_added_rows_are_admitted_on_request_and_nothing_else_is(opened, tmp_path):
    subset = manifest_of(opened, tmp_path)
    before = subset.apply(texts())
    found = subset.apply(changed("grown"), allow_superset=True)
    assert found["sample_id"][:] == before["sample_id"][:]
    assert found["text"][:] == before["text"][:]
    subset.verify(changed("grown"), allow_superset=True)
    for how in ("shrunk", "relabelled"):
        with pytest.raises(FingerprintMismatch, match="open the data as it was"):
            subset.apply(changed(how), allow_superset=True)


def test_a_member_that_moved_to_another_split_is_told(tmp_path):
    frame = texts().with_columns(split=pl.lit("train"))
    dataset = open_dataset(frame, label="animal", id="key", text="text", split="split")
    members = roles_by_turn(dataset)
    subset = manifest_of(dataset, tmp_path, members)
    moved = pl.col("key") == members["sample_id"][0]
    other = frame.with_columns(split=pl.when(moved).then(pl.lit("test")).otherwise("split"))
    with pytest.raises(FingerprintMismatch, match="in another split"):
        subset.apply(other, allow_superset=True)


def test_damaged_members_are_not_loaded_and_damaged_records_not_verified(opened, tmp_path):
    subset = manifest_of(opened, tmp_path)
    file = tmp_path / "pruned" / "manifest.json"
    file.write_text(file.read_text().replace('"seed": 5', '"seed": 6'))
    with pytest.raises(BadInput, match="fingerprint of the content"):
        load_manifest(file).verify(texts())
    for members in (tmp_path / "pruned").rglob("members.parquet"):
        members.write_bytes(members.read_bytes()[:-1])
    with pytest.raises(BadInput, match="sha256 differs"):
        load_manifest(file)
    assert subset.manifest.selector.seed == 5


def test_labels_of_planted_noise_come_as_they_were_selected(tmp_path):
    dataset = plant_label_noise(open_dataset(texts(), label="animal", id="key", text="text"), 0.3, seed=1)
    members = train_of(dataset).with_columns(role=pl.lit("keep"))
    subset = manifest_of(dataset, tmp_path, members)
    hugging = datasets.Dataset.from_polars(texts())
    for source in (dataset, texts(), hugging):
        subset.verify(source)
        found = subset.apply(source)
        assert found["animal"][:] == members["label"].to_list()
    assert found["animal"][:] != [
        dict(texts().select("key", "animal").iter_rows())[key] for key in found["sample_id"]
    ]


def test_a_val_source_that_was_an_object_is_asked_for(tmp_path):
    parts = texts(80)
    dataset = open_dataset(parts[:60], label="animal", id="key", text="text", val=parts[60:])
    subset = manifest_of(dataset, tmp_path)
    with pytest.raises(BadInput, match="val rows in another object"):
        subset.apply(parts[:60])
    assert len(subset.apply(dataset)) == (subset.members["role"] == "keep").sum()


def test_a_pandas_frame_stays_as_it_was(opened, tmp_path):
    frame = texts().to_pandas()
    before = frame.copy()
    manifest_of(opened, tmp_path).apply(frame)
    pd.testing.assert_frame_equal(frame, before)
