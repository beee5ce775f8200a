import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select
from tracesift.selectors.gradients.fitted_queries import covering, fitted_queries, logistic_losses


def blobs(n=400, classes=3, width=5, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, n)
    x = rng.normal(size=(n, width)) + 1.2 * rng.normal(size=(classes, width))[label]
    frame = pl.DataFrame({"sample_id": [f"s{i:04d}" for i in range(n)], "label": [f"c{y}" for y in label]})
    return frame, x, label


def scripted(totals):
    """A loss whose sums are told beforehand, over different samples each time; it remembers the weights."""
    rng, seen = np.random.default_rng(1), []

    def losses(vectors, labels, weight, seed):
        values = 0.1 + rng.random(len(labels))
        seen.append(weight)
        return values / values.sum() * totals[len(seen) - 1]

    return losses, seen


def test_the_loop_stops_after_five_rounds_without_a_lower_loss_and_returns_what_made_the_best():
    frame, x, _ = blobs(120)
    totals = [
        50,
        1,
        60,
        9,
        8,
        4,
        7,
        5,
        6,
        4.5,
        5,
        1,
        1,
    ]  # of three first queries, whose losses do not count, and on
    losses, seen = scripted(totals)
    found = fitted_queries(frame, x, losses, size=90, seed=0)
    assert len(seen) == 3 + 8  # 9, 8, 4 and five that are no lower
    np.testing.assert_allclose(
        found.sum(axis=1), totals[:5]
    )  # the coreset before the loss of 4 was made by these
    result = select("autocoreset", frame, budget=90, seed=0, arrays={"loss": found})
    np.testing.assert_array_equal(result["weight"].to_numpy(), seen[5])
    losses, seen = scripted(totals)
    fitted_queries(frame, x, losses, size=90, seed=0, patience=1, queries=1)
    assert len(seen) == 1 + 2  # 1, and 60 that is no lower


def test_caratheodory_ends_where_no_further_query_can_be_matched():
    frame, x, _ = blobs(120)
    falling = 100.0 - np.arange(60)
    for form, calls in (("caratheodory", 7), ("sensitivity", 103)):
        losses, seen = scripted(np.linspace(100, 1, 110) if form == "sensitivity" else falling)
        fitted_queries(frame, x, losses, size=7, seed=0, form=form, per_class=False)
        assert len(seen) == calls  # 6 queries and a constant are what 7 members can match


def test_the_sums_of_every_query_that_was_matched_are_exact():
    frame, x, label = blobs()
    found = fitted_queries(frame, x, logistic_losses, size=60, seed=0)
    result = select("autocoreset", frame, budget=60, seed=0, arrays={"loss": found})
    weight = result["weight"].to_numpy()
    for one in range(3):
        rows = label == one
        np.testing.assert_allclose(found[:, rows] @ weight[rows], found[:, rows].sum(axis=1), rtol=1e-6)
    assert result["reason"].str.contains(f"{len(found)} of {len(found)} queries matched").all()


def test_the_weighted_loss_is_near_that_of_all_data_under_a_fresh_query():
    """Models fitted on other data of the same kind, which the loop has not seen, against uniform samples."""
    frame, x, label = blobs()
    found = fitted_queries(frame, x, logistic_losses, size=60, seed=0)
    weight = select("autocoreset", frame, budget=60, seed=0, arrays={"loss": found})["weight"].to_numpy()
    rng = np.random.default_rng(5)
    uniform = np.zeros((40, 400))
    for row in uniform:
        row[rng.choice(400, 60, replace=False)] = 400 / 60
    ours, theirs = [], []
    for _ in range(20):
        fresh = np.zeros(400)
        fresh[rng.choice(400, 120, replace=False)] = rng.random(120) * 6
        under = logistic_losses(x, label, fresh, 0)
        ours.append(abs(weight @ under / under.sum() - 1))
        theirs.append(np.abs(uniform @ under / under.sum() - 1).mean())
    assert np.median(ours) < 0.5 * np.median(theirs)


def test_first_samples_cover_all_classes_and_differ():
    frame, _, _ = blobs(300)
    codes = np.zeros(300, dtype=int)
    codes[17], codes[40] = 1, 2
    drawn = [covering(frame, codes, 10, 0, draw) for draw in range(3)]
    for weight in drawn:
        assert (weight > 0).sum() == 10
        assert weight.sum() == pytest.approx(300)
        assert weight[17] > 0
        assert weight[40] > 0
    assert not np.array_equal(drawn[0] > 0, drawn[1] > 0)
    assert (covering(frame, codes, 2, 0, 0) > 0).sum() == 2


def test_a_weight_of_two_is_a_sample_twice_and_a_class_not_shown_costs_most():
    _, x, label = blobs(60)
    weight = np.zeros(60)
    weight[:30] = np.arange(30) % 3
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    repeated = np.repeat(np.arange(60), weight.astype(int))
    model = LogisticRegression(C=1.0, max_iter=2000).fit(scaled[repeated], label[repeated])
    expected = -np.log(model.predict_proba(scaled)[np.arange(60), label])
    np.testing.assert_allclose(logistic_losses(x, label, weight, 0), expected, atol=2e-3)
    weight[label == 2] = 0
    assert (logistic_losses(x, label, weight, 0)[label == 2] > 27).all()
    weight[label == 1] = 0
    one = logistic_losses(x, label, weight, 0)
    assert (one[label == 0] == 0).all()
    assert (one[label != 0] > 27).all()


def test_the_order_of_rows_leaves_no_trace_and_own_queries_come_first():
    frame, x, _ = blobs(150)
    rng = np.random.default_rng(2)
    order, own = rng.permutation(150), rng.random((2, 150))
    first = fitted_queries(frame, x, logistic_losses, size=40, seed=0, queries=own)
    np.testing.assert_array_equal(first[:2], own)
    again = fitted_queries(frame[order], x[order], logistic_losses, size=40, seed=0, queries=own[:, order])
    np.testing.assert_array_equal(again, first[:, order])


def test_what_cannot_be_used_is_refused():
    frame, x, _ = blobs(30)

    def asked(losses=logistic_losses, vectors=x, **changed):
        return fitted_queries(frame, vectors, losses, size=9, seed=0, **changed)

    for bad, said in (
        (lambda v, y, w, s: np.zeros(3), r"\(30,\)"),
        (lambda v, y, w, s: ["a"] * 30, "one number a sample"),
        (lambda v, y, w, s: np.full(30, np.nan), "30 of 30 samples are NaN"),
    ):
        with pytest.raises(BadInput, match=said):
            asked(bad)
    with pytest.raises(BadInput, match="queries=0"):
        asked(queries=0)
    with pytest.raises(BadInput, match="patience=0"):
        asked(patience=0)
    holes = x.copy()
    holes[3, 1] = np.nan
    with pytest.raises(BadInput, match="NaN or infinity"):
        asked(vectors=holes)
