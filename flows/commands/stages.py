"""One step each of the whole way: `ingest`, `record`, `embed`, `score`, `report`. Each can be run again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tracesift.catalog.neighbor_graph import EXACT_UP_TO, NEIGHBORS, RECALL
from tracesift.catalog.schema import BadInput
from tracesift.flows.options import Common, Reading, Training, Whole, checked_seed
from tracesift.flows.parameters import settings_by_name
from tracesift.flows.progress import runnable
from tracesift.flows.show import console, print_json

Flag = Parameter(negative="")
AT_A_GLANCE = 10
"""Values of one part of a diagnostic that are shown on the terminal."""


def ingest(
    source: str,
    /,
    *,
    common: Common = Common(),
    reading: Reading = Reading(),
    plant_noise: float = 0.0,
    seed: Whole = 0,
) -> int:
    """Take a dataset into the workspace: ids, labels, splits, and what was found on the way.

    Parameters
    ----------
    source
        The dataset; `tracesift curate --help` lists the forms.
    plant_noise
        Flip this share of the training labels and remember the truth.
    seed
        Seed of the planted noise.
    """
    from tracesift.flows.ingest import ingest as step
    from tracesift.flows.work import Work, open_source, tell

    dataset = open_source(source, reading, plant_noise, checked_seed(seed))
    work = Work(common.workspace)
    with work.locked():
        taken = step(work, dataset)
    tell(work.dataset)
    answer(taken, common)
    return 0


def record(
    *,
    common: Common = Common(),
    training: Training = Training(),
    job: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    param: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    workers: Whole = 1,
) -> int:
    """Train the model and record every sample at every epoch, then cross-fit; goes on where it was stopped.

    Parameters
    ----------
    job
        Add to the newest recording, with all its seeds, the signals of a scorer that needs trainings of its own:
        bias_shift, deepfool, grand, iterative_filtering, late_stopping, loss_curvature, prediction_depth,
        simple_networks, ssft, subset_training, threshold_aum, tracin, trak, vog, worst_case. Then `tracesift score`
        knows it. The recorded model is trained unless --model names another, --epochs is the job's (of each that is
        named, and not every job can do with few: late_stopping needs 11, vog 2, iterative_filtering 2; a setting of
        one alone is --param job.epochs=11); may be given several times. All are checked before the first is trained.
    param
        A setting of the job, as key=value (job.key=value where several are named); may be given several times.
        `tracesift jobs JOB` lists the settings of a job with their defaults and meaning.
    workers
        Processes that train the models of a job side by side (subset_training, simple_networks), each with --threads
        threads; the results are the same for every number.
    """
    if job:
        return _run_jobs(job, param, common, training, workers)
    if workers != 1:
        raise BadInput("--workers belongs to a job: name it with --job")
    if param:
        raise BadInput("--param belongs to a job: name it with --job")
    from tracesift.flows.record import check_training, cross_fit_fold, join_folds, record_seed, tell_expected
    from tracesift.flows.work import existing

    work = existing(common.workspace)
    check_training(work.trainable, training)
    with work.locked():
        tell_expected(work, training)
        runs = [record_seed(work, training, seed) for seed in training.each_seed]
        for fold in range(training.folds):
            cross_fit_fold(work, training, runs[0], fold)
        if training.folds:
            join_folds(work, training, runs[0])
        answer({"runs": runs}, common)
    return 0


def _run_jobs(
    jobs: tuple[str, ...], param: tuple[str, ...], common: Common, training: Training, workers: int
) -> int:
    from tracesift.flows.jobs import add_signals
    from tracesift.flows.recordings import adopt_recordings
    from tracesift.flows.work import existing

    given = settings_by_name(param, jobs, "job")
    work = existing(common.workspace)
    with work.locked():
        adopt_recordings(work)
        answer(add_signals(work, training, jobs, given, workers=workers), common, as_named=jobs)
    return 0


def embed(
    *,
    common: Common = Common(),
    source: str = "model",
    name: str | None = None,
    run: str | None = None,
    order: Literal["source", "id"] | None = None,
    device: str = "auto",
    neighbors: Whole = NEIGHBORS,
    metric: Literal["cosine", "euclidean"] = "cosine",
    exact_up_to: Whole = EXACT_UP_TO,
    recall: float = RECALL,
) -> int:
    """Give every sample a vector, and find its nearest neighbours: once, for all who need them.

    Vectors of train, val and test are kept in the workspace by name, with the graph of the training samples'
    neighbours, which scorers and selectors read. Selectors read the newest recording's own features unless
    `tracesift select --embedding NAME` says otherwise. Running the same again makes nothing.

    Parameters
    ----------
    source
        Where vectors come from: `model`, the penultimate features of the recorded model (also added to the recording,
        where scorers read them); `content`, no model at all (gray squares of images, hashed n-grams of text,
        standardised columns); a FILE of your own (.npz with sample_ids and vectors, Parquet with sample_id and a column
        of lists, or .npy with --order); `column:NAME`, a column of lists in the dataset; `hf:NAME`, a pretrained
        encoder for text or images, from the Hugging Face Hub or a local folder.
    name
        What to call it; by default after the source.
    run
        The recording whose model is meant; the newest by default.
    order
        The rows of a file without ids: `source`, as in the dataset's source, or `id`, by ascending sample_id.
    device
        Where a model runs: auto, cpu, cuda, cuda:1 …
    neighbors
        Neighbours of each training sample that the graph keeps; 0 for no graph. A graph by the other metric stays.
    metric
        How near two vectors are: by their angle, or by their distance.
    exact_up_to
        With more training samples than this, neighbours are searched approximately, and the share of true ones among
        them (recall) is measured on a sample, kept and shown.
    recall
        Share of the true neighbours, above 0 and up to 1, that an approximate search goes on for: it looks through
        twice as many lists of its index until that share is found on the sample, and through all where an eighth of
        them will not do.
    """
    from tracesift.flows.embed import embed_source
    from tracesift.flows.kept_embeddings import graph_in_words
    from tracesift.flows.recordings import adopt_recordings
    from tracesift.flows.work import existing

    if neighbors < 0 or exact_up_to < 0:
        raise BadInput("--neighbors and --exact-up-to are 0 or more")
    if not 0 < recall <= 1:
        raise BadInput(f"--recall {recall:g}: a share in (0, 1], such as 0.95")
    if run is not None and source != "model":
        raise BadInput(f"--run names the recording of --source model; {source} has none")
    work = existing(common.workspace)
    with work.locked():
        if source == "model":
            adopt_recordings(work)
            run = run or _newest(work)[0]
        made = embed_source(
            work, source, name=name, run_id=run, order=order, device=device, neighbors=neighbors,
            metric=metric, exact_up_to=exact_up_to, least_recall=recall,
        )  # fmt: skip
        told = "; ".join(map(graph_in_words, made["graphs"])) or "none"
        answer(made if common.json else {**made, "graphs": told}, common)
    return 0


def score(
    *names: str,
    common: Common = Common(),
    run: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    embedding: str | None = None,
    mode: Literal["in_training", "epoch_end"] | None = None,
    param: Annotated[tuple[str, ...], Parameter(negative="")] = (),
) -> int:
    """Run scorers on the recordings and apply the flag rules; all scorers whose signals are there by default.

    Parameters
    ----------
    names
        Scorers, or diagnostics of the whole dataset; `tracesift scorers` lists them.
    run
        Recordings to score; several are combined. By default the newest, with all its seeds.
    embedding
        The stored embedding that the named scorers read (`tracesift embed` makes them) instead of the recorded model's
        own features: what compares neighbours should not learn from the labels that it judges.
    mode
        What the named scorers read whatever they mean: in_training, the moving weights and augmented views of training,
        or epoch_end, one pass after each epoch. Such scores stand in `scores` beside the usual ones.
    param
        A setting of a scorer, as scorer.key=value (key=value where one scorer is named); may be given several times.
        Scores with other settings than the usual ones stand in `scores` beside those, and replace nothing.
    """
    from tracesift.flows.recordings import adopt_recordings
    from tracesift.flows.score import find_out, flag, runs_to_score
    from tracesift.flows.score import score as step
    from tracesift.flows.work import existing
    from tracesift.scorers.contract import diagnostics, effective_params

    work = existing(common.workspace)
    chosen = settings_by_name(param, names)
    whole = [name for name in names if name in diagnostics()]
    if embedding is not None and not names:
        raise BadInput(
            f"--embedding {embedding}: name the scorers that read it, such as knn_label_disagreement"
        )
    if mode is not None and not names:
        raise BadInput(f"--mode {mode}: name the scorers that are to read it, such as el2n")
    for name, given in chosen.items():
        effective_params(name, given)
    with work.locked():
        adopt_recordings(work)
        runs = list(run) or runs_to_score(work, names)
        found = {name: find_out(work, runs, name, chosen.pop(name, {}), embedding) for name in whole}
        if found and len(found) == len(names):
            answer(_for_people(found, common), common, as_named=found)
            return 0
        scored = step(
            work, runs, [name for name in names if name not in whole] or None, chosen, embedding, mode
        )
        result = flag(work, scored)
        if not common.json:
            del result["left_out"]  # said already
            result["flags"] = _judged(work, result["flags"])
        answer({**result, **_beside(chosen, mode), **_for_people(found, common)}, common, as_named=found)
    return 0


def report(
    *,
    common: Common = Common(),
    no_content: Annotated[bool, Flag] = False,
    memorization: Literal["measured", "proxy"] = "measured",
) -> int:
    """Write report.html from what the catalog holds.

    Parameters
    ----------
    no_content
        Leave thumbnails and text out.
    memorization
        What the long tail, the samples that are learned by heart, goes by: `measured` shows it where
        `tracesift record --job subset_training` and `tracesift score` were run; `proxy` takes the 5 % with the highest
        score `dual` that the newest recording has, whatever its window, and says which; these are about half of them.
    """
    from tracesift.flows.publish import publish
    from tracesift.flows.work import existing

    work = existing(common.workspace)
    with work.locked(catalog=False):
        summary = publish(work, content=not no_content, memorization=memorization)
    if common.json:
        print_json(summary)
    else:
        print(Path(summary["report"]))
    return 0


def _judged(work: Any, flags: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Return the counts of each flag, or why it can tell of no sample, where there is one reason for all."""
    told: dict[str, Any] = {}
    for name, counts in flags.items():
        told[name] = counts
        if counts["yes"] or counts["no"]:
            continue
        newest = "SELECT reason FROM flags WHERE flag = ? QUALIFY seq = max(seq) OVER ()"
        reasons = work.catalog.query(newest, (name,))["reason"].unique()
        if len(reasons) == 1:
            told[name] = runnable(f"not judged: {reasons[0].removeprefix('cannot tell: ')}")
    return told


