"""`review export` and `review import`: out as CSV, back as verified labels that measure the detectors."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.commands.curate import print_summary
from tracesift.flows.publish import newest_flags
from tracesift.flows.reporting.truth import own_truth
from tracesift.flows.reporting.worklist import OF_REVIEWED
from tracesift.flows.score import flags_alone
from tracesift.flows.work import existing

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


def summary(workspace, capsys):
    """Return what the closing summary says after a report was written, and the page."""
    capsys.readouterr()
    assert call("report", "--workspace", workspace, "--json") == 0
    return json.loads(capsys.readouterr().out), (workspace / "report.html").read_text()


def test_what_a_review_measured_stands_in_the_summary_and_on_the_page(workspace, truth, capsys):
    """Afterwards the flag says no to all that were looked at, which says nothing of the flag."""
    call("review", "export", "--count", "12", "--workspace", workspace)
    first = [row["sample_id"] for row in read(workspace / "review.csv")]
    filled(workspace / "review.csv", truth, wrong=first[:3])
    before, page = summary(workspace, capsys)
    assert before["truth"] is before["reviewed"] is None
    assert 'id="truth"' not in page
    assert call("review", "import", workspace / "review.csv", "--workspace", workspace, "--json") == 0
    said = json.loads(capsys.readouterr().out)["measured"]
    call("score", "aum", "--workspace", workspace)
    after, page = summary(workspace, capsys)
    assert after["truth"] is None, "what people verified is no truth of the source"
    assert after["reviewed"] == said
    assert (said["known"], said["precision"], said["recall"]) == (12, pytest.approx(9 / 12), 1.0)
    assert OF_REVIEWED in page
    assert "All samples in the order of suspicion" not in page
    print_summary(after)
    told = capsys.readouterr().out
    assert (
        "people found 9 of the 12 labels that they looked at wrong; before that the flag's precision was 0.750"
        in told
    )
    assert OF_REVIEWED in told
    assert "known labels are wrong" not in told


def test_the_flag_alone_is_what_it_was_before(workspace, truth):
    """Where nothing else changes, the rule without any person's word is the rule before there was any."""
    work = existing(workspace)
    before = newest_flags(work)
    assert flags_alone(work, before) is before
    call("review", "export", "--count", "12", "--workspace", workspace)
    listed = filled(workspace / "review.csv", truth)
    call("review", "import", workspace / "review.csv", "--workspace", workspace)
    after = newest_flags(work)
    assert not after.filter(pl.col("sample_id").is_in(listed), pl.col("flagged")).height
    assert flags_alone(work, after).equals(before)


def test_a_truth_of_the_source_is_measured_as_before_the_review(workspace, truth):
    """Scored is the flag's own judgement, against the source's own labels, whatever a person said of some."""
    work = existing(workspace)
    own = work.dataset.samples.with_columns(
        label_true=pl.col("sample_id").replace_strict(truth, return_dtype=pl.String)
    )
    work.opened = replace(work.dataset, samples=own)
    scores = work.catalog.query("SELECT * FROM sample_scores WHERE split = 'train' ORDER BY sample_id")
    known = pl.DataFrame({"sample_id": list(truth), "true": list(truth.values())})
    work.catalog.put_reviews(known.select("sample_id", label="true", note=pl.lit(None, pl.String)))
    before = own_truth(work, scores, newest_flags(work))
    assert (before["wrong"], before["recall"] > 0.5, before["precision"]) == (len(BAD), True, 1.0)
    work.catalog.put_reviews(known.select("sample_id", label=pl.lit("0"), note=pl.lit(None, pl.String)))
    call("score", "aum", "--workspace", workspace)
    flags = newest_flags(work)
    assert not flags["flagged"].any()
    assert own_truth(work, scores, flags_alone(work, flags)) == before


def test_a_verified_label_decides_and_is_the_reason(workspace, truth, capsys):
    call("review", "export", "--count", "12", "--workspace", workspace)
    right, *wrong = [row["sample_id"] for row in read(workspace / "review.csv")]
    filled(workspace / "review.csv", truth, wrong=[right])
    call("review", "import", workspace / "review.csv", "--workspace", workspace)
    query = "SELECT sample_id, flagged, confidence, suggestion, reason FROM flags WHERE flag = 'label_noise' ORDER BY 1"
    imported = Catalog(workspace).query(query)
    call("score", "aum", "--workspace", workspace)
    assert Catalog(workspace).query(query).equals(imported), "the import answers as the rule does"
    rows = {row["sample_id"]: row for row in imported.to_dicts()}
    assert (rows[right]["confidence"], rows[right]["reason"]) == (0.0, "a person confirmed this label")
    for name in wrong:
        word = f"a person verified the label as '{truth[name]}'"
        assert list(rows[name].values()) == [name, False, None, truth[name], word]
    capsys.readouterr()
    call("why", wrong[0], "--workspace", workspace)
    told = capsys.readouterr().out
    assert "label wrong" not in told.split("Scores")[0]
    call("select", "denoise", "--workspace", workspace)
    call("select", "top_k", "--keep", "0.5", "--param", "score=aum", "--workspace", workspace)
    members = Catalog(workspace).query(
        "SELECT selector, sample_id, role, reason FROM subset_members JOIN subsets USING (subset_id) "
        "WHERE control_of IS NULL"
    )
    reasons = {
        (row["selector"], row["sample_id"]): (row["role"], row["reason"]) for row in members.to_dicts()
    }
    for name in wrong:
        word = f"a person verified the label as '{truth[name]}'"
        assert reasons["denoise", name] == ("relabel", f"{word}; label becomes '{truth[name]}'")
        assert reasons["top_k", name] == ("drop", word)
    assert reasons["denoise", right] == ("keep", "a person confirmed this label")


def test_select_says_what_stays_at_a_lower_weight(workspace, capsys):
    found = len(flagged(workspace))
    capsys.readouterr()
    assert call("select", "denoise", "--param", "mode=reweight", "--workspace", workspace) == 0
    assert f"denoise: {found} doubtful labels are kept at a lower weight\n" in capsys.readouterr().out
    assert (
        call(
            "select", "denoise", "--param", "max_drop=0.01", "--where", "aum < 100", "--workspace", workspace
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "at a lower weight: no more than 1 % of all (" in out
    assert "--max-drop of curate and --param max_drop= of select set it" in out
    made, _ = summary(workspace, capsys)
    (row,) = [row for row in made["subsets"] if row["name"] == "denoise"]
    assert row["told"] in out
    assert all(row["told"] is None for row in made["subsets"] if row["control_of"])
