"""Goldfish masks of a subset: for each text that is trained on, the tokens that its loss leaves out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from tracesift.catalog.goldfish import (
    GOLDFISH_FILE,
    MASKED_ROLES,
    MASKS,
    MaskRecord,
    read_masks,
    write_masks,
)
from tracesift.catalog.manifest import manifest_path, version_folder
from tracesift.catalog.schema import BadInput, UnknownName, nearest
from tracesift.flows.progress import say, stage, watched
from tracesift.flows.selecting.written import recorded_subsets
from tracesift.flows.work import Work
from tracesift.pipelines.encoding.token_ids import TokenIds
from tracesift.pipelines.subset import Subset, load_manifest
from tracesift.selectors.decisions.goldfish_mask import goldfish_mask


@watched("goldfish")
def goldfish(
    work: Work,
    name: str,
    *,
    tokenizer: str,
    special_tokens: bool = True,
    k: int = 4,
    h: int = 13,
    rule: Literal["hash", "static"] = "hash",
    start: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Write which tokens of each text of a subset its loss leaves out; the caller holds the workspace's lock.

    The file, goldfish.parquet, lies beside the manifest.json of the subset's newest version, in its folder under
    ``versions``. Masks that were made with the same settings and tokenizer stay as they are; others are replaced.

    Parameters
    ----------
    name
        Of the subset.
    tokenizer
        On the Hugging Face Hub, or a local folder.
    special_tokens
        Whether the tokens that the tokenizer adds to a text are counted among its tokens.
    k, h, rule, start, seed
        As `goldfish_mask` takes them.

    Returns
    -------
    dict
        ``file``, ``subset`` and ``version``; how many ``members`` have masks, their ``tokens``, how many are
        ``masked``, and ``share``; ``learned_whole``: how many members have no masked token; ``rule`` and ``tokenizer``
        as the file says them; ``written``: whether it was.

    Raises
    ------
    UnknownName
        There is no such subset.
    FingerprintMismatch
        The dataset is not in the state that the subset was made for.
    BadInput
        The data are no texts, nothing in the subset is trained on, the tokenizer cannot be loaded, or settings that no
        mask can be made with.
    """
    settings = _settings(k=k, h=h, rule=rule, start=start, seed=seed)
    subset = _subset(work, name)
    if work.dataset.kind != "text":
        raise BadInput(
            f"goldfish: {work.dataset.name} is {work.dataset.kind}; masks are over the tokens of texts, so ingest a "
            "dataset with a column of texts (--text)"
        )
    subset.verify(work.dataset)
    taken, _ = subset.taken(work.dataset, MASKED_ROLES)
    if not len(taken.ids):
        raise BadInput(f"goldfish: no member of {name} is trained on, so there is nothing to mask")
    if not Path(tokenizer).exists():
        say(f"{tokenizer} is no folder here; the Hugging Face Hub is asked for it")
    tokens = TokenIds(tokenizer, special_tokens=special_tokens)
    manifest = subset.manifest
    record = MaskRecord(
        manifest={"name": name, "version": manifest.version, "fingerprint": manifest.fingerprint},
        rule=settings,
        tokenizer=tokens.identity,
    )
    path = version_folder(subset.path, manifest) / GOLDFISH_FILE
    made = _as_before(subset, path, record)
    written = made is None
    if made is None:
        stage("tokens")
        texts = [str(work.dataset.inputs[row]) for row in taken.rows.tolist()]
        made = _masks(taken.ids, tokens.ids(texts), settings)
        write_masks(path, made, record)
    total, masked = int(made["tokens"].sum()), int(made["masked"].list.len().sum())
    return {
        "file": str(path), "subset": name, "version": manifest.version, "members": made.height, "tokens": total,
        "masked": masked, "share": masked / total if total else 0.0,
        "learned_whole": int((made["masked"].list.len() == 0).sum()), "rule": record.rule,
        "tokenizer": record.tokenizer, "written": written,
    }  # fmt: skip


def _settings(*, k: int, h: int, rule: str, start: int, seed: int) -> dict[str, Any]:
    """Return the settings that this rule goes by; refuse those that it does not take or would not read."""
    goldfish_mask(np.zeros(0, dtype=np.int64), k=k, h=h, rule=rule, start=start, seed=seed)  # type: ignore[arg-type]
    if k == 1:
        raise BadInput("goldfish: k 1 leaves every token out of the loss; take 2 or more, 4 in the paper")
    if rule == "static":
        if seed:
            raise BadInput(
                f"goldfish: seed {seed}: the static rule draws nothing; leave it out, or take rule hash"
            )
        return {"rule": rule, "k": k, "start": start}
    if start:
        raise BadInput(
            f"goldfish: start {start}: only the static rule has one; leave it out, or take rule static"
        )
    return {"rule": rule, "k": k, "h": h, "seed": seed}


def _subset(work: Work, name: str) -> Subset:
    """Return the newest version of a subset."""
    path = manifest_path(work.path / "manifests", name)
    if not path.is_file():
        known = [row["name"] for row in recorded_subsets(work)]
        raise UnknownName(
            f"no subset '{name}' in {work.path}{nearest(name, known)}; there are {', '.join(known) or 'none'}"
        )
    # Masks are of the manifest as it was made; what was asked to be deleted is left out where they are read.
    return replace(load_manifest(path), deleted=frozenset())


def _as_before(subset: Subset, path: Path, record: MaskRecord) -> pl.DataFrame | None:
    """Return the masks that stand there if they are whole and were made like this, else None."""
    try:
        rows, found = read_masks(path)
    except BadInput:
        return None
    same = (found.manifest, found.rule, found.tokenizer) == (record.manifest, record.rule, record.tokenizer)
    return rows if same else None


def _masks(ids: pl.Series, texts: Iterable[np.ndarray], settings: dict[str, Any]) -> pl.DataFrame:
    """Return a row per text, as the file holds it."""
    lengths, masked = [], []
    for tokens in texts:
        lengths.append(len(tokens))
        masked.append(np.flatnonzero(goldfish_mask(tokens, **settings)).tolist())
    return pl.DataFrame({"sample_id": ids, "tokens": lengths, "masked": masked}, schema=MASKS)
