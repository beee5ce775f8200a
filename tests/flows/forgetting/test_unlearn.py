"""`evaluate --unlearn`: what can be trusted is told from what cannot, once, and beside retraining."""

import contextlib
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.forgetting.unlearn import DISTRIBUTION_SEEDS, U_LIRA_SEEDS, tried
from tracesift.flows.reporting.charts import unlearning_dots
from tracesift.flows.reporting.compared import compared
from tracesift.flows.reporting.unlearned import COLUMNS, distances, told, verdict
from tracesift.flows.work import existing
from tracesift.pipelines.unlearning_trial import Trial

FEW = ("--epochs", "80", "--threads", "1", "--workspace", "w")
ASKED = ("evaluate", "--unlearn", "retrain", "--unlearn", "fine_tune", "--param", "fine_tune.epochs=1", *FEW)


def noisy_table(rows=400, features=60):
    """Three classes in 60 columns; the table, and 30 training samples whose label is wrong."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, rows)
    values = rng.normal(size=(rows, features)) + 1.5 * np.eye(3)[truth][:, rng.integers(0, 3, features)]
    split = np.where(np.arange(rows) < 300, "train", "test")
    wrong = rng.choice(300, 30, replace=False)
    given = truth.copy()
    given[wrong] = (given[wrong] + 1) % 3
    ids = np.array([f"s{row:03d}" for row in range(rows)])
    columns = {f"x{place:02d}": values[:, place].round(5) for place in range(features)}
    frame = pl.DataFrame({"id": ids, **columns, "split": split, "label": [*map("xyz".__getitem__, given)]})
    return frame, sorted(ids[wrong])


def call(capsys, *words):
    code = run([*map(str, words)])
    return code, *capsys.readouterr()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with the workspace `w`, in which two methods were measured on a memorised forget set."""
    folder = tmp_path_factory.mktemp("unlearn")
    frame, wrong = noisy_table()
    frame.write_csv(folder / "noisy.csv")
    (folder / "wrong.txt").write_text("\n".join(wrong))
    with contextlib.chdir(folder):
        assert run(["ingest", "noisy.csv", "--val", "0", "--workspace", "w"]) == 0
        assert run(["forget", "wrong.txt", "--param", "neighbors=1", "--workspace", "w"]) == 0
        assert run([*ASKED, "--json"]) == 0
    return folder


