"""Which Arrow types a query gives, without any table or engine in service: DuckDB binds it over typed nothings.

Both engines' results are held to these types (`results/contract.py`), so that a statement has one schema wherever it
runs. Nothing is executed: a relation is only bound.
"""

from __future__ import annotations

import threading
from typing import Any

import duckdb
import pyarrow as pa

from flight_server.engines.duckdb import load_extension
from flight_server.errors import InvalidRequest

_ARROW: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "utinyint": pa.int16(),
    "usmallint": pa.int32(),
    "uinteger": pa.int64(),
    # What Athena gives where DuckDB widens: a sum or a hash of integers is a bigint.
    "ubigint": pa.int64(),
    "hugeint": pa.int64(),
    "uhugeint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "blob": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamp_s": pa.timestamp("us"),
    "timestamp_ms": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "uuid": pa.string(),
    "enum": pa.string(),
    '"null"': pa.string(),
}


class ResultTypes:
    """Binds queries on a DuckDB of its own, which has no tables and cannot read files. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection = duckdb.connect(
            ":memory:", config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
        )
        # As in the embedded engine.
        self._connection.execute("SET enable_progress_bar = false")
        # Time zones are an extension's.
        load_extension(self._connection, "icu")
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def of(self, sql: str) -> list[pa.DataType]:
        """The types of the columns of a query in DuckDB's dialect. Raises InvalidRequest (sql-refused)."""
        with self._lock:
            cursor = self._connection.cursor()
            try:
                relation = cursor.sql(sql)
                return [arrow_type(kind) for kind in relation.types]
            except duckdb.Error as error:
                lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                raise InvalidRequest("sql-refused", lines[0][:300] if lines else type(error).__name__) from None
            finally:
                cursor.close()

    def close(self) -> None:
        self._connection.close()


def arrow_type(kind: duckdb.sqltypes.DuckDBPyType) -> pa.DataType:
    """The Arrow type in which a column of this DuckDB type is sent."""
    name = kind.id
    if name in _ARROW:
        return _ARROW[name]
    if name not in ("decimal", "list", "array", "map", "struct"):
        raise InvalidRequest("sql-refused", f"a column of type {kind} cannot be sent; cast it to another")
    # What a child is depends on the type: a size of a decimal, a type of everything else.
    parts: dict[str, Any] = dict(kind.children)
    if name == "decimal":
        return pa.decimal128(parts["precision"], parts["scale"])
    if name == "map":
        return pa.map_(arrow_type(parts["key"]), arrow_type(parts["value"]))
    if name == "struct":
        return pa.struct([(field, arrow_type(part)) for field, part in parts.items()])
    return pa.list_(arrow_type(parts["child"]))
