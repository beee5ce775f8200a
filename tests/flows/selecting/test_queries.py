"""`select autocoreset` with a loss and queries of the user's."""

import json
from pathlib import Path

import numpy as np
import polars as pl

from tracesift.flows.cli import run
from tracesift.flows.work import Work

OWN = """
import numpy as np

def distance(vectors, labels, weights, seed):
    return ((vectors - weights @ vectors / weights.sum()) ** 2).sum(axis=1)

def broken(vectors, labels, weights, seed):
    return 1 / 0

number = 3
"""


def selected(*words):
    return run(["select", "autocoreset", "--count", "16", "--name", "few", *words, "--workspace", "w"])


def params():
    return json.loads(Path("w/manifests/few/manifest.json").read_text())["selector"]["params"]


def members():
    return pl.read_parquet("w/manifests/few/members.parquet").sort("sample_id")


def losses_file(path="queries.npz", lack=0):
    ids = Work(Path("w")).dataset.samples["sample_id"].to_list()[lack:]
    rng = np.random.default_rng(0)
    order = rng.permutation(len(ids))
    losses = rng.random((3, len(ids))).astype(np.float32)
    np.savez(path, sample_ids=np.array(ids)[order], losses=losses[:, order])
    return dict(zip(ids, losses.T, strict=True))


def test_models_are_fitted_by_the_built_in_loss(place):
    assert selected("--param", "loss=logistic", "--param", "per_class=false") == 0
    said = params()
    assert (said["loss"], said["queries"], said["patience"]) == ("logistic", 3, 5)
    assert said["matched"] >= 3
    assert said["arrays_of_run"]
    kept = members().filter(role="keep")
    assert len(kept) == 16
    assert kept["reason"].str.contains(f"{said['matched']} of {said['matched']} queries matched").all()
    first = members()
    assert selected("--param", "loss=logistic", "--param", "per_class=false") == 0
    assert members().equals(first)
    assert selected("--param", "per_class=false") == 0
    assert "loss" not in params()  # the recorded losses, as ever
    assert "3 of 3 queries" in members()["reason"][0]


def test_a_loss_of_the_users_own_is_named_with_its_code(place, monkeypatch):
    monkeypatch.syspath_prepend(place)
    Path("own_loss.py").write_text(OWN)
    assert run(["embed", "--source", "content", "--workspace", "w"]) == 0
    words = ["--param", "loss=own_loss:distance", "--param", "queries=2", "--embedding", "content"]
    assert selected(*words, "--param", "per_class=false") == 0
    said = params()
    assert said["loss"].startswith("own_loss:distance@")
    assert said["queries"] == 2
    assert said["embedding"].startswith("content@")


def test_losses_of_a_file_are_matched_whatever_their_order(place):
    losses = losses_file()
    assert selected("--param", "queries=queries.npz", "--param", "per_class=false") == 0
    found = members()
    judged = found.filter(pl.col("reason").str.contains("queries"))
    values = np.array([losses[name] for name in judged["sample_id"]], dtype=np.float64)
    np.testing.assert_allclose(judged["weight"].to_numpy() @ values, values.sum(axis=0), rtol=1e-6)
    assert params()["queries"]["number"] == 3
    assert selected("--param", "queries=queries.npz", "--param", "loss=logistic") == 0
    assert params()["queries"]["file"] == "queries.npz"
    assert params()["matched"] >= 3


def test_what_cannot_be_used_is_one_line(place, capsys, monkeypatch):
    monkeypatch.syspath_prepend(place)
    Path("other_loss.py").write_text(OWN)
    losses_file("part.npz", lack=20)
    losses_file()
    np.savez("none.npz", losses=np.ones((3, 60)))
    for words, expected in (
        (["loss=hinge"], "it is logistic, or a function of yours as module:function"),
        (["loss=nowhere:function"], "importable from here"),
        (["loss=other_loss:absent"], "importable from here"),
        (["loss=other_loss:number"], "no function but int"),
        (["loss=other_loss:broken"], "raised ZeroDivisionError"),
        (["loss=3"], "module:function"),
        (["queries=3"], "--param loss=logistic"),
        (["loss=logistic", "queries=0"], "1 or more or the name of an .npz"),
        (["loss=logistic", "patience=true"], "a whole number"),
        (["loss=logistic", "checkpoints=2"], "checkpoints"),
        (["loss=logistic", "form=exact"], "form"),
        (["queries=absent.npz"], "no such .npz"),
        (["queries=part.npz"], "covers"),
        (["queries=none.npz"], "no ids"),
    ):
        given = [part for word in words for part in ("--param", word)]
        assert selected(*given) == 2, words
        told = capsys.readouterr().err
        assert expected in told, (words, told)
        assert len(told.strip().splitlines()) == 1, told
    assert selected("--param", "queries=queries.npz", "--embedding", "content") == 2
    assert "losses of a file need none" in capsys.readouterr().err
