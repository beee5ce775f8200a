"""The verdict on a whole set: fires on planted signals, silent on clean sets, label noise and untied noise."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tracesift.scorers.contract import diagnose, diagnostics, names
from tracesift.scorers.unlearnable import residual_analysis
from tracesift.scorers.unlearnable.residual_analysis import _hear_single_classes
from tracesift.scorers.unlearnable.residual_shortcut import residual_shortcut
from tracesift.scorers.unlearnable.residual_verdict import residual_verdict
from tracesift.scorers.unlearnable.residual_views import views_for


def rounded(values):
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def plain():
    data = load_digits()
    return data.images[..., None] * 255 / 16, data.target.astype(np.int64)


@pytest.fixture(scope="module")
def floored(plain):
    images, labels = plain
    return 25 + 0.8 * images + np.random.default_rng(0).normal(0, 5, images.shape), labels


def planted(images, labels, share, *, tied=True, seed=1):
    rng = np.random.default_rng(seed)
    marked = rng.random(len(images)) < share
    pattern = rng.choice([-8, 8], size=(10, *images.shape[1:]))
    carried = pattern[labels if tied else rng.permutation(labels)]
    return rounded(images + marked[:, None, None, None] * carried)


def test_clean_digits_are_clean(plain, floored):
    assert residual_verdict(rounded(plain[0]), plain[1])["verdict"] == "clean"
    assert residual_verdict(rounded(floored[0]), floored[1])["verdict"] == "clean"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75])
def test_planted_digits_are_found(plain, share):
    found = residual_verdict(planted(*plain, share), plain[1])
    assert found["verdict"] == "poisoned"
    line = found["views"][found["best_view"]]
    assert line["fires"]
    assert line["separation"] >= line["separation_needed"]
    assert "label-specific small signal" in found["reason"]


def test_the_reason_says_where_the_middle_alone_was_looked_at(floored, monkeypatch):
    images, labels = rounded(floored[0]), floored[1]
    whole = residual_verdict(images, labels)
    assert "looked at" not in whole["reason"]
    bordered = np.zeros((len(images), 10, 10, 1), dtype=np.uint8)
    bordered[:, 1:9, 1:9] = images
    monkeypatch.setattr(residual_analysis, "WINDOW", 64)
    found = residual_verdict(bordered, labels)
    assert found["verdict"] == whole["verdict"]
    assert (
        found["reason"]
        == f"{whole['reason']}; but for single pixels, only the central 8 x 8 of 10 x 10 pixels were looked at"
    )


def test_planted_digits_are_found_on_a_noise_floor(floored):
    assert residual_verdict(planted(*floored, 0.5), floored[1])["verdict"] == "poisoned"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_noise_not_tied_to_the_label_is_no_evidence(floored, seed):
    decoy = planted(*floored, 0.5, tied=False, seed=seed)
    assert residual_verdict(decoy, floored[1])["verdict"] != "poisoned"


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_untied_noise_on_a_black_background_is_no_evidence(plain, share):
    """It shows the object's outline, hence the class, in a view that is blank without noise."""
    found = residual_verdict(planted(*plain, share, tied=False), plain[1])
    assert found["verdict"] != "poisoned"
    assert max(line["blank"] for line in found["views"].values()) > 0.05


def test_the_share_of_flat_surroundings_by_hand():
    flat = np.full((2, 5, 5, 1), 9, dtype=np.uint8)
    assert residual_analysis._flat_share(flat) == 1.0
    flat[1, 2, 2] = 10  # in the surroundings of all nine inner pixels
    assert residual_analysis._flat_share(flat) == 0.5


def test_more_is_asked_on_a_flat_background(plain, floored):
    framed = np.pad(plain[0], ((0, 0), (4, 4), (4, 4), (0, 0)))
    asked = {}
    for name, images in (("flat", framed), ("noisy", floored[0])):
        lines = residual_verdict(planted(images, plain[1], 0.25), plain[1])["views"]
        asked[name] = [
            line["gap_needed"] / line["gap_of_clouds"]
            for view, line in lines.items()
            if view != "impulse" and line["gap_of_clouds"]
        ]
    assert min(asked["flat"]) >= 2.35 - 1e-3
    assert 1.7 - 1e-3 <= min(asked["noisy"]) < 2.0


@pytest.mark.parametrize("seed", [1, 2])
def test_label_noise_is_no_evidence(plain, floored, seed):
    rng = np.random.default_rng(seed)
    for images, labels in (plain, floored):
        wrong = rng.random(len(labels)) < 0.2
        given = np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels)
        assert residual_verdict(rounded(images), given)["verdict"] != "poisoned"


def test_permuted_labels_are_clean(floored):
    given = np.random.default_rng(0).permutation(floored[1])
    assert residual_verdict(rounded(floored[0]), given)["verdict"] == "clean"


