"""Words of Athena's Iceberg DDL as Iceberg's values: column types and partition transforms. No files, no places."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pyiceberg.schema import Schema
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    Transform,
    TruncateTransform,
    YearTransform,
)
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
)
from sqlglot import exp

# https://docs.aws.amazon.com/athena/latest/ug/querying-iceberg-supported-data-types.html
_SCALARS: dict[exp.DType, Callable[[], IcebergType]] = {
    exp.DType.BOOLEAN: BooleanType,
    exp.DType.INT: IntegerType,
    exp.DType.BIGINT: LongType,
    exp.DType.FLOAT: FloatType,
    exp.DType.DOUBLE: DoubleType,
    exp.DType.TEXT: StringType,
    exp.DType.BINARY: BinaryType,
    exp.DType.DATE: DateType,
    exp.DType.TIMESTAMP: TimestampType,
}
_KNOWN = "boolean, int, bigint, float, double, decimal(p,s), string, binary, date, timestamp, array<>, map<,>, struct<>"
# Iceberg's Java library and Athena name partition fields this way.
_TIMED: dict[type[exp.Expression], tuple[str, Callable[[], Transform]]] = {  # type: ignore[type-arg]
    exp.Year: ("year", YearTransform),
    exp.Month: ("month", MonthTransform),
    exp.Day: ("day", DayTransform),
    exp.Hour: ("hour", HourTransform),
}


class Bad(ValueError):
    """A type or transform that Athena's Iceberg tables do not have; the caller knows where it stands."""


def iceberg_type(kind: exp.DataType, ids: Iterator[int]) -> IcebergType:
    """The Iceberg type of `kind`; nested fields take their ids from `ids` and are nullable."""
    word, inner = kind.this, kind.expressions
    if word in _SCALARS:
        if inner:
            raise Bad(f"{word.value.lower()} takes no length or precision")
        return _SCALARS[word]()
    if word == exp.DType.DECIMAL:
        return _decimal([int(item.name) for item in inner])
    if word == exp.DType.ARRAY and len(inner) == 1:
        return ListType(next(ids), iceberg_type(inner[0], ids), element_required=False)
    if word == exp.DType.MAP and len(inner) == 2:
        key, value = next(ids), next(ids)
        return MapType(key, iceberg_type(inner[0], ids), value, iceberg_type(inner[1], ids), value_required=False)
    if word == exp.DType.STRUCT and inner:
        if not all(isinstance(field, exp.ColumnDef) for field in inner):
            raise Bad("every field of a struct has a name: struct<name:type, …>")
        numbered = [(next(ids), field) for field in inner]
        return StructType(
            *(NestedField(number, field.name, iceberg_type(field.args["kind"], ids)) for number, field in numbered)
        )
    raise Bad(f"Athena's Iceberg tables have no type {kind.sql('athena').lower()!r}; one of {_KNOWN}")


def _decimal(sizes: list[int]) -> DecimalType:
    if len(sizes) != 2:
        raise Bad("write decimal with precision and scale: decimal(18,4)")
    precision, scale = sizes
    if not (1 <= precision <= 38 and 0 <= scale <= precision):
        raise Bad(f"decimal({precision},{scale}): precision is 1 to 38, scale 0 to precision")
    return DecimalType(precision, scale)


def partition_transform(term: exp.Expression, schema: Schema) -> tuple[int, Transform, str]:  # type: ignore[type-arg]
    """One term of PARTITIONED BY as (id of the source column, transform, name of the partition field)."""
    if isinstance(term, exp.ColumnDef) or (found := term.find(exp.Identifier)) is None:
        raise Bad("name a column of the table or a transform of one, without a type")
    column = found.name
    names = [field.name for field in schema.fields]
    if column not in names:
        raise Bad(f"there is no column {column!r}")
    field = schema.find_field(column)
    transform: Transform  # type: ignore[type-arg]
    if isinstance(term, exp.Identifier):
        transform, name = IdentityTransform(), column
    elif type(term) in _TIMED:
        word, build = _TIMED[type(term)]
        transform, name = build(), f"{column}_{word}"
    elif isinstance(term, exp.PartitionedByBucket):
        transform, name = BucketTransform(_size(term)), f"{column}_bucket"
    elif isinstance(term, exp.PartitionByTruncate):
        transform, name = TruncateTransform(_size(term)), f"{column}_trunc"
    else:
        raise Bad("one of year(c), month(c), day(c), hour(c), bucket(n, c), truncate(n, c) or a column")
    if not transform.can_transform(field.field_type):
        raise Bad(f"{transform} does not apply to column {column!r} of type {field.field_type}")
    return field.field_id, transform, name


def _size(term: exp.Expression) -> int:
    size = term.expression
    if not (isinstance(size, exp.Literal) and size.is_int and int(size.name) > 0):
        raise Bad("the first argument is a positive whole number")
    return int(size.name)
