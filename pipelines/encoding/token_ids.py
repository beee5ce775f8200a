"""Texts as the token ids of a pretrained tokenizer: of the Hugging Face Hub, or of a local folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tracesift.catalog.files import digest
from tracesift.catalog.schema import BadInput

CHUNK = 1024
"""Texts that are tokenized together."""


class TokenIds:
    """A tokenizer as it stands at a place, and what tells it apart from another.

    Parameters
    ----------
    name
        On the hub, or a local folder. Code that comes with a tokenizer is never run.
    special_tokens
        Whether it adds those that mark where a text begins and ends, as it does when it is simply called.

    Raises
    ------
    BadInput
        transformers is not installed, or the tokenizer cannot be loaded.
    """

    def __init__(self, name: str, *, special_tokens: bool = True) -> None:
        self.name, self.special_tokens = name, special_tokens
        self.tokenizer = _loaded(name)

    @property
    def identity(self) -> dict[str, Any]:
        """What a file that was made with it says of it; equal digests give equal ids."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        whole = self.tokenizer.get_vocab() if backend is None else backend.to_str()
        return {
            "name": self.name, "digest": digest(whole, length=32), "special_tokens": self.special_tokens
        }  # fmt: skip

    def ids(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield the ids of each text, int64 (n,), whole: neither cut nor padded."""
        for start in range(0, len(texts), CHUNK):
            part = list(texts[start : start + CHUNK])
            found = self.tokenizer(part, add_special_tokens=self.special_tokens, verbose=False)["input_ids"]
            yield from (np.asarray(one, dtype=np.int64) for one in found)


def _loaded(name: str) -> Any:
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise BadInput(
            f"--tokenizer {name} needs transformers, which is not installed: pip install 'tracesift[hf]'"
        ) from error
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise BadInput(
            f"--tokenizer {name} cannot be loaded ({str(error).strip().splitlines()[0]}); give a name on the hub or a "
            "local folder with a tokenizer"
        ) from None
