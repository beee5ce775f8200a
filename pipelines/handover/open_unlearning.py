"""The layout that open-unlearning trains on: JSON lines named as those of TOFU, and the configurations that name them.

DIR/forget10.json, retain90.json, holdout10.json     and neighbor10.json: those of the retained that are neighbours
DIR/README.md                                        by which `datasets.load_dataset(DIR, "forget10")` finds them
DIR/configs/data/DATASET_unlearn.yaml                forget and retain set
DIR/configs/data/datasets/DATASET_forget.yaml, …     one for each set, DATASET_MIA.yaml for membership tests
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.handover.contents import chunks, plain_name
from tracesift.pipelines.subset import Subset

SETS: Mapping[str, tuple[str, ...]] = {
    "forget": ("forget",),
    "retain": ("retain", "neighbor"),
    "holdout": ("holdout",),
    "neighbor": ("neighbor",),
}
"""Set to the roles in it; neighbours are retained, and stand apart once more to be watched."""

QA = {"handler": "QADataset", "question_key": "question", "answer_key": "answer", "max_length": 512}
TEXT = {"handler": "CompletionDataset", "prefix_key": "prompt", "text_key": "text", "max_length": 2048}
"""Its handlers, with the settings of its own configurations. The other one for texts runs them together."""


def write_open_unlearning(subset: Subset, dataset: Dataset, making: Path, target: Path) -> Mapping[str, Any]:
    """Write sets, card and configurations into `making`, and return what the record says of them.

    Each line holds `question` and `answer` where the data have columns called so, else `text` (and `prompt`, where
    there is such a column); then `sample_id`, `label` and `weight`, which open-unlearning passes over.

    Parameters
    ----------
    subset, dataset
        A manifest and its data, opened and checked.
    making, target
        The folder to write into, and the one that it will be: configurations name it.

    Returns
    -------
    mapping
        ``rows`` by file, and ``shares``: for each set its file, samples and exact share of the samples trained on. As
        with TOFU, names hold the per cent of the forget set, here the nearest from 1 to 99, and retain's the rest.

    Raises
    ------
    BadInput
        Nothing is retained, or the samples are no texts.

    References
    ----------
    Dorna et al., OpenUnlearning: accelerating LLM unlearning via unified benchmarking of methods and metrics, 2025;
    Maini et al., TOFU: a task of fictitious unlearning for LLMs, COLM 2024.
    """
    roles = dict(subset.given.group_by("role").len().iter_rows())
    counts = {name: sum(roles.get(role, 0) for role in held) for name, held in SETS.items()}
    for name, what in (("forget", "forgets"), ("retain", "retains")):
        if not counts[name]:
            gone = ", but for samples that were asked to be deleted" if subset.deleted else ""
            raise BadInput(
                f"manifest {subset.manifest.name} {what} nothing{gone}, so nothing can be unlearned; make it anew"
            )
    trained = counts["forget"] + counts["retain"]
    percent = min(99, max(1, int(100 * counts["forget"] / trained + 0.5)))
    names = {
        name: f"{name}{100 - percent if name == 'retain' else percent:02d}" for name in counts if counts[name]
    }
    fields = _fields(dataset)
    rows = {}
    for name, config in names.items():
        rows[f"{config}.json"] = _write(subset, dataset, name, fields, making / f"{config}.json")
    shares = {
        config: {"file": f"{config}.json", "samples": counts[name], "share": counts[name] / trained}
        for name, config in names.items()
    }
    (making / "README.md").write_text(_card(subset, shares), encoding="utf-8")
    _configure(plain_name(dataset.name), names, QA if "question" in fields else TEXT, making, target)
    return {"rows": rows, "shares": shares}


def _fields(dataset: Dataset) -> dict[str, str]:
    """Return field to the column that it comes from."""
    columns = next(chunks(dataset, dataset.rows("train")[:1]))[1].schema
    known = {name.lower(): name for name in columns}
    if {"question", "answer"} <= known.keys():
        return {name: known[name] for name in ("question", "answer")}
    if dataset.kind != "text":
        raise BadInput(
            f"{dataset.name}: open-unlearning trains language models, on texts or on columns question and answer; "
            f"these data are {dataset.kind}: use --format parquet or --format indices"
        )
    prompt = {"prompt": known["prompt"]} if columns.get(known.get("prompt", "")) == pl.String else {}
    return prompt | {"text": dataset.options.get("text") or "text"}


def _write(subset: Subset, dataset: Dataset, name: str, fields: Mapping[str, str], path: Path) -> int:
    """Write one set and return how many lines it has."""
    taken, _ = subset.taken(dataset, SETS[name])
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for part, frame in chunks(dataset, taken.rows):
            lines = frame.select(
                pl.col(column).cast(pl.String).alias(field) for field, column in fields.items()
            ).with_columns(sample_id=taken.ids[part], label=taken.labels[part], weight=taken.weights[part])
            for field in fields:
                empty = lines.filter(pl.col(field).is_null())
                if empty.height:
                    raise BadInput(
                        f"{dataset.name}: sample '{empty['sample_id'][0]}' has no {field}, which open-unlearning "
                        "cannot train on: fill it in, or leave the sample out"
                    )
            file.writelines(
                json.dumps(line, ensure_ascii=False) + "\n" for line in lines.iter_rows(named=True)
            )
    return len(taken.ids)


def _card(subset: Subset, shares: Mapping[str, Mapping[str, Any]]) -> str:
    configs = "".join(f"- config_name: {name}\n  data_files: {one['file']}\n" for name, one in shares.items())
    told = "".join(
        f"* `{name}`: {one['samples']} samples, {100 * one['share']:.4g} % of those trained on\n"
        for name, one in shares.items()
    )
    return (
        f"---\nconfigs:\n{configs}---\n\n"
        f"Sets of the manifest `{subset.manifest.name}`, version {subset.manifest.version}, for open-unlearning. The "
        f"names hold the nearest per cent:\n\n{told}\n"
        "Copy `configs` over that of open-unlearning. Its training passes `weight` over; where weights matter, a "
        "loop of your own with `load_manifest(...).loaders(...)` does not.\n"
    )


def _configure(
    dataset: str, names: Mapping[str, str], handling: Mapping[str, Any], making: Path, target: Path
) -> None:
    """Write the configurations, one for each set, one for membership tests, and one that brings them together."""
    folder = making / "configs" / "data" / "datasets"
    folder.mkdir(parents=True)

    def block(name: str, access: str = "") -> str:
        keys = "".join(
            f"    {key}: {json.dumps(value)}\n" for key, value in handling.items() if key != "handler"
        )
        return (
            f"{dataset}_{name}:\n{access}  handler: {handling['handler']}\n  args:\n    hf_args:\n"
            f"      name: {json.dumps(names[name])}\n"
            '      split: "train"\n'
            f"      path: {json.dumps(str(target))}\n{keys}"
        )

    for name in names:
        (folder / f"{dataset}_{name}.yaml").write_text(block(name), encoding="utf-8")
    if "holdout" in names:
        both = "".join(block(name, f"  access_key: {name}\n") for name in ("forget", "holdout"))
        (folder / f"{dataset}_MIA.yaml").write_text(both, encoding="utf-8")
    (folder.parent / f"{dataset}_unlearn.yaml").write_text(
        f"defaults:\n  - datasets@forget: {dataset}_forget\n  - datasets@retain: {dataset}_retain\n"
        "  - datasets@eval: null\n\nanchor: forget\n",
        encoding="utf-8",
    )
