"""Where the vectors of a stored embedding come from: a recorded model, the content, the user's own, an encoder.

Every source is a function that returns the vectors of train, val and test by split, rows in ascending order of
`sample_id`. `made_by` says in plain JSON what decides them, so that nothing is made twice.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracesift.catalog.files import digest, sha256
from tracesift.catalog.schema import SPLITS, BadInput, nearest
from tracesift.pipelines.embedding.encoders import encoded, weights
from tracesift.pipelines.embedding.own_vectors import from_file, list_column, vectors_in

if TYPE_CHECKING:
    from tracesift.pipelines.encoding.encode import Encodings


def default_name(source: str) -> str:
    """Return what an embedding of this source is called where the user gives it no name.

    Examples
    --------
    >>> [default_name(source) for source in ("model", "content", "a/my vectors.npz", "hf:org/encoder-v2", "column:x")]
    ['model', 'content', 'my-vectors', 'encoder-v2', 'x']
    """
    kind, _, rest = source.partition(":")
    plain = Path(rest).name if kind in ("hf", "column") and rest else Path(source).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.") or "embedding"


def made_by(
    dataset: Any, source: str, *, order: str | None = None, run_id: str | None = None
) -> dict[str, Any]:
    """Return what decides the vectors of a source, beside the dataset itself.

    Raises
    ------
    BadInput
        The source does not exist; the message lists the forms that there are.
    """
    kind, _, rest = source.partition(":")
    if source == "model":
        return {"source": "model", "run_id": run_id, "layer": "penultimate"}
    if source == "content":
        return {"source": "content", "kind": dataset.kind, "version": 2}
    if kind == "hf" and rest:
        return {"source": source, "pooling": "mean", "weights": weights(rest)}
    if kind == "column" and rest:
        return {"source": source, "values": digest(list_column(dataset, rest).to_list())}
    if Path(source).is_dir():
        raise BadInput(f"--source {source}: a folder; vectors come in a .npy, .npz or Parquet file")
    if not Path(source).is_file():
        known = ("model", "content", "hf:NAME", "column:NAME")
        raise BadInput(
            f"--source {source}: no such file{nearest(source, known[:2])}; it is {', '.join(known)} or a .npy, .npz or "
            "Parquet file"
        )
    return {"source": Path(source).name, "sha256": sha256(Path(source)), "order": order}


def vectors_of(
    dataset: Any,
    source: str,
    *,
    workspace: Path | str = "",
    run_id: str | None = None,
    order: str | None = None,
    device: str = "auto",
    inputs: Encodings | None = None,
) -> dict[str, np.ndarray]:
    """Return the vectors of train, val and test from one source, float32 (n, D) each."""
    kind, _, rest = source.partition(":")
    if source == "model":
        return _of_model(dataset, workspace, str(run_id), device, inputs)
    if source == "content":
        from tracesift.pipelines.embedding.embeddings import content_embedding

        return by_split(dataset, content_embedding(dataset))
    if kind == "hf" and rest:
        return by_split(dataset, encoded(dataset, rest, device=device))
    if kind == "column" and rest:
        return by_split(dataset, vectors_in(dataset, rest))
    return by_split(dataset, from_file(dataset, Path(source), order=order))


def by_split(dataset: Any, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Return the vectors of all samples, (N, D) in the order of sample_id, by split."""
    return {split: vectors[dataset.rows(split)] for split in SPLITS}


def _of_model(
    dataset: Any, workspace: Path | str, run_id: str, device: str, inputs: Encodings | None
) -> dict[str, np.ndarray]:
    """Return the penultimate features of a recorded model; those of train and val stand in the recording."""
    import torch

    from tracesift.pipelines.determinism import choose_device, settled
    from tracesift.pipelines.embedding.embeddings import embed, features, load_module, recorded_model
    from tracesift.pipelines.encoding.encode import encode
    from tracesift.pipelines.signals import read_array, read_run, run_folder

    embed(dataset, workspace, run_id, device=device, inputs=inputs)
    folder = run_folder(workspace, run_id)
    known = {
        split: read_array(folder, name)[1]
        for split, name in (("train", "embedding"), ("val", "val_embedding"))
    }
    model = recorded_model(dataset, read_run(workspace, run_id))
    with settled(0, model.recipe.threads):
        where = choose_device(device)
        shown = (encode(dataset, model) if inputs is None else inputs.of(model)).to(where)
        module = load_module(dataset, workspace, run_id, model, shown).to(where)
        return {**known, "test": features(module, shown, torch.from_numpy(dataset.rows("test")))}
