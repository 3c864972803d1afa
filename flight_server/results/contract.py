"""Holding a result against its contract, batch by batch: types restored without loss, nulls, limits of rows and bytes.

A result that does not fit is an error, never a silent coercion.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from flight_server.errors import ContractViolated, InvalidRequest
from flight_server.model import Dataset


def conform(
    dataset: Dataset, batches: Iterator[pa.RecordBatch], rows_max: int, bytes_max: int | None = None
) -> Iterator[pa.RecordBatch]:
    """The batches with exactly the contract's schema. Lazy; raises ContractViolated or InvalidRequest (row-limit)."""
    schema, sent = dataset.result_schema, list(range(len(dataset.columns) - dataset.hidden))
    rows = size = 0
    for batch in batches:
        rows += batch.num_rows
        if rows > rows_max:
            raise InvalidRequest(
                "row-limit", f"{dataset.name} gave more than {rows_max:,} rows, which is its limit; ask for less"
            )
        whole = conform_batch(dataset.name, schema, batch)
        if dataset.hidden:
            whole = whole.select(sent)
        size += whole.nbytes
        if bytes_max is not None and size > bytes_max:
            raise InvalidRequest(
                "row-limit", f"{dataset.name} gave more than {bytes_max:,} bytes, which is its limit; ask for less"
            )
        yield whole


def conform_batch(name: str, schema: pa.Schema, batch: pa.RecordBatch) -> pa.RecordBatch:
    """One batch with the types of `schema`; columns match by position, as the query's names are the contract's."""
    if batch.num_columns != len(schema):
        raise ContractViolated(f"{name} promises {len(schema)} columns, the engine gave {batch.num_columns}")
    columns = []
    for field, column in zip(schema, batch.columns, strict=True):
        if not field.nullable and column.null_count:
            raise ContractViolated(f"{name}.{field.name} promises no nulls, and the result has {column.null_count}")
        columns.append(_cast(name, field, column))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(name: str, field: pa.Field, column: pa.Array) -> pa.Array:
    if column.type == field.type:
        return column
    if column.null_count == len(column):
        # A bare NULL has no type of its own, and DuckDB calls it an integer.
        return pa.nulls(len(column), field.type)
    promise = f"{name}.{field.name} promises {field.type}, the engine gave {column.type}"
    # Arrow would read text as numbers, and numbers as days since 1970.
    if not _same_kind(column.type, field.type):
        raise ContractViolated(promise)
    try:
        found = column.cast(field.type, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ContractViolated(f"{promise}: {reason}") from error
    if not all(_kept(before, after) for before, after in zip(_leaves(column), _leaves(found), strict=True)):
        raise ContractViolated(f"{promise}, and some of its values do not fit")
    return found


def _same_kind(given: pa.DataType, promised: pa.DataType) -> bool:
    """Whether a value of one type can be the same value in the other; which ones are is seen in the casting."""
    if pa.types.is_nested(given):
        return (
            any(test(given) and test(promised) for test in (_is_list, pa.types.is_map, pa.types.is_struct))
            and given.num_fields == promised.num_fields
            and all(_same_kind(given.field(i).type, promised.field(i).type) for i in range(given.num_fields))
        )
    if pa.types.is_dictionary(given):
        return _same_kind(given.value_type, promised)
    if pa.types.is_null(given) or given == promised:
        return True
    return any(test(given) and test(promised) for test in _KINDS)


def _leaves(column: pa.Array) -> Iterator[pa.Array]:
    """The arrays of single values in a column, in the order of its type."""
    kind = column.type
    if pa.types.is_map(kind):
        column = column.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
    if _is_list(column.type):
        yield from _leaves(pc.list_flatten(column))
    elif pa.types.is_struct(column.type):
        for child in column.flatten():
            yield from _leaves(child)
    else:
        yield column


def _kept(before: pa.Array, after: pa.Array) -> bool:
    """Whether every value survived where Arrow's safe cast does not look: it rounds to floats and cuts off times."""
    lossy = pa.types.is_floating(after.type) and (pa.types.is_floating(before.type) or pa.types.is_decimal(before.type))
    if not lossy and not (pa.types.is_date(after.type) and pa.types.is_timestamp(before.type)):
        return True
    try:
        back = after.cast(before.type)
    except pa.ArrowInvalid:
        return False
    same = pc.equal(back, before)
    if pa.types.is_floating(before.type):
        same = pc.or_kleene(same, pc.and_(pc.is_nan(back), pc.is_nan(before)))
    return pc.all(same, min_count=0).as_py() is not False


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _is_local_moment(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or (pa.types.is_timestamp(kind) and kind.tz is None))


def _is_instant(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) and kind.tz is not None)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


_KINDS = (_is_number, _is_text, _is_bytes, _is_local_moment, _is_instant, pa.types.is_time)
