"""Taking names out of text: ids of samples that are purged, and hashes that went over their content.

An id stands in our texts in few ways: as a whole JSON string, between quotes in a sentence ("near copy of 'x'"), in a
list of first examples ("(first: x, y)"). An id that could be a word or a number of the sentence is replaced only there;
one that nothing else is called (`person-0003`, a hash) wherever it stands as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any

import polars as pl

from tracesift.catalog.files import canonical_json

PURGED = "a purged sample"

OF_OTHERS = (
    "sample_id",
    "split",
    "label",
    "label_true",
    "content_hash",
    "group_key",
    "suggestion",
    "new_label",
)
"""Columns that hold what a remaining sample is, and no sentence of ours."""

_LONG, _SHORT = 16, 6
_FIRST = re.compile(r"\(first:? ([^()]*)\)")
_DIGEST = re.compile(r"(\d+ requested), digest [0-9a-f]+")
_BATCH = 500


def unmistakable(sample_id: str) -> bool:
    """Tell whether an id can be no word or number of a sentence.

    Examples
    --------
    >>> [unmistakable(one) for one in ("12", "hotel", "person-0003", "71a83572b350391f145ea00ea44a58ab")]
    [False, False, True, True]
    """
    mixed = any(letter.isdigit() for letter in sample_id) and not sample_id.isdigit()
    return len(sample_id) >= _LONG or (len(sample_id) >= _SHORT and mixed)


class Redaction:
    """Ids that no text may name any more, and tokens that are renamed on the way.

    Parameters
    ----------
    ids
        Of the purged samples.
    renamed
        Old to new name of what is called by a hash over their content: dataset, runs, subsets. May grow.
    instead
        What stands where an id stood.

    Examples
    --------
    >>> redaction = Redaction({"12", "person-0003"}, {"b4991189c8f57bc5": "0d5c0f2f3bd3ac3d"})
    >>> redaction.text("near copy of '12', 12 of run b4991189c8f57bc5; after person-0003.")
    'near copy of a purged sample, 12 of run 0d5c0f2f3bd3ac3d; after a purged sample.'
    >>> redaction.text('{"first":["12","13"],"rate":12}')
    '{"first":["a purged sample","13"],"rate":12}'
    """

    def __init__(
        self, ids: Collection[str], renamed: Mapping[str, str] | None = None, *, instead: str = PURGED
    ) -> None:
        self.ids = frozenset(ids)
        self.instead = instead
        self.renamed = dict(renamed or {})

    @cached_property
    def _bare(self) -> list[re.Pattern[str]]:
        plain = sorted(filter(unmistakable, self.ids), key=lambda one: (-len(one), one))
        return [
            re.compile(
                r"(?<![\w-])(?:" + "|".join(map(re.escape, plain[at : at + _BATCH])) + r")(?![\w]|-\w)"
            )
            for at in range(0, len(plain), _BATCH)
        ]

    def text(self, text: str, *, sentence: bool = True) -> str:
        """Return a text, or JSON in a text, without the ids; with `sentence` False it is somebody's own words."""
        if text[:1] in ("{", "["):
            try:
                value = json.loads(text)
            except ValueError:
                pass
            else:
                changed = self.value(value, sentence=sentence)
                return text if changed == value else canonical_json(changed).decode()
        return self._sentence(text, sentence)

    def frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a table without the rows of these ids, where it has a column `sample_id`, and without their names.

        In a table of samples a cell that is one of the ids, such as whom a copy copies, becomes null. Our own sentences
        are reasons; of what a remaining sample is, such as its label, nothing but such a cell is ours.
        """
        gone = pl.Series(sorted(self.ids), dtype=pl.String).implode()
        of_samples = frame.schema.get("sample_id") == pl.String
        left = frame.filter(~pl.col("sample_id").is_in(gone)) if of_samples else frame
        others = left.select(pl.selectors.string().exclude(["sample_id"] if of_samples else [])).get_columns()
        return left.with_columns([self._column(texts, gone, whole=of_samples) for texts in others])

    def _column(self, texts: pl.Series, gone: pl.Series, *, whole: bool) -> pl.Series:
        if whole:
            named = texts.is_in(gone).fill_null(value=False)
            texts = texts.zip_with(~named, pl.Series([None], dtype=pl.String))
        if texts.name in OF_OTHERS:
            return texts
        changed = self.changes(texts, sentence=texts.name == "reason")
        return texts.replace(changed) if changed else texts

    def changes(self, texts: pl.Series, *, sentence: bool = True) -> dict[str, str]:
        """Return the distinct texts of a column that read otherwise without the ids, old to new."""
        wanted = sorted(self.ids | self.renamed.keys())
        each = texts.drop_nulls().unique()
        asked = each.str.contains_any(wanted) | each.str.contains(", digest ", literal=True)
        hits = each.filter(asked).sort().to_list()
        return {old: new for old in hits if (new := self.text(old, sentence=sentence)) != old}

    def value(self, value: Any, *, sentence: bool = True) -> Any:
        """Return decoded JSON without the ids."""
        if isinstance(value, str):
            return self._sentence(value, sentence)
        if isinstance(value, Mapping):
            return {
                self._sentence(str(name), sentence): self.value(one, sentence=sentence)
                for name, one in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.value(one, sentence=sentence) for one in value]
        return value

    def _sentence(self, text: str, ours: bool) -> str:  # noqa: FBT001
        if ours and text in self.ids:
            return self.instead
        for found in set(re.findall(r"'([^']+)'", text)) & self.ids if ours else ():
            text = text.replace(f"'{found}'", self.instead)
        if ours:
            text = _FIRST.sub(self._listed, text)
            text = _DIGEST.sub(r"\1", text)  # of the ids, and whoever knows them could make it again
        for pattern in self._bare:
            text = pattern.sub(self.instead, text)
        for word in set(re.findall(r"\b[0-9a-f]{16,64}\b", text)) & self.renamed.keys():
            text = re.sub(rf"\b{word}\b", self.renamed[word], text)
        return text

    def _listed(self, found: re.Match[str]) -> str:
        names = found[1].split(", ")
        return found[0].replace(
            found[1], ", ".join(self.instead if name in self.ids else name for name in names), 1
        )
