"""The label-noise flag: precision on planted noise, silence where nothing can be told, and the stories of failure."""

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_digits

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.scorers.noise.wrong_label_posterior import wrong_label_posterior
from tracesift.selectors.flags.contract import find, names
from tracesift.selectors.flags.label_noise import judge_labels, label_noise
from tracesift.selectors.flags.low_group import find_low_group
from tracesift.selectors.flags.witness import in_sample

EPOCHS = 12


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def train(features, labels, classes, seed):
    """Softmax regression by minibatches; returns weights and the in-training margins and losses (epochs, N)."""
    rng, weights = np.random.default_rng(seed), np.zeros((features.shape[1], classes))
    margins, losses = np.zeros((2, EPOCHS, labels.size))
    for epoch in range(EPOCHS):
        for batch in np.array_split(rng.permutation(labels.size), max(labels.size // 32, 1)):
            logits, rows = features[batch] @ weights, np.arange(batch.size)
            own = logits[rows, labels[batch]]
            others = logits.copy()
            others[rows, labels[batch]] = -np.inf
            margins[epoch, batch] = own - others.max(axis=1)
            probs = softmax(logits)
            losses[epoch, batch] = -np.log(probs[rows, labels[batch]] + 1e-12)
            probs[rows, labels[batch]] -= 1
            weights -= 0.5 * features[batch].T @ probs / batch.size
    return weights, margins, losses


def evidence(features, labels, classes, seed=0):
    """Record in training and out of sample, as a pipeline would."""
    features = np.hstack([features, np.ones((labels.size, 1))])
    _, margins, losses = train(features, labels, classes, seed)
    probs, fold = np.zeros((labels.size, classes)), np.random.default_rng(seed).permutation(labels.size) % 3
    for part in range(3):
        weights, _, _ = train(features[fold != part], labels[fold != part], classes, seed + part)
        probs[fold == part] = softmax(features[fold == part] @ weights)
    rows, others = np.arange(labels.size), probs.copy()
    others[rows, labels] = -1
    return pl.DataFrame(
        {
            "sample_id": [f"s{i:05d}" for i in rows],
            "label": [f"class {label}" for label in labels],
            "aum": margins.mean(axis=0),
            "mean_loss": losses.mean(axis=0),
            "oos_margin": probs[rows, labels] - others.max(axis=1),
            "oos_pred": [f"class {label}" for label in probs.argmax(axis=1)],
            "wrong_label_posterior": wrong_label_posterior(probs, labels),
        }
    )


def flip(labels, classes, rate, seed=0):
    rng = np.random.default_rng(seed)
    wrong = rng.random(labels.size) < rate
    return np.where(wrong, (labels + rng.integers(1, classes, labels.size)) % classes, labels), wrong


def blobs(sizes, spread=1.0, distance=4.0, dimensions=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = rng.normal(size=(len(sizes), dimensions))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    return centres[labels] + spread * rng.normal(size=(labels.size, dimensions)), labels


def yes(answer):
    return answer["flagged"].fill_null(value=False).to_numpy()


def no(answer):
    return (~answer["flagged"].fill_null(value=True)).to_numpy()


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return data.data / 16, data.target


@pytest.fixture(scope="module")
def noisy(digits):
    labels, wrong = flip(digits[1], 10, 0.2)
    return evidence(digits[0], labels, 10), wrong


@pytest.mark.parametrize(("rate", "recall"), [(0.05, 0.4), (0.2, 0.6), (0.4, 0.5)])
def test_planted_noise_is_found_with_high_precision(digits, rate, recall):
    labels, wrong = flip(digits[1], 10, rate, seed=1)
    answer = label_noise(evidence(digits[0], labels, 10))
    flagged = yes(answer)
    assert wrong[flagged].mean() >= 0.9
    assert flagged[wrong].mean() >= recall
    assert wrong[no(answer)].mean() <= 0.02
    right = [name == f"class {truth}" for name, truth in zip(answer["suggestion"], digits[1], strict=True)]
    assert np.mean(np.array(right)[flagged]) >= 0.8


def test_clean_digits_are_left_alone(digits):
    answer = label_noise(evidence(*digits, 10))
    assert yes(answer).mean() <= 0.01
    assert no(answer).mean() >= 0.8


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.5])
def test_clean_classes_are_left_alone_separable_or_overlapping(spread):
    answer = label_noise(evidence(*blobs([200] * 4, spread), 4))
    assert yes(answer).mean() <= 0.01


def test_negated_evidence_flags_other_samples(noisy):
    frame, wrong = noisy
    group_alone = frame.drop("mean_loss", "wrong_label_posterior")
    turned = label_noise(group_alone.with_columns((-pl.col("aum")).alias("aum")))
    assert not (yes(turned) & wrong).any()
    posterior_alone = frame.with_columns(aum=1.0, mean_loss=1.0)
    assert wrong[yes(label_noise(posterior_alone))].mean() > 0.9
    turned = posterior_alone.with_columns(wrong_label_posterior=1 - pl.col("wrong_label_posterior"))
    assert not (yes(label_noise(turned)) & wrong & (frame["wrong_label_posterior"] > 0.5).to_numpy()).any()


# the stories of failure


@pytest.mark.parametrize("seed", range(3))
def test_random_labels_cannot_be_told(digits, seed):
    labels = np.random.default_rng(seed).integers(0, 10, digits[1].size)
    answer = label_noise(evidence(digits[0], labels, 10))
    assert answer["flagged"].null_count() >= 0.98 * answer.height
    assert yes(answer).sum() == 0
    assert answer["reason"].str.contains("give this label to").mean() > 0.9


def test_two_samples_per_class_cannot_be_told():
    answer = label_noise(evidence(*blobs([2] * 40), 40))
    assert answer["flagged"].null_count() == 80
    assert answer["reason"].str.contains("fewer than 10").all()


def test_a_class_of_99_percent_without_signal_cannot_be_told():
    features = np.random.default_rng(0).normal(size=(2000, 8))
    labels = (np.arange(2000) < 20).astype(int)
    answer = label_noise(evidence(features, labels, 2))
    assert answer["flagged"].null_count() == 2000


def test_a_class_of_99_percent_that_can_be_recognised_is_judged():
    features, labels = blobs([1980, 20], distance=8.0)
    answer = label_noise(evidence(features, labels, 2))
    assert yes(answer).sum() == 0
    assert no(answer).mean() > 0.9


def test_a_single_label_cannot_be_told():
    frame = pl.DataFrame({"sample_id": [f"s{i:03d}" for i in range(100)], "label": ["x"] * 100})
    frame = frame.with_columns(aum=pl.lit(1.0), oos_margin=pl.lit(1.0), oos_pred=pl.lit("x"))
    answer = label_noise(frame)
    assert answer["flagged"].null_count() == 100
    assert answer["reason"].str.contains("only one label").all()


def test_a_class_that_would_be_flagged_as_a_whole_is_in_doubt_itself():
    # 60 % of what is called class 3 comes from other classes
    features, labels = blobs([150] * 4, distance=6.0)
    stolen = np.random.default_rng(0).choice(np.flatnonzero(labels != 3), 225, replace=False)
    given = labels.copy()
    given[stolen] = 3
    answer = label_noise(evidence(features, given, 4))
    assert yes(answer)[given == 3].mean() == 0


def test_too_few_samples_show_no_groups():
    features, labels = blobs([20, 20], distance=8.0)
    answer = label_noise(evidence(features, flip(labels, 2, 0.2)[0], 2))
    assert yes(answer).sum() == 0


# the evidence


def test_in_sample_evidence_alone_is_said_and_stricter(noisy):
    frame, wrong = noisy
    alone = label_noise(frame.drop("oos_margin", "oos_pred"))
    assert alone.filter(pl.col("flagged"))["reason"].str.contains("in-sample evidence only").all()
    assert wrong[yes(alone)].mean() >= 0.95
    assert alone["suggestion"].null_count() == alone.height


def hardly_trained(margin, classes=6, easy=20, size=600):
    """After an epoch or two: margins about `margin`, more than half of the probability on nothing, a few learned."""
    rng = np.random.default_rng(0)
    aum, loss = rng.normal(margin, 0.5, size), np.exp(rng.normal(0.35, 0.27, size))
    aum[:easy], loss[:easy] = rng.normal(7, 1, easy), np.exp(rng.normal(-5, 0.5, easy))
    return pl.DataFrame(
        {
            "sample_id": [f"s{i:03d}" for i in range(size)],
            "label": [f"class {i % classes}" for i in range(size)],
            "aum": aum,
            "mean_loss": loss,
            "elr_target_disagreement": np.where(loss > 1, 0.8, 0.2),
            "loss_gmm": np.where(loss > 1.5, 0.1, 0.9),
        }
    )


@pytest.mark.parametrize("margin", [0.0, -0.3, -1.0])
def test_what_was_not_learned_yet_is_no_separate_group_of_wrong_labels(margin):
    frame = hardly_trained(margin)
    for seen in (frame, frame.drop("aum")):
        answer, findings = judge_labels(seen)
        assert yes(answer).sum() == 0
        assert "a separate low group" not in findings["training_dynamics"]


def test_a_class_that_training_has_not_learned_is_not_judged():
    rng = np.random.default_rng(0)
    frame = hardly_trained(3.0).with_columns(mean_loss=pl.lit(0.1))
    unlearned = (frame["label"] == "class 0").to_numpy()
    aum = np.where(unlearned, rng.normal(-3, 0.5, 600), rng.normal(3, 0.5, 600))
    wrong = ~unlearned & (np.arange(600) % 7 == 0)
    aum[wrong] = rng.normal(-3, 0.5, wrong.sum())
    frame = frame.with_columns(
        aum=aum,
        elr_target_disagreement=np.where(aum < 0, 0.9, 0.1),
        # less than half of the class, so that it is not in doubt as a whole
        loss_gmm=np.where(wrong | (unlearned & (np.arange(600) % 4 == 0)), 0.1, 0.9),
    )
    answer = label_noise(frame)
    assert np.array_equal(yes(answer), wrong)
    assert answer["reason"].to_numpy()[unlearned].tolist() == [
        "cannot tell: training has not learned this label: it prefers it for 0% of the samples that carry it, hardly "
        "more than by chance"
    ] * int(unlearned.sum())


def test_labels_right_less_often_than_drawn_at_random_are_no_group():
    """Of 30 classes one sample in 50 is learned: every class is told, and yet the rest cannot be wrong labels."""
    values = np.concatenate((np.random.default_rng(0).normal(-3, 0.5, 588), np.full(12, 6.0)))
    witness = in_sample(pl.DataFrame({"label": ["x", "y"] * 300, "aum": values}), 10)
    everyone = np.ones(600, dtype=bool)
    assert find_low_group(values, witness, everyone, separation=3.0, most=0.99).found
    assert not find_low_group(values, witness, everyone, separation=3.0, most=29 / 30).found


def test_in_sample_acceptance_of_memorised_noise_confirms_nothing():
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            "sample_id": [f"s{i:03d}" for i in range(600)],
            "label": rng.choice(["x", "y"], 600),
            "aum": rng.normal(5, 1, 600),
        }
    )
    assert label_noise(frame)["flagged"].null_count() == 600


