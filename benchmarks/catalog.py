"""What it costs to keep scores in the catalog: writing 30 scores of an ImageNet-sized set, and asking for samples.

Two cells, each a JSON file under results/catalog/. `full` writes 1,281,167 samples and 30 scores through `Catalog`
and filters by two of them; the goals are 10 s for the scores and 0.05 s for the query. `layouts` compares our wide
layout with the one that the public columns suggest, one row per (sample, scorer), at 100,000 samples; turns are
interleaved and the least time counts, because the machine does other things too.

    python benchmarks/catalog.py [--cell full|layouts]
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import psutil

from tracesift.catalog.files import write_json
from tracesift.catalog.store import Catalog

RESULTS = Path(__file__).parent / "results" / "catalog"
FULL, SMALL, SCORERS, SEED = 1_281_167, 100_000, 30, 0
GOALS = {"write_seconds": 10.0, "query_seconds": 0.05}
FINGERPRINT = "0" * 64
COUNT = "SELECT count(*) FROM sample_scores WHERE score_03 > 1.0 AND score_17 < -1.0"
IDS = "SELECT sample_id FROM sample_scores WHERE score_03 > 1.0 AND score_17 < -1.0"


def made_up(count: int) -> tuple[pl.DataFrame, pl.DataFrame, list[dict[str, Any]]]:
    """Return samples with 32-character ids, normally distributed scores, and their description."""
    rng = np.random.default_rng(SEED)
    halves = rng.integers(0, 2**63, size=(count, 2)).tolist()
    ids = pl.Series("sample_id", [f"{high:016x}{low:016x}" for high, low in halves])
    labels = pl.Series("label", rng.integers(0, 1000, size=count)).cast(pl.String)
    samples = pl.DataFrame([ids, labels]).with_columns(split=pl.lit("train"), content_hash=ids)
    names = [f"score_{number:02d}" for number in range(SCORERS)]
    scores = pl.DataFrame([ids, *(pl.Series(name, rng.normal(size=count)) for name in names)])
    meta = [
        {"scorer": name, "version": 1, "params": {"window": 10}, "inputs": ["margin"], "direction": "clean"}
        for name in names
    ]
    return samples, scores, meta


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    """Return how long `work` takes."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def least(work: Callable[[], Any], times: int = 7) -> float:
    """Return the least of several times."""
    return min(seconds(work) for _ in range(times))


def full() -> dict[str, Any]:
    """Time the whole way at the size of ImageNet; every write three times, into a fresh catalog."""
    samples, scores, meta = made_up(FULL)
    record = {"name": "n", "source": "s", "fingerprint": FINGERPRINT}
    ingest, write, processor = [], [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            catalog = Catalog(folder)
            ingest.append(seconds(catalog.put_dataset, record, samples))
            before = time.process_time()
            write.append(seconds(catalog.put_scores, "run", FINGERPRINT[:16], scores, meta))
            processor.append(time.process_time() - before)
            asked = _questions(catalog) | {"bytes": catalog.path.stat().st_size}
            again = seconds(
                catalog.put_scores, "run", FINGERPRINT[:16], scores.select("sample_id", "score_00"), meta[:1]
            )
    return {
        "samples": FULL, "scorers": SCORERS, "goals": GOALS, "ingest_seconds": min(ingest), "write_seconds": min(write),
        "write_processor_seconds": min(processor), "replace_one_score_seconds": again, **asked,
    }  # fmt: skip


def _questions(catalog: Catalog) -> dict[str, Any]:
    """Time the questions, through `Catalog` with its opening and closing, and on an open connection."""
    through = least(lambda: catalog.query(COUNT))
    with duckdb.connect(str(catalog.path), read_only=True) as con:
        return {
            "found": counted(con)[0][0],
            "query_seconds": least(lambda: counted(con)),
            "query_ids_seconds": least(lambda: con.sql(IDS).pl()),
            "query_through_catalog_seconds": through,
            "long_view_one_scorer_seconds": least(
                lambda: con.sql("SELECT avg(value) FROM scores WHERE scorer = 'score_03'").fetchall()
            ),
        }


def counted(con: duckdb.DuckDBPyConnection) -> list[Any]:
    """Ask how many samples pass a filter by two scores."""
    return con.sql(COUNT).fetchall()


def write_long(path: Path, scores: pl.DataFrame) -> None:
    """Write the layout that the public columns suggest: one row per sample and scorer, and a pivot on top."""
    names = scores.columns[1:]
    with duckdb.connect(str(path)) as con:
        con.register("incoming", scores)
        con.execute(
            "CREATE TABLE scores (dataset_id VARCHAR, run_id VARCHAR, scorer VARCHAR, scorer_version INTEGER, "
            "params VARCHAR, sample_id VARCHAR, value DOUBLE, spread DOUBLE)"
        )
        con.execute(
            "INSERT INTO scores SELECT 'd', 'run', scorer, 1, '{\"window\":10}', sample_id, value, NULL "
            "FROM (UNPIVOT incoming ON COLUMNS(* EXCLUDE sample_id) INTO NAME scorer VALUE value)"
        )
        columns = ", ".join(f"max(value) FILTER (WHERE scorer = '{name}') AS {name}" for name in names)
        con.execute(
            f"CREATE VIEW sample_scores AS SELECT sample_id, {columns} FROM scores GROUP BY sample_id"
        )


def layouts() -> dict[str, Any]:
    """Compare both layouts, turn by turn."""
    samples, scores, meta = made_up(SMALL)
    times: dict[str, list[float]] = {"wide_write": [], "long_write": [], "wide_query": [], "long_query": []}
    sizes: dict[str, int] = {}
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            catalog = Catalog(folder)
            catalog.put_dataset({"name": "n", "source": "s", "fingerprint": FINGERPRINT}, samples)
            long = Path(folder) / "long.duckdb"
            times["wide_write"].append(seconds(catalog.put_scores, "run", FINGERPRINT[:16], scores, meta))
            times["long_write"].append(seconds(write_long, long, scores))
            sizes = {"wide_bytes": catalog.path.stat().st_size, "long_bytes": long.stat().st_size}
            with (
                duckdb.connect(str(catalog.path), read_only=True) as ours,
                duckdb.connect(str(long), read_only=True) as theirs,
            ):
                if counted(ours) != counted(theirs):
                    raise AssertionError("the two layouts answer differently")
                for _ in range(5):
                    times["wide_query"].append(seconds(counted, ours))
                    times["long_query"].append(seconds(counted, theirs))
    best = {f"{name}_seconds": min(taken) for name, taken in times.items()}
    return {
        "samples": SMALL, "scorers": SCORERS, **best, **sizes,
        "write_ratio": best["long_write_seconds"] / best["wide_write_seconds"],
        "query_ratio": best["long_query_seconds"] / best["wide_query_seconds"],
    }  # fmt: skip


def machine() -> dict[str, Any]:
    """Return where the numbers were made."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": psutil.cpu_count(),
        "load": list(psutil.getloadavg()),
        "memory_bytes": psutil.virtual_memory().total,
        "python": platform.python_version(),
        "duckdb": version("duckdb"),
        "polars": version("polars"),
        "tracesift": version("tracesift"),
    }


def main() -> None:
    """Run the cells that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cell", choices=["full", "layouts"])
    chosen = parser.parse_args().cell
    for name, cell in {"full": full, "layouts": layouts}.items():
        if chosen in (None, name):
            result = {"cell": name, "seed": SEED, **cell(), "machine": machine()}
            write_json(RESULTS / f"{name}.json", result)
            for key, value in result.items():
                print(f"{key:>34}  {value}")


if __name__ == "__main__":
    main()
