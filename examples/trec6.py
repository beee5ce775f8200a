"""TREC-6's `LABEL:text` lines in latin-1 as Parquet: python examples/trec6.py FOLDER OUT.parquet."""

import sys
from pathlib import Path

import polars as pl

rows = []
for split in ("train", "valid", "test"):
    for line in (Path(sys.argv[1]) / f"{split}.txt").read_text(encoding="latin-1").splitlines():
        label, text = line.split(":", 1)
        rows.append(
            (text.split(" ", 1)[1] if split == "test" else text, label, split)
        )  # test: LABEL:fine text
pl.DataFrame(rows, schema=["text", "label", "split"], orient="row").write_parquet(sys.argv[2])