def test_the_early_target_can_only_hold_back(noisy):
    frame, _ = noisy
    alone = frame.drop("oos_margin", "oos_pred")
    calm = label_noise(alone.with_columns(elr_target_disagreement=pl.lit(0.1)))
    loud = label_noise(alone.with_columns(elr_target_disagreement=pl.lit(0.9)))
    assert yes(calm).sum() == 0
    assert (
        calm["reason"]
        .str.contains("not rejected by all of the sign of the margin and elr_target_disagreement")
        .any()
    )
    assert np.array_equal(yes(loud), yes(label_noise(alone)))


def test_the_loss_serves_where_the_margin_is_absent(noisy):
    frame, wrong = noisy
    answer = label_noise(frame.drop("aum"))
    assert wrong[yes(answer)].mean() >= 0.9
    assert yes(answer)[wrong].mean() >= 0.4
    assert answer["reason"].str.contains("mean loss").any()


def test_the_low_group_needs_both_witnesses(noisy):
    frame, _ = noisy
    before = yes(label_noise(frame.drop("wrong_label_posterior")))
    assert before.sum() > 100
    agreeing = frame.with_columns(oos_margin=pl.lit(0.5), oos_pred=pl.col("label"))
    assert yes(label_noise(agreeing)).sum() == 0
    fine = frame.drop("mean_loss", "wrong_label_posterior").with_columns(aum=pl.col("aum").abs() + 1)
    assert (yes(label_noise(fine)) & before).sum() == 0


