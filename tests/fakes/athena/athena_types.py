"""Athena's types: from DuckDB's, to what the API, Glue and Parquet say, and what the Hive writer refuses.

DuckDB's TIMESTAMP_S, TIMESTAMP_MS and TIMESTAMP stand for timestamp(0), timestamp(3) and timestamp(6), so precision
is carried by the engine's own typing (`dialect.py` puts it there).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from duckdb.sqltypes import DuckDBPyType

from tests.fakes.athena.errors import QueryFailed

# DuckDB's name -> Trino's. Unsigned and huge integers only come out of DuckDB's own functions: bigint in Trino.
_SCALARS = {
    "boolean": "boolean",
    "tinyint": "tinyint",
    "smallint": "smallint",
    "integer": "integer",
    "bigint": "bigint",
    "hugeint": "bigint",
    "uhugeint": "bigint",
    "ubigint": "bigint",
    "uinteger": "bigint",
    "usmallint": "bigint",
    "utinyint": "bigint",
    "float": "real",
    "double": "double",
    "varchar": "varchar",
    "enum": "varchar",
    "blob": "varbinary",
    "date": "date",
    "time": "time(6)",
    "timestamp_s": "timestamp(0)",
    "timestamp_ms": "timestamp(3)",
    "timestamp": "timestamp(6)",
    "timestamp_ns": "timestamp(9)",
    "timestamp with time zone": "timestamp(3) with time zone",
    "interval": "interval day to second",
    "uuid": "uuid",
}
_HIVE = {"integer": "int", "real": "float", "varchar": "string", "varbinary": "binary"}
_DUCKDB = {"real": "FLOAT", "varbinary": "BLOB", "timestamp(3)": "TIMESTAMP_MS", "timestamp(6)": "TIMESTAMP"}
# GetQueryResults says float for real and drops precisions; Precision is the JDBC column size.
_PRECISION = {
    "tinyint": 3,
    "smallint": 5,
    "integer": 10,
    "bigint": 19,
    "real": 17,
    "double": 17,
    "varchar": 2147483647,
    "varbinary": 1073741824,
    "timestamp(3)": 3,
    "timestamp(6)": 6,
    "timestamp(3) with time zone": 3,
}


@dataclass(frozen=True)
class AthenaType:
    """One type. `name` is Trino's word; array, map and row have `children`, whose names only row uses."""

    name: str
    precision: int = 0
    scale: int = 0
    children: tuple[tuple[str, AthenaType], ...] = ()

    def __str__(self) -> str:
        inner = [str(t) for _, t in self.children]
        if self.name == "row":
            inner = [f'"{n}" {t}' if n else str(t) for n, t in self.children]
        if self.name == "decimal":
            inner = [str(self.precision), str(self.scale)]
        return f"{self.name}({', '.join(inner)})" if inner else self.name

    @property
    def hive(self) -> str:
        """As Glue and Athena DDL write it."""
        if self.name == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.name == "row":
            return "struct<" + ",".join(f"{n.lower()}:{t.hive}" for n, t in self.children) + ">"
        if self.children:
            return f"{self.name}<" + ",".join(t.hive for _, t in self.children) + ">"
        return "timestamp" if self.name.startswith("timestamp(") else _HIVE.get(self.name, self.name)

    @property
    def duckdb(self) -> str:
        """The DuckDB type that holds it, with lower-case field names."""
        if self.name == "decimal":
            return f"DECIMAL({self.precision},{self.scale})"
        if self.name == "array":
            return f"{self.children[0][1].duckdb}[]"
        if self.name == "map":
            return f"MAP({self.children[0][1].duckdb}, {self.children[1][1].duckdb})"
        if self.name == "row":
            named = ((n.lower() or f"field{i}", t.duckdb) for i, (n, t) in enumerate(self.children))
            quoted = ((n.replace('"', '""'), t) for n, t in named)
            return "STRUCT(" + ", ".join(f'"{n}" {t}' for n, t in quoted) + ")"
        return _DUCKDB.get(self.name, self.name.upper())

    def info(self, column: str) -> dict[str, Any]:
        """The ColumnInfo of GetQueryResults: no element types for array, map and row, as on AWS."""
        name = "float" if self.name == "real" else self.name
        if name.startswith("timestamp"):
            name = "timestamp with time zone" if name.endswith("zone") else "timestamp"
        return {
            "CatalogName": "hive",
            "SchemaName": "",
            "TableName": "",
            "Name": column,
            "Label": column,
            "Type": "time" if name.startswith("time(") else name,
            "Precision": self.precision or _PRECISION.get(self.name, 0),
            "Scale": self.scale,
            "Nullable": "UNKNOWN",
            "CaseSensitive": self.name == "varchar",
        }


