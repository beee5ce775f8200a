"""Scorers and diagnostics that compare vectors, on a stored embedding instead of the recorded model's own features."""

import json

import numpy as np
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.work import Work
from tracesift.pipelines.embedding.stored_embeddings import stored_embedding
from tracesift.scorers.contract import compute


def said(capsys, *words):
    assert run([*words, "--workspace", "w", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_scores_on_a_stored_embedding_stand_beside_the_usual_ones(place, capsys):
    said(capsys, "embed", "--source", "content")
    said(capsys, "score", "knn_label_disagreement")
    said(capsys, "score", "knn_label_disagreement", "--embedding", "content")
    work = Work(place / "w")
    rows = Catalog(place / "w").query(
        "SELECT params, sample_id, value FROM scores WHERE scorer = 'knn_label_disagreement' ORDER BY params, sample_id"
    )
    by_params = {
        json.loads(params).get("embedding"): part
        for (params,), part in rows.partition_by("params", as_dict=True).items()
    }
    assert len(by_params) == 2
    (named,) = set(by_params) - {None}
    assert named.startswith("content@")
    train = work.dataset.rows("train")
    vectors = stored_embedding(work.path, "content", work.dataset).vectors("train")
    expected = compute(
        ["knn_label_disagreement"], {"embedding": vectors, "labels": work.dataset.labels[train]}
    )
    assert np.array_equal(
        by_params[named]["value"].to_numpy(), expected["knn_label_disagreement"].to_numpy(), equal_nan=True
    )
    usual = Catalog(place / "w").query(
        "SELECT knn_label_disagreement FROM sample_scores WHERE split = 'train' ORDER BY sample_id"
    )
    assert usual.to_series().to_list() == by_params[None]["value"].to_list()  # the usual one is not replaced


def test_a_diagnostic_says_which_vectors_it_read(place, capsys):
    said(capsys, "embed", "--source", "content")
    own = said(capsys, "score", "noise_transition_hoc")["noise_transition_hoc"]
    content = said(capsys, "score", "noise_transition_hoc", "--embedding", "content")["noise_transition_hoc"]
    assert "embedding" not in own
    assert content["embedding"].startswith("content@")


def test_the_bayes_error_says_where_its_embedding_is_known_to_have_seen_the_labels(place, capsys):
    said(capsys, "embed", "--source", "content")
    said(capsys, "embed", "--source", "model")
    for given, saw in ([], True), (["--embedding", "model"], True), (["--embedding", "content"], False):
        reading = said(capsys, "score", "knn_bayes_error", *given)["knn_bayes_error"]["reading"]
        assert ("is of the recorded network, which saw the labels" in reading) == saw
        assert ("--embedding, such as content" in reading) == saw


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["aum", "--embedding", "content"], "aum reads no embedding"),
        (["--embedding", "content"], "name the scorers that read it"),
        (["cal", "--embedding", "contents"], "no embedding 'contents' is stored"),
    ],
)
def test_what_cannot_be_meant_is_refused(place, capsys, words, what):
    said(capsys, "embed", "--source", "content")
    assert run(["score", *words, "--workspace", "w"]) == 2
    assert what in capsys.readouterr().err
