"""Asking DuckDB which columns a query gives, over empty tables in memory: the types of the DDL and no rows."""

from __future__ import annotations

from pathlib import Path

import duckdb
import duckdb_extension_icu
import pyarrow as pa
from sqlglot import exp

from flight_server.errors import EngineFailed
from flight_server.model import TablePin
from flight_server.plan import allowed, dialect
from flight_server.plan.dialect import Schemas


class Compiler:
    """A DuckDB with the empty tables of `schemas`. Runs exactly the SQL that the engine would run."""

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas
        self._connection = duckdb.connect(":memory:", config={"threads": 1})
        # As in the embedded engine.
        self._connection.execute("SET enable_progress_bar = false")
        # Time zones; the other extensions read files, and there are none.
        extension = next(Path(str(duckdb_extension_icu.__file__)).parent.rglob("*.duckdb_extension"))
        self._connection.execute(f"LOAD '{extension}'")
        self._connection.execute("SET TimeZone = 'UTC'")
        for name, columns in schemas.items():
            database, _, table = name.partition(".")
            listed = ", ".join(
                f"{exp.to_identifier(column, quoted=True).sql()} {exp.DataType.build(kind, 'athena').sql('duckdb')}"
                for column, kind in columns.items()
            )
            self._connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{database}"')
            self._connection.execute(f'CREATE TABLE "{database}"."{table}" ({listed})')
        # Stands in for that of the Iceberg extension, so that the translation need not know that this is a rehearsal.
        self._connection.execute("CREATE MACRO iceberg_scan(location) AS TABLE FROM query_table(location)")

    def schema(self, tree: exp.Query) -> pa.Schema:
        """The Arrow schema of a bound, qualified query's result. Raises EngineFailed with DuckDB's reason."""
        pins = {name: TablePin(name, None, 0, name) for name in map(allowed.table_name, allowed.tables(tree))}
        try:
            return self._connection.sql(dialect.to_duckdb(tree, pins, self._schemas)).to_arrow_reader(1).schema
        except duckdb.Error as error:
            raise EngineFailed(f"DuckDB: {str(error).splitlines()[0]}") from error

    def table(self, name: str) -> pa.Schema:
        """The Arrow schema of one of the tables."""
        return self._connection.table(name).to_arrow_reader(1).schema

    def close(self) -> None:
        self._connection.close()
