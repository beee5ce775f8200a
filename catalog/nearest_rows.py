"""Exact nearest neighbours, by cosine or Euclidean distance: float32 proposes, float64 decides.

Blocks of rows meet as one matrix product in float32, N x N never fits. How far such a product can be off is known,
so everything that could be among the k nearest is taken from it and measured again from the rows as they were
given, in float64, each sum in one fixed order, and rounded; ties go to the smaller position. The answer is therefore
the same bytes on every machine, for every number of threads and size of the blocks. A search of rows among
themselves needs half the products: one tile serves the rows of both its sides.

Cosines are rounded to 6 digits after the point, distances to the 24 binary digits of a float32.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tracesift.catalog.compiled import loop

Metric = Literal["cosine", "euclidean"]
Report = Callable[[float, float], None]
"""``report(done, total)``, called by long searches."""

QUERIES, ROWS = 1024, 4096
"""How many queries meet how many rows at a time: a tile of 16 MB."""
CHUNK = 256
"""Queries of a tile that one thread looks through at a time; it notes at most 8 MB of candidates."""
MILLIONTHS = 1e6
"""A cosine is kept as a whole number of millionths, counted downwards, so that smaller is nearer."""
ROUNDED = 1.2e-6
"""More than rounding moves a cosine, or, relatively, the square of a distance."""
VANISHING = 1e-30
"""More than a sum of products loses where they are too small for a float32."""


@dataclass(frozen=True)
class Vectors:
    """Rows to be compared by one metric; they are scaled where they are read, and never all at once."""

    rows: np.ndarray
    """(N, D) float32 or float64 as they were given, in memory or mapped from a file."""
    lengths: np.ndarray
    """(N,) float64, for the cosine: infinite for a row of zeros, which divides to 0. Empty for Euclidean distance."""
    metric: Metric
    center: np.ndarray
    """(D,) what is taken off before a product in float32, so that only differences count; zero for the cosine."""
    scale: float
    """What the rows are multiplied by before such a product: none is longer than 1 then."""

    @property
    def slack(self) -> float:
        """How far a product in float32 can be off, in units of the mean of both squared lengths."""
        return (self.rows.shape[1] + 16) * 2.0**-24

    def rough(self, which: np.ndarray) -> Rough:
        """Return these rows for products in float32."""
        taken = self.rows[which]
        if self.metric == "cosine":
            rows = (taken * (1.0 / self.lengths[which])[:, None]).astype(np.float32)
            none = np.zeros(len(rows))
            return Rough(rows, none, none.astype(np.float32), none.astype(np.float32))
        rows = ((taken - self.center) * self.scale).astype(np.float32)
        squares = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
        most, least = (-squares * (1 + off) / 2 for off in (-self.slack, self.slack))
        return Rough(rows, squares, most.astype(np.float32), least.astype(np.float32))

    def bounds(self, squares: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return how large a product has to be to come from one of the k nearest, given the k-th so far."""
        if self.metric == "cosine":
            bounds = -last / MILLIONTHS - ROUNDED - self.slack
        else:
            bounds = (squares * (1 - self.slack) - (last * self.scale) ** 2 * (1 + ROUNDED)) / 2 - VANISHING
        return bounds.astype(np.float32)

    def first_bounds(self, squares: np.ndarray, products: np.ndarray) -> np.ndarray:
        """Return the same, given the k-th largest product of a first block."""
        if self.metric == "cosine":
            return (products - ROUNDED - 2 * self.slack).astype(np.float32)
        least = products - squares * self.slack
        return (least - ROUNDED * np.abs(squares - 2 * least) - VANISHING).astype(np.float32)


@dataclass(frozen=True)
class Rough:
    """A block of rows in float32."""

    rows: np.ndarray
    squares: np.ndarray
    """(n,) squared lengths; 0 for the cosine, which needs none."""
    most: np.ndarray
    """(n,) what is added to a product so that it is no smaller than it should be, up to the query's own part."""
    least: np.ndarray
    """(n,) and no larger."""


def unit_rows(embedding: np.ndarray) -> Vectors:
    """Return the rows of an embedding (N, D) for comparison by cosine; nothing is copied.

    A row of zeros has cosine 0 to every other.
    """
    rows = _floats(embedding)
    lengths = np.empty(len(rows))
    for start in range(0, len(rows), ROWS):
        _measure_lengths(rows[start : start + ROWS], lengths[start : start + ROWS])
    return Vectors(rows, lengths, "cosine", np.zeros(rows.shape[1]), 1.0)


