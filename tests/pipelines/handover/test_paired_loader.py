"""Batches out of every sort of source: the right samples, labels, weights and ids, wherever and however they are read."""

import datasets
import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tracesift.catalog.manifest import DatasetBlock, SelectorBlock, write_manifest
from tracesift.catalog.schema import BadInput, FingerprintMismatch, UnknownName
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.handover import paired_loader
from tracesift.pipelines.handover.paired_loader import Batch
from tracesift.pipelines.subset import load_manifest

WORDS = ("cat", "dog", "owl")


def texts(rows=60):
    return pl.DataFrame(
        {
            "key": [f"k{number * 7 % rows:03d}" for number in range(rows)],
            "text": [f"{WORDS[number % 3]} says thing number {number}" for number in range(rows)],
            "animal": [WORDS[number % 3] for number in range(rows)],
            "author": [f"writer {number % 6}" for number in range(rows)],
        }
    )


@pytest.fixture
def opened():
    return open_dataset(texts(), label="animal", id="key", text="text")


@pytest.fixture
def subset(opened, tmp_path, forget_ready):
    return forget_ready(opened, tmp_path)


def ids_of(subset, *roles):
    return subset.members.filter(pl.col("role").is_in(roles))["sample_id"].to_list()


def shown(steps, name):
    return [one for step in steps for one in step[name]["sample_ids"]]


def test_a_step_holds_inputs_labels_weights_ids_and_rows_that_belong_together(opened, subset):
    steps = list(subset.loaders(texts(), forget=3, retain=5))
    assert [list(step) for step in steps] == [["forget", "retain"]] * len(steps)
    known = {row["sample_id"]: row for row in subset.members.to_dicts()}
    said = dict(texts().select("key", "text").iter_rows())
    for batch in (batch for step in steps for batch in step.values()):
        assert list(batch) == ["inputs", "labels", "weights", "sample_ids", "rows"]
        assert all(type(name) is str for name in batch["sample_ids"])
        assert (batch["labels"].dtype, batch["weights"].dtype, batch["rows"].dtype) == (
            torch.int64, torch.float32, torch.int64,
        )  # fmt: skip
        assert batch["inputs"] == [said[name] for name in batch["sample_ids"]]
        assert batch["labels"].tolist() == [WORDS.index(known[name]["label"]) for name in batch["sample_ids"]]
        assert batch["weights"].tolist() == [known[name]["weight"] for name in batch["sample_ids"]]
        assert opened.samples["sample_id"].gather(batch["rows"].numpy()).to_list() == batch["sample_ids"]
    assert sorted(shown(steps, "forget")) == ids_of(subset, "forget")
    assert set(shown(steps, "retain")) <= set(ids_of(subset, "retain", "neighbor"))


def test_neighbours_are_mixed_in_or_apart_or_left_out(subset):
    def names(step):
        return {name: set(batch["sample_ids"]) for name, batch in step.items()}

    for neighbor, sets in (
        ("mixed", ["forget", "retain"]),
        (2, ["forget", "retain", "neighbor"]),
        (None, ["forget", "retain"]),
    ):
        loader = subset.loaders(texts(), forget=3, retain=40, neighbor=neighbor, plan="cyclic")
        steps = [names(step) for step in loader]
        assert list(steps[0]) == sets
        retained = set().union(*(step["retain"] for step in steps))
        wanted = ids_of(subset, "retain", *(["neighbor"] if neighbor == "mixed" else []))
        assert retained == set(wanted)
        if neighbor == 2:
            assert set().union(*(step["neighbor"] for step in steps)) == set(ids_of(subset, "neighbor"))
    with pytest.raises(BadInput, match="'mixed' into the retained"):
        subset.loaders(texts(), forget=3, retain=4, neighbor="apart")


