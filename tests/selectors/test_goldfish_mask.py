import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.decisions.goldfish_mask import goldfish_mask


def one_by_one(tokens, k, h, seed):
    """The same hash in whole numbers of Python, token by token."""
    full = 2**64
    mask = []
    for i in range(len(tokens)):
        if i < h:
            mask.append(False)
            continue
        state = seed
        for token in tokens[i - h : i]:
            state = ((state ^ (int(token) % full)) + 0x9E3779B97F4A7C15) % full
            state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) % full
            state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) % full
            state ^= state >> 31
        mask.append(state % k == 0)
    return mask


def text(n, vocabulary=50_000, seed=0):
    return np.random.default_rng(seed).integers(0, vocabulary, n)


@pytest.mark.parametrize(("k", "h", "seed"), [(4, 13, 0), (2, 1, 7), (3, 5, 2**63)])
def test_against_whole_numbers(k, h, seed):
    tokens = text(200, seed=k)
    assert goldfish_mask(tokens, k=k, h=h, seed=seed).tolist() == one_by_one(tokens, k, h, seed)


@pytest.mark.parametrize("k", [2, 3, 4, 32])
def test_one_token_in_k_is_left_out(k):
    n = 200_000
    share = goldfish_mask(text(n), k=k).mean()
    assert abs(share - 1 / k) < 4 * np.sqrt(1 / k * (1 - 1 / k) / n) + 13 / n
    few_words = goldfish_mask(text(n, vocabulary=20), k=k).mean()
    assert abs(few_words - 1 / k) < 4 * np.sqrt(1 / k * (1 - 1 / k) / n) + 13 / n


def test_a_passage_is_masked_alike_wherever_it_stands():
    passage = text(300, seed=1)
    places = [np.r_[text(before, seed=before), passage, text(40, seed=9)] for before in (0, 1, 17, 100)]
    masks = [
        goldfish_mask(place)[before : before + 300]
        for place, before in zip(places, (0, 1, 17, 100), strict=True)
    ]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask[13:], masks[0][13:])
    assert masks[0][13:].any()
    # the token itself does not decide, nor does what follows
    changed = passage.copy()
    changed[150:] += 1
    np.testing.assert_array_equal(goldfish_mask(changed)[:151], goldfish_mask(passage)[:151])
    assert (goldfish_mask(changed)[151:] != goldfish_mask(passage)[151:]).any()


def test_order_and_zeros_count():
    """A product of ids, as in the public code, sees neither."""
    swapped = [goldfish_mask(np.array([1, 2, 3, 4, i]), k=2, h=4, seed=s)[4] for s in range(64) for i in (0,)]
    other = [goldfish_mask(np.array([4, 3, 2, 1, i]), k=2, h=4, seed=s)[4] for s in range(64) for i in (0,)]
    assert 16 < (np.array(swapped) != np.array(other)).sum() < 48
    with_zeros = text(20_000)
    with_zeros[::5] = 0  # a zero in every context
    assert abs(goldfish_mask(with_zeros).mean() - 0.25) < 0.015


def test_another_seed_leaves_out_others():
    tokens = text(10_000)
    first, second = goldfish_mask(tokens), goldfish_mask(tokens, seed=1)
    assert abs((first & second).mean() - 1 / 16) < 0.01
    np.testing.assert_array_equal(first, goldfish_mask(tokens))


def test_static_rule():
    assert np.flatnonzero(goldfish_mask(text(12), rule="static")).tolist() == [0, 4, 8]
    assert np.flatnonzero(goldfish_mask(text(12), rule="static", start=3, k=5)).tolist() == [3, 8]
    assert not goldfish_mask(text(3), rule="static", start=3).any()


def test_short_texts_types_and_refusals():
    assert goldfish_mask(np.zeros(0)).shape == (0,)
    assert not goldfish_mask(text(13), k=1).any()  # no token has a context of 13
    assert np.flatnonzero(goldfish_mask(text(15), k=1)).tolist() == [13, 14]
    tokens = text(500)
    for dtype in (np.int32, np.uint16, np.uint64):
        np.testing.assert_array_equal(goldfish_mask(tokens.astype(dtype)), goldfish_mask(tokens))
    assert goldfish_mask(-tokens).dtype == bool
    for wrong, words in (
        ({"k": 0}, "at least 1"), ({"h": 0}, "at least 1"), ({"start": -1}, "at least 0"), ({"rule": "random"}, "'static'"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            goldfish_mask(tokens, **wrong)
    for other in (tokens.reshape(2, -1), tokens / 2):
        with pytest.raises(BadInput, match="ids of one text"):
            goldfish_mask(other)
