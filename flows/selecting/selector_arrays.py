"""What a selector reads beside the columns of its frame: a recording's arrays, embeddings, graphs of neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import Metric
from tracesift.catalog.neighbor_graph import NeighborGraph
from tracesift.catalog.schema import (
    SIGNALS,
    BadInput,
    FingerprintMismatch,
    IncompleteRecording,
    MissingSignal,
)
from tracesift.flows.kept_embeddings import keep_graph
from tracesift.flows.recordings import newest_runs
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.sources import made_by
from tracesift.pipelines.embedding.stored_embeddings import (
    BEFORE_PURGE,
    StoredEmbedding,
    content_digest,
    names,
    read_record,
    stored_embedding,
)
from tracesift.pipelines.embedding.target import target_vectors
from tracesift.pipelines.foreign.bare import KIND
from tracesift.pipelines.signals import ModeSignals, load_signals, read_run
from tracesift.selectors.contract import NO_SIGNALS, Selector, find
from tracesift.selectors.contract import names as selector_names

EMBEDDED = {"embedding": "train", "val_embedding": "val"}
"""Signals that a stored embedding has, and of which split."""
OF_LABELS = frozenset(
    ("loss", "correct", "margin", "prob_label", "prob_margin", "error_norm", "early_error_norm", "elr_target")
)
"""Signals that were recorded of the label that a sample had then."""
COUNTS = ("neighbors", "k")
"""Parameters by which a selector says how many neighbours it looks at."""


def arrays_for(
    work: Work,
    pool: pl.DataFrame,
    facts: Selector,
    params: Mapping[str, Any],
    embedding: str | None,
    target: str | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays that a selector declares, and what the manifest says of where they are from.

    Vectors are those of the stored embedding that was named, else of the newest recording; everything else is of the
    newest recording. What is optional and not there is left out.

    Parameters
    ----------
    pool
        The samples to select from, in ascending order of sample_id.
    params
        What the user set of the selector.
    embedding
        Name of a stored embedding, or None.
    target
        Source of the domain to select towards; the validation samples where None.

    Raises
    ------
    BadInput
        An embedding or a target is named for a selector that reads none.
    MissingSignal
        An array that the selector cannot do without is not there; the message says how to get it.
    """
    wanted = (*facts.arrays, *facts.optional_arrays)
    if target is not None:
        check_reads_target(facts, target)
        wanted = tuple(name for name in wanted if name != "val_embedding")
    stored = None
    if embedding is not None:
        if not set(EMBEDDED) & set(wanted):
            raise BadInput(f"--embedding {embedding}: {facts.name} reads no embedding; leave it out")
        stored = stored_embedding(work.path, embedding, work.dataset)
    given: dict[str, Any] = {}
    sources: dict[str, Any] = {}
    if stored is not None:
        rows = rows_among(stored_ids(work, stored, "train"), pool, f"embedding '{stored.name}'")
        for name in [name for name in EMBEDDED if name in wanted]:
            vectors = stored.vectors(EMBEDDED[name])
            given[name] = part(vectors, rows, 0) if name == "embedding" else vectors
        sources["embedding"] = f"{stored.name}@{content_digest(stored.record)[:16]}"
    recorded = [name for name in wanted if name not in given and name not in NO_SIGNALS]
    if recorded:
        run_id, arrays = _recorded(work, pool, facts, recorded)
        given |= arrays
        sources |= {"arrays_of_run": run_id} if arrays else {}
        stored = same_vectors(work, run_id) if stored is None and "embedding" in arrays else stored
    if "graph" in wanted and stored is not None:
        graph, stored = _graph(work, stored, {**facts.defaults, **params}, pool)
        given |= {} if graph is None else {"graph": graph}
        if (
            graph is not None and graph.approximate
        ):  # its neighbours, unlike exact ones, do not follow from the vectors
            content = stored.record["graphs"][graph.metric]["index"]["sha256"]
            sources["graph"] = f"{stored.name}, approximate@{content[:16]}"
    if facts.reads_target and target is None:
        sources["target"] = "val"
    elif target is not None:
        width = given["embedding"].shape[1]
        given["val_embedding"], sources["target"] = _target(
            work, target, stored, sources.get("arrays_of_run"), width
        )
    return given, sources


def check_reads_target(facts: Selector, target: str) -> None:
    """Refuse a target for a selector that reads none."""
    if not facts.reads_target:
        able = [name for name in selector_names() if find(name).reads_target]
        raise BadInput(
            f"--target {target}: {facts.name} reads no target; leave it out, or take {' or '.join(able)}, whose subset "
            "others choose from with --from"
        )


