"""Whether rows of a file fit a table, and their change into the table's Arrow types. Pure: no files, no catalog.

Nothing is ever lost silently. A value that the table's type cannot hold exactly is refused by column, row and value;
the one exception is decimal text (CSV) for a float column, which becomes the nearest float, as it must.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flight_server.errors import TableError, nearest

# Of a refused value, as much as a line of an error message holds.
_SHOWN_MAX = 60


def check_columns(names: list[str], schema: pa.Schema) -> None:
    """Refuse columns that the table `schema` does not have, repeated ones, and missing ones that must not be null."""
    for name in names:
        if name not in schema.names:
            raise TableError(f"column {name!r} is not in the table{nearest(name, schema.names)}")
        if names.count(name) > 1:
            raise TableError(f"column {name!r} is there {names.count(name)} times")
    for field in schema:
        if field.name not in names and not field.nullable:
            raise TableError(f"column {field.name!r} is missing and must not be null")


def check_types(found: pa.Schema, schema: pa.Schema) -> None:
    """Refuse a column of another family of types than the table's, whatever its values: text is no number."""
    for field in found:
        wanted = schema.field(field.name).type
        if not (_same(field.type, wanted) or (_family(field.type) == _family(wanted) != "other")):
            raise TableError(f"column {field.name!r} is {field.type} in the file and {wanted} in the table")


def check_text(found: pa.Schema, schema: pa.Schema) -> None:
    """Refuse columns of text (CSV) for types that have no agreed way of being written as text."""
    for name in found.names:
        wanted = schema.field(name).type
        if pa.types.is_nested(wanted) or _family(wanted) == "bytes":
            raise TableError(f"column {name!r}: a text file cannot hold {wanted}; load it from Parquet or Arrow")


def conform(batch: pa.RecordBatch, schema: pa.Schema, first_row: int) -> pa.RecordBatch:
    """`batch` with the columns, order and types of `schema`; columns that it lacks become null.

    The batch's column names and types have passed `check_columns` and `check_types`, or its columns are all text.
    `first_row` is the number of its first row in the file, from 1, for messages.
    Raises TableError that names column, row and value.
    """
    columns = []
    for field in schema:
        if field.name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(field.name)
        if not field.nullable and column.null_count:
            row = first_row + pc.index(column.is_null(), True).as_py()
            raise TableError(f"column {field.name!r}, row {row}: null, but the column must not be null")
        columns.append(_converted(column, field, first_row))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _converted(column: pa.Array, field: pa.Field, first_row: int) -> pa.Array:
    if column.type == field.type:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    reason = _refusal(column, field.type)
    if reason is None:
        return _cast(column, field.type)
    # Halve until one row is left: the reason is that of the first bad row, found in log2(n) casts.
    start, stop = 0, len(column)
    while stop - start > 1:
        middle = (start + stop) // 2
        if _refusal(column.slice(start, middle - start), field.type) is not None:
            stop = middle
        else:
            start = middle
    value = repr(column[start].as_py())
    value = value if len(value) <= _SHOWN_MAX else value[:_SHOWN_MAX] + "…"
    reason = _refusal(column.slice(start, 1), field.type) or reason
    raise TableError(f"column {field.name!r}, row {first_row + start}: {value} {reason}")


def _refusal(column: pa.Array, wanted: pa.DataType) -> str | None:
    """Why `column` cannot become `wanted` without loss; None when it can."""
    text, same = _family(column.type) == "text", _same(column.type, wanted)
    try:
        cast = _cast(column, wanted)
        back = cast if text or same else _cast(cast, column.type)
    except pa.ArrowInvalid:
        return f"is not a valid {wanted}" if text else f"does not fit {wanted} without loss"
    if text and pa.types.is_floating(wanted):
        # 1e39 for a float32 parses as infinity; infinity itself is spelled out.
        overflow = pc.and_(pc.is_inf(cast), pc.invert(pc.match_substring(column, "inf", ignore_case=True)))
        return f"is too large for {wanted}" if pc.any(overflow).as_py() else None
    if text or same:
        return None
    equal = pc.equal(back, column)
    if pa.types.is_floating(column.type):
        equal = pc.or_(equal, pc.and_(pc.is_nan(back), pc.is_nan(column)))
    return f"does not fit {wanted} without loss" if pc.any(pc.invert(equal)).as_py() else None


def _cast(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(wanted) and pa.types.is_integer(column.type):
        # Arrow refuses int64 to decimal(5,2) by type; by value it goes through the widest integer's digits.
        column = column.cast(pa.decimal128(20, 0))
    return column.cast(wanted)


def _family(kind: pa.DataType) -> str:
    """Types among which a cast can be exact; `other` stands for those that only fit themselves."""
    types = pa.types
    if types.is_dictionary(kind):
        return _family(kind.value_type)
    families: dict[str, Any] = {
        "text": (types.is_string, types.is_large_string, types.is_string_view),
        "bytes": (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary),
        "number": (types.is_integer, types.is_floating, types.is_decimal),
        "time": (types.is_date, lambda kind: types.is_timestamp(kind) and kind.tz is None),
        "null": (types.is_null,),
    }
    return next((name for name, tests in families.items() if any(test(kind) for test in tests)), "other")


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal but for offsets' width, names of list items, and nullability inside; an all-null column fits any type."""
    types = pa.types
    if types.is_null(found):
        return True
    if _is_list(found) and _is_list(wanted):
        return _same(found.value_type, wanted.value_type)
    if types.is_map(found) and types.is_map(wanted):
        return _same(found.key_type, wanted.key_type) and _same(found.item_type, wanted.item_type)
    if types.is_struct(found) and types.is_struct(wanted):
        names = [field.name for field in found] == [field.name for field in wanted]
        return names and all(_same(a.type, b.type) for a, b in zip(found, wanted, strict=True))
    family = _family(found)
    return found == wanted or (family == _family(wanted) and family in ("text", "bytes"))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