def posteriors(*values):
    """60 samples of two classes that models recognise; the first of x are suspected with these posteriors."""
    rest = 30 - len(values)
    return pl.DataFrame(
        {
            "sample_id": [f"s{i:02d}" for i in range(60)],
            "label": ["x"] * 30 + ["y"] * 30,
            "aum": [1.0] * 60,
            "oos_pred": ["y"] * len(values) + ["x"] * rest + ["y"] * 30,
            "oos_margin": [-0.9] * len(values) + [0.9] * (rest + 30),
            "wrong_label_posterior": [*values, *[0.0] * (rest + 30)],
        }
    )


def test_the_posterior_decides_by_itself():
    answer = label_noise(posteriors(0.8, 0.97, 0.7999, 0.3, 1.0))
    assert answer["flagged"][:6].to_list() == [True, True, None, None, True, False]
    assert answer["confidence"][:6].to_list() == [0.8, 0.97, 0.7999, None, 0.999999, None]
    assert answer["reason"][1] == (
        "label probably wrong: models that never saw it prefer 'y' to 'x', by 0.9 in probability, and labels of "
        "this dataset are wrong often enough for that to count"
    )
    assert answer["reason"][2].endswith(
        "but training learned the label, with a mean logit margin of 1.0; the label is wrong with a probability of 79 %, "
        "and 80 % are needed"
    )
    assert answer["reason"][3].endswith("but training learned the label, with a mean logit margin of 1.0")
    assert answer["suggestion"][:6].to_list() == ["y"] * 5 + [None]
    assert label_noise(posteriors(0.97, 0.6), probability=0.5)["flagged"][:2].to_list() == [True, True]


