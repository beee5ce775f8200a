"""The opened dataset: order, labels, content, guesses, and one clear line for what cannot be used."""

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines import dataset as module
from tracesift.pipelines import identity, planting, splits
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.sources import columns, labels

TABLE = pl.DataFrame(
    {
        "age": [31, 42, 53, 64, 75, 86],
        "city": ["Kano", "Lagos", "Kano", "Abuja", "Lagos", "Kano"],
        "label": ["yes", "no", "yes", "no", "yes", "no"],
    }
)


def notes_of(*args, **options) -> str:
    return "\n".join(open_dataset(*args, **options).notes)


def test_digits():
    opened = open_dataset("digits")
    assert (opened.kind, len(opened), opened.num_classes) == ("image", 1797, 10)
    assert opened.classes == tuple("0123456789")
    assert opened.inputs.dtype == np.uint8
    assert opened.inputs.max() == 255
    from sklearn.datasets import load_digits

    bunch = load_digits()
    by_pixels = {np.round(image * 255 / 16).astype(np.uint8).tobytes(): str(y) for image, y in zip(bunch.images, bunch.target, strict=True)}  # fmt: skip
    assert [by_pixels[image.tobytes()] for image in opened.inputs] == opened.samples["label"].to_list()
    assert opened.content([5])[0].size == (8, 8)
    assert opened.dataset_id == opened.fingerprint[:16]


def test_rows_are_sorted_by_id_and_everything_goes_along():
    opened = open_dataset(TABLE)
    assert opened.samples["sample_id"].is_sorted()
    assert dict(zip(opened.inputs["age"], opened.samples["label"], strict=True)) == dict(
        zip(TABLE["age"], TABLE["label"], strict=True)
    )
    assert [opened.classes[k] for k in opened.labels] == opened.samples["label"].to_list()
    assert opened.labels.dtype == np.int64
    parts = [opened.rows(split) for split in ("train", "val", "test")]
    assert sorted(np.concatenate(parts)) == list(range(6))
    assert opened.content([2])[0] == opened.inputs.row(2, named=True)
    with pytest.raises(BadInput, match="no split 'validation'"):
        opened.rows("validation")


def test_options_open_the_same_again(tmp_path):
    path = tmp_path / "set.csv"
    TABLE.rename({"label": "outcome"}).write_csv(path, separator=";")
    opened = open_dataset(path, label="outcome", features="age,city", val=0.2, delimiter=";")
    again = open_dataset(opened.source, **opened.options)
    assert again.fingerprint == opened.fingerprint
    assert again.options == opened.options
    assert opened.options["features"] == ["age", "city"]
    assert opened.name == "set"


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        (["10", "9", "1"], ("1", "9", "10")),
        ([1.0, 2.0, 10.0], ("1", "2", "10")),
        ([True, False, True], ("false", "true")),
        (["TRUE", "False", "true"], ("false", "true")),
        (["01", "1", "10"], ("01", "1", "10")),
        (["c10", "c9", "b"], ("b", "c9", "c10")),
        (["1E5", "2E5", "x"], ("1E5", "2E5", "x")),
        ([0.5, 1.5, 0.5], ("0.5", "1.5")),
    ],
)
def test_labels_as_text_in_natural_order(given, classes):
    frame = pl.DataFrame({"text": ["one", "two", "three"], "label": given})
    assert open_dataset(frame, text="text", val=0, test=0).classes == classes


def test_mixed_labels_in_json_lines_are_told(tmp_path):
    path = tmp_path / "m.jsonl"
    values = ['"01"', "1", "true", '"01"']
    path.write_text("".join(f'{{"text": "row {i}", "label": {value}}}\n' for i, value in enumerate(values)))
    opened = open_dataset(path, text="text", val=0, test=0)
    assert set(opened.classes) == {"01", "1", "true"}
    assert any("mixes bool and int and str" in note for note in opened.notes)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (["a", None, "b", None], "missing or NaN in 2 rows .first: 2, 4"),
        ([1.0, float("nan"), 2.0, 1.0], "missing or NaN in 1 row "),
        (["a"] * 4, "at least two classes"),
        ([["a"], ["b"], ["a", "b"], []], "multi-label"),
        ([{"name": "a", "by": 1}, {"name": "b", "by": 2}] * 2, "'label' holds objects of several fields"),
        ([0.11, 0.22, 0.33, 0.44], "regression"),
        ([None] * 4, "empty in every row"),
        ([f"row {i}" for i in range(30)], "30 different values in 30 rows, like an id"),
    ],
)
def test_labels_that_cannot_be_used(label, message):
    frame = pl.DataFrame({"text": [f"text {i}" for i in range(len(label))], "label": label})
    with pytest.raises(BadInput, match=message):
        open_dataset(frame, text="text")


