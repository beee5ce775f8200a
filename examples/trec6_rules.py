"""TREC-6 labelled by its weak rules, with the gold labels beside: python examples/trec6_rules.py FOLDER OUT.parquet.

Each training question that some rule matches gets the label that most of its rules name (ties: the first rule's).
"""

import re
import sys
from collections import Counter
from pathlib import Path

import polars as pl

CODES = {"ENTITY": "ENTY", "DESCRIPTION": "DESC", "HUMAN": "HUM", "NUMERIC": "NUM", "LOCATION": "LOC",
         "ABBREVIATION": "ABBR"}  # fmt: skip
folder = Path(sys.argv[1])
rules = [line.split("\t")[:2] for line in (folder / "rule.txt").read_text(encoding="latin-1").splitlines()]
rules = [(CODES[label], re.compile(pattern, re.IGNORECASE)) for label, pattern in rules]
rows = []
for split in ("train", "valid", "test"):
    for line in (folder / f"{split}.txt").read_text(encoding="latin-1").splitlines():
        gold, text = line.split(":", 1)
        text = text.split(" ", 1)[1] if split == "test" else text
        votes = Counter(label for label, pattern in rules if pattern.search(text))
        if split != "train":
            rows.append((text, gold, None, split))
        elif votes:
            rows.append((text, votes.most_common(1)[0][0], gold, split))
pl.DataFrame(rows, schema=["text", "label", "label_true", "split"], orient="row").write_parquet(sys.argv[2])
