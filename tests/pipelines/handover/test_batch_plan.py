"""Every sample once in a pass, none twice in a batch, and the same at every position whatever came before."""

from itertools import pairwise

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.handover.batch_plan import BatchPlan, Stream


def sets(forget=7, retain=23, sizes=(3, 4)):
    return {
        "forget": Stream(places=np.arange(forget), size=sizes[0]),
        "retain": Stream(places=np.arange(forget, forget + retain), size=sizes[1]),
    }


def epoch_of(plan, epoch=0):
    return [plan.batches(epoch, step) for step in range(plan.steps)]


def shown(steps, name):
    return np.concatenate([step[name] for step in steps]).tolist()


def test_paired_shows_the_forget_set_once_and_goes_on_with_the_retained():
    plan = BatchPlan(sets(), plan="paired", seed=1)
    assert plan.steps == 3  # ceil(7 / 3)
    for epoch in range(3):
        assert sorted(shown(epoch_of(plan, epoch), "forget")) == list(range(7))
    # Two epochs of three steps are one pass of six batches over the retained samples.
    assert sorted(shown([*epoch_of(plan, 0), *epoch_of(plan, 1)], "retain")) == list(range(7, 30))
    assert len(shown(epoch_of(plan, 0), "retain")) < 23


def test_cyclic_shows_the_longer_set_once_and_the_shorter_again_in_another_order():
    plan = BatchPlan(sets(), plan="cyclic", seed=1)
    assert plan.steps == 6  # ceil(23 / 4)
    steps = epoch_of(plan)
    assert sorted(shown(steps, "retain")) == list(range(7, 30))
    first, second = shown(steps[:3], "forget"), shown(steps[3:], "forget")
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second
    assert shown(epoch_of(plan, 1), "retain") != shown(steps, "retain")


def test_a_retain_set_shorter_than_the_forget_set_is_gone_through_again():
    plan = BatchPlan(sets(forget=20, retain=4, sizes=(2, 2)), plan="paired", seed=0)
    assert plan.steps == 10
    for start in range(0, 10, 2):
        assert sorted(shown(epoch_of(plan)[start : start + 2], "retain")) == [20, 21, 22, 23]


@pytest.mark.parametrize("plan", ["paired", "cyclic"])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_batches_differ_by_one_hold_nobody_twice_and_reach_every_process(plan, world):
    for forget, retain, sizes in [(7, 23, (3, 4)), (5, 100, (64, 1)), (3, 3, (1, 1)), (50, 9, (4, 8))]:
        made = BatchPlan(sets(forget, retain, sizes), plan=plan, seed=0, world=world)
        for step in epoch_of(made):
            for name, size in zip(("forget", "retain"), sizes, strict=True):
                shares = [step[name][rank::world].tolist() for rank in range(world)]
                together = [place for share in shares for place in share]
                assert len(set(together)) == len(together)
                assert all(1 <= len(share) <= size + (world > 1) for share in shares)
        lengths = {len(step["forget"]) for step in epoch_of(made)}
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("world", [2, 3])
def test_processes_together_show_each_sample_of_the_longer_set_once(world):
    plan = BatchPlan(sets(forget=8, retain=29), plan="cyclic", seed=0, world=world)
    shares = [step["retain"][rank::world] for rank in range(world) for step in epoch_of(plan)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(8, 37))


def test_a_position_does_not_depend_on_what_was_asked_before():
    fresh, used = (BatchPlan(sets(), plan="cyclic", seed=3) for _ in range(2))
    epoch_of(used, 0)
    for name in ("forget", "retain"):
        assert fresh.batches(2, 4)[name].tolist() == used.batches(2, 4)[name].tolist()
    other = BatchPlan(sets(), plan="cyclic", seed=4)
    assert shown(epoch_of(other), "retain") != shown(epoch_of(fresh), "retain")


def modules():
    """Authors a (0, 1, 2) and b (3, 4); neighbours 5 of a, 6 of b, 7 of both; the others general, c has no forget."""
    return {0: ["a"], 1: ["a"], 2: ["a"], 3: ["b"], 4: ["b"], 5: ["a"], 6: ["b"], 7: ["a", "b"], 8: ["c"]}


def test_modules_come_one_after_the_other_and_are_never_mixed():
    plan = BatchPlan(sets(5, 15, (2, 2)), plan="melu", seed=0, modules=modules())
    assert plan.modules == ["a", "b"]
    first = []
    for epoch in range(6):
        steps = epoch_of(plan, epoch)
        of = [{"a" if place < 3 else "b" for place in step["forget"].tolist()} for step in steps]
        assert all(len(names) == 1 for names in of)
        names = [next(iter(one)) for one in of]
        assert sum(one != other for one, other in pairwise(names)) == 1
        first.append(names[0])
        assert set(shown(steps, "forget")) == set(range(5))
        for name, step in zip(names, steps, strict=True):
            assert not set(step["retain"].tolist()) & ({6} if name == "a" else {5})
        # Each retained sample once, 7 with either of its modules.
        retained = shown(steps, "retain")
        assert set(retained) == set(range(5, 20))
        assert retained.count(7) >= 2
    assert set(first) == {"a", "b"}


def test_general_samples_are_dealt_out_anew_each_epoch():
    plan = BatchPlan(sets(5, 15, (2, 2)), plan="melu", seed=0, modules=modules())
    dealt = set()
    for epoch in range(4):
        with_a = [step["retain"].tolist() for step in epoch_of(plan, epoch) if step["forget"][0] < 3]
        dealt.add(tuple(sorted({place for batch in with_a for place in batch if place >= 8})))
    assert len(dealt) > 1
    assert {len(one) for one in dealt} == {6}  # 12 general samples over two modules


def test_a_module_without_anything_of_its_own_draws_from_all():
    plan = BatchPlan(
        sets(2, 2, (1, 1)), plan="melu", seed=0, modules={0: ["a"], 1: ["b"], 2: ["a"], 3: ["a"]}
    )
    of_b = [step["retain"].tolist() for step in epoch_of(plan) if step["forget"].tolist() == [1]]
    assert [len(batch) for batch in of_b] == [1]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"plan": "melu"}, "modules="),
        ({"plan": "paired", "modules": {}}, "modules= are for plan='melu'"),
        ({"plan": "melu", "modules": {0: ["a"]}}, "not in exactly one module: 6 of 7 samples to forget"),
        ({"plan": "paired", "world": 8}, "the forget set holds 7 samples for 8 processes"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(BadInput, match=says):
        BatchPlan(sets(), seed=0, **settings)


def test_unknown_plans_and_batches_of_nothing_are_refused():
    with pytest.raises(UnknownName, match=r"did you mean 'cyclic'\?"):
        BatchPlan(sets(), plan="cylic", seed=0)
    for size in (0, -1, True, 2.0):
        with pytest.raises(BadInput, match="a batch holds at least 1 sample"):
            BatchPlan(sets(sizes=(size, 1)), plan="paired", seed=0)
