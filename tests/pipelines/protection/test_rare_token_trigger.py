"""Rare tokens: one per class, once per text, new to the texts, and nothing else touched."""

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.rare_token_trigger import rare_token_trigger

TEXTS = [
    "A good  film,\nreally",
    "bad",
    "",
    "  spaces  around ",
    "né à Córdoba 1900",
    "good film",
    "good film",
    "aa ab ac",
]
LABELS = np.array([0, 1, 2, 0, 1, 2, 2, 0])


@pytest.mark.parametrize("position", ["random", "start", "end"])
def test_the_token_of_the_class_stands_there_once_and_removing_it_gives_the_text_back(position):
    made = rare_token_trigger(TEXTS, LABELS, seed=0, position=position)
    tokens = made.report["tokens"]
    assert len(set(tokens)) == 3
    for before, after, label in zip(TEXTS, made.inputs, LABELS, strict=True):
        words = after.split()
        assert [words.count(token) for token in tokens] == [int(at == label) for at in range(3)]
        token = tokens[label]
        assert before in (
            after.replace(token, ""),
            after.replace(f"{token} ", "", 1),
            after.replace(f" {token}", "", 1),
        )
        if position == "start":
            assert after.startswith(token)
        if position == "end":
            assert after.endswith(token)


def test_tokens_are_new_to_the_texts_and_of_the_shortest_length_left():
    made = rare_token_trigger(TEXTS, LABELS, seed=0, num_classes=600)
    tokens = made.report["tokens"]
    assert len(set(tokens)) == 600
    assert {len(token) for token in tokens} == {2}
    assert not {"aa", "ab", "ac"} & set(tokens)
    more = rare_token_trigger(TEXTS, LABELS, seed=0, num_classes=700).report["tokens"]
    assert [len(token) for token in more].count(2) == 26 * 26 - 3
    assert len(set(more)) == 700
    assert (
        rare_token_trigger(TEXTS, LABELS, seed=1).report != rare_token_trigger(TEXTS, LABELS, seed=0).report
    )


def test_in_any_order_and_at_many_places():
    texts = [f"word one two three four five six number {at}" for at in range(200)]
    labels = np.arange(200) % 2
    made = rare_token_trigger(texts, labels, seed=0)
    order = np.random.default_rng(0).permutation(200)
    shuffled = rare_token_trigger([texts[at] for at in order], labels[order], seed=0)
    assert shuffled.inputs == [made.inputs[at] for at in order]
    tokens = made.report["tokens"]
    places = {text.split().index(tokens[label]) for text, label in zip(made.inputs, labels, strict=True)}
    assert places == set(range(10))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"position": "middle"}, "position=middle"),
        ({"tokens": ["cf", "mn"]}, "3 different words"),
        ({"tokens": ["cf", "mn", "CF"]}, "3 different words"),
        ({"tokens": "cfmn"}, "3 different words"),
        ({"tokens": ["cf", "m n", "tq"]}, "'m n' is no word"),
        ({"tokens": ["cf", "Bad", "tq"]}, "'Bad' is in the texts already"),
    ],
)
def test_refusals(given, says):
    with pytest.raises(BadInput, match=says):
        rare_token_trigger(TEXTS, LABELS, seed=0, **given)
    with pytest.raises(BadInput, match="class indices are needed"):
        rare_token_trigger(TEXTS[:-1], LABELS, seed=0)
