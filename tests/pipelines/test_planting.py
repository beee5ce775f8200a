"""Planted noise: an exact count, never the same label, train only, the same samples whatever the order."""

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.schema import BadInput, UnknownName
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.planting import plant_label_noise


def source(count: int = 900, classes: int = 4) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "text": [f"words about {i}" for i in range(count)],
            "label": [f"c{i % classes}" for i in range(count)],
        }
    )


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
@pytest.mark.parametrize("rate", [0.003, 0.2, 0.77])
def test_exact_count_and_never_the_same_label(kind, rate):
    clean = open_dataset(source(), text="text")
    noisy = plant_label_noise(clean, rate, kind=kind, seed=1)
    changed = noisy.labels != clean.labels
    train = clean.rows("train")
    assert changed.sum() == round(rate * len(train))
    assert not set(np.flatnonzero(changed)) - set(train)
    truth = noisy.samples["label_true"]
    assert truth.gather(train).to_list() == clean.samples["label"].gather(train).to_list()
    assert truth.null_count() == len(clean) - len(train)
    assert noisy.fingerprint == clean.fingerprint
    assert noisy.transform == {"plant_label_noise": {"kind": kind, "rate": rate, "seed": 1}}
    assert "planted noise" in noisy.notes[-1]
    assert clean.samples["label_true"].null_count() == len(clean)
    if kind == "pair":
        assert ((noisy.labels - clean.labels)[changed] % 4 == 1).all()


def test_symmetric_reaches_all_other_classes_alike():
    clean = open_dataset(source(6000), text="text")
    noisy = plant_label_noise(clean, 0.5)
    steps = (noisy.labels - clean.labels)[noisy.labels != clean.labels] % 4
    counts = np.bincount(steps, minlength=4)
    assert counts[0] == 0
    assert np.ptp(counts[1:]) < 0.15 * counts.sum() / 3


def test_order_does_not_matter_growth_hardly_and_the_seed_does():
    def hit(frame, seed=0):
        noisy = plant_label_noise(open_dataset(frame, text="text"), 0.2, seed=seed).samples
        wrong = noisy.filter(pl.col("label") != pl.col("label_true"))
        return dict(wrong.select("sample_id", "label").iter_rows())

    base = hit(source())
    assert hit(source().sample(fraction=1, shuffle=True, seed=2)) == base
    assert hit(source(), seed=1) != base
    grown = hit(source(1800))
    kept = [key for key in base if grown.get(key) == base[key]]
    assert len(kept) > 0.85 * len(base)


def test_refusals():
    clean = open_dataset(source(), text="text")
    for rate in (0, 1, -0.1):
        with pytest.raises(BadInput, match="strictly between 0 and 1"):
            plant_label_noise(clean, rate)
    with pytest.raises(UnknownName, match="did you mean 'pair'"):
        plant_label_noise(clean, 0.2, kind="pairs")
    noisy = plant_label_noise(clean, 0.2)
    with pytest.raises(BadInput, match="already knows true labels"):
        plant_label_noise(noisy, 0.2)
    known = source().with_columns(label_true=pl.col("label"))
    with pytest.raises(BadInput, match="already knows true labels"):
        plant_label_noise(open_dataset(known, text="text"), 0.2)
