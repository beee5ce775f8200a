"""One vector per sample: the recorded model's penultimate layer, or of the content alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from tracesift.catalog.schema import BadInput, FingerprintMismatch, IncompleteRecording
from tracesift.pipelines.checkpoint import load_checkpoint
from tracesift.pipelines.determinism import choose_device, settled
from tracesift.pipelines.encoding.encode import Encoded, Encodings, encode
from tracesift.pipelines.encoding.table import encode_table
from tracesift.pipelines.encoding.text import hashed_parts
from tracesift.pipelines.loop import EVAL_BATCH
from tracesift.pipelines.models.contract import Model, find
from tracesift.pipelines.signals import add_array, read_run, run_folder

CONTENT_SIDE = 16
CONTENT_SIZE = 256
_SPREAD = 8
_CHUNK = 8192
_PLAIN = 0.01
"""Grey levels: a channel whose squares differ by no more is plain, and what is left of it is rounding."""


def embed(
    dataset: Any, workspace: Path | str, run_id: str, *, device: str = "auto", inputs: Encodings | None = None
) -> None:
    """Add `embedding` (N, D) and `val_embedding` (M, D) of the run's model to the run, in eval mode.

    Nothing happens where they are there. The model is the recorded one after its last epoch; `inputs` are the
    dataset's encodings, where several models share them.

    Raises
    ------
    FingerprintMismatch
        When the run was recorded on another state of the dataset.
    """
    record = read_run(workspace, run_id)
    if record["dataset"]["fingerprint"] != dataset.fingerprint:
        raise FingerprintMismatch(
            f"run {run_id} was recorded on another state of {dataset.name}; record this state first"
        )
    made = {"layer": "penultimate", "epoch": record["epochs"]}
    if all(record.get("arrays", {}).get(name) == made for name in ("embedding", "val_embedding")):
        return
    model = recorded_model(dataset, record)
    with settled(0, model.recipe.threads):
        where = choose_device(device)
        encoded = (encode(dataset, model) if inputs is None else inputs.of(model)).to(where)
        module = load_module(dataset, workspace, run_id, model, encoded).to(where)
        for name, split in (("embedding", "train"), ("val_embedding", "val")):
            rows = dataset.rows(split)
            ids = dataset.samples["sample_id"].gather(rows).to_list()
            values = features(module, encoded, torch.from_numpy(rows))
            add_array(workspace, run_id, name, ids, values, made)


def recorded_model(dataset: Any, record: dict[str, Any]) -> Model:
    """Return the model of a run that `pipelines.train.record` made, with the recipe it was trained by."""
    if record["kind"] != "trained":
        raise BadInput(
            f"run {record['run_id']} was recorded in your own loop; pass your own embedding instead"
        )
    named = record["config"]["model"]
    model = find(named["name"].partition("@")[0], dataset.kind)
    if model.name != named["name"]:
        raise BadInput(
            f"the code of model {named['name']} has changed since run {record['run_id']}; record again"
        )
    return model.with_recipe(**{name: value for name, value in named.items() if name != "name"})


def load_module(dataset: Any, workspace: Path | str, run_id: str, model: Model, inputs: Encoded) -> nn.Module:
    """Return the run's network with its last weights, in eval mode."""
    state = load_checkpoint(run_folder(workspace, run_id))
    if state is None:
        raise IncompleteRecording(f"run {run_id} has no checkpoint.pt any more; record it again")
    module = model.build(inputs.input_shape, dataset.num_classes)
    module.load_state_dict(state["learner"]["module"])
    return module.eval()