def test_labels_that_differ_by_a_mark_between_splits():
    frame = pl.DataFrame(
        {"text": [f"text {i}" for i in range(8)], "label": ["<=50K", ">50K"] * 2 + [" <=50K.", ">50K."] * 2, "split": ["train"] * 4 + ["test"] * 4}
    )  # fmt: skip
    with pytest.raises(
        BadInput, match=r"train has \{'<=50K', '>50K'\}, test has \{' <=50K.', '>50K.'\}.*--clean-labels"
    ):
        open_dataset(frame, text="text")
    assert open_dataset(frame, text="text", clean_labels=True).classes == ("<=50K", ">50K")
    inside = frame.with_columns(split=pl.lit("train"))
    assert "differ only by blanks or a mark" in notes_of(inside, text="text")


def test_guesses_are_said():
    frame = pl.DataFrame(
        {"": [0, 1, 2, 3], "headline": ["a b c d", "e f g", "h i j k", "l m n"], "category": ["x", "y"] * 2}
    )
    opened = open_dataset(frame)
    assert opened.kind == "text"
    told = "\n".join(opened.notes)
    assert "'category' is taken as the label" in told
    assert "'headline' is taken as the text" in told
    assert "counts the rows and is left out" in told
    assert opened.samples.columns == ["sample_id", "split", "label", "label_true", "content_hash"]
    unnamed = frame.select("headline", mood="category")
    assert open_dataset(unnamed, val=0, test=0).classes == ("x", "y")


def test_the_note_of_the_ids_works_in_python_and_on_the_command_line():
    frame = TABLE.with_columns(id=pl.format("row {}", "age"))
    told = notes_of(frame, val=0, test=0)
    assert (
        "'id' is taken as the sample id; id='content-hash' (--id content-hash) makes ids from the content"
        in told
    )
    assert "sample id" not in notes_of(frame, id="content-hash", val=0, test=0)


def test_the_only_column_that_could_name_classes_is_the_label():
    frame = pl.DataFrame(
        {"a": [n / 7 for n in range(40)], "b": [n / 3 for n in range(40)], "diagnosis": ["m", "b"] * 20}
    )
    opened = open_dataset(frame, val=0, test=0)
    assert opened.classes == ("b", "m")
    assert "'diagnosis' is taken as the label" in "\n".join(opened.notes)


def test_numbers_with_a_few_other_cells_and_infinite_ones_are_told():
    frame = pl.DataFrame(
        {
            "a": [*map(str, range(38)), "n/a", "n/a"], "b": [float("inf"), *(n / 3 for n in range(39))],
            "label": ["x", "y"] * 20,
        }
    )  # fmt: skip
    told = notes_of(frame, val=0, test=0)
    assert "Column 'a' holds numbers but for 2 cells ('n/a'), so it is taken as categories" in told
    assert "Column 'b' has 1 infinite cell, taken as missing" in told
    assert "taken as categories" not in notes_of(TABLE, val=0, test=0)


