"""Keyed hashes of what was deleted: who has the key recognises it, who has not is told so."""

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from tracesift.catalog.forgotten import key_name, keyed, keys_of, make_key, read_key, recognised
from tracesift.catalog.schema import BadInput


def forgotten(key, samples, request="r1", seq=1):
    return pl.concat([samples.select("how"), keys_of(key, samples)], how="horizontal").with_columns(
        request_id=pl.lit(request),
        subset=pl.lit("s"),
        key_name=pl.lit(key_name(key)),
        seq=pl.lit(seq, pl.Int64),
    )


def test_the_key_is_made_once_and_is_its_owners(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: make_key(tmp_path), range(8)))
    assert keys == {read_key(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["forget.key"]
    assert stat.S_IMODE((tmp_path / "forget.key").stat().st_mode) == 0o600
    assert make_key(tmp_path / "other") not in keys
    (tmp_path / "forget.key").write_bytes(b"short")
    with pytest.raises(BadInput, match="holds 5 bytes"):
        read_key(tmp_path)


def test_a_hash_is_blake2b_under_the_key_and_its_kind():
    key = bytes(range(32))
    expected = hashlib.blake2b(b"alice", key=key, digest_size=16, person=b"id").hexdigest()
    assert keyed(key, "id", "alice") == expected
    assert keyed(bytes(32), "id", "alice") != expected
    assert keyed(key, "content", "alice") != expected


def test_a_sample_is_known_by_its_id_or_its_content_and_the_earliest_request_comes_first():
    key = bytes(range(32))
    asked = pl.DataFrame(
        {"sample_id": ["a", "b"], "content_hash": ["1", None], "how": ["requested", "untrained"]}
    )
    rows = pl.concat([forgotten(key, asked[:1], "late", 9), forgotten(key, asked, "early", 2)])
    now = pl.DataFrame({"sample_id": ["z", "a", "b", "c"], "content_hash": ["1", "7", "8", None]})
    found = recognised(key, rows, now, Path("w"))
    assert found.select("sample_id", "request_id", "how").rows() == [
        ("a", "early", "requested"), ("b", "early", "untrained"), ("z", "early", "copy"),
        ("a", "late", "requested"), ("z", "late", "copy"),
    ]  # fmt: skip
    assert recognised(key, rows, now.select("sample_id"), Path("w"))["sample_id"].to_list() == ["a", "b", "a"]
    assert recognised(None, rows.clear(), now, Path("w")).is_empty()


@pytest.mark.parametrize(("key", "said"), [(None, "is gone"), (bytes(32), "is another key")])
def test_without_the_key_nobody_is_let_back_in_silence(key, said):
    rows = forgotten(bytes(range(32)), pl.DataFrame({"sample_id": ["a"], "how": ["requested"]}))
    with pytest.raises(BadInput, match=f"{said}.*1 forgotten samples cannot be recognised"):
        recognised(key, rows, pl.DataFrame({"sample_id": ["a"]}), Path("w"))
