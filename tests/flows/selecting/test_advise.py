"""`--selector auto` and `tracesift advise`: one choice in both, with its reason where people look for it."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.manifest import read_manifest
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.selecting import advise as advising
from tracesift.flows.selecting import situation
from tracesift.flows.work import Work
from tracesift.selectors.advice import Expected


@pytest.fixture
def call(place, capsys):
    """A function: run a command in the workspace and return its JSON document."""

    def words(*given):
        capsys.readouterr()
        assert run([*map(str, given), "--json", "--workspace", "w"]) == 0
        return json.loads(capsys.readouterr().out)

    return words


def flag(share, name="label_noise"):
    """Flag, by default as mislabeled, the samples with the lowest margins."""
    catalog = Catalog("w")
    rows = catalog.query(
        "SELECT sample_id, label, aum FROM sample_scores WHERE split = 'train' ORDER BY aum, 1"
    )
    wrong = rows["sample_id"][: round(share * len(rows))].to_list()
    flags = rows.select(
        "sample_id", flagged=pl.col("sample_id").is_in(wrong), reason=pl.lit("told"),
        confidence=pl.int_range(pl.len(), 0, -1) / pl.len(),
    )  # fmt: skip
    newest = catalog.newest_run()
    catalog.put_flags(newest["run_id"], newest["dataset_id"], name, flags)
    return wrong


def test_advice_and_selection_make_the_same_choice(call):
    told = call("advise", "--keep", 0.5)["choices"][0]
    made = call("select", "auto", "--keep", 0.5)
    assert made["selector"] == told["selector"]
    assert (made["name"], made["keep"]) == ("auto", told["kept"])
    manifest = read_manifest("w/manifests/auto/manifest.json").selector
    assert manifest.params["chosen_by"] == "auto"
    assert manifest.params["because"] == told["because"]
    assert [control["control_of"] for control in made["controls"]] == ["auto", "auto"]
    assert "because" not in read_manifest("w/manifests/auto-random/manifest.json").selector.params


def test_the_choice_follows_what_is_known(call):
    assert call("advise", "--keep", 0.9)["dataset"]["noise"] == 0
    flag(0.4)
    known = call("advise", "--keep", 0.9, "--keep", 0.4)
    assert known["dataset"]["unflagged"] == 29
    assert known["dataset"]["noise"] == pytest.approx(19 / 48)
    above, below = known["choices"]
    assert above["selector"] == "bottom_k"
    assert "29" in above["because"]
    assert below["selector"] != "bottom_k"
    assert known["setting"]["noise"] > 0


@pytest.mark.parametrize(
    ("shown", "rate", "noise", "doubted"),
    [
        (True, 0.2, 0.2, False),
        (None, 0.2, 0.2, True),
        (None, 0.02, 2 / 48, False),  # more than that is flagged
        (None, None, 2 / 48, False),
        (False, 0.2, 2 / 48, False),
    ],
)
def test_noise_that_may_be_overlap_is_guarded_against(call, capsys, shown, rate, noise, doubted):
    flag(2 / 48)
    catalog = Catalog("w")
    newest = catalog.newest_run()
    catalog.put_diagnostic(
        newest["dataset_id"], newest["run_id"], "label_noise_rate", {"shown": shown, "rate": rate}
    )
    known = call("advise", "--keep", 0.5)
    assert known["dataset"]["noise"] == pytest.approx(noise)
    assert known["dataset"]["doubted"] == doubted
    assert known["dataset"]["found"] == pytest.approx(2 / 48 / noise)
    assert run(["advise", "--keep", "0.5", "--workspace", "w"]) == 0
    said = capsys.readouterr().out
    assert ("up to 20.0% of the labels wrong, unless it is the classes" in said) == doubted


@pytest.mark.parametrize(
    ("shown", "rate", "apart"),
    [(True, 0.2, False), (None, 0.2, False), (None, 0.02, True), (False, 0.2, True)],
)
def test_what_training_sets_apart_is_told_as_such(call, capsys, shown, rate, apart):
    """The flag may rest on training alone, while the surest samples leave open whether labels are wrong."""
    flag(2 / 48)
    catalog = Catalog("w")
    newest = catalog.newest_run()
    for name, found in (
        ("label_noise_rate", {"shown": shown, "rate": rate}),
        ("label_noise", {"set_apart": 2, "set_apart_flagged": 2}),
    ):
        catalog.put_diagnostic(newest["dataset_id"], newest["run_id"], name, found)
    assert call("advise", "--keep", 0.5)["dataset"]["apart"] == apart
    assert run(["advise", "--keep", "0.5", "--workspace", "w"]) == 0
    assert ("4.2% of the labels wrong, which training sets apart" in capsys.readouterr().out) == apart


def test_what_carries_another_signal_is_left_out_and_no_wrong_label(call):
    flag(0.25, "unlearnable")
    known = call("advise", "--keep", 0.5)["dataset"]
    assert (known["unflagged"], known["noise"], known["found"]) == (36, 0, 1)


def test_more_than_is_unflagged_leaves_out_the_most_suspicious(call):
    wrong = flag(0.4)
    call("select", "auto", "--keep", 0.9, "--name", "most")
    members = pl.read_parquet("w/manifests/most/members.parquet")
    assert sorted(members.filter(pl.col("role") == "drop")["sample_id"]) == sorted(wrong[:5])


@pytest.mark.parametrize("selector", ["auto", "top_k"])
def test_an_unflagged_sample_never_gives_way_to_a_flagged_one(call, selector):
    """Poisoned samples are the easiest to learn: no score of difficulty may choose among them and the others."""
    catalog = Catalog("w")
    rows = catalog.query("SELECT sample_id FROM sample_scores WHERE split = 'train' ORDER BY aum DESC, 1")
    signal = rows["sample_id"][:20].to_list()
    beyond = {one: 2.0 + (7 * place) % 20 for place, one in enumerate(signal)}
    flags = rows.select(
        "sample_id", flagged=pl.col("sample_id").is_in(signal), threshold=pl.lit(2.0), reason=pl.lit("told"),
        score=pl.col("sample_id").replace_strict(beyond, default=0.5),
    )  # fmt: skip
    newest = catalog.newest_run()
    catalog.put_flags(newest["run_id"], newest["dataset_id"], "unlearnable", flags)
    params = [] if selector == "auto" else ["--param", "score=aum"]
    call("select", selector, "--count", 30, *params, "--name", "most")
    members = pl.read_parquet("w/manifests/most/members.parquet")
    kept = set(members.filter(pl.col("role") == "keep")["sample_id"])
    assert len(kept) == 30
    assert set(rows["sample_id"]) - set(signal) <= kept
    back = sorted(kept & set(signal))
    if selector == "auto":  # least beyond the threshold, and not what is easiest
        assert back == sorted(sorted(signal, key=beyond.__getitem__)[: len(back)])
    else:
        assert back == sorted(signal[: len(back)])
    assert len(back) == 30 - (len(rows) - 20) > 0


def test_curate_takes_auto_once(place, capsys):
    words = ["curate", "good.csv", "--workspace", "w", "--epochs", "3", "--folds", "2", "--threads", "1",
             "--selector", "auto", "--keep", "0.4"]  # fmt: skip
    assert run(words) == 0
    said = capsys.readouterr()
    assert "pruned: auto took" in said.out
    pruned = read_manifest("w/manifests/pruned/manifest.json")
    assert pruned.selector.params["chosen_by"] == "auto"
    page = Path("w/report.html").read_text(encoding="utf-8")
    assert f"<code>auto</code> took <code>{pruned.selector.name}</code>" in page
    assert run(words) == 0
    assert read_manifest("w/manifests/pruned/manifest.json").version == pruned.version


def test_for_people_the_basis_is_said(place, capsys):
    assert run(["advise", "--workspace", "w"]) == 0
    said = capsys.readouterr().out
    for word in ("auto takes", "Measured on", "seeds", "times", "random_balanced", "kept 10%"):
        assert word in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["select", "auto"], "needs a size"),
        (["select", "auto", "--keep", "0.5", "--param", "score=aum"], "name the selector"),
        (["advise", "--keep", "1.5"], "a share in (0, 1]"),
    ],
)
def test_what_auto_cannot_be_asked(words, said, place, capsys):
    assert run([*words, "--workspace", "w"]) == 2
    assert said in capsys.readouterr().err


def test_of_several_seeds_the_one_with_features_is_read(monkeypatch, tmp_path):
    runs = {"a": {"loss": 1}, "b": {"loss": 2, "embedding": 3}, "c": {"loss": 4}}
    monkeypatch.setattr(situation, "newest_runs", lambda _work: list(runs))
    monkeypatch.setattr(situation, "at_epoch_ends", lambda _path, run: runs[run])
    assert situation.recorded(Work(tmp_path)) is runs["b"]


def test_vectors_of_ones_own_are_features_enough(place, capsys):
    frame = pl.read_csv("good.csv")
    assert run(["ingest", "good.csv", "--workspace", "v"]) == 0
    assert run(["select", "auto", "--keep", "0.2", "--workspace", "v"]) == 2
    assert "tracesift embed" in capsys.readouterr().err
    np.savez(
        "mine.npz",
        sample_ids=frame["id"].to_numpy().astype(str),
        vectors=frame.select("a", "b", "c").to_numpy(),
    )
    assert run(["embed", "--source", "mine.npz", "--workspace", "v"]) == 0
    assert run(["select", "auto", "--keep", "0.2", "--workspace", "v"]) == 0
    assert "auto takes facility_location by 'mine': " in capsys.readouterr().err
    manifest = read_manifest("v/manifests/auto/manifest.json").selector
    assert manifest.name == "facility_location"
    assert manifest.params["embedding"].startswith("mine@")
    assert (
        run(["select", "facility_location", "--keep", "0.2", "--embedding", "mine", "--workspace", "v"]) == 0
    )
    kept = [
        pl.read_parquet(f"v/manifests/{name}/members.parquet").select("sample_id", "role")
        for name in ("auto", "facility-location")
    ]
    assert kept[0].equals(kept[1])
    assert run(["embed", "--source", "mine.npz", "--name", "twin", "--workspace", "v"]) == 0
    assert run(["select", "auto", "--keep", "0.2", "--workspace", "v"]) == 2  # which of the two?
    assert "--embedding" in capsys.readouterr().err
    assert run(["select", "auto", "--keep", "0.2", "--embedding", "twin", "--workspace", "v"]) == 0


def test_an_embedding_that_the_choice_does_not_read_is_said_and_left_out(call, capsys):
    call("embed", "--source", "content")
    flag(0.4)
    assert run(["select", "auto", "--keep", "0.9", "--embedding", "content", "--workspace", "w"]) == 0
    assert "it reads no embedding, 'content' neither" in capsys.readouterr().err
    assert "embedding" not in read_manifest("w/manifests/auto/manifest.json").selector.params


def test_no_accuracy_above_one_is_promised_and_all_is_no_choice(call, monkeypatch):
    monkeypatch.setattr(advising, "_everything", lambda _: {"accuracy": 0.999, "of": "told"})
    better = Expected(selector="dual", retained=1.02, points=2.0, spread=None, seeds=1)
    monkeypatch.setattr(advising, "expected", lambda *_: [better])
    told = call("advise", "--keep", 1.0)
    assert told["expected"][0]["accuracy"] == 1.0
    assert told["choices"][0]["because"] == "all samples are kept, so there is nothing to choose"
