"""What was made between a deletion request and the purge, and what lies beside, loses the samples as well."""

import contextlib
import html
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.manifest import verify_manifest
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.work import existing
from tracesift.pipelines.embedding.stored_embeddings import store_vectors, stored_embedding


def texts():
    """A hundred texts of two languages; alice's are the rows that eleven divides, in every split."""
    rng = np.random.default_rng(0)
    words = (
        ["one", "two", "three", "four", "five", "six"],
        ["uno", "dos", "tres", "cuatro", "cinco", "seis"],
    )
    return pl.DataFrame(
        {
            "key": [f"person-{row:04d}" for row in range(100)],
            "text": [
                f'zqx{row:04d}mark "' + " ".join(rng.choice(words[row % 2], 6)) + '" ünd'
                for row in range(100)
            ],
            "label": [("english", "spanish")[row % 2] for row in range(100)],
            "owner": ["alice" if row % 11 == 0 else f"o{row % 5}" for row in range(100)],
            "split": [{3: "val", 4: "test"}.get(row % 9, "train") for row in range(100)],
        }
    )


ALONE = ("--param", "near_duplicate=null", "--param", "near_words=null")
READ = ("--id", "key", "--text", "text", "--label", "label")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with texts.csv and `base`: alice's samples are to be deleted; nobody writes here."""
    folder = tmp_path_factory.mktemp("since")
    texts().write_csv(folder / "texts.csv")
    with contextlib.chdir(folder):
        for words in (
            ["ingest", str(folder / "texts.csv"), *READ],
            ["forget", "--owner", "alice", *ALONE],
        ):
            assert run([*words, "--workspace", "base"]) == 0
    return folder


@pytest.fixture
def here(base, tmp_path, monkeypatch):
    """An own working directory with a copy `w` of that workspace."""
    shutil.copytree(base / "base", tmp_path / "w")
    Catalog(tmp_path / "w").check_writable()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def told(capsys):
    def call(*words, code=0):
        capsys.readouterr()
        given = run([*map(str, words), *(() if words[0] == "export" else ("--workspace", "w"))])
        out, err = capsys.readouterr()
        assert given == code, err
        return out, err

    return call


ALICES = texts().filter(pl.col("owner") == "alice")


def by_number(rows, split):
    """Vectors that say whose they are: the number in the id."""
    samples = rows.samples["sample_id"].gather(rows.rows(split))
    numbers = samples.str.tail(4).cast(pl.Float32).to_numpy()
    return np.stack([numbers, np.ones_like(numbers)], axis=1)


def test_vectors_go_by_whom_they_are_of_before_a_request_and_since(here, told):
    work = existing(Path("w"))
    for name, seen in (("before", work.dataset), ("since", work.trainable)):
        held = {split: by_number(seen, split) for split in ("train", "val", "test")}
        store_vectors(work.path, name, seen, held, {"source": "user", "sha256": "0"})
    told("embed", "--source", "content")  # without hers, and with a graph
    told("purge", "--all")
    left = existing(Path("w")).dataset
    for name in ("before", "since"):
        stored = stored_embedding("w", name, left)
        for split in ("train", "val", "test"):
            assert (stored.vectors(split) == by_number(left, split)).all()
        assert "withheld_by" not in stored.record["dataset"]
    content = stored_embedding("w", "content", left)
    assert len(content.vectors("train")) == len(left.rows("train"))
    content.verify()
    assert content.record["made"]["before_purge"]  # hers had a part in the document frequencies
    told("embed", "--source", "content")  # so it is made anew
    assert "before_purge" not in stored_embedding("w", "content", left).record["made"]


def test_vectors_whose_samples_nobody_knows_any_more_go_whole(here, told):
    told("embed", "--source", "content")
    told("requests", "--unlink")
    told("forget", "--where", "sample_id = 'person-0001'", *ALONE, "--name", "later")
    told("purge", "--all")
    assert not Path("w/embeddings/content").exists()


def names_anybody(folder):
    """Return the files that hold an id or a text of alice's, as they stand there, or in a Parquet file."""
    wanted = [*ALICES["key"], *ALICES["text"].str.slice(0, 11)]
    found = set()
    for path in sorted(folder.rglob("*.*")):
        if path.suffix == ".parquet":
            texts = pl.read_parquet(path).select(pl.selectors.string()).get_columns()
            held = any(column.str.contains_any(wanted).any() for column in texts)
        else:
            held = path.is_file() and any(one.encode() in path.read_bytes() for one in wanted)
        if held and path.suffix != ".duckdb":
            found.add(path.relative_to(folder).as_posix())
    return found


FORMATS = ("open-unlearning", "parquet", "indices")


