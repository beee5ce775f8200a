"""The family of detectors: its well-known members, and the average of probabilities that none of them is."""

import math

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.contract import compute, effective_params
from tracesift.scorers.noise.label_agreement import RECORDED, label_agreement

SOME = np.array([0, 1, 1])


def with_gaps(signals, rate=0.3, seed=1):
    """The same recording with presentations missing, one sample without any."""
    rng = np.random.default_rng(seed)
    absent = rng.random(signals["loss"].shape) < rate
    absent[:, 7] = True
    holed = dict(signals, seen=~absent)
    for name in ("prob_label", "margin", "prob_margin", "loss"):
        holed[name] = np.where(absent, np.nan, signals[name])
    holed["probs"] = np.where(absent[..., None], np.nan, signals["probs"])
    holed["correct"] = signals["correct"] & ~absent
    return holed


def member(signals, **params):
    return compute(["label_agreement"], signals, params={"label_agreement": params})[
        "label_agreement"
    ].to_numpy()


def other(name, signals, **params):
    return compute([name], signals, params={name: params} if params else None)[name].to_numpy()


@pytest.mark.parametrize("gaps", [False, True])
def test_well_known_detectors_are_members(random_signals, gaps):
    signals = random_signals()
    signals = with_gaps(signals) if gaps else signals
    presented = signals["seen"].sum(axis=0).astype(float)
    presented[presented == 0] = np.nan
    for name, expected in {
        ("cross_entropy", "mean"): -other("mean_loss", signals),
        ("cross_entropy", "last"): -other("last_loss", signals),
        ("logit_margin", "mean"): other("aum", signals),
        ("prob", "mean"): other("cartography_confidence", signals),
    }.items():
        found = member(signals, agreement=name[0], aggregation=name[1])
        np.testing.assert_array_equal(found, expected)
    for name, expected in {
        ("prob_margin", "mean"): other("aum_prob_sum", signals) / presented,
        ("correct", "mean"): other("cartography_correctness", signals) / presented,
        ("correct", "vote"): other("cartography_correctness", signals) / presented,
        ("logit_margin", "vote"): other("cartography_correctness", signals) / presented,
        ("prob_margin", "vote"): other("cartography_correctness", signals) / presented,
    }.items():
        found = member(signals, agreement=name[0], aggregation=name[1])
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_out_of_sample_members_are_those_of_confident_learning(random_signals):
    signals = random_signals()
    signals["probs_oos"][3] = np.nan
    for aggregation in ("mean", "last", "average_probability"):
        found = member(signals, agreement="prob", aggregation=aggregation, information="out_of_sample")
        np.testing.assert_array_equal(found, other("confident_learning", signals))
        margin = member(
            signals, agreement="prob_margin", aggregation=aggregation, information="out_of_sample"
        )
        expected = 2 * other("confident_learning", signals, score="normalized_margin") - 1
        np.testing.assert_allclose(margin, expected, atol=1e-12)
    assert np.isnan(found[3])


def test_agreements_by_hand():
    probs = np.array([[[0.8, 0.1, 0.1], [0.4, 0.5, 0.1], [0.25, 0.25, 0.5]]] * 2)
    probs[1, 0] = [0.2, 0.7, 0.1]  # on average (0.5, 0.4, 0.1)
    for agreement, expected in {
        "prob": [0.5, 0.5, 0.25],
        "prob_margin": [0.1, 0.1, -0.25],
        "logit_margin": [math.log(5 / 4), math.log(5 / 4), math.log(1 / 2)],
        "cross_entropy": [math.log(0.5), math.log(0.5), math.log(0.25)],
        "correct": [1.0, 1.0, 0.0],
    }.items():
        np.testing.assert_allclose(
            label_agreement(SOME, probs=probs, agreement=agreement), expected, atol=1e-12
        )


def by_loops(probs, labels, agreement):
    """The agreement of the mean probabilities, one sample at a time with plain floats."""
    scores = []
    for i, label in enumerate(labels):
        seen = [[float(v) for v in epoch[i]] for epoch in probs if not math.isnan(epoch[i][0])]
        if not seen:
            scores.append(math.nan)
            continue
        mean = [sum(epoch[k] for epoch in seen) / len(seen) for k in range(len(seen[0]))]
        rival = max(v for k, v in enumerate(mean) if k != label)
        scores.append({
            "prob": mean[label], "prob_margin": mean[label] - rival, "cross_entropy": math.log(mean[label]),
            "logit_margin": math.log(mean[label] / rival), "correct": float(mean[label] > rival),
        }[agreement])  # fmt: skip
    return scores


@pytest.mark.parametrize("agreement", RECORDED)
def test_the_average_of_probabilities_against_a_loop(random_signals, agreement):
    signals = with_gaps(random_signals())
    signals["probs"] = signals["probs"].astype(np.float32)
    found = member(signals, agreement=agreement)
    np.testing.assert_allclose(
        found, by_loops(signals["probs"], signals["labels"], agreement), rtol=1e-11, atol=1e-12
    )
    assert np.isnan(found[7])


def test_the_margin_of_the_average_is_not_the_average_margin():
    probs = np.array([[[0.98, 0.02], [0.6, 0.4]], [[0.2, 0.8], [0.6, 0.4]]])
    labels = np.array([0, 0])
    margins = np.log(probs[..., 0] / probs[..., 1])
    of_average = label_agreement(labels, probs=probs)
    of_margins = label_agreement(labels, margin=margins, aggregation="mean")
    assert of_average[0] < of_average[1]
    assert of_margins[0] > of_margins[1]


def test_one_class_and_probabilities_of_zero():
    alone, zeros = np.ones((2, 3, 1)), np.array([[[0.0, 1.0]]])
    none = np.zeros(3, dtype=int)
    assert label_agreement(none, probs=alone).tolist() == [np.inf] * 3
    assert label_agreement(none, probs=alone, agreement="prob_margin").tolist() == [1.0] * 3
    assert label_agreement(none[:1], probs=zeros).tolist() == [-np.inf]
    assert label_agreement(none[:1], probs=zeros, agreement="cross_entropy").tolist() == [-np.inf]


def test_what_is_missing_and_what_does_not_exist_is_said(random_signals):
    signals = {name: array for name, array in random_signals().items() if not name.startswith("probs")}
    with pytest.raises(MissingSignal, match=r"'probs' .*; in Python pass your own array"):
        member(signals)
    with pytest.raises(MissingSignal, match="'probs_oos'"):
        member(signals, information="out_of_sample")
    del signals["margin"]
    with pytest.raises(MissingSignal, match="'margin'"):
        member(signals, aggregation="mean")
    for setting in ("agreement", "aggregation", "information"):
        with pytest.raises(BadInput, match=f"{setting} is one of"):
            member(signals, **{setting: "best"})
    with pytest.raises(BadInput, match="vote on"):
        member(signals, agreement="prob", aggregation="vote")
    assert effective_params("label_agreement")["aggregation"] == "average_probability"


@pytest.mark.parametrize("aggregation", ["mean", "last", "vote", "average_probability"])
@pytest.mark.parametrize("agreement", RECORDED)
def test_wrong_labels_agree_less(planted_signals, auroc, agreement, aggregation):
    if aggregation == "vote" and agreement in ("prob", "cross_entropy"):
        pytest.skip("no vote")
    signals, wrong = planted_signals(epochs=10)
    assert auroc(-member(signals, agreement=agreement, aggregation=aggregation), wrong) > 0.9