UNKNOWN = AthenaType("unknown")


def from_duckdb(kind: DuckDBPyType) -> AthenaType:
    """The Athena type of what DuckDB answers with."""
    if kind.id == "decimal":
        sizes: dict[str, Any] = dict(kind.children)
        return AthenaType("decimal", int(sizes["precision"]), int(sizes["scale"]))
    if kind.id in ("list", "array"):
        return AthenaType("array", children=(("", _child(kind.children[0][1])),))
    if kind.id == "map":
        return AthenaType("map", children=tuple((n, _child(t)) for n, t in kind.children))
    if kind.id == "struct":
        return AthenaType("row", children=tuple((n, _child(t)) for n, t in kind.children))
    if str(kind) == "JSON":
        return AthenaType("json")
    if str(kind) in ('"NULL"', "NULL"):
        return UNKNOWN
    return AthenaType(_SCALARS.get(kind.id, kind.id))


def _child(kind: Any) -> AthenaType:
    """DuckDB types its children as anything that a type can have."""
    return from_duckdb(kind)


def refuse_for_hive(column: str, kind: AthenaType) -> None:
    """Raise as Athena's Hive writer (UNLOAD, CTAS to anything but Iceberg) does on types that it cannot write."""
    if kind.name == "unknown":
        raise QueryFailed("NOT_SUPPORTED", f"Column type is unknown: {column}")
    if kind.name.startswith("timestamp(") and not kind.name.endswith("zone") and kind.name != "timestamp(3)":
        message = f"Incorrect timestamp precision for {kind.name}; the configured precision is MILLISECONDS"
        raise QueryFailed("NOT_SUPPORTED", f"{message}; column name: {column}")
    if kind.name == "row" and not all(n for n, _ in kind.children):
        message = f"Anonymous row type is not supported in Hive. Please give each field a name: {kind}"
        raise QueryFailed("NOT_SUPPORTED", message)
    if kind.name in ("json", "uuid") or kind.name.startswith(("time(", "interval")) or kind.name.endswith("zone"):
        raise QueryFailed("NOT_SUPPORTED", f"Unsupported Hive type: {kind}")
    for _, child in kind.children:
        refuse_for_hive(column, child)


def refuse_for_iceberg(column: str, kind: AthenaType) -> None:
    """Raise as Athena's Iceberg writer does: no timestamp(3), no small integers, nothing without a type."""
    if kind.name == "unknown":
        raise QueryFailed("NOT_SUPPORTED", f"Column type is unknown: {column}")
    if kind.name.startswith("timestamp(") and not kind.name.endswith("zone") and kind.name != "timestamp(6)":
        precision = kind.name.removeprefix("timestamp")
        message = f'Timestamp precision {precision} not supported for Iceberg. Use "timestamp(6)" instead.'
        raise QueryFailed("NOT_SUPPORTED", message)
    if kind.name in ("tinyint", "smallint", "json") or kind.name.startswith("interval"):
        raise QueryFailed("NOT_SUPPORTED", f"Type not supported for Iceberg: {kind}")
    if kind.name == "row" and not all(n for n, _ in kind.children):
        raise QueryFailed("NOT_SUPPORTED", f"Row type field does not have a name: {kind}")
    for _, child in kind.children:
        refuse_for_iceberg(column, child)
