"""Table files as they come: delimiters, quotes, encodings, folders, and files that are not whole."""

import gzip
import json

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.sources.delimited import read_delimited, sniff_delimiter
from tracesift.pipelines.sources.loaded import stack
from tracesift.pipelines.sources.opening import load

FRAME = pl.DataFrame({"n": [1, 2, 3, 4], "w": ["a", "b", "c", "d"], "label": ["x", "y", "x", "y"]})


def read(path, **options):
    return read_delimited(path, **({"delimiter": None, "encoding": None, "kind": "csv"} | options))


def put(folder, name: str, content: str | bytes):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_only_the_empty_field_is_missing(tmp_path):
    table, notes = read(put(tmp_path, "t.csv", 'a,b,c\n?,NA,\nnull,"","x, y"\n'))
    assert table.to_dict(as_series=False) == {"a": ["?", "null"], "b": ["NA", None], "c": [None, "x, y"]}
    assert notes == []


def test_blanks_go_only_where_the_dialect_has_them(tmp_path):
    table, notes = read(put(tmp_path, "blank.csv", 'age, work, y\n39, State-gov, <=50K\n50, "a, b", >50K \n'))
    assert table.columns == ["age", "work", "y"]
    assert table.row(1) == ("50", "a, b", ">50K")
    assert "blanks" in notes[0]
    kept, _ = read(put(tmp_path, "kept.csv", "text,y\n two words ,x\n"))
    assert kept["text"][0] == " two words "


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found_and_told(tmp_path, delimiter):
    text = FRAME.write_csv(separator=delimiter)
    assert sniff_delimiter(text) == delimiter
    path = put(tmp_path, "t.csv", text)
    opened = open_dataset(path, val=0, test=0)
    assert opened.inputs.sort("n").to_dict(as_series=False) == {"n": [1, 2, 3, 4], "w": ["a", "b", "c", "d"]}
    assert any("delimiter" in note for note in opened.notes) == (delimiter != ",")
    assert open_dataset(path, delimiter=delimiter, val=0, test=0).fingerprint == opened.fingerprint


def test_newlines_bom_and_compression(tmp_path):
    text = '\ufeffn,w,label\r\n1,"two\nlines",x\r\n\r\n2,b,y\r\n'
    table, _ = read(put(tmp_path, "t.csv.gz", gzip.compress(text.encode())))
    assert table.to_dict(as_series=False) == {"n": ["1", "2"], "w": ["two\nlines", "b"], "label": ["x", "y"]}


def test_quotes_that_are_no_csv_quotes(tmp_path):
    table, notes = read(
        put(tmp_path, "t.tsv", 'text\tlabel\n"Go" he said\tx\nit is 5" long\ty\n'), kind="tsv"
    )
    assert table["text"].to_list() == ['"Go" he said', 'it is 5" long']
    assert "plain characters" in notes[0]
    with pytest.raises(BadInput, match="quote that is not closed"):
        read(put(tmp_path, "open.csv", 'text,label\n"never, closed,x\nb,y\n'))


