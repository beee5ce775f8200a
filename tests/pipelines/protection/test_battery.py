"""What holds for every generator of images: budget and range after rounding, the same bytes, in any order."""

import inspect

import numpy as np
import pytest

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.protection.contract import find, names
from tracesift.pipelines.protection.grey_levels import content_order, perturbed

IMAGES = [name for name in names() if find(name).kind == "image"]
BOUNDED = [name for name in IMAGES if "eps" in find(name).defaults]
QUICK = {
    "error_min_noise_samplewise": {"rounds": 2, "steps": 3, "step": 2.0},
    "error_min_noise_classwise": {"rounds": 3, "steps": 3, "step": 2.0},
    "bayes_error_noise": {"rounds": 1, "epochs": 1, "steps": 2, "step": 8.0},
}
SETS = {  # channels, height, width, images of each class
    "grey 8x8, K=2": (1, 8, 8, [15, 15]),
    "colour 12x9, K=3, one class of 2": (3, 12, 9, [14, 2, 10]),
    "grey 28x28, K=4": (1, 28, 28, [6, 6, 6, 6]),
}


def images(kind="grey 8x8, K=2", seed=0, form="uint8"):
    """Noise images that reach both ends of the range, with an exact twin pair; labels not in order."""
    channels, height, width, sizes = SETS[kind]
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    pixels = rng.integers(-40, 300, (len(labels), channels, height, width)).clip(0, 255).astype(np.uint8)
    twins = np.flatnonzero(labels == 0)[:2]
    pixels[twins[1]] = pixels[twins[0]]
    if form == "uint8":
        return pixels, labels
    off_grid = 0.3 if form == "off the grid" else 0.0
    return np.clip((pixels + off_grid) / 255, 0, 1).astype(np.float32), labels


def run(name, pixels, labels, seed=0, **given):
    known = find(name)
    seeded = {"seed": seed} if known.takes("seed") else {}
    return known.function(pixels, labels, **seeded, **{**QUICK.get(name, {}), **given})


def change(made, pixels):
    scale = 255 if pixels.dtype != np.uint8 else 1
    return made.inputs.astype(np.float64) - pixels.astype(np.float64) * scale


@pytest.mark.parametrize("form", ["uint8", "off the grid"])
@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("name", BOUNDED)
def test_the_budget_holds_after_rounding(name, kind, form):
    pixels, labels = images(kind, form=form)
    for eps in (3.0, 8.0):
        made = run(name, pixels, labels, eps=eps, **({"step": eps} if name == "bayes_error_noise" else {}))
        assert made.inputs.dtype == np.uint8
        assert made.inputs.shape == pixels.shape
        moved = change(made, pixels)
        if name == "lsp":
            size = np.sqrt((moved**2).mean((1, 2, 3)))
            assert size.max() <= eps + 1e-3
            assert size.mean() > 0.5 * eps
        else:
            assert np.abs(moved).max() <= eps + 1e-3
            assert np.abs(moved).max() > eps / 2  # the budget is used, too
        assert np.abs(moved).mean() > 0.2


@pytest.mark.parametrize("name", IMAGES)
def test_floats_and_bytes_are_the_same_images(name):
    pixels, labels = images()
    floats = images(form="floats")[0]
    made = run(name, pixels, labels)
    assert (made.inputs == run(name, floats, labels).inputs).all()
    assert pixels.base is None
    assert (pixels == images()[0]).all()  # what was given is left as it was


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("name", IMAGES)
def test_the_same_bytes_in_any_order_and_others_for_another_seed(name, kind):
    pixels, labels = images(kind)
    made = run(name, pixels, labels)
    again = run(name, pixels, labels)
    assert (made.inputs == again.inputs).all()
    assert made.report == again.report
    order = np.random.default_rng(1).permutation(len(labels))
    shuffled = run(name, pixels[order], labels[order])
    assert shuffled.report == made.report
    ours, theirs = made.inputs[order], shuffled.inputs
    same = (ours == theirs).all((1, 2, 3))
    assert (~same).sum() in (0, 2)  # a pair of twins may change places
    assert sorted(map(bytes, ours[~same])) == sorted(map(bytes, theirs[~same]))
    if find(name).takes("seed"):
        assert (run(name, pixels, labels, seed=1).inputs != made.inputs).mean() > 0.1