def test_a_cannot_tell_names_what_was_missing():
    said = "cannot tell: its mean logit margin of -0.5 is suspicious, and models that never saw it prefer 'y' to 'x', by "
    low = posteriors(0.7999, 0.0, 0.29).with_columns(
        aum=pl.Series([-0.5] * 3 + np.linspace(-0.5, 3, 57).tolist()),  # no group apart
        oos_margin=pl.Series([-0.9, -0.9997, -0.9994] + [0.9] * 57),
    )
    first, second, third = label_noise(low)["reason"][:3]
    assert first == (
        f"{said}0.9 in probability; the label is wrong with a probability of 79 %, and 80 % are needed"
    )
    rarely = "nothing shows that 'y' is labeled 'x' often enough for that to count"
    assert second == f"{said}> 0.999 in probability, but {rarely}"
    assert third == f"{said}0.999 in probability, but {rarely}"
    no_sign = label_noise(low.with_columns(wrong_label_posterior=0.0))["reason"][0]
    assert no_sign == (
        f"{said}0.9 in probability, but nothing shows that labels of this dataset are wrong often enough "
        "for that to count"
    )
    assert label_noise(low, probability=0.795)["reason"][0] == (
        "label probably wrong: models that never saw it prefer 'y' to 'x', by 0.9 in probability, and labels of this "
        "dataset are wrong often enough for that to count"
    )
    assert label_noise(low.drop("wrong_label_posterior"))["reason"][0] == (
        f"{said}0.9 in probability, but training shows no separate group of suspicious samples"
    )


def test_reasons_begin_alike(noisy):
    frame, _ = noisy
    assert label_noise(frame)["reason"].str.contains("^[a-z]").all()
    assert label_noise(frame.drop("oos_margin", "oos_pred"))["reason"].str.contains("^[a-z]").all()


