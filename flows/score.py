"""Signals to scores to flags: run the scorers on what was recorded, and the rules on the scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import digest, frame_digest
from tracesift.catalog.known_graphs import know
from tracesift.catalog.schema import SIGNALS, BadInput, MissingSignal
from tracesift.flows.diagnosing import diagnosed, diagnosed_together, over_models
from tracesift.flows.outdated import made_from
from tracesift.flows.progress import say, stage, watched
from tracesift.flows.recordings import newest_runs
from tracesift.flows.reporting.stability import held_by, rank_correlations, scores_of
from tracesift.flows.selecting.selector_arrays import EMBEDDED, part, rows_among, same_vectors, stored_ids
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import Dataset
from tracesift.pipelines.embedding.stored_embeddings import content_digest, stored_embedding
from tracesift.pipelines.signals import Signals, load_signals, read_run
from tracesift.scorers.contract import (
    combine,
    compute,
    diagnostics,
    effective_params,
    find,
    find_diagnostic,
    names,
)
from tracesift.scorers.noise.neighbors.nearest_others import with_vector
from tracesift.scorers.noise.second_label import second_label
from tracesift.selectors.flags.contract import find as find_flag
from tracesift.selectors.flags.label_noise import judge_labels
from tracesift.selectors.flags.unlearnable import unlearnable

DYNAMICS = ("aum", "mean_loss", "elr_target_disagreement", "loss_gmm")
"""What the rule of `label_noise` reads of the network that trained on the labels."""

NO_WITNESS = (
    "cannot tell: neither aum nor mean_loss is scored; run `tracesift score`, and `tracesift record` first where the "
    "signals were not recorded in training"
)
UNTRAINED = frozenset({"images", "texts", "labels"})
"""What scorers read of the data themselves."""

NO_RESIDUAL = "cannot tell: residual_shortcut was not scored; run `tracesift score residual_shortcut`"

RECORDS = {
    "in_training": "`tracesift record` records it, and your own loop with Recorder(mode='in_training')",
    "epoch_end": "`tracesift record` records it, and your own loop with Recorder(mode='epoch_end') and a pass over the "
    "samples in eval mode after each epoch",
}
"""Mode -> how it is recorded."""

Params = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class WithContent:
    """Recorded signals with the samples themselves, read from the source, and the vectors that were asked for."""

    signals: Signals
    content: Mapping[str, np.ndarray]
    """`images` or `texts`, where the data are such."""
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """`embedding` and `val_embedding` of a stored embedding, in the place of the recording's own."""

    @property
    def modes(self) -> tuple[str, ...]:
        """The recorded modes."""
        return self.signals.modes

    def summed(self, scorer: str, version: int, params: Mapping[str, Any]) -> np.ndarray | None:
        """Return a score that was summed up while training, where the run holds it."""
        return self.signals.summed(scorer, version, params)

    def in_mode(self, mode: str | None) -> Mapping[str, Any]:
        """Return the arrays of one mode; columns are still read lazily."""
        return self.signals.in_mode(mode or self.modes[0], {**self.content, **self.vectors})


