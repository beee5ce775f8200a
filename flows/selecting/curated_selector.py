"""Which selectors `curate` can prune with, asked before anything that trains is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracesift.catalog.schema import BadInput
from tracesift.flows.options import AUTO, Choosing
from tracesift.scorers.contract import find as find_scorer
from tracesift.scorers.contract import names as scorer_names
from tracesift.selectors import contract as selectors


def check_selector(choosing: Choosing, data: Callable[[], tuple[str, str]]) -> None:
    """Refuse a selector that is unknown, or that `curate` cannot prune with; the message says what can.

    Parameters
    ----------
    choosing
        The selector and how much it keeps.
    data
        Returns the kind and the name of the data, which decide whether what the selector reads can be made at all.
        Asked only of a selector that is refused: it may have to open them.

    Raises
    ------
    UnknownName
        There is no such selector.
    BadInput
        It chooses what to forget, takes no size, or reads what `curate` does not score.
    """
    if choosing.selector == AUTO:
        return
    selector = selectors.find(choosing.selector)
    if selector.chooses == "forget":
        raise BadInput(
            f"--selector {selector.name} chooses what to forget, and curate prunes; run it afterwards: "
            f"tracesift select {selector.name}"
        )
    if any(column.startswith("<") for column in selector.needs):
        raise BadInput(
            f"--selector {selector.name} must be told which score to use, which curate does not; run it afterwards: "
            f"tracesift select {selector.name} --keep {choosing.keep:g} --param score=aum"
        )
    if not selector.budget:
        raise BadInput(
            f"--selector {selector.name} decides by itself how many samples it keeps, and curate prunes to a share; "
            f"run it afterwards: tracesift select {selector.name}"
        )
    if unscored := _not_scored(selector.name):
        jobs = find_scorer(unscored).jobs
        if jobs and (why := _unsuitable(jobs, *data())) is not None:
            raise BadInput(f"--selector {selector.name} reads '{unscored}', and {why}; take another selector")
        made_by = "".join(f"tracesift record --job {name}, " for name in jobs)
        raise BadInput(
            f"--selector {selector.name} reads '{unscored}', which curate does not score; run it afterwards: {made_by}"
            f"tracesift score {unscored}, tracesift select {selector.name} --keep {choosing.keep:g}"
        )


def _unsuitable(jobs: Sequence[str], kind: str, name: str) -> str | None:
    """Return why one of these jobs takes no such data, or None."""
    from tracesift.pipelines.jobs.contract import find, unsuitable  # torch, which other refusals do without

    return next((why for job in jobs if (why := unsuitable(find(job), kind, name)) is not None), None)


def _not_scored(selector: str) -> str | None:
    """Return the first score that a selector reads and that is only made when it, or its job, is named; else None."""
    scorers = scorer_names()
    wanted = [name for name in selectors.columns_needed(selector, {}) if name in scorers]
    return next((name for name in wanted if find_scorer(name).experimental or find_scorer(name).jobs), None)