@pytest.fixture
def place(measured, tmp_path, monkeypatch):
    """An own working directory with an own copy of the workspace."""
    shutil.copytree(measured, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    Catalog(tmp_path / "own" / "w").check_writable()
    return tmp_path / "own"


@pytest.fixture
def counted(monkeypatch):
    """The names of the cells that were really run, in their order."""
    done = []
    for name in ("retrained", "original", "unlearned"):
        method = getattr(Trial, name)

        def spied(self, *args, name=name, method=method, **more):
            done.append(name)
            return method(self, *args, **more)

        monkeypatch.setattr(Trial, name, spied)
    return done


def study_of(capsys, *words):
    code, out, _ = call(capsys, *words, "--json")
    assert code == 0
    (study,) = json.loads(out)
    return study, {row["name"]: row for row in study["rows"]}


def test_a_second_run_trains_nothing_and_says_what_can_be_trusted(place, capsys, counted):
    study, rows = study_of(capsys, *ASKED)
    assert counted == []
    assert study["seeds"] == [0, 1, 2]
    assert study["counts"]["forget"] == 30
    assert study["counts"]["holdout"] == 100
    assert [*rows][:2] == ["original", "retraining"]
    assert set(rows) == {"original", "retraining", "retrain", "fine_tune(epochs=1)"}
    for row in study["rows"]:
        assert set(row) == {"name", "kind", "seeds", "failed", "within", "measures", "klom", "u_lira"}
        assert row["seeds"] == 3
        assert {
            "ua",
            "ra",
            "ta",
            "neighbor",
            "mia",
            "mia_entropy",
            "auc",
            "average_gap",
            "tow",
            "tow_mia",
        } <= set(row["measures"])
        for known in row["measures"].values():
            assert set(known) == {"mean", "std", "difference", "difference_std"}
    gap = {name: row["measures"]["average_gap"]["mean"] for name, row in rows.items()}
    ua = {name: row["measures"]["ua"]["mean"] for name, row in rows.items()}
    # Nobody who never saw the wrong labels gives them; who learned them by heart does.
    assert ua["retraining"] > 0.9
    assert ua["original"] < ua["retraining"] - 0.5
    assert rows["original"]["measures"]["ua"]["difference"] < -0.5
    assert not rows["original"]["within"]
    assert rows["original"]["measures"]["mia"]["difference"] < -0.3
    assert rows["original"]["measures"]["auc"]["mean"] > rows["retraining"]["measures"]["auc"]["mean"] + 0.15
    # The exact method is as near to retraining as retraining is to itself.
    assert rows["retrain"]["within"]
    assert rows["retrain"]["measures"]["tow"]["mean"] > 0.9
    assert gap["retrain"] < gap["original"] / 4
    assert rows["retrain"]["measures"]["steps_ratio"]["mean"] == 1.0
    assert rows["fine_tune(epochs=1)"]["measures"]["steps_ratio"]["mean"] == pytest.approx(1 / 80)
    assert "steps_ratio" not in rows["original"]["measures"]
    assert "exact" not in verdict(study)
    assert "cannot show" not in verdict(study)
    assert "deviations: retrain" in verdict(study)


def test_differences_are_paired_by_seed_and_every_seed_counts(place, capsys):
    _, rows = study_of(capsys, *ASKED)
    kept = Catalog("w").query("SELECT metric, seed, value FROM evaluations ORDER BY seed")
    by = {(metric, seed): value for metric, seed, value in kept.iter_rows()}
    for metric in ("ua", "ta", "mia"):
        golds = [
            [by[f"{name}.{metric}", seed] for name in ("retrain_gold", "retrain_gold_again")]
            for seed in range(3)
        ]
        ours = [by[f"fine_tune(epochs=1).{metric}", seed] for seed in range(3)]
        paired = [one - np.mean(gold) for one, gold in zip(ours, golds, strict=True)]
        known = rows["fine_tune(epochs=1)"]["measures"][metric]
        assert known["mean"] == pytest.approx(np.mean(ours))
        assert known["difference"] == pytest.approx(np.mean(paired))
        assert known["difference_std"] == pytest.approx(np.std(paired, ddof=1))
        assert rows["retraining"]["measures"][metric]["mean"] == pytest.approx(np.mean(golds))
        assert rows["retraining"]["measures"][metric]["std"] == pytest.approx(np.std(golds, ddof=1))
    gaps = [
        np.mean([100 * abs(by[f"retrain.{m}", seed] - by[f"{gold}.{m}", seed])
                 for m in ("ua", "ra", "ta", "mia") for gold in ("retrain_gold", "retrain_gold_again")])
        for seed in range(3)
    ]  # fmt: skip
    assert rows["retrain"]["measures"]["average_gap"]["mean"] == pytest.approx(np.mean(gaps))
    assert (
        len(
            {by["retrain_gold.remind", s] for s in range(3)}
            | {by["retrain_gold_again.remind", s] for s in range(3)}
        )
        == 6
    )


def test_stopped_in_the_middle_it_goes_on_there(place, capsys, counted, monkeypatch):
    more = [*ASKED, "--unlearn", "scrub", "--param", "scrub.epochs=2"]
    whole = Trial.unlearned

    def stops(self, method, seed, **rest):
        if seed == 1:
            raise KeyboardInterrupt
        return whole(self, method, seed, **rest)

    monkeypatch.setattr(Trial, "unlearned", stops)
    code, _, told_ = call(capsys, *more)
    assert code == 130
    assert "the same command goes on from there" in told_
    assert counted == ["unlearned"]  # seed 0; the known cells were not run again
    monkeypatch.setattr(Trial, "unlearned", whole)
    counted.clear()
    _, rows = study_of(capsys, *more)
    assert counted == ["unlearned", "unlearned"]
    assert rows["scrub(epochs=2)"]["seeds"] == 3
    assert not any(path.suffix == ".pt" for path in (place / "w").rglob("*")), "a model remembers what it saw"


def test_another_recipe_is_not_mixed_in(place, capsys):
    """What stands in the catalog of a method that was tried under other epochs is not beside this retraining."""
    known = Catalog("w").query("SELECT * FROM evaluations WHERE starts_with(metric, 'retrain.')")
    other = known.with_columns(
        metric=pl.col("metric").str.replace("retrain", "ssd"),
        details=pl.lit('{"study": "other", "models": 1}'),
    )
    Catalog("w").put_evaluations(other)
    assert set(study_of(capsys, *ASKED)[1]) == {"original", "retraining", "retrain", "fine_tune(epochs=1)"}
    same = known.with_columns(metric=pl.col("metric").str.replace("retrain", "ssd"))
    Catalog("w").put_evaluations(same)
    assert "ssd" in study_of(capsys, *ASKED)[1]


def test_over_many_seeds_distributions_are_compared(place, capsys, monkeypatch, counted):
    assert (DISTRIBUTION_SEEDS, U_LIRA_SEEDS) == (8, 20)
    more = (*ASKED, "--seeds", "4")
    study, rows = study_of(capsys, *more)
    assert all((row["klom"], row["u_lira"]) == ({}, None) for row in study["rows"])
    counted.clear()
    monkeypatch.setattr("tracesift.flows.forgetting.unlearn.DISTRIBUTION_SEEDS", 4)
    study, rows = study_of(capsys, *more)
    assert all(row["klom"] and row["u_lira"] is None for row in study["rows"])
    monkeypatch.setattr("tracesift.flows.forgetting.unlearn.U_LIRA_SEEDS", 4)
    study, rows = study_of(capsys, *more)
    assert counted == []  # the margins were kept
    assert study["distribution_models"] == 4
    for row in study["rows"]:
        assert "u_lira" not in row["measures"]
        assert set(row["klom"]) == {"forget", "retain", "test"}
        assert [*row["klom"]["forget"]] == ["p5", "p25", "p50", "p75", "p95", "p99"]
        assert not any("klom" in name for name in row["measures"])
        assert row["seeds"] == 4
    # Wrong labels learned by heart give the original away; retraining never saw them, so guesses are no better.
    assert rows["original"]["u_lira"] > 0.95
    assert abs(rows["retraining"]["u_lira"] - 0.5) < 0.15
    # No bin of 20 holds both a model that knows the label and one that never saw it: log((1/3) / 1e-5) or more.
    assert rows["original"]["klom"]["forget"]["p5"] > 10.4


def test_weights_of_the_manifest_and_loreun_reach_the_method(place, capsys, monkeypatch):
    seen = []

    def method(trained, forget, retain, *, seed, weights=None, **_settings):
        seen.append(weights[forget].numpy())
        return trained.module

    for tau in (None, 0.5):
        asked = (
            ["random_labels"],
            "manifest" if tau is None else "loreun",
            () if tau is None else ("loreun.tau=0.5",),
        )
        (one,) = tried(*asked)
        spied = replace(one, method=replace(one.method, function=method))
        monkeypatch.setattr("tracesift.flows.forgetting.unlearn.tried", lambda *_, spied=spied: [spied])
        assert call(capsys, "evaluate", "--unlearn", "random_labels", *FEW)[0] == 0
    plain, weighed = seen[0], seen[3]
    assert (plain == 1).all()
    assert weighed.mean() == pytest.approx(1, abs=1e-5)
    assert weighed.std() > 0.01
    assert [one.name for one in tried(["ssd"], "loreun", ("loreun.tau=0.5",))] == [
        "ssd(weights=loreun,tau=0.5)"
    ]


def test_a_method_that_breaks_is_told_and_not_averaged(place, capsys):
    words = ("evaluate", "--unlearn", "gradient_ascent", "--param", "gradient_ascent.lr=1e12", *FEW)
    study, rows = study_of(capsys, *words)
    broken = rows["gradient_ascent(lr=1000000000000.0)"]
    assert "NaN or infinite" in broken["failed"]
    assert "3 of 3 seeds" in broken["failed"]
    assert broken["measures"] == {}
    assert study["rows"][-1]["name"] == broken["name"]
    code, out, _ = call(capsys, *words)
    assert code == 0
    assert "NaN or infinite" in out


def test_the_table_says_what_to_look_for(place, capsys):
    code, out, _ = call(capsys, *ASKED)
    assert code == 0
    assert "30 forgotten" in out
    assert "near retraining's, not high" in out
    assert re.search(r"^original +\d", out, re.MULTILINE)
    assert "deviations: retrain" in out


def test_the_plain_table_holds_nothing_of_it(place):
    assert compared(existing(place / "w")) == []


def test_the_report_is_given_it(place, capsys, monkeypatch):
    study, _ = study_of(capsys, *ASKED)
    figure = unlearning_dots(study["rows"])
    (points,) = (rows for rows in figure.spec["datasets"].values() if len(rows) > 1)
    assert len(points) == 4 * len(study["rows"])
    (original,) = (one for one in points if one["name"] == "original" and one["measure"] == "UA")
    assert original["mean"] < -50  # points below retraining, to the left
    kept = []
    monkeypatch.setattr("tracesift.flows.publish.render_report", lambda data: kept.append(data) or "<p>")
    assert call(capsys, "report", "--workspace", "w")[0] == 0
    assert kept[0].unlearning == [study]
    assert kept[0].evaluations is None


REFUSED = {
    "--unlearn finetune": "no unlearning method 'finetune' (did you mean 'fine_tune'?); there are boundary_expand, ",
    "nope --unlearn ssd": "there is no subset 'nope'",
    "--unlearn ssd --steps 3": "change it with --epochs",
    "--unlearn ssd --param ssd.alpa=1": "ssd has no 'alpa' (did you mean 'alpha'?); it has alpha, ",
    "--unlearn ssd --param alpha=1": "write METHOD.key=value, such as ssd.alpha",
    "--unlearn ssd --param scrub.alpha=1": "scrub is not tried",
    '--unlearn ssd --param ssd.alpha="x"': "ssd: alpha='x' must be a number",
    "--unlearn ssd --param loreun.tau=1": "with --weights loreun",
    "--unlearn ssd --weights loreun --param loreun.tau=0": "a number above 0",
    "--param ssd.alpha=1": "--unlearn METHOD",
}


def test_what_is_refused(place, capsys):
    for words, said in REFUSED.items():
        code, _, told_ = call(capsys, "evaluate", *words.split(), "--workspace", "w")
        assert code == 2, words
        assert said in told_, told_
        assert told_.count("\n") == 1


def test_a_subset_that_forgets_nothing_is_refused(place, capsys):
    assert call(capsys, "select", "random", "--keep", "0.5", "--workspace", "w")[0] == 0
    code, _, told_ = call(capsys, "evaluate", "random", "--unlearn", "ssd", "--workspace", "w")
    assert code == 2
    assert "subset random forgets nothing" in told_


def test_what_others_deleted_since_is_used_by_no_model(place, capsys, monkeypatch):
    """Neither trained on nor measured on; what the subset forgets itself is what the original has to see."""
    catalog = Catalog(place / "w")
    asked = (
        "SELECT sample_id FROM subset_members JOIN subsets USING (subset_id) "
        "WHERE name = 'forget-ready' AND role = 'retain' ORDER BY sample_id LIMIT 4"
    )
    gone = catalog.query(asked)["sample_id"].to_list()
    (place / "gone.txt").write_text("\n".join(gone))
    assert call(capsys, "forget", "gone.txt", "--name", "others", "--workspace", "w")[0] == 0
    ids = catalog.query("SELECT sample_id FROM samples ORDER BY sample_id")["sample_id"]
    seen = []

    def spied(self, dataset, sets, *more, **others):
        seen.append(sets)
        raise BadInput("seen")

    monkeypatch.setattr(Trial, "__init__", spied)
    code, _, told_ = call(capsys, "evaluate", "forget-ready", "--unlearn", "ssd", "--workspace", "w")
    assert code == 2
    assert "without 4 samples, to be forgotten by other requests" in " ".join(told_.split())
    (sets,) = seen
    used = {
        name: set(ids.gather(getattr(sets, name))) for name in ("forget", "retain", "neighbor", "holdout")
    }
    assert used["forget"] == {*(place / "wrong.txt").read_text().split()}
    assert not set(gone) & set.union(*used.values())


def test_what_was_measured_is_told_after_the_forgotten_were_purged(place, capsys):
    """The manifest holds none of them any more; the numbers are of when it did."""
    before, _ = study_of(capsys, *ASKED)
    assert before["counts"] == {"forget": 30, "holdout": 100, "neighbor": 67, "retain": 203}
    assert run(["purge", "--all", "--workspace", "w"]) == 0
    asked = (
        "SELECT DISTINCT role FROM subset_members JOIN subsets USING (subset_id) WHERE name = 'forget-ready'"
    )
    assert "forget" not in Catalog(place / "w").query(asked)["role"].to_list()
    assert run(["report", "--workspace", "w"]) == 0
    page = (place / "w" / "report.html").read_text()
    assert "30 forgotten, 203 retained, 67 neighbours, 100 held out" in page


def test_without_test_samples_it_is_refused(place, capsys):
    pl.read_csv("noisy.csv").filter(pl.col("split") == "train").drop("split").write_csv("train.csv")
    assert call(capsys, "ingest", "train.csv", "--val", "0", "--test", "0", "--workspace", "v")[0] == 0
    assert call(capsys, "forget", "wrong.txt", "--workspace", "v")[0] == 0
    code, _, told_ = call(capsys, "evaluate", "--unlearn", "ssd", "--workspace", "v")
    assert code == 2
    assert "no test samples to evaluate on" in told_


def test_without_a_holdout_privacy_has_no_number(place, capsys):
    """A control holds nothing out: its members are those of train alone."""
    words = (
        "evaluate", "forget-ready-random", "--unlearn", "ssd", "--param", "ssd.alpha=2", "--epochs", "2", "--threads", "1",
        "--workspace", "w",
    )  # fmt: skip
    study, rows = study_of(capsys, *words)
    assert "holdout" not in study["counts"]
    for row in rows.values():
        assert not {"mia", "auc", "average_gap", "tow_mia"} & set(row["measures"])
        assert "tow" in row["measures"]
        assert row["within"] is None
    assert rows["ssd(alpha=2)"]["measures"]["steps"]["mean"] == 0
    code, out, _ = call(capsys, *words)
    assert code == 0
    assert "no holdout" in out


def test_the_list_of_methods(capsys):
    code, out, _ = call(capsys, "evaluate", "--unlearn", "list", "--json")
    assert code == 0
    listed = {row["name"]: row for row in json.loads(out)}
    assert listed["fine_tune"]["settings"]["epochs"] == 10
    assert all(row["summary"] and row["reference"] for row in listed.values())
    assert [one.method.name for one in tried(["all"], "manifest", ())] == [*listed]
    with pytest.raises(UnknownName, match="fine_tune"):
        tried(["fine_tuen"], "manifest", ())
    with pytest.raises(BadInput, match="must be a whole number"):
        tried(["scrub"], "manifest", ("scrub.epochs=1.5",))


def test_numbers_in_words():
    assert set(COLUMNS) >= {"ua", "ra", "ta", "mia", "average_gap"}
    assert told("steps_ratio", {"mean": 0.5, "std": 0.1}) == "0.50"
    with pytest.raises(BadInput, match="has no 'ra'"):
        distances({"ua": 1.0}, [{"ua": 1.0}])