def score(
    work: Work,
    runs: Sequence[str],
    chosen: Sequence[str] | None = None,
    params: Params | None = None,
    embedding: str | None = None,
    mode: str | None = None,
) -> dict[str, Any]:
    """Run scorers on one recording or several, and put the values into the catalog.

    Parameters
    ----------
    runs
        Recordings of the same dataset that differ by their seed alone; several are combined by the rule that
        each scorer declares, and the spread is kept.
    chosen
        Scorers by name; by default every one that is not experimental and whose signals were recorded. What a job
        makes belongs to them once the job has been run.
    params
        Settings by scorer name.
    embedding
        A stored embedding that the `chosen` scorers read instead of the recording's own; it belongs to the scores'
        identity, so they stand beside the usual ones.
    mode
        What the `chosen` scorers read, in_training or epoch_end, whatever they mean; the same holds of it.

    Returns
    -------
    dict
        ``run_id`` of the scores, ``scorers``, and ``left_out``: scorer -> why it could not run.
    """
    files = {run: read_run(work.path, run)["files"] for run in runs}
    listed = sorted(chosen) if chosen else _usual(files.values())
    for name in params or {}:
        if name not in listed:
            raise BadInput(f"settings were given for {find(name).name}, which is not scored; name it as well")
    stored = _stored(work, listed, embedding)
    key = digest(
        [
            files,
            {name: [find(name).version, effective_params(name, _of(params, name), mode)] for name in listed},
        ]
        + ([stored] if stored else [])
    )
    done = work.record("score", key)
    if done is not None and work.catalog.has_scores(
        done["run_id"], {name: _how_made(work, runs, name, params, stored, mode) for name in done["scorers"]}
    ):
        _tell(done["left_out"])
        _tell_ends(work, runs, done["scorers"])
        return done
    for run in runs:
        read_run(work.path, run, verify=True)
    frames: list[pl.DataFrame] = []
    left_out: dict[str, str] = {}
    with watched("score") as report:
        for number, run in enumerate(runs):
            signals = _with_content(work, run, embedding)
            if any("embedding" in find(name).inputs for name in listed):
                _hand_in_graphs(work, run, embedding)
            report(number, len(runs), "")
            available, missing = _available(listed, signals, mode)
            if chosen is not None and missing:
                name = next(iter(missing))
                raise _cannot_run(work, run, find(name), signals, mode)
            values, refused = _values(available, signals, params, mode, strict=chosen is not None)
            available, left_out = values.columns, left_out | missing | refused
            frames.append(values.insert_column(0, pl.Series("sample_id", signals.signals.sample_ids)))
            _keep(work, run, [run], values, available, params, stored, mode)
            for name in diagnostics() if not stored else ():
                known = find_diagnostic(name)
                if not known.experimental and _missing(known, signals) is None:
                    found = diagnosed(name, signals, signals.signals.run)
                    work.catalog.put_diagnostic(work.dataset.dataset_id, run, name, found)
    # What one run alone can be scored for (only the first seed is cross-fitted) is scored.
    scored = [name for name in listed if any(name in frame.columns for frame in frames)]
    left_out = {name: why for name, why in left_out.items() if name not in scored}
    run_id = runs[0] if len(runs) == 1 else _keep_combined(work, runs, frames, scored, params, stored, mode)
    if len(runs) > 1 and not stored:
        _compare_seeds(work, run_id, frames, scored)
        _diagnose_together(work, runs, run_id)
    _tell(left_out)
    _tell_ends(work, runs, scored)
    return work.finish(
        "score", key, {"run_id": run_id, "scorers": scored, "left_out": left_out, "runs": list(runs)}
    )


def _compare_seeds(work: Work, run_id: str, frames: Sequence[pl.DataFrame], scored: Sequence[str]) -> None:
    """Keep how far each score depends on the seed; of scores that these runs had before, what is known stays."""
    dataset_id = work.dataset.dataset_id
    known = work.catalog.diagnostic(dataset_id, "seed_correlation", run_id=run_id) or {"scores": []}
    rows = [row for row in known["scores"] if row["scorer"] not in scored]
    rows += rank_correlations([frame.select(pl.exclude("sample_id")) for frame in frames])
    rows.sort(key=lambda row: (row["least"], row["scorer"]))
    compared = {"seeds": len(frames), "scores": rows}
    work.catalog.put_diagnostic(dataset_id, run_id, "seed_correlation", compared)


def _diagnose_together(work: Work, runs: Sequence[str], run_id: str) -> None:
    """Keep what the models of all seeds say together, as the newest: that of one seed is not that of the score."""
    for name in filter(over_models, diagnostics()):
        there = [signals for signals in map(partial(load_signals, work.path), runs) if _has(signals, name)]
        if len(there) > 1:
            work.catalog.put_diagnostic(
                work.dataset.dataset_id, run_id, name, diagnosed_together(name, there)
            )