def test_neither_workers_nor_the_order_of_the_source_change_anything(subset):
    def run(source, workers):
        loader = subset.loaders(source, forget=4, retain=6, plan="cyclic", seed=5, workers=workers)
        return [
            {
                name: (batch["inputs"], batch["sample_ids"], batch["labels"].tolist())
                for name, batch in step.items()
            }
            for _ in range(2)
            for step in loader
        ]

    before = torch.get_rng_state()
    plain = run(texts(), 0)
    assert run(texts().sample(fraction=1, shuffle=True, seed=1), 2) == plain
    assert torch.equal(torch.get_rng_state(), before)
    assert shown_of(plain[: len(plain) // 2]) != shown_of(plain[len(plain) // 2 :])


def test_what_cannot_go_to_another_process_is_refused_and_says_what_helps(subset):
    loader = subset.loaders(texts(), forget=4, retain=6, workers=1, transform=lambda text: text)
    with pytest.raises(BadInput, match=r"workers=1: .*cannot be sent .*<lambda>.*top of a module"):
        next(iter(loader))


OF_THE_PARENT = []


def inherited(text):
    return len(OF_THE_PARENT)


def test_workers_are_not_forked_so_they_inherit_no_lock_and_no_exit_handler(subset):
    # After a Prefect flow in the same process every forked worker ends with code 1; after OpenMP, never.
    OF_THE_PARENT.append("a lock")
    loader = subset.loaders(texts(), forget=4, retain=6, workers=1, transform=inherited)
    assert {value for step in loader for value in step["forget"]["inputs"].tolist()} == {0}


def shown_of(steps):
    return [name for step in steps for name in step["forget"][1]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_stopped_loop_goes_on_where_it_was(subset, workers):
    def make():
        return subset.loaders(texts(), forget=2, retain=5, seed=1, workers=workers)

    loader = make()
    whole = [step["retain"]["sample_ids"] for _ in range(2) for step in loader]
    loader, seen = make(), []
    for step in loader:
        seen.append(step["retain"]["sample_ids"])
        if len(seen) == 3:
            break
    state = loader.state_dict()
    resumed = make()
    resumed.load_state_dict(state)
    assert (resumed.position, resumed.epoch) == (3, 0)
    seen += [step["retain"]["sample_ids"] for _ in range(2) for step in resumed]
    assert seen == whole
    resumed.set_epoch(1)
    assert [step["retain"]["sample_ids"] for step in resumed] == whole[len(resumed) :]
    other = subset.loaders(texts(), forget=2, retain=6, seed=1)
    with pytest.raises(BadInput, match="sizes"):
        other.load_state_dict(state)


def test_processes_share_every_step_and_nothing_is_lost_or_doubled(subset, monkeypatch):
    monkeypatch.setattr(paired_loader.gather, "distributed", lambda: True)
    monkeypatch.setattr(paired_loader.dist, "get_world_size", lambda: 3)
    steps = []
    for rank in range(3):
        monkeypatch.setattr(paired_loader.gather, "rank", lambda rank=rank: rank)
        steps.append(list(subset.loaders(texts(), forget=2, retain=4, plan="cyclic")))
    assert len({len(of_rank) for of_rank in steps}) == 1
    retained = [name for of_rank in steps for name in shown(of_rank, "retain")]
    assert sorted(retained) == ids_of(subset, "neighbor", "retain")
    for together in zip(*steps, strict=True):
        names = [name for step in together for name in step["forget"]["sample_ids"]]
        assert len(set(names)) == len(names)
        assert all(step["forget"]["sample_ids"] for step in together)


def test_modules_by_a_frame_a_column_or_the_group(tmp_path):
    # Whole authors are forgotten, as entities are.
    dataset = open_dataset(texts(), label="animal", id="key", text="text", group="author")
    train = dataset.samples.filter(split="train")
    authors = train["author"].unique().sort().to_list()
    role = pl.when(pl.col("author").is_in(authors[:2])).then(pl.lit("forget")).otherwise(pl.lit("retain"))
    state = DatasetBlock(
        name="t", source=dataset.source, fingerprint=dataset.fingerprint, num_samples=len(dataset),
        options=dataset.options,
    )  # fmt: skip
    members = train.select("sample_id", "label", role=role)
    write_manifest(tmp_path, "fr", members, dataset=state, selector=SelectorBlock(name="by_hand", version=1))
    subset = load_manifest(tmp_path / "fr")
    frame = train.select("sample_id", module="author")
    of = dict(frame.iter_rows())
    for modules in (frame, "author", None):
        steps = list(subset.loaders(texts(), forget=4, retain=4, plan="melu", modules=modules))
        assert all(len({of[name] for name in step["forget"]["sample_ids"]}) == 1 for step in steps)
        assert {of[name] for name in shown(steps, "forget")} == set(authors[:2])
        assert set(shown(steps, "retain")) == set(ids_of(subset, "retain"))
    with pytest.raises(BadInput, match="no such column"):
        subset.loaders(texts(), forget=4, retain=4, plan="melu", modules="writer")
    with pytest.raises(BadInput, match="lacks the column module"):
        subset.loaders(texts(), forget=4, retain=4, plan="melu", modules=train.select("sample_id"))


def test_no_modules_where_nothing_says_them(subset):
    with pytest.raises(BadInput, match="pass modules="):
        subset.loaders(texts(), forget=2, retain=2, plan="melu")


# sources


def test_a_huggingface_dataset_gives_its_rows_and_its_own_numbers(tmp_path, forget_ready):
    names = ["owl", "cat", "dog"]  # not in the order of the alphabet
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "animal": datasets.ClassLabel(names=names),
            "n": datasets.Value("int64"),
        }
    )
    frame = texts()
    source = datasets.Dataset.from_dict(
        {
            "text": frame["text"].to_list(),
            "animal": [names.index(a) for a in frame["animal"]],
            "n": list(range(60)),
        },
        features=features,
    )
    subset = forget_ready(open_dataset(source, text="text"), tmp_path)
    step = next(iter(subset.loaders(source, forget=4, retain=4)))["forget"]
    assert list(step["inputs"]) == ["text", "animal", "n"]
    assert step["inputs"]["n"].dtype == torch.int64
    assert step["labels"].tolist() == step["inputs"]["animal"].tolist()
    assert [names[label] for label in step["labels"]] == [text.split()[0] for text in step["inputs"]["text"]]
    only = subset.loaders(source, forget=4, retain=4, transform=lambda row: row["text"])
    assert next(iter(only))["forget"]["inputs"] == step["inputs"]["text"]
    lengths = subset.loaders(
        source,
        forget=4,
        retain=4,
        transform=lambda row: row["text"],
        collate=lambda held: [len(one) for one in held],
    )
    assert next(iter(lengths))["forget"]["inputs"] == [len(text) for text in step["inputs"]["text"]]


def test_large_whole_numbers_stay_what_they_are(tmp_path, forget_ready):
    large = 2**53 + 1  # no float holds it
    source = datasets.Dataset.from_polars(
        texts().with_columns(n=pl.Series(range(60), dtype=pl.Int64) + large)
    )
    subset = forget_ready(open_dataset(source, label="animal", id="key", text="text"), tmp_path)
    kept = dict(zip(source["key"], source["n"], strict=True))
    for step in subset.loaders(source, forget=4, retain=4):
        assert step["forget"]["inputs"]["n"].tolist() == [kept[name] for name in step["forget"]["sample_ids"]]


class Pairs(torch.utils.data.Dataset):
    def __init__(self, labels):
        self.labels, self.inputs = labels, torch.arange(len(labels) * 3, dtype=torch.float32).reshape(-1, 3)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        return self.inputs[row], self.labels[row]


def test_a_torch_dataset_gives_its_own_items_and_new_labels(tmp_path):
    source = Pairs([number % 3 + 5 for number in range(60)])
    ids = [f"k{number:03d}" for number in range(60)][::-1]
    dataset = open_dataset(source, ids=ids)
    train = dataset.samples.filter(split="train").select("sample_id", "label")
    changed = pl.col("label") == "5"
    members = train.with_columns(
        role=pl.when(changed).then(pl.lit("relabel")).otherwise(pl.lit("forget")),
        new_label=pl.when(changed).then(pl.lit("7")),
    )
    state = DatasetBlock(
        name="p",
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        num_samples=60,
        options=dataset.options,
    )
    write_manifest(tmp_path, "p", members, dataset=state, selector=SelectorBlock(name="by_hand", version=1))
    subset = load_manifest(tmp_path / "p")
    for step in subset.loaders(source, forget=5, retain=Batch(5, ("relabel",)), ids=ids, plan="cyclic"):
        assert step["retain"]["labels"].tolist() == [7] * len(step["retain"]["labels"])
        for name, batch in step.items():
            places = [ids.index(one) for one in batch["sample_ids"]]
            assert torch.equal(batch["inputs"], source.inputs[places])
            if name == "forget":
                assert batch["labels"].tolist() == [source.labels[place] for place in places]


def test_image_folders_and_tables(tmp_path, forget_ready):
    for number in range(24):
        path = tmp_path / "photos" / WORDS[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 9, 3), number * 5, dtype=np.uint8)).save(path)
    photos = open_dataset(tmp_path / "photos")
    subset = forget_ready(photos, tmp_path)
    for step in subset.loaders(tmp_path / "photos", forget=2, retain=4):
        batch = step["forget"]
        assert batch["inputs"].shape == (len(batch["labels"]), 9, 9, 3)
        assert batch["inputs"].dtype == torch.uint8
        assert np.array_equal(batch["inputs"].numpy(), photos.inputs[batch["rows"].numpy()])
        assert batch["labels"].tolist() == photos.labels[batch["rows"].numpy()].tolist()
    scaled = subset.loaders(
        tmp_path / "photos", forget=2, retain=4, transform=lambda x: torch.tensor(x) / 255
    )
    assert next(iter(scaled))["forget"]["inputs"].max() <= 1
    table = pl.DataFrame(
        {"a": range(60), "b": [n / 3 for n in range(60)], "y": [WORDS[n % 3] for n in range(60)]}
    )
    (tmp_path / "t").mkdir()
    subset = forget_ready(open_dataset(table, label="y"), tmp_path / "t")
    batch = next(iter(subset.loaders(table, forget=4, retain=4)))["forget"]
    assert batch["inputs"]["a"].tolist() == [round(3 * value) for value in batch["inputs"]["b"].tolist()]


