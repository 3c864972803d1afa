"""The embedded engine: DuckDB over Iceberg tables, in this process, locked down.

One DuckDB instance for the process and one cursor for each query, as DuckDB asks for. The Iceberg extension comes
from a wheel, so nothing is downloaded. After start, the instance can read the warehouse and nothing else, and its
settings can no longer be changed: the second wall behind `plan/allowed.py`. Results are kept where it is given a store.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Literal, Protocol

import duckdb
import pyarrow as pa

from flight_server.config import DuckDB as Settings
from flight_server.errors import Cancelled, EngineFailed, ResultLost
from flight_server.model import EngineName, Execution, ExecutionStats, Plan, StoredResult
from flight_server.scratch import Scratch
from flight_server.telemetry import metrics

# Load order matters: iceberg needs avro for its manifests, and both read through httpfs for s3:// warehouses.
_EXTENSIONS = ("icu", "httpfs", "avro", "iceberg")
# Pause between two interrupts of a query that is being cancelled.
_INTERRUPT_S = 0.02
# How DuckDB's error of an interrupted query begins where it comes through an Arrow stream.
_INTERRUPTED = "INTERRUPT Error"
# The folders of a local file, up to its name.
_FILE = re.compile(r'"(?:file:)?/(?:[^"\n]*/)?(?=[^"/\n]+")')


class ResultStore(Protocol):
    """What the engine needs of a store for its results (`results/local.py`)."""

    def find(self, fingerprint: str, max_age_s: float | None = None) -> StoredResult | None: ...

    def read(self, stored: StoredResult) -> Iterator[pa.RecordBatch]: ...

    def keep(self, fingerprint: str, batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]: ...

    def close(self) -> None: ...


class DuckDBEngine:
    """Runs plans on an embedded DuckDB. `warehouses` are the only folders or s3:// prefixes that it can read.

    `s3` gives the options of DuckDB's secret for them. It is asked before each query, as credentials of a role expire.
    """

    name: EngineName = "duckdb"

    def __init__(
        self,
        settings: Settings,
        warehouses: tuple[str, ...],
        s3: Callable[[], Mapping[str, str]] | None = None,
        results: ResultStore | None = None,
    ) -> None:
        self._results = results
        self.keeps: Literal["nothing", "here", "shared"] = "nothing" if results is None else "here"
        # Not the working directory, which is DuckDB's own choice and may be read-only or a repository.
        self._spill = Scratch("spill")
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "temp_directory": str(self._spill.path),
                "threads": settings.threads,
                "memory_limit": settings.memory,
                "max_temp_directory_size": settings.temp_bytes_max,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        # On by itself where Python has no file to run (`python -c`), and on standard output: what takes 2 s would show.
        self._connection.execute("SET enable_progress_bar = false")
        for name in _EXTENSIONS:
            load_extension(self._connection, name)
        # Equal on every machine, whatever its zone; and rows come in an order only where the query has one.
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET preserve_insertion_order = false")
        # A name that is no table must not be whatever variable has it.
        self._connection.execute("SET GLOBAL python_enable_replacements = false")
        self._private = _private(*warehouses, str(self._spill.path))
        self._s3 = s3
        self._secret: Mapping[str, str] = {}
        self._renewing = threading.Lock()
        self._renew()
        _lock_down(self._connection, warehouses)
        metrics.DUCKDB_BYTES.set_function(self._held)

    def start(self, plan: Plan) -> Execution:
        query = DuckDBExecution(
            self._connection.cursor(), plan.sql, plan.bounds.batch_rows, first=self._renew, private=self._private
        )
        if self._results is None or plan.dataset.cache.mode == "off":
            return query
        return _KeptExecution(query, self._results, plan.fingerprint, lambda: self.stored(plan))

    def stored(self, plan: Plan) -> StoredResult | None:
        cache = plan.dataset.cache
        if self._results is None or cache.mode == "off":
            return None
        return self._results.find(plan.fingerprint, cache.ttl_s)

    def describe(self, sql: str) -> list[tuple[str, str]]:
        """Column names and DuckDB types of a query, without running it."""
        self._renew()
        cursor = self._connection.cursor()
        try:
            return [(row[0], row[1]) for row in cursor.execute(f"DESCRIBE {sql}").fetchall()]
        except duckdb.Error as error:
            raise EngineFailed(f"DuckDB: {_reason(error, self._private)}") from error
        finally:
            cursor.close()

    def ping(self) -> None:
        """Raise EngineFailed when DuckDB does not answer."""
        self.describe("SELECT 1 AS one")

    def _renew(self) -> None:
        """Give DuckDB the credentials as they are now. Secrets are no settings: the lock leaves them open."""
        if self._s3 is None:
            return
        with self._renewing:
            found = self._s3()
            if found != self._secret:
                _create_secret(self._connection, found)
                self._secret = found

    def _held(self) -> float:
        try:
            row = self._connection.cursor().execute("SELECT sum(memory_usage_bytes) FROM duckdb_memory()").fetchone()
        except duckdb.Error:
            # Closed: whoever asks for metrics then gets the others.
            return 0.0
        return float(row[0]) if row and row[0] is not None else 0.0

    def close(self) -> None:
        self._connection.close()
        self._spill.remove()
        if self._results is not None:
            self._results.close()


class DuckDBExecution:
    """One running query; `first` is done before it. Owns its cursor; `close` interrupts what runs and frees it.

    `private` are folders that no message names.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        sql: str,
        batch_rows: int,
        engine: EngineName = "duckdb",
        first: Callable[[], None] = lambda: None,
        private: tuple[str, ...] = (),
    ) -> None:
        self._private = private
        self._running = metrics.QUERIES_RUNNING.labels(engine)
        self._first = first
        self._cursor = cursor
        self._sql = sql
        self._batch_rows = batch_rows
        self._cancelled = threading.Event()
        # Held while the cursor is in use, so that `close` never pulls it away from under a fetch.
        self._in_use = threading.Lock()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches as DuckDB makes them. Blocks in DuckDB, with the GIL released.

        Raises EngineFailed with DuckDB's reason, Cancelled after `cancel`.
        """
        with self._running.track_inprogress():
            yield from self._fetched()

    def _fetched(self) -> Iterator[pa.RecordBatch]:
        try:
            self._first()
            with self._in_use:
                self._stop_if_cancelled()
                reader = self._cursor.sql(self._sql).to_arrow_reader(self._batch_rows)
            while True:
                with self._in_use:
                    self._stop_if_cancelled()
                    batch = next(reader, None)
                if batch is None:
                    return
                yield batch
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            # Errors inside a running Arrow stream arrive as Arrow's, DuckDB's text within; most as its IOError.
            if self._cancelled.is_set():
                raise Cancelled("cancelled", "the query was stopped") from None
            raise EngineFailed(f"DuckDB: {_reason(error, self._private)}") from error

    def cancel(self) -> None:
        """Stop the query and wait until DuckDB has let go of it, which takes milliseconds."""
        self._cancelled.set()
        # DuckDB forgets an interrupt that comes just before a query or a fetch starts: repeat it until it is heard.
        while not self._in_use.acquire(timeout=_INTERRUPT_S):
            self._cursor.interrupt()
        self._in_use.release()

    def close(self) -> None:
        self.cancel()
        with self._in_use:
            self._cursor.close()

    @property
    def stats(self) -> ExecutionStats:
        return ExecutionStats()

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled("cancelled", "the query was stopped")


class _KeptExecution:
    """A query whose result is read from the store where it has it, and else kept in it when it has come to its end."""

    def __init__(
        self,
        query: DuckDBExecution,
        results: ResultStore,
        fingerprint: str,
        find: Callable[[], StoredResult | None],
    ) -> None:
        self._query = query
        self._results = results
        self._fingerprint = fingerprint
        self._find = find
        self._keeping: Generator[pa.RecordBatch, None, None] | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As `DuckDBExecution.batches`; raises ResultLost when a kept result breaks off after its first batch."""
        stored = self._find()
        if stored is not None:
            sent = False
            try:
                for batch in self._results.read(stored):
                    sent = True
                    yield batch
                return
            except ResultLost:
                # Pushed out between the look and the reading: ask again as if it had never been.
                if sent:
                    raise
        self._keeping = self._results.keep(self._fingerprint, self._query.batches())
        yield from self._keeping

    def cancel(self) -> None:
        self._query.cancel()

    def close(self) -> None:
        """Stop the query and give up what is not complete. Whoever took from `batches` has stopped doing so."""
        self._query.close()
        if self._keeping is not None:
            self._keeping.close()

    @property
    def stats(self) -> ExecutionStats:
        return self._query.stats


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension from its wheel; not possible any more once external access is off."""
    module = importlib.import_module(f"duckdb_extension_{name}")
    file = next(Path(str(module.__file__)).parent.rglob("*.duckdb_extension"))
    connection.execute(f"LOAD {_quoted(str(file))}")


def _create_secret(connection: duckdb.DuckDBPyConnection, s3: Mapping[str, str]) -> None:
    # The keys are DuckDB's own: KEY_ID, SECRET, SESSION_TOKEN, REGION, ENDPOINT, URL_STYLE, USE_SSL.
    options = ", ".join(f"{key} {_quoted(value)}" for key, value in s3.items())
    connection.execute(f"CREATE OR REPLACE SECRET warehouse (TYPE s3, {options})")


def _lock_down(connection: duckdb.DuckDBPyConnection, warehouses: tuple[str, ...]) -> None:
    folders = ", ".join(_quoted(w if w.endswith("/") else f"{w}/") for w in warehouses)
    connection.execute(f"SET allowed_directories = [{folders}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _private(*folders: str) -> tuple[str, ...]:
    """The folders as DuckDB may write them, the longest first; of a bucket, its name is no path of the server."""
    local = [folder.removeprefix("file://").rstrip("/") for folder in folders if not folder.startswith("s3://")]
    return tuple(sorted({*local, *(str(Path(folder).resolve()) for folder in local)}, key=len, reverse=True))


def _reason(error: Exception, private: tuple[str, ...] = ()) -> str:
    """The first line of an engine's message, without folders of the server: the rest quotes SQL."""
    # The first thread that fails stops the others, and at times DuckDB tells of one of these: nobody else interrupts.
    if isinstance(error, duckdb.InterruptException) or str(error).startswith(_INTERRUPTED):
        return "the query failed, and the reason was lost as its threads stopped each other; ask again to see it"
    text = str(error)
    for folder in private:
        text = text.replace(f"{folder}/", "")
    # A table can lie outside of the warehouse that is configured now; files are quoted so, and values are not.
    text = _FILE.sub('"', text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
