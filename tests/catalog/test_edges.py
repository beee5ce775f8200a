"""Edges in the catalog: their ids come back, what is written again replaces, and an explanation shows both ends."""

import duckdb
import polars as pl
import pytest

from tracesift.catalog.rebuild import Rebuilding, State, rebuild
from tracesift.catalog.redaction import Redaction
from tracesift.catalog.schema import BadInput
from tracesift.catalog.store import Catalog

DATASET = "a" * 16
IDS = (["t1", "t2", "t3"], ["v1", "v2"])
META = {"method": "influence_subset", "version": 1, "params": {"k": 2, "of": "correct"}}
ALL = (
    "SELECT sample_id, kind, rank, partner_id, partner_split, value, spread FROM influence_edges ORDER BY ALL"
)


def edges(*rows):
    """Pairs with their ranks at either end, or at that of the training sample alone."""
    names = ["sample", "partner", "value", "spread", "rank", "partner_rank"]
    return pl.DataFrame(rows, schema=names[: len(rows[0])], orient="row")


@pytest.fixture
def catalog(tmp_path):
    whole = Catalog(tmp_path)
    # The order by id puts validation samples between training samples.
    samples = pl.DataFrame(
        {
            "sample_id": ["t1", "t2", "u", "v1", "v2", "t3"],
            "split": ["train", "train", "test", "val", "val", "train"],
            "label": ["cat", "dog", "cat", "cat", "dog", "dog"],
            "path": [None, None, None, None, "dog/v2.png", None],
        }
    )
    whole.put_dataset({"name": "pets", "source": "pets.csv", "fingerprint": "a" * 64}, samples)
    whole.put_run({"run_id": "r", "dataset_id": DATASET, "kind": "trained"})
    return whole


def put(catalog, frame, **changes):
    catalog.put_edges("r", DATASET, frame, IDS, META | changes)


def test_the_view_gives_ids_kinds_and_splits_back(catalog):
    put(catalog, edges((2, 0, -0.5, 0.25, 1), (0, 1, 0.75, None, 1), (0, 0, 0.5, float("nan"), 2)))
    assert catalog.query(ALL).rows() == [
        ("t1", "help", 1, "v2", "val", 0.75, None),
        ("t1", "help", 2, "v1", "val", 0.5, None),
        ("t3", "harm", 1, "v1", "val", -0.5, 0.25),
    ]
    (told,) = set(
        catalog.query("SELECT dataset_id, run_id, method, method_version, params FROM influence_edges").rows()
    )
    assert told == (DATASET, "r", "influence_subset", 1, '{"k":2,"of":"correct"}')


def test_rows_are_kept_small(catalog):
    put(catalog, edges((0, 0, 0.5, None, 1)))
    kinds = dict(catalog.query("SELECT column_name, column_type FROM (DESCRIBE edge_rows)").rows())
    assert kinds == {
        "edge_key": "INTEGER", "sample_row": "INTEGER", "partner_row": "INTEGER", "value": "FLOAT", "spread": "FLOAT",
        "rank": "SMALLINT", "partner_rank": "SMALLINT",
    }  # fmt: skip


def test_written_again_they_replace_and_others_stay(catalog):
    put(catalog, edges((0, 0, 0.5, 0.1, 1), (1, 0, 0.25, 0.1, 1)))
    before = catalog.query(ALL).rows()
    put(catalog, edges((0, 0, 0.5, 0.1, 1), (1, 0, 0.25, 0.1, 1)))
    assert catalog.query(ALL).rows() == before
    put(catalog, edges((0, 1, 0.125, 0.1, 1)))
    put(catalog, edges((2, 1, -1.0, None, 1)), params={"k": 3})
    put(catalog, edges((1, 1, 1.0, None, 1)), method="last_layer")
    assert catalog.query("SELECT count(*) FROM edge_rows").item() == 3
    assert catalog.query("SELECT method, sample_id FROM all_influence_edges ORDER BY ALL").rows() == [
        ("influence_subset", "t1"), ("influence_subset", "t3"), ("last_layer", "t2"),
    ]  # fmt: skip
    assert catalog.has_edges("r", "influence_subset", {"of": "correct", "k": 2}, {"subset_trained": "a"})
    assert not catalog.has_edges("r", "influence_subset", {"of": "correct", "k": 4}, {})
    put(catalog, edges((0, 1, 0.125, 0.1, 1)), made_from={"subset_trained": "a"})
    assert catalog.has_edges("r", "influence_subset", {"of": "correct", "k": 2}, {"subset_trained": "a"})
    assert not catalog.has_edges("r", "influence_subset", {"of": "correct", "k": 2}, {"subset_trained": "b"})


