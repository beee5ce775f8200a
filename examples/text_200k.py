"""A large text set with 3 % wrong labels: examples/text_200k.py FOLDER OUT.parquet [ROWS] [SEED].

FOLDER holds clinc150/ and trec6/. Rows are drawn from both and lose words at random.
Only train has wrong labels; label_true holds the truth.
"""

import json
import random
import sys
from pathlib import Path

import polars as pl

folder, out = Path(sys.argv[1]), sys.argv[2]
count = int(sys.argv[3]) if len(sys.argv) > 3 else 200_000
draw = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
parts = json.loads((folder / "clinc150" / "data_full.json").read_text(encoding="utf-8"))
pool = sorted((text, label) for pairs in parts.values() for text, label in pairs)
lines = (folder / "trec6" / "train.txt").read_text(encoding="latin-1").splitlines()
pool += sorted((text, label) for label, text in (line.split(":", 1) for line in lines))
labels = sorted({label for _, label in pool})

rows = []
for number in range(count):
    text, label = draw.choice(pool)
    words = text.split()
    kept = [word for word in words if draw.random() > 0.15] or words
    split = draw.choices(["train", "val", "test"], [8, 1, 1])[0]
    rows.append([f"t{number:06d}", " ".join(kept), label, label, split])
train = [row for row in rows if row[4] == "train"]
for row in draw.sample(train, round(0.03 * len(train))):
    row[2] = draw.choice([label for label in labels if label != row[3]])
pl.DataFrame(rows, schema=["id", "text", "label", "label_true", "split"], orient="row").write_parquet(out)