def test_texts_that_may_stand_for_missing_values_are_told_and_read_as_before():
    jobs = ["cook", "?", "pilot", "?", None] * 8
    frame = pl.DataFrame(
        {
            "job": jobs, "land": pl.Series(["AT", "?", "NA", "DE", "AT"] * 8, dtype=pl.Categorical),
            "paid": ["1.5", "nan", "2", "nan", "3"] * 8, "age": [*map(str, range(39)), "?"],
            "label": ["x", "y"] * 19 + ["none", "none"],
        }
    )  # fmt: skip
    opened = open_dataset(frame, val=0, test=0)
    told = "\n".join(opened.notes)
    assert "'?' stands in 16 rows of 'job', 8 rows of 'land'; it is read as a value of its own" in told
    assert "'NA' stands in 8 rows of 'land';" in told
    assert "'none' stands in 2 rows of 'label';" in told
    assert "'nan' stands" not in told  # among numbers it is missing
    assert "'age' holds numbers but for 1 cell ('?')" in told  # once is enough
    assert opened.inputs["job"].null_count() == 8
    assert opened.inputs["job"].sort().to_list().count("?") == 16
    named = open_dataset(frame, features=["job", "land", "paid", "age"], val=0, test=0)
    assert [note for note in named.notes if "stands" in note or "but for" in note] == [
        note for note in opened.notes if "stands" in note or "but for" in note
    ]
    assert " stands in " not in notes_of(TABLE, val=0, test=0)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (TABLE.with_columns(target=pl.col("label")), "'label', 'target' could each be the label"),
        (TABLE.rename({"label": "outcome"}), "cannot tell which column is the label; candidates"),
        (TABLE.with_columns(remark=pl.format("this is remark {}", "age")), "reads like text beside numbers"),
        (TABLE.select("label", a=pl.format("some words {}", "age"), b=pl.format("other words {}", "age")), "could each be the text"),
        (TABLE.select("label"), "no column is left"),
        (TABLE.head(0), "no rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_guessed(frame, message):
    with pytest.raises(BadInput, match=message):
        open_dataset(frame)


def test_metadata_is_kept_beside_the_samples_and_read_by_no_model(tmp_path):
    path = tmp_path / "set.csv"
    TABLE.with_columns(owner=pl.col("age") % 2, target=pl.lit(0)).write_csv(path)
    opened = open_dataset(
        path, metadata="owner, target"
    )  # neither a feature nor a second candidate for the label
    assert opened.inputs.columns == ["age", "city"]
    assert opened.options["label"] == "label"
    assert {"owner", "target"} <= {*opened.samples.columns}
    again = open_dataset(opened.source, **opened.options)
    assert (again.fingerprint, again.options) == (opened.fingerprint, opened.options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "lable"}, "no column 'lable' .did you mean 'label'"),
        ({"features": ["age", "town"]}, "no column 'town'"),
        ({"text": "city", "features": "age"}, "three kinds of input"),
        ({"metadata": "town"}, "no column 'town'"),
        ({"metadata": "age", "features": ["age", "city"]}, "'age' cannot be both"),
        ({"metadata": "label", "label": "label"}, "'label' cannot be both"),
        ({"id": "label", "label": "label"}, "both the label and"),
        ({"on_error": "ignore"}, "'raise' or 'skip'"),
        ({"ids": [1, 2]}, "ids= is for torch datasets"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(BadInput, match=message):
        open_dataset(TABLE, **options)


def test_val_and_test_from_sources(tmp_path):
    for name, start in (("main", 0), ("dev", 100), ("held", 200)):
        rows = range(start, start + 40)
        pl.DataFrame({"n": rows, "m": [i / 8 for i in rows], "label": [f"c{i % 2}" for i in rows]}).write_csv(tmp_path / f"{name}.csv")  # fmt: skip
    opened = open_dataset(tmp_path / "main.csv", val=str(tmp_path / "dev.csv"), test=tmp_path / "held.csv")
    by_split = dict(zip(opened.inputs["n"], opened.samples["split"], strict=True))
    assert {n: by_split[n] for n in (0, 39, 100, 139, 200, 239)} == {0: "train", 39: "train", 100: "val", 139: "val", 200: "test", 239: "test"}  # fmt: skip
    assert opened.options["test"] == str(tmp_path / "held.csv")
    pl.DataFrame({"n": [1], "label": ["c0"]}).write_csv(tmp_path / "short.csv")
    with pytest.raises(BadInput, match=r"short.csv: no column 'm'"):
        open_dataset(tmp_path / "main.csv", test=tmp_path / "short.csv")
    with_split = pl.DataFrame(
        {"n": range(9), "label": list("ababababa"), "split": ["train", "val", "test"] * 3}
    )
    with pytest.raises(BadInput, match="has val rows of its own"):
        open_dataset(with_split, val=0.1)


def test_known_truth_is_kept_out_of_the_inputs():
    frame = TABLE.with_columns(label_true=pl.lit("yes"))
    opened = open_dataset(frame)
    assert opened.inputs.columns == ["age", "city"]
    assert opened.samples["label_true"].to_list() == ["yes"] * 6
    assert set(opened.samples["sample_id"]) == set(open_dataset(TABLE).samples["sample_id"])


def test_columns_beside_the_inputs_stay_and_give_way():
    frame = TABLE.with_columns(
        group=pl.lit("g"), row=pl.int_range(pl.len()), tags=pl.Series([["a", "b"]] * 6)
    )
    samples = open_dataset(frame, features=["age", "city"]).samples
    assert {"group_source", "row_source", "tags"} <= set(samples.columns)
    assert samples["tags"][0] == '["a", "b"]'
    grouped = open_dataset(frame.with_columns(group=pl.col("city")), features="age", group="group").samples
    assert "group_source" not in grouped.columns
    assert set(grouped["group"]) == {"Kano", "Lagos", "Abuja"}


def test_features_are_typed_alike_from_text_and_from_types(tmp_path):
    frame = pl.DataFrame({"a": ["1", "2", ""], "b": ["1.5", "2", "3"], "c": ["01", "2", "3"], "d": ["True", "false", ""], "e": ["2024-01-01", "2024-02-02", None], "label": ["x", "y", "x"]})  # fmt: skip
    found = open_dataset(frame, val=0, test=0).inputs
    assert [str(dtype) for dtype in found.dtypes] == ["Int64", "Float64", "String", "Boolean", "Date"]
    frame.write_csv(tmp_path / "t.csv")
    assert open_dataset(tmp_path / "t.csv", val=0, test=0).inputs.equals(found)


def test_vectors_in_one_column_become_a_matrix():
    vectors = [[0.5, 1.5], [2.0, 3.0], [4.0, 5.0]]
    opened = open_dataset(pl.DataFrame({"v": vectors, "label": ["a", "b", "a"]}), features="v", val=0, test=0)
    assert opened.inputs.dtype == np.float32
    assert sorted(opened.inputs.tolist()) == vectors
    assert opened.content([0])[0].keys() == {"x0", "x1"}
    ragged = pl.DataFrame({"v": [[1.0], [1.0, 2.0]], "label": ["a", "b"]})
    with pytest.raises(BadInput, match="differ in length"):
        open_dataset(ragged, features="v")
    with pytest.raises(BadInput, match="lists beside other features"):
        open_dataset(ragged.with_columns(w=pl.lit(1)))


@pytest.mark.parametrize("checked", [module, identity, splits, planting, columns, labels])
def test_examples_in_docstrings(checked):
    assert doctest.testmod(checked).failed == 0


@pytest.mark.data
def test_adult_as_it_is(real_data):
    options = {"format": "csv", "test": real_data / "adult" / "adult.test"}
    with pytest.raises(BadInput, match=r"test has {'<=50K.', '>50K.'}"):
        open_dataset(real_data / "adult" / "adult.data", **options)
    opened = open_dataset(real_data / "adult" / "adult.data", clean_labels=True, **options)
    assert opened.classes == ("<=50K", ">50K")
    assert len(opened.rows("test")) == 16281
    assert len(opened) == 48842
    assert opened.inputs["age"].dtype == pl.Int64
    assert opened.inputs["workclass"].str.starts_with(" ").sum() == 0
    assert (opened.inputs["workclass"] == "?").any()
    told = "'?' stands in 2799 rows of 'workclass', 2809 rows of 'occupation', 857 rows of 'native-country'; "
    assert told in "\n".join(opened.notes)


@pytest.mark.data
def test_fashion_mnist_as_it_is(real_data):
    opened = open_dataset(real_data / "fashion_mnist")
    assert opened.inputs.shape == (70000, 28, 28, 1)
    assert len(opened.rows("test")) == 10000
    assert len(opened.rows("train")) + len(opened.rows("val")) == 60000


def test_every_kind_opens_again_from_its_options(tmp_path):
    TABLE.write_parquet(tmp_path / "train.parquet")
    TABLE.with_columns(age=pl.col("age") + 1).write_parquet(tmp_path / "test.parquet")
    for source in ("digits", tmp_path):
        opened = open_dataset(source)
        assert open_dataset(opened.source, **opened.options).fingerprint == opened.fingerprint
    with pytest.raises(BadInput, match="has splits of its own; leave out split="):
        open_dataset(tmp_path, split="city")


def adapted(name: str, folder: Path, out: Path, *more: str) -> module.Dataset:
    script = Path(__file__).resolve().parents[2] / "examples" / f"{name}.py"
    subprocess.run([sys.executable, script, folder, out, *more], check=True, timeout=120)
    return open_dataset(out)


@pytest.mark.data
def test_odd_formats_through_the_examples(real_data, tmp_path):
    clinc = adapted("clinc150", real_data / "clinc150", tmp_path / "clinc.parquet")
    assert (len(clinc), clinc.num_classes) == (23700, 151)
    assert [len(clinc.rows(split)) for split in ("train", "val", "test")] == [15100, 3100, 5500]
    assert any("stand in more than one split" in note for note in clinc.notes)
    trec = adapted("trec6", real_data / "trec6", tmp_path / "trec.parquet")
    assert trec.classes == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert [len(trec.rows(split)) for split in ("train", "val", "test")] == [4965, 500, 500]
    hausa = adapted("hausa", real_data / "hausa_newsclass", tmp_path / "hausa.parquet")
    train = hausa.samples.filter(pl.col("split") == "train")
    assert round((train["label"] != train["label_true"]).mean(), 4) == 0.5037
    assert hausa.samples.filter(pl.col("split") != "train")["label_true"].null_count() == 872


@pytest.mark.data
def test_the_large_text_example_is_the_same_each_time(real_data, tmp_path):
    first = adapted("text_200k", real_data, tmp_path / "a.parquet", "5000", "7")
    again = adapted("text_200k", real_data, tmp_path / "b.parquet", "5000", "7")
    assert first.fingerprint == again.fingerprint
    wrong = first.samples.filter(pl.col("label") != pl.col("label_true"))
    assert len(wrong) == round(0.03 * len(first.rows("train")))
    assert set(wrong["split"]) == {"train"}