def test_no_pair_stands_twice_in_the_view_whatever_was_asked_before(catalog):
    catalog.put_run({"run_id": "r2", "dataset_id": DATASET, "kind": "trained"})
    one = edges((0, 0, -0.5, 0.1, 1))
    for method, run, k in (("influence_subset", "r", 1), ("influence_subset", "r2", 2), ("trak", "r", 1)):
        meta = META | {"method": method, "params": {"k": k}}
        catalog.put_edges(run, DATASET, one, IDS, meta)
    shown = "SELECT method, run_id, params FROM influence_edges ORDER BY ALL"
    of_trak = ("trak", "r", '{"k":1}')
    with duckdb.connect(str(catalog.path), read_only=True) as plain:
        assert plain.sql(shown).fetchall() == [("influence_subset", "r2", '{"k":2}'), of_trak]
        assert plain.sql("SELECT count(*) FROM all_influence_edges").fetchall() == [(3,)]
    catalog.make_edges_newest([("r", "influence_subset", {"k": 1})])
    assert catalog.query(shown).rows() == [("influence_subset", "r", '{"k":1}'), of_trak]


def test_edges_asked_for_again_become_the_newest_once(catalog):
    newest = "SELECT method, params FROM edge_sets ORDER BY seq"
    put(catalog, edges((0, 0, 0.5, 0.1, 1)))
    put(catalog, edges((0, 1, 0.25, None, 1)), method="last_layer", params={"k": 2})
    put(catalog, edges((0, 0, 0.75, 0.1, 1)), params={"k": 2, "of": "prob_label"})
    asked = [("r", "influence_subset", META["params"]), ("r", "last_layer", {"k": 2})]
    catalog.make_edges_newest(asked)
    assert catalog.query(newest).rows() == [
        ("influence_subset", '{"k":2,"of":"prob_label"}'), ("influence_subset", '{"k":2,"of":"correct"}'),
        ("last_layer", '{"k":2}'),
    ]  # fmt: skip
    assert [row["value"] for row in catalog.why("t1")["influence"]] == [0.5, 0.25]
    before = catalog.query("FROM edge_sets ORDER BY seq").rows()
    catalog.make_edges_newest(asked)
    assert catalog.query("FROM edge_sets ORDER BY seq").rows() == before


def test_what_does_not_fit_leaves_what_stood_there(catalog):
    put(catalog, edges((0, 0, 0.5, 0.1, 1)))
    before = catalog.query(ALL).rows()
    with pytest.raises(BadInput, match="no place in the list of 2"):
        put(catalog, edges((0, 2, 0.5, 0.1, 1)))
    with pytest.raises(BadInput, match="not in the dataset"):
        catalog.put_edges("r", DATASET, edges((0, 0, 0.5, 0.1, 1)), (["t1"], ["nobody"]), META)
    with pytest.raises(BadInput, match="'value' is missing"):
        put(catalog, edges((0, 0, 0.5, 0.1, 1)).drop("value"))
    with pytest.raises(BadInput, match="neither a rank nor a partner_rank"):
        put(catalog, edges((0, 0, 0.5, 0.1, 1), (0, 1, 0.5, 0.1, None)))
    assert catalog.query(ALL).rows() == before