def plain_rows(embedding: np.ndarray) -> Vectors:
    """Return the rows of an embedding (N, D) for comparison by Euclidean distance; nothing is copied."""
    rows = _floats(embedding)
    blocks = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    sums = [block.sum(axis=0, dtype=np.float64) for block in blocks]
    center = np.sum(sums, axis=0) / len(rows) if sums else np.zeros(rows.shape[1])
    longest = max((float(np.abs(block - center).max(initial=0.0)) for block in blocks), default=0.0)
    longest *= math.sqrt(rows.shape[1])
    return Vectors(rows, np.zeros(0), "euclidean", center, 1.0 / longest if longest > 0 else 1.0)


def _floats(embedding: np.ndarray) -> np.ndarray:
    rows = np.asarray(embedding)
    if rows.dtype not in (np.float32, np.float64):
        rows = rows.astype(np.float32 if rows.dtype == np.float16 else np.float64)
    return rows


def nearest_rows(
    vectors: Vectors,
    queries: np.ndarray,
    base: np.ndarray,
    k: int,
    *,
    among: Vectors | None = None,
    threads: int | None = None,
    report: Report | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of the `base` rows for every row in `queries`, and how near they are.

    Parameters
    ----------
    vectors : Vectors
        See `unit_rows` and `plain_rows`.
    queries : ndarray (Q,)
        Rows of `vectors` to find neighbours for.
    base : ndarray (B,)
        Rows to find them among, ascending.
    k : int
        At most B are returned.
    among : Vectors, optional
        What `base` are rows of; `vectors` themselves where None.
    threads : int, optional
        As many as there are processors where None; they leave no trace in the result.
    report : callable, optional
        Called with how much is done and how much there is, in queries.

    Returns
    -------
    tuple of ndarray (Q, min(k, B))
        Positions in `base`, nearest first, ties by position; cosines rounded to 6 digits, or distances.

    Examples
    --------
    >>> corners = unit_rows(np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]))
    >>> nearest_rows(corners, np.array([0]), np.array([1, 2]), 2)
    (array([[0, 1]]), array([[0.6, 0. ]]))
    >>> nearest_rows(plain_rows(corners.rows), np.array([0]), np.array([1, 2]), 2)[1].round(3)
    array([[2.236, 4.472]])
    """
    index = np.zeros((queries.size, min(k, base.size)), np.int64)
    keys = np.full(index.shape, np.inf)
    if index.size:
        room = np.empty(min(QUERIES, queries.size) * min(ROWS, base.size), np.float32)
        alike = among is None and queries.size == base.size and bool((queries == base).all())
        search = _Search(vectors, vectors if among is None else among, queries, base, index, keys, room)
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            for done in search.all_pairs(pool) if alike else search.each_query(pool):
                if report is not None:
                    report(done * queries.size, queries.size)
    return index, (0.0 - keys / MILLIONTHS if vectors.metric == "cosine" else keys)


def ranked_rows(
    vectors: Vectors, queries: np.ndarray, candidates: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of each query's own candidates (Q, m), measured and ordered as in `nearest_rows`.

    Candidates are rows of `vectors`, no one twice for one query; -1 stands for none.

    Returns
    -------
    tuple of ndarray (Q, k)
        Rows of `vectors`, nearest first, ties by row; cosines or distances. Where there are fewer than k
        candidates, -1 and the cosine -inf or the distance inf.
    """
    index = np.full((len(queries), k), -1, np.int64)
    keys = np.full(index.shape, np.inf)
    near, far = np.nonzero(candidates >= 0)
    far = candidates[near, far]
    everyone = np.arange(len(vectors.rows))
    given = _given(vectors)
    _keep(near.astype(np.int32), far.astype(np.int32), *given, queries, *given, everyone, 0, index, keys)
    return index, _nearness(vectors, keys)


def _nearness(vectors: Vectors, keys: np.ndarray) -> np.ndarray:
    return 0.0 - keys / MILLIONTHS if vectors.metric == "cosine" else keys