def _has(signals: Signals, name: str) -> bool:
    there = signals.in_mode(signals.modes[0])
    return all(one in there for one in find_diagnostic(name).inputs)


def runs_to_score(work: Work, named: Sequence[str]) -> list[str]:
    """Return the newest recording with its seeds; where there is none, say what will do for what is `named`.

    Scores belong to a recording also where nothing that was trained is read.

    Raises
    ------
    BadInput
        There is no recording of this state of the data.
    """
    try:
        return newest_runs(work)
    except BadInput as error:
        known = [find_diagnostic(name) if name in diagnostics() else find(name) for name in named]
        if known and all(set(one.inputs) <= UNTRAINED for one in known):
            raise BadInput(
                f"{error}; {', '.join(named)} will read the data alone, but scores are kept with a recording: "
                f"`tracesift record --epochs 1 --folds 0 --workspace {work.path}` makes the cheapest"
            ) from None
        raise


def _stored(work: Work, listed: Sequence[str], embedding: str | None) -> dict[str, str]:
    """Return what the scores' parameters say of a stored embedding; nothing where none is named."""
    if embedding is None:
        return {}
    for name in listed:
        known = find_diagnostic(name) if name in diagnostics() else find(name)
        if not {"embedding", "val_embedding"} & {*known.inputs, *known.optional}:
            raise BadInput(
                f"--embedding {embedding}: {name} reads no embedding; name those that do, without it"
            )
    there = stored_embedding(work.path, embedding, work.dataset)
    return {"embedding": f"{there.name}@{content_digest(there.record)[:16]}"}


def _tell(left_out: Mapping[str, str]) -> None:
    if left_out:
        say(f"not scored: {_by_reason(left_out)}")


def _tell_ends(work: Work, runs: Sequence[str], scored: Sequence[str]) -> None:
    """Say how far the jobs came whose signals the scores are of."""
    jobs = {job for name in scored for job in find(name).jobs}
    if jobs:
        from tracesift.flows.jobs import tell_ends  # torch, which most scorers do without

        tell_ends(
            work, {job: [name for name in scored if job in find(name).jobs] for job in sorted(jobs)}, runs
        )


def _by_reason(left_out: Mapping[str, str]) -> str:
    """Return what could not be scored in words: each reason once, behind the scorers that it holds for.

    Examples
    --------
    >>> _by_reason({"dual": "too short", "grand": "no job", "tdds": "too short"})
    'dual, tdds (too short); grand (no job)'
    """
    reasons: dict[str, list[str]] = {}
    for name, why in left_out.items():
        reasons.setdefault(why, []).append(name)
    return "; ".join(f"{', '.join(these)} ({why})" for why, these in reasons.items())


