import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput
from tracesift.selectors.contract import select
from tracesift.selectors.gradients.autocoreset import (
    best_draw,
    caratheodory,
    drawn_by_sensitivity,
    in_parts,
    inclusion,
)

FORMS = ("caratheodory", "sensitivity", "median_of_means")


def made(n, epochs=6, seed=0, classes=3):
    """Losses that fall at many speeds, as trajectories do; neighbouring checkpoints are nearly the same."""
    rng = np.random.default_rng(seed)
    speed, start = rng.random(n), np.exp(rng.normal(size=n))
    loss = start * np.exp(-3 * np.linspace(0, 1, epochs)[:, None] * speed) + 0.01 * rng.random((epochs, n))
    frame = pl.DataFrame(
        {
            "sample_id": [f"s{i:04d}" for i in range(n)],
            "label": [f"c{y}" for y in rng.integers(0, classes, n)],
        }
    )
    return frame, loss


def lifted(loss):
    return np.vstack([np.ones((1, loss.shape[1])), loss / np.sqrt((loss**2).mean(axis=1, keepdims=True))])


@pytest.mark.parametrize(("n", "epochs"), [(30, 1), (200, 8), (900, 60)])
def test_caratheodory_keeps_the_sums_with_one_more_member_than_columns(n, epochs):
    _, loss = made(n, epochs, seed=n)
    weight = caratheodory(lifted(loss), epochs + 1)
    assert (weight > 0).sum() == epochs + 1
    assert (weight >= 0).all()
    np.testing.assert_allclose(loss @ weight, loss.sum(axis=1), rtol=1e-9)
    assert weight.sum() == pytest.approx(n, rel=1e-12)


@pytest.mark.parametrize("count", [7, 8, 20, 100, 199, 200])
def test_larger_budgets_are_met_exactly_in_parts(count):
    _, loss = made(200)
    weight = in_parts(lifted(loss), count)
    assert (weight > 0).sum() == count
    np.testing.assert_allclose(loss @ weight, loss.sum(axis=1), rtol=1e-9)
    assert weight.max() <= 6 * 200 / count * 7  # no member carries everything


def test_points_that_do_not_span_and_ties_still_give_exact_sizes_and_sums():
    square = np.array(
        [[1.0] * 4, [0, 1, 1, 0], [0, 0, 1, 1]]
    )  # two members leave at once: the third keeps nothing
    weight = caratheodory(square, 3)
    assert (weight > 0).sum() == 3
    np.testing.assert_allclose(square @ weight, square.sum(axis=1), rtol=1e-9)
    copies = np.vstack([np.ones(50), np.tile([2.0, 3.0], 25), np.tile([4.0, 6.0], 25)])
    weight = caratheodory(copies, 3)
    assert (weight > 0).sum() == 3
    np.testing.assert_allclose(copies @ weight, copies.sum(axis=1), rtol=1e-9)
    nothing = np.vstack([np.ones(9), np.zeros(9)])
    assert caratheodory(nothing, 2).sum() == pytest.approx(9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("per_class", [True, False])
@pytest.mark.parametrize("budget", [2, 30, 120])
def test_weights_are_positive_and_add_up_to_all_samples(form, per_class, budget):
    frame, loss = made(120)
    result = select(
        "autocoreset", frame, budget=budget, seed=0, arrays={"loss": loss}, form=form, per_class=per_class
    )
    kept = result.filter(pl.col("role") == "keep")
    assert len(kept) == budget
    assert (kept["weight"] > 0).all()
    assert result["weight"].sum() == pytest.approx(120, rel=1e-12)


def test_selected_classes_keep_their_own_sums_and_weights():
    frame, loss = made(300, epochs=5)
    result = select("autocoreset", frame, budget=60, seed=0, arrays={"loss": loss})
    weight = result["weight"].to_numpy()
    for label in ("c0", "c1", "c2"):
        rows = (frame["label"] == label).to_numpy()
        np.testing.assert_allclose(loss[:, rows] @ weight[rows], loss[:, rows].sum(axis=1), rtol=1e-9)
        assert weight[rows].sum() == pytest.approx(rows.sum(), rel=1e-9)
    assert result["reason"][0].endswith("5 of 5 queries matched, sums over all queries off by up to 0 %")


def test_a_small_budget_matches_fewer_checkpoints_the_last_first_and_says_so():
    frame, loss = made(100, epochs=6)
    result = select("autocoreset", frame, budget=3, seed=0, arrays={"loss": loss}, per_class=False)
    weight = result["weight"].to_numpy()
    assert "2 of 6 queries" in result["reason"][0]
    np.testing.assert_allclose((loss @ weight)[[5, 2]], loss.sum(axis=1)[[5, 2]], rtol=1e-9)
    assert abs((loss @ weight)[0] / loss[0].sum() - 1) > 1e-6
    one = select(
        "autocoreset", frame, budget=30, seed=0, arrays={"loss": loss}, per_class=False, checkpoints=1
    )
    np.testing.assert_allclose(loss[5] @ one["weight"].to_numpy(), loss[5].sum(), rtol=1e-9)


def test_sensitivity_weights_are_unbiased_and_every_draw_has_its_size():
    _, loss = made(25, epochs=3, seed=2)
    points = lifted(loss)
    points[:, 3] *= 40  # one sample that is always drawn
    probability = inclusion(points, 6)
    length = np.linalg.norm(points, axis=0)
    assert probability[3] == 1
    assert probability.sum() == pytest.approx(6)
    free = np.arange(25) != 3
    np.testing.assert_allclose(probability[free] / length[free], 5 / length[free].sum(), rtol=1e-12)
    # over all starts of the draw the mean weight is one: integrate exactly, by many equally spaced starts
    weights = np.array([drawn_by_sensitivity(points, 6, start) for start in (np.arange(4000) + 0.5) / 4000])
    assert ((weights > 0).sum(axis=1) == 6).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.01)
    np.testing.assert_allclose((weights @ points.T).mean(axis=0), points.sum(axis=1), rtol=3e-3)


