"""The command `goldfish`: the masks that it writes, who reads them, and what becomes of them."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.goldfish import KEY, MASKS, read_masks, write_masks
from tracesift.catalog.manifest import read_manifest, read_members
from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.goldfish import goldfish
from tracesift.flows.work import existing
from tracesift.pipelines.subset import load_manifest
from tracesift.selectors.decisions.goldfish_mask import goldfish_mask

HALF = Path("texts/manifests/half")
FILE = HALF / "versions" / "0001" / "goldfish.parquet"
WORDS = ("goldfish", "half", "--tokenizer", "tokenizer", "--workspace", "texts")


@pytest.fixture
def told(songs, tmp_path, monkeypatch, capsys):
    """A function: run a command in an own copy of the songs; return exit code, stdout and stderr."""
    shutil.copytree(songs, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    Catalog(tmp_path / "texts").check_writable()

    def call(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, *capsys.readouterr()

    return call


def texts():
    return dict(pl.read_csv("songs.csv").select("id", "text").iter_rows())


def kept(role="keep"):
    return read_members(HALF, read_manifest(HALF)).filter(role=role)["sample_id"].to_list()


def token_ids(text, *, mark=True):
    """What the tokenizer makes of a text, without it: an id per byte, by the order of its letters for bytes."""
    from tokenizers import pre_tokenizers

    order = sorted(pre_tokenizers.ByteLevel.alphabet())
    shown = "".join(
        part for part, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(text)
    )
    return np.array([256] * mark + [order.index(one) for one in shown])


# --- what is written


def test_every_kept_text_gets_the_mask_of_its_tokens(told):
    code, out, _ = told(*WORDS, "--json")
    assert code == 0
    made = json.loads(out)
    assert (made["file"], made["version"], made["written"]) == (str(FILE), 1, True)
    rows = pl.read_parquet(FILE)
    assert dict(rows.schema) == MASKS
    assert rows["sample_id"].to_list() == kept()
    assert 0 < rows.height < len(texts())
    for sample_id, tokens, masked in rows.iter_rows():
        ids = token_ids(texts()[sample_id])
        assert tokens == len(ids)
        assert masked == np.flatnonzero(goldfish_mask(ids)).tolist()
    assert made["tokens"] == rows["tokens"].sum()
    assert made["masked"] == rows["masked"].list.len().sum()
    assert 0.15 < made["share"] < 0.3


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (("--k", "3", "--h", "5", "--seed", "7"), {"k": 3, "h": 5, "seed": 7}),
        (("--rule", "static", "--k", "5", "--start", "2"), {"rule": "static", "k": 5, "start": 2}),
    ],
)
def test_settings_and_the_tokens_that_a_tokenizer_adds(words, settings, told):
    assert told(*WORDS, *words, "--no-special-tokens")[0] == 0
    rows, record = read_masks(FILE)
    for sample_id, tokens, masked in rows.iter_rows():
        ids = token_ids(texts()[sample_id], mark=False)
        assert tokens == len(ids)
        assert masked == np.flatnonzero(goldfish_mask(ids, **settings)).tolist()
    assert record.rule == {"rule": "hash", **settings}
    assert record.tokenizer["special_tokens"] is False


def test_texts_too_short_for_a_mask_are_counted(told):
    assert told(*WORDS)[0] == 0
    h = int(pl.read_parquet(FILE)["tokens"].median())
    code, _, err = told(*WORDS, "--h", str(h))
    rows = pl.read_parquet(FILE)
    whole = rows.filter(pl.col("masked").list.len() == 0).height
    assert code == 0
    assert 0 < rows.filter(pl.col("tokens") <= h).height <= whole < rows.height
    assert (
        f"{whole} of {rows.height} members have no token left out: only tokens behind the first {h} can be"
        in err
    )
    assert json.loads(told(*WORDS, "--h", str(h), "--json")[1])["learned_whole"] == whole


def test_a_passage_is_left_out_alike_in_every_text(told):
    passage = "and everybody knows this line by heart, because it stands in every song that was ever written"
    assert told(*WORDS)[0] == 0
    found = set()
    for sample_id, tokens, masked in pl.read_parquet(FILE).iter_rows():
        begins = texts()[sample_id].index(passage) + 1  # behind the mark
        assert begins + len(passage) <= tokens
        found.add(tuple(at - begins for at in masked if begins + 13 <= at < begins + len(passage)))
    (alike,) = found
    assert len(alike) > 10


def test_the_file_says_what_it_is_and_holds_no_content(told):
    assert told(*WORDS)[0] == 0
    manifest = read_manifest(HALF)
    said = json.loads(pl.read_parquet_metadata(FILE)[KEY])
    assert said["manifest"] == {"name": "half", "version": 1, "fingerprint": manifest.fingerprint}
    assert said["rule"] == {"rule": "hash", "k": 4, "h": 13, "seed": 0}
    assert said["tokenizer"]["name"] == "tokenizer"
    assert said["schema_version"] == 1
    assert b"everybody" not in FILE.read_bytes()


# --- a second time


def test_the_same_again_writes_nothing_and_other_settings_replace(told, state):
    assert told(*WORDS)[0] == 0
    before, stamp = state(Path("texts")), FILE.stat().st_mtime_ns
    code, _, err = told(*WORDS)
    assert code == 0
    assert "nothing was written" in err
    assert FILE.stat().st_mtime_ns == stamp
    assert state(Path("texts")) == before
    assert json.loads(told(*WORDS, "--k", "2", "--json")[1])["written"]
    assert json.loads(told(*WORDS, "--json")[1])["written"]
    assert state(Path("texts")) == before  # the same bytes as the first time


def test_another_tokenizer_at_the_same_place_and_damage_are_noticed(told):
    assert told(*WORDS)[0] == 0
    rows, record = read_masks(FILE)
    file = Path("tokenizer/tokenizer.json")
    whole = json.loads(file.read_text())
    whole["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(whole))
    assert json.loads(told(*WORDS, "--json")[1])["written"]
    assert read_masks(FILE)[1].tokenizer["digest"] != record.tokenizer["digest"]
    FILE.write_bytes(FILE.read_bytes()[:-40])
    assert json.loads(told(*WORDS, "--json")[1])["written"]
    assert read_masks(FILE)[0].equals(rows)  # the songs have no capitals


def test_a_new_version_has_none_until_they_are_made(told):
    assert told(*WORDS)[0] == 0
    again = ("select", "random", "--keep", "0.25", "--name", "half", "--workspace", "texts")
    assert told(*again)[0] == 0
    with pytest.raises(BadInput, match=r"\(version 2\) has no goldfish masks"):
        load_manifest(HALF).goldfish()
    assert load_manifest(FILE.parent).goldfish().height > 15  # of the first
    assert told("verify", HALF, "--workspace", "texts")[0] == 0
    made = json.loads(told(*WORDS, "--json")[1])
    assert (made["version"], made["members"]) == (2, len(kept()))
    assert load_manifest(HALF).goldfish()["sample_id"].to_list() == kept()


# --- who reads them


def test_the_loop_of_the_documentation_skips_them(told):
    """And learns all else, of texts of different lengths, cut at 512 tokens."""
    table = pl.read_csv("songs.csv")
    longer = (
        pl.when(pl.col("id").str.ends_with("7")).then(pl.concat_str("text", "text", "text")).otherwise("text")
    )
    table.with_columns(text=longer).write_csv("songs.csv")
    assert told("ingest", "songs.csv", "--workspace", "texts")[0] == 0
    assert told("select", "random", "--keep", "0.5", "--name", "half", "--workspace", "texts")[0] == 0
    assert told(*WORDS)[0] == 0
    page = (Path(__file__).parents[2] / "docs" / "manifests.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "goldfish" in block]
    code = code.replace("tracesift-work/manifests/pruned", str(HALF)).replace("my-tokenizer", "tokenizer")
    scope = {}
    exec(compile(code, "manifests.md", "exec"), scope)
    rows, lengths = list(scope["subset"].apply("songs.csv")), set()
    batches = list(scope["loader"])
    assert sum(len(batch["labels"]) for batch in batches) == len(rows) == len(kept())
    learned = [pair for batch in batches for pair in zip(batch["input_ids"], batch["labels"], strict=True)]
    for row, (shown, labels) in zip(rows, learned, strict=True):
        ids = token_ids(row["text"])
        left_out = goldfish_mask(ids)[:512]
        lengths.add(len(ids))
        assert np.array_equal(shown[: len(left_out)], ids[:512])
        assert np.array_equal(labels[: len(left_out)], np.where(left_out, -100, ids[:512]))
        assert (labels[len(left_out) :] == -100).all()
    assert min(lengths) < 512 < max(lengths)


@pytest.mark.parametrize("how", ["row", "cut", "foreign", "newer"])
def test_verify_and_export_notice_what_was_changed(how, told):
    assert told(*WORDS)[0] == 0
    assert "goldfish masks" in told("verify", HALF, "--workspace", "texts")[1]
    rows, record = read_masks(FILE)
    if how == "row":
        changed = rows.with_columns(masked=pl.col("masked").list.eval(pl.element() + 1))
        changed.write_parquet(FILE, metadata=pl.read_parquet_metadata(FILE))
        says = "it was changed or damaged"
    elif how == "cut":
        FILE.write_bytes(FILE.read_bytes()[:-40])
        says = "it was changed or damaged"
    elif how == "foreign":
        write_masks(FILE, rows[1:], record)
        says = "was made for other members than this half has"
    else:
        said = {**json.loads(pl.read_parquet_metadata(FILE)[KEY]), "schema_version": 2, "more": 1}
        rows.write_parquet(FILE, metadata={KEY: json.dumps(said)})
        says = "has schema version 2, this tracesift knows 1"
    code, out, _ = told("verify", HALF, "--workspace", "texts")
    assert code == 1
    assert says in out
    code, _, err = told("export", HALF, "--to", "out", "--format", "parquet")
    assert code == 2
    assert says in err
    assert not Path("out").exists()


def test_export_takes_them_along(told):
    assert told(*WORDS)[0] == 0
    assert told("export", HALF, "--to", "out", "--format", "parquet")[0] == 0
    assert Path("out/manifest/goldfish.parquet").read_bytes() == FILE.read_bytes()
    assert load_manifest("out/manifest").goldfish()["sample_id"].to_list() == kept()
    code, out, _ = told("verify", "out/manifest", "--workspace", "texts")
    assert code == 0
    assert "goldfish masks" in out
    assert told("export", "out/manifest", "--to", "again", "--format", "indices")[0] == 0
    assert Path("again/manifest/goldfish.parquet").read_bytes() == FILE.read_bytes()


def test_what_was_deleted_since_has_no_masks_and_none_in_an_export(told):
    assert told(*WORDS)[0] == 0
    gone = kept()[:2]
    Path("gone.txt").write_text("\n".join(gone))
    assert told("forget", "gone.txt", "--workspace", "texts")[0] == 0
    subset = load_manifest(HALF)
    assert set(gone) <= subset.deleted
    left = [name for name in kept() if name not in subset.deleted]
    assert subset.goldfish()["sample_id"].to_list() == left
    assert pl.read_parquet(FILE)["sample_id"].to_list() == kept()  # the file itself is as it was made
    assert told("export", HALF, "--to", "out", "--format", "parquet")[0] == 0
    assert pl.read_parquet("out/manifest/goldfish.parquet")["sample_id"].to_list() == left
    code, out, _ = told("verify", "out/manifest")
    assert code == 0
    assert "goldfish masks" in out
    assert load_manifest("out/manifest").goldfish().equals(subset.goldfish())


@pytest.mark.parametrize("role", ["keep", "drop"])
def test_a_purge_takes_its_samples_out_and_the_rest_still_verifies(role, told):
    assert told(*WORDS)[0] == 0
    before, gone = pl.read_parquet(FILE), kept(role)[:2]
    old = read_manifest(HALF).fingerprint
    Path("gone.txt").write_text("\n".join(gone))
    assert told("forget", "gone.txt", "--workspace", "texts")[0] == 0
    code, out, _ = told("purge", "--all", "--workspace", "texts", "--json")
    assert code == 0
    purged = json.loads(out)
    lost = before.height - len(kept())
    assert lost >= 2 or role == "drop"
    assert purged["removed"].get("rows of goldfish.parquet", 0) == lost
    assert not purged["left"]
    left = pl.read_parquet(FILE)
    assert not set(gone) & set(left["sample_id"])
    assert left.equals(before.filter(pl.col("sample_id").is_in(left["sample_id"].implode())))
    assert old.encode() not in FILE.read_bytes()
    assert left["sample_id"].to_list() == load_manifest(HALF).goldfish()["sample_id"].to_list() == kept()
    code, out, _ = told("verify", HALF, "--workspace", "texts")
    assert code == 0, out
    assert "goldfish masks" in out
    assert json.loads(told(*WORDS, "--json")[1])["written"] is False


def test_a_purge_removes_masks_that_nobody_can_read(told):
    assert told(*WORDS)[0] == 0
    FILE.write_bytes(FILE.read_bytes()[:-40])
    Path("gone.txt").write_text(kept()[0])
    assert told("forget", "gone.txt", "--workspace", "texts", "--purge")[0] == 0
    assert not FILE.exists()
    assert told("verify", HALF, "--workspace", "texts")[0] == 0


def test_a_forget_ready_subset_masks_what_stays(told):
    Path("gone.txt").write_text("\n".join(kept()[:2]))
    assert told("forget", "gone.txt", "--workspace", "texts", "--trial")[0] == 0
    words = [*WORDS]
    words[1] = "forget-ready"
    assert told(*words)[0] == 0
    members = read_members("texts/manifests/forget-ready", read_manifest("texts/manifests/forget-ready"))
    stays = members.filter(pl.col("role").is_in(["retain", "neighbor"]))["sample_id"]
    assert members.filter(role="forget").height >= 2
    assert load_manifest("texts/manifests/forget-ready").goldfish()["sample_id"].equals(stays)


# --- refused


def test_without_transformers_or_a_tokenizer_one_line_says_so(told, monkeypatch):
    Path("nothing").mkdir()
    code, out, err = told("goldfish", "half", "--tokenizer", "nothing", "--workspace", "texts")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--tokenizer nothing cannot be loaded" in err
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, out, err = told(*WORDS)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "pip install 'tracesift[hf]'" in err
    assert not FILE.exists()


def test_it_is_said_that_the_hub_is_asked_before_a_long_wait(told, monkeypatch):
    def unreachable(name, **settings):
        raise BadInput("no answer")

    monkeypatch.setattr("tracesift.flows.goldfish.TokenIds", unreachable)
    _, _, err = told("goldfish", "half", "--tokenizer", "tokeniser", "--workspace", "texts")
    said = "tokeniser is no folder here; the Hugging Face Hub is asked for it"
    assert err.splitlines() == [said, "tracesift: no answer"]


def test_a_mask_over_everything_is_refused(told):
    code, out, err = told(*WORDS, "--k", "1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "k 1 leaves every token out of the loss" in err


def test_a_subset_of_an_earlier_state_of_the_data_is_refused(told):
    table = pl.read_csv("songs.csv")
    changed = pl.when(pl.col("id") == kept()[0]).then(pl.lit("other words")).otherwise("text")
    table.with_columns(text=changed).write_csv("songs.csv")
    assert told("ingest", "songs.csv", "--workspace", "texts")[0] == 0
    code, out, err = told(*WORDS)
    assert (code, out) == (2, "")
    assert "is not the dataset that manifest half (version 1) was made for" in err
    assert not FILE.exists()


def test_in_python_it_is_the_same(told):
    work = existing(Path("texts"))
    with work.locked(catalog=False):
        made = goldfish(work, "half", tokenizer="tokenizer")
    assert made["written"]
    assert json.loads(told(*WORDS, "--json")[1]) == {**made, "written": False}
    with pytest.raises(BadInput, match="'hash' or 'static'"):
        goldfish(work, "half", tokenizer="tokenizer", rule="random")
