"""What a generator of protective noise is, and how it is found: by its name, with no list to keep.

A file counts as a generator if it defines a function of its own name that `generator` has marked. It takes inputs and
labels as arrays and returns the inputs that would be saved: images in 8 bits, texts as texts. What it added, and the
clean inputs, follow from the two.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from tracesift.catalog.schema import UnknownName, nearest

Inputs = TypeVar("Inputs")
Progress = Callable[[float, float, str], None]
"""Called with what is done, the total, and words."""
Function = TypeVar("Function", bound=Callable[..., "Protected[Any]"])

NO_SETTINGS = ("seed", "num_classes", "device", "progress")
"""Keyword parameters that say how a generator is run, and not what it does."""


def silent(done: float, total: float, what: str) -> None:
    """Tell nobody: the progress of whoever asks for none."""


@dataclass(frozen=True)
class Protected(Generic[Inputs]):
    """What a generator returns."""

    inputs: Inputs
    """uint8 images (N, C, H, W) or N texts, in the order in which they were given."""
    report: dict[str, Any] = field(default_factory=dict)
    """What was found on the way, as plain JSON: the surrogate's error, the token of each class."""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """Everything known of one generator."""

    name: str
    version: int
    kind: Literal["image", "text"]
    """What it changes."""
    defaults: Mapping[str, Any]
    """Its settings, beside the seed."""
    reference: str
    experimental: bool
    summary: str
    """First line of the docstring."""
    function: Callable[..., Protected[Any]]

    def takes(self, name: str) -> bool:
        """Tell whether the function has a parameter of this name."""
        return name in inspect.signature(self.function).parameters


def generator(
    *, version: int = 1, kind: Literal["image", "text"], reference: str, experimental: bool = False
) -> Callable[[Function], Function]:
    """Attach to a function what its signature cannot say, and return it unchanged.

    Parameters
    ----------
    version
        Raised whenever the same inputs, settings and seed give other bytes.
    kind
        ``"image"`` or ``"text"``.
    reference
        Authors, venue and year.
    experimental
        True where the definition rests on less than the published text.
    """

    def attach(function: Function) -> Function:
        parameters = inspect.signature(function).parameters.values()
        function.__generator__ = Generator(  # type: ignore[attr-defined]
            name=function.__name__,
            version=version,
            kind=kind,
            defaults=MappingProxyType(
                {
                    one.name: one.default
                    for one in parameters
                    if one.kind is one.KEYWORD_ONLY and one.name not in NO_SETTINGS
                }
            ),
            reference=reference,
            experimental=experimental,
            summary=(function.__doc__ or "").strip().split("\n")[0],
            function=function,
        )
        return function

    return attach


@cache
def names() -> tuple[str, ...]:
    """Return the names of all generators, sorted."""
    stems = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(stem for stem in stems if _marked(stem) is not None)


def find(name: str) -> Generator:
    """Return the facts of the generator `name`.

    Raises
    ------
    UnknownName
        When there is none of this name; the nearest is named.

    Examples
    --------
    >>> find("lsp").kind, find("lsp").defaults["eps"]
    ('image', 6.0)
    """
    if name not in names():
        raise UnknownName(f"no method '{name}'{nearest(name, names())}; known: {', '.join(names())}")
    found = _marked(name)
    assert found is not None
    return found


def _marked(stem: str) -> Generator | None:
    module = importlib.import_module(f"tracesift.pipelines.protection.{stem}")
    found: Generator | None = getattr(getattr(module, stem, None), "__generator__", None)
    return found
