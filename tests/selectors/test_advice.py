"""What `auto` takes, and what is said to expect of each selector."""

import itertools
import json

import pytest

from tracesift.catalog.schema import MissingSignal
from tracesift.selectors import advice
from tracesift.selectors.advice import DOUBT, Situation, choose, expected, nearest_setting
from tracesift.selectors.contract import columns_needed, find

SCORES = frozenset(
    {"aum", "aum_prob_sum", "el2n", "dual", "cld", "cartography_confidence", "cartography_variability",
     "forgetting_events"}
)  # fmt: skip


def situation(**facts):
    usual = {
        "samples": 10_000, "unflagged": 10_000, "kept": 5_000, "classes": 10, "imbalance": 1.1, "noise": 0.0,
        "found": 1.0, "largest_class": 1_100, "columns": SCORES, "embedded": True,
    }  # fmt: skip
    return Situation(**{**usual, **facts})


TABLE = {
    "plain": {
        "samples": 1000, "classes": 10, "imbalance": 1.0, "noise": 0.0, "full": {"0": 0.8, "1": 1.0},
        "selectors": {
            "random": {"10": {"0": 0.4, "1": 0.5}, "50": {"0": 0.6, "1": 0.9}},
            "better": {"10": {"0": 0.5, "1": 0.5}, "50": {"0": 0.7, "1": 1.0}},
            "once": {"10": {"0": 0.2}, "50": {"0": 0.4}},
        },
    },
    "dirty": {"samples": 1000, "classes": 10, "imbalance": 1.0, "noise": 0.2},
    "uneven": {"samples": 1000, "classes": 10, "imbalance": 8.0, "noise": 0.0},
    "large": {"samples": 100_000, "classes": 10, "imbalance": 1.0, "noise": 0.0},
}  # fmt: skip


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(advice, "measured", lambda: TABLE)


def test_what_to_expect_is_the_mean_over_the_seeds_of_both(table):
    better, random, once = expected("plain", 0.5)
    assert (better.selector, random.selector, once.selector) == ("better", "random", "once")
    assert better.points == pytest.approx(10)
    assert better.spread == pytest.approx(0, abs=1e-9)
    assert better.retained == pytest.approx((0.7 / 0.8 + 1.0) / 2)
    assert (random.points, better.seeds) == (0, 2)
    assert once.points == pytest.approx(-20)
    assert (once.seeds, once.spread) == (1, None)


def test_between_measured_shares_lies_a_line(table):
    better = expected("plain", 0.2)[0]
    assert better.points == pytest.approx(((0.55 - 0.45) + (0.625 - 0.6)) / 2 * 100)


def test_outside_of_what_was_measured_nothing_is_expected(table):
    assert expected("plain", 0.05) == []
    assert expected("plain", 0.7) == []


@pytest.mark.parametrize(
    ("facts", "setting"),
    [
        ({"samples": 2_000}, "plain"),
        ({"samples": 60_000}, "large"),
        ({"noise": 0.1}, "dirty"),
        ({"noise": 0.01}, "large"),
        ({"imbalance": 20.0}, "uneven"),
        ({"imbalance": 20.0, "noise": 0.3}, "dirty"),
    ],
)
def test_the_nearest_setting_is_alike_in_noise_first(table, facts, setting):
    assert nearest_setting(situation(**facts)) == setting


EVERY = [
    situation(
        samples=samples, unflagged=round(samples * (1 - noise)), kept=max(1, round(share * samples)),
        classes=classes, imbalance=imbalance, noise=noise, columns=columns, embedded=embedded,
        largest_class=samples // classes, found=found,
    )
    for samples, share, classes, imbalance, noise, columns, embedded, found in itertools.product(
        (20, 1_000, 60_000), (1.0, 0.7, 0.5, 0.3, 0.1, 0.01), (2, 10, 1000), (1.0, 100.0),
        (0.0, 0.02, 0.2, 0.6), (SCORES, frozenset({"el2n"}), frozenset()), (True, False),
        (0.2, 1.0),
    )
]  # fmt: skip


def test_whatever_is_known_the_choice_can_be_made_with_it():
    for known in EVERY:
        if known.columns != SCORES and not known.embedded:
            continue
        choice = choose(known)
        facts = find(choice.selector)
        assert facts.budget
        assert not facts.experimental
        assert set(choice.params) <= set(facts.defaults)
        assert set(columns_needed(choice.selector, choice.params)) - {DOUBT} <= known.columns, (known, choice)
        assert known.embedded or not facts.arrays, (known, choice)
        assert choice.because


