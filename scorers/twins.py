"""Two bodies of one definition: a compiled loop for NumPy arrays, torch operations for tensors.

A loop over epochs and samples is how a definition reads, and what a processor runs best; a GPU wants whole arrays.
So a function that holds a loop has a twin beside it, written with tensors' own methods, and the call goes to the one
that its first argument asks for. The scorers above are written once: what they do besides calling such functions
(slices, arithmetic, ``score[there] = value``) reads the same for arrays and tensors.

The loop is the reference. A twin gives the same counts, and the same float64 numbers but for the order in which they
are added up; `tests/scorers/test_tensors.py` holds each scorer against itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Twin = TypeVar("Twin", bound=Callable[..., Any])


class twinned(Generic[Arguments, Result]):
    """Decorate a function of NumPy arrays that has a twin for tensors, given by `on_tensors`.

    Nothing here imports torch: a twin runs only where somebody has made tensors already.

    Examples
    --------
    >>> @twinned
    ... def highest(values):
    ...     return values.max(axis=0)
    >>> @highest.on_tensors
    ... def _(values):
    ...     return values.amax(0)
    >>> import numpy, torch
    >>> highest(numpy.ones((2, 1))), highest(torch.ones((2, 1)))
    (array([1.]), tensor([1.]))
    """

    def __init__(self, function: Callable[Arguments, Result]) -> None:
        self.function = function
        self.twin: Callable[..., Any] | None = None
        update_wrapper(self, function)

    def on_tensors(self, twin: Twin) -> Twin:
        """Take `twin` for calls whose first argument is a tensor."""
        self.twin = twin
        return twin

    def __call__(self, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        """Call the function or its twin."""
        if not is_tensor(arguments[0]):
            return self.function(*arguments, **named)
        if self.twin is None:
            name = getattr(self.function, "__name__", "this function")
            raise TypeError(f"{name} has no twin for tensors; write one under @{name}.on_tensors")
        return self.twin(*arguments, **named)


def is_tensor(value: object) -> bool:
    """Tell a torch tensor, without importing torch."""
    return hasattr(value, "detach")
