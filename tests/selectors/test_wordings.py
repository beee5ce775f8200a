"""Texts that share their wording: n-grams, exact similarities, and what MinHash proposes."""

import numpy as np
import pytest

from tracesift.selectors.decisions.wordings import Wordings, grams, jaccard, nearest_wording

SENTENCE = "the quick brown fox jumps over the lazy dog and runs far away from here"


def brute(texts, queries, base):
    """Return all similarities (Q, B), straight from the definition."""

    def parts(text):
        plain = " ".join(text.lower().split())
        return {plain[at : at + 4] for at in range(max(1, len(plain) - 3))} - {""}

    found = np.zeros((len(queries), len(base)))
    for i, query in enumerate(queries):
        for j, other in enumerate(base):
            one, two = parts(texts[query]), parts(texts[other])
            found[i, j] = len(one & two) / max(1, len(one | two))
    return found


@pytest.fixture(scope="module")
def texts():
    """Sentences of a small vocabulary, and copies of some that lack one word, or two."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(2, 8))) for _ in range(150)]
    made = [" ".join(rng.choice(words, rng.integers(3, 14))) for _ in range(150)]
    for text in made[:75]:
        parts = text.split()
        gone = rng.choice(len(parts), min(len(parts) - 1, int(rng.integers(1, 3))), replace=False)
        made.append(" ".join(word for at, word in enumerate(parts) if at not in gone))
    return made


def test_ngrams_by_hand():
    assert grams("To  Be\n") == {"to b", "o be"}
    assert grams("abc") == {"abc"}
    assert grams(" \t") == set()
    assert grams("人工知能学会") == {"人工知能", "工知能学", "知能学会"}


def test_similarities_by_hand():
    assert jaccard(grams("abcdef"), grams("abcdxf")) == pytest.approx(
        1 / 5
    )  # abcd of abcd bcde cdef bcdx cdxf
    assert jaccard(grams("ABCDE"), grams(" abcde ")) == 1
    assert jaccard(set(), set()) == 0  # an empty text copies nothing, not even another


def test_nothing_is_proposed_that_is_not_measured(texts):
    queries, base = np.arange(150, 225), np.arange(150)
    index, similarity = Wordings.of(texts).nearest(queries, base, 0.5)
    truth = brute(texts, queries, base)
    wanted = truth.max(1) >= 0.5
    assert 20 < wanted.sum() < 75
    assert np.mean((index >= 0) == wanted) > 0.97  # what MinHash may miss at the very threshold
    there = index >= 0
    assert wanted[there].all()
    assert similarity[there] == pytest.approx(truth[np.flatnonzero(there), index[there]], abs=1e-6)
    assert (similarity[~there] == 0).all()
    high = truth.max(1) >= 0.7
    assert similarity[high] == pytest.approx(truth.max(1)[high], abs=1e-6)


def test_the_exact_search_measures_every_pair(texts):
    queries, base = np.arange(150, 225), np.arange(150)
    index, similarity = nearest_wording(texts, queries, base)
    truth = brute(texts, queries, base).round(6)
    assert similarity == pytest.approx(truth.max(1), abs=1e-6)
    assert index.tolist() == truth.argmax(1).tolist()
    assert nearest_wording(["", "a text"], np.array([0]), np.array([1]))[1].tolist() == [0]


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_neither_blocks_nor_which_side_is_indexed_matter(texts, monkeypatch, block):
    monkeypatch.setattr("tracesift.selectors.decisions.wordings.BLOCK", block)
    wordings = Wordings.of(texts)
    few, many = np.arange(150, 165), np.arange(60)
    index, similarity = wordings.nearest(few, many, 0.5)
    for at, row in enumerate(few):  # one query at a time is always the indexed side, one base row never
        alone = [wordings.nearest(np.array([row]), np.array([other]), 0.5)[1][0] for other in many]
        assert similarity[at] == max(alone)
        assert index[at] == (np.argmax(alone) if max(alone) else -1)


def test_of_equals_the_first_is_taken():
    wordings = Wordings.of([SENTENCE, SENTENCE + " now", SENTENCE + " now", SENTENCE])
    assert wordings.nearest(np.array([0]), np.array([1, 2]), 0.5)[0].tolist() == [0]
    assert wordings.nearest(np.array([1, 2]), np.array([0, 3]), 0.5)[0].tolist() == [0, 0]


def test_the_threshold_itself_counts():
    texts = ["abcdefgh", "abcdefghij"]  # 5 of 7 n-grams
    wordings = Wordings.of(texts)
    assert wordings.nearest(np.array([0]), np.array([1]), 0.714286)[1].tolist() == [0.714286]
    assert wordings.nearest(np.array([0]), np.array([1]), 0.7143)[0].tolist() == [-1]
