import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import hypothesis
import polars as pl
import pytest
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tracesift.catalog.files import sha256
from tracesift.catalog.manifest import (
    MEMBERS,
    DatasetBlock,
    ScoreBlock,
    SelectorBlock,
    canonical_members,
    diff_manifests,
    fingerprint_of,
    manifest_path,
    member_lines,
    read_manifest,
    read_members,
    verify_manifest,
    write_manifest,
)
from tracesift.catalog.schema import MANIFEST_SCHEMA, ROLES, BadInput

DATASET = DatasetBlock(
    name="pets", source="pets.csv", fingerprint="a" * 64, num_samples=9, options={"label": "y"}
)
SELECTOR = SelectorBlock(name="top_k", version=1, params={"scorer": "aum", "share": 0.5}, seed=3, budget=0.5)
SCORE = ScoreBlock(scorer="aum", version=2, run_id="r1", direction="clean")


def members(roles="kd", labels=("cat", "dog", "cat")):
    names = {"k": "keep", "d": "drop", "r": "relabel"}
    ids = list("abcdefgh")[: len(roles)]
    return pl.DataFrame(
        {
            "sample_id": ids,
            "role": [names[role] for role in roles],
            "label": list(labels)[: len(roles)],
            "new_label": ["dog" if role == "r" else None for role in roles],
        },
        schema_overrides={"new_label": pl.String},
    )


def write(root, frame, name="pruned", **more):
    given = {"dataset": DATASET, "selector": SELECTOR, "scores": [SCORE]} | more
    return write_manifest(root, name, frame, **given)


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_manifest_holds_the_fields_of_the_contract(tmp_path):
    write(tmp_path, members("kdk"), control_of="other")
    value = json.loads((tmp_path / "pruned" / "manifest.json").read_text())
    assert set(value) == {
        "schema_version", "name", "version", "created_at", "tool_version", "dataset", "selector", "scores", "counts",
        "control_of", "members", "fingerprint",
    }  # fmt: skip
    assert {"name", "source", "fingerprint", "num_samples", "id_rule"} <= set(value["dataset"])
    assert {"name", "version", "params", "seed"} <= set(value["selector"])
    assert value["scores"] == [{"scorer": "aum", "version": 2, "run_id": "r1", "direction": "clean"}]
    assert value["counts"] == {
        "total": 3,
        "by_role": {"drop": 1, "keep": 2},
        "by_label": {"cat": 2, "dog": 1},
    }
    file = tmp_path / "pruned" / value["members"]["file"]
    assert value["members"] == {"file": "members.parquet", "sha256": sha256(file), "rows": 3}
    frame = pl.read_parquet(file)
    assert dict(frame.schema) == MEMBERS
    assert frame.rows()[1] == ("b", "drop", 1.0, "dog", None, None)


def test_member_lines_by_hand():
    frame = pl.DataFrame(
        {"sample_id": ["é", "a"], "role": ["relabel", "keep"], "weight": [0.1, 1e16], "label": ["x:y", None],
         "new_label": ["", None], "reason": ["new\nline", "-"]}
    )  # fmt: skip
    expected = "1:a4:keep5:1e+16--1:-\n" + "2:é7:relabel3:0.13:x:y0:8:new\nline\n"
    assert member_lines(canonical_members(frame)).decode() == expected


def test_the_fingerprint_is_over_content_and_not_over_addresses():
    frame = canonical_members(members("kd"))
    blocks = {"dataset": DATASET, "selector": SELECTOR, "scores": [SCORE]}
    first = fingerprint_of(frame, **blocks)
    moved = replace(DATASET, name="n", source="/elsewhere", options={"label": "z"})
    assert fingerprint_of(frame, **blocks | {"dataset": moved}) == first
    others = [
        {"dataset": replace(DATASET, fingerprint="b" * 64)},
        {"dataset": replace(DATASET, transform={"plant_label_noise": {"rate": 0.1}})},
        {"selector": replace(SELECTOR, seed=4)},
        {"selector": replace(SELECTOR, params={})},
        {"scores": [replace(SCORE, run_id="r2")]},
        {"scores": []},
    ]
    changed = [fingerprint_of(frame, **blocks | other) for other in others]
    changed += [fingerprint_of(canonical_members(members(roles)), **blocks) for roles in ("dk", "kdk", "rd")]
    assert len({first, *changed}) == len(others) + 4


