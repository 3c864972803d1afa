"""Holding a result against its contract, batch by batch: types restored without loss, nulls, row limits.

A result that does not fit is an error, never a silent coercion.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from flight_server.errors import ContractViolated, InvalidRequest
from flight_server.model import Dataset


def conform(dataset: Dataset, batches: Iterator[pa.RecordBatch], rows_max: int) -> Iterator[pa.RecordBatch]:
    """The batches with exactly the contract's schema. Lazy; raises ContractViolated or InvalidRequest (row-limit)."""
    schema, sent = dataset.result_schema, list(range(len(dataset.columns) - dataset.hidden))
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if rows > rows_max:
            raise InvalidRequest(
                "row-limit", f"{dataset.name} gave more than {rows_max:,} rows, which is its limit; ask for less"
            )
        whole = conform_batch(dataset.name, schema, batch)
        yield whole.select(sent) if dataset.hidden else whole


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
    # An integer that a float can hold exactly passes a safe cast; a double does not fit a float without rounding.
    if pa.types.is_floating(column.type) and pa.types.is_floating(field.type):
        return _narrow(name, field, column)
    try:
        return column.cast(field.type, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ContractViolated(
            f"{name}.{field.name} promises {field.type}, the engine gave {column.type}: {reason}"
        ) from error


def _narrow(name: str, field: pa.Field, column: pa.Array) -> pa.Array:
    """A float cast that must come back to the same value; Arrow's safe cast lets floats round."""
    narrowed = column.cast(field.type)
    back = narrowed.cast(column.type)
    same = pc.or_kleene(pc.equal(back, column), pc.and_(pc.is_nan(back), pc.is_nan(column)))
    if pc.all(same, min_count=0).as_py() is False:
        raise ContractViolated(f"{name}.{field.name} promises {field.type}, and {column.type} values do not fit it")
    return narrowed
