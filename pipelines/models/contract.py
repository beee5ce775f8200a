"""What a model file holds, and how it is found: by its name, with no list to keep.

A file counts as a model if it defines a function of its own name, ``name(input_shape, num_classes)`` ->
``torch.nn.Module``, and a constant ``RECIPE``. The module's ``features(x)`` gives the penultimate layer (B,
D) and ``head(features)`` the logits (B, K); of a user's own module the input of its last linear layer is
taken.

``input_shape`` tells the kinds of input apart by its length:

- ``(D,)``: a table, float32 columns;
- ``(-1, V)``: text, a `Bags` of hashed n-grams below V;
- ``(C, H, W)``: an image, standardised float32.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from torch import Tensor, nn

from tracesift.catalog.files import digest
from tracesift.catalog.schema import BadInput, UnknownName, nearest
from tracesift.pipelines.users_function import users_function

AUTO = {"image": "small_cnn", "text": "hashed_ngrams", "tabular": "mlp"}
"""The model for each kind of dataset when the user names none."""


class Bags(NamedTuple):
    """A batch of texts for `torch.nn.functional.embedding_bag`: features, where each text starts, weights."""

    indices: Tensor  # (F,) int64
    offsets: Tensor  # (B,) int64
    weights: Tensor  # (F,) float32


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained when nothing else is asked for.

    `version` is raised whenever the model's code changes what it computes, so that old runs keep their name.
    """

    version: int = 1
    optimizer: Literal["sgd", "adamw", "sparse_adam"]
    lr: float
    batch_size: int
    epochs: int
    weight_decay: float = 0.0
    momentum: float = 0.0
    schedule: Literal["constant", "one_cycle", "linear"] = "one_cycle"
    augmentation: Literal["none", "shift", "crop_flip"] = "none"
    largest_side: int = 64
    """Images with a longer side, or of several sizes, are brought to squares of this many pixels."""
    encoding: Literal["auto", "tokens"] = "auto"
    kinds: tuple[str, ...] = ("image", "text", "tabular")
    most_steps: int | None = 500
    """Batches double, up to eight times, until an epoch takes no more steps than this; None for never."""
    threads: int | None = 1
    """CPU threads when none are asked for; small models are slower with several."""
    stack: int = 1
    """How many are trained at once where a job trains many of them; more than 1 asks for `layers()`, see `stacked`."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model as found: its name, its recipe, and the function that builds it."""

    name: str
    recipe: Recipe
    function: Callable[..., nn.Module]
    argument: str | None = None

    def build(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Return a fresh module; initial weights come from torch's global generator."""
        if self.argument is None:
            return self.function(input_shape, num_classes)
        return self.function(input_shape, num_classes, self.argument)

    def identity(self) -> dict[str, Any]:
        """Return what names this model in a run's id, as plain JSON."""
        recipe = {**asdict(self.recipe), "kinds": list(self.recipe.kinds)}
        for name in ("threads", "epochs", "kinds", "most_steps", "stack"):
            del recipe[name]
        return {"name": self.name, **recipe}

    def for_size(self, samples: int) -> Model:
        """Return the model with the batch size that suits a training set of so many samples."""
        most, size = self.recipe.most_steps, self.recipe.batch_size
        while most is not None and samples > size * most and size < 8 * self.recipe.batch_size:
            size *= 2
        return self.with_recipe(batch_size=size)

    def with_recipe(self, **changes: Any) -> Model:
        """Return the model with those recipe fields replaced that are not None."""
        return replace(
            self, recipe=replace(self.recipe, **{k: v for k, v in changes.items() if v is not None})
        )


USER_RECIPE = Recipe(optimizer="adamw", lr=1e-3, batch_size=128, epochs=10, weight_decay=1e-4, threads=None)
"""How a user's own ``module:function`` is trained."""


@cache
def names() -> tuple[str, ...]:
    """Return the names of all models, sorted."""
    stems = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    return tuple(stem for stem in stems if hasattr(_module(stem), stem))


def find(name: str, kind: str) -> Model:
    """Return the model called `name` for a dataset of `kind`.

    Parameters
    ----------
    name
        ``auto``, the name of a file in this folder, such a name with an argument (``hf_classifier:NAME``), or
        the user's own ``module:function``, called with ``(input_shape, num_classes)``.
    kind
        ``image``, ``text`` or ``tabular``.

    Raises
    ------
    UnknownName
        When there is no such model.
    BadInput
        When the model does not take this kind of input.

    Examples
    --------
    >>> find("auto", "tabular").name
    'mlp'
    """
    if kind not in AUTO:
        raise BadInput(
            f"a dataset of kind '{kind}' has no content to train on; ingest the data: `tracesift ingest SOURCE`"
        )
    name = AUTO[kind] if name == "auto" else name
    stem, _, argument = name.partition(":")
    if stem not in names():
        return _users_own(name)
    model = Model(
        name=name,
        recipe=_module(stem).RECIPE,
        function=getattr(_module(stem), stem),
        argument=argument or None,
    )
    if kind not in model.recipe.kinds:
        raise BadInput(f"model {stem} takes {' or '.join(model.recipe.kinds)}, not {kind}; try --model auto")
    return model


def _typed() -> list[str]:
    """Return the names as a user types them: those that need an argument with it, ``hf_classifier:NAME``."""
    takes = {stem: len(inspect.signature(getattr(_module(stem), stem)).parameters) for stem in names()}
    return [f"{stem}:NAME" if count > 2 else stem for stem, count in takes.items()]


def _module(stem: str) -> ModuleType:
    return importlib.import_module(f"tracesift.pipelines.models.{stem}")


def _users_own(name: str) -> Model:
    module_name, _, function_name = name.partition(":")
    if not function_name:
        raise UnknownName(
            f"no model {name!r}{nearest(name, names())}; known: {', '.join(_typed())}, "
            "or your own module:function"
        )
    function, source = users_function(
        name, f"model {name}", "(input_shape, num_classes) and returns a torch module"
    )

    def build(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        try:
            module = function(input_shape, num_classes)
        except Exception as error:  # the user's own code again
            raise BadInput(
                f"model {name}: {function_name}({input_shape}, {num_classes}) raised {type(error).__name__}: "
                f"{error}; mend it first"
            ) from error
        if not isinstance(module, nn.Module):
            raise BadInput(f"model {name}: it returns {type(module).__name__}; return a torch.nn.Module")
        return module

    code = hashlib.blake2b(source.encode(), digest_size=8).hexdigest()
    recipe = getattr(importlib.import_module(module_name), "RECIPE", USER_RECIPE)
    return Model(name=f"{name}@{digest(code, length=8)}", recipe=recipe, function=build)
