"""The command `project`: images without the directions in which a linear model tells their labels apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tracesift.catalog.parameter_types import settings_of
from tracesift.flows.options import Common, Reading
from tracesift.flows.parameters import settings
from tracesift.flows.progress import say, watched


def project(
    source: str,
    /,
    *,
    out: Path,
    common: Common = Common(),
    reading: Reading = Reading(),
    train_only: Annotated[bool, Parameter(negative="")] = False,
    param: Annotated[tuple[str, ...], Parameter(negative="")] = (),
) -> int:
    """Take the class-wise signal out of images by orthogonal projection: a cure for some unlearnable examples.

    Fits a logistic regression on the pixels of train, takes out of each image what lies along its weights, rounds to
    8 bits, and writes a dataset that `tracesift curate` opens (OUT/data.parquet, ids as in the source) with a record
    beside it (OUT/record/projection.json). Helps against a pattern that the images of a class share; noise that
    differs from image to image may stay (docs/protection.md).

    Parameters
    ----------
    source
        Images; `tracesift curate --help` lists the forms.
    out
        Folder to write; a new one.
    train_only
        Leave val and test as they are. By default they lose the same directions, and so must whatever a model that was
        trained on the result is asked about.
    param
        A setting of the method, as key=value; may be given several times.
    """
    from tracesift.flows.commands.stages import answer
    from tracesift.flows.work import open_source, tell
    from tracesift.pipelines.protection.orthogonal_projection import class_directions
    from tracesift.pipelines.protection.projecting import RECORD, SETTINGS, write_projected
    from tracesift.pipelines.protection.projecting import project as projected
    from tracesift.pipelines.protection.writing import check_free

    chosen = settings_of("project", class_directions, SETTINGS, settings(param))
    check_free(out)
    dataset = open_source(source, reading)
    with watched("project") as progress:
        made = projected(dataset, train_only=train_only, settings=chosen, progress=progress)
        record = write_projected(made, out, progress=progress)
    tell(dataset)
    report = record["report"]
    if not report["converged"]:
        say(
            f"the regression was still improving after {report['iterations']} iterations, which need not matter; allow "
            f"more with --param iterations={2 * record['parameters']['iterations']}"
        )
    result = {
        "data": str(out / record["data"]["file"]), "record": str(out / RECORD),
        "projected": record["counts"]["projected"], "directions": report["directions"],
        "energy_removed": report["energy_removed"], "clipped": report["clipped"],
        "training_accuracy": report["training_accuracy"], "parameters": record["parameters"],
    }  # fmt: skip
    answer(result, common)
    if not common.json:
        say(f"next: tracesift curate {out}")
    return 0
