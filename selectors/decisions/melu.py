"""Neighbour sets, and a plan of batches by entity: what modular unlearning trains on, step by step.

A language model that is to forget a person or a place is given, instead of one mixture over and over, a module for each
entity: its own forget items, the retained items near them, and general ones, then the next entity.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from tracesift.catalog.nearest_rows import nearest_rows, unit_rows
from tracesift.catalog.schema import BadInput
from tracesift.selectors.ranking import seeded_keys

KINDS = ("neighbor_direct", "neighbor_indirect")
PLAN = {"module": pl.Int64(), "step": pl.Int64(), "sample_id": pl.String(), "role": pl.String()}


def neighbor_sets(
    ids: Iterable[str], embedding: np.ndarray, forget: Iterable[str], *, direct: int = 5, indirect: int = 2
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return each forget item's nearest retained items, and the nearest retained items of those.

    Parameters
    ----------
    ids : of str (n,)
        Unique.
    embedding : array of shape (n, D)
        Finite; compared by cosine.
    forget : of str
        Ids that are forgotten; all others are retained.
    direct, indirect : int
        How many of each.

    Returns
    -------
    direct, indirect : polars.DataFrame
        `sample_id` (the forget item), `neighbor` and `cosine`, of an indirect one to the direct neighbour it was found
        through; the nearest first. A direct neighbour is in no indirect set of the same item.

    Raises
    ------
    BadInput
        Unknown or repeated ids, or nothing to retain.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0]])
    >>> near, far = neighbor_sets(list("abcd"), x, ["a"], direct=1, indirect=1)
    >>> near["neighbor"].to_list(), far["neighbor"].to_list()
    (['b'], ['c'])
    """
    names = np.array(list(ids), dtype=object)
    order = np.argsort(names.astype(str), kind="stable")
    names = names[order]
    if len(set(names)) != names.size or len(embedding) != names.size:
        raise BadInput(
            f"neighbor_sets: {len(set(names))} different ids and {len(embedding)} vectors; give a unique id for each"
        )
    rows = {name: row for row, name in enumerate(names)}
    wanted = sorted(set(forget))
    unknown = [name for name in wanted if name not in rows]
    if unknown:
        raise BadInput(f"neighbor_sets: {len(unknown)} forget ids have no vector, e.g. '{unknown[0]}'")
    vectors = unit_rows(np.asarray(embedding)[order])
    forgotten = np.array([rows[name] for name in wanted], dtype=np.int64)
    retained = np.setdiff1d(np.arange(names.size), forgotten)
    if not retained.size or not forgotten.size:
        raise BadInput("neighbor_sets: there has to be something to forget and something to retain")
    index, cosines = nearest_rows(vectors, forgotten, retained, min(direct, retained.size))
    near = [
        (names[row], names[retained[at]], float(cosine))
        for row, found, how in zip(forgotten, index, cosines, strict=True)
        for at, cosine in zip(found, how, strict=True)
    ]
    middles = np.unique(index)
    count = min(indirect + direct, retained.size - 1)  # among them may be direct ones of the same item
    onward, further = nearest_rows(vectors, retained[middles], retained, count + 1)
    place = {int(at): number for number, at in enumerate(middles)}
    far = []
    for row, found in zip(forgotten, index, strict=True):
        direct_ones = set(found.tolist())
        best: dict[int, float] = {}
        for at in found.tolist():
            others = [
                (other, float(cosine))
                for other, cosine in zip(onward[place[at]].tolist(), further[place[at]], strict=True)
                if other not in direct_ones
            ]
            for other, cosine in others[:indirect]:
                best[other] = max(best.get(other, -2.0), cosine)
        far += [
            (names[row], names[retained[at]], cosine)
            for at, cosine in sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))
        ]
    schema = {"sample_id": pl.String(), "neighbor": pl.String(), "cosine": pl.Float64()}
    return tuple(pl.DataFrame(part, schema=schema, orient="row") for part in (near, far))  # type: ignore[return-value]


