"""Goldfish loss: which tokens of a text to leave out of the loss, so that no passage can be recited whole.

A model that never learns every k-th token of a passage has to guess there when it recites. The tokens left out have to
be the same wherever the passage stands, or its copies would teach each other's gaps; so a hash of the preceding tokens
decides. The inputs are left alone: only the loss skips these tokens.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from tracesift.catalog.schema import BadInput

ODD = np.uint64(0x9E3779B97F4A7C15)


def goldfish_mask(
    tokens: np.ndarray,
    *,
    k: int = 4,
    h: int = 13,
    rule: Literal["hash", "static"] = "hash",
    start: int = 0,
    seed: int = 0,
) -> np.ndarray:
    """Return which tokens of a text are left out of the loss: about one in k.

    Parameters
    ----------
    tokens : array of int, of shape (n,)
        Token ids of one document; documents packed into one sequence are masked one by one.
    k
        One token in k is left out; 4 in the paper, 1 leaves out all that can be.
    h
        Preceding tokens that decide, 13 in the paper; the first h tokens of a text have no such context and stay in.
    rule
        ``"hash"``: a hash of the h preceding tokens; ``"static"``: every k-th token of the text from `start` on,
        so that a passage is masked otherwise where it stands elsewhere.
    start
        Where the static rule begins.
    seed
        Another seed leaves out others, by the hash rule.

    Returns
    -------
    array of bool, of shape (n,)
        True where the token is left out of the loss.

    Raises
    ------
    BadInput
        Tokens are no sequence of whole numbers, k or h below 1, `start` below 0, or an unknown rule.

    Notes
    -----
    The authors' hash is a product of token ids: it does not know their order, and one id of 0 makes all contexts that
    hold it one and the same; its window also includes the token to be masked. Ours is over the h preceding tokens in
    their order, so masks differ from theirs, and the properties of the paper hold for any ids.

    References
    ----------
    Hans et al., Be like a goldfish, don't memorize! Mitigating memorization in generative LLMs, NeurIPS 2024,
    section 3.

    Examples
    --------
    >>> goldfish_mask(np.arange(8), k=4, rule="static").tolist()
    [True, False, False, False, True, False, False, False]
    >>> text = np.arange(100, 140)
    >>> mask = goldfish_mask(text)
    >>> moved = goldfish_mask(np.concatenate([[1, 2, 3], text]))
    >>> bool((moved[3 + 13 :] == mask[13:]).all())
    True
    """
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise BadInput(
            "goldfish_mask: tokens are the ids of one text, a row of whole numbers; got shape "
            f"{tokens.shape} of {tokens.dtype}"
        )
    if k < 1 or h < 1 or start < 0:
        raise BadInput(
            f"goldfish_mask: k and h are at least 1 and start at least 0, got {k}, {h} and {start}"
        )
    if rule not in ("hash", "static"):
        raise BadInput(f"goldfish_mask: rule is 'hash' or 'static', not {rule!r}")
    mask = np.zeros(tokens.size, dtype=bool)
    if rule == "static":
        mask[start::k] = True
    elif tokens.size > h:
        ids = tokens.astype(np.int64).view(np.uint64)
        state = np.full(tokens.size - h, seed % 2**64, dtype=np.uint64)
        for back in range(h):  # the farthest token first
            state = _mixed(state ^ ids[back : tokens.size - h + back])
        mask[h:] = state % np.uint64(k) == 0
    return mask


def _mixed(state: np.ndarray) -> np.ndarray:
    """Return each 64-bit number scrambled one to one (the finaliser of SplitMix64); multiplication wraps around."""
    state = state + ODD
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
