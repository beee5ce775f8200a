"""Hausa news with weak labels and the gold ones beside them: python examples/hausa.py FOLDER OUT.parquet."""

import sys
from pathlib import Path

import polars as pl

folder = Path(sys.argv[1])
read = {name: pl.read_csv(folder / f"{name}.tsv", separator="\t") for name in
        ("train_clean_noisy_labels", "train_clean", "dev", "test")}  # fmt: skip
weak, gold = read["train_clean_noisy_labels"], read["train_clean"]
train = weak.select("news_title", "label", label_true=gold["label"], split=pl.lit("train"))
rest = [read[name].select("news_title", "label", split=pl.lit(name)) for name in ("dev", "test")]
pl.concat([train, *rest], how="diagonal").rename({"news_title": "text"}).write_parquet(sys.argv[2])
