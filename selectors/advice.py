"""Which selector to take: rules over what is known of the samples, and what each selector was worth where measured.

The rules are written down with their reasons in docs/selecting.md. They were read off the tables of coresets in
docs/benchmarks.md, whose accuracies lie in measured.json beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from tracesift.catalog.schema import MissingSignal
from tracesift.selectors.contract import columns_needed, find

MEASURED = Path(__file__).with_name("measured.json")
NOISY = 0.03
"""Share of wrong labels from which a set counts as noisy: what detectors overlook then decides among the hard."""
UNEVEN = 3.0
"""Largest over smallest class from which classes count as uneven."""
FEW = 25
"""Kept samples per class below which features decide, and not difficulty."""
VERY_FEW = 10
"""Kept samples per class below which samples must be typical."""
HALF = 0.4
"""Kept share from which hard samples are worth more than a mixture."""
LITTLE = 0.12
"""Kept share up to which even a mixture holds too many hard samples."""
QUARTER = 0.25
"""Kept share from which the hard samples that are kept hold the wrong labels that were overlooked."""
MOST = 0.5
"""Found share of the wrong labels below which whatever is hard is likely to be one of the others."""
ALL_PAIRS = 20_000
"""Largest class of which facility location looks at all pairs: 1.6 GB of distances. Beyond, at near ones only."""
NEAR = 30
MOST_PAIRS = 1e10
"""Pairs of a pick and a sample of its class that are worth a wait: minutes at 128 features."""


DOUBT = "flag_doubt"
"""How much speaks against a flagged sample; every frame that is selected from has it."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known before a selection."""

    samples: int
    """Training samples."""
    unflagged: int
    """Those that no flag speaks against; the others are left out before anything is selected."""
    kept: int
    """How many shall be kept."""
    classes: int
    imbalance: float
    """Size of the largest class over that of the smallest."""
    largest_class: int
    noise: float
    """Estimated share of wrong labels; 0 where nothing speaks for noise."""
    found: float
    """Share of these that is flagged; 1 where nothing speaks for others."""
    judged: bool = True
    """Whether anybody looked for wrong labels: without a recording nobody did, and their share is 0 for that."""
    doubted: bool = False
    """Whether as much noise may be overlap of the classes instead: the samples do not show which."""
    apart: bool = False
    """Whether the noise is what is flagged because training sets it apart: the surest samples do not show any."""
    columns: frozenset[str]
    """Scores that are there for all samples, or all but a few."""
    embedded: bool
    """Whether there are features to compare samples by."""

    @property
    def share(self) -> float:
        """The share of the training samples that is kept."""
        return self.kept / self.samples

    @property
    def pairs(self) -> float:
        """How often a pick is compared with a sample of its class, if all classes were as large as the largest."""
        return self.share * self.largest_class**2 * self.classes


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A selector with its parameters, and why it was taken."""

    selector: str
    because: str
    params: dict[str, Any] = field(default_factory=dict)
    embedding: str | None = None
    """Name of the stored embedding whose vectors it reads; None for the features of the newest recording, or none."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a selector's subset was worth where it was measured."""

    selector: str
    """Name and first parameter, such as ``top_k el2n``."""
    retained: float
    """Accuracy over that of training on everything, mean over seeds."""
    points: float
    """Accuracy minus that of as many random samples, in percentage points, mean over seeds."""
    spread: float | None
    """Standard deviation of the points over seeds; None for one seed."""
    seeds: int


@cache
def measured() -> dict[str, Any]:
    """Return the accuracies that the rules rest on: setting -> facts and ``selectors`` -> share -> one per seed."""
    known: dict[str, Any] = json.loads(MEASURED.read_text(encoding="utf-8"))
    return known


def nearest_setting(situation: Situation) -> str:
    """Return the measured setting that is most like a situation: in noise, then in the evenness of its classes.

    Where several are as like, the one whose samples per class at the same share are nearest.
    """

    def unlike(name: str) -> tuple[bool, bool, float]:
        facts = measured()[name]
        per_class = facts["samples"] / facts["classes"]
        ratio = situation.samples / situation.classes / per_class
        return (
            (facts["noise"] >= NOISY) != (situation.noise >= NOISY),
            (facts["imbalance"] >= UNEVEN) != (situation.imbalance >= UNEVEN),
            max(ratio, 1 / ratio),
        )

    return min(sorted(measured()), key=unlike)


def expected(setting: str, share: float) -> list[Expected]:
    """Return what each selector was worth in a measured setting at a share, best first.

    Parameters
    ----------
    setting
        A name in `measured`.
    share
        Kept, in (0, 1]; between measured shares it is interpolated, and outside of them nothing is returned.
    """
    facts = measured()[setting]
    full = facts["full"]
    rows = []
    for name, by_share in facts["selectors"].items():
        each = _at(by_share, share)
        beside = _at(facts["selectors"]["random"], share)
        if each is None or beside is None:
            continue
        seeds = sorted(set(each) & set(beside) & set(full))
        points = [100 * (each[seed] - beside[seed]) for seed in seeds]
        rows.append(
            Expected(
                selector=name,
                retained=mean(each[seed] / full[seed] for seed in seeds),
                points=mean(points),
                spread=stdev(points) if len(points) > 1 else None,
                seeds=len(seeds),
            )
        )
    return sorted(rows, key=lambda row: (-row.points, row.selector))


