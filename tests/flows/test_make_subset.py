"""Subsets on demand: which samples a condition leaves as candidates, and what a manifest says of its settings."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.manifest import read_manifest, verify_manifest
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.forgetting.deletion import Handling, handle
from tracesift.flows.forgetting.requests import Request
from tracesift.flows.make_subset import told_of
from tracesift.flows.work import Work
from tracesift.pipelines.signals import load_signals
from tracesift.selectors.contract import find as find_selector
from tracesift.selectors.contract import select as choose
from tracesift.selectors.flags.contract import find


@pytest.fixture
def select(place, capsys):
    """A function: run `select` with these words, and return what it answers."""

    def call(*words):
        capsys.readouterr()
        assert run(["select", *map(str, words), "--json", "--workspace", "w"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def members(name):
    return pl.read_parquet(f"w/manifests/{name}/members.parquet")


def params(name):
    return read_manifest(f"w/manifests/{name}/manifest.json").selector.params


def test_controls_are_drawn_from_the_samples_that_the_condition_leaves(select):
    condition = "aum > (SELECT median(aum) FROM sample_scores)"
    pool = set(Catalog("w").query(f"SELECT sample_id FROM sample_scores WHERE {condition}")["sample_id"])
    assert len(pool) == 24  # half of train
    made = select("top_k", "--count", 20, "--param", "score=el2n", "--where", condition, "--name", "some")
    for name in ("some", "some-random", "some-random-balanced"):
        rows = members(name)
        kept = rows.filter(pl.col("role") == "keep")["sample_id"]
        assert len(rows) == 48
        assert len(kept) == 20
        assert set(kept) <= pool, name
        outside = rows.filter(~pl.col("sample_id").is_in(list(pool)))
        assert outside["reason"].unique().to_list() == [f"outside WHERE {condition}"]
        assert outside["weight"].unique().to_list() == [0.0]
        assert params(name)["where"] == condition
        assert verify_manifest(f"w/manifests/{name}/manifest.json") == []
    kept = [
        set(members(name).filter(pl.col("role") == "keep")["sample_id"]) for name in ("some", "some-random")
    ]
    assert kept[0] != kept[1]
    assert [row["keep"] for row in (made, *made["controls"])] == [20, 20, 20]


def test_without_a_condition_controls_are_drawn_from_all_of_train(select):
    select("top_k", "--count", 20, "--param", "score=el2n", "--name", "some")
    assert "where" not in params("some-random")
    assert members("some-random")["reason"].str.contains("WHERE").sum() == 0


def test_denoise_takes_a_condition(select):
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id, label, dataset_id FROM samples WHERE split = 'train' ORDER BY 1")
    wrong = rows["sample_id"][:4].to_list()
    flags = rows.select(
        "sample_id", flagged=pl.col("sample_id").is_in(wrong), confidence=pl.lit(0.8), reason=pl.lit("told")
    )
    run_id = catalog.newest_run()["run_id"]
    catalog.put_flags(run_id, rows["dataset_id"][0], "label_noise", flags)
    condition = f"sample_id <> '{wrong[0]}'"
    select(
        "denoise", "--where", condition, "--param", "mode=drop", "--param", "max_drop=0.5", "--name", "clean"
    )
    dropped = members("clean").filter(pl.col("role") == "drop").select("sample_id", "reason")
    assert dropped["sample_id"].to_list() == wrong
    assert dropped["reason"][0] == f"outside WHERE {condition}"
    assert "WHERE" not in dropped["reason"][1]
    assert members("clean-random").filter(pl.col("role") == "keep").height == 44
    assert wrong[0] in members("clean-random").filter(pl.col("role") == "drop")["sample_id"]


def test_what_is_told_of_a_subset_counts_the_flagged_that_were_no_candidates():
    reasons = ["flagged", "flagged", "dual is low", "outside WHERE a", None]
    rows = pl.DataFrame({"role": ["drop"] * 4 + ["keep"], "reason": reasons, "weight": [0.0] * 4 + [1.0]})
    assert told_of("dual", {}, rows, "image") == "2 flagged samples left out before dual chose"
    assert told_of("dual", {}, rows[2:], "image") is None


def test_depoison_says_where_it_had_nothing_to_go_by(select, capsys):
    said = "the flag 'unlearnable' cannot tell of any sample, so none is left out"
    made = select("depoison", "--where", "aum IS NOT NULL")
    assert "drop" not in made
    assert made["told"] == said
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id, dataset_id FROM samples WHERE split = 'train' ORDER BY 1")
    clean = rows.select("sample_id", flagged=pl.lit(value=False), score=pl.lit(0.0), reason=pl.lit("told"))
    catalog.put_flags(catalog.newest_run()["run_id"], rows["dataset_id"][0], "unlearnable", clean)
    assert "told" not in select("depoison", "--name", "judged")


def test_depoison_takes_a_condition_and_gets_its_controls(select):
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id, dataset_id FROM samples WHERE split = 'train' ORDER BY 1")
    changed, unknown = rows["sample_id"][:6].to_list(), rows["sample_id"][6:9].to_list()
    said = pl.when(~pl.col("sample_id").is_in(unknown)).then(pl.col("sample_id").is_in(changed))
    flags = rows.select("sample_id", flagged=said, score=pl.lit(3.0), reason=pl.lit("told"))
    catalog.put_flags(catalog.newest_run()["run_id"], rows["dataset_id"][0], "unlearnable", flags)
    made = select("depoison", "--where", f"sample_id <> '{changed[0]}'")
    assert (made["name"], made["keep"], made["drop"]) == ("depoison", 42, 6)
    dropped = members("depoison").filter(pl.col("role") == "drop")
    assert dropped["sample_id"].to_list() == changed
    assert dropped["reason"].str.starts_with("outside WHERE").to_list() == [True] + 5 * [False]
    assert params("depoison")["flag"] == "unlearnable"
    assert params("depoison")["max_drop"] is None
    for control in ("depoison-random", "depoison-random-balanced"):
        assert members(control).filter(pl.col("role") == "keep").height == 42
        assert verify_manifest(f"w/manifests/{control}/manifest.json") == []
    assert set(members("depoison").filter(pl.col("role") == "keep")["sample_id"]) >= set(unknown)
    select("top_k", "--count", 20, "--param", "score=el2n", "--from", "depoison", "--name", "after")
    assert not set(changed) & set(members("after").filter(pl.col("role") == "keep")["sample_id"])


def test_a_deletion_by_condition_is_a_request(place, capsys):
    words = ["select", "forget_ready", "--where", "aum > 0", "--workspace", "w"]
    assert run(words) == 2
    assert "tracesift forget --where" in capsys.readouterr().err


def test_a_manifest_says_every_setting_that_was_in_force(select):
    select("ccs", "--keep", 0.5, "--param", "strata=20", "--name", "some")
    assert params("some") == {
        "score": "aum_prob_sum", "cutoff": "aum_prob_sum", "beta": None, "strata": 20, "per_class": False,
        "nulls": None,
    }  # fmt: skip
    assert params("some-random") == {}
    assert params("some-random-balanced") == {"quota": "equal"}
    assert params("pruned")["chosen_by"] == "auto"  # of `curate`, where nobody named a selector
    assert params("denoised")["max_drop"] == 0.05
    assert params("forget-ready")["neighbors"] == 5
    stored = Catalog("w").query("SELECT params FROM subsets WHERE name = 'some'").item()
    assert json.loads(stored) == params("some")


def test_naming_a_default_makes_no_new_version(select):
    plain = select("ccs", "--keep", 0.5, "--name", "some")
    named = select(
        "ccs", "--keep", 0.5, "--param", "strata=50", "--param", "per_class=false", "--name", "some"
    )
    assert named == plain
    assert plain["version"] == 1
    other = select("ccs", "--keep", 0.5, "--param", "strata=20", "--name", "some")
    assert other["version"] == 2


@pytest.fixture
def cleaned(select):
    """The subset `clean`: of 48 training samples 3 with wrong labels, 2 of them corrected and 1 dropped."""
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id, label, dataset_id FROM samples WHERE split = 'train' ORDER BY 1")
    wrong = rows["sample_id"][:3].to_list()
    labels = rows["label"].unique().sort().to_list()
    other = dict(zip(labels, labels[1:] + labels[:1], strict=True))
    flags = rows.select(
        "sample_id", flagged=pl.col("sample_id").is_in(wrong), reason=pl.lit("told"),
        confidence=pl.when(pl.col("sample_id") == wrong[2]).then(0.9).otherwise(0.99),
        suggestion=pl.col("label").replace(other),
    )  # fmt: skip
    catalog.put_flags(catalog.newest_run()["run_id"], rows["dataset_id"][0], "label_noise", flags)
    by_flag = (
        "--param",
        "mode=relabel",
        "--param",
        "certainty=nowhere",
    )  # the confidence of the flag decides
    select("denoise", *by_flag, "--name", "clean")
    assert members("clean").filter(pl.col("role") == "relabel")["sample_id"].to_list() == wrong[:2]
    select("denoise", "--param", "mode=drop", "--param", "max_drop=0.5", "--name", "dropped")
    return wrong, {sample_id: other[label] for sample_id, label, _ in rows[:3].iter_rows()}


def test_a_selection_from_a_cleaned_subset_takes_its_labels(select, cleaned):
    wrong, corrected = cleaned
    made = select("random", "--count", 48, "--from", "clean", "--name", "whole")
    rows = members("whole")
    relabelled = rows.filter(pl.col("role") == "relabel")
    assert dict(relabelled.select("sample_id", "new_label").iter_rows()) == {
        sample_id: corrected[sample_id] for sample_id in wrong[:2]
    }
    assert rows.filter(pl.col("role") == "keep").height == 46
    assert made["relabel"] == 2
    for name in ("whole", "whole-random", "whole-random-balanced"):
        assert params(name)["from"].startswith("clean@")
        assert verify_manifest(f"w/manifests/{name}/manifest.json") == []
        assert members(name).filter(pl.col("role") == "relabel").height == 2


def test_what_a_subset_leaves_out_is_chosen_by_nothing_that_is_made_from_it(select, cleaned):
    wrong, _ = cleaned
    select("top_k", "--count", 45, "--from", "dropped", "--param", "score=el2n", "--name", "some")
    out = members("some").filter(pl.col("role") == "drop")
    assert out["sample_id"].to_list() == wrong
    assert out["reason"].to_list() == ["not in dropped"] * 3
    for control in ("some-random", "some-random-balanced"):
        assert members(control).filter(pl.col("role") == "drop")["sample_id"].to_list() == wrong


def test_the_score_of_a_sample_under_another_label_is_no_score(place, cleaned, select, capsys):
    wrong, _ = cleaned
    words = [
        "select",
        "top_k",
        "--count",
        "10",
        "--from",
        "clean",
        "--param",
        "score=el2n",
        "--workspace",
        "w",
    ]
    assert run(words) == 2
    assert "2 of 48" in capsys.readouterr().err
    select(*words[1:-2], "--param", "nulls=keep", "--name", "some")
    kept = members("some").filter(pl.col("role") != "drop")["sample_id"].to_list()
    assert set(wrong[:2]) <= set(kept)
    assert len(kept) == 10


@pytest.mark.parametrize("selector", ["craig", "grad_match", "glister"])
def test_gradients_are_those_of_the_corrected_labels(selector, place, select, cleaned):
    _, corrected = cleaned
    select(selector, "--count", 12, "--from", "clean", "--name", "part")
    signals = load_signals("w", Catalog("w").newest_run()["run_id"]).in_mode("epoch_end")
    wanted = (*find_selector(selector).arrays, *find_selector(selector).optional_arrays)
    arrays = {name: np.array(signals[name]) for name in wanted if name in signals}
    frame = members("clean").select("sample_id", label=pl.coalesce("new_label", "label"))
    for row, label in enumerate(frame["label"]):
        arrays["labels"][row] = "xy".index(label)
    expected = choose(selector, frame, budget=12, seed=0, arrays=arrays)
    got = members("part")
    assert got["weight"].to_list() == expected["weight"].to_list()
    assert (got["role"] != "drop").to_list() == (expected["role"] == "keep").to_list()
    assert dict(
        got.filter(pl.col("role") == "relabel").select("sample_id", "new_label").iter_rows()
    ).items() <= (corrected.items())


def test_losses_under_former_labels_choose_nothing(cleaned, capsys):
    words = ["select", "autocoreset", "--count", "9", "--from", "clean", "--workspace", "w"]
    assert run(words) == 2
    assert "recorded under the former labels of 2 samples" in capsys.readouterr().err
    assert run([*words[:5], "dropped", *words[6:]]) == 0


def test_weights_of_the_subset_that_is_chosen_from_stay(select, cleaned):
    select("denoise", "--param", "mode=reweight", "--name", "softened")
    select("random", "--count", 48, "--from", "softened", "--name", "all-of-it")
    before, after = members("softened"), members("all-of-it")
    assert after["weight"].to_list() == before["weight"].to_list()
    assert after["weight"].min() < 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["random", "--count", "5", "--from", "cleen"], "did you mean 'clean'"),
        (["random", "--count", "48", "--from", "dropped"], "45 in dropped"),
        (["denoise", "--from", "clean"], "denoise divides all samples"),
        (["depoison", "--from", "clean"], "depoison divides all samples"),
        (["depoison", "--keep", "0.5"], "depoison decides by itself"),
        (["depoison", "--embedding", "x"], "depoison reads no embedding"),
        (["random", "--count", "1.5"], '"1.5" is no whole number'),
        (["random", "--keep", "0.001"], "less than one sample"),
        (["random", "--count", "5", "--from", "dropped", "--where", "aum > 1e9"], "no training sample fits"),
    ],
)
def test_a_subset_that_cannot_be_chosen_from(words, said, place, cleaned, capsys):
    assert run(["select", *words, "--workspace", "w"]) == 2
    assert said in capsys.readouterr().err


def test_a_deletion_among_texts_takes_copies_by_wording_along(tmp_path, monkeypatch, capsys):
    words = [
        "pay",
        "bill",
        "balance",
        "card",
        "account",
        "transfer",
        "money",
        "open",
        "close",
        "please",
        "today",
    ]
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, 7)) for _ in range(60)]
    copies = [texts[3] + " now", texts[5] + " now"]
    split = ["train"] * 40 + ["val"] * 10 + ["test"] * 10 + ["train", "test"]
    pl.DataFrame(
        {"id": [f"t{row:02d}" for row in range(62)], "text": [*texts, *copies], "split": split,
         "label": [("x", "y")[row % 2] for row in range(62)]}
    ).write_parquet(tmp_path / "texts.parquet")  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["ingest", "texts.parquet", "--workspace", "w"]) == 0
    work = Work(tmp_path / "w")
    capsys.readouterr()
    asked = Request(ids=("t03", "t05"), kind="ids", source="two")
    made = handle(work, [asked], Handling(trial=True))
    assert "forgotten as well: 0 exact, 0 near by embedding, 1 near by wording" in capsys.readouterr().err
    rows = {row["sample_id"]: row for row in members("forget-ready").iter_rows(named=True)}
    assert rows["t60"]["role"] == "forget"
    assert rows["t60"]["reason"].startswith("near copy of 't03', which is forgotten: Jaccard")
    assert "t61" not in rows  # a test sample worded like a trained one: no holdout, and no training sample
    assert made[0]["forget"] == 3
    assert params("forget-ready")["near_words"] == 0.6
    handle(work, [asked], Handling(trial=True, params={"near_words": None}, name="plain"))
    roles = dict(members("plain").select("sample_id", "role").iter_rows())
    assert roles["t60"] in ("retain", "neighbor")
    assert roles["t61"] == "holdout"


def test_a_manifest_names_every_score_that_its_flags_read_and_none_where_no_flag_decided(place):
    scored = set(Catalog("w").query("SELECT * FROM sample_scores LIMIT 0").columns)
    read = {name: scored & set(find(name).columns) for name in ("label_noise", "unlearnable")}
    assert {"aum", "mean_loss", "loss_gmm", "elr_target_disagreement"} <= read["label_noise"]
    rests_on = {
        name: {block.scorer for block in read_manifest(f"w/manifests/{name}/manifest.json").scores}
        for name in ("denoised", "forget-ready", "denoised-random")
    }
    assert rests_on == {
        "denoised": read["label_noise"] | {"preferred_label_posterior"},  # how sure a suggestion is
        "forget-ready": read["label_noise"] | read["unlearnable"],
        "denoised-random": set(),
    }
    Path("ids.txt").write_text("\n".join(sorted(members("denoised")["sample_id"])[:2]))
    assert run(["forget", "ids.txt", "--name", "asked", "--workspace", "w"]) == 0
    assert read_manifest("w/manifests/asked/manifest.json").scores == ()


def test_scores_of_an_earlier_state_are_said_to_be_so(place, capsys):
    words = ["select", "top_k", "--count", "9", "--param", "score=el2n", "--workspace", "w"]
    assert run(words) == 0
    assert "earlier state" not in capsys.readouterr().err
    pl.read_csv("good.csv").head(55).write_csv("good.csv")
    assert run(["ingest", "good.csv", "--workspace", "w"]) == 0
    assert run(words) == 0
    assert (
        "el2n: the newest scores are of an earlier state of good; `tracesift record --workspace w`"
        in capsys.readouterr().err
    )
