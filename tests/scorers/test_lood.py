import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers import arrays as borders
from tracesift.scorers.contract import compute
from tracesift.scorers.influence import lood as module
from tracesift.scorers.influence.lood import leave_one_out_changes, leave_one_out_distance, lood


def posterior(kernel, targets, noise, cross, own):
    """Mean (K,) and variance of a Gaussian process at one place."""
    solved = np.linalg.solve(kernel + noise * np.eye(len(kernel)), np.c_[targets, cross])
    return cross @ solved[:, :-1], own - cross @ solved[:, -1]


def refitted(kernel, targets, noise, distance):
    """Fit with all samples and, from nothing, without each."""
    out = []
    for i in range(len(kernel)):
        rest = np.delete(np.arange(len(kernel)), i)
        mean, variance = posterior(kernel, targets, noise, kernel[i], kernel[i, i])
        mean_out, variance_out = posterior(
            kernel[np.ix_(rest, rest)], targets[rest], noise, kernel[i, rest], kernel[i, i]
        )
        gap = ((mean - mean_out) ** 2).sum()
        if distance == "mean":
            out.append(gap)
        else:  # of the posterior without the sample from that with it, as in the authors' code
            classes = targets.shape[1]
            ratio = variance_out / variance
            out.append((classes * (ratio - 1 - np.log(ratio)) + gap / variance) / 2)
    return np.array(out)


def centred(labels):
    return np.eye(labels.max() + 1)[labels] - 1 / (labels.max() + 1)


def drawn(n, size=3, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, size)), rng.integers(0, classes, n)


def kernels(x, noise=0.05):
    """Both kernels with their noise, written as they are defined."""
    linear = 1 + x @ x.T
    squares = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    b = np.median(np.sqrt(squares[np.triu_indices(len(x), 1)]))
    return {
        "linear": (linear, noise * np.diagonal(linear).mean()),
        "rbf": (np.exp(-squares / (2 * b**2)), noise),
    }


def test_hand_worked():
    # kernel 1 everywhere, s^2 = 1 (the noise is relative to k = 1): f = (y1 + y2) / 3, without one y2 / 2
    x, labels = np.zeros((2, 1)), np.array([0, 1])  # targets +-1/2 in both columns: f = 0, without 1: -1/4
    np.testing.assert_allclose(lood(x, labels, noise=1.0), [2 * 0.25**2] * 2, rtol=1e-5)
    # variances 1/3 and 1/2
    kl = (2 * (3 / 2 - 1 - np.log(3 / 2)) + 2 * 0.25**2 / (1 / 3)) / 2
    np.testing.assert_allclose(lood(x, labels, noise=1.0, distance="kl"), [kl] * 2, rtol=1e-5)


@pytest.mark.parametrize("distance", ["mean", "kl"])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("seed", [0, 1])
def test_against_explicit_refits(kernel, distance, seed):
    x, labels = drawn(25, seed=seed)
    matrix, noise = kernels(x)[kernel]
    expected = refitted(matrix, centred(labels), noise, distance)
    np.testing.assert_allclose(
        lood(x, labels, kernel=kernel, distance=distance), expected, rtol=6e-6, atol=1e-12
    )


@pytest.mark.parametrize("distance", ["mean", "kl"])
def test_any_kernel_to_machine_precision(distance):
    rng = np.random.default_rng(3)
    root = rng.normal(size=(30, 40))
    kernel, targets = root @ root.T / 40, rng.normal(size=(30, 2))
    found = leave_one_out_distance(kernel, targets, 0.3, distance=distance)
    np.testing.assert_allclose(found, refitted(kernel, targets, 0.3, distance), rtol=1e-10)


def test_changes_elsewhere_against_explicit_refits():
    rng = np.random.default_rng(4)
    root = rng.normal(size=(26, 30))
    whole, targets = root @ root.T, rng.normal(size=(20, 3))
    kernel, queries = whole[:20, :20], whole[20:, :20]
    found = leave_one_out_changes(kernel, queries, targets, 2.0)
    for q in range(6):
        mean, _ = posterior(kernel, targets, 2.0, queries[q], 0)
        for i in range(20):
            rest = np.delete(np.arange(20), i)
            out, _ = posterior(kernel[np.ix_(rest, rest)], targets[rest], 2.0, queries[q, rest], 0)
            np.testing.assert_allclose(found[q, i], mean - out, atol=1e-12)
    own = leave_one_out_changes(kernel, kernel, targets, 2.0)[np.arange(20), np.arange(20)]
    np.testing.assert_allclose((own**2).sum(axis=1), leave_one_out_distance(kernel, targets, 2.0), rtol=1e-10)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("distance", ["mean", "kl"])