def _beside(chosen: Mapping[str, Mapping[str, Any]], mode: str | None) -> dict[str, Any]:
    """Return the settings that are not the usual ones, and where scores of such settings stand."""
    from tracesift.scorers.contract import effective_params

    unusual = {
        f"{name}.{key}": value
        for name, given in chosen.items()
        for key, value in given.items()
        if effective_params(name, given) != effective_params(name)
    }
    if mode is not None:
        unusual["mode"] = mode
    if not unusual:
        return {}
    told = ", ".join(f"{key}={value}" for key, value in unusual.items())
    return {
        "settings": f"{told}; these scores stand beside the usual ones in the table scores, by their params"
    }


def _for_people(found: dict[str, Any], common: Common) -> dict[str, Any]:
    """Return what diagnostics found without their long parts, which --json and the catalog have, and what these are."""
    if common.json:
        return found
    told: dict[str, dict[str, Any]] = {}
    for diagnostic, answers in found.items():
        long = [name for name, value in answers.items() if _values_in(value) > AT_A_GLANCE]
        told[diagnostic] = {
            name: value for name, value in answers.items() if name not in long and _values_in(value)
        }
        if long:
            told[diagnostic]["not shown:"] = f"{', '.join(long)}, which --json prints"
    return told


def _values_in(value: Any) -> int:
    """Return how many values there are in nested lists and dicts.

    Examples
    --------
    >>> _values_in({"gap": 1.2, "strong_classes": [3, 5], "lone_pixels": []}), _values_in(None)
    (3, 0)
    """
    if isinstance(value, dict):
        return sum(map(_values_in, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_values_in, value))
    return int(value is not None)


def answer(result: dict[str, Any], common: Common, as_named: Collection[str] = ()) -> None:
    """Print a step's result: JSON, or a line for each of its values; `as_named` are names, not words."""
    if common.json:
        print_json(result)
        return
    for name, value in result.items():
        if value not in ({}, [], "", None):
            shown = name if name in as_named else name.replace("_", " ")
            console().print(f"{shown}: {_short(value)}", soft_wrap=True)


def _newest(work: Any) -> list[str]:
    from tracesift.flows.recordings import newest_runs

    return newest_runs(work)


def _short(value: Any, sep: str = "; ") -> str:
    if isinstance(value, dict):
        return sep.join(f"{name} {_short(item, ', ')}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)
