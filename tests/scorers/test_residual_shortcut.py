"""Small residuals: the views by hand, the discriminant against Bayes' rule, planted signals, row order."""

import gzip

import numpy as np
import pytest
from scipy.ndimage import median_filter
from sklearn.datasets import load_digits

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import find
from tracesift.scorers.unlearnable.residual_analysis import residual_analysis
from tracesift.scorers.unlearnable.residual_shortcut import residual_shortcut
from tracesift.scorers.unlearnable.residual_views import View, local_median, view_of, views_for
from tracesift.scorers.unlearnable.view_separation import FOLDS, distance, lay_out, otsu_cut, separate


def rounded(values):
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def digits():
    """Digits with a sensor's noise floor, so that a planted signal is not visible as "not black"."""
    data = load_digits()
    rng = np.random.default_rng(0)
    images = 25 + 0.8 * data.images * 255 / 16 + rng.normal(0, 5, data.images.shape)
    return images[..., None], data.target.astype(np.int64)


def with_noise(images, labels, share, *, eps=8, seed=1):
    """Add one random +-eps pattern a class to a share of the images; return them and which."""
    rng = np.random.default_rng(seed)
    marked = rng.random(len(images)) < share
    pattern = rng.choice([-eps, eps], size=(10, *images.shape[1:]))
    return rounded(images + marked[:, None, None, None] * pattern[labels]), marked


def test_mean_view_by_hand():
    image = np.full((1, 3, 3, 1), 100, dtype=np.uint8)
    image[0, 1, 1, 0] = 106
    view = View(name="", filter="mean", size=3, core=8)
    # centre: 9 * 106 - (8 * 100 + 106) = 48 ninths; an edge pixel: the centre counts once among its nine
    expected = np.full((3, 3), -6)
    expected[1, 1] = 48
    np.testing.assert_array_equal(view_of(image, view).reshape(3, 3), expected)


def test_coring_drops_what_reaches_the_core():
    image = np.full((2, 5, 5, 1), 100, dtype=np.uint8)
    image[0, 2, 2, 0], image[1, 2, 2, 0] = 109, 110
    kept = view_of(image, View(name="", filter="median", size=3, core=10))
    assert kept[0].sum() == 9
    assert not kept[1].any()


def test_impulse_view_keeps_the_sign_of_outliers_only():
    image = np.full((1, 5, 5, 1), 120, dtype=np.uint8)
    image[0, 1, 1, 0], image[0, 3, 3, 0], image[0, 3, 1, 0] = 255, 10, 200
    (impulses,) = [view for view in views_for(5, 5) if view.filter == "impulse"]
    found = view_of(image, impulses).reshape(5, 5)
    assert found[1, 1] == 1
    assert found[3, 3] == -1
    assert np.abs(found).sum() == 2


@pytest.mark.parametrize("size", [3, 5])
def test_local_median_is_scipys(size):
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 7, 3), dtype=np.uint8)
    expected = median_filter(images, size=(1, size, size, 1), mode="nearest")
    np.testing.assert_array_equal(local_median(images, size), expected)


def test_otsu_by_hand():
    assert otsu_cut(np.array([5.0, 0.0, 1.0, 6.0])) == 3.0
    assert otsu_cut(np.array([0.0, 0.1, 0.2, 0.3, 9.0])) == pytest.approx(4.65)
    assert otsu_cut(np.array([0.0, 0.1, 0.2, 0.3, 9.0]), smallest=2) == pytest.approx(0.25)
    assert otsu_cut(np.ones(4)) == 1.0


def test_distance_by_hand():
    values = np.array([0.0, 2.0, 10.0, 12.0])  # squares within: 1 + 1 + 1 + 1, two degrees of freedom
    assert distance(values, values > 5) == pytest.approx(10 / np.sqrt(2))
    assert distance(values, values > 11) == 0.0


