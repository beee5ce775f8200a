"""CLINC150's nested JSON as Parquet: python examples/clinc150.py FOLDER OUT.parquet [data_full.json]."""

import json
import sys
from pathlib import Path

import polars as pl

folder, out, name = Path(sys.argv[1]), sys.argv[2], (sys.argv[3:] or ["data_full.json"])[0]
parts = json.loads((folder / name).read_text(encoding="utf-8"))
rows = [(text, label, part.removeprefix("oos_")) for part, pairs in parts.items() for text, label in pairs]
pl.DataFrame(rows, schema=["text", "label", "split"], orient="row").write_parquet(out)
