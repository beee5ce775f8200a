import numpy as np
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.scorers.contract import compute
from tracesift.scorers.influence.datainf import datainf


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def dense(probs, labels, hidden):
    error = probs - np.eye(probs.shape[1])[labels]
    return np.einsum("nk,nd->nkd", error, np.hstack([np.ones((len(hidden), 1)), hidden])).reshape(
        len(labels), -1
    )


def drawn(n, m, classes=3, size=4, seed=0, sharpness=1.0):
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(size, classes)) * sharpness
    parts = []
    for count in (n, m):
        hidden = rng.normal(size=(count, size))
        probs = softmax(hidden @ weights)
        labels = np.array([rng.choice(classes, p=p) for p in probs])
        parts += [probs, labels, hidden]
    return parts


def by_explicit_inverses(layer, validation, damping=0.1):
    """Return the mean of inverses and the inverse of the mean, both as they are written."""
    g, v = dense(*layer), dense(*validation).mean(axis=0)
    lam = damping * np.mean([row @ row / row.size for row in g])
    eye = np.eye(v.size)
    mean_of_inverses = np.mean([np.linalg.inv(lam * eye + np.outer(row, row)) for row in g], axis=0)
    inverse_of_mean = np.linalg.inv(lam * eye + np.mean([np.outer(row, row) for row in g], axis=0))
    return -g @ mean_of_inverses @ v, -g @ inverse_of_mean @ v


def test_hand_worked():
    # no features: g = (e, -e) with e = -1/4 and 3/4; |g|^2 = 1/8 and 9/8; lambda = 0.1 * (5/8) / 2 = 1/32
    probs, labels, none = np.full((2, 2), [0.75, 0.25]), np.array([0, 1]), np.zeros((2, 0))
    found = datainf(probs, labels, none, probs[:1], labels[:1], none[:1])
    lam, v = 1 / 32, np.array([-1 / 4, 1 / 4])
    expected = []
    for g in (np.array([-1 / 4, 1 / 4]), np.array([3 / 4, -3 / 4])):
        inner = [
            (v @ other) * (other @ g) / (lam + other @ other)
            for other in (np.array([-1 / 4, 1 / 4]), np.array([3 / 4, -3 / 4]))
        ]
        expected.append(-(v @ g - sum(inner) / 2) / lam)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert found[0] < 0 < found[1]


@pytest.mark.parametrize("damping", [0.01, 0.1, 10])
def test_the_mean_of_inverses(damping):
    arrays = drawn(40, 15)
    expected, _ = by_explicit_inverses(arrays[:3], arrays[3:], damping)
    np.testing.assert_allclose(datainf(*arrays, damping=damping), expected, rtol=1e-6, atol=1e-9)


def test_exact_for_one_sample_and_for_copies_of_one():
    arrays = drawn(1, 9, seed=2)
    _, exact = by_explicit_inverses(arrays[:3], arrays[3:])
    np.testing.assert_allclose(datainf(*arrays), exact, rtol=1e-8)
    copies = [np.repeat(part, 7, axis=0) for part in arrays[:3]]
    np.testing.assert_allclose(datainf(*copies, *arrays[3:]), np.repeat(exact, 7), rtol=1e-8)


def test_how_far_the_approximation_is_off():
    arrays = drawn(40, 15)

    def compared(damping):
        found = datainf(*arrays, damping=damping)
        _, exact = by_explicit_inverses(arrays[:3], arrays[3:], damping)
        ranks = [np.argsort(np.argsort(values)) for values in (found, exact)]
        return np.abs(found - exact).mean() / np.abs(exact).mean(), np.corrcoef(ranks)[0, 1]

    off, rank = compared(0.1)
    assert 5 < off < 20  # not the size of an influence
    assert 0.7 < rank < 0.9
    off, rank = compared(100)
    assert off < 0.02
    assert rank > 0.99


def test_sign_and_wrong_labels(clusters, auroc):
    """A step along a harmful sample's own descent raises the validation loss."""
    x, labels, true = clusters(samples=500, rate=0.2)
    weights = np.linalg.lstsq(x, np.eye(5)[true], rcond=None)[0] * 3
    probs = softmax(x @ weights)
    arrays = {
        "probs_last": probs[:400], "labels": labels[:400], "embedding": x[:400],
        "val_probs_last": probs[400:], "val_labels": true[400:], "val_embedding": x[400:],
    }  # fmt: skip
    found = compute(["datainf"], arrays).to_series().to_numpy()
    wrong = (labels != true)[:400]
    assert auroc(found, wrong) > 0.95
    assert found[~wrong].mean() < 0 < found[wrong].mean()

    def validation_loss(step, i):
        error = probs[i] - np.eye(5)[labels[i]]
        logits = x[400:] @ (weights - step * np.outer(x[i], error)) - step * error
        return -np.log(softmax(logits)[np.arange(100), true[400:]]).mean()

    for i in (int(found.argmax()), int(found.argmin())):
        assert np.sign(validation_loss(1e-3, i) - validation_loss(0, i)) == np.sign(found[i])


def test_same_bytes_in_any_order():
    arrays = drawn(700, 90, classes=4, size=6, seed=5)
    found = datainf(*arrays)
    order, val_order = np.random.default_rng(1).permutation(700), np.random.default_rng(2).permutation(90)
    again = datainf(*(part[order] for part in arrays[:3]), *(part[val_order] for part in arrays[3:]))
    assert again.tobytes() == found[order].tobytes()
    fortran = datainf(*(np.asfortranarray(part) for part in arrays))
    assert fortran.tobytes() == found.tobytes()


def test_two_classes_one_validation_sample_zero_features_and_copies():
    arrays = drawn(30, 1, classes=2, size=2, seed=6)
    expected, _ = by_explicit_inverses(arrays[:3], arrays[3:])
    np.testing.assert_allclose(datainf(*arrays), expected, rtol=1e-6)
    bare = [part * 0 if part.ndim == 2 and part.shape[1] == 4 else part for part in drawn(20, 5)]
    expected, _ = by_explicit_inverses(bare[:3], bare[3:])
    np.testing.assert_allclose(datainf(*bare), expected, rtol=1e-6, atol=1e-9)
    twice = [np.r_[part, part[[4]]] for part in arrays[:3]]
    found = datainf(*twice, *arrays[3:])
    assert found[4] == found[-1]


def test_missing_rows_perfect_fits_and_refusals():
    arrays = drawn(12, 5)
    whole = datainf(*(np.delete(part, 3, axis=0) for part in arrays[:3]), *(part[1:] for part in arrays[3:]))
    arrays[0][3], arrays[5][0, 0] = np.nan, np.nan
    found = datainf(*arrays)
    assert np.isnan(found[3])
    np.testing.assert_array_equal(np.delete(found, 3), whole)
    probs, labels, hidden = arrays[:3]
    probs[5] = np.eye(3)[labels[5]]
    assert datainf(*arrays)[5] == 0
    fitted = np.eye(3)[labels]
    assert np.isnan(datainf(fitted, labels, hidden, *arrays[3:])).all()
    assert datainf(probs[:0], labels[:0], hidden[:0], *arrays[3:]).shape == (0,)
    with pytest.raises(BadInput, match="no validation sample"):
        datainf(probs, labels, hidden, *(part[:0] for part in arrays[3:]))
    for damping in (0, -1, float("nan")):
        with pytest.raises(BadInput, match="above 0"):
            datainf(*arrays, damping=damping)
