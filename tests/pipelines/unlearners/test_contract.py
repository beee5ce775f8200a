"""What holds for every unlearning method: it is found, it forgets, it keeps, it repeats, and it leaves the model alone."""

import pytest
import torch

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.unlearners.contract import find, names

SETTINGS = {
    "retrain": {"epochs": 6},
    "fine_tune": {"lr": 0.1, "epochs": 5},
    "gradient_ascent": {"beta": 0.85, "epochs": 2},
    "random_labels": {"lr": 0.03, "epochs": 5},
    "scrub": {"lr": 0.01, "epochs": 4, "max_epochs": 2, "forget_batch": 32, "retain_batch": 64},
    "salun": {"lr": 0.03, "epochs": 5},
    "ssd": {"batch_size": 10},
    "boundary_shrink": {"step": 0.1, "lr": 1e-3},
    "boundary_expand": {},
    "one_point_contraction": {"lr": 0.03, "epochs": 5},
    "stochastic_teacher": {"lr": 0.03, "erase_epochs": 4, "epochs": 3},
    "single_layer_single_gradient": {"target": 0.3},
    "npo": {"beta": 1.0, "lr": 0.03},
    "influence_approximation": {"optimizer": "sgd", "lr": 0.2, "correction": 10.0},
    "datamodel_matching": {"iterations": 12, "epochs": 15, "lr": 4e-3, "batch_size": 80},
    "label_agnostic_forgetting": {
        "epochs": 30,
        "extractor_lr": 2e-3,
        "alignment_lr": 8e-3,
        "temperature": 5.0,
        "vae_epochs": 2,
        "batch_size": 80,
    },
}
"""What suits a small network on 900 digits, where the papers' rates are for larger ones."""

FOR_A_CLASS = {"ssd", "boundary_expand", "single_layer_single_gradient"}
"""Single samples they do not forget without harm; each is shown a class, in a file of its own."""

NOT_ON_RETAIN = {"boundary_shrink", "boundary_expand", "single_layer_single_gradient"}
"""They do not train on the retain set, so its weights do not rule what is kept of it."""


def bits(module):
    return {name: values.numpy().tobytes() for name, values in module.state_dict().items()}


@pytest.fixture(scope="module")
def unlearned(world):
    """Return a function that gives a method's result, worked out once."""
    done = {}

    def give(name):
        if name not in done:
            before = bits(world.trained.module)
            module = find(name).function(world.trained, world.forget, world.retain, seed=0, **SETTINGS[name])
            assert bits(world.trained.module) == before, "the given model was changed"
            assert not module.training
            done[name] = module
        return done[name]

    return give


def test_every_method_is_tried_here():
    assert set(names()) == set(SETTINGS)
    assert all(find(name).reference and find(name).summary.endswith(".") for name in names())
    with pytest.raises(UnknownName, match="fine_tune"):
        find("finetune")


def test_the_stage_is_set(world):
    """The trained model knows the wrong labels by heart, the retrained one gives almost none of them."""
    original, gold = world.trained.module, world.gold
    assert world.accuracy(original, world.forget) > 0.95
    assert world.accuracy(gold, world.forget) < 0.1
    assert world.accuracy(gold, world.test) > 0.95


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - FOR_A_CLASS))
def test_it_forgets_and_keeps(world, unlearned, name):
    original, module, gold = world.trained.module, unlearned(name), world.gold
    before = abs(world.accuracy(original, world.forget) - world.accuracy(gold, world.forget))
    after = abs(world.accuracy(module, world.forget) - world.accuracy(gold, world.forget))
    assert after < before / 2
    assert world.loss(module, world.forget) > world.loss(original, world.forget) + 0.5
    assert world.accuracy(module, world.test) > world.accuracy(original, world.test) - 0.05
    assert world.accuracy(module, world.retain) > 0.93


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_one_seed_one_result_whatever_the_order_of_rows(world, unlearned, name):
    method = find(name).function
    again = method(
        world.trained, world.forget.flip(0).numpy(), world.retain.flip(0), seed=0, **SETTINGS[name]
    )
    assert bits(again) == bits(unlearned(name))


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_weights_rule_what_is_retained(world, unlearned, name):
    """Nine digits of ten weigh next to nothing: what is kept of them is less than without weights."""
    method = find(name).function
    light = torch.where(world.trained.labels == 3, 1.0, 1e-3)
    module = method(world.trained, world.forget, world.retain, seed=0, weights=light, **SETTINGS[name])
    others = world.test[world.trained.labels[world.test] != 3]
    if name in NOT_ON_RETAIN:
        assert bits(module) != bits(unlearned(name))  # those of the forget set count all the same
    else:
        assert world.loss(module, others) > world.loss(unlearned(name), others)
    same = method(world.trained, world.forget, world.retain, seed=0, weights=light * 8, **SETTINGS[name])
    assert bits(same) == bits(module)  # weights have mean one


def test_what_is_refused(world):
    method = find("fine_tune").function
    with pytest.raises(BadInput, match=r"fine_tune: epochs=1\.5 must be a whole number"):
        method(world.trained, world.forget, world.retain, seed=0, epochs=1.5)
    with pytest.raises(BadInput, match="both the forget and the retain set"):
        method(world.trained, world.forget, torch.cat([world.retain, world.forget[:1]]), seed=0)
    with pytest.raises(BadInput, match="at least one"):
        method(world.trained, world.forget[:0], world.retain, seed=0)
    with pytest.raises(BadInput, match="twice"):
        method(world.trained, world.forget[[0, 0]], world.retain, seed=0)
    with pytest.raises(BadInput, match="row 5000 of 1797"):
        method(world.trained, [5000], world.retain, seed=0)
    with pytest.raises(BadInput, match="row numbers"):
        method(world.trained, torch.ones(1797, dtype=torch.bool), world.retain, seed=0)
    with pytest.raises(BadInput, match="one for each of 1797 rows"):
        method(world.trained, world.forget, world.retain, seed=0, weights=torch.ones(3))
    with pytest.raises(BadInput, match="weights of the retain set"):
        method(
            world.trained,
            world.forget,
            world.retain,
            seed=0,
            weights=torch.zeros(1797).index_fill(0, world.forget, 1.0),
        )