def test_a_note_leaves_the_name_of_the_file_as_it_is(tmp_path):
    rows = "".join(f"{row}, {row % 2}\n" for row in range(20))
    opened = open_dataset(put(tmp_path, "adult.csv", f"value, label\n{rows}"), val=0, test=0)
    assert "In adult.csv, blanks around names and values are stripped." in opened.notes
    opened = open_dataset(
        put(tmp_path, "adult.csv", f"value;label\n{rows.replace(', ', ';')}"), val=0, test=0
    )
    assert "The delimiter of adult.csv is ';'." in opened.notes


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "a,b\n1,2\n\n3\n4,5\n", "line 4 has 1 field where the header has 2"),
        ("t.csv", "a,b,a\n1,2,3\n", "'a' stands twice"),
        ("t.csv", "", "the file is empty"),
        ("t.csv", "a,b\n", "no rows"),
        ("t.csv", "a,b\nx,caf\xe9\n".encode("latin-1"), "line 2 is not utf-8 .byte 0xe9.*--encoding"),
        ("t.csv.gz", b"\x1f\x8bnope", "not a whole gzip"),
        ("t.parquet", b"PAR1 cut short", "not a whole parquet file"),
        ("t.arrow", b"ARROW1 cut", "not a whole arrow file"),
        ("s.arrow", b"\xff\xff\xff\xff cut", "not a whole arrow file"),
        ("t.npz", b"PK nothing", "not a readable npz"),
        ("t.json", '{"train": [1]}', "object with keys train"),
        ("t.json", "[1, 2]", "no list of records"),
        ("t.json", '[{"a": 1}', "not JSON"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not JSON .Expecting value at column 7"),
        ("t.jsonl", "[1]\n", "line 1 holds list"),
        ("t.json", "[]", "no rows"),
        ("t.weird", "a,b\n1,2\n", "give --format"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, content, message):
    path = put(tmp_path, name, content)
    with pytest.raises(BadInput, match=message) as raised:
        open_dataset(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_cut_parquet_file(tmp_path):
    FRAME.write_parquet(tmp_path / "whole.parquet")
    path = put(tmp_path, "cut.parquet", (tmp_path / "whole.parquet").read_bytes()[:-20])
    with pytest.raises(BadInput, match=r"cut\.parquet: not a whole parquet file"):
        open_dataset(path)


def test_encodings_and_formats_by_option(tmp_path):
    path = put(tmp_path, "t.data", "text,label\ncaf\xe9 au lait,x\nun th\xe9 vert,y\n".encode("latin-1"))
    opened = open_dataset(path, format="csv", encoding="latin-1", text="text", val=0, test=0)
    assert sorted(opened.inputs) == ["café au lait", "un thé vert"]
    with pytest.raises(BadInput, match="unknown encoding"):
        open_dataset(path, format="csv", encoding="latin-99")
    with pytest.raises(BadInput, match="did you mean 'parquet'"):
        open_dataset(path, format="parqet")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path, encoding, name):
    content = FRAME.write_csv() if name.endswith("csv") else FRAME.write_ndjson()
    path = put(tmp_path, name, ("\ufeff" + content).encode(encoding))
    with pytest.raises(BadInput, match=r"byte order mark of (utf-..): give --encoding \1") as refused:
        open_dataset(path)
    advised = str(refused.value).split()[-1]
    assert (
        open_dataset(path, encoding=advised, val=0, test=0).fingerprint
        == open_dataset(FRAME, val=0, test=0).fingerprint
    )


def test_json_lines_keep_types_and_missing_keys(tmp_path):
    rows = [{"n": 1, "f": 1, "label": "x"}, {"n": 2**70, "f": 2.5, "label": "y", "deep": {"b": 1, "a": [2]}}]
    table = load(put(tmp_path, "t.jsonl", "\n".join(map(json.dumps, rows)))).table
    assert table["n"].to_list() == ["1", str(2**70)]
    assert table["f"].to_list() == [1.0, 2.5]
    assert table["deep"].to_list() == [None, '{"a": [2], "b": 1}']


def test_folder_of_shards_and_of_splits(tmp_path):
    for at in range(2):
        FRAME[2 * at : 2 * at + 2].write_parquet(tmp_path / f"part-{at}.parquet")
    (tmp_path / "README.md").write_text("about")
    whole = open_dataset(FRAME, val=0, test=0)
    assert open_dataset(tmp_path, val=0, test=0).fingerprint == whole.fingerprint
    splits = tmp_path / "splits"
    splits.mkdir()
    for name in ("train", "dev-00000-of-00001", "test"):
        FRAME.with_columns(n=pl.col("n") + len(name)).write_csv(splits / f"{name}.csv")
    assert open_dataset(splits).samples["split"].value_counts().sort("split").rows() == [
        ("test", 4),
        ("train", 4),
        ("val", 4),
    ]
    FRAME.write_csv(splits / "extra.csv")
    with pytest.raises(BadInput, match=r"extra\.csv is none"):
        open_dataset(splits)
    FRAME.write_parquet(splits / "train.parquet")
    with pytest.raises(BadInput, match="csv and parquet files; give --format"):
        open_dataset(splits)
    FRAME.drop("w").write_parquet(tmp_path / "part-2.parquet")
    with pytest.raises(BadInput, match=r"differ from those of part-0.parquet in w"):
        open_dataset(tmp_path)


def test_stacking_meets_in_one_type_and_keeps_short_floats():
    narrow = pl.DataFrame({"f": pl.Series([0.1], dtype=pl.Float32), "i": [1], "s": ["01"]})
    wide = pl.DataFrame({"f": [0.2], "i": [2.5], "s": [7]})
    assert stack([narrow, wide]).to_dict(as_series=False) == {
        "f": [0.1, 0.2],
        "i": [1.0, 2.5],
        "s": ["01", "7"],
    }


def test_npz_of_features_texts_and_errors(tmp_path):
    x = np.arange(12, dtype=np.float64).reshape(6, 2) / 4
    y = np.array([0, 1] * 3)
    np.savez(tmp_path / "f.npz", x=x, y=y, id=np.arange(6), split=np.array(["train", "val"] * 3))
    opened = open_dataset(tmp_path / "f.npz", test=0)
    assert opened.kind == "tabular"
    assert opened.inputs.dtype == np.float32
    np.testing.assert_array_equal(opened.inputs, x)
    assert opened.samples["sample_id"].to_list() == list("012345")
    assert opened.samples["split"].to_list() == ["train", "val"] * 3
    np.savez(tmp_path / "t.npz", x=np.array(["a b", "c"]), y=np.array(["p", "q"]))
    assert open_dataset(tmp_path / "t.npz", val=0, test=0).inputs in (["a b", "c"], ["c", "a b"])
    bad = {
        "no array 'y'": {"x": x}, "multi-label": {"x": x, "y": np.eye(6)}, "x has 6 rows": {"x": x, "y": y[:3]},
        "no input known here": {"x": x.reshape(6, 2, 1), "y": y}, "plain arrays": {"x": x, "y": np.array([None] * 6)},
    }  # fmt: skip
    for message, arrays in bad.items():
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(BadInput, match=message):
            open_dataset(tmp_path / "bad.npz")


@pytest.mark.parametrize("source", ["no/such/file.csv", "digit", ""])
def test_nothing_there(source):
    with pytest.raises(BadInput, match="no such file or folder"):
        open_dataset(source)


def test_folders_without_a_dataset(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(BadInput, match=r"no dataset found in this folder .it holds notes.txt"):
        open_dataset(tmp_path)
