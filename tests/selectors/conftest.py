"""Frames that the selector tests share."""

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def frame():
    """60 samples in three unequal classes, with every column that any selector may want; scores hold ties."""
    rng = np.random.default_rng(3)
    labels = ["a"] * 38 + ["b"] * 16 + ["c"] * 6
    flagged = rng.random(60) < 0.3
    return pl.DataFrame(
        {
            "sample_id": [f"s{i:02d}" for i in rng.permutation(60)],
            "label": labels,
            "el2n": rng.integers(0, 12, 60) / 10,
            "cld": rng.normal(size=60).round(2),
            "aum_prob_sum": rng.normal(size=60) * 5,
            "label_noise": [
                bool(value) if keep else None
                for value, keep in zip(flagged, rng.random(60) < 0.8, strict=True)
            ],
            "confidence": np.where(flagged, rng.uniform(0.9, 1, 60), 0.1),
            "suggestion": rng.choice(["a", "b", "c"], 60),
            "unlearnable": rng.random(60) < 0.2,
            "split": np.where(rng.random(60) < 0.8, "train", "val"),
            "content_hash": [f"h{i}" for i in rng.integers(0, 50, 60)],
            "forgetting_events": rng.integers(0, 9, 60),
            "dual": rng.integers(1, 20, 60) / 100,
            "cartography_confidence": rng.uniform(0.02, 0.98, 60),
            "cal": rng.integers(0, 40, 60) / 20,
            "deepfool": rng.integers(1, 30, 60) / 10,
            "class_centroid_distance": rng.integers(0, 30, 60) / 7,
            "least_confidence": rng.integers(0, 20, 60) / 24,
            "ssl_prototypes": rng.integers(0, 30, 60) / 40,
            "worst_case_weight": rng.integers(0, 9, 60) / 8,
            "easiest_weight": rng.integers(0, 9, 60) / 8,
            "memorization_subset": rng.integers(-2, 11, 60) / 10,
            "entanglement_distance": rng.integers(0, 30, 60) / 3,
            "sharpness": rng.integers(0, 40, 60) / 50,
        }
    )


@pytest.fixture
def embedding():
    return np.random.default_rng(4).normal(size=(60, 8))
