"""Splits: stable under growth and shuffling, every class served, groups whole."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.identity import stable_uniform
from tracesift.pipelines.splits import cut, parse_share, read_splits


def table(rows: range, classes: int = 3, **columns) -> pl.DataFrame:
    data = {"id": [f"s{i:05d}" for i in rows], "text": [f"words about {i}" for i in rows], "label": [f"c{i % classes}" for i in rows]}  # fmt: skip
    return pl.DataFrame(data | columns)


def assigned(frame: pl.DataFrame, **options) -> dict[str, str]:
    samples = open_dataset(frame, text="text", **options).samples
    return dict(samples.select("sample_id", "split").iter_rows())


def test_cut_is_the_threshold_of_the_stable_hash():
    keys = [f"k{i}" for i in range(3000)]
    uniform = stable_uniform(keys, "split")
    parts = cut(pl.Series(["train"] * 3000), pl.Series(["a"] * 3000), keys, val=0.1, test=0.1)
    expected = np.where(uniform < 0.1, "val", np.where(uniform < 0.2, "test", "train"))
    assert parts.to_list() == expected.tolist()


def test_growth_and_shuffling_keep_every_assignment():
    small, large = table(range(1000)), table(range(3000))
    before, after = assigned(small), assigned(large.sample(fraction=1, shuffle=True, seed=1))
    assert {key: after[key] for key in before} == before
    counts = pl.Series(list(after.values())).value_counts().rows()
    assert all(
        abs(count - share) < 90 for split, count in counts for share in [2400 if split == "train" else 300]
    )


def test_what_the_source_brings_stays_and_only_the_missing_is_cut():
    frame = table(range(600), split=["Training"] * 500 + ["dev"] * 100)
    found = assigned(frame)
    assert all(found[f"s{i:05d}"] == "val" for i in range(500, 600))
    free = assigned(table(range(500)))
    assert {k for k, v in found.items() if v == "test"} == {k for k, v in free.items() if v == "test"}
    whole = table(range(30), split=["train", "valid", "testing"] * 10, label=["a", "b"] * 15)
    assert list(assigned(whole).values()) == ["train", "val", "test"] * 10


def test_shares_and_zero():
    frame = table(range(2000))
    found = pl.Series(list(assigned(frame, val="0.3", test=0).values()))
    assert "test" not in set(found)
    assert abs((found == "val").mean() - 0.3) < 0.04
    with pytest.raises(BadInput, match="nothing to train on"):
        open_dataset(frame, val=0.5, test=0.5)
    with pytest.raises(BadInput, match="share is at least 0"):
        open_dataset(frame, val=1.5)
    assert parse_share("dev.csv", "val") is None


def test_a_small_class_lends_and_keeps_at_least_one_in_train():
    keys = [f"k{i}" for i in range(40)]
    uniform = stable_uniform(keys, "split")
    middle = [key for key, u in zip(keys, uniform, strict=True) if u > 0.2][:3]
    low = [key for key, u in zip(keys, uniform, strict=True) if u < 0.1][:2]
    order = sorted(middle, key=lambda key: uniform[keys.index(key)])
    labels = pl.Series(["lender"] * 3 + ["pair"] * 2)
    parts = dict(
        zip(middle + low, cut(pl.Series(["train"] * 5), labels, middle + low, val=0.1, test=0.1), strict=True)
    )
    assert [parts[key] for key in order] == ["val", "test", "train"]  # smallest hash, next, the rest
    last = max(low, key=lambda key: uniform[keys.index(key)])
    assert [parts[key] for key in low] == ["train" if key == last else "val" for key in low]


def test_every_class_of_three_or_more_is_in_every_split():
    frame = table(range(300), classes=60)
    samples = open_dataset(frame, text="text").samples
    assert samples.group_by("label").agg(pl.col("split").n_unique())["split"].to_list() == [3] * 60
    single = pl.concat([table(range(50)), table(range(50, 51)).with_columns(label=pl.lit("only one"))])
    for seed in range(5):
        one = single.with_columns(id=pl.col("id") + str(seed))
        assert open_dataset(one, text="text").samples.filter(pl.col("label") == "only one")[
            "split"
        ].to_list() == ["train"]


def test_groups_are_never_cut_apart():
    frame = table(range(900), speaker=[f"p{i // 9}" for i in range(900)])
    samples = open_dataset(frame, text="text", group="speaker").samples
    assert samples.group_by("group").agg(pl.col("split").n_unique())["split"].max() == 1
    assert set(samples["split"]) == {"train", "val", "test"}
    apart = open_dataset(frame, text="text").samples
    assert apart.group_by("speaker").agg(pl.col("split").n_unique())["split"].max() == 3
    holed = frame.with_columns(speaker=pl.when(pl.int_range(pl.len()) > 4).then("speaker"))
    with pytest.raises(BadInput, match="group column 'speaker' is empty in 5 rows"):
        open_dataset(holed, text="text", group="speaker")


def test_exact_twins_go_the_same_way_with_content_ids():
    frame = pl.DataFrame(
        {"text": [f"a text {i % 100}" for i in range(400)], "label": [f"c{i % 2}" for i in range(400)]}
    )
    samples = open_dataset(frame, text="text").samples
    assert samples.group_by("content_hash").agg(pl.col("split").n_unique())["split"].max() == 1


def test_repeats_over_given_splits_are_told():
    frame = pl.DataFrame({"text": ["a b c", "d e f", "g h i", "a b c", "x y z"], "label": ["p", "q", "p", "p", "q"], "split": ["train", "train", "train", "test", "val"]})  # fmt: skip
    opened = open_dataset(frame)
    twin = opened.samples.filter(pl.col("content_hash").is_duplicated())["sample_id"][0]
    assert "1 sample repeats the exact input of another." in opened.notes
    assert f"1 repeated input stands in more than one split (first: {twin})." in opened.notes


@pytest.mark.parametrize(
    ("values", "message"), [(["train", "extra"], "'extra'"), (["train", None], "1 empty values")]
)
def test_unknown_splits(values, message):
    with pytest.raises(BadInput, match=message):
        read_splits(pl.Series("split", values), "here")


def test_no_train_rows():
    with pytest.raises(BadInput, match="no train rows, only test"):
        open_dataset(table(range(10), split=["test"] * 10))