@pytest.mark.parametrize("threads", ["1", "4"])
def test_bytes_do_not_depend_on_row_order_chunks_or_threads(tmp_path, threads):
    ids = [f"{number:05d}" for number in range(5000)]
    frame = pl.DataFrame(
        {"sample_id": ids, "role": ["keep", "drop"] * 2500, "weight": [number / 7 for number in range(5000)],
         "label": [str(number % 3) for number in range(5000)], "reason": ["because"] * 5000}
    )  # fmt: skip
    write(tmp_path / "one", frame)
    frame.sample(fraction=1, shuffle=True, seed=int(threads)).write_parquet(tmp_path / "shuffled.parquet")
    script = (
        "import sys; from pathlib import Path; import polars as pl; sys.path.insert(0, sys.argv[2])\n"
        "from test_manifest import write\n"
        "f = pl.read_parquet(sys.argv[1] + '/shuffled.parquet'); f = pl.concat([f[:1234], f[1234:]], rechunk=False)\n"
        "f = f.select(reversed(f.columns)).with_columns(pl.col('label', 'role').cast(pl.Categorical))\n"
        "write(Path(sys.argv[1]) / 'two', f)"
    )
    environment = os.environ | {"POLARS_MAX_THREADS": threads}
    here = str(Path(__file__).parent)
    subprocess.run([sys.executable, "-c", script, str(tmp_path), here], env=environment, check=True)
    files = [tmp_path / which / "pruned" / "members.parquet" for which in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    records = [read_manifest(file.parent) for file in files]
    assert records[0].fingerprint == records[1].fingerprint


def test_the_same_subset_again_changes_no_byte_and_no_time(tmp_path):
    first = write(tmp_path, members("kd"))
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    before = content(tmp_path)
    time.sleep(1.1)
    assert write(tmp_path, members("kd").reverse()) == first
    assert content(tmp_path) == before
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == stamps


def test_a_replaced_subset_keeps_its_earlier_versions(tmp_path):
    versions = [write(tmp_path, members(roles)).version for roles in ("kd", "dk", "dk", "kd")]
    assert versions == [1, 2, 2, 3]
    folder = tmp_path / "pruned"
    for number, roles in [(1, "kd"), (2, "dk"), (3, "kd")]:
        old = folder / "versions" / f"{number:04d}"
        record = read_manifest(old)
        assert record.version == number
        assert_frame_equal(read_members(old, record).select("role"), members(roles).select("role"))
        assert verify_manifest(old / "manifest.json") == []
    assert read_manifest(folder).version == 3


def test_a_moved_source_is_written_as_a_new_version_of_the_same_content(tmp_path):
    first = write(tmp_path, members("kd"))
    second = write(tmp_path, members("kd"), dataset=replace(DATASET, source="/elsewhere/pets.csv"))
    assert (first.version, second.version) == (1, 2)
    assert first.fingerprint == second.fingerprint


# reading and verifying


def change(folder, **fields):
    file = folder / "manifest.json"
    value = json.loads(file.read_text())
    for path, new in fields.items():
        *parts, last = path.split("__")
        inner = value
        for part in parts:
            inner = inner[part]
        inner[last] = new
    file.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dataset__fingerprint": "b" * 64}, "fingerprint of the content"),
        ({"selector__seed": 4}, "fingerprint of the content"),
        ({"scores": []}, "fingerprint of the content"),
        ({"counts__total": 4}, "counts.total is 4"),
        ({"counts__by_role": {"keep": 3}}, "counts.by_role"),
        ({"counts__by_label": {}}, "counts.by_label"),
        ({"members__rows": 5}, "lists 5 members, the file holds 3"),
        ({"members__sha256": "0" * 64}, "sha256"),
        ({"fingerprint": "0" * 64}, "fingerprint of the content"),
    ],
)
def test_verify_finds_what_was_changed_in_the_manifest(tmp_path, fields, words):
    write(tmp_path, members("kdk"))
    assert verify_manifest(tmp_path / "pruned") == []
    change(tmp_path / "pruned", **fields)
    (difference,) = verify_manifest(tmp_path / "pruned" / "manifest.json")
    assert words in difference


def test_verify_shows_two_fingerprints_in_which_they_differ(tmp_path):
    write(tmp_path, members("kdk"))
    file = tmp_path / "pruned" / "manifest.json"
    told = json.loads(file.read_text())["fingerprint"]
    changed = told[:-1] + ("0" if told[-1] != "0" else "1")
    change(tmp_path / "pruned", fingerprint=changed)
    (difference,) = verify_manifest(file)
    assert told in difference
    assert changed in difference


