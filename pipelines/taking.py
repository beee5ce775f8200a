"""Taking chosen rows out of whatever a dataset was made from: a `datasets.Dataset`, or a torch Subset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from torch.utils import data as torch_data

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.sources.images import ImageFiles

if TYPE_CHECKING:
    import datasets

OURS = ("sample_id", "weight")


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Chosen samples by ascending id, all n long: rows of a Dataset, ids, weights, the labels to train on."""

    rows: np.ndarray
    ids: pl.Series
    weights: pl.Series
    labels: pl.Series


def is_torch(source: Any) -> bool:
    """Whether a source is a torch dataset, or any other sequence of (input, label) pairs."""
    if isinstance(source, torch_data.Dataset):
        return True
    known = (str, bytes, Mapping, Dataset)
    packages = ("datasets", "polars", "pandas", "pyarrow", "pathlib")
    return (
        not isinstance(source, known)
        and type(source).__module__.split(".")[0] not in packages
        and hasattr(source, "__getitem__")
        and hasattr(source, "__len__")
    )


def contiguous(source: Any, dataset: Dataset, taken: Taken) -> datasets.Dataset:
    """Return the chosen rows as a `datasets.Dataset` with `sample_id` and `weight`.

    A `datasets.Dataset` keeps its columns, features and format; anything else becomes inputs, label and the
    remaining columns of the source. A column called as one of ours gets ``_source`` behind its name, but for
    the id column itself.
    """
    import datasets

    column = str(dataset.options.get("label"))
    at = _positions(dataset, taken)
    if isinstance(source, datasets.Dataset) and column in source.column_names and (at < len(source)).all():
        chosen = source.with_format(None).select(at.tolist()).flatten_indices()
        chosen = _with_labels(chosen, column, dataset, taken)
        shown = source.format["type"], source.format["format_kwargs"]
    else:
        chosen = _assembled(dataset, taken)
        shown = None, {}
    if dataset.options.get("id") == "sample_id" and "sample_id" in chosen.column_names:
        chosen = chosen.remove_columns("sample_id")
    clashing = [name for name in OURS if name in chosen.column_names]
    chosen = chosen.rename_columns({name: f"{name}_source" for name in clashing})
    chosen = chosen.add_column("sample_id", taken.ids.to_list(), feature=datasets.Value("string"))
    chosen = chosen.add_column("weight", taken.weights.to_list(), feature=datasets.Value("float64"))
    return chosen.with_format(shown[0], **shown[1])


def _positions(dataset: Dataset, taken: Taken) -> np.ndarray:
    """Return where the chosen rows stand in the source; a Dataset that was not read from one has no places."""
    if dataset.positions is None:
        return np.full(len(taken.rows), np.iinfo(np.int64).max)
    return np.asarray(dataset.positions[taken.rows])


def _with_labels(chosen: datasets.Dataset, column: str, dataset: Dataset, taken: Taken) -> datasets.Dataset:
    """Write the labels to train on in the type that the source gives them."""
    import datasets

    given = dataset.samples["label"].gather(taken.rows)
    if (given == taken.labels).all():
        return chosen
    feature, names = chosen.features[column], chosen.column_names
    if isinstance(feature, datasets.ClassLabel):
        values = [feature.str2int(label) for label in taken.labels]
    else:
        kept = chosen[column]
        values = [_typed(new, old) for new, old in zip(taken.labels, kept, strict=True)]
    changed = chosen.remove_columns(column).add_column(column, values, feature=feature)
    return changed.select_columns(names)


def _typed(label: str, like: Any) -> Any:
    """Return a label as the source writes labels: text, or the number or truth value that the text names."""
    if isinstance(like, bool):
        return label.strip().lower() in ("true", "1")
    return type(like)(label) if isinstance(like, (int, float)) else label


