"""`tracesift protect`: a dataset that curate opens, the truth beside it, and the detectors measured against it."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from tracesift.flows.cli import run
from tracesift.flows.reporting.truth import protection_truth
from tracesift.flows.reporting.unlearnable import truth_in_words
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.protection import writing


@pytest.fixture
def told(capsys, tmp_path, monkeypatch):
    """A function: run a command in an empty folder, and return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        code = run([*map(str, words)])
        return code, *capsys.readouterr()

    return call


def test_protect_and_curate_measures_the_detectors(told):
    words = (
        "protect",
        "digits",
        "--method",
        "class_patches",
        "--share",
        "0.5",
        "--eps",
        "30",
        "--out",
        "mine",
    )
    code, out, err = told(*words, "--json")
    assert code == 0, err
    answer = json.loads(out)
    record = json.loads(Path(answer["truth"]).read_text())
    assert (
        (answer["changed"], answer["train"])
        == (728, 1455)
        == (len(record["changed"]), record["counts"]["train"])
    )
    assert record["parameters"]["eps"] == 30
    curated = ("curate", "mine", "--epochs", "2", "--folds", "2", "--threads", "1", "--no-content")
    code, out, err = told(*curated, "--json")
    assert code == 0, err
    truth = json.loads(out)["protection_truth"]
    assert (truth["known"], truth["changed"]) == (1455, 728)
    assert truth["scorers"]["residual_shortcut"]["auroc"] > 0.9
    assert truth["recall"] is not None
    code, out, err = told(*curated)
    assert "tracesift protect is known to have changed 728 of 1455 training samples" in out
    assert "the AUROC of residual_shortcut" in out
    assert "depoisoned is the subset without them" in out
    cured = pl.read_parquet("tracesift-work/manifests/depoisoned/members.parquet")
    flagged = json.loads(told("sql", "SELECT sample_id FROM sample_flags WHERE unlearnable", "--json")[1])
    assert set(cured.filter(role="drop")["sample_id"]) == {row["sample_id"] for row in flagged}
    assert Path("tracesift-work/manifests/depoisoned-random/members.parquet").exists()
    code, out, err = told("select", "depoison", "--json")
    assert code == 0, err
    ids = set(
        pl.read_parquet("tracesift-work/manifests/depoison/members.parquet").filter(pl.col("role") == "drop")[
            "sample_id"
        ]
    )
    assert len(ids & set(record["changed"])) > 0.9 * len(ids) > 300
    code, out, _ = told("sql", "SELECT count(*) AS n FROM samples", "--json")
    assert code == 0


def test_the_same_again_makes_nothing_and_anything_else_is_refused(told, monkeypatch):
    words = ("protect", "digits", "--method", "one_pixel", "--share", "0.2", "--out", "mine")
    assert told(*words, "--json")[0] == 0
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    first = told(*words)[1]
    assert "report: pixels 0: row " in first
    with monkeypatch.context() as patch:
        patch.setattr("tracesift.pipelines.protection.protecting.protect", None)
        code, out, err = told(*words)
    assert (code, out) == (0, first)
    assert "mine holds just this already: nothing was made again" in err
    for more in (("--seed", "1"), ("--param", "pixels=2"), ("--test", "0.3")):
        code, _, err = told(*words, *more)
        assert code == 2
        assert "--out mine: is there and holds something" in err
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before
    with Path("mine/data.parquet").open("ab") as file:
        file.write(b"0")
    assert told(*words)[0] == 2  # what has changed since is not what would be made
    for other in ("{", '{"method": "one_pixel"}'):
        Path("mine/truth/protection.json").write_text(other)
        code, _, err = told(*words)
        assert code == 2
        assert "is there and holds something" in err


@pytest.mark.parametrize("eps", ["nan", "inf", "0"])
def test_a_budget_that_is_none_is_refused_by_its_name(told, eps):
    code, _, err = told("protect", "digits", "--method", "lsp", "--eps", eps, "--out", "mine")
    assert code == 2
    assert "eps=" in err
    assert "--param" not in err
    assert not Path("mine").exists()


def test_what_is_said(told):
    code, out, err = told(
        "protect", "digits", "--method", "lsp", "--share", "0.1", "--out", "mine", "--param", "patch=4"
    )
    assert code == 0
    assert "changed: 146" in out
    assert "342 samples of val and test are written as in the source" in err
    assert "truth: mine/truth/protection.json" in out
    assert err.splitlines()[-1] == "next: tracesift curate mine"
    assert json.loads(Path("mine/truth/protection.json").read_text())["parameters"] == {
        "eps": 6.0,
        "patch": 4,
    }
    weak = (
        "--param",
        "rounds=1",
        "--param",
        "stop_error=0",
        "--param",
        "steps=1",
        "--param",
        "train_steps=1",
    )
    code, _, err = told(
        "protect", "digits", "--method", "error_min_noise_samplewise", "--share", "0.1", "--out", "b", *weak
    )
    assert code == 0
    assert "after 1 rounds, above stop_error=0: weak noise; allow more with --param rounds=2" in err
    quick = ("--param", "rounds=1", "--param", "epochs=1", "--param", "steps=1")
    code, out, err = told(
        "protect", "digits", "--method", "bayes_error_noise", "--share", "0.1", "--out", "c", *quick
    )
    assert code == 0
    assert re.search(r"by each surrogate's own estimate 0\.\d{3} to 0\.\d{3}\n", out)
    assert "bayes_error_noise is experimental" in err


