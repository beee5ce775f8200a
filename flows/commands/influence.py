"""The command `influence`: whom each training sample helps and harms."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from tracesift.catalog.schema import BadInput
from tracesift.flows.options import Common, Whole
from tracesift.flows.parameters import settings_by_name
from tracesift.flows.show import print_json, print_table


def influence(
    *names: str,
    common: Common = Common(),
    k: Whole = 10,
    run: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    param: Annotated[tuple[str, ...], Parameter(negative="")] = (),
) -> int:
    """Find whom each training sample helps and harms, and who helps and harms each validation sample.

    Then `tracesift why SAMPLE_ID` and the report show the strongest, and the view influence_edges has all that were
    kept: of each method those that were asked for last. rank is the place among the partners of a training sample,
    partner_rank that among the training samples of its partner. Those of other settings and recordings are in
    all_influence_edges.
    tracesift sql "SELECT * FROM influence_edges WHERE method = 'last_layer' AND kind = 'harm' ORDER BY value LIMIT 20"

    Methods: last_layer, a gradient step of the recorded model's last layer, reads what `tracesift record` and
    `tracesift embed` leave; influence_subset counts models that trained on a sample against models that did not,
    each edge with its standard error, after `tracesift record --job subset_training`; tracin and tracin_all add up such
    steps over a training, of the last layer or of all parameters, and trak multiplies projected gradients of several
    models, after `tracesift record --job tracin` or `--job trak`, either with `--param pairs=true`.

    The partners are validation samples: a recording holds no predictions of test, which serves `evaluate` alone. To ask
    whom training helps among others, ingest them as val: tracesift ingest SOURCE --val OTHER

    Parameters
    ----------
    names
        Methods; every one whose signals are there by default.
    k
        How many partners of either kind each sample keeps.
    run
        Recordings to read, each method the first that has its signals; by default the newest. Several, such as seeds,
        are not pooled.
    param
        A setting of a method, as method.key=value (key=value where one method is named); may be given several times.
    """
    from tracesift.flows.influence import influence as step
    from tracesift.flows.recordings import adopt_recordings, newest_runs
    from tracesift.flows.work import existing
    from tracesift.scorers.influence.edges.contract import find

    if not 1 <= k < 2**15:
        raise BadInput(f"--k {k}: a whole number from 1 to {2**15 - 1}")
    work = existing(common.workspace)
    settings = settings_by_name(param, names, "method")
    for name in settings:
        find(name)
        if names and name not in names:
            raise BadInput(f"--param belongs to a method that is not named: name {name} as well")
    with work.locked():
        adopt_recordings(work)
        found = step(work, list(run) or newest_runs(work), names, settings, k=k)
    if common.json:
        print_json(found)
    else:
        print_table(
            [
                {"method": name, "run": one["run_id"], "edges": one["edges"], "training samples": one["samples"]}
                for name, one in found["edges"].items()
            ]
        )  # fmt: skip
    return 0