def _assembled(dataset: Dataset, taken: Taken) -> datasets.Dataset:
    import datasets

    rows = taken.rows.tolist()
    inputs = _inputs(dataset, rows)
    label = dataset.options.get("label") or "label"
    label = f"{label}_given" if label in inputs.column_names else label
    ours = ("sample_id", "split", "label", "label_true", "content_hash")
    rest = dataset.samples[rows].drop(ours)
    whole = inputs.add_column(label, taken.labels.to_list(), feature=datasets.Value("string"))
    for column in rest.get_columns():
        name = f"{column.name}_source" if column.name in whole.column_names else column.name
        one = datasets.Dataset.from_polars(pl.DataFrame({name: column}))
        whole = datasets.concatenate_datasets([whole, one], axis=1)
    return whole.flatten_indices() if whole._indices is not None else whole


def _inputs(dataset: Dataset, rows: list[int]) -> datasets.Dataset:
    """Return the model inputs of some rows as columns: pictures, texts, or a table's features."""
    import datasets

    inputs = dataset.inputs
    if isinstance(inputs, pl.DataFrame):
        return datasets.Dataset.from_polars(inputs[rows])
    if isinstance(inputs, list):
        name = dataset.options.get("text") or "text"
        return datasets.Dataset.from_dict({name: [inputs[row] for row in rows]})
    if isinstance(inputs, ImageFiles) or inputs.ndim == 4:
        features = datasets.Features({"image": datasets.Image()})
        return datasets.Dataset.from_dict({"image": dataset.content(rows)}, features=features)
    width = datasets.List(datasets.Value("float32"), length=inputs.shape[1])
    return datasets.Dataset.from_dict({"x": inputs[rows]}, features=datasets.Features({"x": width}))


def torch_subset(
    source: Any, dataset: Dataset, taken: Taken, *, seed: int
) -> tuple[torch_data.Subset[Any], torch_data.WeightedRandomSampler]:
    """Return a Subset of a torch dataset, its labels replaced where they differ, and a seeded sampler."""
    if not len(taken.rows):
        raise BadInput(
            "no member has this role, so there is nothing to sample from: see the manifest's counts"
        )
    at = _positions(dataset, taken)
    if (at >= len(source)).any():
        raise BadInput("some members stand in a separate val or test source: pass the opened Dataset instead")
    given = dataset.samples["label"].gather(taken.rows)
    changed = (given != taken.labels).to_numpy()
    if changed.any():
        replacements = _replacements(source, dataset, taken, changed)
        subset: torch_data.Subset[Any] = Relabelled(source, at.tolist(), replacements)
    else:
        subset = torch_data.Subset(source, at.tolist())
    equal = taken.weights.n_unique() == 1
    sampler = torch_data.WeightedRandomSampler(
        [1.0] * len(at) if equal else taken.weights.to_list(),
        num_samples=len(at),
        replacement=not equal,
        generator=torch.Generator().manual_seed(seed),
    )
    return subset, sampler


def _replacements(source: Any, dataset: Dataset, taken: Taken, changed: np.ndarray) -> dict[int, Any]:
    """Return place in the subset -> label as the source gives it, learned from one sample of each class."""
    places = np.asarray(dataset.positions)  # set, because the source was opened here
    known: dict[str, Any] = {}
    for label in taken.labels.filter(pl.Series(changed)).unique().to_list():
        rows = np.flatnonzero((dataset.samples["label"] == label).to_numpy())
        rows = rows[places[rows] < len(source)]
        if not len(rows):
            raise BadInput(
                f"the dataset has no sample labelled '{label}' to learn the new label's value from"
            )
        known[label] = source[int(places[rows[0]])][1]
    return {int(place): known[taken.labels[int(place)]] for place in np.flatnonzero(changed)}


class Relabelled(torch_data.Subset[Any]):
    """A torch Subset of (input, label) pairs whose label is replaced in some places."""

    def __init__(self, source: Any, indices: list[int], replacements: dict[int, Any]) -> None:
        super().__init__(source, indices)
        self.replacements = replacements

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, list):
            return self.__getitems__(place)
        pair, place = self.dataset[self.indices[place]], int(place)
        return (pair[0], self.replacements[place]) if place in self.replacements else pair

    def __getitems__(self, places: list[int]) -> list[Any]:
        return [self[place] for place in places]