def test_noise_that_is_in_doubt_decides_and_is_called_so():
    known = {"noise": 0.06, "found": 0.0}
    sure, doubted = (choose(situation(**known, doubted=doubted)) for doubted in (False, True))
    assert sure.selector == doubted.selector == "gm_matching"
    assert sure.because.startswith("about 6% of the labels are wrong (0% of them flagged)")
    assert doubted.because.startswith(
        "up to 6% of the labels are wrong (0% of them flagged), unless it is classes that overlap; "
    )


def test_noise_that_training_sets_apart_is_called_so():
    apart = choose(situation(noise=0.07, found=1.0, apart=True))
    assert apart.selector == choose(situation(noise=0.07, found=1.0)).selector == "gm_matching"
    start = "training sets about 7% of the labels apart as wrong, which are flagged; what is overlooked"
    assert apart.because.startswith(start)


@pytest.mark.parametrize("columns", [frozenset(), frozenset({"el2n"})])
def test_what_nothing_is_known_of_is_not_drawn_at_random(columns):
    with pytest.raises(MissingSignal, match="tracesift record"):
        choose(situation(columns=columns, embedded=False))
    few = situation(columns=columns, embedded=False, kept=100)
    if columns:
        assert choose(few).selector == "random_balanced"  # scores are known to fail at such sizes
    else:
        with pytest.raises(MissingSignal):
            choose(few)


def test_more_than_is_unflagged_means_keeping_the_least_suspicious():
    choice = choose(situation(unflagged=4_000, kept=5_000, noise=0.6))
    assert (choice.selector, choice.params) == ("bottom_k", {"score": "flag_doubt"})
    assert "4000" in choice.because


def test_wrong_labels_that_were_overlooked_decide_more_the_more_is_kept():
    few = {"noise": 0.25, "unflagged": 9_000, "found": 0.4}
    overlooked = choose(situation(**few, kept=2_000))
    assert overlooked.selector == "gm_matching"
    assert "40%" in overlooked.because
    found = {"noise": 0.25, "unflagged": 8_000, "found": 0.8}
    assert choose(situation(**found, kept=2_000)).selector == "dual"
    assert choose(situation(**found, kept=3_000)).selector == "gm_matching"
    assert choose(situation(**few, kept=1_000)).selector == "dual"
    assert choose(situation(**few, embedded=False)).selector == "dual"


def test_nobody_waits_hours_for_a_choice_by_features():
    large = {"samples": 2_000_000, "unflagged": 1_600_000, "kept": 1_000_000, "classes": 2, "noise": 0.25}
    assert choose(situation(**large, largest_class=800_000)).selector == "dual"
    assert choose(situation(**{**large, "classes": 1_000}, largest_class=2_000)).selector == "gm_matching"


def test_a_large_class_is_looked_at_by_near_pairs():
    few = {"samples": 100_000, "unflagged": 100_000, "classes": 100, "kept": 500}
    assert choose(situation(**few, largest_class=60_000)).params == {"neighbors": 30}
    assert choose(situation(**few, largest_class=15_000)).params == {}


def test_the_table_that_is_shipped_holds_what_is_read_of_it():
    shipped = json.loads(advice.MEASURED.read_text())
    assert {"fashion", "clinc150-imbalanced"} <= set(shipped)
    for name, facts in shipped.items():
        assert {"about", "model", "classes", "imbalance", "noise", "samples", "steps", "seeds"} <= set(facts)
        for share in (0.7, 0.5, 0.3, 0.2, 0.1):
            rows = {row.selector: row for row in expected(name, share)}
            assert rows["random"].points == 0
            assert 0 < rows["random"].retained < 1.1
            assert {"random_balanced", "ccs", "dual"} <= set(rows)


def test_labels_that_nobody_judged_do_not_count_as_clean():
    few = {"kept": 200, "noise": 0.0}
    judged, unjudged = (choose(situation(**few, judged=judged)) for judged in (True, False))
    assert judged.selector == "k_center_greedy"
    assert unjudged.selector == "facility_location"
    assert "wrong labels" not in unjudged.because