def test_unsplit_score_is_a_held_out_discriminant():
    """Against Bayes' rule on whitened data with the same ridge, fitted on the other folds."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 40)
    images = rng.integers(0, 256, (120, 2, 3, 1), dtype=np.uint8)
    layout = lay_out(images, labels)
    view = (rng.integers(-20, 21, (120, 6)) + 8 * labels[layout.order][:, None]).astype(np.int8)
    found = separate(view, layout, ridge=0.5)
    fold = np.concatenate([np.repeat(np.arange(FOLDS), np.diff(row)) for row in layout.bounds])
    given = labels[layout.order]
    expected = np.empty(120)
    for held in range(FOLDS):
        train, x = fold != held, view.astype(np.float64)
        scatter = np.zeros((6, 6))
        for k in range(3):
            centred = x[train & (given == k)] - x[train & (given == k)].mean(0)
            scatter += centred.T @ centred
        ridged = scatter + 0.5 * np.trace(scatter) / 6 * np.eye(6)
        # whitened by that covariance, the classes are round Gaussians and Bayes' rule is enough
        whiten = np.linalg.inv(np.linalg.cholesky(ridged / (train.sum() - 3)))
        z = x @ whiten.T
        means = np.stack([z[train & (given == k)].mean(0) for k in range(3)])
        prior = np.log(np.bincount(given[train]) / train.sum())
        log_p = prior - 0.5 * ((z[:, None] - means) ** 2).sum(-1)
        p = np.exp(log_p - log_p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        own = p[np.arange(120), given]
        expected[~train] = np.log(own / (1 - own))[~train]
    for k in range(3):
        expected[given == k] -= np.median(expected[given == k])
    np.testing.assert_allclose(found.unsplit, expected, rtol=1e-6, atol=1e-6)


def test_folds_hold_every_class_and_twins_together(digits):
    images, labels = rounded(digits[0])[:200], digits[1][:200]
    images, labels = np.concatenate([images, images[:30]]), np.concatenate([labels, labels[:30]])
    layout = lay_out(images, labels)
    assert sorted(layout.order) == list(range(230))
    assert (np.diff(layout.bounds, axis=1) >= 2).all()
    fold = np.empty(230)
    fold[layout.order] = np.concatenate([np.repeat(np.arange(FOLDS), np.diff(row)) for row in layout.bounds])
    np.testing.assert_array_equal(fold[:30], fold[200:])


def test_planted_signal_ranks_above_the_rest(digits, auroc):
    images, marked = with_noise(*digits, 0.5)
    assert auroc(residual_shortcut(images, digits[1]), marked) > 0.97
    assert find("residual_shortcut").direction == "suspicious"


def test_one_pixel_signal_is_seen(digits, auroc):
    """A single far-out pixel at one place a class; the cored views cannot see it."""
    images, labels = rounded(digits[0]), digits[1]
    rng = np.random.default_rng(2)
    marked = rng.random(len(images)) < 0.3
    places = rng.permutation(64)[:10]
    flat = images.reshape(len(images), 64).copy()
    flat[marked, places[labels[marked]]] = np.where(flat[marked, places[labels[marked]]] < 128, 255, 0)
    assert auroc(residual_shortcut(flat.reshape(images.shape), labels), marked) > 0.9


def test_random_marks_are_not_found(digits, auroc):
    marks = np.random.default_rng(4).random(len(digits[1])) < 0.5
    assert abs(auroc(residual_shortcut(rounded(digits[0]), digits[1]), marks) - 0.5) < 0.05


def test_row_order_and_class_numbers_leave_no_trace(digits):
    images, _ = with_noise(*digits, 0.5)
    images, labels = images[:600], digits[1][:600]
    order = np.random.default_rng(5).permutation(600)
    score = residual_shortcut(images, labels)
    np.testing.assert_allclose(
        residual_shortcut(images[order], labels[order]), score[order], rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(residual_shortcut(images, labels + 3), score, rtol=0, atol=1e-9)


def test_colour_counts_every_channel(digits, auroc):
    grey, labels = digits
    colour = np.repeat(grey, 3, axis=3) + np.random.default_rng(6).normal(0, 1, (*grey.shape[:3], 3))
    images, marked = with_noise(colour, labels, 0.4)
    blue_only = rounded(colour)
    blue_only[..., 2] = images[..., 2]
    assert auroc(residual_shortcut(blue_only, labels), marked) > 0.9


def test_tiny_classes_are_nan_and_no_guess(digits):
    images, labels = rounded(digits[0])[:300].copy(), digits[1][:300].copy()
    labels[:5], labels[5:10] = 11, 12
    images[5:10] = images[5]  # five copies of one image are one
    labels[10:17] = 13
    score = residual_shortcut(images, labels)
    assert np.isnan(score[:10]).all()
    assert np.isfinite(score[10:]).all()


def test_one_class_alone_is_nan():
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    assert np.isnan(residual_shortcut(images, np.zeros(50, dtype=np.int64))).all()


def test_blank_images_give_zero_everywhere():
    images = np.zeros((60, 8, 8, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(60)  # distinct, yet without variation below the cores
    images[:, 4:, :, :] = 0
    score = residual_shortcut(images, np.arange(60) % 2)
    assert np.isfinite(score).all()


def test_a_class_without_residual_is_scored_whichever_it_is():
    rng = np.random.default_rng(0)
    for flat in range(3):
        labels = np.arange(300) % 3
        images = rng.integers(100, 140, (300, 8, 8, 1)).astype(np.uint8)
        images[labels == flat] = 120
        images[labels == flat, 0, 0, 0] = np.arange(100)  # distinct, and nothing else
        assert np.isfinite(residual_shortcut(images, labels)).all()


def test_large_images_are_seen_through_their_centre(auroc, monkeypatch):
    monkeypatch.setattr("tracesift.scorers.unlearnable.residual_analysis.WINDOW", 400)  # quicker
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 240)
    images = 120 + rng.normal(0, 5, (240, 40, 64, 2))
    marked = rng.random(240) < 0.5
    pattern = rng.choice([-8, 8], size=(3, 40, 64, 2))
    images = rounded(images + marked[:, None, None, None] * pattern[labels])
    assert auroc(residual_shortcut(images, labels), marked) > 0.95


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (np.zeros((4, 8, 8), dtype=np.uint8), np.zeros(4, dtype=int), "uint8"),
        (np.zeros((4, 8, 8, 1)), np.zeros(4, dtype=int), "float64"),
        (np.zeros((4, 8, 8, 1), dtype=np.uint8), np.zeros(3, dtype=int), r"\(3,\)"),
    ],
)
def test_wrong_arrays_are_refused(images, labels, words):
    with pytest.raises(BadInput, match=words):
        residual_shortcut(images, labels)


@pytest.mark.data
def test_fashion_mnist_mixtures(real_data, auroc):
    """4x4 patches of +-8 in half and in a tenth of 4,000 images, on a sensor noise floor."""
    folder = real_data / "fashion_mnist"
    with gzip.open(folder / "train-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 4000 * 784), np.uint8, offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(folder / "train-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + 4000), np.uint8, offset=8).astype(np.int64)
    rng = np.random.default_rng(0)
    images = 25.5 + 0.8 * pixels + rng.normal(0, 5, pixels.shape)
    patches = np.kron(rng.choice([-8, 8], (10, 7, 7)), np.ones((4, 4)))[..., None]
    for share, least in ((0.5, 0.97), (0.1, 0.9)):
        marked = rng.random(4000) < share
        found = residual_analysis(rounded(images + marked[:, None, None, None] * patches[labels]), labels)
        assert found.verdict["verdict"] == "poisoned"
        assert auroc(found.score, marked) >= least
    decoy = rounded(images + (rng.random(4000) < 0.5)[:, None, None, None] * patches[rng.permutation(labels)])
    assert residual_analysis(decoy, labels).verdict["verdict"] != "poisoned"
    assert residual_analysis(rounded(images), labels).verdict["verdict"] == "clean"
