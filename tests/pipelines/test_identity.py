"""Ids: one table in every format, and under everything that may happen to it, keeps its ids."""

import datetime as dt
import json
import random

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import identity
from tracesift.pipelines.dataset import open_dataset


def everything() -> pl.DataFrame:
    """One column of each type that a table may hold; every row differs."""
    return pl.DataFrame(
        {
            "whole": [1, 2, None, 4, -5, 6],
            "float64": [0.1, 1.0, None, 1e22, 1.2345678901234567e-7, -0.0],
            "float32": pl.Series([0.1, 2.0, None, 1e20, 3e-5, 16777216.0], dtype=pl.Float32),
            "truth": [True, False, None, True, False, True],
            "day": [dt.date(2024, 5, 1), None, dt.date(1999, 12, 31), *[dt.date(2000, 1, d) for d in (1, 2, 3)]],
            "moment": [dt.datetime(2024, 5, 1, 12, 30, 5, 250000), None, *[dt.datetime(2024, 5, d) for d in (1, 2, 3, 4)]],
            "zeros": ["01", "1", "007", "x", None, "2"],
            "kind": pl.Series(["a", "b", "a", None, "b", "c"], dtype=pl.Categorical),
            "word": ["naïve", "日本", "a,b", 'say "x"', "tab\there", "?"],
            "label": ["yes", "no", "yes", "no", "yes", "no"],
        }
    )  # fmt: skip


def ids(source, **options) -> set[str]:
    return set(open_dataset(source, label="label", val=0, test=0, **options).samples["sample_id"])


def pairs(source, **options) -> dict[str, str]:
    samples = open_dataset(source, label="label", val=0, test=0, **options).samples
    return dict(samples.select("sample_id", "label").iter_rows())


def written(frame: pl.DataFrame, folder) -> dict[str, object]:
    """The frame in every format that can hold it, as a source each."""
    frame.write_parquet(folder / "t.parquet")
    frame.write_csv(folder / "t.csv")
    frame.write_csv(folder / "t.tsv", separator="\t")
    frame.to_pandas().to_csv(folder / "p.csv", index=False)
    frame.write_ndjson(folder / "t.jsonl")
    (folder / "t.json").write_text(
        json.dumps([json.loads(line) for line in (folder / "t.jsonl").read_text().splitlines()])
    )
    frame.write_ipc(folder / "t.arrow")
    frame.write_ipc_stream(folder / "stream.arrow")
    plain = frame.with_columns(pl.col("kind").cast(pl.String))
    held = datasets.Dataset.from_polars(plain)
    held.save_to_disk(folder / "saved")
    files = {
        name: str(folder / name)
        for name in (
            "t.parquet",
            "t.csv",
            "t.tsv",
            "p.csv",
            "t.jsonl",
            "t.json",
            "t.arrow",
            "stream.arrow",
            "saved",
        )
    }
    return {
        **files,
        "polars": frame,
        "pandas": frame.to_pandas(),
        "arrow": frame.to_arrow(),
        "datasets": held,
    }


def test_same_ids_in_every_format(tmp_path):
    expected = pairs(everything())
    assert len(expected) == 6
    for name, source in written(everything(), tmp_path).items():
        assert pairs(source) == expected, name


def test_fingerprint_is_that_of_the_table_not_of_its_format(tmp_path):
    seen = {
        open_dataset(source, label="label").fingerprint for source in written(everything(), tmp_path).values()
    }
    assert len(seen) == 1


def test_shuffling_relabelling_filtering_and_growing_rename_nobody():
    frame = everything()
    before = ids(frame)
    assert ids(frame.sample(fraction=1, shuffle=True, seed=3)) == before
    assert ids(frame.select(reversed(frame.columns))) == before
    assert ids(frame.with_columns(label=pl.Series(["no", "yes"] * 3))) == before
    assert ids(frame.head(4)) < before
    # one word in a column of numbers, one zero in front: whatever a column is inferred as, old rows keep their ids
    odd = frame.cast(pl.String).with_columns(whole=pl.lit("word"), truth=pl.lit("maybe"), day=pl.lit("soon"))
    grown = pl.concat([frame.cast(pl.String), odd])
    assert before < ids(grown)
    assert len(ids(grown)) == 12


