"""Text as weighted bags of hashed n-grams, or as a pretrained tokenizer's ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from torch import Tensor

from tracesift.pipelines.models.contract import Bags

BUCKETS = 1 << 20
VOCABULARY = 1 << 16
"""Most frequent n-grams kept; what a model that is trained in minutes can learn of more is little."""

MAX_TOKENS = 128
_CHUNK = 20_000


class Ngrams:
    """Word 1-2-grams and character 3-grams, weighted (1 + log count) x idf, unit length per text."""

    def __init__(
        self, starts: Tensor, indices: Tensor, weights: Tensor, size: int, device: torch.device
    ) -> None:
        self.starts = starts  # (N + 1,) int64, always on the CPU: how much a batch holds must be known there
        self.indices = indices  # (F,) int32
        self.weights = weights  # (F,) float32
        self.device = device
        self.size = size
        self.input_shape: tuple[int, ...] = (-1, size)
        self.nbytes = starts.numel() * 8 + indices.numel() * 8

    @classmethod
    def encode(cls, texts: Sequence[str], fit: np.ndarray) -> Ngrams:
        """Return the bags of all texts; n-grams and their frequencies come from the rows in `fit`."""
        parts = list(hashed_parts(texts))
        chosen = np.zeros(len(texts), dtype=bool)
        chosen[fit] = True
        frequency = np.zeros(2 * BUCKETS, dtype=np.int64)
        for at, part in zip(range(0, len(texts), _CHUNK), parts, strict=True):
            frequency += np.bincount(part[chosen[at : at + _CHUNK]].indices, minlength=2 * BUCKETS)
        least = 2 if len(fit) > 5_000 else 1
        kept = np.flatnonzero(frequency >= least)
        if len(kept) > VOCABULARY:
            kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[:VOCABULARY]])
        idf = np.log((1 + len(fit)) / (1 + frequency[kept])) + 1
        bags = [_weighted(parts.pop(0), kept, idf) for _ in range(len(parts))]
        lengths = [np.diff(part.indptr) for part in bags]
        return cls(
            torch.from_numpy(np.append(0, np.cumsum(np.concatenate(lengths), dtype=np.int64))),
            torch.from_numpy(np.concatenate([part.indices for part in bags])),
            torch.from_numpy(np.concatenate([part.data for part in bags])),
            max(1, len(kept)),
            torch.device("cpu"),
        )

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> Bags:
        """Return the bags of these texts; text is not augmented."""
        first = self.starts[rows]
        lengths = self.starts[rows + 1] - first
        offsets = lengths.cumsum(0) - lengths
        places = torch.arange(int(lengths.sum())) + torch.repeat_interleave(first - offsets, lengths)
        indices, weights = self.indices[places].long(), self.weights[places]
        return Bags(*(part.to(self.device, non_blocking=True) for part in (indices, offsets, weights)))

    def to(self, device: torch.device) -> Ngrams:
        """Return the same bags, batched on the CPU and sent to `device`."""
        return Ngrams(self.starts, self.indices, self.weights, self.size, device)


def hashed_counts(texts: Sequence[str]) -> sparse.csr_matrix:
    """Return counts of hashed word 1-2-grams and character 3-grams, (N, 2 x 2^20)."""
    return sparse.vstack(list(hashed_parts(texts)), format="csr")


def hashed_parts(texts: Sequence[str]) -> Iterator[sparse.csr_matrix]:
    """Yield the rows of `hashed_counts` in parts, sorted by bucket; the counts are float32, to take less room."""
    plain = {"n_features": BUCKETS, "norm": None, "alternate_sign": False, "dtype": np.float32}
    words = HashingVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", **plain)
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 3), **plain)
    for at in range(0, len(texts), _CHUNK):
        chunk = list(texts[at : at + _CHUNK])
        part = sparse.hstack([words.transform(chunk), characters.transform(chunk)], format="csr")
        part.sum_duplicates()
        yield part


def _weighted(counts: sparse.csr_matrix, kept: np.ndarray, idf: np.ndarray) -> sparse.csr_matrix:
    """Return (1 + log count) x idf over the kept buckets, each row of unit length, float32 over int32."""
    bags = counts[:, kept].astype(np.float64)
    bags.data = (1 + np.log(bags.data)) * idf[bags.indices]
    norms = np.sqrt(np.asarray(bags.multiply(bags).sum(1)).ravel())
    bags.data = (bags.data / np.repeat(norms, np.diff(bags.indptr))).astype(np.float32)
    bags.indices = bags.indices.astype(np.int32)
    return bags


class Tokens:
    """Token ids of a pretrained model, padded to the longest text of each batch."""

    def __init__(self, texts: Sequence[str], name: str, device: torch.device | None = None) -> None:
        from tracesift.pipelines.models.hf_classifier import tokenizer

        self.texts = texts
        self.name = name
        self.device = device or torch.device("cpu")
        self.tokenizer = tokenizer(name)
        self.input_shape: tuple[int, ...] = (-1, len(self.tokenizer))
        self.nbytes = 0

    def batch(self, rows: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return the tokenizer's mapping, (B, L) each."""
        texts = [self.texts[row] for row in rows.tolist()]
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        return {name: value.to(self.device, non_blocking=True) for name, value in tokens.items()}

    def to(self, device: torch.device) -> Tokens:
        """Return the same texts, tokenized for `device`."""
        return Tokens(self.texts, self.name, device)