@pytest.mark.parametrize("name", IMAGES)
def test_classes_that_do_not_occur_and_one_image_a_class(name):
    pixels, labels = images()
    made = run(name, pixels[labels == 1], labels[labels == 1], num_classes=4)
    assert (made.inputs != pixels[labels == 1]).any()
    pair = np.array([np.flatnonzero(labels == 0)[2], np.flatnonzero(labels == 1)[0]])
    made = run(name, pixels[pair], labels[pair])
    assert made.inputs.shape == pixels[pair].shape
    assert name == "bayes_error_noise" or (made.inputs != pixels[pair]).any((1, 2, 3)).all()


@pytest.mark.parametrize("name", IMAGES)
def test_refusals(name):
    pixels, labels = images()
    wrong = [
        ((pixels[:, 0], labels), r"\(N, C, H, W\) is needed"),
        ((pixels.transpose(0, 2, 3, 1), labels), "images of 8 channels"),
        ((pixels.astype(np.int64), labels), "give uint8, or floats"),
        ((pixels.astype(np.float32), labels), "divide grey levels by 255"),
        ((pixels, labels[:-1]), "class indices are needed"),
        ((pixels, labels.astype(float)), "class indices are needed"),
        ((pixels, labels - 1), "start at 0"),
        ((pixels, np.zeros_like(labels)), "needs two"),
    ]
    for given, says in wrong:
        with pytest.raises(BadInput, match=says):
            run(name, *given)
    with pytest.raises(BadInput, match="indices of 1 classes"):
        run(name, pixels, labels, num_classes=1)
    if name in BOUNDED:
        for eps in (0.5, 0, -8, 256, float("nan")):
            with pytest.raises(BadInput, match="eps="):
                run(name, pixels, labels, eps=eps)


def test_every_generator_says_what_it_is():
    for name in names():
        known = find(name)
        assert known.summary.endswith((".", "once; nothing else changes."))
        assert known.reference
        assert inspect.signature(known.function).parameters.keys() >= known.defaults.keys()
        assert not {"seed", "num_classes", "device", "progress"} & known.defaults.keys()
    assert [name for name in names() if find(name).experimental] == ["bayes_error_noise"]
    with pytest.raises(UnknownName, match="did you mean 'class_patches'"):
        find("class_patch")


def test_rounding_keeps_the_budget_against_what_was_given():
    """By hand: 0.4 of a level off the grid, eps 2: 102.4 may become 101 to 104, not 100 nor 105."""
    given = np.full((1, 1, 1, 4), 102.4 / 255)
    added = np.array([[[[-2.0, -2.4, 2.0, 9.0]]]])
    assert perturbed(given, added, eps=2).ravel().tolist() == [101, 101, 104, 104]
    assert perturbed(given, added).ravel().tolist() == [100, 100, 104, 111]
    ends = np.array([0, 255, 3, 250], dtype=np.uint8).reshape(1, 1, 1, 4)
    assert perturbed(ends, np.array([[[[-5.0, 5.0, -5.0, 5.0]]]]), eps=8).ravel().tolist() == [0, 255, 0, 255]


def test_content_order_knows_no_positions():
    pixels, labels = images()
    order = np.random.default_rng(3).permutation(len(labels))
    ours, theirs = content_order(pixels, labels), content_order(pixels[order], labels[order])
    assert (pixels[ours] == pixels[order][theirs]).all()
    assert (labels[ours] == labels[order][theirs]).all()