def test_the_posterior_is_not_heard_where_nothing_can_be_told():
    sure = posteriors(*[0.99] * 5)
    preferred = sure.with_columns(oos_pred=pl.col("label"), oos_margin=0.9)
    assert yes(label_noise(preferred)).sum() == 0  # the models prefer the given label after all
    assert yes(label_noise(posteriors(*[0.99] * 16))).sum() == 0  # more than half of x
    assert (
        label_noise(sure.with_columns(oos_pred=pl.lit("y")))["flagged"][:30].null_count() == 30
    )  # x unrecognised
    in_sample = label_noise(sure.drop("oos_pred", "oos_margin"))
    assert yes(in_sample).sum() == 0
    assert in_sample["threshold"][0] == 0.99


def test_heavy_noise_everywhere_is_no_doubt_about_one_label():
    """Of five labels of 30 samples the first 16 are wrong by the posterior, or of x alone."""

    def flagged(wrong_of):
        label = np.repeat(list("vwxyz"), 30)
        wrong = np.isin(label, list(wrong_of)) & (np.tile(np.arange(30), 5) < 16)
        others = [("vwxyz" * 2)["vwxyz".index(name) + 1 + at % 4] for at, name in enumerate(label)]
        frame = pl.DataFrame(
            {
                "sample_id": [f"{at:03d}" for at in range(150)],
                "label": label,
                "aum": np.linspace(-1, 2, 150),  # no group apart
                "oos_margin": np.where(wrong, -0.9, 0.9),
                "oos_pred": np.where(wrong, others, label),
                "wrong_label_posterior": np.where(wrong, 0.99, 0.0),
            }
        )
        return yes(label_noise(frame))

    assert flagged("vwxyz").reshape(5, 30).sum(axis=1).tolist() == [16] * 5
    assert flagged("x").sum() == 0


def test_a_persons_word_is_not_overlooked(noisy):
    with pytest.raises(BadInput, match="give 'verified_label'"):
        label_noise(noisy[0].with_columns(verified=True))


def test_findings_of_the_dataset_are_said_once(noisy):
    answer, findings = judge_labels(noisy[0])
    assert findings["training_dynamics"].startswith("aum: a separate low group of ")
    assert findings["second_witness"] == "models that never saw it"
    assert findings["needed_probability"] == 0.8
    flagged = answer.filter(pl.col("flagged"))
    assert findings["expected_right"] == pytest.approx((1 - flagged["confidence"]).sum(), abs=0.1)
    assert not answer["reason"].str.contains("Ashman").any()


def test_confidence_holds_up_against_the_truth(noisy):
    frame, wrong = noisy
    confidence = label_noise(frame)["confidence"].to_numpy()
    for low, high in ((0.0, 0.1), (0.9, 1.01)):
        inside = (confidence >= low) & (confidence < high)
        assert inside.sum() > 50
        assert abs(confidence[inside].mean() - wrong[inside].mean()) < 0.08


def test_suspicion_ranks_wrong_labels_first(noisy):
    frame, wrong = noisy
    order = np.argsort(-label_noise(frame)["suspicion"].to_numpy())
    assert wrong[order[: int(wrong.sum())]].mean() > 0.85


# the form


def test_columns_order_and_numbers(noisy):
    frame, _ = noisy
    answer = label_noise(frame)
    assert answer.schema == pl.Schema(
        {
            "sample_id": pl.String, "flagged": pl.Boolean, "score": pl.Float64, "threshold": pl.Float64,
            "reason": pl.String, "suggestion": pl.String, "confidence": pl.Float64, "suspicion": pl.Float64,
        }
    )  # fmt: skip
    assert answer["sample_id"].is_sorted()
    assert answer["reason"].null_count() == 0
    flagged = answer.filter(pl.col("flagged"))
    assert (flagged["score"] >= flagged["threshold"]).all()
    assert answer["threshold"].unique().to_list() == [0.8]
    assert answer["score"].equals(answer["confidence"])
    assert answer["confidence"].is_between(0, 0.999999).all()
    said = r"^label probably wrong: models that never saw it prefer 'class \d' to 'class \d', by 0\.\d+ in probability"
    assert flagged["reason"].str.contains(said).all()
    assert (
        flagged["suggestion"] != flagged.join(frame, on="sample_id", maintain_order="left")["label"]
    ).all()