def test_rows_of_zero_loss_are_drawn_and_divide_nothing():
    frame, loss = made(40)
    loss[:, :30] = 0
    for form in FORMS:
        result = select(
            "autocoreset", frame, budget=20, seed=0, arrays={"loss": loss}, form=form, per_class=False
        )
        assert result["weight"].is_finite().all()
        assert (result["weight"] > 0).sum() == 20


def test_median_of_means_is_nearer_than_a_single_draw():
    _, loss = made(200)
    points, mean = lifted(loss), lifted(loss).mean(axis=1)
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**63, 200).astype(np.uint64)
    weight = best_draw(points, 20, keys)
    assert (weight[weight > 0] == 10).all()
    ours = np.linalg.norm(points @ weight / 200 - mean)
    single = [
        np.linalg.norm(points[:, rng.choice(200, 20, replace=False)].mean(axis=1) - mean) for _ in range(200)
    ]
    assert ours < np.quantile(single, 0.05)


def test_calls_do_not_know_of_each_other():
    frame, loss = made(60)
    first = select("autocoreset", frame, budget=20, seed=0, arrays={"loss": loss})
    select("autocoreset", frame[:30], budget=20, seed=3, arrays={"loss": loss[:, :30]})
    assert first.equals(select("autocoreset", frame, budget=20, seed=0, arrays={"loss": loss}))


def test_what_cannot_be_used_is_refused():
    frame, loss = made(20)
    holes = loss.copy()
    holes[2, 5] = np.nan
    with pytest.raises(BadInput, match="at some checkpoint for 1 of 20 samples"):
        select("autocoreset", frame, budget=5, seed=0, arrays={"loss": holes})
    for checkpoints in (0, 7):
        with pytest.raises(BadInput, match="checkpoints must be 1 to 6"):
            select("autocoreset", frame, budget=5, seed=0, arrays={"loss": loss}, checkpoints=checkpoints)
    with pytest.raises(BadInput, match="form"):
        select("autocoreset", frame, budget=5, seed=0, arrays={"loss": loss}, form="exact")


def test_reasons_say_how_far_all_sums_are_off_and_count_in_words():
    frame, loss = made(30, epochs=4, classes=1)
    frame = frame.with_columns(label=pl.Series(["a"] * 26 + ["b", "b", "b", "c"]))
    result = select("autocoreset", frame, budget=8, seed=0, arrays={"loss": loss})
    weight = result["weight"].to_numpy()
    for label in "abc":
        rows = (frame["label"] == label).to_numpy()
        (said,) = set(result["reason"].filter(rows).str.extract(r": (caratheodory.*)$"))
        members = int((weight[rows] > 0).sum())
        assert f"{members} member{'' if members == 1 else 's'} for {rows.sum()} sample" in said
        if not members:
            assert "off" not in said
            continue
        share = (
            weight[rows] * rows.sum() / weight[rows].sum()
        )  # before the weight of classes without a member
        off = np.abs(loss[:, rows] @ share / loss[:, rows].sum(axis=1) - 1).max()
        assert float(said.split("up to ")[1].removesuffix(" %")) == pytest.approx(
            100 * off, rel=1e-3, abs=1e-4
        )
    one = select("autocoreset", frame[:24], budget=1, seed=0, arrays={"loss": loss[:, :24]}, per_class=False)
    assert "1 member for 24 samples, 0 of 4 queries matched" in one["reason"][0]
    assert "up to 0 %" not in one["reason"][0]
