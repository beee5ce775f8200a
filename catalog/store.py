"""The memory of a workspace: datasets, runs, scores, flags, subsets and evaluations in one DuckDB file.

`Catalog` holds no connection. Every method opens the file, does one step in one transaction and closes it, so
that a notebook can read while a model trains. Every put replaces what stood under the same key: running a
step again leaves the catalog as running it once.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from tracesift.catalog import edges, explain, forgotten, scores, views
from tracesift.catalog.connection import (
    CATALOG_FILE,
    first_line,
    interruptible,
    literal,
    reading,
    rows,
    writing,
)
from tracesift.catalog.copying import copied
from tracesift.catalog.creation import create
from tracesift.catalog.files import canonical_json, check_can_be_made, frame_digest, replacing
from tracesift.catalog.frames import conform, distinct_ids
from tracesift.catalog.manifest import MEMBERS, Manifest
from tracesift.catalog.migrations import applied, migrate
from tracesift.catalog.schema import CATALOG_SCHEMA, ID_RULE, BadInput
from tracesift.catalog.tables import next_number, now, replace_row, replace_samples, sample_rows

_EVALUATIONS: dict[str, pl.DataType] = {
    "subset_id": pl.String(), "dataset_id": pl.String(), "subset": pl.String(), "model": pl.String(),
    "seed": pl.Int64(), "metric": pl.String(), "value": pl.Float64(), "num_train": pl.Int64(),
    "run_id": pl.String(), "details": pl.String(),
}  # fmt: skip
_REVIEWS: dict[str, pl.DataType] = dict.fromkeys(("sample_id", "label", "note"), pl.String())
_READ_ONLY_STATEMENTS = frozenset({"SELECT", "EXPLAIN", "PRAGMA", "CALL", "MULTI"})


class Catalog:
    """The catalog of one workspace.

    Parameters
    ----------
    workspace : path of the workspace's folder; made by the first write.
    wait : seconds to wait for a catalog that another process holds.

    Raises
    ------
    WorkspaceBusy
        From any method: the file stayed held; the message names the process and its command line.
    BadInput
        From any method: the file cannot be read or written, or comes from a newer tracesift.

    Examples
    --------
    >>> import tempfile
    >>> catalog = Catalog(tempfile.mkdtemp())
    >>> samples = pl.DataFrame({"sample_id": ["a", "b"], "split": "train", "label": ["cat", "dog"]})
    >>> catalog.put_dataset({"name": "pets", "source": "pets.csv", "fingerprint": "0" * 64}, samples)
    '0000000000000000'
    >>> meta = [{"scorer": "aum", "version": 1, "params": {}, "inputs": ["margin"], "direction": "clean"}]
    >>> frame = pl.DataFrame({"sample_id": ["a", "b"], "aum": [0.5, -1.0]})
    >>> catalog.put_scores("run-1", "0" * 16, frame, meta)
    >>> catalog.query("SELECT sample_id FROM sample_scores WHERE aum < ?", (0,)).item()
    'b'
    """

    def __init__(self, workspace: str | Path, *, wait: float = 30.0) -> None:
        self.workspace = Path(workspace).expanduser().absolute()
        if "?" in str(self.workspace):
            raise BadInput(f"DuckDB cannot keep a file below a folder with '?' in its name: {self.workspace}")
        self.path = self.workspace / CATALOG_FILE
        self.wait = wait

    @contextmanager
    def _write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        if not self.path.exists():
            create(self.path, self.workspace, wait=self.wait)
        with writing(self.path, wait=self.wait) as con:
            migrate(con)
            views.place(con, self.workspace)
            yield con

    @contextmanager
    def _read(self, *, sealed: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
        sealed_to = self.workspace if sealed else None
        with reading(self.path, wait=self.wait, sealed_to=sealed_to) as con:
            found = applied(con)
            if found == CATALOG_SCHEMA:
                self._find_signals(con)
                yield con
                return
        with self._write():  # brings an older catalog forward, or one whose first writer was killed
            pass
        with reading(self.path, wait=self.wait, sealed_to=sealed_to) as con:
            self._find_signals(con)
            yield con

    def _find_signals(self, con: duckdb.DuckDBPyConnection) -> None:
        """Show trajectories where the stored view cannot: after a move, or without a signals folder."""
        con.execute("DROP VIEW IF EXISTS temp.trajectories")  # of what this connection read before
        there = views.schema_file(self.workspace).exists()
        if there and rows(con, "SELECT path FROM workspace") == [(str(self.workspace),)]:
            return
        select = views.trajectories(self.workspace) if there else views.no_trajectories()
        try:
            con.execute(f"CREATE TEMP VIEW trajectories AS {select}")
        except (duckdb.InvalidInputException, duckdb.IOException) as error:
            # A damaged epoch file is told to who asks for trajectories, and stops nobody else.
            con.execute(
                f"CREATE TEMP VIEW trajectories AS {views.unreadable_trajectories(first_line(error))}"
            )

    @contextmanager
    def _copy(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Read a copy of the file and its log, taken again where a writer changed them in between."""
        with tempfile.TemporaryDirectory(prefix="tracesift-") as folder:
            copy = copied(self.path, Path(folder), wait=self.wait)
            with reading(copy, wait=self.wait, sealed_to=self.workspace) as con:
                if applied(con) != CATALOG_SCHEMA:
                    raise BadInput(f"{self.path} is of an older schema: read it once without a snapshot")
                self._find_signals(con)
                yield con

    def check_output(self, path: Path, *, snapshot: bool = False) -> None:
        """Raise BadInput where a file of the user's would go over what is kept here, into its data, or nowhere.

        In the workspace it may only be a CSV or Parquet file in the folder itself, of which the workspace keeps none.
        """
        target, own = path.expanduser().resolve(), self.workspace.resolve()
        if target.is_dir():
            raise BadInput(f"{path} is a folder; name a file")
        if target.is_relative_to(own):
            if target.parent != own or target.suffix not in (".csv", ".parquet"):
                raise BadInput(
                    f"{path} lies where the workspace keeps its own files; write to another folder"
                )
            return
        for (source,) in self.query("SELECT DISTINCT source FROM datasets", snapshot=snapshot).iter_rows():
            data = Path(source or "").expanduser()
            if source and data.exists() and target.is_relative_to(data.resolve()):
                raise BadInput(f"{path} belongs to the data ({source}); write to another file")
        check_can_be_made(target, "file")

    def read_through(self) -> int:
        """Read every row of every table, so that a damaged block is found by its checksum; return how many.

        Raises
        ------
        BadInput
            A block is not as it was written.
        """
        with self._read() as con:
            tables = rows(
                con,
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = current_database()",
            )
            return sum(
                rows(con, f'SELECT count(*), bit_xor(hash(t)) FROM {schema}."{table}" t')[0][0]
                for schema, table in tables
            )

    def check_writable(self) -> None:
        """Open and close the catalog as a writer does, so that a held or newer one is noticed beforehand."""
        with self._write():
            pass

    def put_dataset(self, record: Mapping[str, Any], samples: pl.DataFrame) -> str:
        """Write one state of a dataset, which becomes the newest; returns its dataset_id.

        Parameters
        ----------
        record : name, source, fingerprint (64 hex digits) and any of kind, classes, options, transform,
            notes, id_rule; what the table has no column for is kept in `details`.
        samples : one row per sample with sample_id and split, and where known label, label_true,
            content_hash, group; further columns are kept as JSON in `attributes`.
        """
        given = dict(record)
        for name in ("name", "source", "fingerprint"):
            if not given.get(name):
                raise BadInput(f"a dataset record needs '{name}'")
        given.setdefault("dataset_id", given["fingerprint"][:16])
        given.setdefault("id_rule", ID_RULE)
        given["num_samples"] = samples.height
        whole = sample_rows(given["dataset_id"], samples)
        given["samples_digest"] = frame_digest(whole)
        with self._write() as con:
            known = rows(con, "SELECT created_at FROM datasets WHERE dataset_id = ?", (given["dataset_id"],))
            created = known[0][0] if known else now()
            if replace_row(con, "datasets", ("dataset_id",), given | {"created_at": created}):
                replace_samples(con, given["dataset_id"], whole)
                views.refresh(con)
        return str(given["dataset_id"])

    def put_run(self, record: Mapping[str, Any]) -> None:
        """Write a run: run_id, dataset_id, kind and any column of `runs`; the rest is kept in `details`."""
        for name in ("run_id", "dataset_id", "kind"):
            if not record.get(name):
                raise BadInput(f"a run record needs '{name}'")
        with self._write() as con:
            replace_row(con, "runs", ("run_id",), {"status": "running", "started_at": now()} | dict(record))

    def finish_run(self, run_id: str, *, status: str = "done", **details: Any) -> None:
        """Set a run's status and finishing time, and add `details` to its own."""
        with self._write() as con:
            found = rows(con, "SELECT details FROM runs WHERE run_id = ?", (run_id,))
            if not found:
                raise BadInput(f"run {run_id} is not in the catalog {self.path}")
            merged = json.loads(found[0][0] or "{}") | details
            con.execute(
                "UPDATE runs SET status = ?, finished_at = coalesce(finished_at, ?), details = ? WHERE run_id = ?",
                [status, now(), canonical_json(merged).decode(), run_id],
            )

    def put_scores(
        self,
        run_id: str,
        dataset_id: str,
        frame: pl.DataFrame,
        meta: Sequence[Mapping[str, Any]],
        spreads: pl.DataFrame | None = None,
    ) -> None:
        """Write score columns of a run; columns of the same name are replaced, the run's others stay.

        Parameters
        ----------
        frame : sample_id and one column per scorer. Samples of the dataset that it lacks are not covered by
            this run; NaN and null both mean that no score could be computed.
        meta : per scorer the keys scorer, version, params, inputs, direction. With `defaults` beside
            `params`, a scorer run with other values gets the column ``scorer__<digest>``, listed in `scores`
            only; `column` names the frame's column where one scorer stands in it twice. `made_from` says of which
            trainings the inputs are.
        spreads : sample_id and, for scorers combined over seeds, the spread under the same column names.
        """
        with self._write() as con:
            scores.put_scores(con, run_id, dataset_id, frame, meta, spreads)
            views.refresh(con)

    def put_flags(self, run_id: str, dataset_id: str, flag: str, frame: pl.DataFrame) -> None:
        """Write one flag of a run.

        Parameters
        ----------
        frame : sample_id, flagged (null: cannot tell), and optionally score, threshold, reason, suggestion,
            confidence, suspicion.
        """
        with self._write() as con:
            scores.put_flags(con, run_id, dataset_id, flag, frame)
            views.refresh(con)

    def put_edges(
        self,
        run_id: str,
        dataset_id: str,
        frame: pl.DataFrame,
        ids: tuple[Sequence[str], Sequence[str]],
        meta: Mapping[str, Any],
    ) -> None:
        """Write whom training samples help and harm, by one method; its edges with other settings stay.

        Parameters
        ----------
        frame : sample and partner (places in the two lists of ids), value (above 0 where it helps), rank (1 for
            the strongest of its kind) and optionally spread; a row per edge.
        ids : those of the samples, and those of the partners.
        meta : method, version, params, and `made_from` as for scores.
        """
        with self._write() as con:
            edges.put_edges(con, run_id, dataset_id, frame, ids, meta)

    def has_edges(
        self, run_id: str, method: str, params: Mapping[str, Any], made_from: Mapping[str, str]
    ) -> bool:
        """Whether edges of this method with these settings, made from these inputs, stand here for the run.

        Those that an earlier tracesift wrote do not say from what; they pass.
        """
        with self._read() as con:
            return edges.has_edges(con, run_id, method, params, made_from)

    def make_edges_newest(self, asked: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
        """Make sets of edges that stand here the newest, which readers show; writes nothing where they are.

        Parameters
        ----------
        asked : run, method and settings of each, the newest last.
        """
        with self._write() as con:
            edges.make_newest(con, asked)

    def put_subset(self, manifest: Manifest, members: pl.DataFrame) -> str:
        """Write a manifest and its members; returns the subset_id. Earlier versions of the name stay."""
        dataset_id = manifest.dataset.fingerprint[:16]
        what = f"subset {manifest.name}"
        whole = conform(members, MEMBERS, what=what, required=["sample_id", "role", "weight"])
        with self._write() as con:
            numbered = scores.with_rows(scores.samples_of(con, dataset_id), whole, what=what)
            same = "SELECT subset_key FROM subset_records WHERE name = ? AND version = ?"
            con.execute(
                f"DELETE FROM member_rows WHERE subset_key IN ({same})", [manifest.name, manifest.version]
            )
            key = next_number(con, "subset_records", "subset_key")
            record = _subset_record(manifest) | {"subset_key": key, "dataset_id": dataset_id}
            replace_row(con, "subset_records", ("name", "version"), record)
            con.register("incoming", numbered)
            con.execute(
                f"INSERT INTO member_rows SELECT {key}, sample_row, role, weight, new_label, reason "
                "FROM incoming"
            )
        return manifest.subset_id

    def put_evaluations(self, frame: pl.DataFrame) -> None:
        """Write measured values: subset_id, seed, metric, value and any further column of `evaluations`."""
        whole = conform(
            frame, _EVALUATIONS, what="evaluations", required=["subset_id", "seed", "metric", "value"]
        )
        with self._write() as con:
            con.register("incoming", whole)
            con.execute(
                "DELETE FROM evaluations e USING incoming i WHERE e.subset_id = i.subset_id "
                "AND e.seed = i.seed AND e.metric = i.metric AND e.model IS NOT DISTINCT FROM i.model"
            )
            con.execute("INSERT INTO evaluations BY NAME SELECT * FROM incoming")

    def put_diagnostic(self, dataset_id: str, run_id: str, name: str, value: Mapping[str, Any]) -> None:
        """Write numbers about a whole dataset, such as an estimated noise matrix."""
        record = {
            "dataset_id": dataset_id,
            "run_id": run_id,
            "name": name,
            "value": canonical_json(value).decode(),
        }
        with self._write() as con:
            replace_row(con, "diagnostics", ("dataset_id", "run_id", "name"), record)

    def put_artifact(self, record: Mapping[str, Any]) -> None:
        """Write what else the workspace keeps: kind, name, dataset_id, path, digest and columns of `artifacts`."""
        for name in ("kind", "name", "dataset_id", "path", "digest"):
            if not record.get(name):
                raise BadInput(f"an artifact needs '{name}'")
        same = (record["kind"], record["name"], record["dataset_id"], record["digest"])
        with self._write() as con:
            known = rows(
                con,
                "SELECT created_at FROM artifacts WHERE (kind, name, dataset_id, digest) = (?, ?, ?, ?)",
                same,
            )
            created = known[0][0] if known else now()
            replace_row(con, "artifacts", ("kind", "name"), dict(record) | {"created_at": created})

    def drop_artifact(self, kind: str, name: str) -> None:
        """Forget an artifact that is no longer in the workspace."""
        with self._write() as con:
            con.execute("DELETE FROM artifacts WHERE kind = ? AND name = ?", [kind, name])

    def put_reviews(self, frame: pl.DataFrame) -> None:
        """Write labels that a person verified (sample_id, label, note): true ones from now on."""
        whole = conform(frame, _REVIEWS, what="reviews", required=["sample_id", "label"])
        distinct_ids(whole, what="reviews")
        with self._write() as con:
            con.register("incoming", whole)
            con.execute("DELETE FROM reviews r USING incoming i WHERE r.sample_id = i.sample_id")
            con.execute("INSERT INTO reviews SELECT sample_id, label, note, ? FROM incoming", [now()])
            con.execute(
                "UPDATE samples SET label_true = i.label FROM incoming i "
                "WHERE samples.sample_id = i.sample_id"
            )

    def put_forget_request(
        self,
        record: Mapping[str, Any],
        samples: pl.DataFrame | None = None,
        asked: Mapping[str, object] | None = None,
        words: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Write that a deletion was asked for, and whom it concerns, in one transaction.

        Parameters
        ----------
        record : request_id and columns of `forget_requests`, no sample ids; what no column holds goes to `details`.
        samples : sample_id, how, and content_hash where there is one; only their hashes under the workspace's key
            are written (`forgotten`).
        asked : plain JSON, the same for the same request; its keyed hash is written as `request_key`.
        words : way and value of what it names beside ids; the keyed hash of each is written, see `asked_by`.
        """
        if not record.get("request_id"):
            raise BadInput("a forget request needs 'request_id'")
        hashed, record = None, dict(record)
        if samples is not None:
            key = forgotten.make_key(self.workspace)
            record["request_key"] = forgotten.request_key(key, asked or {})
            record["word_keys"] = canonical_json([forgotten.word_key(key, *word) for word in words]).decode()
            hashed = pl.concat(
                [samples.select("how"), forgotten.keys_of(key, samples)], how="horizontal"
            ).select(
                pl.lit(record["request_id"]).alias("request_id"),
                pl.lit(record.get("subset"), pl.String).alias("subset"),
                "id_key", "content_key", pl.lit(forgotten.key_name(key)).alias("key_name"), "how",
            )  # fmt: skip
        with self._write() as con:
            ((last,),) = rows(con, "SELECT coalesce(max(seq), 0) FROM subset_records")
            whole = {"created_at": now(), "after_seq": last} | dict(record)
            replace_row(con, "forget_requests", ("request_id",), whole)
            if hashed is not None:
                con.register("incoming", hashed)
                con.execute("DELETE FROM forgotten WHERE request_id = ?", [record["request_id"]])
                con.execute(
                    "INSERT INTO forgotten SELECT i.*, r.seq FROM incoming i JOIN forget_requests r USING (request_id)"
                )

    def finish_forget_request(self, request_id: str, **details: Any) -> dict[str, Any]:
        """Set a request to done, add `details` to its own, and return its row."""
        with self._write() as con:
            ((known,),) = rows(con, "SELECT details FROM forget_requests WHERE request_id = ?", (request_id,))
            merged = canonical_json(json.loads(known or "{}") | details).decode()
            con.execute(
                "UPDATE forget_requests SET status = 'done', details = ? WHERE request_id = ?",
                [merged, request_id],
            )
        return next(row for row in self.forget_requests() if row["request_id"] == request_id)

    def forget_requests(self) -> list[dict[str, Any]]:
        """Return the deletion requests, earliest first, JSON columns decoded."""
        found = self.query("SELECT * FROM forget_requests ORDER BY seq NULLS FIRST, created_at, request_id")
        return [explain.decoded(row) for row in found.to_dicts()]

    def recognised(self, samples: pl.DataFrame) -> pl.DataFrame:
        """Return which samples (sample_id, content_hash) were forgotten, by which request; see `forgotten`."""
        if not self.path.exists():
            return pl.DataFrame(schema=forgotten.KNOWN)
        known = self.query("SELECT * FROM forgotten ORDER BY seq, id_key")
        return forgotten.recognised(forgotten.read_key(self.workspace), known, samples, self.workspace)

    def asked_by(self, way: str, value: str) -> str | None:
        """Return the last request that was carried out and names this owner, group, class or condition; or None."""
        key = forgotten.read_key(self.workspace)
        if key is None:
            return None
        word = forgotten.word_key(key, way, value)
        found = [row for row in self.forget_requests() if word in (row["word_keys"] or ())]
        return found[-1]["request_id"] if found and found[-1]["status"] == "done" else None

    def purges(self) -> int:
        """Return how many purges there were; of those before they were counted, whether there was any."""
        if not self.path.exists():
            return 0
        ((number,),) = self.query("SELECT max(purges) FROM workspace").rows()
        if number is not None:
            return int(number)
        details = self.query("SELECT details FROM datasets")["details"]
        return int(any(json.loads(one or "{}").get("purged") for one in details))

    def keep_purges(self, number: int) -> None:
        """Write how many purges there were, where the record of them was begun anew."""
        with self._write() as con:
            con.execute("UPDATE workspace SET purges = ?", [number])

    def unlink_forgotten(self) -> int:
        """Drop the hashes of all that was forgotten, and the key; return how many rows there were.

        The requests stay, as unlinked. From now on nobody can be recognised, and nothing is kept from returning.
        """
        with self._write() as con:
            ((count,),) = rows(con, "SELECT count(*) FROM forgotten")
            con.execute(
                "UPDATE forget_requests SET status = 'unlinked', request_key = NULL, word_keys = NULL "
                "WHERE status = 'done'"
            )
            con.execute("DELETE FROM forgotten")
        (self.workspace / forgotten.KEY_FILE).unlink(missing_ok=True)
        return int(count)

    def query(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] = (), *, snapshot: bool = False
    ) -> pl.DataFrame:
        """Run one reading statement and return its rows; it can neither change the catalog nor touch files.

        Parameters
        ----------
        sql : one SELECT (or DESCRIBE, SUMMARIZE, EXPLAIN, PIVOT …).
        params : values for its ``?`` (a sequence) or ``$name`` (a mapping).
        snapshot : read a copy of the file, made while another process may be writing it.

        Raises
        ------
        BadInput
            The statement is no query, or DuckDB cannot run it; the message is DuckDB's first line.
        """
        with self._copy() if snapshot else self._read(sealed=True) as con:
            try:
                found = con.extract_statements(sql)
                _check_statements([statement.type.name for statement in found])
                given = params if isinstance(params, Mapping) else list(params)
                answer: pl.DataFrame = interruptible(con, lambda: con.sql(sql, params=given or None).pl())
            except duckdb.InterruptException:
                raise
            except (duckdb.Error, pl.exceptions.PolarsError) as error:
                raise BadInput(f"this query cannot be run: {_whole_message(error)}") from error
            return answer

    def newest_dataset(self) -> dict[str, Any] | None:
        """Return the record of the dataset state written last, JSON columns decoded, or None."""
        return self._one("SELECT * FROM datasets ORDER BY seq DESC LIMIT 1")

    def newest_run(self, *, kind: str | None = None, dataset_id: str | None = None) -> dict[str, Any] | None:
        """Return the record of the run written last, of a kind and dataset where given, or None."""
        return self._one(
            "SELECT * FROM runs WHERE coalesce(kind = $kind, true) "
            "AND coalesce(dataset_id = $dataset_id, true) ORDER BY seq DESC LIMIT 1",
            {"kind": kind, "dataset_id": dataset_id},
        )

    def run(self, run_id: str) -> dict[str, Any] | None:
        """Return a run's record, JSON columns decoded, or None."""
        return self._one("SELECT * FROM runs WHERE run_id = $run_id", {"run_id": run_id})

    def diagnostic(self, dataset_id: str, name: str, *, run_id: str | None = None) -> dict[str, Any] | None:
        """Return the value of a diagnostic written last for this dataset, of one run where named, or None."""
        sql = (
            "SELECT value FROM diagnostics WHERE dataset_id = ? AND name = ? AND run_id = coalesce(?, run_id) "
            "ORDER BY seq DESC LIMIT 1"
        )
        with self._read() as con:
            found = rows(con, sql, (dataset_id, name, run_id))
        return json.loads(found[0][0]) if found else None

    def newest_scores(self) -> list[dict[str, Any]]:
        """Return, for each column of `sample_scores`, its row of `score_columns` with dataset and run."""
        with self._read() as con:
            known = views.newest_dataset(con)
            return [] if known is None else views.newest_columns(con, known)

    def has_scores(
        self, run_id: str, scores: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]]
    ) -> bool:
        """Whether every one of these scorers has a column of this run, as it is meant.

        Parameters
        ----------
        scores : scorer -> its settings, and what it is made from. A column that an earlier tracesift wrote does not say
            from what; it passes.
        """
        sql = "SELECT scorer, params, made_from FROM score_columns JOIN score_runs USING (run_key) WHERE run_id = ?"
        if not self.path.exists():
            return False
        with self._read() as con:
            there = set(rows(con, sql, (run_id,)))
        meant = {
            name: tuple(canonical_json(dict(one)).decode() for one in parts) for name, parts in scores.items()
        }
        return all(
            (name, params, read) in there or (name, params, None) in there
            for name, (params, read) in meant.items()
        )

    def _one(self, sql: str, params: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        with self._read() as con:
            found = con.sql(sql, params=dict(params) if params else None).pl().to_dicts()
        return explain.decoded(found[0]) if found else None

    def why(self, sample_id: str) -> dict[str, Any]:
        """Return everything known of one sample: `deleted`, and what `explain.why` returns.

        `deleted` holds, earliest first, each deletion request that it fell under: `request_id`, `created_at`, `subset`
        and `how` (see `forgotten`). It is None where the key is gone by which that could be told.
        """
        with self._read() as con:
            known = explain.why(con, sample_id)
        return {"deleted": self._deleted(known["sample"]), **known}

    def _deleted(self, sample: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        one = pl.DataFrame(
            [{name: sample[name] for name in ("sample_id", "content_hash")}], infer_schema_length=None
        )
        try:
            found = self.recognised(one)
        except BadInput:
            return None
        created = {row["request_id"]: row["created_at"] for row in self.forget_requests()}
        return [
            {**row, "created_at": created[row["request_id"]]}
            for row in found.select("request_id", "how", "subset").to_dicts()
        ]

    def diff_runs(self, first: str, second: str) -> pl.DataFrame:
        """Return, for each scorer of both runs, how far its scores agree; see `explain.diff_runs`."""
        with self._read() as con:
            return explain.diff_runs(con, first, second)

    def snapshot(self, path: str | Path) -> Path:
        """Copy the catalog, whole, to `path`, where it may be kept open without blocking the workspace."""
        target = Path(path).expanduser().absolute()
        if target == self.path:
            raise BadInput(f"a snapshot cannot replace the catalog itself: name another path than {target}")
        target.with_name(target.name + ".wal").unlink(missing_ok=True)
        with self._read() as con, replacing(target) as temporary:
            temporary.unlink()
            con.execute(f"ATTACH {literal(str(temporary))} AS copy_")
            con.execute("COPY FROM DATABASE catalog TO copy_")
            con.execute("DETACH copy_")
        return target


def _subset_record(manifest: Manifest) -> dict[str, Any]:
    return {
        "subset_id": manifest.subset_id,
        "name": manifest.name,
        "version": manifest.version,
        "selector": manifest.selector.name,
        "selector_version": manifest.selector.version,
        "params": manifest.selector.params,
        "seed": manifest.selector.seed,
        "budget": manifest.selector.budget,
        "control_of": manifest.control_of,
        "scores": [score.as_dict() for score in manifest.scores],
        "num_members": manifest.members.rows,
        "fingerprint": manifest.fingerprint,
        "created_at": manifest.created_at,
    }


def _check_statements(kinds: list[str]) -> None:
    if len(kinds) != 1:
        raise BadInput(f"give one SQL statement, not {len(kinds)}")
    if kinds[0] not in _READ_ONLY_STATEMENTS:
        raise BadInput(f"the catalog is read-only here: {kinds[0]} is refused, use SELECT")


def _whole_message(error: Exception) -> str:
    """Return DuckDB's message on one line: its hints (candidate columns) stand on the second."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(line for line in lines if not line.startswith(("LINE ", "^")))