@dataclass(frozen=True)
class _Search:
    """One search; `index` and `keys` (Q, k) hold the best so far, keys ascending."""

    vectors: Vectors
    among: Vectors
    queries: np.ndarray
    base: np.ndarray
    index: np.ndarray
    keys: np.ndarray
    room: np.ndarray
    """(QUERIES * ROWS,) float32, where one tile after the other lies."""

    def each_query(self, pool: ThreadPoolExecutor) -> Iterator[float]:
        """Let every block of queries meet every block of rows; yield the share that is done after each of these."""
        for rows in _blocks(self.base.size, ROWS):
            right = self.among.rough(self.base[rows])
            for these in _blocks(self.queries.size, QUERIES):
                left = self.vectors.rough(self.queries[these])
                self._rows_meet(pool, self._tile(left, right), these, left, rows, right)
            yield rows.stop / self.base.size

    def all_pairs(self, pool: ThreadPoolExecutor) -> Iterator[float]:
        """Let every two blocks meet once, each with itself first: what comes later has bounds from there.

        Yields the share of the pairs that is done, after each block of rows.
        """
        for rows in _blocks(self.base.size, ROWS):
            right = self.among.rough(self.base[rows])
            for these in _blocks(rows.stop - rows.start, QUERIES):
                part = slice(rows.start + these.start, rows.start + these.stop)
                left = Rough(right.rows[these], right.squares[these], right.most[these], right.least[these])
                self._rows_meet(pool, self._tile(left, right), part, left, rows, right)
            for these in _blocks(rows.start, QUERIES):
                left = self.vectors.rough(self.queries[these])
                tile = self._tile(left, right)
                self._rows_meet(pool, tile, these, left, rows, right)
                self._columns_meet(pool, tile, these, left, rows, right)
            yield (rows.stop / self.base.size) ** 2

    def _tile(self, left: Rough, right: Rough) -> np.ndarray:
        shape = len(left.rows), len(right.rows)
        return np.matmul(left.rows, right.rows.T, out=self.room[: shape[0] * shape[1]].reshape(shape))

    def _rows_meet(
        self, pool: ThreadPoolExecutor, tile: np.ndarray, these: slice, left: Rough, rows: slice, right: Rough
    ) -> None:
        bounds = self._bounds(left, these, tile, right)

        def meet(start: int) -> None:
            part = tile[start : start + CHUNK]
            self._take(
                lambda near, far: _find(part, right.most, bounds[start : start + CHUNK], near, far),
                part.size, self.queries[these][start : start + CHUNK], rows, these.start + start,
            )  # fmt: skip

        _each(pool, meet, len(tile))

    def _columns_meet(
        self, pool: ThreadPoolExecutor, tile: np.ndarray, these: slice, left: Rough, rows: slice, right: Rough
    ) -> None:
        bounds = self.vectors.bounds(right.squares, self.keys[rows, -1])

        def meet(start: int) -> None:
            stop = min(start + CHUNK, tile.shape[1])
            self._take(
                lambda near, far: _find_down(tile, start, stop, left.most, bounds, near, far),
                (stop - start) * len(tile), self.queries[rows][start:stop], these, rows.start + start,
            )  # fmt: skip

        _each(pool, meet, tile.shape[1])

    def _bounds(self, left: Rough, these: slice, tile: np.ndarray, right: Rough) -> np.ndarray:
        bounds = self.vectors.bounds(left.squares, self.keys[these, -1])
        k = self.keys.shape[1]
        if np.isinf(self.keys[these, -1]).any() and tile.shape[1] >= k:
            largest = np.empty(len(tile))
            _kth_largest(tile, right.least, np.empty(k, np.float32), largest)
            bounds = np.maximum(bounds, self.vectors.first_bounds(left.squares, largest))
        return bounds

    def _take(
        self, find: Callable[..., int], size: int, queries: np.ndarray, rows: slice, place: int
    ) -> None:
        """Measure the candidates that `find` notes for some queries, and keep the best."""
        near, far = np.empty(size, np.int32), np.empty(size, np.int32)
        count = find(near, far)
        best = slice(place, place + len(queries))
        _keep(
            near[:count], far[:count], *_given(self.vectors), queries, *_given(self.among), self.base[rows],
            rows.start, self.index[best], self.keys[best],
        )  # fmt: skip


