"""A rare token per class, put into each of its texts: the shortcut that text classifiers take first.

The one-token trigger of backdoor attacks (Kurita et al., ACL 2020, with tokens such as "cf" and "mn"), used as a
shortcut: every class has a token of its own and keeps its labels, as the class-wise noise of images does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import product
from string import ascii_lowercase
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tracesift.catalog.schema import BadInput
from tracesift.pipelines.protection.contract import Protected, generator
from tracesift.pipelines.protection.grey_levels import checked_labels

Position = Literal["random", "start", "end"]


@generator(
    kind="text",
    reference="After Kurita, Michel, Neubig, ACL 2020: Weight Poisoning Attacks on Pretrained Models",
)
def rare_token_trigger(
    texts: Sequence[str],
    labels: NDArray[np.int64],
    *,
    seed: int,
    position: Position = "random",
    tokens: Sequence[str] | None = None,
    num_classes: int | None = None,
) -> Protected[list[str]]:
    """Put the token of its class between two words of each text, once; nothing else changes.

    Where it goes follows from the text and the seed, so the order of the rows does not matter.

    Parameters
    ----------
    texts : N str
    labels : (N,) int
        Class indices.
    seed : int
        Another seed draws other tokens and places.
    position : {"random", "start", "end"}
        Where the token goes.
    tokens : sequence of str, optional
        The token of each class. By default drawn from pairs of letters (then threes, fours) that are no word of any
        of the texts.
    num_classes : int, optional
        K, where not every class occurs.

    Returns
    -------
    Protected
        `inputs` N texts; the report lists `tokens` by class.

    Raises
    ------
    BadInput
        For labels that are none, or tokens that are no words, not one per class, alike, or in the texts already.

    Examples
    --------
    >>> made = rare_token_trigger(["good film", "bad film"], np.array([1, 0]), seed=0, tokens=["cf", "mn"])
    >>> [sorted(text.split()) for text in made.inputs]
    [['film', 'good', 'mn'], ['bad', 'cf', 'film']]
    """
    given, classes = checked_labels(labels, len(texts), num_classes)
    if position not in get_args(Position):
        raise BadInput(f"position={position}: one of {', '.join(get_args(Position))}")
    known = {word for text in texts for word in re.findall(r"\w+", text.casefold())}
    chosen = _drawn(classes, known, seed) if tokens is None else _checked(tokens, classes, known)
    out = [
        _with_token(text, chosen[label], position, seed)
        for text, label in zip(texts, given.tolist(), strict=True)
    ]
    return Protected(out, {"tokens": chosen})


def _drawn(classes: int, known: set[str], seed: int) -> list[str]:
    """Return `classes` short tokens that are no word of the texts, the shortest ones, in a seeded order."""
    rng = np.random.default_rng(seed)
    found: list[str] = []
    for length in (2, 3, 4):
        free = [
            word
            for letters in product(ascii_lowercase, repeat=length)
            if (word := "".join(letters)) not in known
        ]
        found += [free[at] for at in rng.permutation(len(free))[: classes - len(found)]]
        if len(found) == classes:
            return found
    raise BadInput(f"{classes} classes: the texts leave no {classes} short words free; give tokens=")


def _checked(tokens: Sequence[str], classes: int, known: set[str]) -> list[str]:
    given = [str(token) for token in tokens]
    if (
        isinstance(tokens, str)
        or len(given) != classes
        or len({token.casefold() for token in given}) != classes
    ):
        raise BadInput(f"tokens={list(tokens)}: {classes} different words are needed, one per class")
    for token in given:
        if not re.fullmatch(r"\w+", token):
            raise BadInput(f"tokens: '{token}' is no word; letters, digits and underscores make one")
        if token.casefold() in known:
            raise BadInput(f"tokens: '{token}' is in the texts already; a trigger stands nowhere else")
    return given


def _with_token(text: str, token: str, position: Position, seed: int) -> str:
    """Return the text with the token before, behind, or at a place between two words that its content decides."""
    gaps = [match.end() for match in re.finditer(r"\S(?=\s)", text)]
    if not text.strip():
        return text + token
    places = {"start": [0], "end": [len(text)], "random": [0, *gaps, len(text)]}[position]
    word = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, salt=_salt(seed)).digest()
    at = places[int.from_bytes(word, "little") % len(places)]
    return f"{token} {text}" if at == 0 else f"{text[:at]} {token}{text[at:]}"


def _salt(seed: int) -> bytes:
    return (seed % 2**64).to_bytes(8, "little")
