"""Which selectors `curate` can prune with, asked before anything that trains is loaded."""

from __future__ import annotations

from tracesift.catalog.schema import BadInput
from tracesift.flows.options import AUTO, Choosing
from tracesift.scorers.contract import find as find_scorer
from tracesift.scorers.contract import names as scorer_names
from tracesift.selectors import contract as selectors


def check_selector(choosing: Choosing) -> None:
    """Refuse a selector that is unknown, or that `curate` cannot prune with; the message says what can.

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
        made_by = "".join(f"tracesift record --job {name}, " for name in find_scorer(unscored).jobs)
        raise BadInput(
            f"--selector {selector.name} reads '{unscored}', which curate does not score; run it afterwards: {made_by}"
            f"tracesift score {unscored}, tracesift select {selector.name} --keep {choosing.keep:g}"
        )


def _not_scored(selector: str) -> str | None:
    """Return the first score that a selector reads and that is only made when it, or its job, is named; else None."""
    scorers = scorer_names()
    wanted = [name for name in selectors.columns_needed(selector, {}) if name in scorers]
    return next((name for name in wanted if find_scorer(name).experimental or find_scorer(name).jobs), None)