def _given(vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
    return vectors.rows, vectors.lengths


def _blocks(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def _each(pool: ThreadPoolExecutor, work: Callable[[int], None], size: int) -> None:
    for _ in pool.map(work, range(0, size, CHUNK)):
        pass


@loop
def _measure_lengths(rows: np.ndarray, lengths: np.ndarray) -> None:
    """Write the Euclidean length of each row, infinity for a row of zeros."""
    for row in range(rows.shape[0]):
        total = 0.0
        for place in range(rows.shape[1]):
            total += np.float64(rows[row, place]) * np.float64(rows[row, place])
        lengths[row] = math.sqrt(total) if total > 0 else np.inf


@loop
def _kth_largest(tile: np.ndarray, least: np.ndarray, few: np.ndarray, largest: np.ndarray) -> None:
    """Write for each row of a tile a product that k of its columns surely reach; `few` (k,) is room to work in."""
    k, width = len(few), tile.shape[1]
    for row in range(tile.shape[0]):
        few[:] = -np.inf
        for start in range(0, width, 64):
            hit = start + 64 > width
            if not hit:  # pieces of a fixed length become vector instructions
                products, more = tile[row, start : start + 64], least[start : start + 64]
                smallest = few[0]
                for at in range(64):
                    hit |= products[at] + more[at] > smallest
            if hit:
                for column in range(start, min(start + 64, width)):
                    value = tile[row, column] + least[column]
                    if value > few[0]:
                        place = 0
                        while place + 1 < k and few[place + 1] < value:
                            few[place] = few[place + 1]
                            place += 1
                        few[place] = value
        largest[row] = few[0]


@loop
def _find(tile: np.ndarray, most: np.ndarray, bounds: np.ndarray, near: np.ndarray, far: np.ndarray) -> int:
    """Note the row and the column of all products that reach the bound of their row; return how many."""
    count, width = 0, tile.shape[1]
    for row in range(tile.shape[0]):
        bound = bounds[row]
        for start in range(0, width, 64):
            hit = start + 64 > width
            if not hit:
                products, more = tile[row, start : start + 64], most[start : start + 64]
                for at in range(64):
                    hit |= products[at] + more[at] >= bound
            if hit:
                for column in range(start, min(start + 64, width)):
                    if tile[row, column] + most[column] >= bound:
                        near[count] = row
                        far[count] = column
                        count += 1
    return count


@loop
def _find_down(
    tile: np.ndarray,
    first: int,
    stop: int,
    most: np.ndarray,
    bounds: np.ndarray,
    near: np.ndarray,
    far: np.ndarray,
) -> int:
    """Note the same for the columns of a tile from `first` to `stop`: `near` is a column of these, `far` a row."""
    count = 0
    for row in range(tile.shape[0]):
        more = most[row]
        for start in range(first, stop, 64):
            hit = start + 64 > stop
            if not hit:
                products, needed = tile[row, start : start + 64], bounds[start : start + 64]
                for at in range(64):
                    hit |= products[at] + more >= needed[at]
            if hit:
                for column in range(start, min(start + 64, stop)):
                    if tile[row, column] + more >= bounds[column]:
                        near[count] = column - first
                        far[count] = row
                        count += 1
    return count


@loop
def _keep(
    near: np.ndarray,
    far: np.ndarray,
    rows: np.ndarray,
    lengths: np.ndarray,
    queries: np.ndarray,
    others: np.ndarray,
    other_lengths: np.ndarray,
    base: np.ndarray,
    first: int,
    index: np.ndarray,
    keys: np.ndarray,
) -> None:
    """Measure candidate pairs and insert them where they belong among the best, ties by position."""
    k, width = keys.shape[1], rows.shape[1]
    even = width - width % 4
    cosine = len(lengths) > 0
    nearest = 0.0
    for pair in range(len(near)):
        query, place = near[pair], first + far[pair]
        last = keys[query, k - 1]
        if cosine:  # nothing is nearer to a row of zeros than the rest
            nearest = 0.0 if np.isinf(lengths[queries[query]]) else -MILLIONTHS
        if last <= nearest and index[query, k - 1] < place:
            continue  # k as near as can be stand before it
        one, other = queries[query], base[far[pair]]
        # Four sums side by side: in this order everywhere, and faster than one.
        a = b = c = d = 0.0
        if cosine:
            for at in range(0, even, 4):
                a += np.float64(rows[one, at]) * np.float64(others[other, at])
                b += np.float64(rows[one, at + 1]) * np.float64(others[other, at + 1])
                c += np.float64(rows[one, at + 2]) * np.float64(others[other, at + 2])
                d += np.float64(rows[one, at + 3]) * np.float64(others[other, at + 3])
            for at in range(even, width):
                a += np.float64(rows[one, at]) * np.float64(others[other, at])
            key = -np.rint(((a + b) + (c + d)) / (lengths[one] * other_lengths[other]) * MILLIONTHS)
        else:
            for at in range(0, even, 4):
                a += (np.float64(rows[one, at]) - np.float64(others[other, at])) ** 2
                b += (np.float64(rows[one, at + 1]) - np.float64(others[other, at + 1])) ** 2
                c += (np.float64(rows[one, at + 2]) - np.float64(others[other, at + 2])) ** 2
                d += (np.float64(rows[one, at + 3]) - np.float64(others[other, at + 3])) ** 2
            for at in range(even, width):
                a += (np.float64(rows[one, at]) - np.float64(others[other, at])) ** 2
            key = np.float64(np.float32(math.sqrt((a + b) + (c + d))))
        if key > last or (key == last and index[query, k - 1] < place):
            continue
        at = k - 1
        while at > 0 and (
            keys[query, at - 1] > key or (keys[query, at - 1] == key and index[query, at - 1] > place)
        ):
            keys[query, at] = keys[query, at - 1]
            index[query, at] = index[query, at - 1]
            at -= 1
        keys[query, at] = key
        index[query, at] = place
