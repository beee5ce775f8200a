"""Error-minimising noise: the surrogate's error on what is returned, the inner step by hand, the bound on rounds."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.protection import min_min, surrogate
from tracesift.pipelines.protection.error_min_noise_classwise import error_min_noise_classwise
from tracesift.pipelines.protection.error_min_noise_samplewise import error_min_noise_samplewise

BOTH = [error_min_noise_samplewise, error_min_noise_classwise]


@pytest.fixture(scope="module")
def digits():
    held = load_digits()
    return np.round(held.images[:300, None] * 255 / 16).astype(np.uint8), held.target[:300]


@pytest.mark.parametrize(
    ("make", "stop"), [(error_min_noise_samplewise, 0.01), (error_min_noise_classwise, 0.1)]
)
def test_the_error_said_is_that_of_the_images_returned(make, stop, digits, monkeypatch):
    pixels, labels = digits
    nets = []
    measured = surrogate.error_rate
    monkeypatch.setattr(
        surrogate, "error_rate", lambda net, *rest, **by: nets.append(net) or measured(net, *rest, **by)
    )
    made = make(pixels, labels, seed=0)
    assert made.report["reached"] is True
    assert made.report["surrogate_error"] <= stop
    with torch.no_grad():
        seen = nets[-1].eval()(torch.from_numpy(made.inputs / 255.0).float()).argmax(1).numpy()
    assert (seen != labels).mean() == made.report["surrogate_error"]


@pytest.mark.parametrize(
    ("make", "rounds"), [(error_min_noise_samplewise, 13), (error_min_noise_classwise, 11)]
)
def test_each_kind_stops_at_its_own_error(make, rounds, digits, monkeypatch):
    """At 0.01 for a noise per image and 0.1 for one per class, as the published commands do."""
    fallen = iter([0.5] * 10 + [0.09, 0.011, 0.009])
    monkeypatch.setattr(surrogate, "error_rate", lambda *_, **__: next(fallen))
    assert make(digits[0][:40], digits[1][:40], seed=0, steps=1).report["rounds"] == rounds


def test_the_noise_alone_carries_the_label(digits):
    """Random labels, so that the digits say nothing: a held-out linear discriminant reads them from the noise."""
    pixels = np.clip(digits[0], 20, 235)
    labels = np.random.default_rng(0).permutation(digits[1])
    made = error_min_noise_samplewise(pixels, labels, seed=0)
    noise = (made.inputs.astype(float) - pixels).reshape(len(labels), -1)
    reader = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.1)
    assert cross_val_score(reader, noise, labels, cv=3).mean() > 0.9
    decoy = np.random.default_rng(1).permutation(labels)
    assert cross_val_score(reader, noise, decoy, cv=3).mean() < 0.3
    assert cross_val_score(reader, pixels.reshape(len(labels), -1), labels, cv=3).mean() < 0.3


@pytest.mark.parametrize("make", BOTH)
def test_noise_is_not_done_before_it_could_reach_its_budget(make, digits):
    """Digits are learned in a round, when class-wise noise has moved by a step only."""
    pixels, labels = digits
    made = make(pixels, labels, seed=0)
    assert made.report["reached"]
    assert made.report["rounds"] >= (10 if make is error_min_noise_classwise else 1)
    assert np.abs(made.inputs.astype(int) - pixels).max() == 8


def test_one_noise_per_class_and_one_per_image(digits):
    grey = np.clip(digits[0], 20, 230)
    labels = digits[1]
    by_class = error_min_noise_classwise(grey, labels, seed=0, rounds=2).inputs.astype(int) - grey
    for label in range(10):
        assert (by_class[labels == label] == by_class[labels == label][0]).all()
    assert len({one.tobytes() for one in by_class}) == 10
    by_image = error_min_noise_samplewise(grey, labels, seed=0, rounds=1, steps=3).inputs.astype(int) - grey
    assert len({one.tobytes() for one in by_image}) == 300


def test_the_bound_on_rounds_is_said(digits):
    pixels, labels = digits
    made = error_min_noise_samplewise(pixels, np.roll(labels, 7), seed=0, rounds=1, steps=1, stop_error=0.0)
    assert made.report["rounds"] == 1
    assert made.report["reached"] is False
    assert made.report["surrogate_error"] > 0.3
    heard = []
    error_min_noise_classwise(pixels, labels, seed=0, rounds=2, progress=lambda *told: heard.append(told))
    assert [(done, total) for done, total, _ in heard] == [(0, 2), (1, 2)]
    assert "surrogate error" in heard[1][2]


def test_the_inner_steps_by_hand():
    """A linear net: the loss falls along the weights of the label. Noise stops at eps, images at 0 and 1."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, -1.0, 1.0, -1.0], [-1.0, 1.0, -1.0, 1.0]]))
    clean = torch.tensor([0.5, 0.5, 1.0, 0.01]).reshape(1, 1, 2, 2)
    search = min_min.Search(
        eps=10.2, step=5.1, steps=1, stop_error=0.1, rounds=1, train_steps=1, batch_size=2
    )  # eps 0.04, step 0.02
    once = min_min._lowered(net, clean, torch.tensor([0]), torch.zeros_like(clean), search)
    assert torch.allclose(once.flatten(), torch.tensor([0.02, -0.02, 0.02, -0.02]), atol=1e-6)
    again = min_min._lowered(net, clean, torch.tensor([0]), once, search)
    # The third pixel was clipped to 1, the fourth to 0, before the second step.
    assert torch.allclose(again.flatten(), torch.tensor([0.04, -0.04, 0.02, -0.03]), atol=1e-6)
    third = min_min._lowered(net, clean, torch.tensor([0]), again, search)
    assert torch.allclose(third.flatten()[:2], torch.tensor([0.04, -0.04]), atol=1e-6)
    other = min_min._lowered(net, clean, torch.tensor([1]), torch.zeros_like(clean), search)
    assert torch.allclose(other.flatten()[:2], torch.tensor([-0.02, 0.02]), atol=1e-6)


