"""Which table each column of a query belongs to, by the schemas of the tables.

Apart from scan.py and planner.py because `athena-flight check` needs this and no catalog, which takes 0.3 s to import.
"""

from __future__ import annotations

import re

from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify

from flight_server.errors import InvalidRequest, nearest
from flight_server.plan import dialect
from flight_server.plan.dialect import Schemas

_COLUMN = re.compile(r"(?:Unknown column: |Column ')\"?([^'\"]+)")


def qualified(tree: exp.Query, schemas: Schemas) -> exp.Query:
    """A copy of `tree` in which every column names its table. `schemas`: database.table → column → Athena type.

    Raises InvalidRequest (sql-refused) that names a column which no table has.
    """
    try:
        found = qualify(tree.copy(), schema=dialect.nested(schemas), dialect="athena", quote_identifiers=False)
    except SqlglotError as error:
        raise InvalidRequest("sql-refused", _unresolved(str(error).splitlines()[0], schemas)) from error
    assert isinstance(found, exp.Query)  # noqa: S101 - qualify keeps the kind of its input
    return found


def _unresolved(message: str, schemas: Schemas) -> str:
    """The qualifier's message with the nearest column in place of a place that is not the client's."""
    found = _COLUMN.search(message)
    if not found:
        return message
    name = found[1]
    if any(name.lower() in map(str.lower, columns) for columns in schemas.values()):
        # In two tables, or in one that is there twice, or in one that this part of the query does not name.
        return f"it is not clear which column {name!r} is meant; write its table, as in t.{name}"
    columns = {column for table in schemas.values() for column in table} - {name}
    return f"there is no column {name!r} here{nearest(name, columns)}"


def sql_schema(schema: Schema) -> dict[str, str]:
    """Column names and Athena types of an Iceberg schema, as the qualifier of the tree wants them."""
    return {field.name.lower(): sql_type(field.field_type) for field in schema.fields}


def sql_type(kind: IcebergType) -> str:
    """The Athena (engine v3) type of an Iceberg type."""
    if isinstance(kind, DecimalType):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    if isinstance(kind, ListType):
        return f"ARRAY({sql_type(kind.element_type)})"
    if isinstance(kind, MapType):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.value_type)})"
    if isinstance(kind, StructType):
        return f"ROW({', '.join(f'{f.name} {sql_type(f.field_type)}' for f in kind.fields)})"
    return _SQL_TYPES[type(kind)]


_SQL_TYPES: dict[type[IcebergType], str] = {
    BooleanType: "BOOLEAN",
    IntegerType: "INTEGER",
    LongType: "BIGINT",
    FloatType: "REAL",
    DoubleType: "DOUBLE",
    StringType: "VARCHAR",
    BinaryType: "VARBINARY",
    FixedType: "VARBINARY",
    DateType: "DATE",
    TimeType: "TIME(6)",
    TimestampType: "TIMESTAMP(6)",
    TimestamptzType: "TIMESTAMP(6) WITH TIME ZONE",
    UUIDType: "UUID",
}
