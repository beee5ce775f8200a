"""Scores, diagnostics and edges of before: of a recording or a job's training that was replaced, or of another version.

What a score or an edge was made from is kept beside it: for each input that a step added to the recording (a job,
`embed`, the folds), a hash of how that step made it. Trajectories need none: a recording's name follows from what made
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracesift.catalog.files import digest
from tracesift.catalog.schema import SIGNALS
from tracesift.catalog.store import Catalog
from tracesift.flows.recordings import runs_of_state
from tracesift.pipelines.signals import Signals, list_runs, run_folder
from tracesift.scorers.contract import diagnostics, find_diagnostic
from tracesift.scorers.contract import find as find_scorer
from tracesift.scorers.contract import names as scorers
from tracesift.scorers.influence.edges.contract import find as find_method
from tracesift.scorers.influence.edges.contract import in_words
from tracesift.scorers.influence.edges.contract import names as methods

NEVER_RECORDED = frozenset({"images", "texts"})
"""Inputs that come from the data themselves."""


@dataclass(frozen=True)
class Outdated:
    """Scores, diagnostics or edges that are of before for one reason."""

    kind: str
    """scores, diagnostics or edges"""
    names: tuple[str, ...]
    """Scorers or methods, in words where their settings are not the usual ones."""
    why: str
    mend: str
    """The commands that bring them up to date, in words."""

    @property
    def told(self) -> str:
        """What, why and what to do, in one line."""
        return f"{', '.join(self.names)}: {self.why}; {self.mend}"


def made_from(records: Iterable[Mapping[str, Any]], inputs: Sequence[str]) -> dict[str, str]:
    """Return by input that a step added to these recordings a hash of how; nothing for what was recorded itself.

    It names no recording, so that what a purge calls otherwise is the same as before.

    Examples
    --------
    >>> of = [{"arrays": {"tracin_self": {"job": "tracin", "seed": seed}}} for seed in (0, 1)]
    >>> made_from(of, ["tracin_self", "loss"]) == made_from(of[::-1], ["tracin_self"])
    True
    """
    arrays = [record.get("arrays", {}) for record in records]
    held = {name: sorted(digest(of[name]) for of in arrays if name in of) for name in inputs}
    return {name: digest(made) for name, made in held.items() if made}


def outdated(workspace: Path) -> list[Outdated]:
    """Return what `sample_scores`, `diagnostics` and `influence_edges` hold that is of before, in this order.

    Nothing is said of scores that were computed elsewhere. The data are not opened, and no file is checked against its
    hash.
    """
    catalog = Catalog(workspace)
    known = catalog.newest_dataset() if catalog.path.exists() else None
    if known is None:
        return []
    there = _There(workspace, catalog, known["dataset_id"])
    found = _scores(catalog, there), _diagnostics(catalog, there), _edges(catalog, there)
    return [one for of_kind in found for one in _together(of_kind)]


class _There:
    """The recordings of a workspace, and which are the newest of the dataset."""

    def __init__(self, workspace: Path, catalog: Catalog, dataset_id: str) -> None:
        self.dataset_id = dataset_id
        self.records = {record["run_id"]: record for record in list_runs(workspace)}
        newest = runs_of_state(catalog, dataset_id)
        self.newest = [run for run in newest if run in self.records]
        runs = catalog.query("SELECT run_id, kind, config FROM runs").rows()
        self.kinds = {run: kind for run, kind, _ in runs}
        self._members = {run: json.loads(config)["runs"] for run, kind, config in runs if kind == "combined"}
        self._signals = [Signals(run_folder(workspace, run), self.records[run]) for run in self.newest]

    def replaced(self, row: Mapping[str, Any], *, pooled: bool) -> str | None:
        """Return by what the recording is replaced that scores or edges are of, or None."""
        if row["dataset_id"] != self.dataset_id:
            return "they are of an earlier state of the data"
        if not self.newest:
            return None
        run, members = row["run_id"], self._members.get(row["run_id"], [row["run_id"]])
        if not set(members) & set(self.newest):
            return f"they are of run {run}, and the newest is {' and '.join(self.newest)}"
        if pooled and (left := set(self.newest) - set(members)):
            return f"they are of {len(self.newest) - len(left)} of the {len(self.newest)} seeds that are recorded"
        return None

    def made_otherwise(self, row: Mapping[str, Any], inputs: Sequence[str]) -> str | None:
        """Return which inputs are of another training by now, or gone, or None."""
        members = self._members.get(row["run_id"], [row["run_id"]])
        records = [self.records[run] for run in members if run in self.records]
        if row["made_from"] is None or not records:
            return None
        before, now = json.loads(row["made_from"]), made_from(records, inputs)
        changed = [SIGNALS[name].job or name for name in inputs if before.get(name) != now.get(name)]
        parts = [
            f"what job {one} had made before" if one not in inputs else f"an earlier {one}"
            for one in dict.fromkeys(changed)
        ]
        return f"they are of {' and '.join(parts)}" if parts else None

    def lacking(self, inputs: Sequence[str], mode: str | None) -> list[str]:
        """Return which of the inputs no newest recording has."""
        mode_of = [mode if mode in one.modes else one.modes[0] for one in self._signals]
        held = [one.in_mode(of) for one, of in zip(self._signals, mode_of, strict=True)]
        return [name for name in inputs if name not in NEVER_RECORDED and not any(name in of for of in held)]

    def first(self, inputs: Sequence[str], mode: str | None) -> str:
        """Return what has to be run before these inputs can be read, with a comma behind it, or nothing."""
        if not self.newest:
            return "run `tracesift record`, then "
        missing = self.lacking(inputs, mode)
        return "".join(
            f"{source}, then " for source in dict.fromkeys(SIGNALS[name].source for name in missing)
        )


@dataclass(frozen=True)
class _One:
    """One score, diagnostic or set of edges that is of before."""

    kind: str
    name: str
    said: str
    """The name in words."""
    why: str
    first: str
    options: str
    """Behind the command and the names; those with the same are brought up to date by one command."""


def _together(found: Iterable[_One]) -> list[Outdated]:
    """Return what shares its reason and its command as one."""
    groups: dict[tuple[str, str, str], list[_One]] = {}
    for one in found:
        groups.setdefault((one.why, one.first, one.options), []).append(one)
    command = {"scores": "score", "diagnostics": "score", "edges": "influence"}
    return [
        Outdated(
            kind=of[0].kind, names=tuple(one.said for one in of), why=why,
            mend=f"{first}`tracesift {command[of[0].kind]} {' '.join(one.name for one in of)}{options}`",
        )
        for (why, first, options), of in groups.items()
    ]  # fmt: skip


def _scores(catalog: Catalog, there: _There) -> Iterable[_One]:
    """Go through the columns of `sample_scores`."""
    for row in catalog.newest_scores():
        name, known = row["scorer"], find_scorer(row["scorer"]) if row["scorer"] in scorers() else None
        if known is None or there.kinds.get(row["run_id"]) == "import-scores":
            continue
        why = (
            there.replaced(row, pooled=True)
            or there.made_otherwise(row, (*known.inputs, *known.optional))
            or _of_version(row["scorer_version"], known.version)
        )
        if why is not None:
            yield _One("scores", name, name, why, there.first(known.inputs, known.mode), "")


def _diagnostics(catalog: Catalog, there: _There) -> Iterable[_One]:
    """Go through what the diagnostics said last of the present state of the data."""
    rows = catalog.query(
        "SELECT dataset_id, run_id, name FROM diagnostics WHERE dataset_id = ? "
        "QUALIFY seq = max(seq) OVER (PARTITION BY name) ORDER BY name",
        (there.dataset_id,),
    )
    for row in rows.to_dicts():
        name = row["name"]
        if name in diagnostics() and (why := there.replaced(row, pooled=False)) is not None:
            known = find_diagnostic(name)
            yield _One("diagnostics", name, name, why, there.first(known.inputs, known.mode), "")


def _edges(catalog: Catalog, there: _There) -> Iterable[_One]:
    """Go through the edges of each method that readers show."""
    rows = catalog.query(
        "SELECT * FROM edge_sets WHERE seq IN (SELECT max(seq) FROM edge_sets GROUP BY method) ORDER BY method"
    )
    for row in rows.to_dicts():
        if row["method"] not in methods():
            continue
        known, settings = find_method(row["method"]), json.loads(row["params"])
        why = (
            there.replaced(row, pooled=False)
            or there.made_otherwise(row, known.inputs)
            or _of_version(row["method_version"], known.version)
        )
        if why is not None:
            other = {key: value for key, value in settings.items() if known.defaults.get(key, ...) != value}
            k = f" --k {other.pop('k')}" if "k" in other else ""
            yield _One(
                "edges", known.name, in_words(known.name, settings), why, there.first(known.inputs, None),
                k + _options(known.name, other),
            )  # fmt: skip


def _of_version(made: int, installed: int) -> str | None:
    return None if made == installed else f"they are of version {made}, and {installed} is installed"


def _options(name: str, settings: Mapping[str, Any]) -> str:
    """Return settings as options of a command.

    Examples
    --------
    >>> _options("influence_subset", {"of": "prob_label"})
    ' --param influence_subset.of=prob_label'
    """
    written = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
    return "".join(f" --param {name}.{key}={value}" for key, value in written.items())
