import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.scorers.contract import compute
from tracesift.scorers.noise.neighbors.knn_label_disagreement import knn_label_disagreement

LINE = np.array([[np.cos(a), np.sin(a)] for a in (0.0, 0.1, 0.25, 1.0, 1.1)])
"""Five directions: two, one a little off, two more."""


def test_hand_worked():
    labels = np.array([0, 0, 1, 1, 1])
    assert knn_label_disagreement(LINE, labels, k=1).tolist() == [0, 0, 1, 0, 0]
    assert knn_label_disagreement(LINE, labels, k=2).tolist() == [0.5, 0.5, 1, 0, 0]
    assert knn_label_disagreement(LINE, labels, k=9).tolist() == [
        0.75,
        0.75,
        0.5,
        0.5,
        0.5,
    ]  # the four there are


@pytest.mark.parametrize("k", [1, 5, 30])
def test_leave_one_out_against_the_reference_library(clusters, k):
    x, labels, _ = clusters(samples=200, spread=1.0)
    expected = []
    for i in range(len(x)):
        rest = np.delete(np.arange(len(x)), i)
        model = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(x[rest], labels[rest])
        expected.append(1 - model.predict_proba(x[[i]])[0, list(model.classes_).index(labels[i])])
    np.testing.assert_allclose(knn_label_disagreement(x, labels, k=k), expected, atol=1e-12)


def test_a_trusted_set_beside_the_data(clusters):
    x, labels, true = clusters(samples=300, spread=0.8)
    data, trusted = slice(0, 200), slice(200, 300)
    model = KNeighborsClassifier(7, metric="cosine", algorithm="brute").fit(x[trusted], true[trusted])
    expected = 1 - model.predict_proba(x[data])[np.arange(200), labels[data]]
    signals = {
        "embedding": x[data], "labels": labels[data], "val_embedding": x[trusted], "val_labels": true[trusted],
    }  # fmt: skip
    params = {"knn_label_disagreement": {"k": 7, "reference": "validation"}}
    found = compute(["knn_label_disagreement"], signals, params=params).to_series().to_numpy()
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_trusted_rows_of_the_data_are_judged_by_one_another(clusters):
    x, labels, _ = clusters(samples=120, spread=0.8)
    trusted = list(range(0, 120, 3))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (unit @ unit.T).round(6)
    expected = []
    for i in range(120):
        others = [j for j in trusted if j != i]
        near = sorted(others, key=lambda j, i=i: (-cosines[i, j], j))[:4]
        expected.append(sum(labels[j] != labels[i] for j in near) / 4)
    np.testing.assert_allclose(
        knn_label_disagreement(x, labels, k=4, reference=trusted), expected, atol=1e-12
    )
    few = knn_label_disagreement(
        x, labels, k=4, reference=[0, 5]
    )  # each of the two has one witness, others two
    unlike = labels[0] != labels[5]
    assert few[0] == few[5] == float(unlike)
    assert np.isnan(knn_label_disagreement(x, labels, reference=[7])[7])


def test_copies_of_a_trusted_sample_are_its_witnesses():
    x = np.ones((5, 2))  # all tied: the smallest rows, without oneself
    labels = np.array([0, 1, 1, 1, 1])
    assert knn_label_disagreement(x, labels, k=2).tolist() == [1, 0.5, 0.5, 0.5, 0.5]
    everyone = knn_label_disagreement(x, labels, k=2, reference=range(5))
    assert everyone.tolist() == knn_label_disagreement(x, labels, k=2).tolist()


def test_the_background_near_an_overlooked_sample_is_suspect():
    x = np.array([[np.cos(a), np.sin(a)] for a in (0.0, 0.05, 0.2, 1.5, 1.6, 0.3)])
    labels = np.array([1, 0, 0, 0, 1, 2])
    probs = np.array(
        [[0.9, 0.1, 0], [0.9, 0.1, 0], [0.9, 0.1, 0], [0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0, 0.4]]
    )
    # The first and the last sample are taken for the background; the fifth is not.
    one = knn_label_disagreement(x, labels, probs, k=1, anchors=0)
    np.testing.assert_array_equal(one, [np.nan, 1, 1, 0, np.nan, np.nan])
    two = knn_label_disagreement(x, labels, probs, k=2, anchors=0)
    np.testing.assert_array_equal(two, [np.nan, 2, 2, 0, np.nan, np.nan])
    probs[0] = np.nan  # without a prediction nothing is known to be overlooked
    without = knn_label_disagreement(x, labels, probs, k=1, anchors=0)
    np.testing.assert_array_equal(without, [np.nan, 0, 1, 0, np.nan, np.nan])


def test_what_is_missing_and_what_does_not_exist_is_said():
    labels, probs = np.array([0, 0, 1, 1, 1]), np.full((5, 2), 0.5)
    with pytest.raises(MissingSignal, match="'val_embedding'"):
        knn_label_disagreement(LINE, labels, reference="validation")
    with pytest.raises(MissingSignal, match="'probs_oos'"):
        knn_label_disagreement(LINE, labels, anchors=0)
    for settings, words in (
        ({"k": 0}, "at least 1"), ({"reference": "trusted"}, "list of trusted rows"), ({"reference": [5]}, "0 to 4"),
        ({"reference": []}, "at least one"), ({"anchors": 2}, "0 to 1"), ({"anchors": 0, "reference": [1]}, "others"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=words):
            knn_label_disagreement(LINE, labels, probs, **settings)


def test_rows_without_a_vector():
    x = np.concatenate([LINE, [[np.nan, 1.0], [0.0, 0.0]]])
    labels = np.array([0, 0, 1, 1, 1, 0, 0])
    for settings in ({}, {"reference": range(7)}):
        found = knn_label_disagreement(x, labels, k=2, **settings)
        np.testing.assert_array_equal(found, [0.5, 0.5, 1, 0, 0, np.nan, np.nan])


def test_wrong_labels_are_suspicious(clusters, auroc):
    x, labels, true = clusters(rate=0.3)
    score = compute(["knn_label_disagreement"], {"embedding": x, "labels": labels}).to_series().to_numpy()
    assert auroc(score, labels != true) > 0.98
    trusted = knn_label_disagreement(x, labels, None, x, true, reference="validation", k=1)
    np.testing.assert_array_equal(trusted, labels != true)


def test_the_intrinsic_strategy_finds_positives_in_the_background(auroc):
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, size=500)
    x = np.eye(4)[true] @ rng.normal(size=(4, 12)) + rng.normal(0, 0.3, size=(500, 12))
    labels = np.where((rng.random(500) < 0.3) & (true > 0), 0, true)  # annotators overlook positives
    blurred = np.where(rng.random(500) < 0.3, 0, true)  # and so does the model
    score = knn_label_disagreement(x, labels, 0.7 * np.eye(4)[blurred] + 0.075, anchors=0)
    assert np.isnan(score[labels != 0]).all()
    assert auroc(score, labels != true) > 0.9
