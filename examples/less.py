"""Texts that train towards a target task, by LESS: python examples/less.py MODEL TEXTS TARGETS OUT.npz.

MODEL is a causal language model of transformers, by its folder or name; TEXTS a table with the columns `id` and
`text`, to choose from; TARGETS one with `subtask` and `text`, a few examples of each. Written are the cosines, which
a workspace of the same texts takes in, scores and selects by (a part of them becomes val and test, as of any data
without splits):

    tracesift ingest TEXTS --label no-labels
    tracesift import OUT.npz
    tracesift score less
    tracesift select top_k --param score=less --keep 0.05
"""

import sys

import numpy as np
import polars as pl
from transformers import AutoModelForCausalLM, AutoTokenizer

from tracesift.pipelines.less import less_cosine

LONGEST = 2048
"""Tokens of a text, at most."""

name, texts, targets, out = sys.argv[1:5]
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name).eval()


def read(path):
    return pl.read_csv(path) if path.endswith(".csv") else pl.read_parquet(path)


def samples(column):
    """Return each text as the model's arguments; a loss is taken of every token."""
    coded = [
        tokenizer(text, return_tensors="pt", truncation=True, max_length=LONGEST)["input_ids"][0]
        for text in column
    ]
    return [{"input_ids": ids, "labels": ids} for ids in coded]


given, wanted = read(texts), read(targets)
tasks = {task: samples(rows["text"]) for (task,), rows in wanted.group_by("subtask", maintain_order=True)}
cosine = less_cosine(model, samples(given["text"]), tasks)
np.savez(out, sample_ids=np.array(given["id"].cast(str).to_list()), less_cosine=cosine)
print(f"{len(given)} texts, {cosine.shape[1]} checkpoints, subtasks {', '.join(tasks)}")
