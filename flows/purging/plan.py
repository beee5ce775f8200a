"""What the steps of one purge share: who goes, and what states and runs are called without them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import canonical_json, digest
from tracesift.catalog.rebuild import State
from tracesift.catalog.redaction import Redaction
from tracesift.catalog.schema import BadInput
from tracesift.catalog.swap import STAGE
from tracesift.flows.work import Work
from tracesift.pipelines.identity import fingerprint
from tracesift.pipelines.restricted import fingerprint_without

OURS = ("signals", "embeddings", STAGE)
"""Folders that steps of their own write anew."""


@dataclass(kw_only=True)
class Purge:
    """What the steps of one purge share."""

    work: Work
    ids: frozenset[str]
    folder: Path
    redaction: Redaction
    states: list[State] = field(default_factory=list)
    samples: dict[str, pl.DataFrame] = field(default_factory=dict)
    """dataset_id -> the rows of a state that loses any, in order."""
    left: dict[str, int] = field(default_factory=dict)
    """Fingerprint of such a state -> how many samples stay."""
    removed: set[str] = field(default_factory=set)
    """Paths that go."""
    gone: Counter[str] = field(default_factory=Counter)
    """What was removed where."""
    unsure: list[str] = field(default_factory=list)
    """Files that name a sample, or hold its text, and are not ours to rewrite."""
    manifests: set[str] = field(default_factory=set)
    """Paths of manifests and their members, which were looked through."""
    exports: list[dict[str, Any]] = field(default_factory=list)
    """Exports in the workspace that go."""
    texts: list[str] = field(default_factory=list)
    """How the texts of the samples begin, where the source still has them."""

    def keep(self, dataset_id: str) -> np.ndarray:
        """Return which rows of a state stay."""
        ids = pl.Series(sorted(self.ids), dtype=pl.String).implode()
        return (~self.samples[dataset_id]["sample_id"].is_in(ids)).to_numpy()

    def held(self, dataset_id: str, facts: Mapping[str, Any]) -> np.ndarray:
        """Return which rows of a state went into what has these facts: what was deleted before was withheld from it."""
        rows = self.samples[dataset_id]
        requests = list(facts.get("withheld_by", ()))
        if not requests:
            return np.ones(rows.height, bool)
        deleted = self.work.catalog.recognised(rows.select("sample_id", "content_hash"))
        withheld = deleted.filter(pl.col("request_id").is_in(requests))["sample_id"]
        return (~rows["sample_id"].is_in(withheld.implode())).to_numpy()


def find_states(doing: Purge) -> None:
    """Find the states of the dataset that lose samples, and what they are called without them."""
    catalog = doing.work.catalog
    for known in catalog.query("SELECT * FROM datasets ORDER BY seq").to_dicts():
        rows = catalog.query(
            "SELECT sample_row, sample_id, split, label, label_true, content_hash FROM samples "
            "WHERE dataset_id = ? ORDER BY sample_row",
            (known["dataset_id"],),
        )
        doing.samples[known["dataset_id"]] = rows
        keep = doing.keep(known["dataset_id"])
        if keep.all():
            continue
        if not keep.any():
            raise BadInput(
                f"all {len(rows)} samples of {known['name']} would be purged; delete {doing.work.path} instead"
            )
        fresh = _fingerprint_left(known, rows, keep)
        doing.states.append(State(dataset_id=known["dataset_id"], new_id=fresh[:16], fingerprint=fresh))
        doing.left[known["fingerprint"]] = int(keep.sum())
        doing.redaction.renamed |= {known["dataset_id"]: fresh[:16], known["fingerprint"]: fresh}


def _fingerprint_left(known: dict[str, Any], rows: pl.DataFrame, keep: np.ndarray) -> str:
    """Return the fingerprint of the remaining samples: that of a source without the others, wherever it has one."""
    options = json.loads(known["options"] or "{}")
    found = fingerprint_without(
        rows, keep, kind=str(known["kind"]), known=known["fingerprint"],
        features=[options["features"]] if options.get("features") else [],
        planted="plant_label_noise" in json.loads(known["transform"] or "{}") if known["transform"] else False,
    )  # fmt: skip
    if found is not None:
        return found
    left = rows.filter(pl.Series(keep)).with_columns(pl.col(pl.String).fill_null(""))
    return fingerprint(left, {"kind": known["kind"], "purged": known["name"]})


def rename_runs(doing: Purge) -> dict[str, str]:
    """Name the runs over these states by what is left; a run id goes over the fingerprint, and so over who is gone."""
    touched = {state.dataset_id: state for state in doing.states}
    runs = doing.work.catalog.query(
        "SELECT run_id, dataset_id, kind, model, seed, config FROM runs ORDER BY seq"
    )
    found = {row["run_id"]: row for row in runs.to_dicts()}
    for folder in recordings(doing.work.path):
        run_id = folder.name.removeprefix("run=")
        if run_id not in found and (folder / "run.json").exists():
            record = json.loads((folder / "run.json").read_bytes())
            found[run_id] = {"dataset_id": record["dataset"]["dataset_id"], **record} | {
                "config": canonical_json(record.get("config")).decode()
            }
    renamed: dict[str, str] = {}
    combined = [run_id for run_id, row in found.items() if row.get("kind") == "combined"]
    for run_id in [*(one for one in found if one not in combined), *combined]:
        row = found[run_id]
        if row["dataset_id"] not in touched:
            continue
        made = {
            "purged": touched[row["dataset_id"]].fingerprint, "kind": row.get("kind"), "model": row.get("model"),
            "seed": row.get("seed"), "config": doing.redaction.text(row["config"] or ""),
        }  # fmt: skip
        taken = found.keys() | set(renamed.values())
        renamed[run_id] = next(
            name for number in count() if (name := digest({**made, "number": number})) not in taken
        )
        doing.redaction.renamed[run_id] = renamed[run_id]
    return renamed


def twins_of(doing: Purge) -> int:
    """Count the remaining samples that hold the very content of a purged one."""
    twins: set[str] = set()
    for dataset_id, rows in doing.samples.items():
        keep = pl.Series(doing.keep(dataset_id))
        gone = rows.filter(~keep)["content_hash"].drop_nulls()
        twins |= set(rows.filter(keep & rows["content_hash"].is_in(gone.implode()))["sample_id"])
    return len(twins)


def recordings(workspace: Path) -> list[Path]:
    return sorted(path for path in (workspace / "signals").glob("run=[!_]*") if path.is_dir())


def sources_of(work: Work) -> list[str]:
    """Return where the data came from, every place once: nothing here touches them."""
    found: dict[str, None] = {}
    for details, source in work.catalog.query(
        "SELECT details, source FROM datasets ORDER BY seq"
    ).iter_rows():
        where = json.loads(details or "{}").get("location") or {"source": source, "options": {}}
        parts = [where["source"], *((where.get("options") or {}).get(part) for part in ("val", "test"))]
        found |= {
            part: None for part in parts if isinstance(part, str) and not part.replace(".", "").isdigit()
        }
    return list(found)
