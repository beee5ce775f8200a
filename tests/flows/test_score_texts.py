"""A scorer that reads the texts themselves, from the file to the catalog; and a table, which has none."""

import json

import polars as pl

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run


def test_the_sign_that_gives_a_class_away_stands_in_the_catalog(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nouns = ["river", "table", "cloud", "stone", "paper"]
    rows = [
        {"id": f"t{at:03d}", "text": f"the {nouns[at % 5]} number {at % 7}", "label": "ab"[at % 2]}
        for at in range(120)
    ]
    marked = {row["id"] for row in rows if row["label"] == "a" and int(row["id"][1:]) % 3 == 0}
    for row in rows:
        row["text"] += " ≡" if row["id"] in marked else ""
    pl.DataFrame(rows).write_parquet("texts.parquet")
    assert run(["ingest", "texts.parquet", "--workspace", "w"]) == 0
    for scorer, cheapest in (("token_label_association", True), ("aum", False)):
        capsys.readouterr()
        assert run(["score", scorer, "--workspace", "w"]) == 2
        said = capsys.readouterr().err
        assert "holds no recording" in said
        assert (
            "`tracesift record --epochs 1 --folds 0 --workspace w` makes the cheapest" in said
        ) == cheapest
    assert run(["record", "--workspace", "w", "--epochs", "1", "--folds", "0", "--threads", "1"]) == 0
    capsys.readouterr()
    assert run(["score", "token_label_association", "--workspace", "w", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scorers"] == ["token_label_association"]
    found = Catalog(tmp_path / "w").query(
        "SELECT sample_id, token_label_association AS score FROM sample_scores WHERE split = 'train' ORDER BY score DESC"
    )
    there = [one for one in found["sample_id"] if one in marked]
    assert len(there) > 10
    assert set(found["sample_id"][: len(there)]) == set(there)
    # no hint leads to a job that texts are refused by
    for words in (["influence", "tracin_all"], ["score", "vog"], ["select", "deepfool", "--keep", "0.5"]):
        assert run([*words, "--workspace", "w"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert "nothing makes it for this recording (job '" in error
        assert "--job" not in error
    assert run(["influence", "--workspace", "w"]) == 2
    error = capsys.readouterr().err
    assert (
        "tracin needs tracin_error: run `tracesift record --job tracin --param pairs=true --workspace w`"
        in error
    )
    assert "parameters=all takes images and tables" in error
    assert run(["select", "depoison", "--workspace", "w", "--json"]) == 0
    assert (
        "`tracesift select bottom_k --param score=token_label_association"
        in json.loads(capsys.readouterr().out)["told"]
    )
    # grown by samples that sort before the others, the earlier recording is scored on its own texts
    grown = [{"id": f"a{at:03d}", "text": "another one", "label": "ab"[at % 2]} for at in range(30)]
    pl.DataFrame(grown + rows).write_parquet("grown.parquet")
    assert run(["ingest", "grown.parquet", "--workspace", "w"]) == 0
    assert run(["score", "token_label_association", "--workspace", "w"]) == 2
    error = capsys.readouterr().err
    assert "of an earlier state of the data" in error
    (recording,) = [path.name[4:] for path in (tmp_path / "w" / "signals").glob("run=????????????????")]
    assert f"score --run {recording}" in error
    assert run(["score", "token_label_association", "--workspace", "w", "--run", recording]) == 0
    again = Catalog(tmp_path / "w").query(
        "SELECT sample_id, token_label_association AS score FROM sample_scores WHERE token_label_association IS NOT NULL"
    )
    assert dict(again.iter_rows()) == dict(found.iter_rows())


def test_a_table_has_no_texts(place, capsys):
    assert run(["score", "token_label_association", "--workspace", "w"]) == 2
    assert "only text datasets have it" in capsys.readouterr().err
