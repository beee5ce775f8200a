"""`select snp_search --target`: towards a domain of which only the samples are known."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from tracesift.catalog.store import Catalog
from tracesift.flows.cli import run
from tracesift.flows.selecting.selector_arrays import stored_content, stored_rows
from tracesift.flows.work import Work
from tracesift.pipelines.dataset import open_dataset
from tracesift.pipelines.embedding.embeddings import content_embedding
from tracesift.pipelines.embedding.sources import vectors_of
from tracesift.pipelines.embedding.target import target_vectors

WORDS = {"north": "snow ice glacier frost sled", "south": "palm beach lagoon heat mango"}


def two_domains(rows=160, seed=0):
    """Two classes in two domains: `a` tells the class, `b` and `c` tell the domain, which no label says."""
    rng = np.random.default_rng(seed)
    south = np.arange(rows) // 2 % 2
    values = rng.normal(size=(rows, 3)) * [1, 0.3, 0.3]
    values[:, 0] += 2 * (np.arange(rows) % 2)
    values[:, 1:] += np.where(south, 4, -4)[:, None] * [1, 0.5]
    return pl.DataFrame(
        {
            "id": [f"s{row:03d}" for row in range(rows)],
            **{name: values[:, place].round(6) for place, name in enumerate("abc")},
            "label": [*map("xy".__getitem__, np.arange(rows) % 2)],
            "where": [*map(["north", "south"].__getitem__, south)],
        }
    )


def target_of(domain, path, seed=7, columns=("a", "b", "c")):
    two_domains(80, seed).filter(where=domain).select(columns).write_csv(path)


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("domains")
    two_domains().write_csv(folder / "both.csv")
    with contextlib.chdir(folder):
        at = ["--workspace", "base"]
        assert run(["ingest", "both.csv", "--features", "a,b,c", "--label", "label", *at]) == 0
        assert run(["record", "--epochs", "2", "--threads", "1", *at]) == 0
        assert run(["embed", "--neighbors", "0", *at]) == 0
    return folder


@pytest.fixture
def there(planted, tmp_path, monkeypatch):
    shutil.copy(planted / "both.csv", tmp_path)
    shutil.copytree(planted / "base", tmp_path / "w")
    Catalog(tmp_path / "w").check_writable()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def search(*words, name="found", clusters=32):
    words = ["select", "snp_search", *words, "--name", name, "--param", f"clusters={clusters}"]
    return run([*words, "--workspace", "w"])


def domains_kept(name="found"):
    """Return the share of each domain among what is kept, how much that is, and the members.

    Clusters are of equal size, so one of them may hold samples of both domains.
    """
    members = pl.read_parquet(f"w/manifests/{name}/members.parquet")
    where = two_domains().select(sample_id="id", where="where")
    kept = members.filter(role="keep").join(where, on="sample_id", how="left")
    shares = {domain: float((kept["where"] == domain).mean()) for domain in WORDS}
    return shares, len(kept), members


def manifest(name="found"):
    return json.loads(Path(f"w/manifests/{name}/manifest.json").read_text())


@pytest.mark.parametrize("embedding", [None, "content", "own"])
def test_the_samples_of_the_targets_domain_are_found(there, embedding):
    words = [] if embedding is None else ["--embedding", embedding]
    if embedding == "content":
        assert run(["embed", "--source", "content", "--workspace", "w"]) == 0
    if embedding == "own":
        both = two_domains()
        np.savez(
            "own.npz", sample_ids=np.array(both["id"].to_list()), values=both.select("a", "b", "c").to_numpy()
        )
        assert run(["embed", "--source", "own.npz", "--workspace", "w"]) == 0
    for domain in ("north", "south"):
        target_of(domain, "target.csv")
        target = "target.csv"
        if embedding == "own":
            target = "target.npy"
            np.save(target, pl.read_csv("target.csv").to_numpy())
        assert search(*words, "--target", target) == 0
        shares, size, members = domains_kept()
        assert shares[domain] > 0.95
        assert size > 20
        assert members["reason"].str.contains("to the target").any()
        assert not members["reason"].str.contains("validation").any()
        said = manifest()["selector"]["params"]["target"]
        assert (said["source"], said["samples"], len(said["vectors_sha256"])) == (target, 40, 64)


def test_without_a_target_it_is_the_val_split_and_the_manifest_says_so(there):
    assert search() == 0
    assert min(domains_kept()[0].values()) > 0.3
    assert manifest()["selector"]["params"]["target"] == "val"


def test_the_found_part_can_be_pruned(there):
    target_of("north", "target.csv")
    assert search("--target", "target.csv") == 0
    words = ["select", "snp_prune", "--count", "12", "--from", "found", "--name", "less"]
    assert run([*words, "--workspace", "w"]) == 0
    shares, size, _ = domains_kept("less")
    assert shares["north"] > 0.8
    assert size == 12


def test_the_order_of_the_target_and_its_labels_and_splits_say_nothing(there):
    target_of("north", "target.csv")
    assert search("--target", "target.csv") == 0
    first = manifest()["selector"]["params"]["target"]["vectors_sha256"]
    shuffled = pl.read_csv("target.csv").sample(fraction=1, shuffle=True, seed=3)
    shuffled.select("c", "a", "b", split=pl.lit("test"), label=pl.lit("z")).write_parquet("other.parquet")
    assert search("--target", "other.parquet") == 0
    assert manifest()["selector"]["params"]["target"]["vectors_sha256"] == first


def sorted_rows(x):
    return x[np.lexsort(x.T)]


@pytest.mark.parametrize("source", ["model", "content"])
def test_a_sample_has_the_vector_that_it_has_in_the_dataset(there, source):
    """The training samples as the target, and a second time alone among other values: nothing is fitted on it."""
    work = Work(there / "w")
    (run_id,) = work.catalog.query("SELECT run_id FROM runs")["run_id"].to_list()
    dataset = work.dataset
    made = {"source": source, "run_id": run_id}
    known = vectors_of(dataset, source, workspace=work.path, run_id=run_id)["train"]
    ids = dataset.samples["sample_id"].gather(dataset.rows("train"))
    part = two_domains().filter(pl.col("id").is_in(ids.head(30).implode())).select("a", "b", "c")
    far = part.with_columns(pl.col("b") + 1000)
    pl.concat([part, far]).write_csv("some.csv")
    found = target_vectors(dataset, "some.csv", made, workspace=work.path, width=known.shape[1], device="cpu")
    assert len(found) == 60
    for row in known[:30]:
        assert np.abs(found - row).max(axis=1).min() < 1e-5


def test_texts_are_weighed_by_the_datasets_own(tmp_path):
    rng = np.random.default_rng(0)

    def text(domain):
        return " ".join(rng.choice(WORDS[domain].split(), 6))

    rows = [{"id": f"t{i:02d}", "text": text(domain), "label": "xy"[i % 2]} for i, domain in enumerate(["north", "south"] * 30)]  # fmt: skip
    pl.DataFrame(rows).write_csv(tmp_path / "both.csv")
    dataset = open_dataset(tmp_path / "both.csv")
    known = content_embedding(dataset)
    texts = [*dataset.inputs[:9], "words that nobody said before"]
    pl.DataFrame({"text": texts}).write_csv(tmp_path / "target.csv")
    found = target_vectors(dataset, str(tmp_path / "target.csv"), {"source": "content"}, width=256)
    np.testing.assert_allclose(sorted_rows(found[np.abs(found).sum(axis=1) > 0.5])[:9].shape, (9, 256))
    for row in known[:9]:
        assert np.abs(found - row).max(axis=1).min() < 1e-6


def squares(folder, tones, size=12, seed=0, classes=("x", "y")):
    rng = np.random.default_rng(seed)
    for number, tone in enumerate(tones):
        place = folder / classes[number % 2] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 40, size=(size, size, 3))
        noise[: size // 2, :, tone] += 200
        Image.fromarray(noise.astype(np.uint8)).save(place / f"{number:03d}.png")


def test_images_may_lie_in_one_folder_and_have_to_be_of_the_same_size(tmp_path):
    squares(tmp_path / "data", [0, 1] * 12)
    dataset = open_dataset(tmp_path / "data")
    known = content_embedding(dataset)
    squares(tmp_path / "flat", [0, 1] * 12, classes=())
    found = target_vectors(dataset, str(tmp_path / "flat"), {"source": "content"}, width=known.shape[1])
    np.testing.assert_allclose(sorted_rows(found), sorted_rows(known), atol=1e-6)
    squares(tmp_path / "large", [0] * 4, size=20, classes=())
    with pytest.raises(ValueError, match="20x20x3, those of data 12x12x3"):
        target_vectors(dataset, str(tmp_path / "large"), {"source": "content"}, width=known.shape[1])
    squares(tmp_path / "mixed", [0, 1] * 6)
    squares(tmp_path / "mixed", [0] * 4, size=30, seed=1)  # of two sizes: all are brought to one
    mixed = open_dataset(tmp_path / "mixed")
    width = content_embedding(mixed).shape[1]
    assert len(target_vectors(mixed, str(tmp_path / "large"), {"source": "content"}, width=width)) == 4


WRONG = [
    (["--target", "nowhere.csv"], "no such file"),
    (["--target", "less.csv"], "has no column 'c'"),
    (["--target", "texts.csv"], "has no column 'a', 'b', 'c'"),
    (["--target", "words.csv"], "column 'b' holds String values"),
    (["--target", "holes.csv"], "values are missing in column 'b'"),
    (["--target", "one.csv"], "holds 1 samples; a target has at least 2"),
    (["--target", "vectors.npy"], "vectors are a target where those in use are your own"),
    (["--target", "vectors.npz"], "columns and the other vectors"),
    (["--target", "flat"], "is image, both is tabular"),
    (["--embedding", "own", "--target", "vectors.npz"], "have 5 numbers, those in use 3"),
    (["--embedding", "own", "--target", "less.csv"], "is no file of vectors; the vectors in use are your own"),
    (["--embedding", "own", "--target", "nan.npy"], "1 of 4 vectors hold NaN"),
]  # fmt: skip


def test_what_cannot_be_a_target_is_one_line(there, capsys):
    target_of("north", "less.csv", columns=("a", "b"))
    pl.DataFrame({"text": ["one two three"] * 3}).write_csv("texts.csv")
    good = two_domains(80, 7).select("a", "b", "c")
    good.with_columns(b=pl.lit("often")).write_csv("words.csv")
    good.with_columns(b=pl.when(pl.col("a") > 0).then("b")).write_csv("holes.csv")
    good.head(1).write_csv("one.csv")
    squares(there / "flat", [0] * 4, classes=())
    both = two_domains()
    np.savez(
        "own.npz", sample_ids=np.array(both["id"].to_list()), values=both.select("a", "b", "c").to_numpy()
    )
    np.savez("vectors.npz", x=np.ones((4, 5)), y=np.zeros(4))
    np.save("vectors.npy", np.ones((4, 5)))
    np.save("nan.npy", np.array([[0.0, 1, 2]] * 3 + [[np.nan, 1, 2]]))
    assert run(["embed", "--source", "own.npz", "--workspace", "w"]) == 0
    capsys.readouterr()
    for words, expected in WRONG:
        assert search(*words) == 2, words
        told = capsys.readouterr().err
        assert expected in told, (words, told)
        assert len(told.strip().splitlines()) == 1, told
    for words in (["snp_prune", "--keep", "0.3"], ["glister", "--keep", "0.3"], ["denoise"]):
        assert run(["select", *words, "--target", "less.csv", "--workspace", "w"]) == 2
        assert f"{words[0]} reads no target" in capsys.readouterr().err


def test_after_a_purge_the_content_is_embedded_anew_before_a_target_is_laid_beside_it(there, capsys):
    embed = ["embed", "--source", "content", "--workspace", "w"]
    assert run(embed) == 0
    gone = Work(there / "w").dataset.samples.filter(split="train")["sample_id"][0]
    Path("gone.txt").write_text(f"{gone}\n")
    assert run(["forget", "gone.txt", "--workspace", "w"]) == 0
    assert run(["purge", "--all", "--workspace", "w"]) == 0
    target_of("north", "target.csv")
    capsys.readouterr()
    assert search("--embedding", "content", "--target", "target.csv") == 2
    assert "made before a purge, by samples that are gone; run `tracesift embed" in capsys.readouterr().err
    work = Work(there / "w")
    assert stored_content(work) is None
    assert run(embed) == 0
    work = Work(there / "w")
    assert stored_content(work) == "content"
    vectors = stored_rows(work, "content", work.dataset.samples)
    assert np.array_equal(vectors, content_embedding(work.dataset))
    assert search("--embedding", "content", "--target", "target.csv") == 0