def test_nothing_is_an_answer_too(catalog):
    put(catalog, edges((0, 0, 0.5, 0.1, 1)))
    put(catalog, edges((0, 0, 0.5, 0.1, 1)).clear())
    assert catalog.query(ALL).is_empty()
    assert catalog.has_edges("r", "influence_subset", META["params"], {})


def test_an_explanation_shows_both_ends_of_the_newest_edges(catalog):
    put(catalog, edges((1, 0, 1.0, None, 1)), params={"k": 9})
    put(
        catalog,
        edges(
            (0, 0, 0.25, 0.1, 2, None), (0, 1, 0.5, 0.1, 1, 1), (1, 1, -0.75, 0.1, 1, 1), (2, 1, -0.5, 0.2, None, 2),
            (2, 0, 0.125, 0.1, 1, None),
        ),
    )  # fmt: skip
    helped = catalog.why("t1")["influence"]
    assert [(row["kind"], row["partner_id"], row["partner_label"], row["value"]) for row in helped] == [
        ("help", "v2", "dog", 0.5), ("help", "v1", "cat", 0.25),
    ]  # fmt: skip
    assert helped[0]["partner_split"] == "val"
    assert [row["partner_path"] for row in helped] == ["dog/v2.png", None]
    assert helped[0]["params"] == {"k": 2, "of": "correct"}
    assert catalog.why("t1")["influenced_by"] == []
    by = catalog.why("v2")["influenced_by"]
    assert [(row["kind"], row["partner_id"]) for row in by] == [
        ("help", "t1"),
        ("harm", "t2"),
        ("harm", "t3"),
    ]
    assert by[1]["spread"] == pytest.approx(0.1)
    assert catalog.why("u")["influence"] == []
    assert [row["partner_id"] for row in catalog.why("t3")["influence"]] == ["v1"]
    assert (
        catalog.why("v1")["influenced_by"] == []
    )  # it is among the strongest of others, and they not among its own
    assert catalog.why("v1")["influenced_by_unknown"] == []
    put(catalog, edges((0, 0, 0.5, 0.1, 1), (0, 1, 0.25, 0.1, 2)), method="trak")  # as before version 8
    assert catalog.why("v1")["influenced_by_unknown"] == ["trak"]
    assert catalog.why("t1")["influenced_by_unknown"] == []


def test_a_purged_sample_leaves_both_views_and_the_next_takes_its_place_at_either_end(catalog, tmp_path):
    for k, value in ((1, 0.5), (2, 0.25)):
        frame = edges(
            (0, 1, value, 0.1, 1, 1), (0, 0, value / 2, 0.1, 2, 3), (1, 0, value, 0.1, 1, 1), (1, 1, value / 2, 0.1, 2, None),
            (2, 0, value * 0.75, 0.1, None, 2), (2, 1, -value, 0.1, 1, 1),
        )  # fmt: skip
        put(catalog, frame, params={"k": k})
    for gone in ("v2", "t2"):
        folder = tmp_path / gone
        folder.mkdir()
        state = State(dataset_id=DATASET, new_id="b" * 16, fingerprint="b" * 64)
        rebuild(tmp_path, folder, Rebuilding(states=[state], redaction=Redaction({gone})))
    shown = (
        "SELECT sample_id, partner_id, value, rank, partner_rank FROM {} ORDER BY seq, sample_id, partner_id"
    )
    purged = Catalog(tmp_path / "v2")
    newest = [("t1", "v1", 0.125, 1, 3), ("t2", "v1", 0.25, 1, 1), ("t3", "v1", 0.1875, None, 2)]
    assert purged.query(shown.format("influence_edges")).rows() == newest
    assert purged.query(shown.format("all_influence_edges")).height == 6
    assert [row["partner_id"] for row in purged.why("v1")["influenced_by"]] == ["t2", "t3", "t1"]
    assert Catalog(tmp_path / "t2").query(shown.format("influence_edges")).rows() == [
        ("t1", "v1", 0.125, 2, 2), ("t1", "v2", 0.25, 1, 1), ("t3", "v1", 0.1875, None, 1), ("t3", "v2", -0.25, 1, 1),
    ]  # fmt: skip