def test_content_changes_the_id_and_types_do_not_collide():
    base = pl.DataFrame({"a": [1, 2], "b": ["x", "y"], "label": ["p", "q"]})
    changed = base.with_columns(b=pl.Series(["x", "z"]))
    assert len(ids(base) & ids(changed)) == 1
    moved = pl.DataFrame({"a": ["x", "y"], "b": [1, 2], "label": ["p", "q"]})
    assert not ids(base) & ids(moved)
    joined = pl.DataFrame({"a": ["1,x"], "b": [""]})
    split = pl.DataFrame({"a": ["1"], "b": [",x"]})
    assert identity.hash_table(joined) != identity.hash_table(split)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.0", "1"), ("-0", "0"), ("-0.0", "0"), ("01", "01"), ("1.50", "1.5"), ("1e3", "1000"), ("1e-7", "1e-07"),
        ("0.10000000000000001", "0.1"), ("123456789012345678901", "123456789012345678901"), ("1e999", "1e999"),
        ("TRUE", "true"), ("False", "false"), ("NaN", None), ("", None), ("-Infinity", "-inf"), ("null", "null"),
        ("2024-05-01 00:00:00.000", "2024-05-01"), ("2024-05-01 10:20", "2024-05-01T10:20:00"),
        ("2024-05-01T01:00:00.500+02:00", "2024-04-30T23:00:00.5Z"), ("2024-02-31T00:00:00+01:00", "2024-02-31T00:00:00+01:00"),
        ("10:00:00.250", "10:00:00.25"), ("1\n", "1\n"), ("+1", "+1"), ("१", "१"), ("1_000", "1_000"), ("ok", "ok"),
    ],
)  # fmt: skip
def test_canonical_text(value, text):
    assert identity.canonical_text(value) == text
    assert identity.canonical_column(pl.Series([value, "other"]))[0] == text


@given(st.lists(st.floats(width=32), min_size=1))
@settings(deadline=None, max_examples=60)
def test_float32_agrees_with_its_shortest_text(values):
    narrow = pl.Series(values, dtype=pl.Float32)
    shortest = pl.Series([str(np.float32(value)) for value in values])
    assert identity.canonical_column(narrow).to_list() == identity.canonical_column(shortest).to_list()


@given(st.lists(st.floats(), min_size=1))
@settings(deadline=None, max_examples=60)
def test_float64_agrees_with_python(values):
    found = identity.canonical_column(pl.Series(values, dtype=pl.Float64)).to_list()
    for value, text in zip(values, found, strict=True):
        assert (text is None) == (value != value)
        assert text is None or float(text) == value
        assert identity.canonical_text(repr(value)) == text


def test_lists_are_hashed_by_their_elements():
    frame = pl.DataFrame({"v": [[1.0, 2.5], [1.0], [], None, [12.5]]})
    narrow = pl.DataFrame({"v": pl.Series([[1.0, 2.5], [1.0], [], None, [12.5]], dtype=pl.List(pl.Float32))})
    hashes = identity.hash_table(frame)
    assert len(set(hashes)) == 5
    assert identity.hash_table(narrow) == hashes
    fixed = pl.DataFrame({"v": pl.Series([[1.0, 2.5]], dtype=pl.Array(pl.Float64, 2))})
    assert identity.hash_table(fixed) == hashes[:1]


def test_twins_are_numbered_by_label_then_by_the_rest():
    frame = pl.DataFrame(
        {
            "text": ["same one here"] * 4 + ["another text there"],
            "label": ["b", "a", "a", "a", "b"],
            "note": [1, 3, 2, 10, 5],
        }
    )
    expected = None
    for seed in range(4):
        shuffled = frame.sample(fraction=1, shuffle=True, seed=seed)
        opened = open_dataset(shuffled, text="text", label="label", val=0, test=0)
        found = dict(zip(opened.samples["note"], opened.samples["sample_id"], strict=True))
        expected = expected or found
        assert found == expected
    base = expected[10]
    assert [expected[note] for note in (10, 2, 3, 1)] == [
        base,
        f"{base}-1",
        f"{base}-2",
        f"{base}-3",
    ]  # "10" < "2"
    assert opened.samples["content_hash"].n_unique() == 2
    assert len(base) == 32
    assert int(base, 16) >= 0


