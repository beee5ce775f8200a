"""The command `import`: recordings of the user's own training, and the files that peers' code leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tracesift.flows.options import Common, Reading
from tracesift.flows.progress import say

Flag = Parameter(negative="")


def import_(
    file: Path,
    /,
    *,
    common: Common = Common(),
    reading: Reading = Reading(),
    source: str | None = None,
    mode: Literal["in_training", "epoch_end"] | None = None,
    ids: Path | None = None,
    by_position: Annotated[bool, Flag] = False,
    labels: Path | None = None,
    classes: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
) -> int:
    """Import recorded logits, probabilities or dynamics of your own training: nothing is trained.

    FILE is an .npz (sample_ids, labels, and any of logits (T,N,K), probs (T,N,K), loss, margin, correct, ...
    (T,N), probs_oos (N,K), embedding (N,D), signals of jobs such as subset_correct (N,R); val_ids with val_loss
    and the like), an .npy of logits, a table with a row per sample and epoch (sample_id, epoch, loss, ..., or
    logits as a list or as logits_0, logits_1, ...), a folder of cartography (dynamics_epoch_N.jsonl), AUM
    (full_aum_records.csv) or TDDS (N_Output.npy with N_Index.npy), or a pickle of example_forgetting (Toneva et
    al.; read as plain data, nothing in it is run). What follows from logits or probabilities is computed. Without
    a dataset in the workspace the file's own ids and labels make one, which can be scored and selected from.
    Then: tracesift score.

    Parameters
    ----------
    file
        The file or folder.
    source
        The data that were trained on; opened and ingested first.
    mode
        in_training (weights moving; the default) or epoch_end (one eval pass after each epoch).
    ids
        A file with one sample id a line, for row 0, 1, ... of a FILE that has none.
    by_position
        Row 0, 1, ... of FILE are the rows of --source, in its order.
    labels
        A file with one label a line, for the samples of a FILE that has none.
    classes
        Class names in the order of the columns of logits and probabilities (also a,b,c).
    """
    from tracesift.flows.commands.stages import answer
    from tracesift.flows.importing import ImportJob, import_recording
    from tracesift.flows.work import Work

    named = tuple(name for part in classes for name in part.split(","))
    job = ImportJob(
        path=file, source=source, reading=reading, mode=mode, ids=ids, by_position=by_position, labels=labels,
        classes=named,
    )  # fmt: skip
    work = Work(common.workspace)
    with work.locked():
        answer(import_recording(work, job), common)
    say(f"next: tracesift score --workspace {common.workspace}")
    return 0