@torch.inference_mode()
def features(module: nn.Module, inputs: Encoded, rows: Tensor) -> np.ndarray:
    """Return the penultimate layer of `rows`, float32 (n, D).

    A module of ours has a method ``features``; of any other, the input of its last linear layer is taken.
    """
    own = type(module).__module__.startswith("tracesift.pipelines.models.")
    caught: list[Tensor] = []
    handle = None
    if not own:
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        if not linear:
            raise BadInput(
                f"{type(module).__name__} has no linear layer whose input could serve as embedding"
            )
        handle = linear[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    parts = []
    for batch in rows.split(EVAL_BATCH):
        x = inputs.batch(batch)
        if own:
            parts.append(module.features(x).float().cpu())  # type: ignore[operator]
        else:
            module(x)
            parts.append(torch.flatten(caught.pop(), 1).float().cpu())
    if handle is not None:
        handle.remove()
    return torch.cat(parts).numpy() if parts else np.zeros((0, 1), dtype=np.float32)


def content_embedding(
    dataset: Any, *, seed: int = 0, rows: np.ndarray | None = None, known: int | None = None
) -> np.ndarray:
    """Return one unit vector per sample of all splits from its content alone, float32 (len(dataset), D).

    With `rows` (n,), ascending, only theirs are kept, (n, D); what a sample's vector is depends on all the same, or
    on the first `known` of them.

    For near-duplicate search: no model, no training. Images are averaged down to squares of 16 by 16, each channel
    centred, so that neither brightness nor a tint counts; texts are hashed n-grams (tf-idf), projected to 256
    dimensions by a seeded sparse projection; tables are standardised columns. What has no content of its own (a
    plain image, an empty text) is a zero vector, alike to nothing.
    """
    if dataset.kind == "image":
        vectors = _taken(_squares(dataset.inputs), rows)
    elif dataset.kind == "text":
        vectors = _projected(dataset.inputs, seed, rows, known)
    else:
        vectors = _taken(encode_table(dataset.inputs, dataset.rows("train")), rows)
    for at in range(0, len(vectors), _CHUNK):
        part = vectors[at : at + _CHUNK]
        norms = np.linalg.norm(part, axis=1, keepdims=True)
        part /= np.where(norms > 1e-12, norms, 1.0)
    return vectors


def table_directions(dataset: Any, *, rows: np.ndarray) -> np.ndarray:
    """Return a unit vector for some rows of a table, in which near means near in every column; float32 (n, D + 1).

    Standardised columns, and one more that holds the same in all rows, as much as a row is typically long. Without it
    only their direction would count: a row and its double would be copies of each other, and in one column all rows
    above the mean.
    """
    encoded = encode_table(dataset.inputs, dataset.rows("train"))
    typical = float(np.sqrt(np.mean(np.square(encoded[dataset.rows("train")], dtype=np.float64).sum(axis=1))))
    vectors = np.concatenate([encoded[rows], np.full((len(rows), 1), max(typical, 1.0), np.float32)], axis=1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _taken(vectors: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return vectors if rows is None else vectors[rows]


def _squares(images: Any) -> np.ndarray:
    parts = []
    for at in range(0, len(images), _CHUNK):
        channels = torch.tensor(images[at : at + _CHUNK]).float().movedim(3, 1)  # (n, C, H, W)
        side = min(CONTENT_SIDE, *channels.shape[2:])
        squares = F.interpolate(channels, size=(side, side), mode="area").flatten(2)
        squares = squares - squares.mean(2, keepdim=True)
        plain = squares.abs().amax(2, keepdim=True) < _PLAIN
        parts.append(squares.masked_fill(plain, 0.0).flatten(1))
    return torch.cat(parts).numpy()


def _projected(texts: Any, seed: int, rows: np.ndarray | None, known: int | None) -> np.ndarray:
    """Return tf-idf weighted n-grams, each thrown onto 8 of 256 dimensions with a sign by a hash of its own.

    Frequencies are those of the first `known` texts, and an n-gram that they lack is left out.
    """
    parts = list(hashed_parts(texts))
    frequency = np.zeros(parts[0].shape[1], dtype=np.int64)
    counted = left = len(texts) if known is None else known
    for part in parts:
        frequency += np.bincount(part[: min(left, part.shape[0])].indices, minlength=len(frequency))
        left -= min(left, part.shape[0])
    idf = np.log((1 + counted) / (1 + frequency)) + 1
    projection = _projection(frequency > 0, seed)
    wanted = np.arange(len(texts)) if rows is None else rows
    vectors = np.zeros((len(wanted), CONTENT_SIZE), dtype=np.float32)
    begin = at = 0
    for part in parts:
        weights = ((1 + np.log(part.data.astype(np.float64))) * idf[part.indices]).astype(np.float32)
        bags = sparse.csr_matrix((weights, part.indices, part.indptr), shape=part.shape)
        here = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, begin + part.shape[0])] - begin
        for first in range(0, len(here), _CHUNK):
            made = (bags[here[first : first + _CHUNK]] @ projection).toarray()
            vectors[at : at + len(made)] = made
            at += len(made)
        begin += part.shape[0]
    return vectors


def _projection(used: np.ndarray, seed: int) -> sparse.csr_matrix:
    """Return the signed places of each used bucket, (buckets, 256); unused ones are left empty."""
    buckets = np.flatnonzero(used)
    keys = _mixed(
        buckets[:, None].astype(np.uint64) * np.uint64(_SPREAD) + np.arange(_SPREAD, dtype=np.uint64), seed
    )
    columns = (keys % np.uint64(CONTENT_SIZE)).astype(np.int32).ravel()
    signs = np.where(keys >> np.uint64(63), np.float32(1), np.float32(-1)).ravel()
    starts = np.append(0, np.cumsum(used, dtype=np.int32)) * _SPREAD
    return sparse.csr_matrix((signs, columns, starts), shape=(len(used), CONTENT_SIZE))


def _mixed(keys: np.ndarray, seed: int) -> np.ndarray:
    """Return well-mixed 64-bit hashes of `keys` (the finaliser of splitmix64)."""
    keys = keys + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))