def test_the_mean_of_the_images_of_a_class():
    noise = torch.zeros(3, 1, 1, 1)
    moved = torch.tensor([1.0, 3.0, -4.0]).reshape(3, 1, 1, 1)
    min_min._take_means(noise, torch.tensor([0, 0, 2]), moved)
    assert noise.flatten().tolist() == [2, 0, -4]


def test_noise_is_searched_on_a_share_of_each_class():
    labels = np.repeat([0, 1, 2, 3], [2000, 500, 40, 2])
    counts = np.bincount(labels[min_min._searched(labels, 0.2)])
    assert counts.tolist() == [400, 200, 40, 2]
    assert (min_min._searched(labels, 1.0) == np.arange(2542)).all()


def test_the_progress_says_why_the_search_goes_on_after_the_aim():
    """Noise of 24 grey levels takes 30 rounds of one step of 0.8."""
    search = min_min.Search(
        eps=24, step=0.8, steps=1, stop_error=0.1, rounds=200, train_steps=1, batch_size=2
    )
    said = [min_min._so_far([error] * done, search) for error, done in ((0.0, 27), (0.4, 27), (0.0, 30))]
    assert said[0].endswith("error 0.000, low enough; on to round 30, as the noise grows towards eps=24")
    assert said[1].endswith("error 0.400, to reach 0.1")
    assert "low enough" not in said[2]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"step": 9}, "step=9"), ({"steps": 0}, "steps=0"), ({"rounds": 0}, "rounds=0"), ({"batch_size": 1}, "batch_size=1"),
        ({"train_steps": 0}, "train_steps=0"), ({"stop_error": 1}, "stop_error=1"), ({"device": "cuda:99"}, "cuda:99"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("make", BOTH)
def test_refusals(make, given, says, digits):
    with pytest.raises(BadInput, match=says):
        make(*digits, seed=0, **given)


def test_unknown_surrogates(digits):
    with pytest.raises(UnknownName, match="small_cnn"):
        error_min_noise_classwise(*digits, seed=0, model="small_cn")
    with pytest.raises(BadInput, match="portion=0"):
        error_min_noise_classwise(*digits, seed=0, portion=0)


def test_the_callers_generators_are_not_moved(digits):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    error_min_noise_samplewise(digits[0][:40], digits[1][:40], seed=0, rounds=1, steps=1)
    assert (torch.rand(1), np.random.rand()) == before
