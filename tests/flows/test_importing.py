"""`tracesift import`: a recording from elsewhere, up to a manifest, through the command line."""

import json

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run

N, K, T = 240, 3, 6
BAD = np.arange(0, N, 10)  # every tenth label is wrong


def answer(capsys, *words):
    """Run a command with --json and return exit code and document."""
    capsys.readouterr()
    code = run([*map(str, words), "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


def learned(seed=0):
    """Logits of a network that learns the true class and never the wrong labels: (true, given, logits)."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, K, N)
    given = true.copy()
    given[BAD] = (true[BAD] + 1) % K
    rise = np.arange(1, T + 1)[:, None, None]
    return true, given, (rng.normal(size=(T, N, K)) + rise * np.eye(K)[true]).astype(np.float32)


@pytest.fixture
def recording(tmp_path):
    _, given, logits = learned()
    ids = np.array([f"s{at:03d}" for at in range(N)])
    np.savez(tmp_path / "r.npz", sample_ids=ids, labels=given, logits=logits)
    return tmp_path / "r.npz"


@pytest.fixture
def workspace(tmp_path):
    return tmp_path / "w"


@pytest.fixture
def table(tmp_path):
    """The data themselves, with string labels; rows in another order than the recording's."""
    _, given, _ = learned()
    order = np.random.default_rng(3).permutation(N)
    rows = {
        "key": [f"s{at:03d}" for at in order],
        "feature": np.random.default_rng(2).normal(size=N)[order],
        "animal": np.array(["cow", "ant", "bee"])[given][order],
        "split": ["train"] * N,
    }
    pl.DataFrame(rows).write_csv(tmp_path / "pets.csv")
    return tmp_path / "pets.csv"


def test_without_data_it_can_be_scored_and_selected_from(recording, workspace, capsys):
    code, said = answer(capsys, "import", recording, "--workspace", workspace)
    assert code == 0
    assert (said["samples"], said["seen"], said["epochs"], said["mode"]) == (N, N, T, "in_training")
    assert run(["score", "aum", "--workspace", str(workspace)]) == 0
    assert run(["score", "el2n", "--workspace", str(workspace)]) == 2
    assert "mode epoch_end was not recorded; `tracesift record --workspace " in capsys.readouterr().err
    lowest = Catalog(workspace).query("SELECT sample_id FROM sample_scores ORDER BY aum LIMIT ?", (len(BAD),))
    assert set(lowest["sample_id"]) == {f"s{at:03d}" for at in BAD}
    words = ["select", "top_k", "--keep", "0.9", "--param", "score=aum", "--name", "good"]
    assert run([*words, "--workspace", str(workspace)]) == 0
    members = pl.read_parquet(workspace / "manifests" / "good" / "members.parquet").filter(
        pl.col("role") == "keep"
    )
    assert set(members["sample_id"]) == {f"s{at:03d}" for at in range(N)} - set(lowest["sample_id"])


def test_aum_is_the_mean_margin_of_the_file(recording, workspace):
    run(["import", str(recording), "--workspace", str(workspace)])
    run(["score", "aum", "--workspace", str(workspace)])
    _, given, logits = learned()
    others = logits.copy()
    others[:, np.arange(N), given] = -np.inf
    wanted = (logits[:, np.arange(N), given] - others.max(2)).mean(0)
    found = Catalog(workspace).query("SELECT aum FROM sample_scores ORDER BY sample_id")["aum"]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_needs_content_says_that_it_is_not_there(recording, workspace, capsys):
    run(["import", str(recording), "--workspace", str(workspace)])
    run(["score", "aum", "--workspace", str(workspace)])
    capsys.readouterr()
    assert run(["record", "--workspace", str(workspace)]) == 2
    assert "`tracesift ingest SOURCE" in capsys.readouterr().err
    assert run(["forget", "--where", "aum < 0", "--workspace", str(workspace)]) == 0
    assert "copies and neighbours are not looked for" in capsys.readouterr().err


def test_with_its_data_the_classes_are_matched_by_label(recording, workspace, table, capsys):
    reading = ["--source", table, "--id", "key", "--label", "animal", "--val", "0.1", "--test", "0.1"]
    code = run([*map(str, ["import", recording, *reading, "--workspace", workspace]), "--json"])
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert code == 0
    assert "columns by the labels of the same samples: 0 is 'cow', 1 is 'ant', 2 is 'bee';" in err
    assert said["dataset"] == "pets"
    catalog = Catalog(workspace)
    counts = dict(catalog.query("SELECT split, count(*) FROM samples GROUP BY ALL").iter_rows())
    assert said["samples"] == counts["train"]
    assert said["validation"] == counts["val"] > 0
    _, given, logits = learned()
    sample = catalog.query(
        "SELECT sample_id, label FROM samples WHERE split = 'train' ORDER BY sample_id LIMIT 1"
    ).row(0)
    at = int(sample[0][1:])
    assert sample[1] == ["cow", "ant", "bee"][given[at]]
    margin = catalog.query(
        "SELECT margin FROM trajectories WHERE sample_id = ? ORDER BY epoch", (sample[0],)
    )["margin"]
    others = np.delete(logits[:, at], given[at], axis=1).max(1)
    np.testing.assert_allclose(margin, logits[:, at, given[at]] - others, rtol=1e-5)


def test_nan_is_told_and_not_counted_as_seen(workspace, tmp_path, capsys):
    _, given, logits = learned()
    logits[:, 5] = np.nan
    logits[2, 7] = np.nan
    ids = np.array([f"s{at:03d}" for at in range(N)])
    np.savez(tmp_path / "r.npz", sample_ids=ids, labels=given, logits=logits)
    code = run(["import", str(tmp_path / "r.npz"), "--workspace", str(workspace), "--json"])
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert (code, said["samples"], said["seen"], said["missing"]) == (0, N, N - 1, 1)
    assert f"{T + 1} rows of" in err
    assert "of 2 samples (s005, s007): not observed there; never observed: s005" in err


def test_labels_counted_from_one_are_refused_with_and_without_the_data(workspace, table, tmp_path, capsys):
    _, given, logits = learned()
    ids = np.array([f"s{at:03d}" for at in range(N)])
    np.savez(tmp_path / "r.npz", sample_ids=ids, labels=given + 1, logits=logits)
    errors = []
    for words in ([], ["--source", table, "--id", "key", "--label", "animal"]):
        assert run([*map(str, ["import", tmp_path / "r.npz", *words]), "--workspace", str(workspace)]) == 2
        errors.append(capsys.readouterr().err.strip().splitlines()[-1])
    assert errors[0] == errors[1]
    assert "lies outside the 3 classes" in errors[0]


def test_other_labels_than_the_data_are_refused(recording, workspace, table, capsys):
    changed = table.read_text().replace("s017,", "s017x,").replace("s017x,", "s017,", 1)
    row = next(line for line in changed.splitlines() if line.startswith("s017,"))
    for animal in ("cow", "ant", "bee"):
        if animal not in row:
            changed = changed.replace(row, row.replace(row.split(",")[2], animal))
            break
    table.write_text(changed)
    words = [
        "import",
        recording,
        "--source",
        table,
        "--id",
        "key",
        "--label",
        "animal",
        "--workspace",
        workspace,
    ]
    assert run([*map(str, words)]) == 2
    error = capsys.readouterr().err
    assert "recorded with another label than the dataset's: 1 of 240 samples, first" in error
    assert "'s017'" in error


def test_unknown_ids_are_refused_in_one_line(recording, workspace, tmp_path, capsys):
    run(["import", str(recording), "--workspace", str(workspace)])
    np.savez(
        tmp_path / "o.npz", ids=np.array(["s000", "nobody"]), labels=np.array([0, 1]), loss=np.ones((1, 2))
    )
    capsys.readouterr()
    assert run(["import", str(tmp_path / "o.npz"), "--workspace", str(workspace)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "r lacks 1 of 2 ids, first 'nobody'" in error


def test_rows_by_position(workspace, table, tmp_path, capsys):
    """An array without ids, in the order of the source's rows."""
    order = [int(line.split(",")[0][1:]) for line in table.read_text().splitlines()[1:]]
    _, given, logits = learned()
    np.save(tmp_path / "out.npy", logits[:, order])
    (tmp_path / "labels.txt").write_text("\n".join(str(given[at]) for at in order))
    words = [
        "import",
        tmp_path / "out.npy",
        "--source",
        table,
        "--id",
        "key",
        "--label",
        "animal",
        "--by-position",
    ]
    code, said = answer(capsys, *words, "--labels", tmp_path / "labels.txt", "--workspace", workspace)
    assert code == 0
    assert said["missing"] == 0
    margin = Catalog(workspace).query("SELECT sample_id, margin FROM trajectories WHERE epoch = 0")
    for sample_id, value in margin.head(20).iter_rows():
        at = int(sample_id[1:])
        assert value == pytest.approx(
            logits[0, at, given[at]] - np.delete(logits[0, at], given[at]).max(), rel=1e-5
        )


def test_the_same_again_changes_nothing(recording, workspace, capsys):
    _, first = answer(capsys, "import", recording, "--workspace", workspace)
    files = {path: path.read_bytes() for path in workspace.rglob("*.parquet")}
    _, again = answer(capsys, "import", recording, "--workspace", workspace)
    assert again == first
    assert files == {path: path.read_bytes() for path in workspace.rglob("*.parquet")}
    assert Catalog(workspace).query("SELECT count(*) FROM runs").item() == 1


def test_finished_scores_are_scores_of_another_code(recording, workspace, tmp_path, capsys):
    run(["import", str(recording), "--workspace", str(workspace)])
    rows = "\n".join(f"s{at:03d},{at / 7}" for at in range(N - 1))
    (tmp_path / "aum_values.csv").write_text(f"sample_id,aum\n{rows}\n")
    code, said = answer(capsys, "import", tmp_path / "aum_values.csv", "--workspace", workspace)
    assert (code, said["scores"], said["seen"]) == (0, ["aum"], N - 1)
    stored = Catalog(workspace).query("SELECT DISTINCT scorer_version FROM scores WHERE scorer = 'aum'")
    assert stored.item() == 0
    values = Catalog(workspace).query("SELECT aum FROM sample_scores ORDER BY sample_id")["aum"]
    assert values[7] == pytest.approx(1.0)
    assert values[N - 1] is None
    # the recording, not the scores, is what `score` goes on with
    assert run(["score", "aum", "--workspace", str(workspace)]) == 0


def test_finished_scores_of_no_scorer(workspace, tmp_path, capsys):
    (tmp_path / "x.csv").write_text("sample_id,aumm\na,1\n")
    assert run(["import", str(tmp_path / "x.csv"), "--workspace", str(workspace)]) == 2
    assert "did you mean 'aum'" in capsys.readouterr().err


def test_a_refused_recording_leaves_nothing_behind(workspace, tmp_path, capsys):
    probs = np.full((2, 3, 2), 0.5)
    probs[1, 2] = [3.0, -1.0]  # only the second epoch shows that these are no probabilities
    np.savez(tmp_path / "r.npz", ids=np.array(["a", "b", "c"]), labels=np.array([0, 1, 0]), probs=probs)
    assert run(["import", str(tmp_path / "r.npz"), "--workspace", str(workspace)]) == 2
    assert "the probabilities of 'c' sum to 2" in capsys.readouterr().err
    assert not workspace.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "absent.npz"], "no such file or folder"),
        (["import", "x.pt"], "pickle can run code"),
        (["import", "x.pkl"], "none of the pickles that are known here"),
        (["import", "r.npz", "--mode", "sideways"], "in_training"),
        (["import", "r.npz", "--ids", "absent.txt"], "--ids absent.txt: no such file"),
        (["import", "r.npz", "--by-position"], "name them with --source"),
    ],
)  # fmt: skip
def test_refused(recording, workspace, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("x.pkl", "x.pt"):
        (tmp_path / name).write_bytes(b"\x80\x04N.")
    assert run([*words, "--workspace", str(workspace)]) == 2
    assert message in capsys.readouterr().err