def _at(by_share: Mapping[str, Mapping[str, float]], share: float) -> dict[str, float] | None:
    """Return the accuracy per seed at a share, on the line between the two measured shares around it."""
    known = sorted(int(text) / 100 for text in by_share)
    if not known[0] <= share <= known[-1]:
        return None
    above = next(value for value in known if value >= share)
    below = max(value for value in known if value <= share)
    part = 0.0 if above == below else (share - below) / (above - below)
    low, high = (by_share[str(round(100 * value))] for value in (below, above))
    return {seed: (1 - part) * low[seed] + part * high[seed] for seed in low if seed in high}


def choose(situation: Situation) -> Choice:
    """Return the selector to take, by the rules of docs/selecting.md: the first that applies and can be followed.

    Raises
    ------
    MissingSignal
        Neither the scores that the rules read nor features are known of the samples.
    """
    known = situation.columns or situation.embedded or situation.kept == situation.samples
    for choice in _rules(situation) if known else ():
        facts = find(choice.selector)
        wanted = set(columns_needed(choice.selector, choice.params)) - {DOUBT}
        if wanted <= situation.columns and (situation.embedded or not facts.arrays):
            return choice
    raise MissingSignal(
        "auto chooses by dual and cartography_confidence, by aum_prob_sum, or by features, and most samples have none "
        "of these; `tracesift record` makes them, `tracesift embed` makes features (with several, --embedding says "
        "which), or name a selector"
    )


def share_in_words(share: float) -> str:
    """Return a small share as a person says it.

    Examples
    --------
    >>> [share_in_words(share) for share in (0.2345, 0.0123, 0.0004)]
    ['23%', '1.2%', 'less than 0.1%']
    """
    if share < 0.0005:
        return "less than 0.1%"
    return f"{share:.0%}" if share >= NOISY else f"{share:.1%}"


def _typical(situation: Situation, because: str) -> Choice:
    """Return facility location, over near pairs alone where all are too many."""
    params = {"neighbors": NEAR} if situation.largest_class > ALL_PAIRS else {}
    return Choice(selector="facility_location", params=params, because=because)


def _rules(situation: Situation) -> Iterator[Choice]:
    """Yield what to take, the best first; the next follows where its scores or features are missing."""
    share, per_class = situation.share, situation.kept / situation.classes
    noisy = situation.noise >= NOISY
    if situation.kept == situation.samples:
        yield Choice(selector="random", because="all samples are kept, so there is nothing to choose")
    labels = "no label is known to be wrong" if situation.judged else "nobody looked for wrong labels yet"
    if situation.noise:
        rate = share_in_words(situation.noise)
        labels = f"about {rate} of the labels are wrong"
        if situation.doubted:
            labels = f"up to {rate} of the labels are wrong"
        if situation.apart:
            labels = f"training sets about {rate} of the labels apart as wrong, which are flagged"
    doubt = ", unless it is classes that overlap" if situation.doubted else ""
    found = "" if situation.apart else f" ({situation.found:.0%} of them flagged)"
    if situation.kept > situation.unflagged:
        yield Choice(
            selector="bottom_k",
            params={"score": DOUBT},
            because=f"{situation.kept} are to be kept and only {situation.unflagged} are not flagged, so all of these "
            "stay, and of the flagged come in those that least speaks against",
        )
    if per_class < FEW:
        kept = f"{per_class:.3g} {'sample per class is' if per_class == 1 else 'samples per class are'} kept"
        few = f"{kept}: few samples must stand for all the others"
        if per_class >= VERY_FEW and not noisy and situation.judged and situation.pairs <= MOST_PAIRS:
            yield Choice(
                selector="k_center_greedy", because=f"{few}, and with few wrong labels the far ones count too"
            )
        yield _typical(situation, f"{few}, so they are picked from where many lie")
        yield Choice(selector="random_balanced", because=f"{few}, and there are no features to pick them by")
    if (
        noisy
        and (share >= QUARTER or situation.found < MOST)
        and share > LITTLE
        and situation.pairs <= MOST_PAIRS
    ):
        yield Choice(
            selector="gm_matching",
            because=f"{labels}{found}{doubt}; what is overlooked lies among the hardest samples, and its picks "
            "surround a median that those do not move",
        )
    if noisy:
        yield Choice(
            selector="dual",
            because=f"{labels}{doubt}; what is overlooked lies among the hardest samples, and its sampling has "
            "moved to easier ones",
        )
    if share >= HALF:
        yield Choice(
            selector="dual",
            because=f"{labels} and {share:.0%} are kept: the easiest samples are the ones to do without",
        )
    if share <= LITTLE:
        yield Choice(
            selector="dual",
            because=f"{labels} and only {share:.0%} is kept: its sampling has moved to easy samples then",
        )
    yield Choice(
        selector="ccs",
        because=f"{labels} and {share:.0%} are kept: samples of every difficulty are needed, but for the hardest",
    )
    yield _typical(
        situation, "no score is known that the other rules read; each sample is near one that is picked"
    )
