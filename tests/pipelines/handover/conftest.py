"""A table of texts with authors, questions and answers, and forget-ready manifests by hand."""

import polars as pl
import pytest

from tracesift.catalog.manifest import DatasetBlock, SelectorBlock, write_manifest
from tracesift.pipelines.subset import load_manifest


@pytest.fixture(scope="session")
def forget_ready():
    """A function: a manifest in which the samples have roles by turn, each a weight of its own; holdout outside train."""

    def make(dataset, folder, roles=("forget", "retain", "neighbor", "retain"), **more):
        train, rest = (
            dataset.samples.filter(chosen).select("sample_id", "label")
            for chosen in (pl.col("split") == "train", pl.col("split") != "train")
        )
        count = train.height
        members = train.with_columns(
            role=pl.Series([roles[at % len(roles)] for at in range(count)]),
            weight=pl.Series(range(count), dtype=pl.Float64) / 8 + 1,
            reason=pl.format("because of {}", "sample_id"),
        )
        if more.pop("holdout", False):
            held = rest.with_columns(role=pl.lit("holdout"), weight=1.0, reason=pl.lit("never trained on"))
            members = pl.concat([members, held])
        state = DatasetBlock(
            name=dataset.name, source=dataset.source, fingerprint=dataset.fingerprint, num_samples=len(dataset),
            options=dataset.options, transform=dataset.transform,
        )  # fmt: skip
        how = SelectorBlock(name="forget_ready", version=1)
        write_manifest(folder, "fr", members, dataset=state, selector=how)
        return load_manifest(folder / "fr")

    return make