def test_fingerprint_changes_with_any_content_and_not_with_order():
    frame = pl.DataFrame({"id": [f"s{i}" for i in range(40)], "text": [f"some words {i}" for i in range(40)], "label": ["a", "b"] * 20, "split": ["train"] * 20 + ["val"] * 10 + ["test"] * 10})  # fmt: skip

    def print_of(changed):
        return open_dataset(changed, text="text").fingerprint

    whole = print_of(frame)
    assert len(whole) == 64
    assert print_of(frame.reverse()) == whole
    at = pl.int_range(pl.len()) == 3
    for change in (
        pl.when(at).then(pl.lit("a")).otherwise("label").alias("label"),
        pl.when(at).then(pl.lit("test")).otherwise("split").alias("split"),
        pl.when(at).then(pl.lit("new words")).otherwise("text").alias("text"),
        pl.when(at).then(pl.lit("s99")).otherwise("id").alias("id"),
    ):
        assert print_of(frame.with_columns(change)) != whole
    assert print_of(frame.head(39)) != whole
    swapped = frame.with_columns(label=pl.col("label").reverse())  # same labels, on other samples
    assert print_of(swapped) != whole


def test_user_ids_as_text():
    frame = pl.DataFrame({"id": [1.0, 2.0, 10.0], "text": ["one", "two", "ten"], "label": ["a", "b", "a"]})
    opened = open_dataset(frame, text="text", val=0, test=0)
    assert opened.samples["sample_id"].to_list() == ["1", "10", "2"]
    assert opened.inputs == ["one", "ten", "two"]
    strings = open_dataset(frame.with_columns(id=pl.Series(["01", "1", "True"])), text="text", val=0, test=0)
    assert strings.samples["sample_id"].to_list() == ["01", "1", "True"]
    hashed = open_dataset(frame, text="text", id="content-hash", val=0, test=0)
    assert set(hashed.samples["sample_id"]) == set(opened.samples["content_hash"])


@pytest.mark.parametrize(
    ("column", "message"),
    [([1.0, None, 3.0], "empty in 1 row "), ([1, 1, 2], "more than once"), (["a", "", "b"], "empty in 1"), ([[1], [2], [3]], "List")],
)  # fmt: skip
def test_bad_user_ids(column, message):
    frame = pl.DataFrame({"id": column, "text": ["one", "two", "ten"], "label": ["a", "b", "a"]})
    with pytest.raises(BadInput, match=message):
        open_dataset(frame, text="text")


def test_mixed_ids_in_json_lines(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text('{"id": 1, "text": "a b c", "label": "x"}\n{"id": "1", "text": "b c d", "label": "y"}\n')
    with pytest.raises(BadInput, match="id column 'id' mixes int and str"):
        open_dataset(path)


def test_an_image_is_the_same_as_array_and_as_lossless_file(tmp_path):
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (6, 9, 7), dtype=np.uint8)
    for at, image in enumerate(pixels):
        for suffix in ("png", "bmp", "tiff"):
            folder = tmp_path / suffix / ("a" if at % 2 else "b")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{at}.{suffix}")
    np.savez(tmp_path / "x.npz", x=pixels, y=np.arange(6) % 2)
    expected = ids(tmp_path / "x.npz")
    assert len(expected) == 6
    for suffix in ("png", "bmp", "tiff"):
        assert ids(tmp_path / suffix) == expected
    assert identity.hash_images(pixels[..., None]) != identity.hash_images(pixels.reshape(6, 7, 9, 1))


def test_stable_uniform_is_uniform_and_keyed():
    keys = [f"k{i}" for i in range(4000)]
    first, second = identity.stable_uniform(keys, "a"), identity.stable_uniform(keys, "b")
    assert first.min() >= 0
    assert first.max() < 1
    assert abs(first.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.06
    shuffled = random.Random(0).sample(keys, 100)
    at = [keys.index(key) for key in shuffled]
    np.testing.assert_array_equal(identity.stable_uniform(shuffled, "a"), first[at])


def test_pandas_of_object_and_nullable_columns():
    plain = pl.DataFrame(
        {"n": [1, None, 3], "t": ["a", None, "c"], "b": [True, False, None], "label": ["x", "y", "x"]}
    )
    frame = pd.DataFrame(
        {"n": [1.0, np.nan, 3.0], "t": ["a", None, "c"], "b": [True, False, None], "label": ["x", "y", "x"]}
    )
    assert ids(frame) == ids(plain)
    assert ids(frame.convert_dtypes()) == ids(plain)
