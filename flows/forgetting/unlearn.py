"""Whether unlearning can be trusted on a forget-ready subset: original, retraining and methods, over several seeds.

Retraining without the forget set is the measure of everything, and it is done twice a seed, so that what it differs by
from itself is known. All cells of a subset are measured in one order: retraining first, then seed by seed the original
and what each method makes of it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tracesift.catalog.files import digest, replacing
from tracesift.catalog.parameter_types import checked_params
from tracesift.catalog.schema import BadInput, nearest
from tracesift.flows.evaluate import SEEDS, check_test
from tracesift.flows.options import Training
from tracesift.flows.parameters import settings
from tracesift.flows.progress import Report, counted, say, watched
from tracesift.flows.reporting.unlearned import AGAIN, FAILED, GOLD, ORIGINAL, distances
from tracesift.flows.selecting.written import recorded_subsets
from tracesift.flows.work import Work
from tracesift.pipelines.unlearners.contract import Unlearner, find, names
from tracesift.pipelines.unlearning_metrics.klom import klom
from tracesift.pipelines.unlearning_metrics.u_lira import u_lira
from tracesift.pipelines.unlearning_outcome import COMPARED, Outcome, Rows, Sets
from tracesift.pipelines.unlearning_trial import Trial
from tracesift.scorers.forgetting.loreun_weights import loreun_weights, weights_of
from tracesift.selectors.decisions.group_weights import group_names

VERSION = 1
"""Raised when the same models would be measured otherwise."""

DISTRIBUTION_SEEDS = 8
"""From so many seeds on whole distributions over models are compared."""

U_LIRA_SEEDS = 20
"""From so many on each sample is attacked by itself: half of the models teach, and few fit no distribution."""

TAU = inspect.signature(loreun_weights).parameters["tau"].default
"""Temperature of `--weights loreun`, in nats; the paper's was not at hand."""

ALL, LOREUN = "all", "loreun"

