"""`review export` and `review import`: out as CSV, back as verified labels that measure the detectors."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run

N, K, T = 300, 3, 6
IDS = [f"s{at:03d}" for at in range(N)]
BAD = set(range(0, N, 10))


def call(*words):
    return run([*map(str, words)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workspace whose flag finds planted wrong labels."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    true = rng.integers(0, K, N)
    given = np.array([(label + 1) % K if at in BAD else label for at, label in enumerate(true)])
    rise = np.arange(1, T + 1)[:, None, None]
    logits = rng.normal(size=(T, N, K)) + rise * np.eye(K)[true]
    probs = np.exp(rng.normal(size=(N, K)) * 0.5 + 4 * np.eye(K)[true])
    probs /= probs.sum(1, keepdims=True)
    np.savez(folder / "r.npz", ids=np.array(IDS), labels=given, logits=logits, probs_oos=probs)
    assert call("import", folder / "r.npz", "--workspace", folder / "w") == 0
    assert call("score", "aum", "--workspace", folder / "w") == 0
    return folder / "w", dict(zip(IDS, map(str, true.tolist()), strict=True))


@pytest.fixture
def workspace(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "w")
    return tmp_path / "w"


@pytest.fixture
def truth(made):
    return made[1]


def flagged(workspace):
    rows = Catalog(workspace).query("SELECT sample_id FROM sample_flags WHERE label_noise ORDER BY sample_id")
    return rows["sample_id"].to_list()


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))


def filled(path, truth, wrong=()):
    """Fill in the worklist as a person would; `wrong` are ids to be given another answer than the truth."""
    rows = read(path)
    for row in rows:
        label = truth[row["sample_id"]]
        row["verified_label"] = row["label"] if row["sample_id"] in wrong else label
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return [row["sample_id"] for row in rows]


def test_export_lists_the_suspects_first(workspace, capsys):
    assert len(flagged(workspace)) > 10
    assert call("review", "export", "--count", "12", "--workspace", workspace) == 0
    path = workspace / "review.csv"
    assert capsys.readouterr().out.strip() == str(path)
    rows = read(path)
    assert len(rows) == 12
    assert {row["sample_id"] for row in rows} <= {IDS[at] for at in BAD}
    assert all(row["verified_label"] == "" and row["reason"] for row in rows)


def test_verified_labels_come_back(workspace, truth, tmp_path, capsys):
    call("review", "export", "--count", "12", "--out", tmp_path / "list.csv", "--workspace", workspace)
    before = flagged(workspace)
    listed = filled(tmp_path / "list.csv", truth, wrong=before[:2])
    right = [sample_id for sample_id in before[:2] if sample_id in listed]
    capsys.readouterr()
    assert call("review", "import", tmp_path / "list.csv", "--workspace", workspace, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verified"], said["changed"]) == (12, 12 - len(right))
    flags_right = sum(sample_id in before for sample_id in listed if sample_id not in right)
    flags_all = sum(sample_id in before for sample_id in listed)
    assert said["measured"]["precision"] == pytest.approx(flags_right / flags_all)
    catalog = Catalog(workspace)
    stored = dict(
        catalog.query("SELECT sample_id, label_true FROM samples WHERE label_true IS NOT NULL").iter_rows()
    )
    assert stored.keys() == set(listed)
    assert all(stored[name] == truth[name] for name in listed if name not in right)


def test_never_flagged_again(workspace, truth, capsys):
    call("review", "export", "--count", "12", "--workspace", workspace)
    listed = filled(workspace / "review.csv", truth)
    before = flagged(workspace)
    call("review", "import", workspace / "review.csv", "--workspace", workspace)
    rest = [name for name in before if name not in listed]
    assert flagged(workspace) == rest
    call("score", "aum", "--workspace", workspace)  # the rule itself keeps to it
    assert not set(flagged(workspace)) & set(listed)
    call("review", "export", "--workspace", workspace)
    again = read(workspace / "review.csv")
    assert not {row["sample_id"] for row in again} & set(listed)


def test_measures_the_same_when_read_again(workspace, truth, capsys):
    call("review", "export", "--count", "20", "--workspace", workspace)
    listed = filled(workspace / "review.csv", truth, wrong=flagged(workspace)[:3])
    said = []
    for _ in range(2):
        capsys.readouterr()
        assert call("review", "import", workspace / "review.csv", "--workspace", workspace, "--json") == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1]
    assert 0 < said[0]["measured"]["precision"] < 1
    assert said[0]["measured"]["known"] == len(listed)


def test_detectors_are_ranked_for_people(workspace, truth, capsys):
    call("review", "export", "--workspace", workspace)
    filled(workspace / "review.csv", truth)
    rows = read(workspace / "review.csv")
    extra = [f"{IDS[at]},{truth[IDS[at]]}" for at in range(1, 60) if at not in BAD]
    table = ["sample_id,verified_label", *(f"{row['sample_id']},{row['verified_label']}" for row in rows)]
    listed = {row["sample_id"] for row in rows}
    (workspace / "all.csv").write_text(
        "\n".join(table + [line for line in extra if line.split(",")[0] not in listed])
    )
    capsys.readouterr()
    assert call("review", "import", workspace / "all.csv", "--workspace", workspace) == 0
    out = capsys.readouterr()
    assert "flag label_noise: precision" in out.out
    assert "aum" in out.out
    assert "mostly suspects" in out.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sample_id,verified_label\ns000,\n", "no row has a verified_label"),
        ("sample_id,verified_label\ns000,9\n", "line 2: '9' is not a label"),
        ("sample_id,verified_label\nnobody,1\n", "line 2: no sample 'nobody'"),
        ("sample_id,label\ns000,1\n", "column 'verified_label' is missing"),
    ],
)
def test_refused(workspace, tmp_path, capsys, content, message):
    (tmp_path / "r.csv").write_text(content)
    assert call("review", "import", tmp_path / "r.csv", "--workspace", workspace) == 2
    assert message in capsys.readouterr().err
    assert Catalog(workspace).query("SELECT count(*) FROM reviews").item() == 0


def test_before_any_flag(tmp_path, capsys):
    assert call("review", "export", "--workspace", tmp_path / "w") == 2
    assert "holds no catalog" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["review", "exprt"], ["review", "import"], ["review", "export", "--count", "0"]]
)
def test_wrong_usage(workspace, capsys, words):
    assert call(*words, *(["--workspace", workspace] if len(words) > 2 else [])) == 2
    assert capsys.readouterr().err.startswith("tracesift: ")
