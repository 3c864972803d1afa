"""The server's own tables as the planner sees them: a schema, no snapshots, no files and no price."""

from __future__ import annotations

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.types import (
    DateType,
    DoubleType,
    LongType,
    NestedField,
    PrimitiveType,
    StringType,
    TimestamptzType,
)

_TYPES: dict[pa.DataType, PrimitiveType] = {
    pa.string(): StringType(),
    pa.int64(): LongType(),
    pa.float64(): DoubleType(),
    pa.date32(): DateType(),
    pa.timestamp("us", "UTC"): TimestamptzType(),
}


def iceberg_schema(schema: pa.Schema) -> Schema:
    """An Arrow schema of the types above as Iceberg's, all columns optional."""
    return Schema(
        *(NestedField(number, field.name, _TYPES[field.type]) for number, field in enumerate(schema, start=1))
    )