def _usual(files: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the scorers that nobody has to name: of those that need a job, the ones whose job some run has seen."""
    there = {Path(name).stem for run in files for name in run}
    usual = [known for known in map(find, names()) if not known.experimental]
    return [known.name for known in usual if not known.jobs or there.intersection(_of_jobs(known))]


def _of_jobs(known: Any) -> set[str]:
    return {name for name in known.inputs if SIGNALS[name].job is not None}


def _available(
    listed: Sequence[str], signals: WithContent, mode: str | None
) -> tuple[list[str], dict[str, str]]:
    missing = {name: why for name in listed if (why := _missing(find(name), signals, mode)) is not None}
    return [name for name in listed if name not in missing], missing


def _values(
    listed: Sequence[str], signals: WithContent, params: Params | None, mode: str | None, *, strict: bool
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Run scorers; where nobody asked for one by name, one that this recording is too short for is left out."""
    settings = {name: _of(params, name) for name in listed}
    try:
        return compute(listed, signals, params=settings, mode=mode), {}
    except BadInput:
        if strict:
            raise
    columns: list[pl.Series] = []
    refused: dict[str, str] = {}
    for name in listed:
        try:
            columns.append(compute([name], signals, params={name: settings[name]}, mode=mode)[name])
        except BadInput as error:
            refused[name] = str(error).removeprefix(name).lstrip(": ")
    return pl.DataFrame(columns), refused


def _missing(
    known: Any, signals: WithContent, mode: str | None = None, how: Callable[[str], str] | None = None
) -> str | None:
    """Say what a scorer lacks and, in the words of `how`, what makes it; None where it can run."""
    mode = known.mode and (mode or known.mode)
    scores = {score["scorer"] for score in signals.signals.run.get("scores", ())}
    if known.name in scores:
        return None
    if mode is not None and mode not in signals.modes:
        return f"mode {mode} was not recorded; {RECORDS[mode]}"
    there = signals.in_mode(mode)
    absent = [name for name in known.inputs if name not in there]
    if absent and scores and SIGNALS[absent[0]].axes == "TN":
        return (
            f"needs {absent[0]}, and this recording kept scores without trajectories; record again with "
            "keep='trajectories'"
        )
    if not absent:
        return None
    return f"needs {absent[0]}: {how(absent[0]) if how else SIGNALS[absent[0]].source}"


def _cannot_run(
    work: Work, run: str, known: Any, signals: WithContent, mode: str | None = None
) -> MissingSignal:
    """Return the refusal of a scorer that was named: it tells of no job that this recording does not suit."""
    from tracesift.flows.jobs import how_to_make  # torch, which scorers do without

    why = _missing(known, signals, mode, partial(how_to_make, work, run))
    return MissingSignal(f"'{known.name}' cannot run: {why}")


def _of(params: Params | None, name: str) -> Mapping[str, Any]:
    return (params or {}).get(name, {})


def _keep(
    work: Work,
    run_id: str,
    runs: Sequence[str],
    frame: pl.DataFrame,
    scorers: Sequence[str],
    params: Params | None,
    stored: Mapping[str, str],
    mode: str | None,
    spreads: pl.DataFrame | None = None,
) -> None:
    how = {name: _how_made(work, runs, name, params, stored, mode) for name in scorers}
    meta = [
        {
            "scorer": name, "version": find(name).version, "direction": find(name).direction,
            "inputs": list(find(name).inputs), "params": settings, "made_from": read,
            "defaults": effective_params(name),  # other settings stand beside the usual ones and replace nothing
        }
        for name, (settings, read) in how.items()
    ]  # fmt: skip
    work.catalog.put_scores(run_id, work.dataset.dataset_id, frame, meta, spreads)


def _how_made(
    work: Work,
    runs: Sequence[str],
    name: str,
    params: Params | None,
    stored: Mapping[str, str],
    mode: str | None,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings that a score is kept under, and of which trainings its inputs are."""
    known, records = find(name), [read_run(work.path, run) for run in runs]
    read = [one for one in (*known.inputs, *known.optional) if not (stored and one in EMBEDDED)]
    return {**effective_params(name, _of(params, name), mode), **stored}, made_from(records, read)


def _keep_combined(
    work: Work,
    runs: Sequence[str],
    frames: list[pl.DataFrame],
    scorers: Sequence[str],
    params: Params | None,
    stored: Mapping[str, str],
    mode: str | None,
) -> str:
    """Combine the runs' scores into a run of their own, whose record lists its members."""
    run_id = _combined_id(runs)
    first = read_run(work.path, runs[0])
    work.catalog.put_run(
        {"run_id": run_id, "dataset_id": work.dataset.dataset_id, "kind": "combined", "model": first.get("model"),
         "seed": first.get("seed"), "config": {"runs": sorted(runs)}, "status": "done"}
    )  # fmt: skip
    ids = frames[0]["sample_id"]
    values, spreads = {}, {}
    for name in scorers:
        there = [frame[name] for frame in frames if name in frame.columns]
        values[name], spreads[name] = combine(there, find(name).combine or "mean")
    _keep(
        work, run_id, runs, pl.DataFrame({"sample_id": ids, **values}), scorers, params, stored, mode,
        pl.DataFrame({"sample_id": ids, **spreads}),
    )  # fmt: skip
    return run_id


def _combined_id(runs: Sequence[str]) -> str:
    return digest({"kind": "combined", "runs": sorted(runs)})


def _with_content(work: Work, run: str, embedding: str | None) -> WithContent:
    """Return a recording with the samples and vectors that belong to its rows: those that it was recorded on."""
    dataset = work.as_recorded(read_run(work.path, run)["dataset"])
    vectors = {}
    if embedding is not None:
        there = stored_embedding(work.path, embedding, work.dataset)
        for name, split in EMBEDDED.items():
            ids = pl.DataFrame(dataset.samples["sample_id"].gather(dataset.rows(split)))
            rows = rows_among(stored_ids(work, there, split), ids, f"embedding '{there.name}'")
            vectors[name] = part(there.vectors(split), rows, 0)
    signals = load_signals(work.path, run)
    return WithContent(signals, _content(dataset, pl.Series(signals.sample_ids, dtype=pl.String)), vectors)


def _hand_in_graphs(work: Work, run: str, embedding: str | None) -> None:
    """Spare the scorers that look at neighbours a search whose result is stored."""
    stored = (
        same_vectors(work, run) if embedding is None else stored_embedding(work.path, embedding, work.dataset)
    )
    if stored is None:
        return
    vectors = stored.vectors("train")
    for metric, kept in stored.record["graphs"].items():
        rows = with_vector(vectors) if metric == "cosine" else np.arange(len(vectors))
        graph = None if kept["approximate"] else stored.graph_among(rows, metric)
        if graph is not None:
            know(part(vectors, rows, 0), graph)


def _content(dataset: Dataset, ids: pl.Series) -> dict[str, np.ndarray]:
    """Return samples as the signal of their kind, rows as in the recording; empty for tables.

    A recording of an earlier state of the data may hold samples that are there no longer: then it is empty, too.
    """
    known, inputs = dataset.samples["sample_id"], dataset.inputs
    rows = known.search_sorted(ids).to_numpy()
    if not len(rows) or rows.max() >= len(known) or (known.gather(rows) != ids).any():
        return {}
    if dataset.kind == "image":
        return {"images": np.asarray(inputs[rows])}
    if dataset.kind == "text":
        return {"texts": np.array([inputs[row] for row in rows], dtype=object)}
    return {}


def second_opinion(signals: Signals, classes: Sequence[str]) -> pl.DataFrame:
    """Return what out-of-sample models say of each training sample: `oos_pred` and `oos_margin`; empty without them."""
    there = signals.in_mode(signals.modes[0])
    if "probs_oos" not in there:
        return pl.DataFrame({"sample_id": signals.sample_ids})
    predicted, margin = second_label(there["probs_oos"], there["labels"])
    names = np.array(classes, dtype=object)
    return pl.DataFrame(
        {"sample_id": signals.sample_ids, "oos_pred": names[predicted].tolist(), "oos_margin": margin}
    )


def find_out(
    work: Work, runs: Sequence[str], name: str, params: Mapping[str, Any], embedding: str | None = None
) -> dict[str, Any]:
    """Run one diagnostic on the first recording that has its signals, remember what it found, and return it.

    Where it counts over models, those of all recordings count together.
    """
    known = find_diagnostic(name)
    stored = _stored(work, [name], embedding)
    each = [signals for signals in map(partial(load_signals, work.path), runs) if _has(signals, name)]
    if over_models(name) and len(each) > 1:
        found = diagnosed_together(name, each, params)
        work.catalog.put_diagnostic(work.dataset.dataset_id, _combined_id(runs), name, found)
        return found
    for run in runs:
        signals = _with_content(work, run, embedding)
        if _missing(known, signals) is None:
            vectors = stored_embedding(work.path, embedding, work.dataset) if embedding is not None else None
            found = {**diagnosed(name, signals, signals.signals.run, params, vectors), **stored}
            work.catalog.put_diagnostic(work.dataset.dataset_id, run, name, found)
            return found
    raise _cannot_run(work, run, known, signals)


def diagnostics_of(work: Work) -> dict[str, dict[str, Any]]:
    """Return the newest value of every diagnostic of this dataset."""
    rows = work.catalog.query(
        "SELECT name, value FROM diagnostics WHERE dataset_id = ? "
        "QUALIFY seq = max(seq) OVER (PARTITION BY name) ORDER BY name",
        (work.dataset.dataset_id,),
    )
    return {name: json.loads(value) for name, value in rows.iter_rows()}


def _cannot_tell(frame: pl.DataFrame, reason: str) -> pl.DataFrame:
    return frame.select("sample_id", flagged=pl.lit(None, dtype=pl.Boolean), reason=pl.lit(reason))


def _judged(work: Work, scored: Mapping[str, Any], frame: pl.DataFrame) -> pl.DataFrame:
    """Apply the rule of `label_noise`, and keep what it found in the dataset as a whole as a diagnostic.

    Of several seeds each is judged by itself as well, beside the same cross-fitted models, and the reason of a flagged
    sample says how many of them say yes.
    """
    answers, findings = judge_labels(frame)
    runs = scored["runs"]
    if len(runs) > 1:
        alone = [scores_of(work, run, [name for name in DYNAMICS if name in frame.columns]) for run in runs]
        says = [
            _yes(judge_labels(frame.drop(one.columns[1:]).join(one, on="sample_id", how="left"))[0])
            for one in alone
        ]
        votes = pl.Series("votes", np.sum(says, axis=0))
        told = pl.format("{}; so say {} of {} seeds by themselves", "reason", votes, len(runs))
        answers = answers.with_columns(reason=pl.when("flagged").then(told).otherwise("reason"))
        every = int((_yes(answers) & np.logical_and.reduce(says)).sum())
        findings |= {
            "seeds": len(runs),
            "flagged_by_every_seed": every,
            "flagged_by_some_seed": held_by(says)["some"],
        }
    work.catalog.put_diagnostic(work.dataset.dataset_id, scored["run_id"], "label_noise", findings)
    return answers


def _yes(answers: pl.DataFrame) -> np.ndarray:
    return answers["flagged"].fill_null(value=False).to_numpy()


def flag(work: Work, scored: Mapping[str, Any]) -> dict[str, Any]:
    """Apply the flag rules to the newest scores; done once per scores, reviews and version of the rules.

    Returns
    -------
    dict
        What `score` returned, and ``flags``: name -> count of yes, no and cannot tell.
    """
    frame, verdict = _evidence(work, scored), diagnostics_of(work).get("residual_verdict")
    versions = {name: find_flag(name).version for name in ("label_noise", "unlearnable")}
    inputs = [scored["run_id"], work.dataset.dataset_id, frame.columns, frame_digest(frame), verdict]
    key = digest([versions, inputs])
    done = work.record("flag", key)
    if done is None or done["answers"] != _newest_answers(work):
        counts = _apply_rules(work, scored, frame, verdict)
        done = work.finish("flag", key, {"flags": counts, "answers": _newest_answers(work)})
    # a record comes back by the alphabet
    counts = {
        name: {answer: of[answer] for answer in ("yes", "no", "cannot tell")}
        for name, of in done["flags"].items()
    }
    return {"flags": counts, **scored}


def _evidence(work: Work, scored: Mapping[str, Any]) -> pl.DataFrame:
    """Return what the rules judge by: the scores, what out-of-sample models say, and what people said.

    What was asked to be deleted is judged no more, though recordings of before hold it.
    """
    signals = load_signals(work.path, scored["runs"][0])
    frame = work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
    frame = frame.join(work.forgotten, on="sample_id", how="anti", maintain_order="left")
    frame = frame.join(
        second_opinion(signals, work.dataset.classes), on="sample_id", how="left", maintain_order="left"
    )
    reviewed = work.catalog.query("SELECT sample_id, label AS verified_label FROM reviews")
    return frame.join(reviewed, on="sample_id", how="left", maintain_order="left")


def flags_alone(work: Work, flags: pl.DataFrame) -> pl.DataFrame:
    """Return the flags with what `label_noise` says of reviewed samples by itself, without any person's word.

    Parameters
    ----------
    flags
        The newest answers; the same frame comes back where no person looked at anything, or nothing can be judged.
    """
    seen = work.catalog.query("SELECT sample_id FROM reviews")
    cleared = (pl.col("flag") == "label_noise") & pl.col("sample_id").is_in(seen["sample_id"].implode())
    if flags.filter(cleared).is_empty():
        return flags
    frame = _evidence(work, {"runs": newest_runs(work)}).drop("verified_label")
    if not {"aum", "mean_loss"} & set(frame.columns):
        return flags
    answers = judge_labels(frame)[0].join(seen, on="sample_id", how="semi")
    answers = answers.with_columns(flag=pl.lit("label_noise")).select(flags.columns)
    return pl.concat([flags.filter(~cleared), answers]).sort("flag", "sample_id")


def _newest_answers(work: Work) -> dict[str, list[str]]:
    """Return per flag whose answers are the newest in the catalog, and a hash of them."""
    rows = work.catalog.query(
        "SELECT s.flag, s.dataset_id, s.run_id, CAST(bit_xor(hash(v.sample_row, v.flagged, v.score, v.threshold, "
        "v.reason, v.suggestion, v.confidence, v.suspicion)) AS VARCHAR) "
        "FROM flag_sets s JOIN flag_values v USING (flag_key) JOIN "
        "(SELECT flag, max(seq) AS seq FROM flag_sets GROUP BY flag) USING (flag, seq) GROUP BY ALL"
    )
    return {name: list(held) for name, *held in rows.iter_rows()}


def _with_names(verdict: Mapping[str, Any] | None, classes: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the verdict with the labels of its classes by name, as the flag knows them."""
    if verdict is None:
        return None
    pixels = [{**row, "class": classes[row["class"]]} for row in verdict.get("lone_pixels", ())]
    untied = [classes[index] for index in verdict.get("untied_classes", ())]
    return {**verdict, "lone_pixels": pixels, "untied_classes": untied}


@watched("flag")
def _apply_rules(
    work: Work, scored: Mapping[str, Any], frame: pl.DataFrame, verdict: Mapping[str, Any] | None
) -> dict[str, dict[str, int]]:
    witnessed = "aum" in frame.columns or "mean_loss" in frame.columns
    rules: dict[str, Callable[[], pl.DataFrame]] = {
        "label_noise": lambda: _judged(work, scored, frame) if witnessed else _cannot_tell(frame, NO_WITNESS),
        "unlearnable": lambda: (
            unlearnable(frame, verdict=_with_names(verdict, work.dataset.classes))
            if verdict is None or "residual_shortcut" in frame.columns
            else _cannot_tell(frame, NO_RESIDUAL)
        ),
    }
    counts = {}
    for name, rule in rules.items():
        stage(name)
        flags = rule()
        work.catalog.put_flags(scored["run_id"], work.dataset.dataset_id, name, flags)
        counts[name] = {
            "yes": int((flags["flagged"] == True).sum()),  # noqa: E712
            "no": int((flags["flagged"] == False).sum()),  # noqa: E712
            "cannot tell": flags["flagged"].null_count(),
        }
    return counts