def test_an_export_in_the_workspace_goes_and_one_outside_is_named(here, told):
    for format in FORMATS:
        told("export", "w/manifests/forget-ready", "--to", f"w/out/{format}", "--format", format)
    told("export", "w/manifests/forget-ready", "--to", "elsewhere", "--format", "parquet")
    told("export", "w/manifests/forget-ready", "--to", "deleted", "--format", "parquet")
    shutil.rmtree("deleted")
    Path("w/out/parquet/notes.txt").write_text("mine")
    other = Path("w/kept/export.json")  # called like ours, and none
    other.parent.mkdir()
    other.write_text("[]")
    shutil.copytree("w/manifests/forget-ready", "w/backup")
    assert {"out/parquet/manifest/members.parquet", "backup/members.parquet"} <= names_anybody(Path("w"))
    out, err = told("purge", "--all", "--dry-run", "--json")
    assert [one["folder"] for one in json.loads(out)["exports"]] == [
        *(f"w/out/{format}" for format in sorted(FORMATS)),
        str(here / "elsewhere"),
    ]
    assert len(list(Path("w/out").iterdir())) == 3
    out, err = told("purge", "--all")
    assert not names_anybody(Path("w"))
    assert [path.as_posix() for path in Path("w/out").rglob("*") if path.is_file()] == [
        "w/out/parquet/notes.txt"
    ]
    assert other.exists()
    assert verify_manifest("w/backup") == []
    assert "w/out/indices, an export that held purged samples, is removed: `tracesift export" in err
    assert f"{here}/elsewhere is an export that holds purged samples, outside of w: delete it yourself" in err
    assert f"{here}/deleted" not in err
    told("export", "w/manifests/forget-ready-random", "--to", "w/again", "--format", "parquet")
    told("export", "w/manifests/forget-ready-random", "--to", "afterwards", "--format", "parquet")
    Path("hers.txt").write_text("\n".join(ALICES["key"]))
    out, err = told("purge", "hers.txt", "--json")  # it still stands, and those made since hold nobody
    assert [one["folder"] for one in json.loads(out)["exports"]] == [str(here / "elsewhere")]
    assert Path("w/again/export.json").exists()


def test_sentences_in_tables_name_them_no_more(here, told):
    members = "SELECT sample_id, role, reason FROM subset_members WHERE reason LIKE '%person-%'"
    told("sql", members, "--parquet", "w/members.parquet")
    told("sql", "SELECT sample_id AS who, reason FROM subset_members", "--parquet", "w/renamed.parquet")
    told("sql", f"SELECT reason FROM ({members})", "--parquet", "w/reasons.parquet")
    before = pl.read_parquet("w/members.parquet").filter(~pl.col("sample_id").is_in(ALICES["key"].implode()))
    told_of_hers = before.filter(pl.col("reason").str.contains_any(ALICES["key"].to_list()))
    assert told_of_hers.height  # others, of which a sentence says whom they are near
    _, err = told("purge", "--all")
    assert names_anybody(Path("w")) == {"renamed.parquet"}
    assert "w/renamed.parquet names a purged sample" in err
    after = pl.read_parquet("w/members.parquet")
    assert after.select("sample_id", "role").equals(before.select("sample_id", "role"))
    changed = after.filter(pl.col("reason") != before["reason"])
    assert set(told_of_hers["sample_id"]) <= set(changed["sample_id"])
    assert after["reason"].str.contains("a purged sample", literal=True).any()


def test_files_of_others_that_hold_a_text_are_named(here, told):
    hers = ALICES["text"][0]
    mine = texts().filter(pl.col("owner") == "o1")["text"][0]
    held = {
        "plain.txt": f"seen: {hers}.", "lines.jsonl": json.dumps({"t": hers}),
        "wide.json": json.dumps([hers], ensure_ascii=False), "page.html": f"<p>{html.escape(hers)}</p>",
    }  # fmt: skip
    for name, text in (held | {"mine.txt": mine, "part.txt": hers[:15]}).items():
        Path("w", name).write_text(text)
    pl.DataFrame({"t": [hers]}).write_csv("w/rows.csv")
    pl.DataFrame({"t": [hers]}).write_parquet("w/rows.parquet")
    pl.DataFrame({"sample_id": ["person-0001"], "near": [hers]}).write_csv("w/pairs.csv")
    named = {*held, "rows.csv", "rows.parquet", "pairs.csv"}
    out, _ = told("purge", "--all", "--dry-run", "--json")
    assert set(json.loads(out)["left"]) == {f"w/{name}" for name in named}
    known = existing(Path("w")).catalog.newest_dataset()["details"]["location"]["source"]
    Path(known).rename("away.csv")
    try:
        out, err = told("purge", "--all", "--json")
    finally:
        Path("away.csv").rename(known)
    assert json.loads(out)["left"] == []
    assert "searched for ids alone" in err
