"""What several seeds have in common: by hand, and by what chance alone would give."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from tracesift.flows.cli import run
from tracesift.flows.curate import curate
from tracesift.flows.options import Choosing, CurateJob, Training
from tracesift.flows.recordings import newest_runs
from tracesift.flows.reporting.stability import bootstrapped, combined, held_by, rank_correlations
from tracesift.flows.score import diagnostics_of
from tracesift.flows.work import existing


def test_rank_correlations_of_three_seeds():
    rng = np.random.default_rng(0)
    frames = [
        pl.DataFrame({"aum": np.arange(50.0) ** (1 + seed), "cld": rng.normal(size=50), "el2n": [1.0] * 50})
        for seed in range(3)
    ]
    found = rank_correlations(frames)
    assert [row["scorer"] for row in found] == [
        "cld",
        "aum",
    ]  # the least stable first; a constant is no order
    assert found[1] == {"scorer": "aum", "mean": 1.0, "least": 1.0}  # ranks, not values
    pairs = [
        stats.spearmanr(frames[i]["cld"], frames[j]["cld"]).statistic for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert found[0]["mean"] == pytest.approx(np.mean(pairs), abs=1e-4)
    assert found[0]["least"] == pytest.approx(min(pairs), abs=1e-4)


def test_missing_scores_are_left_out_of_a_pair():
    frames = [pl.DataFrame({"aum": [1.0, 2.0, 3.0, None]}), pl.DataFrame({"aum": [1.0, 2.0, 3.0, -9.0]})]
    assert rank_correlations(frames)[0]["least"] == 1.0
    assert rank_correlations([frames[0], frames[0].rename({"aum": "cld"})]) == []


def test_held_by_every_and_by_some():
    decided = [np.array([True, True, False, False]), np.array([True, False, True, False])]
    assert held_by(decided) == {"every": 1, "some": 3, "overlap": 0.3333}
    assert held_by([np.zeros(3, bool)] * 2) == {"every": 0, "some": 0, "overlap": None}


def top_half(scores):
    return scores["aum"].rank(method="ordinal", descending=True).to_numpy() <= scores.height / 2


def test_bootstrap_of_equal_seeds_stands_and_of_noise_does_not():
    rng = np.random.default_rng(1)
    signal = rng.normal(size=400)
    same = [pl.DataFrame({"aum": signal})] * 3
    assert bootstrapped(same, top_half(combined(same)), top_half, seed=0) == {
        "overlap": 1.0,
        "low": 1.0,
        "high": 1.0,
    }
    noise = [pl.DataFrame({"aum": rng.normal(size=400)}) for _ in range(3)]
    found = bootstrapped(noise, top_half(combined(noise)), top_half, seed=0)
    assert 0.5 < found["low"] < 0.75 < found["overlap"] < 0.95  # each draw shares seeds with the whole
    assert found == bootstrapped(noise, top_half(combined(noise)), top_half, seed=0)


def test_combined_goes_by_the_rule_of_each_scorer():
    frames = [
        pl.DataFrame({"aum": [1.0], "forgetting_events": [2.0]}),
        pl.DataFrame({"aum": [3.0], "forgetting_events": [5.0]}),
    ]
    assert combined(frames).row(0, named=True) == {"aum": 2.0, "forgetting_events": 7.0}


def test_a_score_that_only_the_first_seed_has_is_not_compared(made, tmp_path):
    job = CurateJob(
        source=str(made / "good.csv"), workspace=str(tmp_path / "w"),
        training=Training(epochs=3, seeds=2, folds=0, threads=1),
        choosing=Choosing(selector="moderate_ds"),
    )  # fmt: skip
    summary = curate(job)  # moderate_ds reads an embedding, and the first seed alone is embedded
    assert summary["stability"]["pruned"] is None
    assert {row["name"] for row in summary["subsets"]} >= {"pruned", "pruned-random"}


def test_the_scores_of_one_call_stand_beside_those_of_the_calls_before(made, tmp_path, capsys):
    work = str(tmp_path / "w")
    source = str(made / "good.csv")
    assert run(["ingest", source, "--workspace", work]) == 0
    assert run(["record", "--seeds", "2", "--epochs", "3", "--folds", "0", "--workspace", work]) == 0
    for names in (["aum", "mean_loss"], ["el2n"], ["aum"]):
        assert run(["score", *names, "--workspace", work]) == 0
    found = diagnostics_of(existing(Path(work)))["seed_correlation"]
    assert found["seeds"] == 2
    assert sorted(row["scorer"] for row in found["scores"]) == ["aum", "el2n", "mean_loss"]
    assert [row["least"] for row in found["scores"]] == sorted(row["least"] for row in found["scores"])
    # What a seed lacks is asked for of that seed.
    assert run(["embed", "--workspace", work]) == 0
    assert run(["score", "knn_density", "--workspace", work]) == 2
    lacking = newest_runs(existing(Path(work)))[1]
    asked = ["embed", "--run", lacking, "--name", f"model-{lacking}"]
    assert f"`tracesift {' '.join(asked)} --workspace" in capsys.readouterr().err
    assert run([*asked, "--workspace", work]) == 0
    assert run(["score", "knn_density", "--workspace", work]) == 0
