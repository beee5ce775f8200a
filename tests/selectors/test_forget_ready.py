"""Forget, neighbor, retain and holdout: closure under copies, neighbours, weights, holdout hygiene."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer

from tracesift.catalog.nearest_rows import unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.pipelines.embedding.embeddings import content_embedding, table_directions
from tracesift.selectors.contract import select
from tracesift.selectors.decisions.forget_ready import least_cosine


def degrees(*angles):
    """Points on a circle, so that cosines are known: cos(5 deg) = 0.9962, cos(12 deg) = 0.9781."""
    radians = np.deg2rad(angles)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def make(n, **columns):
    return pl.DataFrame({"sample_id": [chr(97 + i) for i in range(n)], "label": ["x"] * n, **columns})


def act(frame, embedding=None, **params):
    result = select("forget_ready", frame, budget=None, seed=0, embedding=embedding, **params)
    return {row["sample_id"]: row for row in result.iter_rows(named=True)}


def roles(frame, embedding=None, **params):
    return "".join(row["role"][0] for row in act(frame, embedding, **params).values())


@pytest.mark.parametrize("near", ["auto", "dense"])
def test_what_has_no_vector_does_not_make_the_others_look_far_apart(near):
    points, frame = (
        degrees(*range(0, 120, 4)),
        pl.DataFrame({"sample_id": [f"{i:03d}" for i in range(60)], "label": "x"}),
    )
    whole = np.concatenate([points, np.zeros_like(points)])
    alone = least_cosine(frame[:30], unit_rows(points), np.ones(30, bool), near, 0)
    assert alone[0] > 0.95
    assert least_cosine(frame, unit_rows(whole), np.ones(60, bool), near, 0)[:30].tolist() == alone.tolist()


def test_exact_copies_are_pulled_in_with_the_pair_named():
    frame = make(4, content_hash=["1", "2", "1", None])
    rows = act(frame, forget=["c"])
    assert [row["role"] for row in rows.values()] == ["forget", "retain", "forget", "retain"]
    assert rows["a"]["reason"].startswith("exact copy of 'c', which is forgotten")


def test_near_copies_are_pulled_in_and_copies_of_copies_too():
    points = degrees(0, 5, 10, 25, 90)  # a-b and b-c within 11.5 degrees (cosine 0.98), a-c too; d is not
    rows = act(make(5), points, forget=["a"], near_duplicate=0.99, neighbors=0)
    assert [row["role"] for row in rows.values()] == ["forget"] * 3 + ["retain"] * 2
    assert rows["b"]["reason"].startswith("near copy of 'a', which is forgotten: cosine 0.9962 >= 0.99")
    assert rows["c"]["reason"].startswith("near copy of 'b'")  # cos(10 deg) = 0.985: only through b
    assert roles(make(5), points, forget=["a"], near_duplicate=None, neighbors=0) == "frrrr"


def test_length_does_not_matter_only_direction():
    points = degrees(0, 5, 90) * np.array([[1.0], [50.0], [0.02]])
    assert roles(make(3), points, forget=["a"], near_duplicate=0.99, neighbors=0) == "ffr"


def test_exact_and_near_copies_close_together():
    frame = make(4, content_hash=["1", "2", "2", "3"])  # b near a, c an exact copy of b
    assert roles(frame, degrees(0, 3, 60, 120), forget=["a"], near_duplicate=0.99, neighbors=0) == "fffr"


def test_direct_and_indirect_neighbours():
    points = degrees(0, 20, 45, 75, 180)
    rows = act(make(5), points, forget=["a"], neighbors=1, indirect_neighbors=1)
    assert [row["role"] for row in rows.values()] == ["forget", "neighbor", "neighbor", "retain", "retain"]
    assert rows["b"]["reason"].startswith("direct neighbour of forgotten 'a': cosine 0.9397")
    assert rows["c"]["reason"].startswith("indirect neighbour, near direct neighbour 'b': cosine 0.9063")
    assert roles(make(5), points, forget=["a"], neighbors=2, indirect_neighbors=0) == "fnnrr"
    assert roles(make(5), points, forget=["a"], neighbors=0) == "frrrr"


def test_neighbours_by_brute_force():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(80, 5))
    frame = pl.DataFrame({"sample_id": [f"{i:02d}" for i in range(80)], "label": ["x"] * 80})
    rows = act(frame, points, forget=["03", "40"], near_duplicate=None, neighbors=4, indirect_neighbors=0)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    allowed = [i for i in range(80) if i not in (3, 40)]
    expected = {f"{j:02d}" for i in (3, 40) for j in sorted(allowed, key=lambda j: -unit[i] @ unit[j])[:4]}
    assert {name for name, row in rows.items() if row["role"] == "neighbor"} == expected


def test_a_dense_embedding_does_not_swallow_its_class():
    # every pair has a cosine above 0.98; only the planted twin is really near
    rng = np.random.default_rng(1)
    points = 20.0 + rng.normal(size=(200, 16))
    points[7] = points[5] + 0.01 * rng.normal(size=16)
    frame = pl.DataFrame({"sample_id": [f"{i:03d}" for i in range(200)], "label": ["x"] * 200})
    rows = act(frame, points, forget=["005"], neighbors=0)
    assert {name for name, row in rows.items() if row["role"] == "forget"} == {"005", "007"}
    literal = act(frame, points, forget=["005"], near_duplicate=0.98, neighbors=0)
    assert all(row["role"] == "forget" for row in literal.values())


def test_the_corrective_set_pulls_in_only_copies_with_the_same_label():
    frame = pl.DataFrame(
        {
            "sample_id": list("abcd"),
            "label": ["x", "x", "y", "y"],
            "content_hash": ["1", "1", "1", "2"],
            "label_noise": [True, None, None, False],
            "unlearnable": [False, None, False, False],
        }
    )
    rows = act(frame)
    assert [row["role"] for row in rows.values()] == ["forget", "forget", "retain", "retain"]
    assert rows["a"]["reason"].startswith("corrective: flagged by label_noise")
    assert [row["role"] for row in act(frame, forget=["a"]).values()] == ["forget"] * 3 + ["retain"]


def test_the_corrective_set_may_be_empty():
    frame = make(3, label_noise=[None, False, None])
    assert roles(frame, degrees(0, 10, 20)) == "rrr"
    assert {row["weight"] for row in act(frame).values()} == {1.0}


def test_without_request_and_flags_it_says_so():
    with pytest.raises(BadInput, match="no request and none of the flags"):
        roles(make(3))


def test_weights_restore_the_groups():
    frame = pl.DataFrame(
        {"sample_id": list("abcdefg"), "label": list("xxxxyyz"), "site": ["p", "p", "p", "q", "p", "p", "p"]}
    )
    rows = act(frame, forget=["a", "g"])
    assert rows["b"]["weight"] == pytest.approx(4 / 3)
    assert rows["e"]["weight"] == 1
    assert "weight 1.333 for group label 'x'" in rows["b"]["reason"]
    assert "group lost: nothing of label 'z' is retained" in rows["g"]["reason"]
    by_site = act(frame, forget=["a", "g"], group="site")
    assert by_site["b"]["weight"] == pytest.approx(3 / 2)  # x at p: three, two retained
    assert by_site["d"]["weight"] == 1  # x at q: untouched
    assert act(frame, forget=["a", "g"], reweight=False)["b"]["weight"] == 1
    kept = [row for row in rows.values() if row["role"] == "retain"]
    assert sum(row["weight"] for row in kept) == pytest.approx(6)  # 4 of x, 2 of y
    with pytest.raises(BadInput, match="no group column 'sight'"):
        act(frame, forget=["a"], group="sight")


def test_the_holdout_is_what_was_never_trained_on():
    frame = make(5, split=["train", "train", "val", "test", None])
    assert roles(frame, forget=["a"]) == "frhhh"
    plain = make(4)
    assert roles(plain, forget=["a"], holdout=["c"]) == "frhr"
    with pytest.raises(BadInput, match="holdout sample 'b' is in split train"):
        roles(frame, forget=["a"], holdout=["b", "c"])


def test_a_holdout_that_copies_a_trained_sample_is_no_holdout():
    frame = make(5, split=["train", "train", "val", "val", "val"], content_hash=["1", "2", "2", "3", "4"])
    rows = act(frame, degrees(0, 90, 90, 3, 200), forget=["a"], near_duplicate=0.99, neighbors=0)
    assert [row["role"] for row in rows.values()] == ["forget", "retain", "drop", "drop", "holdout"]
    assert "exact copy of trained 'b'" in rows["c"]["reason"]
    assert "near copy of trained 'a'" in rows["d"]["reason"]


def test_a_request_for_what_was_never_trained_on():
    frame = make(3, split=["train", "val", "val"])
    rows = act(frame, forget=["a", "b"])
    assert [row["role"] for row in rows.values()] == ["forget", "drop", "holdout"]
    assert "never trained on" in rows["b"]["reason"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"forget": ["a", "zz", "yy"]}, r"the frame lacks 2 of 3 requested ids, e.g. \['yy', 'zz'\]"),
        ({"forget": []}, "names no sample"),
        ({"forget": "a"}, "must be a list"),
        ({"forget": ["a"], "holdout": ["zz"]}, "1 of 1 holdout ids"),
        ({"forget": ["a"], "neighbors": -1}, "neighbors must be"),
        ({"forget": ["a"], "indirect_neighbors": -2}, "indirect_neighbors must be"),
        ({"forget": ["a"], "near_duplicate": 0}, "near_duplicate must be"),
        ({"forget": ["a"], "near_duplicate": 1.2}, "near_duplicate must be"),
        ({"forget": ["a"], "near_duplicate": 0.9}, "needs an embedding"),
        ({"forget": ["a"], "near_duplicate": "tight"}, "must be a number, 'auto', 'dense'"),
    ],
)
def test_what_cannot_be_used_is_refused(params, message):
    with pytest.raises(BadInput, match=message):
        roles(make(3), **params)


def test_without_an_embedding_the_reasons_say_so():
    assert "no embedding" in act(make(3), forget=["a"])["b"]["reason"]


TEXTS = ["please pay my bill today", "please pay my bills today", "who wrote it", "please pay my bill", "who"]


def test_copies_by_wording_are_pulled_in_with_the_pair_and_its_similarity():
    rows = act(make(5), forget=["a"], arrays={"texts": TEXTS})
    assert [row["role"] for row in rows.values()] == ["forget", "forget", "retain", "forget", "retain"]
    said = "near copy of 'a', which is forgotten: Jaccard 0.7200 >= 0.6 of their character 4-grams"
    assert rows["b"]["reason"].startswith(said)  # 18 of 25
    assert (rows["b"]["pulled_by"], rows["b"]["how"]) == ("a", "words")
    assert rows["b"]["similarity"] == 0.72
    assert rows["a"]["how"] is None
    assert "near copies by embedding and neighbours were not looked for" in rows["c"]["reason"]
    higher = act(make(5), forget=["a"], arrays={"texts": TEXTS}, near_words=0.73)
    assert [row["role"][0] for row in higher.values()] == ["f", "r", "r", "r", "r"]
    assert roles(make(5), forget=["a"], arrays={"texts": TEXTS}, near_words=None) == "frrrr"


def test_texts_follow_the_row_order_of_the_frame():
    shuffle = [3, 0, 4, 1, 2]
    there = act(make(5), forget=["a"], arrays={"texts": TEXTS})
    assert act(make(5)[shuffle], forget=["a"], arrays={"texts": [TEXTS[row] for row in shuffle]}) == there
    with pytest.raises(BadInput, match="texts must be one per sample, 5"):
        act(make(5), forget=["a"], arrays={"texts": TEXTS[:3]})


def test_a_test_sample_worded_like_a_trained_one_is_no_holdout():
    frame = make(5, split=["train", "test", "train", "val", "test"])
    rows = act(frame, forget=["c"], arrays={"texts": TEXTS})
    assert [row["role"] for row in rows.values()] == ["retain", "drop", "forget", "drop", "holdout"]
    assert "near copy of trained 'a', so no holdout: Jaccard 0.7200" in rows["b"]["reason"]
    assert (rows["b"]["pulled_by"], rows["b"]["how"]) == ("a", "words")


def test_a_copy_outside_of_training_carries_no_chain():
    points = degrees(0, 5, 10)  # b, which was never trained on, is near both
    frame = make(3, split=["train", "val", "train"])
    assert roles(frame, points, forget=["a"], near_duplicate=0.99, neighbors=0) == "fdr"
    assert roles(make(3), points, forget=["a"], near_duplicate=0.99, neighbors=0) == "fff"


def test_copies_in_training_of_a_requested_sample_outside_of_it():
    frame = make(3, split=["train", "val", "train"], content_hash=["1", "1", "2"])
    rows = act(frame, forget=["b"])
    assert [row["role"] for row in rows.values()] == ["forget", "drop", "retain"]
    assert rows["a"]["reason"].startswith("exact copy of 'b', which is requested")


def test_a_copy_of_a_requested_sample_outside_training_is_no_holdout():
    frame = make(4, split=["train", "val", "test", "test"], content_hash=["1", "2", "2", "3"])
    rows = act(frame, forget=["b"])
    assert [row["role"] for row in rows.values()] == ["retain", "drop", "drop", "holdout"]
    assert rows["c"]["reason"] == "exact copy of requested 'b', so no holdout"


def test_a_copy_of_what_was_deleted_before_is_no_holdout():
    frame = make(
        6,
        split=["train", "train", "test", "test", "test", "test"],
        content_hash=list("123442"),
        deleted=[False, True, True, False, False, None],
    )
    rows = act(frame, degrees(0, 90, 45, 47, 180, 200), forget=["a"], near_duplicate=0.99, neighbors=1)
    assert [row["role"] for row in rows.values()] == ["forget", "drop", "drop", "drop", "holdout", "drop"]
    assert rows["d"]["reason"] == "near copy of a deleted sample, so no holdout: cosine 0.9994 >= 0.99"
    assert rows["f"]["reason"] == "exact copy of a deleted sample, so no holdout"
    none = frame.with_columns(deleted=pl.lit(value=False), label_noise=False)
    assert "".join(row["role"][0] for row in act(none, degrees(0, 90, 45, 47, 180, 200)).values()) == "rrhhhd"


def test_a_request_pulls_in_the_same_whatever_was_deleted_before_it():
    points = degrees(0, 6, 12, *range(30, 260, 10))  # c copies a only through b
    first, again = (
        act(make(26, deleted=deleted), points, forget=["a"], near_duplicate="dense")
        for deleted in ([False] * 26, [False, True, True] + [False, True] * 11 + [False])
    )
    pulled_in = {name: row for name, row in first.items() if row["role"] == "forget"}
    assert list(pulled_in) == ["a", "b", "c"]
    assert {name: row for name, row in again.items() if row["role"] == "forget"} == pulled_in
    assert (first["z"]["role"], again["e"]["role"]) == ("retain", "drop")
    flagged = make(3, deleted=[False, True, False], label_noise=[True, False, False])
    assert roles(flagged, degrees(0, 1, 90)) == "fdn"  # nobody asked: what is deleted stays out


def test_what_remains_under_another_label_is_named():
    frame = make(3, content_hash=["1", "1", "2"], label_noise=[True, False, False])
    rows = act(frame.with_columns(label=pl.Series(["x", "y", "x"])))
    assert [row["role"] for row in rows.values()] == ["forget", "retain", "retain"]
    assert "cannot be forgotten: exact copy 'b' is retained under label 'y'" in rows["a"]["reason"]
    alike = act(frame)  # all of one label: the copy is pulled in
    assert [row["role"] for row in alike.values()] == ["forget", "forget", "retain"]
    assert "cannot be forgotten" not in alike["a"]["reason"] + alike["b"]["reason"]


@pytest.mark.parametrize("value", [0.4, 1.1])
def test_a_least_jaccard_that_cannot_be_used_is_refused(value):
    with pytest.raises(BadInput, match="near_words must be"):
        act(make(5), forget=["a"], arrays={"texts": TEXTS}, near_words=value)


def test_a_dense_class_has_a_measure_of_its_own():
    # most samples lie apart, so 0.98 is special among all; within y every pair is closer than that
    rng = np.random.default_rng(3)
    points = rng.normal(size=(300, 16))
    points[200:] = 12.0 + rng.normal(size=(100, 16))
    points[207] = points[205] + 0.01 * rng.normal(size=16)
    points[107] = points[105] + 0.01 * rng.normal(size=16)
    frame = pl.DataFrame({"sample_id": [f"{i:03d}" for i in range(300)], "label": ["x"] * 200 + ["y"] * 100})
    rows = act(frame, points, forget=["105", "205"], neighbors=0)
    assert {name for name, row in rows.items() if row["role"] == "forget"} == {"105", "107", "205", "207"}
    assert rows["107"]["reason"].endswith(">= 0.98")
    unlabelled = act(frame.with_columns(label=pl.lit("x")), points, forget=["105", "205"], neighbors=0)
    assert sum(row["role"] == "forget" for row in unlabelled.values()) > 90


def cells():
    """Six columns of breast_cancer, standardised, with a copy of each of the first fifty that hardly differs."""
    data = load_breast_cancer()
    table = data.data[:, :6] / data.data[:, :6].std(axis=0)
    near = table[:50] + np.random.default_rng(0).normal(scale=0.01, size=(50, 6))
    rows = np.concatenate([table, near])
    frame = pl.DataFrame(
        {
            "sample_id": [f"{row:03d}" for row in range(len(rows))],
            "label": data.target[[*range(569), *range(50)]].astype(str),
        }
    )
    return frame, SimpleNamespace(kind="tabular", inputs=rows, rows=lambda _: np.arange(len(rows)))


def test_among_rows_of_a_table_near_is_nearer_than_chance_brings_them():
    frame, table = cells()
    asked, planted = [f"{row:03d}" for row in range(50)], {f"{row:03d}" for row in range(569, 619)}

    def pulled(vectors, **params):
        rows = act(frame, vectors, forget=asked, neighbors=0, **params)
        return {name for name, row in rows.items() if row["role"] == "forget"} - set(asked)

    vectors = table_directions(table, rows=np.arange(619))
    assert pulled(vectors, near_duplicate="dense") == planted
    assert len(pulled(vectors) - planted) > 5  # what is special for images and texts is not here
    assert len(pulled(content_embedding(table)) - planted) > 20  # by direction alone


def test_a_persons_word_is_the_reason_of_the_corrective_set():
    frame = pl.DataFrame(
        {
            "sample_id": list("abcde"), "label": ["x", "x", "y", "y", "x"], "content_hash": list("12345"),
            "label_noise": [True, True, True, False, None], "unlearnable": [None, True, None, False, None],
            "verified_label": ["y", "y", None, "y", None],
        }
    )  # fmt: skip
    made = select("forget_ready", frame, budget=None, seed=0).filter(pl.col("role") == "forget")
    assert dict(made.select("sample_id", "reason").iter_rows()) == {
        "a": "corrective: a person verified the label as 'y'",
        "b": "corrective: a person verified the label as 'y', flagged by unlearnable",
        "c": "corrective: flagged by label_noise",
    }