def _target(
    work: Work, target: str, stored: StoredEmbedding | None, run_id: str | None, width: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the vectors of a target by what made those in use, and what the manifest says of them."""
    if stored is not None:
        made, dataset = stored.record["made"], work.as_recorded(stored.record["dataset"])
        if made.get(BEFORE_PURGE):
            raise BadInput(
                f"--target {target}: embedding '{stored.name}' was made before a purge, by samples that are gone; run "
                f"`tracesift embed --source content --name {stored.name}` to make it anew"
            )
    else:
        record = read_run(work.path, str(run_id))
        own = {"source": "own", "run_id": run_id}
        made = {**own, "source": "model"} if record["kind"] == "trained" else own
        dataset = work.as_recorded(record["dataset"])
    vectors = target_vectors(dataset, target, made, workspace=work.path, width=width)
    content = hashlib.sha256(vectors.tobytes()).hexdigest()
    name = target if target.startswith("hf:") else Path(target).name
    return vectors, {"source": name, "samples": len(vectors), "vectors_sha256": content}


def stored_rows(work: Work, name: str, frame: pl.DataFrame) -> np.ndarray:
    """Return the vectors of a stored embedding for samples of any split, (n, D) in the order of `frame`."""
    stored = stored_embedding(work.path, name, work.dataset)
    values = np.empty((len(frame), stored.record["width"]), np.float32)
    splits = frame.select("sample_id").join(
        work.dataset.samples.select("sample_id", "split"), on="sample_id", how="left", maintain_order="left"
    )  # fmt: skip
    for split in splits["split"].unique().sort():
        here = (splits["split"] == split).arg_true().to_numpy()
        rows = rows_among(stored_ids(work, stored, split), splits[here], f"embedding '{name}'")
        values[here] = stored.vectors(split)[rows]
    return values


def stored_ids(work: Work, stored: StoredEmbedding, split: str) -> pl.Series:
    """Return the ids of the samples that a stored embedding has vectors of, in the order of its rows."""
    dataset = work.as_recorded(stored.record["dataset"])
    return dataset.samples["sample_id"].gather(dataset.rows(split))


def rows_among(ids: pl.Series, pool: pl.DataFrame, what: str) -> np.ndarray:
    """Return where the samples of the pool stand among sorted `ids`, all of which have to be there."""
    rows = ids.search_sorted(pool["sample_id"]).to_numpy()
    there = ids.gather(np.minimum(rows, max(len(ids) - 1, 0))) == pool["sample_id"] if len(ids) else None
    if there is None or not there.all():
        lacking = len(pool) if there is None else int((~there).sum())
        raise MissingSignal(
            f"{what} covers {len(pool) - lacking} of the {len(pool)} samples to select from; leave the others out with "
            "--where, or record them"
        )
    return rows


def part(values: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
    """Return these rows, without a copy where they are all there is."""
    whole = len(rows) == values.shape[axis] and bool((np.diff(rows) == 1).all())
    return values if whole else np.take(values, rows, axis=axis)


def _recorded(
    work: Work, pool: pl.DataFrame, facts: Selector, wanted: list[str]
) -> tuple[str, dict[str, np.ndarray]]:
    """Return the arrays of the newest recording; of several that differ by their seed, the first that has them all."""
    needed = [name for name in wanted if name in facts.arrays]
    try:
        runs = newest_runs(work)
    except BadInput as error:
        if not needed:
            return "", {}
        kept = names(work.path) if set(needed) <= set(EMBEDDED) else []
        instead = f"; or say --embedding NAME, there are {', '.join(kept)}" if kept else ""
        raise MissingSignal(f"{facts.name} needs {', '.join(needed)}: {error}{instead}") from None
    known = {run_id: at_epoch_ends(work.path, run_id) for run_id in runs}
    run_id = max(runs, key=lambda run: sum(name in known[run] for name in needed))  # the first of equals
    signals = known[run_id]
    absent = [name for name in needed if name not in signals]
    if absent:
        raise MissingSignal(f"{facts.name} needs {absent[0]}: {_how_to_get(work, absent[0])}")
    rows = rows_among(pl.Series(signals.signals.sample_ids, dtype=pl.String), pool, f"recording {run_id}")
    arrays = {}
    for name in wanted:
        if name in signals:
            axes = SIGNALS[name].axes
            arrays[name] = part(signals[name], rows, axes.index("N")) if "N" in axes else signals[name]
    return run_id, _under_new_labels(arrays, pool, facts.name, signals.signals.run["dataset"]["classes"])


def _under_new_labels(
    arrays: dict[str, np.ndarray], pool: pl.DataFrame, selector: str, classes: Sequence[str]
) -> dict[str, np.ndarray]:
    """Put the labels that a subset gave its samples in the place of those that were recorded.

    Raises
    ------
    BadInput
        What the selector reads was measured under the former labels.
    """
    if "new_label" not in pool.columns:
        return arrays
    relabelled = pool["new_label"].is_not_null()
    measured = [name for name in arrays if name in OF_LABELS]
    if measured and relabelled.any():
        raise BadInput(
            f"{selector} reads {measured[0]}, which was recorded under the former labels of {relabelled.sum()} "
            "samples that --from relabelled; denoise with mode=drop, or take a selector that reads none "
            "(`tracesift selectors` lists what each reads)"
        )
    if "labels" not in arrays or not relabelled.any():
        return arrays
    known = {label: index for index, label in enumerate(classes)}
    corrected = pool["new_label"].drop_nulls()
    if unknown := set(corrected) - set(known):
        raise BadInput(
            f"{selector}: '{min(unknown)}', a corrected label, is no class that the recorded model knows; record again "
            "on the corrected labels"
        )
    labels = arrays["labels"].copy()
    labels[relabelled.to_numpy()] = [known[label] for label in corrected]
    return {**arrays, "labels": labels}


def at_epoch_ends(workspace: Path, run_id: str) -> ModeSignals:
    """Return a recording as it was at the ends of epochs, where it holds that."""
    signals = load_signals(workspace, run_id)
    return signals.in_mode("epoch_end" if "epoch_end" in signals.modes else signals.modes[0])


def _how_to_get(work: Work, name: str) -> str:
    kept = names(work.path) if name in EMBEDDED else []
    return SIGNALS[name].source + (f"; or say --embedding NAME, there are {', '.join(kept)}" if kept else "")


def same_vectors(work: Work, run_id: str) -> StoredEmbedding | None:
    """Return the stored embedding that holds a recording's own features, if there is one."""
    for name in names(work.path):
        record = read_record(work.path, name)
        made = {} if record is None else record["made"]
        of_now = record is not None and record["dataset"]["fingerprint"] == work.dataset.fingerprint
        if of_now and made.get("source") == "model" and made.get("run_id") == run_id:
            return stored_embedding(work.path, name, work.dataset)
    return None


def _graph(
    work: Work, stored: StoredEmbedding, settings: Mapping[str, Any], pool: pl.DataFrame
) -> tuple[NeighborGraph | None, StoredEmbedding]:
    """Return the graph that a selector with these settings would search, and the embedding that keeps it for others.

    No graph where the selector looks at all pairs, or chooses among less than half of the samples, who are searched by
    themselves in less time.
    """
    metric: Metric = settings.get("metric", "cosine")
    asked = [settings[name] for name in COUNTS if name in settings]
    k = max((number for number in asked if isinstance(number, int)), default=0)
    if k < 1 or metric not in get_args(Metric):
        return None, stored
    rows = rows_among(stored_ids(work, stored, "train"), pool, f"embedding '{stored.name}'")
    known = stored.record["graphs"].get(metric)
    if known is None or known["k"] < min(k, len(pool) - 1):
        if 2 * len(rows) < len(stored.vectors("train")):
            return None, stored
        stored = keep_graph(work, stored, k, metric)
    return stored.graph_among(rows, metric), stored


def content_vectors(work: Work, frame: pl.DataFrame) -> np.ndarray | None:
    """Return the content embedding of a frame's rows, (N, D), made once and kept in memory; None without content.

    Only a deletion request asks for validation samples, so theirs are not kept; a frame of all others is answered
    without a copy.
    """
    if work.dataset.kind == KIND:
        return None
    if work.content_vectors is None:
        work.content_vectors = _content_of(work, _outside_val(work).to_numpy())
    ids = work.dataset.samples["sample_id"].gather(_outside_val(work))
    kept = frame["sample_id"].is_in(ids.implode())
    rows = ids.search_sorted(frame["sample_id"].filter(kept)).to_numpy()
    whole = len(rows) == len(work.content_vectors) and bool((np.diff(rows) == 1).all())
    vectors = work.content_vectors if whole else work.content_vectors[rows]
    if kept.all():
        return vectors
    others = work.dataset.samples["sample_id"].search_sorted(frame["sample_id"].filter(~kept)).to_numpy()
    both = np.concatenate([vectors, _content_of(work, others)])
    return both[np.argsort(np.argsort(~kept.to_numpy(), kind="stable"))]


def _content_of(work: Work, rows: np.ndarray) -> np.ndarray:
    """Return the content embedding of some rows of the dataset, ascending: the stored one, or made anew."""
    stored = stored_content(work)
    if stored is not None:
        return stored_rows(work, stored, work.dataset.samples[rows])
    from tracesift.pipelines.embedding.embeddings import content_embedding  # torch, which few selections need

    return content_embedding(work.dataset, rows=rows)


def stored_content(work: Work) -> str | None:
    """Return the name of a stored content embedding of every sample; it holds what would be made again."""
    made = made_by(work.dataset, "content")
    for name in names(work.path):
        record = read_record(work.path, name)
        if record is not None and record["made"] == made and not record["dataset"].get("withheld_by"):
            try:
                stored_embedding(work.path, name, work.dataset).verify()
            except (FingerprintMismatch, IncompleteRecording):
                continue
            return name
    return None


def contents(work: Work, pool: pl.DataFrame) -> dict[str, Any]:
    """Return the vectors of the content for a selector that reads an embedding; nothing without content."""
    vectors = content_vectors(work, pool)
    return {} if vectors is None else {"embedding": vectors}


def texts_of(work: Work, frame: pl.DataFrame) -> dict[str, Any]:
    """Return what the samples of a frame say, in its order, where they are texts."""
    if work.dataset.kind != "text":
        return {}
    rows = work.dataset.samples["sample_id"].search_sorted(frame["sample_id"]).to_numpy()
    return {"texts": work.dataset.content(rows)}


def _outside_val(work: Work) -> pl.Series:
    return (work.dataset.samples["split"] != "val").arg_true()
