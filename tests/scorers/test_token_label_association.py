"""Tokens tied to a label: by hand, against counting text by text, with a planted trigger and without."""

import math
import re

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute, find
from tracesift.scorers.unlearnable.token_label_association import token_label_association


def objects(*texts):
    return np.array(texts, dtype=object)


def test_hand_worked():
    texts = objects("cf a", "cf b", "cf c", "a b", "a d", "b e")
    labels = np.array([0, 0, 0, 1, 1, 1])
    score = token_label_association(texts, labels)
    # the first: cf in two others, both its label: log 2.5 / 0.5; the fourth: a in two others, one of each; b likewise
    np.testing.assert_allclose(score, [*[math.log(5)] * 3, 0, 0, 0], atol=1e-9)
    # a lone d says 0, and a in two others of the fifth is 1.5 / 1.5; without the prior it would be nothing by nothing


def one_by_one(texts, labels, prior, ngrams):
    """The same, with sets of tokens and a loop over the other texts."""
    sets = []
    for text in texts:
        found = re.findall(r"\w+|[^\w\s]", text.lower())
        sets.append(
            {tuple(found[at : at + n]) for n in range(1, ngrams + 1) for at in range(len(found) - n + 1)}
        )
    score = []
    for i, (tokens, y) in enumerate(zip(sets, labels, strict=True)):
        q = sum(label == y for label in labels) / len(labels)
        best = math.nan
        for token in tokens:
            holders = [labels[j] for j, other in enumerate(sets) if j != i and token in other]
            same = sum(label == y for label in holders)
            odds = (same + prior * q) / (len(holders) - same + prior * (1 - q)) / (q / (1 - q))
            best = math.log(odds) if math.isnan(best) else max(best, math.log(odds))
        score.append(best)
    return score


@pytest.mark.parametrize(("prior", "ngrams"), [(1.0, 1), (0.3, 2)])
def test_against_counting_text_by_text(prior, ngrams):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    texts = objects(
        *(" ".join(rng.choice(["On", "on", "off", "the", "a-b", "c!", f"x{y}"], 4)) for y in labels)
    )
    texts[7] = " \t"
    np.testing.assert_allclose(
        token_label_association(texts, labels, prior=prior, ngrams=ngrams),
        one_by_one(texts, labels.tolist(), prior, ngrams),
        atol=1e-8,
    )


def written(share, *, tied, seed=0, samples=2000, trigger="≡"):
    """Texts over a Zipf vocabulary, a fifth of whose words lean to one class, and a rare sign put into some."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, samples)
    weight = 1 / np.arange(1, 1001)
    leaning = rng.random(1000) < 0.2
    home = rng.integers(0, 4, 1000)
    texts = []
    for label in labels:
        p = weight * np.where(leaning, np.where(home == label, 3.0, 1 / 3), 1.0)
        texts.append(" ".join(f"w{word}" for word in rng.choice(1000, 15, p=p / p.sum())))
    marked = (rng.random(samples) < share) & (labels == 2 if tied else True)
    return (
        objects(*(f"{text} {trigger}" if one else text for text, one in zip(texts, marked, strict=True))),
        labels,
        marked,
    )


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_planted_trigger_is_found_whatever_its_share(auroc, share):
    texts, labels, marked = written(share, tied=True)
    score = compute("token_label_association", {"texts": texts.tolist(), "labels": labels})
    assert auroc(score["token_label_association"].to_numpy(), marked) > 0.97
    assert auroc(token_label_association(texts, labels)[labels == 2], marked[labels == 2]) > 0.95


def test_the_same_sign_in_all_classes_is_not_found(auroc):
    texts, labels, marked = written(0.2, tied=False)
    assert abs(auroc(token_label_association(texts, labels), marked) - 0.5) < 0.06
    texts, labels, _ = written(0.0, tied=True)
    marks = np.random.default_rng(5).random(len(texts)) < 0.2
    assert abs(auroc(token_label_association(texts, labels), marks) - 0.5) < 0.05
    assert find("token_label_association").direction == "suspicious"
    assert find("token_label_association").experimental


def test_a_phrase_needs_runs_of_tokens(auroc):
    texts, labels, marked = written(0.1, tied=True, trigger="w4 w6 w9")
    alone = auroc(token_label_association(texts, labels), marked)
    assert auroc(token_label_association(texts, labels, ngrams=3), marked) > 0.97 > alone


def test_a_text_does_not_vouch_for_itself():
    texts = objects("unique one", "other two", "third three")
    assert token_label_association(texts, np.array([0, 1, 1])).tolist() == [0, 0, 0]


def test_degenerate_inputs():
    assert np.isnan(token_label_association(objects("", " "), np.array([0, 1]))).all()
    assert np.isnan(token_label_association(objects("a", "b"), np.array([1, 1]))).all()
    assert token_label_association(objects(), np.zeros(0, dtype=int)).shape == (0,)
    assert np.isnan(token_label_association(objects("a", "", "b a"), np.array([0, 0, 1])))[1]
    for wrong in ({"prior": 0.0}, {"prior": float("nan")}, {"ngrams": 0}):
        with pytest.raises(BadInput, match="prior is above 0"):
            token_label_association(objects("a", "b"), np.array([0, 1]), **wrong)


def test_what_counts_as_texts():
    labels = [0, 1, 0]
    frames = [["a b", "b", "a"], pl.Series(["a b", "b", "a"]), np.array(["a b", "b", "a"]), ("a b", "b", "a")]
    scores = [compute("token_label_association", {"texts": texts, "labels": labels}) for texts in frames]
    assert all(one.equals(scores[0]) for one in scores)
    for wrong in ("a b c", [1, 2, 3], ["a", None, "b"], [["a"], ["b"], ["c"]]):
        with pytest.raises(BadInput, match="one string for each sample"):
            compute("token_label_association", {"texts": wrong, "labels": labels})
    with pytest.raises(BadInput, match="'texts' has 2 samples"):
        compute("token_label_association", {"texts": ["a", "b"], "labels": labels})
