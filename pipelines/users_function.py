"""A function of the user's own, named as ``module:function``: imported, and told from another state of itself."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from tracesift.catalog.schema import BadInput, UnknownName


def users_function(name: str, what: str, takes: str) -> tuple[Callable[..., Any], str]:
    """Return the function of this name and the source of its module, or its name where that cannot be read.

    Parameters
    ----------
    name
        ``module:function``; the module must be importable.
    what
        What it was given for, to begin a message with: ``model m:net``.
    takes
        What such a function takes and returns, for the message.

    Raises
    ------
    UnknownName
        There is no such module or function.
    BadInput
        Importing the module raises, or what it names is no function.
    """
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UnknownName(f"{what}: {error}; the module must be importable from here") from None
    except Exception as error:  # the user's own code, which may raise anything while it is imported
        raise BadInput(
            f"{what}: importing {module_name} raised {type(error).__name__}: {error}; mend it first"
        ) from error
    if not callable(function):
        raise BadInput(
            f"{what}: it is no function but {type(function).__name__}; name one that takes {takes}"
        )
    try:
        return function, inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        return function, name
