import numpy as np
import polars as pl
import pytest
from scipy.linalg import sqrtm

from tracesift.catalog.schema import BadInput, MissingSignal
from tracesift.selectors.contract import select
from tracesift.selectors.geometry.frechet import FrechetDistance, moments
from tracesift.selectors.geometry.snp_search import equal_clusters


def by_definition(x, y, ridge):
    a, b = np.cov(x.T) + ridge * np.eye(x.shape[1]), np.cov(y.T) + ridge * np.eye(x.shape[1])
    return ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))


def kept(result):
    return set(np.flatnonzero(result["role"] == "keep"))


@pytest.mark.parametrize(("n", "m", "ridge"), [(50, 80, 1e-6), (9, 40, 0.1), (200, 7, 0.1)])
def test_frechet_distance_is_its_definition(n, m, ridge):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(n, 6)) @ rng.normal(size=(6, 6)), rng.normal(size=(m, 6)) + 1
    ours = FrechetDistance(y, ridge)
    assert ours.of(moments(x)) == pytest.approx(by_definition(x, y, ridge), rel=1e-6)
    # fewer vectors than dimensions
    assert np.isfinite(ours.of(moments(x[:3])))
    assert ours.of(moments(x[:1])) == pytest.approx(
        ((x[0] - y.mean(axis=0)) ** 2).sum() + 6 * ridge + np.trace(np.cov(y.T)) + 6 * ridge
        - 2 * np.sqrt(ridge) * np.real(np.trace(sqrtm(np.cov(y.T) + ridge * np.eye(6)))), rel=1e-6,
    )  # fmt: skip
    assert FrechetDistance(y, 1e-6).of(moments(y)) == pytest.approx(0, abs=1e-9)


def test_moments_of_a_union_add_up():
    rng = np.random.default_rng(1)
    x, target = rng.normal(size=(70, 4)), FrechetDistance(rng.normal(size=(50, 4)), 1e-6)
    assert target.of(moments(x[:30]) + moments(x[30:])) == pytest.approx(target.of(moments(x)), rel=1e-8)


def planted(seed=0):
    """Eight blobs of thirty; the target looks like blobs 2 and 5, which lie together, and no other lies between."""
    rng = np.random.default_rng(seed)
    centres = np.vstack([np.eye(5), -np.eye(5)[:3]]) * 20
    centres[5] = centres[2] + rng.normal(size=5) * 3
    blob = np.repeat(np.arange(8), 30)
    x = centres[blob] + rng.normal(size=(240, 5))
    target = centres[np.repeat([2, 5], 40)] + rng.normal(size=(80, 5))
    frame = pl.DataFrame(
        {
            "sample_id": [f"s{i:03d}" for i in range(240)],
            "label": ["x"] * 240,
            "group": [f"g{i // 6:02d}" for i in range(240)],
        }
    )
    return frame, x, target, blob


@pytest.mark.parametrize("group", [None, "group"])
def test_planted_clusters_of_the_target_are_found(group):
    for seed in range(4):
        frame, x, target, blob = planted(seed)
        result = select(
            "snp_search",
            frame,
            budget=None,
            seed=0,
            embedding=x,
            arrays={"val_embedding": target},
            group=group,
            clusters=8,
        )
        assert kept(result) == set(np.flatnonzero(np.isin(blob, [2, 5])))


def test_groups_stay_together_and_the_prefix_is_the_nearest_of_all():
    frame, x, target, _ = planted(3)
    result = select(
        "snp_search",
        frame,
        budget=None,
        seed=0,
        embedding=x,
        arrays={"val_embedding": target},
        group="group",
        clusters=10,
    )
    mixed = frame.with_columns(role=result["role"]).group_by("group").agg(pl.col("role").n_unique())
    assert (mixed["role"] == 1).all()
    # by hand: order the clusters, add them, compare every prefix
    number = result["reason"].str.extract(r"cluster (\d+) of").cast(pl.Int64).to_numpy()
    distances = [by_definition(x[number <= many], target, 1e-6) for many in range(1, 11)]
    best = int(np.argmin(distances)) + 1
    assert kept(result) == set(np.flatnonzero(number <= best))
    alone = [by_definition(x[number == one], target, 1e-6) for one in range(1, 11)]
    assert alone == sorted(alone)


def test_another_target_finds_other_samples():
    frame, x, target, blob = planted()
    other = x[blob == 0] + 0.1
    first = select(
        "snp_search", frame, budget=None, seed=0, embedding=x, arrays={"val_embedding": target}, clusters=8
    )
    second = select(
        "snp_search", frame, budget=None, seed=0, embedding=x, arrays={"val_embedding": other}, clusters=8
    )
    assert not kept(first) & kept(second)


def test_clusters_are_equal_in_size():
    points = np.random.default_rng(0).normal(size=(53, 3))
    sizes = np.bincount(equal_clusters(points, 8))
    assert sorted(sizes) == [6, 6, 6, 7, 7, 7, 7, 7]
    assert np.bincount(equal_clusters(np.ones((7, 2)), 3)).tolist() in ([3, 2, 2], [2, 3, 2], [2, 2, 3])
    separated = np.repeat(np.eye(4) * 50, 5, axis=0) + np.random.default_rng(1).normal(size=(20, 4))
    found = equal_clusters(separated, 4)
    assert all(len(set(found[5 * i : 5 * i + 5])) == 1 for i in range(4))


def test_what_cannot_be_used_is_refused():
    frame, x, target, _ = planted()

    def search(**changed):
        arrays = {"val_embedding": changed.pop("target", target)}
        return select("snp_search", frame, budget=None, seed=0, embedding=x, arrays=arrays, **changed)

    with pytest.raises(BadInput, match="at least two vectors of 5 dimensions"):
        search(target=target[:, :3])
    with pytest.raises(BadInput, match="at least two vectors"):
        search(target=target[:1])
    with pytest.raises(BadInput, match="did you mean 'group'"):
        search(group="groups")
    with pytest.raises(BadInput, match="clusters"):
        search(clusters=0)
    with pytest.raises(MissingSignal, match="val_embedding"):
        select("snp_search", frame, budget=None, seed=0, embedding=x)