def batch_plan(
    frame: pl.DataFrame,
    forget: Iterable[str],
    direct: pl.DataFrame,
    indirect: pl.DataFrame,
    *,
    general: int = 4,
    forget_per_step: int = 4,
    seed: int,
) -> pl.DataFrame:
    """Return a plan of batches: a module per entity, a step per few forget items with their neighbours beside them.

    Parameters
    ----------
    frame : polars.DataFrame
        `sample_id` and `entity` of all items, forgotten and retained; the entity of a retained item is not read.
    forget : of str
        Ids that are forgotten; each needs an entity.
    direct, indirect : polars.DataFrame
        `sample_id` of a forget item and its `neighbor`, as `neighbor_sets` returns them; may be empty.
    general : int
        Further retained items in each step, drawn uniformly from those that are near no forget item.
    forget_per_step : int
        Most forget items in a step.
    seed : int
        Of the order of modules and of the general draws. General items are passed through in one random order, so that
        all come before any comes again.

    Returns
    -------
    polars.DataFrame
        `module` and `step` (within the module) from 0, `sample_id`, and `role`: ``forget``, ``neighbor_direct``,
        ``neighbor_indirect`` or ``general``. Within a step no item is twice; one that is near several of its forget
        items stands once, as direct where it is both.

    Raises
    ------
    BadInput
        Missing columns, repeated or unknown ids, a forget item without an entity, a neighbour that is forgotten
        itself, or more general items than there are.

    Notes
    -----
    The paper compares one cyclic mixture of single forget and retain items with modules by entity. How its steps are
    composed is not known to us; what stands in a step, and in which number, is ours.

    References
    ----------
    Standard vs. modular sampling: best practices for reliable LLM unlearning, 2025 (modular entity-level unlearning).

    Examples
    --------
    >>> frame = pl.DataFrame({"sample_id": list("abcd"), "entity": ["p", "p", None, None]})
    >>> near = pl.DataFrame({"sample_id": ["a", "b"], "neighbor": ["c", "c"]})
    >>> plan = batch_plan(frame, ["a", "b"], near, near.clear(), general=1, seed=0)
    >>> plan["sample_id"].to_list(), plan["role"].to_list()
    (['a', 'b', 'c', 'd'], ['forget', 'forget', 'neighbor_direct', 'general'])
    """
    entities = _entities(frame)
    wanted = sorted(set(forget))
    _check_forget(wanted, entities)
    near = {}
    for kind, edges in zip(KINDS, (direct, indirect), strict=True):
        near[kind] = _neighbors(edges, set(wanted), entities, kind)
    close = {other for found in near.values() for others in found.values() for other in others}
    far = sorted(set(entities) - set(wanted) - close)
    if general > len(far):
        raise BadInput(
            f"batch_plan: {general} general items a step, and {len(far)} retained ones are near no forget item; lower "
            "general"
        )
    pool = pl.DataFrame({"sample_id": far}, schema={"sample_id": pl.String()})
    keys = seeded_keys(pool, seed, "batch_plan general") if far else np.zeros(0)
    around = [far[at] for at in np.argsort(keys, kind="stable")]
    named = pl.DataFrame({"sample_id": sorted({entities[name] for name in wanted})})  # type: ignore[type-var]
    modules = named["sample_id"].gather(np.argsort(seeded_keys(named, seed, "batch_plan"), kind="stable"))
    rows: list[tuple[int, int, str, str]] = []
    drawn = 0
    for module, entity in enumerate(modules):
        items = [name for name in wanted if entities[name] == entity]
        for step, at in enumerate(range(0, len(items), forget_per_step)):
            own = items[at : at + forget_per_step]
            roles = dict.fromkeys(own, "forget")
            for kind in KINDS:
                for other in sorted({other for name in own for other in near[kind].get(name, ())}):
                    roles.setdefault(other, kind)
            for _ in range(general):
                roles[around[drawn % len(around)]] = "general"
                drawn += 1
            rows += [(module, step, name, role) for name, role in roles.items()]
    return pl.DataFrame(rows, schema=PLAN, orient="row")


def _entities(frame: pl.DataFrame) -> dict[str, str | None]:
    for column in ("sample_id", "entity"):
        if column not in frame.columns:
            raise BadInput(f"batch_plan: the frame has no column '{column}'; it has {frame.columns}")
    if frame["sample_id"].is_duplicated().any() or frame["sample_id"].null_count():
        raise BadInput("batch_plan: ids must be there and unique")
    return dict(frame.select("sample_id", pl.col("entity").cast(pl.String)).iter_rows())


def _check_forget(wanted: list[str], entities: dict[str, str | None]) -> None:
    unknown = [name for name in wanted if name not in entities]
    if unknown or not wanted:
        raise BadInput(
            f"batch_plan: the frame lacks {len(unknown)} of {len(wanted)} forget ids, e.g. {unknown[:3]}"
            if unknown
            else "batch_plan: there is nothing to forget"
        )
    nameless = [name for name in wanted if entities[name] is None]
    if nameless:
        raise BadInput(f"batch_plan: {len(nameless)} forget items have no entity, e.g. '{nameless[0]}'")


def _neighbors(
    edges: pl.DataFrame, forget: set[str], entities: dict[str, str | None], kind: str
) -> dict[str, list[str]]:
    """Return the neighbours of each forget item, after checking that they can be retained."""
    found: dict[str, list[str]] = {}
    for name, other in edges.select("sample_id", "neighbor").iter_rows():
        if name not in forget or other not in entities:
            raise BadInput(
                f"batch_plan: {kind} '{name}' - '{other}': it goes from a forget item to an item of the frame"
            )
        if other in forget:
            raise BadInput(f"batch_plan: '{other}' is forgotten, it cannot be a {kind} of '{name}'")
        found.setdefault(name, []).append(other)
    return found
