"""The example of LESS: from texts and a language model to a subset, by the commands that it names."""

import re
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.pipelines import less

EXAMPLE = Path(__file__).parents[2] / "examples" / "less.py"


def test_it_runs_as_it_says(songs, tmp_path, monkeypatch):
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.chdir(tmp_path)
    shutil.copytree(songs / "tokenizer", "lm")
    torch.manual_seed(0)
    small = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    LlamaForCausalLM(LlamaConfig(vocab_size=258, num_key_value_heads=2, **small)).save_pretrained("lm")
    texts = pl.read_csv(songs / "songs.csv").select("id", "text")
    texts.write_parquet("texts.parquet")
    task = pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("one")).otherwise(pl.lit("two"))
    texts.head(5).select("text", subtask=task).write_csv("targets.csv")
    monkeypatch.setattr(less, "less_cosine", partial(less.less_cosine, epochs=2, rank=2, dimension=64))
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "lm", "texts.parquet", "targets.csv", "cosines.npz"])
    runpy.run_path(str(EXAMPLE))
    names = {"TEXTS": "texts.parquet", "OUT.npz": "cosines.npz"}
    told = re.findall(r"^ {4}tracesift (.*)$", EXAMPLE.read_text(), re.MULTILINE)
    assert len(told) == 4
    for line in told:
        assert run([names.get(word, word) for word in line.split()]) == 0
    with np.load("cosines.npz") as made:
        assert made["less_cosine"].shape == (40, 2, 2)
        wanted = dict(
            zip(made["sample_ids"].tolist(), made["less_cosine"].sum(axis=1).max(axis=1), strict=True)
        )
    scores = Catalog("tracesift-work").query(
        "SELECT sample_id, less FROM sample_scores WHERE split = 'train'"
    )
    np.testing.assert_allclose(scores["less"], [wanted[name] for name in scores["sample_id"]], rtol=1e-5)
    members = pl.read_parquet("tracesift-work/manifests/top-k/versions/0001/members.parquet")
    kept = members.filter(role="keep")["sample_id"].to_list()
    train = sorted(scores["sample_id"], key=wanted.__getitem__)
    assert sorted(kept) == sorted(train[-len(kept) :])
    assert 0 < len(kept) < len(train) / 10
