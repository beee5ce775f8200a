import json

import polars as pl
import pytest

from tracesift.catalog.manifest import DatasetBlock, ScoreBlock, SelectorBlock, write_manifest
from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog

FINGERPRINT = "a" * 64
DATASET = FINGERPRINT[:16]
IDS = list("abcdefghijkl")


def meta(*names):
    return [
        {"scorer": n, "version": 2, "params": {"w": 1}, "inputs": ["margin"], "direction": "hard"}
        for n in names
    ]


@pytest.fixture
def catalog(tmp_path):
    whole = Catalog(tmp_path / "work")
    samples = pl.DataFrame({"sample_id": IDS, "split": "train", "label": ["cat", "dog"] * 6})
    whole.put_dataset(
        {"name": "pets", "source": "pets.csv", "fingerprint": FINGERPRINT, "classes": ["cat", "dog"]}, samples
    )
    whole.put_run({"run_id": "r1", "dataset_id": DATASET, "kind": "record", "seed": 7})
    return whole


def put(catalog, run_id, **columns):
    ids = IDS[: len(next(iter(columns.values())))]
    catalog.put_scores(run_id, DATASET, pl.DataFrame({"sample_id": ids} | columns), meta(*columns))


def subset(catalog, roles, version_of="pruned"):
    block = DatasetBlock(name="pets", source="pets.csv", fingerprint=FINGERPRINT, num_samples=len(IDS))
    members = pl.DataFrame(
        {"sample_id": IDS[: len(roles)], "role": roles, "reason": [f"because {r}" for r in roles]}
    )
    manifest = write_manifest(
        catalog.workspace / "manifests", version_of, members, dataset=block,
        selector=SelectorBlock(name="top_k", version=1, params={"scorer": "aum"}, seed=3, budget=0.5),
        scores=[ScoreBlock(scorer="aum", version=2, run_id="r1", direction="hard")],
    )  # fmt: skip
    return catalog.put_subset(manifest, members.with_columns(weight=pl.lit(1.0))), manifest


def test_why_gives_scores_with_ranks_flags_with_rules_subsets_with_reasons(catalog):
    put(catalog, "r1", aum=[5.0, 9.0, 1.0, 5.0], el2n=[None, 1.0, 2.0, 3.0], fkl=[0.5] * 4)
    flag = pl.DataFrame(
        {
            "sample_id": ["a", "b"],
            "flagged": [True, None],
            "score": [0.9, 0.1],
            "threshold": 0.5,
            "reason": "far",
        }
    )
    catalog.put_flags("r1", DATASET, "mislabeled", flag)
    subset(catalog, ["keep", "drop"])
    subset(catalog, ["drop", "keep"])
    found = catalog.why("a")
    assert json.loads(json.dumps(found)) == found
    assert found["sample"]["label"] == "cat"
    by_scorer = {entry["scorer"]: entry for entry in found["scores"]}
    said = {
        name: tuple(entry[key] for key in ("value", "rank", "of", "ties"))
        for name, entry in by_scorer.items()
    }
    assert said == {
        "aum": (5.0, 2, 4, 1),  # one is above it, one equal
        "el2n": (None, None, 3, None),
        "fkl": (0.5, None, 4, 3),  # all are alike
    }
    assert by_scorer["aum"]["params"] == {"w": 1}
    assert found["flags"] == [
        {
            "flag": "mislabeled", "flagged": True, "score": 0.9, "threshold": 0.5, "reason": "far",
            "suggestion": None, "confidence": None, "run_id": "r1",
        }
    ]  # fmt: skip
    (entry,) = found["subsets"]
    assert (entry["name"], entry["version"], entry["role"], entry["reason"]) == (
        "pruned",
        2,
        "drop",
        "because drop",
    )
    assert entry["params"] == {"scorer": "aum"}
    assert found["lineage"]["dataset"]["classes"] == ["cat", "dog"]
    assert [run["seed"] for run in found["lineage"]["runs"]] == [7]


def test_why_names_the_runs_that_a_combined_one_is_made_of(catalog):
    catalog.put_run({"run_id": "r2", "dataset_id": DATASET, "kind": "record", "seed": 8})
    combined = {"run_id": "both", "dataset_id": DATASET, "kind": "combined", "config": {"runs": ["r1", "r2"]}}
    catalog.put_run(combined)
    put(catalog, "both", aum=[1.0, 2.0])
    assert [run["run_id"] for run in catalog.why("a")["lineage"]["runs"]] == ["r1", "r2", "both"]