def test_verify_finds_what_was_changed_in_the_members(tmp_path):
    write(tmp_path, members("kdk"))
    file = tmp_path / "pruned" / "members.parquet"
    whole = pl.read_parquet(file)
    whole.with_columns(role=pl.lit("keep")).write_parquet(file)
    found = " ".join(verify_manifest(file.parent))
    assert "sha256" in found
    assert "counts.by_role" in found
    assert "fingerprint of the content" in found
    whole.reverse().write_parquet(file)
    assert any("not sorted" in difference for difference in verify_manifest(file.parent))
    whole.drop("reason").write_parquet(file)
    assert any("columns" in difference for difference in verify_manifest(file.parent))
    file.write_bytes(file.read_bytes()[:-20])
    assert any("no readable Parquet" in difference for difference in verify_manifest(file.parent))
    file.unlink()
    assert verify_manifest(file.parent) == [f"{file} is missing"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "no schema_version"),
        ('{"schema_version": 1}', "dataset: this part"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text, words):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(BadInput, match=words):
        read_manifest(tmp_path)


def test_a_manifest_of_tomorrow_or_with_unknown_or_missing_fields_is_refused(tmp_path):
    write(tmp_path, members("kd"))
    folder = tmp_path / "pruned"
    change(folder, selector__flavour="x")
    with pytest.raises(BadInput, match="selector: unknown field 'flavour'"):
        read_manifest(folder)
    change(folder, selector={"version": 1})
    with pytest.raises(BadInput, match="missing 1 required keyword-only argument: 'name'"):
        read_manifest(folder)
    change(folder, schema_version=MANIFEST_SCHEMA + 1)
    for read in (read_manifest, verify_manifest):
        with pytest.raises(BadInput, match="upgrade tracesift"):
            read(folder)
    with pytest.raises(BadInput, match="no manifest at"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "/abs", "a\\b", "x" * 101, "-x", "a\n"])
def test_a_name_that_is_no_plain_folder_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="cannot name a subset"):
        write(tmp_path, members("kd"), name=name)
    with pytest.raises(BadInput, match="cannot name a subset"):
        manifest_path(tmp_path, name)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (members("kd").with_columns(sample_id=pl.lit("a")), "more than once, for example 'a'"),
        (members("kd").with_columns(role=pl.lit("hold")), "the role must be one of"),
        (members("kd").with_columns(weight=pl.lit(-1.0)), "not negative"),
        (members("kd").with_columns(weight=pl.lit(float("nan"))), "finite"),
        (members("kr").with_columns(new_label=pl.lit(None, dtype=pl.String)), "new_label goes with"),
        (members("kr").with_columns(new_label=pl.lit("dog")), "new_label goes with"),
        (members("kd").drop("role"), "'role' is missing"),
        (members("kd").with_columns(score=1), "unknown column 'score'"),
        (
            members("kd").with_columns(sample_id=pl.lit(None, dtype=pl.String)),
            "'sample_id' is empty in 2 of 2",
        ),
    ],
)
def test_members_that_make_no_sense_are_refused(tmp_path, frame, words):
    with pytest.raises(BadInput, match=words):
        write(tmp_path, frame)
    assert not (tmp_path / "pruned").exists()


def test_parameters_without_a_json_form_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no JSON form"):
        write(tmp_path, members("kd"), selector=replace(SELECTOR, params={"x": float("nan")}))
    with pytest.raises(BadInput, match="no JSON form"):
        write(tmp_path, members("kd"), selector=replace(SELECTOR, params={"x": {1, 2}}))


def test_an_empty_subset_is_a_subset(tmp_path):
    empty = members("kd").clear()
    write(tmp_path, empty)
    assert verify_manifest(tmp_path / "pruned") == []
    assert read_manifest(tmp_path / "pruned").counts.total == 0


# interruption


def test_new_members_beside_the_old_manifest_are_not_taken_for_its_own(tmp_path):
    write(tmp_path, members("kd"))
    other = tmp_path / "other"
    write(other, members("dk"))
    folder = tmp_path / "pruned"
    shutil.copy(other / "pruned" / "members.parquet", folder / "members.parquet")
    record = read_manifest(folder)
    assert read_members(folder, record)["role"].to_list() == ["keep", "drop"]
    assert verify_manifest(folder) != []
    write(tmp_path, members("kd"))  # mends it
    assert verify_manifest(folder) == []
    shutil.rmtree(folder / "versions")
    (folder / "members.parquet").write_bytes(b"")
    with pytest.raises(BadInput, match="sha256 differs"):
        read_members(folder, record)
    again = write(tmp_path, members("kd"))
    assert (again.version, again.created_at) == (record.version, record.created_at)
    assert verify_manifest(folder) == []