Weights = Literal["manifest", "loreun"]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A method with its settings."""

    method: Unlearner
    settings: Mapping[str, Any] = field(default_factory=dict)
    tau: float | None = None
    """Of the weights `loreun`, where they are asked for."""

    @property
    def name(self) -> str:
        """What it is called in tables and in the catalog: its name, with what was set."""
        said = dict(sorted(self.settings.items()))
        if self.tau is not None:
            said |= {"weights": LOREUN} | ({} if self.tau == TAU else {"tau": self.tau})
        listed = ",".join(f"{key}={value}" for key, value in said.items())
        return self.method.name + (f"({listed})" if listed else "")


def tried(wanted: Sequence[str], weights: Weights, pairs: tuple[str, ...]) -> list[Tried]:
    """Return the methods that were asked for, each with its settings, or refuse what is none.

    Parameters
    ----------
    wanted
        Names, or ``all``.
    weights
        Of the forgotten samples: the manifest's, or ``loreun``, more for those that are harder to forget.
    pairs
        Settings as ``METHOD.key=value``, and ``loreun.tau=value``.

    Examples
    --------
    >>> [one.name for one in tried(["fine_tune", "ssd"], "manifest", ("fine_tune.lr=0.1",))]
    ['fine_tune(lr=0.1)', 'ssd']
    """
    chosen = list(dict.fromkeys(name for word in wanted for name in (names() if word == ALL else (word,))))
    methods = {name: find(name) for name in chosen}
    given: dict[str, dict[str, Any]] = {}
    tau = TAU
    for key, value in settings(pairs).items():
        name, mark, setting = key.partition(".")
        said = f"--param {key}={json.dumps(value)}"
        if not mark:
            raise BadInput(
                f"{said}: write METHOD.key=value, such as {chosen[0]}.{_first(methods[chosen[0]])}=…"
            )
        if name == LOREUN:
            if setting != "tau" or weights != LOREUN:
                raise BadInput(f"{said}: with --weights loreun there is loreun.tau, and nothing else")
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise BadInput(f"{said}: a temperature is a number above 0")
            tau = float(value)
            continue
        if name not in methods:
            raise BadInput(f"{said}: {name} is not tried{nearest(name, chosen)}; add --unlearn {name}")
        known = methods[name].defaults
        if setting not in known:
            raise BadInput(
                f"{said}: {name} has no '{setting}'{nearest(setting, list(known))}; it has "
                f"{', '.join(known) or 'no settings'}"
            )
        given.setdefault(name, {})[setting] = value
    for name, values in given.items():
        given[name] = checked_params(name, methods[name].function, values)
    return [
        Tried(method=method, settings=given.get(name, {}), tau=tau if weights == LOREUN else None)
        for name, method in methods.items()
    ]


def _first(method: Unlearner) -> str:
    return next(iter(method.defaults), "key")


def trials(work: Work, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """Return the records of the subsets to be tried: those named, or all that were requested to be forgotten.

    Raises
    ------
    BadInput
        No such subset, one without a forget set, or one of another state of the dataset.
    """
    known = {row["name"]: row for row in recorded_subsets(work)}
    for name in chosen:
        if name not in known:
            raise BadInput(
                f"there is no subset '{name}'{nearest(name, list(known))}; made so far: {', '.join(known) or 'none'}"
            )
    counts = work.catalog.query(
        "SELECT subset_id, count(*) AS size FROM subset_members WHERE role = 'forget' GROUP BY subset_id"
    )
    forgotten = dict(counts.iter_rows())
    for name in chosen:
        if not forgotten.get(known[name]["subset_id"]):
            raise BadInput(
                f"subset {name} forgets nothing, so there is nothing to unlearn; `tracesift forget FILE` makes one "
                "that does"
            )
        if known[name]["dataset_id"] != work.dataset.dataset_id:
            raise BadInput(f"subset {name} was made of an earlier state of {work.dataset.name}; make it anew")
    here = [
        row
        for row in known.values()
        if row["dataset_id"] == work.dataset.dataset_id and forgotten.get(row["subset_id"])
    ]
    picked = [known[name] for name in dict.fromkeys(chosen)] or [
        row for row in here if row["control_of"] is None
    ]
    if not picked:
        raise BadInput("no subset forgets anything; `tracesift forget FILE` makes one that does")
    return picked


def unlearn(work: Work, training: Training, subset: Mapping[str, Any], methods: Sequence[Tried]) -> None:
    """Measure original, retraining and methods on one subset, over at least three seeds; done once each."""
    dataset = work.dataset
    check_test(dataset)
    members, since = _members(work, subset)
    sets, weights = _sets(work, subset, members, since)
    if not len(sets.holdout):
        say(f"{subset['name']} has no holdout: no attack on membership, so no average gap and no ToW-MIA")
    if training.seeds < SEEDS:
        say(f"{SEEDS} seeds are tried, because fewer say nothing of the spread")
    trial = Trial(
        dataset, sets, weights, model=training.model, epochs=training.epochs, device=training.device,
        threads=training.threads,
    )  # fmt: skip
    recipe = [trial.model.identity(), trial.model.recipe.epochs, training.device, training.threads]
    asked = [VERSION, dataset.fingerprint, dataset.transform, subset["subset_id"], recipe]
    of = digest(asked + [since.to_list()] * bool(len(since)))
    study = _Study(work=work, subset=subset, trial=trial, of=of)
    seeds = range(training.seed, training.seed + max(SEEDS, training.seeds))
    gold = {seed: [study.retrained(seed, turn) for turn in (0, 1)] for seed in seeds}
    for seed in seeds:
        study.keep(seed, GOLD, gold[seed][0], ())
        study.keep(seed, AGAIN, gold[seed][1], gold[seed][:1])
        study.keep(seed, ORIGINAL, study.original(seed), gold[seed])
        for one in methods:
            study.keep(seed, one.name, study.unlearned(seed, one), gold[seed])
    if len(seeds) >= DISTRIBUTION_SEEDS:
        study.compare_distributions(seeds, [AGAIN, ORIGINAL, *(one.name for one in methods)])
    work.catalog.put_evaluations(pl.concat(study.frames))


@dataclass
class _Study:
    """One subset under one recipe, its cells and where they are kept."""

    work: Work
    subset: Mapping[str, Any]
    trial: Trial
    of: str
    """Names recipe, data and subset: only what has this in common is compared."""
    keys: dict[tuple[str, int], str] = field(default_factory=dict)
    frames: list[pl.DataFrame] = field(default_factory=list)
    """Rows for the catalog, written together: every transaction makes the views anew."""

    @property
    def counts(self) -> dict[str, int]:
        """How many samples of each role took part; a purge leaves fewer members in the manifest."""
        sets = self.trial.sets
        sizes = {
            "forget": len(sets.forget), "holdout": len(sets.holdout), "neighbor": len(sets.neighbor),
            "retain": len(sets.retain) - len(sets.neighbor),
        }  # fmt: skip
        return {role: size for role, size in sizes.items() if size}

    def retrained(self, seed: int, turn: int) -> dict[str, Any]:
        """Return what was measured on the `turn`-th model of a seed that never saw the forget set."""
        own = int(np.random.SeedSequence([seed, 1 + turn]).generate_state(1)[0]) >> 1

        def run(report: Report) -> Outcome:
            return self.trial.retrained(own, draws=seed, progress=report)

        return self._cell(seed, (GOLD, AGAIN)[turn], [turn], run)

    def original(self, seed: int) -> dict[str, Any]:
        """Return what was measured on the model that was trained on everything."""
        return self._cell(seed, ORIGINAL, [], lambda report: self.trial.original(seed, report))

    def unlearned(self, seed: int, one: Tried) -> dict[str, Any]:
        """Return what was measured on what a method made of the original."""
        made_by = [one.method.version, dict(one.method.defaults) | dict(one.settings), one.tau]

        def run(report: Report) -> Outcome:
            weigh = None if one.tau is None else partial(weights_of, tau=one.tau)
            return self.trial.unlearned(one.method, seed, settings=one.settings, weigh=weigh, progress=report)

        return self._cell(seed, one.name, made_by, run)

    def _cell(self, seed: int, name: str, made_by: list[Any], run: Any) -> dict[str, Any]:
        key = self.keys[name, seed] = digest([self.of, name, made_by, seed])
        known = self.work.record("unlearn", key)
        if known is not None:
            return known
        with watched(f"unlearn {self.subset['name']}, seed {seed}: {name}") as report:
            outcome = run(report)
        if outcome.failed and name in (ORIGINAL, GOLD, AGAIN):
            raise BadInput(f"{name} of seed {seed}: {outcome.failed}; lower the lr of its RECIPE")
        if outcome.failed:
            say(f"{name}, seed {seed}: {outcome.failed}")
        with replacing(self._margins(key)) as temporary, temporary.open("wb") as file:
            np.save(file, outcome.margins, allow_pickle=False)
        return self.work.finish("unlearn", key, {"metrics": outcome.metrics, "failed": outcome.failed})

    def _margins(self, key: str) -> Any:
        return self.work.path / "records" / f"unlearn-{key}.npy"

    def keep(
        self, seed: int, name: str, measured: Mapping[str, Any], gold: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take a cell for the catalog, with its distances to retraining."""
        values = dict(measured["metrics"])
        if measured["failed"]:
            values = {FAILED: 1.0}
        elif gold:
            values |= distances(values, [one["metrics"] for one in gold])
        self._put(seed, {f"{name}.{metric}": value for metric, value in values.items()}, measured["failed"])

    def _put(self, seed: int, values: Mapping[str, float], said: str = "", models: int = 1) -> None:
        details = {"study": self.of, "models": models, "failed": said, "counts": self.counts}
        self.frames.append(
            pl.DataFrame(
                {
                    "subset_id": self.subset["subset_id"], "dataset_id": self.work.dataset.dataset_id,
                    "subset": self.subset["name"], "model": self.trial.model.name, "seed": seed, "metric": list(values),
                    "value": list(values.values()), "num_train": len(self.trial.sets.retain),
                    "details": json.dumps(details),
                }
            )
        )  # fmt: skip

    def compare_distributions(self, seeds: range, called: Sequence[str]) -> None:
        """Take `u_lira` and the quantiles over points of `klom` for the catalog, under the first seed."""
        sizes = [len(getattr(self.trial.sets, name)) for name in COMPARED]
        oracle = self._over_models(GOLD, seeds)
        assert oracle is not None  # a broken one is refused
        for name in called:
            models = self._over_models(name, seeds)
            if models is None:
                continue
            forgotten = slice(sizes[0])
            values: dict[str, float] = {}
            if len(seeds) >= U_LIRA_SEEDS:
                try:
                    values[f"{name}.u_lira"] = _told_apart(models[:, forgotten], oracle[:, forgotten])
                except BadInput as why:  # models that answer alike, whatever their seed, have no distribution
                    say(f"{name}: {why}")
            for part, ours, theirs in zip(
                COMPARED,
                np.split(models, np.cumsum(sizes)[:-1], axis=1),
                np.split(oracle, np.cumsum(sizes)[:-1], axis=1),
                strict=True,
            ):
                quantiles = klom(ours, theirs)["quantiles"]
                values |= {f"{name}.klom_{part}_p{100 * at:.0f}": value for at, value in quantiles.items()}
            self._put(seeds[0], values, models=len(seeds))

    def _over_models(self, name: str, seeds: range) -> NDArray[np.float32] | None:
        """Return the margins of one kind of model over all seeds, (models, points); None where one has none."""
        each = [np.load(self._margins(self.keys[name, seed]), allow_pickle=False) for seed in seeds]
        return np.stack(each) if all(len(one) for one in each) else None