def test_why_of_an_unknown_sample_says_how_to_find_the_ids(catalog):
    with pytest.raises(BadInput, match=r"no sample 'zz'.*FROM samples"):
        catalog.why("zz")


def test_why_takes_a_beginning_that_only_one_id_has(catalog):
    ids = ["abc1", "abc2", "xyz1", "xyz"]
    frame = pl.DataFrame({"sample_id": ids, "split": "train", "label": "cat"})
    catalog.put_dataset({"name": "n", "source": "s", "fingerprint": "d" * 64}, frame)
    assert catalog.why("abc2")["sample"]["sample_id"] == "abc2"
    assert catalog.why("xyz")["sample"]["sample_id"] == "xyz"
    with pytest.raises(BadInput, match="several samples begin with 'ab': abc1, abc2"):
        catalog.why("ab")


def test_why_tells_only_of_the_newest_flags_and_scores(catalog):
    put(catalog, "r1", aum=[1.0, 2.0])
    put(catalog, "r2", aum=[8.0, 2.0])
    for run_id, flagged in [("r1", True), ("r2", False)]:
        catalog.put_flags(run_id, DATASET, "odd", pl.DataFrame({"sample_id": ["a"], "flagged": [flagged]}))
    found = catalog.why("a")
    assert [(entry["run_id"], entry["value"]) for entry in found["scores"]] == [("r2", 8.0)]
    assert [(entry["run_id"], entry["flagged"]) for entry in found["flags"]] == [("r2", False)]


def test_subsets_keep_their_earlier_versions_with_the_path_of_each(catalog):
    first, _ = subset(catalog, ["keep", "drop"])
    second, manifest = subset(catalog, ["drop", "keep"])
    again, _ = subset(catalog, ["drop", "keep"])
    assert first != second == again == manifest.subset_id
    found = catalog.query("SELECT subset_id, version, manifest_path, budget FROM subsets ORDER BY version")
    assert found["subset_id"].to_list() == [first, second]
    folder = catalog.workspace / "manifests" / "pruned"
    assert found["manifest_path"].to_list() == [
        str(folder / "versions" / "0001" / "manifest.json"), str(folder / "manifest.json"),
    ]  # fmt: skip
    assert found["budget"].to_list() == [0.5, 0.5]
    members = catalog.query("FROM subset_members ORDER BY subset_id = ?, sample_id", (second,))
    assert members["role"].to_list() == ["keep", "drop", "drop", "keep"]


def test_a_subset_of_samples_that_are_not_here_is_refused(catalog):
    block = DatasetBlock(name="x", source="x", fingerprint="b" * 64, num_samples=1)
    members = pl.DataFrame({"sample_id": ["a"], "role": ["keep"], "weight": [1.0]})
    selector = SelectorBlock(name="random", version=1)
    manifest = write_manifest(catalog.workspace / "manifests", "s", members, dataset=block, selector=selector)
    with pytest.raises(BadInput, match="not in this catalog"):
        catalog.put_subset(manifest, members)


def test_diff_of_two_runs_measures_rank_and_size_of_change(catalog):
    values = [float(number) for number in range(12)]
    put(catalog, "r1", aum=values, el2n=values, only_one=values)
    put(catalog, "r2", aum=[-value for value in values], el2n=[value**3 for value in values])
    found = {row["scorer"]: row for row in catalog.diff_runs("r1", "r2").to_dicts()}
    assert found["aum"]["rank_correlation"] == pytest.approx(-1)
    assert found["aum"]["top_overlap"] == 0
    assert (found["aum"]["max_change"], found["aum"]["most_changed"]) == (22, "l")
    assert found["aum"]["mean_change"] == pytest.approx(-11)
    assert found["el2n"]["rank_correlation"] == pytest.approx(1)
    assert found["el2n"]["top_overlap"] == 1
    assert found["only_one"]["in_second"] is False
    assert found["only_one"]["samples"] is None
    with pytest.raises(BadInput, match=r"r9 has no scores here; runs that have: r1, r2"):
        catalog.diff_runs("r1", "r9")


def test_diff_of_constant_scores_has_no_rank_correlation(catalog):
    put(catalog, "r1", aum=[1.0, 1.0, 1.0])
    put(catalog, "r2", aum=[1.0, 1.0, 2.0])
    (line,) = catalog.diff_runs("r1", "r2").to_dicts()
    assert (line["samples"], line["rank_correlation"], line["max_change"]) == (3, None, 1.0)
