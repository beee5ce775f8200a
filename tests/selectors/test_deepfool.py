import polars as pl

from tracesift.selectors.contract import select


def test_the_nearest_to_the_border_are_kept():
    frame = pl.DataFrame(
        {"sample_id": list("abcde"), "label": list("xxxyy"), "deepfool": [4.0, 0.5, 1.0, 9.0, 7.0]}
    )
    whole = select("deepfool", frame, budget=2, seed=0)
    assert whole.filter(pl.col("role") == "keep")["sample_id"].to_list() == ["b", "c"]
    assert "lowest first" in whole["reason"][0]
    by_class = select("deepfool", frame, budget=2, seed=0, per_class=True)
    assert by_class.filter(pl.col("role") == "keep")["sample_id"].to_list() == ["b", "e"]
