"""Texts that share their wording: the Jaccard similarity of their character 4-grams, across the ends of words.

Upper and lower case and the kind and number of blanks do not count. Characters instead of words, so that a language
without blanks and a changed ending are compared as well; four of them, because three are shared by long texts about
anything. MinHash (Broder 1997), cut into bands, proposes pairs, and each is then measured on the sets themselves. What
a proposal misses is known: a pair of similarity s with probability (1 - s^4)^48, which is 0.001 at 0.6 and less than
0.00001 at 0.7. The bands are the same for every threshold, so that a lower one finds all that a higher one does.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

GRAM = 4
BANDS, BAND = 48, 4
"""Bands of a signature, and how many of its values each holds; two texts are proposed where one band agrees."""
LEAST_JACCARD = 0.5
"""Below this, too many pairs would not be proposed: 5 in 100 at 0.5, 29 at 0.4."""
NEAR_WORDS = 0.6
"""From here on two texts count as near copies; benchmarks/closure.py measures what that finds and what it costs."""
SEED = 1
BLOCK = 10_000
"""Texts that are indexed at a time, in about 300 MB."""
KEPT = 1024
"""Sets of n-grams that are kept from pair to pair."""


def grams(text: str) -> set[str]:
    """Return the character 4-grams of a text; one of fewer characters is its only one, an empty one has none.

    Examples
    --------
    >>> sorted(grams("To  be"))
    ['o be', 'to b']
    """
    plain = " ".join(text.casefold().split())
    return {plain[at : at + GRAM] for at in range(len(plain) - GRAM + 1)} or ({plain} if plain else set())


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the share of all n-grams that both have, rounded to 6 digits; 0 where there are none.

    Examples
    --------
    >>> jaccard(grams("to be"), grams("to bee"))
    0.666667
    """
    shared = len(one & other)
    return round(shared / (len(one) + len(other) - shared), 6) if shared else 0.0


@dataclass(frozen=True)
class Wordings:
    """Texts with their MinHash signatures, made once and compared as often as needed."""

    texts: Sequence[str]
    signatures: np.ndarray
    """(N, 192) uint32."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> Wordings:
        """Make the signatures, 768 bytes a text."""
        from datasketch import MinHash  # scipy.integrate comes with it, which few selections need

        signatures = np.empty((len(texts), BANDS * BAND), np.uint32)
        bags = ([gram.encode() for gram in grams(text)] for text in texts)
        made = MinHash.generator(
            bags, num_perm=BANDS * BAND, seed=SEED, hashfunc=zlib.crc32, scheme="affine32"
        )
        for row, minhash in enumerate(made):
            signatures[row] = minhash.hashvalues
        return cls(texts, signatures)

    def nearest(self, queries: np.ndarray, base: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Return for each query the most similar base text of at least `least`, and how similar it is.

        Parameters
        ----------
        queries, base : ndarray (Q,), (B,)
            Rows of `texts`, none in both.
        least : float
            In [0.5, 1].

        Returns
        -------
        tuple of ndarray (Q,)
            Positions in `base`, ties to the smaller, -1 for none; exact Jaccard similarities, 0 for none.

        Examples
        --------
        >>> wordings = Wordings.of(["pay my bill", "pay my bills", "who wrote it"])
        >>> wordings.nearest(np.array([1, 2]), np.array([0]), 0.6)
        (array([ 0, -1]), array([0.888889, 0.      ]))
        """
        index, similarity = np.full(queries.size, -1), np.zeros(queries.size)
        swapped = queries.size < base.size  # the fewer are indexed
        held, asking = (queries, base) if swapped else (base, queries)
        known = self._kept()
        for first in range(0, held.size, BLOCK):
            for one, other in self._proposed(held[first : first + BLOCK], asking):
                query, place = (first + one, other) if swapped else (other, first + one)
                found = jaccard(known(int(queries[query])), known(int(base[place])))
                better = found > similarity[query] or (found == similarity[query] and place < index[query])
                if found >= least and better:
                    index[query], similarity[query] = place, found
        return index, similarity

    def _kept(self) -> Callable[[int], set[str]]:
        return lru_cache(KEPT)(lambda row: grams(self.texts[row]))

    def _proposed(self, held: np.ndarray, asking: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield the positions of pairs that agree in a band, in `held` and in `asking`."""
        from datasketch import MinHashLSH

        index = MinHashLSH(num_perm=BANDS * BAND, params=(BANDS, BAND))
        for place, row in enumerate(held):
            index.insert(place, self._minhash(row))
        for at in np.flatnonzero(self._agree(asking, held)).tolist():
            for one in index.query(self._minhash(asking[at])):
                yield one, at

    def _agree(self, asking: np.ndarray, held: np.ndarray) -> np.ndarray:
        """Return which of `asking` may agree with one of `held` in a band, (A,): the others need not be asked about.

        Whole columns are compared by a hash of each band, which is the same where the bands are.
        """
        found = np.zeros(asking.size, dtype=bool)
        mixing = np.random.default_rng(SEED).integers(1, 2**63, BAND, dtype=np.uint64) | np.uint64(1)
        for first in range(0, BANDS * BAND, BAND):
            one, other = (
                (self.signatures[rows, first : first + BAND] * mixing).sum(axis=1, dtype=np.uint64)
                for rows in (asking, held)
            )
            found |= np.isin(one, other)
        return found

    def _minhash(self, row: int) -> Any:
        from datasketch import LeanMinHash

        return LeanMinHash(seed=SEED, hashvalues=self.signatures[row], scheme="affine32")


def nearest_wording(
    texts: Sequence[str], queries: np.ndarray, base: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the most similar base text of every query, however dissimilar: all pairs are measured.

    Parameters
    ----------
    texts : sequence of str
    queries, base : ndarray (Q,), (B,)
        Rows of `texts`; `base` is not empty.

    Returns
    -------
    tuple of ndarray (Q,)
        Positions in `base`, ties to the smaller; Jaccard similarities, rounded to 6 digits.

    Examples
    --------
    >>> nearest_wording(["pay my bill", "pay my bills", "who wrote it"], np.array([0]), np.array([1, 2]))
    (array([0]), array([0.888889]))
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=grams, binary=True, dtype=np.int32)
    try:
        asked = counter.fit_transform(texts[row] for row in queries)  # other n-grams are shared with no query
    except ValueError:  # not one n-gram: all queries are empty
        return np.zeros(queries.size, dtype=np.int64), np.zeros(queries.size)
    others = counter.transform(texts[row] for row in base).T.tocsr()
    sizes = np.array([len(grams(texts[row])) for row in base])
    index, similarity = np.zeros(queries.size, dtype=np.int64), np.zeros(queries.size)
    own = np.diff(asked.indptr)
    for query in range(queries.size):
        shared = (asked[query] @ others).tocoo()
        if shared.nnz:
            found = np.round(shared.data / (own[query] + sizes[shared.col] - shared.data), 6)
            similarity[query] = found.max()
            index[query] = shared.col[found == similarity[query]].min()
    return index, similarity