def test_row_order_and_foreign_columns_do_not_matter(noisy):
    frame, _ = noisy
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3).with_columns(
        why=pl.lit("q"), confidence=pl.lit(7.0), flagged=pl.lit(value=True), suspicion=pl.lit(0)
    )
    assert label_noise(shuffled).equals(label_noise(frame))


def test_verified_labels_are_never_flagged(noisy):
    frame, _ = noisy
    flagged = label_noise(frame).filter(pl.col("flagged"))["sample_id"]
    looked_at = pl.col("sample_id").is_in(flagged[:5].implode())
    seen = frame.with_columns(verified_label=pl.when(looked_at).then(pl.col("label").cast(pl.String)))
    answer = label_noise(seen)
    known = answer.filter(looked_at)
    assert known["flagged"].to_list() == [False] * 5
    assert known["confidence"].to_list() == known["score"].to_list() == [0.0] * 5
    assert known["suggestion"].to_list() == [None] * 5
    assert set(known["reason"]) == {"a person confirmed this label"}
    assert answer.filter(~looked_at).equals(label_noise(frame).filter(~looked_at))


def test_a_label_that_a_person_found_wrong_is_not_called_right(noisy):
    frame, _ = noisy
    alone, findings = judge_labels(frame)
    flagged = alone.filter(pl.col("flagged"))["sample_id"]
    clean = alone.filter(pl.col("flagged") == False)["sample_id"][0]  # noqa: E712
    ids = [*flagged[:3], clean]
    looked_at = pl.col("sample_id").is_in(ids)
    answer, after = judge_labels(frame.with_columns(verified_label=pl.when(looked_at).then(pl.lit("d'or"))))
    known = answer.filter(looked_at)
    assert known["flagged"].to_list() == [False] * 4
    assert known["confidence"].to_list() == known["score"].to_list() == [None] * 4
    assert known["suggestion"].to_list() == ["d'or"] * 4
    assert set(known["reason"]) == {"a person verified the label as 'd'or'"}
    assert answer.filter(~looked_at).equals(alone.filter(~looked_at))
    assert after["set_apart"] == findings["set_apart"] == findings["set_apart_flagged"] > 3
    assert after["set_apart_flagged"] == findings["set_apart"] - 3
    assert after["expected_right"] <= findings["expected_right"]


def test_what_was_not_observed_or_not_trained_on_is_null(noisy):
    frame, _ = noisy
    holes = frame.with_row_index("n").with_columns(
        aum=pl.when(pl.col("n") != 0).then("aum"),
        oos_margin=pl.when(pl.col("n") != 1).then("oos_margin"),
        split=pl.when(pl.col("n") == 2).then(pl.lit("val")).otherwise(pl.lit("train")),
    )
    answer = label_noise(holes.drop("n", "mean_loss"))
    assert answer["flagged"][:3].null_count() == 3
    assert answer["reason"][:3].str.contains("not a train sample, or not observed").all()
    assert answer["confidence"][:3].null_count() == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("aum", "mean_loss"), "needs a score 'aum' or 'mean_loss'"),
        (lambda f: f.drop("oos_pred"), "without 'oos_pred'"),
        (lambda f: f.drop("label"), "'label' is missing"),
        (lambda f: pl.concat([f, f[:1]]), "stands there twice"),
    ],
)
def test_what_cannot_be_used_is_refused(noisy, change, message):
    with pytest.raises(BadInput, match=message):
        label_noise(change(noisy[0]))


def test_flags_are_found_by_their_file():
    assert "label_noise" in names()
    facts = find("label_noise")
    assert facts.function is label_noise
    assert facts.defaults == {"min_class": 10, "probability": None, "separation": None}
    with pytest.raises(UnknownName, match="did you mean 'label_noise'"):
        find("label_noize")