# refusals


def test_sets_that_are_not_there_and_data_that_are_others(opened, subset, tmp_path, forget_ready):
    (tmp_path / "pruned").mkdir()
    pruned = forget_ready(opened, tmp_path / "pruned", roles=("keep", "drop"))
    with pytest.raises(BadInput, match="no member with role forget, which forget= asks for"):
        pruned.loaders(texts(), forget=3, retain=4)
    assert len(pruned.loaders(texts(), forget=Batch(3, ("drop",)), retain=Batch(3, ("keep",)))) > 0
    with pytest.raises(UnknownName, match="no role 'dorp'"):
        pruned.loaders(texts(), forget=Batch(3, ("dorp",)), retain=Batch(3, ("keep",)))
    with pytest.raises(BadInput, match="role 'keep' is asked for twice"):
        pruned.loaders(texts(), forget=Batch(3, ("keep",)), retain=Batch(3, ("keep",)))
    with pytest.raises(FingerprintMismatch, match="gone: "):
        subset.loaders(texts()[:-3], forget=3, retain=4)
    with pytest.raises(BadInput, match="workers=-1"):
        subset.loaders(texts(), forget=3, retain=4, workers=-1)


def test_inputs_that_make_no_tensor_say_what_helps(tmp_path, forget_ready):
    source = [(Image.new("L", (4, 4), number), number % 2) for number in range(40)]
    subset = forget_ready(open_dataset(source), tmp_path)
    with pytest.raises(BadInput, match="pass transform="):
        next(iter(subset.loaders(source, forget=2, retain=2)))
    loader = subset.loaders(source, forget=2, retain=2, transform=np.asarray)
    assert next(iter(loader))["forget"]["inputs"].shape == (2, 4, 4)
