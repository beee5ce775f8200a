"""Copies, copies of copies, and what pulled each in."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracesift.catalog.schema import BadInput
from tracesift.selectors.decisions.duplicate_closure import SCHEMA, duplicate_closure


def degrees(*angles):
    """Points on a circle: cos(5 deg) = 0.9962, cos(10 deg) = 0.9848, cos(60 deg) = 0.5 exactly."""
    radians = np.deg2rad(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def make(n, **columns):
    return pl.DataFrame({"sample_id": [chr(97 + i) for i in range(n)], "label": ["x"] * n, **columns})


def test_a_chain_is_followed_link_by_link():
    found = duplicate_closure(make(5), ["a"], embedding=degrees(0, 5, 10, 15, 40), least_cosine=0.99)
    assert found.select("sample_id", "pulled_by", "how").rows() == [
        ("b", "a", "near"), ("c", "b", "near"), ("d", "c", "near"),
    ]  # fmt: skip
    assert found["similarity"].to_list() == pytest.approx([0.996195] * 3)
    assert found.schema == SCHEMA


def test_a_chain_of_all_three_kinds():
    frame = make(6, content_hash=["1", "1", "2", "3", None, None])
    points = degrees(0, 100, 103, 200, 280, 330)  # c is near b
    texts = ["aaaa", "bbbb", "pay my bill today", "pay my bills today", "dddd", "eeee"]  # d is worded like c
    found = duplicate_closure(frame, ["a"], embedding=points, texts=texts, least_cosine=0.99)
    assert found.rows() == [
        ("b", "a", "exact", 1.0), ("c", "b", "near", 0.99863), ("d", "c", "words", pytest.approx(11 / 18, abs=1e-6)),
    ]  # fmt: skip


def test_the_shortest_chain_and_then_the_most_similar_partner_count():
    # c lies between both asked ones, nearer to d; b would reach it too, one round later and nearer still
    found = duplicate_closure(make(4), ["a", "d"], embedding=degrees(0, 3.9, 4, 7), least_cosine=0.99)
    assert found["pulled_by"].to_list() == ["d", "d"]
    tied = duplicate_closure(make(3), ["c", "a"], embedding=degrees(-2, 0, 2), least_cosine=0.99)
    assert tied.rows() == [("b", "a", "near", pytest.approx(0.999391))]


def test_exact_comes_before_near_and_near_before_words():
    frame = make(3, content_hash=["1", "1", "2"])
    texts = ["the very same words"] * 3
    found = duplicate_closure(frame, ["a"], embedding=degrees(0, 0, 0), texts=texts, least_cosine=0.99)
    assert found.select("how", "similarity").rows() == [("exact", 1.0), ("near", 1.0)]
    assert duplicate_closure(frame, ["a"], texts=texts)["how"].to_list() == ["exact", "words"]


def test_unknown_content_is_no_copy_of_unknown_content():
    assert duplicate_closure(make(2, content_hash=[None, None]), ["a"]).is_empty()
    assert duplicate_closure(make(2), ["a"], texts=["", ""]).is_empty()
    zeros = np.zeros((2, 3))
    assert duplicate_closure(make(2), ["a"], embedding=zeros, least_cosine=0.1).is_empty()


def test_an_empty_request_pulls_nothing_in():
    found = duplicate_closure(make(2, content_hash=["1", "1"]), [], texts=["one text", "one text"])
    assert found.is_empty()
    assert found.schema == SCHEMA


def test_identical_texts_under_different_labels():
    frame = make(3, content_hash=["1", "1", "1"]).with_columns(label=pl.Series(["x", "y", "x"]))
    texts = ["what is my balance"] * 3
    assert duplicate_closure(frame, ["a"], texts=texts)["sample_id"].to_list() == ["b", "c"]
    assert duplicate_closure(frame, ["a"], texts=texts, same_label=True)["sample_id"].to_list() == ["c"]
    without = frame.drop("content_hash")
    assert duplicate_closure(without, ["a"], texts=texts, same_label=True).rows() == [
        ("c", "a", "words", 1.0)
    ]


def test_with_the_same_label_no_chain_runs_through_another():
    frame = make(3).with_columns(label=pl.Series(["x", "y", "x"]))
    points = degrees(0, 5, 10)
    closed = duplicate_closure(frame, ["a"], embedding=points, least_cosine=0.99)
    assert closed["sample_id"].to_list() == ["b", "c"]
    assert duplicate_closure(frame, ["a"], embedding=points, least_cosine=0.99, same_label=True).is_empty()


def test_thresholds_at_their_edges():
    points = degrees(0, 60)
    assert duplicate_closure(make(2), ["a"], embedding=points, least_cosine=0.5).height == 1
    assert duplicate_closure(make(2), ["a"], embedding=points, least_cosine=0.500001).is_empty()
    texts = ["abcdefgh", "abcdefghij"]  # 5 of 7 n-grams
    assert duplicate_closure(make(2), ["a"], texts=texts, least_jaccard=0.714286).height == 1
    assert duplicate_closure(make(2), ["a"], texts=texts, least_jaccard=0.714287).is_empty()
    same = degrees(10, 10)
    assert duplicate_closure(make(2), ["a"], embedding=same, least_cosine=1, texts=["u", "v"]).height == 1
    assert duplicate_closure(make(2), ["a"], texts=["same text", "SAME text"], least_jaccard=1).height == 1


def sentences(seed):
    """60 texts, embeddings and hashes in which copies of every kind abound."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdef"), 5)) for _ in range(30)]
    texts, points, hashes = [], [], []
    for row in range(60):
        if row and rng.random() < 0.6:
            one = int(rng.integers(row))
            parts = texts[one].split()
            parts[rng.integers(len(parts))] = words[rng.integers(30)]
            texts.append(" ".join(parts))
            points.append(points[one] + rng.normal(0, 0.1, 4))
            hashes.append(hashes[one] if rng.random() < 0.2 else str(row))
        else:
            texts.append(" ".join(rng.choice(words, 7)))
            points.append(rng.normal(size=4))
            hashes.append(str(row))
    frame = pl.DataFrame({"sample_id": [f"{row:02d}" for row in range(60)], "content_hash": hashes})
    return frame.with_columns(label=pl.lit("x")), np.array(points), texts