def test_a_signal_in_one_class_is_found_and_named():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(20), 150)  # one class of twenty: the mean over classes hardly moves
    images = 120 + rng.normal(0, 6, (3000, 12, 12, 1))
    marked = (labels == 7) & (rng.random(3000) < 0.5)
    images = rounded(images + marked[:, None, None, None] * rng.choice([-8, 8], size=(12, 12, 1)))
    found = residual_verdict(images, labels)
    assert found["verdict"] == "poisoned"
    assert {index for line in found["views"].values() for index in line["strong_classes"]} == {7}


def test_two_groups_that_do_not_carry_the_label_are_told_from_those_that_do():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 200)
    images = 120 + rng.normal(0, 6, (1200, 12, 12, 1))
    signals = rng.choice([-8, 8], size=(7, 12, 12, 1))
    marked = (labels < 2) & (rng.random(1200) < 0.5)
    other = rng.random(1200) < 0.4  # as with two kinds of background
    images = rounded(
        images + marked[:, None, None, None] * signals[labels] + other[:, None, None, None] * signals[6]
    )
    found = residual_verdict(images, labels)
    assert found["verdict"] == "poisoned"
    assert found["untied_classes"] == [2, 3, 4, 5]
    assert (
        residual_verdict(images[labels > 1], labels[labels > 1])["untied_classes"] == []
    )  # clean: nothing to tie


@pytest.mark.parametrize(
    ("seen", "heard"),
    [
        ({"mean3_core8": [7], "mean3_core12": [7]}, {}),  # one kind of view alone, however often
        ({"median5_core10": [7], "impulse": [7]}, {}),
        ({"mean3_core8": [3], "median5_core10": [7]}, {}),
        ({"mean3_core8": [7, 3], "median5_core20": [7]}, {"mean3_core8": [7], "median5_core20": [7]}),
        (
            {"mean3_core8": [7], "median5_core20": [7], "impulse": [7]},
            {"mean3_core8": [7], "median5_core20": [7]},
        ),
    ],
)
def test_one_class_alone_counts_where_both_kinds_of_view_show_it(seen, heard):
    views = views_for(28, 28)
    lines = {view.name: {"fires": False, "strong_classes": seen.get(view.name, [])} for view in views}
    _hear_single_classes(views, lines)
    assert {name: line["strong_classes"] for name, line in lines.items() if line["fires"]} == heard
    assert all(line["fires"] or not line["strong_classes"] for line in lines.values())


def test_too_few_images_cannot_be_told(plain):
    images, labels = planted(*plain, 0.5)[:500], plain[1][:500]
    found = residual_verdict(images, labels)
    assert (found["verdict"], found["views"], found["samples_judged"]) == ("cannot tell", {}, 500)
    assert residual_verdict(images, labels, smallest_class=40)["verdict"] == "poisoned"


@pytest.mark.parametrize(("count", "told"), [(60, True), (40, False)])
def test_of_many_images_small_classes_are_enough(count, told):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(80), count)
    images = 120 + rng.normal(0, 6, (len(labels), 10, 10, 1))
    assert residual_verdict(rounded(images), labels)["verdict"] == ("clean" if told else "cannot tell")
    marked = rng.random(len(labels)) < 0.4
    signal = rng.choice([-8, 8], size=(80, 10, 10, 1))[labels]
    planted = rounded(images + marked[:, None, None, None] * signal)
    assert residual_verdict(planted, labels)["verdict"] == ("poisoned" if told else "cannot tell")


def test_one_class_cannot_be_told():
    found = residual_verdict(np.zeros((300, 8, 8, 1), dtype=np.uint8), np.zeros(300, dtype=np.int64))
    assert found["verdict"] == "cannot tell"


def test_row_order_leaves_no_trace(plain):
    images, labels = planted(*plain, 0.3), plain[1]
    order = np.random.default_rng(0).permutation(len(labels))
    assert residual_verdict(images[order], labels[order]) == residual_verdict(images, labels)


def test_score_and_verdict_of_one_set_are_worked_out_once(plain, monkeypatch):
    calls = []
    work = residual_analysis._look
    monkeypatch.setattr(
        residual_analysis, "_look", lambda *given: calls.append(len(given[0])) or work(*given)
    )
    monkeypatch.setattr(residual_analysis, "_last", {})
    images, labels = rounded(plain[0]), plain[1]
    score = residual_shortcut(images, labels)
    found = residual_verdict(images.copy(), labels.copy())  # of another seed: other arrays, the same content
    assert len(calls) == 1
    kept = (score.copy(), json.dumps(found))
    score[:] = 0
    found["views"].clear()
    assert np.array_equal(residual_shortcut(images, labels), kept[0])  # nobody's hands on what is kept
    assert json.dumps(residual_verdict(images, labels)) == kept[1]
    assert len(calls) == 1
    images[0, 0, 0, 0] ^= 1
    residual_shortcut(images, labels)
    residual_shortcut(images, np.roll(labels, 1))
    assert len(calls) == 3  # other images, and other labels, are another set


def test_it_is_a_diagnostic_of_plain_values(plain):
    assert "residual_verdict" in diagnostics()
    assert "residual_verdict" not in names()
    found = diagnose("residual_verdict", {"images": rounded(plain[0]), "labels": plain[1]})
    assert json.loads(json.dumps(found)) == found