def test_wrong_labels_are_memorised(kernel, distance, clusters, auroc):
    x, labels, true = clusters(samples=300, rate=0.15, spread=0.5)
    params = {"lood": {"kernel": kernel, "distance": distance}}
    found = compute(["lood"], {"embedding": x, "labels": labels}, params=params).to_series().to_numpy()
    assert auroc(found, labels != true) > 0.95


def test_copies_speak_for_one_another_and_loners_for_themselves():
    x, labels = drawn(60, seed=5)
    x[:20], labels[:20] = x[0], labels[0]
    x[59] = 40
    found = lood(x, labels, kernel="rbf", bandwidth=1.0)
    assert found[:20].max() < 0.2 * found[20:].min()
    # alone, its own label is all that it is predicted from: f = y / (1 + s^2), and 0 without it
    np.testing.assert_allclose(found[59], (1 / 1.05) ** 2 * 2 / 3, rtol=1e-5)
    np.testing.assert_array_equal(found[:20], np.full(20, found[0]))


def test_same_bytes_in_any_order_and_any_block(monkeypatch):
    x, labels = drawn(500, size=7, classes=4, seed=6)
    x = x.astype(np.float32)
    order = np.random.default_rng(1).permutation(500)
    found = {kernel: lood(x, labels, kernel=kernel) for kernel in ("linear", "rbf")}
    for kernel, values in found.items():
        assert lood(x[order], labels[order], kernel=kernel).tobytes() == values[order].tobytes()
    for elements in (1, 333):
        monkeypatch.setattr(
            module, "row_blocks", lambda n, w, e=elements: borders.row_blocks(n, w, elements=e)
        )
        assert lood(x, labels).tobytes() == found["linear"].tobytes()


def test_degenerate_shapes():
    one = np.zeros(3, dtype=int)
    assert lood(np.ones((3, 2)), one).tolist() == [0, 0, 0]  # one class: nothing to tell
    assert lood(np.ones((0, 2)), one[:0]).shape == (0,)
    for kernel in ("linear", "rbf"):
        assert lood(np.ones((1, 2)), np.array([1]), kernel=kernel)[0] > 0
    pair = lood(np.zeros((4, 2)), np.array([0, 1, 0, 1]))  # zero features: the bias alone
    expected = refitted(np.ones((4, 4)), centred(np.array([0, 1, 0, 1])), 0.05, "mean")
    np.testing.assert_allclose(pair, expected, rtol=6e-6)
    x, labels = drawn(12)
    gone = x.copy()
    gone[[2, 7], 0] = [np.nan, np.inf]
    found, there = lood(gone, labels), np.delete(np.arange(12), [2, 7])
    assert np.flatnonzero(np.isnan(found)).tolist() == [2, 7]
    np.testing.assert_array_equal(found[there], lood(x[there], labels[there]))
    wide = np.random.default_rng(7).normal(size=(10, 50))
    expected = refitted(*_linear(wide, labels[:10]), "mean")
    np.testing.assert_allclose(lood(wide, labels[:10]), expected, rtol=6e-6)


def _linear(x, labels):
    kernel, noise = kernels(x)["linear"]
    return kernel, centred(labels), noise


def test_refusals():
    x, labels = drawn(8)
    for wrong, words in (
        ({"kernel": "ntk"}, "'linear' or 'rbf'"), ({"distance": "max"}, "'mean' or 'kl'"), ({"noise": 0}, "above 0"),
        ({"kernel": "rbf", "bandwidth": -1}, "bandwidth is above 0"), ({"noise": float("inf")}, "above 0"),
        ({"kernel": "rbf", "max_samples": 7}, "kernel='linear'"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            lood(x, labels, **wrong)
    with pytest.raises(BadInput, match="name a bandwidth"):
        lood(np.ones((5, 2)), labels[:5], kernel="rbf")