def test_row_order_does_not_matter():
    frame, points, texts = sentences(0)
    whole = duplicate_closure(frame, ["07", "30"], embedding=points, texts=texts, least_cosine=0.99)
    assert whole.height > 3
    assert set(whole["how"]) == {"exact", "near", "words"}
    for seed in range(3):
        shuffle = np.random.default_rng(seed).permutation(60)
        again = duplicate_closure(
            frame[shuffle], ["30", "07"], embedding=points[shuffle], texts=[texts[row] for row in shuffle],
            least_cosine=0.99,
        )  # fmt: skip
        assert again.equals(whole)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 200),
    cosines=st.tuples(st.floats(0.9, 1), st.floats(0.9, 1)),
    jaccards=st.tuples(st.floats(0.5, 1), st.floats(0.5, 1)),
)
def test_lower_thresholds_pull_in_all_that_higher_ones_do(seed, cosines, jaccards):
    frame, points, texts = sentences(seed)
    asked = frame["sample_id"][:3].to_list()
    low, high = (
        set(
            duplicate_closure(
                frame,
                asked,
                embedding=points,
                texts=texts,
                least_cosine=of(cosines),
                least_jaccard=of(jaccards),
            )["sample_id"]
        )
        for of in (min, max)
    )
    assert high <= low


def test_by_components_of_the_graph_of_copies():
    frame, points, texts = sentences(5)
    asked = ["03", "21", "40"]
    found = duplicate_closure(
        frame, asked, embedding=points, texts=texts, least_cosine=0.995, least_jaccard=0.6
    )
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    bags = [{text[at : at + 4] for at in range(len(text) - 3)} for text in texts]
    alike = (unit @ unit.T).round(6) >= 0.995
    alike |= np.array([[one == other for other in frame["content_hash"]] for one in frame["content_hash"]])
    alike |= np.array([[len(one & other) / len(one | other) >= 0.6 for other in bags] for one in bags])
    reached = np.isin(np.arange(60), [int(name) for name in asked])
    while (more := reached | alike[reached].any(0)).sum() > reached.sum():
        reached = more
    wanted = {f"{row:02d}" for row in np.flatnonzero(reached)} - set(asked)
    assert len(wanted) > 3
    assert set(found["sample_id"]) == wanted
    assert all(alike[int(one), int(other)] for one, other in found.select("sample_id", "pulled_by").rows())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"asked": ["zz"]}, r"the frame lacks 1 of 1 asked ids, e.g. \['zz'\]"),
        ({"asked": "a"}, "must be a list"),
        ({"least_cosine": 0.9}, "needs an embedding"),
        ({"least_cosine": 0}, "least_cosine must be a cosine"),
        ({"least_jaccard": 0.4}, r"least_jaccard must be a Jaccard similarity in \[0.5, 1\]"),
        ({"least_jaccard": True}, "least_jaccard must be"),
        ({"texts": ["one"]}, "texts must have one row per sample, 3"),
        ({"embedding": np.zeros((2, 2))}, "embedding must have one row per sample, 3"),
    ],
)
def test_what_cannot_be_used_is_refused(params, message):
    with pytest.raises(BadInput, match=message):
        duplicate_closure(make(3), **{"asked": ["a"], **params})