def test_a_version_that_never_reached_the_top_is_taken_up_or_removed(tmp_path):
    folder = tmp_path / "pruned"
    first = write(tmp_path, members("kd"))
    kept = {name: (folder / name).read_bytes() for name in ("manifest.json", "members.parquet")}
    second = write(tmp_path, members("dk"))
    for name, old in kept.items():
        (folder / name).write_bytes(old)
    (folder / "versions" / ".tmp-0003").mkdir()
    (folder / "versions" / ".tmp-0003" / "members.parquet").write_bytes(b"half")
    (folder / ".tmp-x.json").write_bytes(b"half")
    assert read_manifest(folder) == first
    assert write(tmp_path, members("dk")) == second
    assert verify_manifest(folder) == []
    assert not list(folder.rglob(".tmp-*"))
    for name, old in kept.items():
        (folder / name).write_bytes(old)
    third = write(tmp_path, members("kk"))
    assert third.version == 2
    assert read_members(folder / "versions" / "0002", third)["role"].to_list() == ["keep", "keep"]


WRITER = """
import sys
from pathlib import Path
import polars as pl
sys.path.insert(0, sys.argv[2])
from test_manifest import write, flipping
print("ready", flush=True)
while True:
    for turn in (0, 1):
        write(Path(sys.argv[1]), flipping(turn))
"""


def flipping(turn):
    roles = ["keep", "drop"] if turn == 0 else ["drop", "keep"]
    ids = [f"{number:05d}" for number in range(2000)]
    return pl.DataFrame({"sample_id": ids, "role": roles * 1000, "label": ids})


def test_a_writer_killed_at_any_moment_leaves_a_whole_manifest(tmp_path):
    moments = random.Random(0)
    here = str(Path(__file__).parent)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), here], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.02, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        folder = tmp_path / "pruned"
        if not (folder / "manifest.json").exists():
            continue
        record = read_manifest(folder)
        frame = read_members(folder, record)
        blocks = {"dataset": record.dataset, "selector": record.selector, "scores": record.scores}
        assert fingerprint_of(frame, **blocks) == record.fingerprint
        written = write(tmp_path, frame)
        assert written.fingerprint == record.fingerprint
        assert verify_manifest(folder) == []
        assert not list(folder.rglob(".tmp-*"))


# round trips

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ROW = st.tuples(st.sampled_from(ROLES), st.floats(0, 1e300), st.none() | TEXT, TEXT, st.none() | TEXT)


@hypothesis.given(
    rows=st.dictionaries(TEXT, ROW, max_size=6),
    params=st.dictionaries(TEXT, JSON, max_size=3),
    seed=st.none() | st.integers(0, 2**31),
    order=st.randoms(use_true_random=False),
)
@hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
def test_what_is_written_reads_back_and_verifies(tmp_path_factory, rows, params, seed, order):
    root = tmp_path_factory.mktemp("round")
    lines = [
        (key, role, weight, label, new if role == "relabel" else None, reason)
        for key, (role, weight, label, new, reason) in rows.items()
    ]
    frame = pl.DataFrame(lines, schema=MEMBERS, orient="row")
    selector = replace(SELECTOR, params=params, seed=seed)
    written = write(root, frame, selector=selector)
    assert read_manifest(root / "pruned") == written
    assert verify_manifest(root / "pruned") == []
    expected = frame.with_columns(pl.col("weight") + 0.0).sort("sample_id")
    assert_frame_equal(read_members(root / "pruned", written), expected, check_exact=True)
    order.shuffle(lines)
    again = write(root, pl.DataFrame(lines, schema=MEMBERS, orient="row"), selector=selector)
    assert again == written


# differences


def test_diff_of_two_manifests_lists_members_and_fields(tmp_path):
    write(tmp_path, members("kdk"), name="one")
    write(tmp_path, members("dr"), name="two", selector=replace(SELECTOR, seed=9))
    found = diff_manifests(tmp_path / "one", tmp_path / "two" / "manifest.json")
    assert json.loads(json.dumps(found)) == found
    assert found["same"] is False
    assert found["fields"]["name"] == ["one", "two"]
    assert found["fields"]["selector"][1]["seed"] == 9
    assert "dataset" not in found["fields"]
    assert (found["added"], found["removed"]) == ([], ["c"])
    assert found["changed"] == [
        {"sample_id": "a", "role": ["keep", "drop"]},
        {"sample_id": "b", "role": ["drop", "relabel"], "new_label": [None, "dog"]},
    ]
    assert found["roles"] == {"drop -> relabel": 1, "keep -> drop": 1}
    same = diff_manifests(tmp_path / "one", tmp_path / "one")
    assert same == {"same": True, "fields": {}, "added": [], "removed": [], "changed": [], "roles": {}}
