import doctest

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.decisions import melu
from tracesift.selectors.decisions.melu import batch_plan, neighbor_sets


def edges(*pairs):
    return pl.DataFrame(pairs, schema={"sample_id": pl.String(), "neighbor": pl.String()}, orient="row")


@pytest.fixture
def items():
    """Two entities, p with five forget items and q with one; ten retained items."""
    ids = [*"abcde", "f", *(f"r{at}" for at in range(10))]
    return pl.DataFrame({"sample_id": ids, "entity": ["p"] * 5 + ["q"] + [None] * 10})


def plan_of(items, **settings):
    direct = edges(("a", "r0"), ("b", "r0"), ("e", "r1"), ("f", "r2"))
    indirect = edges(("a", "r1"), ("e", "r3"), ("a", "r0"))
    return batch_plan(items, "fedcba", direct, indirect, **{"general": 2, "seed": 0, **settings})


def test_examples_run():
    assert doctest.testmod(melu).failed == 0


def test_a_module_holds_one_entity_with_its_own_neighbours(items):
    plan = plan_of(items)
    assert plan.columns == ["module", "step", "sample_id", "role"]
    forget = plan.filter(pl.col("role") == "forget")
    assert sorted(forget["sample_id"]) == list("abcdef")  # each once
    of_p = forget.filter(pl.col("sample_id") == "a")["module"][0]
    steps = {at: plan.filter((pl.col("module") == of_p) & (pl.col("step") == at)) for at in (0, 1)}
    told = {
        at: [row for row in step.select("sample_id", "role").iter_rows() if row[1] != "general"]
        for at, step in steps.items()
    }
    # r0 is near a and b and stands once, as direct; r1 is direct of e alone
    assert told[0] == [
        *((name, "forget") for name in "abcd"), ("r0", "neighbor_direct"), ("r1", "neighbor_indirect"),
    ]  # fmt: skip
    assert told[1] == [("e", "forget"), ("r1", "neighbor_direct"), ("r3", "neighbor_indirect")]
    of_q = plan.filter(pl.col("module") != of_p)
    assert of_q.filter(pl.col("role") != "general")["sample_id"].to_list() == ["f", "r2"]
    assert of_q["module"].n_unique() == 1


def test_general_items_are_near_nothing_and_all_come_before_any_comes_again(items):
    plan = plan_of(items, forget_per_step=1)
    general = plan.filter(pl.col("role") == "general")
    far = {f"r{at}" for at in range(4, 10)}
    assert set(general["sample_id"]) == far
    assert general["sample_id"].value_counts()["count"].to_list() == [2] * 6  # 6 steps of 2
    assert general.group_by("module", "step").len()["len"].to_list() == [2] * 6
    assert plan.unique(["module", "step", "sample_id"]).height == plan.height


def test_the_seed_decides_and_the_order_of_rows_does_not(items):
    plan = plan_of(items)
    assert plan.equals(plan_of(items[::-1]))
    assert plan.equals(plan_of(items))
    assert any(not plan.equals(plan_of(items, seed=seed)) for seed in (1, 2, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"forget": ["a", "zz"]}, "zz"),
        ({"forget": []}, "nothing to forget"),
        ({"forget": ["r0"]}, "no entity"),
        ({"direct": edges(("a", "b"))}, "'b' is forgotten"),
        ({"direct": edges(("r1", "r2"))}, "from a forget item"),
        ({"indirect": edges(("a", "zz"))}, "to an item of the frame"),
        ({"general": 11}, "10 retained ones"),
        ({"frame": pl.DataFrame({"sample_id": ["a"]})}, "no column 'entity'"),
        ({"frame": pl.DataFrame({"sample_id": ["a", "a"], "entity": ["p", "p"]})}, "unique"),
    ],
)
def test_what_cannot_be_planned(items, change, message):
    given = {
        "frame": items,
        "forget": list("abcdef"),
        "direct": edges(),
        "indirect": edges(),
        "seed": 0,
        "general": 1,
    }
    frame, forget, direct, indirect, *_ = {**given, **change}.values()
    settings = {key: {**given, **change}[key] for key in ("seed", "general")}
    with pytest.raises(BadInput, match=message):
        batch_plan(frame, forget, direct, indirect, **settings)


def by_brute_force(ids, x, forget, direct, indirect):
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = {(a, b): float(unit[i] @ unit[j]) for i, a in enumerate(ids) for j, b in enumerate(ids)}
    retained = [name for name in ids if name not in forget]
    near, far = [], []
    for name in sorted(forget):
        own = sorted(retained, key=lambda one: -cosine[name, one])[:direct]
        near += [(name, one) for one in own]
        found = set()
        for middle in own:
            others = [one for one in retained if one not in own]
            found |= set(sorted(others, key=lambda one: -cosine[middle, one])[:indirect])
        far.append((name, found))
    return near, far


def test_neighbours_against_every_pair():
    rng = np.random.default_rng(0)
    ids, x = [f"s{at:02d}" for at in rng.permutation(40)], rng.normal(size=(40, 4))
    forget = ids[:6]
    near, far = neighbor_sets(ids, x, forget, direct=3, indirect=2)
    expected_near, expected_far = by_brute_force(ids, x, forget, 3, 2)
    assert list(near.select("sample_id", "neighbor").iter_rows()) == expected_near
    for name, found in expected_far:
        assert set(far.filter(pl.col("sample_id") == name)["neighbor"]) == found
    frame = pl.DataFrame({"sample_id": ids, "entity": [name[:2] for name in ids]})
    plan = batch_plan(frame, forget, near, far, general=1, seed=0)
    assert set(plan["role"]) == {"forget", "neighbor_direct", "neighbor_indirect", "general"}
    order = rng.permutation(40)
    again = neighbor_sets([ids[at] for at in order], x[order], forget, direct=3, indirect=2)
    assert near.equals(again[0])
    assert far.equals(again[1])


def test_few_retained_items_and_none():
    x = np.eye(3)
    near, far = neighbor_sets(list("abc"), x, ["a", "b"], direct=5, indirect=5)
    assert near["neighbor"].to_list() == ["c", "c"]
    assert far.is_empty()
    none, _ = neighbor_sets(list("abc"), x, ["a"], direct=0, indirect=0)
    assert none.is_empty()
    for forget, message in (
        (list("abc"), "something to retain"),
        (["z"], "no vector"),
        ([], "something to forget"),
    ):
        with pytest.raises(BadInput, match=message):
            neighbor_sets(list("abc"), x, forget)