def _told_apart(unlearned: NDArray[np.float32], never: NDArray[np.float32]) -> float:
    """Return the accuracy of `u_lira` on models (models, samples), every other one the shadow, then the target.

    The paper draws forget sets at random, to judge a method; here all models have the one that is judged.
    """
    halves = [(models[0::2], models[1::2]) for models in (unlearned, never)]
    (ours, ours_too), (theirs, theirs_too) = halves
    found = (
        u_lira(ours, theirs, target_unlearned=ours_too, target_never=theirs_too),
        u_lira(ours_too, theirs_too, target_unlearned=ours, target_never=theirs),
    )
    return float(np.mean([one["accuracy"] for one in found]))


def _members(work: Work, subset: Mapping[str, Any]) -> tuple[pl.DataFrame, pl.Series]:
    """Return the members that may be used, and the ids of all samples deleted by others than this subset.

    What it forgets itself is what the original must have seen; all else that was deleted is used by no model.
    """
    members = work.catalog.query(
        "SELECT sample_id, role, weight FROM subset_members WHERE subset_id = ? AND role <> 'drop' ORDER BY sample_id",
        (subset["subset_id"],),
    )
    own = members.filter(pl.col("role") == "forget")["sample_id"]
    since = work.forgotten["sample_id"].unique()
    since = since.filter(~since.is_in(own.implode())).sort()
    left = members.filter(~pl.col("sample_id").is_in(since.implode()))
    if left.height < members.height:
        say(
            f"{subset['name']}: without {counted(members.height - left.height, 'sample')}, to be forgotten by other "
            "requests"
        )
    return left, since


def _sets(
    work: Work, subset: Mapping[str, Any], members: pl.DataFrame, since: pl.Series
) -> tuple[Sets, NDArray[np.float64]]:
    """Return the rows of each role, and the manifest's weight of every row."""
    dataset = work.dataset
    at = dataset.samples["sample_id"].search_sorted(members["sample_id"]).to_numpy().astype(np.int64)

    def rows(*roles: str) -> Rows:
        return at[members["role"].is_in(roles).to_numpy()]

    weights = np.zeros(len(dataset))
    weights[at] = members["weight"].to_numpy()
    test = dataset.rows("test")
    test = test[~dataset.samples["sample_id"].gather(test).is_in(since.implode()).to_numpy()]
    column = subset["params"].get("group")
    known = dataset.samples[test]
    groups = group_names(known, column if column in known.columns else None)
    sets = Sets(
        forget=rows("forget"), retain=rows("retain", "neighbor"), neighbor=rows("neighbor"), test=test,
        holdout=rows("holdout"), groups=groups,
    )  # fmt: skip
    return sets, weights
