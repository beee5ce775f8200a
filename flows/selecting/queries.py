"""The losses that `autocoreset` matches where they are not the recorded ones: `--param loss=` and `queries=`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tracesift.catalog.files import digest, sha256
from tracesift.catalog.schema import BadInput
from tracesift.flows.selecting.selector_arrays import arrays_for, rows_among
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.own_vectors import read_vectors
from tracesift.pipelines.users_function import users_function
from tracesift.selectors.contract import Selector
from tracesift.selectors.gradients.fitted_queries import Losses, fitted_queries, logistic_losses

BUILT_IN: dict[str, Losses] = {"logistic": logistic_losses}
QUERYING = ("loss", "queries", "patience")
"""Settings of `autocoreset` that say which losses it matches."""
OF = "autocoreset"


def asks(selector: str, params: Mapping[str, Any]) -> bool:
    """Tell whether a selection matches other losses than the recorded ones."""
    return selector == OF and any(name in params for name in QUERYING)


def without(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are the selector's own."""
    return {name: value for name, value in params.items() if name not in QUERYING}


def asked_losses(
    work: Work,
    pool: pl.DataFrame,
    facts: Selector,
    params: Mapping[str, Any],
    *,
    embedding: str | None,
    size: int,
    seed: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the losses to match, as the array `loss`, and what the manifest says of them.

    Parameters
    ----------
    pool
        The samples to select from, ascending.
    params
        What the user set: ``loss``, ``logistic`` or a function of the user's as ``module:function``; ``queries``, how
        many models are fitted at first or a file of losses (Q, N) with sample_ids; ``patience``; and the selector's
        own.
    embedding
        The stored embedding that models are fitted on; the newest recording's features where None.

    Raises
    ------
    BadInput
        A setting, function or file that cannot be used; the message says which.
    """
    loss, queries, patience = (params.get(name) for name in QUERYING)
    own = without(params)
    _check(loss, queries, patience, own)
    sources: dict[str, Any] = {}
    if isinstance(queries, str):
        given = _from_file(Path(queries), pool)
        sources["queries"] = {
            "file": Path(queries).name,
            "sha256": sha256(Path(queries)),
            "number": len(given),
        }
        if loss is None:
            if embedding is not None:
                raise BadInput(
                    f"--embedding {embedding}: losses of a file need none; leave it out, or say --param loss="
                )
            return {"loss": given}, sources
        queries = given
    function, named = _function(str(loss))
    first = 3 if queries is None else queries
    rounds = 5 if patience is None else patience
    reading = replace(facts, arrays=("embedding",), optional_arrays=())
    arrays, read = arrays_for(work, pool, reading, {}, embedding)
    fitted = fitted_queries(
        pool, arrays["embedding"], function, size=size, seed=seed, queries=first, patience=rounds,
        form=own.get("form", facts.defaults["form"]), per_class=own.get("per_class", facts.defaults["per_class"]),
        quota=own.get("quota", facts.defaults["quota"]),
    )  # fmt: skip
    sources = {"queries": first, **sources, **read, "loss": named, "patience": rounds, "matched": len(fitted)}
    return {"loss": fitted}, sources


def _check(loss: Any, queries: Any, patience: Any, own: Mapping[str, Any]) -> None:
    if loss is None and not isinstance(queries, str):
        name = "queries" if queries is not None else "patience"
        raise BadInput(
            f"--param {name}: models are fitted where --param loss=logistic or loss=module:function says how; without "
            "it, --param queries=FILE.npz gives losses and the recorded ones are taken otherwise"
        )
    if loss is not None and not isinstance(loss, str):
        raise BadInput(f"--param loss={loss}: logistic, or a function of yours as module:function")
    for name, value in (("queries", queries), ("patience", patience)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value is not None and not whole and not (name == "queries" and isinstance(value, str)):
            also = " or the name of an .npz" if name == "queries" else ""
            raise BadInput(f"--param {name}={value}: a whole number, 1 or more{also}")
    if "checkpoints" in own:
        raise BadInput(
            "--param checkpoints: it is of the recorded losses; leave it out beside loss= and queries="
        )


def _function(name: str) -> tuple[Losses, str]:
    """Return the loss of this name and what tells two states of it apart; what it raises is said as the user's."""
    if name in BUILT_IN:
        return BUILT_IN[name], name
    function_name = name.partition(":")[2]
    if not function_name:
        raise BadInput(
            f"--param loss={name}: it is {', '.join(BUILT_IN)}, or a function of yours as module:function"
        )
    function, source = users_function(
        name, f"--param loss={name}", "(vectors, labels, weights, seed) and returns losses"
    )

    def losses(vectors: np.ndarray, labels: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
        try:
            found: np.ndarray = function(vectors, labels, weight, seed)
        except Exception as error:  # the user's own code again
            raise BadInput(
                f"--param loss={name}: {function_name}(vectors, labels, weights, seed) raised {type(error).__name__}: "
                f"{error}; mend it first"
            ) from error
        return found

    return losses, f"{name}@{digest(source, length=8)}"


def _from_file(path: Path, pool: pl.DataFrame) -> np.ndarray:
    """Return the losses (Q, N) of a file for the samples of the pool."""
    where = f"--param queries={path}"
    if path.suffix.lower() != ".npz" or not path.is_file():
        raise BadInput(f"{where}: no such .npz; it holds losses (Q, N) and sample_ids (N,)")
    ids, losses = read_vectors(path)
    if ids is None or losses.shape[1] != len(ids) or len(set(ids)) != len(ids):
        raise BadInput(
            f"{where}: holds {losses.shape} and {'no' if ids is None else len(ids)} ids; give losses (Q, N) and "
            "as many different sample_ids (N,)"
        )
    order = np.argsort(np.array(ids))
    rows = rows_among(pl.Series(ids, dtype=pl.String).gather(order), pool, f"{path}")
    return losses[:, order[rows]]