def test_texts(told):
    words = [f"a line about thing number {at}" for at in range(90)]
    pl.DataFrame({"body": words, "stars": ["1", "5", "3"] * 30}).write_csv("lines.csv")
    code, _, err = told(
        "protect", "lines.csv", "--method", "rare_token_trigger", "--label", "stars", "--out", "mine"
    )
    assert code == 0, err
    again = open_dataset("mine")
    assert again.kind == "text"
    assert again.samples["unlearnable_true"].sum() == len(again.rows("train"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere", "--method", "lsp"], "nowhere: no such file"),
        (["digits", "--method", "lps"], "did you mean 'lsp'?"),
        (["digits", "--method", "lsp", "--share", "0"], "--share 0.0"),
        (["digits", "--method", "lsp", "--share", "7"], "--share 7.0"),
        (["digits", "--method", "lsp", "--seed", "-1"], "--seed -1"),
        (["digits", "--method", "lsp", "--eps", "0.2"], "eps=0.2"),
        (
            ["digits", "--method", "lsp", "--eps", "2", "--param", "eps=3"],
            "--eps 2.0 and --param eps=3 differ",
        ),
        (["digits", "--method", "lsp", "--param", "patch=big"], "a whole number or None"),
        (["digits", "--method", "lsp", "--param", "pach=2"], "did you mean 'patch'?"),
        (["digits", "--method", "one_pixel", "--eps", "8"], "one_pixel has no budget of this sort"),
        (["digits", "--method", "rare_token_trigger"], "its samples are of kind 'image'"),
        (["digits", "--method", "error_min_noise_classwise", "--device", "cuda:99"], "cuda:99"),
        (["digits"], "--method"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(words, says, told):
    code, out, err = told("protect", *words, "--out", "mine")
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert not Path("mine").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
@pytest.mark.parametrize("words", [("protect", "digits", "--method", "one_pixel"), ("project", "digits")])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_computed(words, told, monkeypatch):
    monkeypatch.setattr("tracesift.flows.work.open_source", None)
    code, out, err = told(*words, "--out", "/proc/x/y")
    assert (code, out) == (2, "")
    assert err.startswith("tracesift: --out /proc/x/y: cannot be written (")
    assert err.endswith("); name another folder, or mend it\n")
    assert err.count("\n") == 1


def test_nothing_is_written_over_and_ctrl_c_leaves_nothing(told, monkeypatch):
    words = ("protect", "digits", "--method", "class_patches", "--share", "0.1", "--out", "mine")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_json", interrupted)
        code, out, _ = told(*words)
    assert (code, out) == (130, "")
    assert not [*Path().iterdir()]
    assert told(*words)[0] == 0
    code, _, err = told(*words, "--seed", "4")
    assert code == 2
    assert "is there and holds something" in err


def test_truth_by_hand():
    """Four known samples, two of them changed; the flag says yes to one of these and to one other."""
    dataset = open_dataset("digits")
    ids = dataset.samples["sample_id"].gather(dataset.rows("train")[:4]).to_list()
    known = dict(zip(ids, [True, True, False, False], strict=True))
    marked = dataset.samples.with_columns(
        pl.col("sample_id")
        .replace_strict(known, default=None, return_dtype=pl.Boolean)
        .alias("unlearnable_true")
    )
    changed = type(dataset)(**{**vars_of(dataset), "samples": marked})
    scores = pl.DataFrame(
        {"sample_id": ids, "residual_shortcut": [3.0, 1.0, 2.0, 0.0], "aum": [1.0, 2.0, 3.0, 4.0]}
    )
    flags = pl.DataFrame(
        {
            "flag": ["unlearnable"] * 4 + ["label_noise"],
            "sample_id": [*ids, ids[1]],
            "flagged": [True, None, True, False, True],
        }
    )
    found = protection_truth(changed, scores, flags)
    assert (found["known"], found["changed"], found["precision"], found["recall"]) == (4, 2, 0.5, 0.5)
    assert (found["told"], found["flagged"], found["found"]) == (3, 2, 1)
    assert found["scorers"]["residual_shortcut"]["auroc"] == 0.75
    assert found["scorers"]["aum"]["auroc"] == 1.0  # low is suspicious
    assert protection_truth(dataset, scores, flags) is None
    none = protection_truth(changed, scores, flags.filter(pl.col("flag") == "label_noise"))
    assert (none["told"], none["precision"], none["recall"]) == (
        0,
        None,
        None,
    )  # not measured, which is not 0
    assert "cannot tell of any of them, so how well it does was not measured" in truth_in_words(none)
    silent = protection_truth(changed, scores, flags.with_columns(flagged=pl.lit(value=False)))
    assert (silent["told"], silent["precision"], silent["recall"]) == (4, None, 0.0)
    assert "The flag finds 0 of them (recall 0.0 %), and flags nothing else." in truth_in_words(silent)


def vars_of(dataset):
    names = dataset.__dataclass_fields__
    return {name: getattr(dataset, name) for name in names}
