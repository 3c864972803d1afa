"""Turning carriers back: the other half of `plan/carriers.py`, by the contract's types.

Names inside structs are matched by position, since UNLOAD writes them in lower case.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def restore(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """`batch` as read from a part, with carriers turned back to the types of `schema`; other columns untouched.

    Columns are matched by position. What still differs from the contract afterwards is for `contract.conform`.
    """
    if batch.num_columns != len(schema):
        return batch
    columns = [_restored(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=schema.names)


def _restored(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if pa.types.is_timestamp(kind) and pa.types.is_int64(column.type):
        return column.cast(pa.timestamp("us")).cast(kind) if kind.tz is None else column.cast(kind)
    if pa.types.is_time(kind) and pa.types.is_string(column.type):
        # Arrow reads text as a moment, not as a time of day.
        return pc.binary_join_element_wise("1970-01-01", column, " ").cast(pa.timestamp("us")).cast(kind)
    if pa.types.is_struct(kind) and pa.types.is_struct(column.type) and column.type.num_fields == kind.num_fields:
        children = [_restored(child, field.type) for child, field in zip(column.flatten(), kind, strict=True)]
        fields = [pa.field(field.name, child.type) for field, child in zip(kind, children, strict=True)]
        return pa.StructArray.from_arrays(children, fields=fields, mask=column.is_null())
    if pa.types.is_map(kind) and pa.types.is_map(column.type):
        return _restored_map(column, kind)
    if pa.types.is_list(kind) and pa.types.is_list(column.type):
        return _restored_list(column, kind)
    return column


def _restored_list(column: pa.Array, kind: pa.DataType) -> pa.Array:
    values = _restored(column.flatten(), kind.value_type)
    return pa.ListArray.from_arrays(_offsets(column), values, type=pa.list_(values.type), mask=column.is_null())


def _restored_map(column: pa.Array, kind: pa.DataType) -> pa.Array:
    entries = column.cast(pa.list_(pa.struct([("key", column.type.key_type), ("value", column.type.item_type)])))
    flat = entries.flatten()
    keys, items = _restored(flat.field(0), kind.key_type), _restored(flat.field(1), kind.item_type)
    found = pa.map_(keys.type, items.type)
    return pa.MapArray.from_arrays(_offsets(entries), keys, items, type=found, mask=column.is_null())


def _offsets(column: pa.Array) -> pa.Array:
    """Offsets into `column.flatten()`, which leaves out what null entries and slices cover."""
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    ends = pc.cumulative_sum(lengths).cast(pa.int32())
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])
