"""Fixtures about the embedded engine: one locked-down DuckDB a session, and queries run on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import exp

from flight_server.config import DuckDB
from flight_server.engines.duckdb import DuckDBEngine, DuckDBExecution
from flight_server.plan import dialect
from flight_server.plan.qualify import qualified

Run = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDBEngine]:
    """An engine whose warehouse is an empty folder."""
    with closing(DuckDBEngine(DuckDB(), (str(tmp_path_factory.mktemp("warehouse")),))) as opened:
        yield opened


@pytest.fixture(scope="session")
def run(engine: DuckDBEngine) -> Run:
    """Rows of a query in DuckDB's own dialect."""
    return lambda sql: rows(engine, sql)


@pytest.fixture(scope="session")
def run_athena(run: Run) -> Run:
    """Rows of a query in the Athena dialect without tables, translated as a dataset's is."""
    return lambda sql: run(dialect.to_duckdb(qualified(tree(sql), {}), {}, {}))


def rows(engine: DuckDBEngine, sql: str) -> list[tuple[Any, ...]]:
    execution = DuckDBExecution(engine._connection.cursor(), sql, 1000, private=engine._private)
    try:
        return [tuple(row.values()) for batch in execution.batches() for row in pylist(batch)]
    finally:
        execution.close()


def pylist(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    names = [f"{name}{number}" for number, name in enumerate(batch.schema.names)]
    return list(pa.RecordBatch.from_arrays(batch.columns, names=names).to_pylist())


def tree(sql: str) -> exp.Query:
    parsed = sqlglot.parse_one(sql, read="athena")
    assert isinstance(parsed, exp.Query)
    return parsed


def warehouse_of(folder: Path) -> str:
    return str(folder / "warehouse")
