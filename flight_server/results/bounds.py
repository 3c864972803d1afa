"""The sort keys between which a part's rows lie, from the statistics of its footer: what need not be read yet.

Statistics are a hint: the merge holds every row against the order, so that wrong ones end in an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from flight_server.model import SortKey
from flight_server.results.carriers import restore
from flight_server.results.footer import Chunk
from flight_server.results.keys import Keys
from flight_server.results.part import OpenPart

Bounds = tuple[Any, Any] | None


def bounds(
    part: OpenPart, schema: pa.Schema, order: Sequence[SortKey], encode: Callable[[pa.RecordBatch], Keys]
) -> Bounds:
    """A key that no row comes before and one that no row comes after; None where the statistics do not tell.

    `schema` is the contract's, whose columns are in the places of the part's.
    """
    found = part.file.schema_arrow
    columns = [schema.get_field_index(key.column) for key in order]
    if any(schema.field(column).nullable for column in columns):
        # Statistics leave nulls out, and nulls come first or last.
        return None
    extremes = []
    for column, key in zip(columns, order, strict=True):
        both = _extremes(part.row_groups, found.field(column))
        if both is None:
            return None
        extremes.append(both.take(pa.array([1, 0])) if key.descending else both)
    contract = pa.schema([schema.field(column) for column in columns])
    keys = encode(restore(pa.RecordBatch.from_arrays(extremes, names=contract.names), contract))
    return keys.at(0), keys.at(1)


def overlapping(ranges: Sequence[Bounds]) -> int:
    """How many parts have to be read at once, with one more that is begun when the one before it is."""
    known = [each for each in ranges if each is not None]
    most = 0
    for least, _ in known:
        most = max(most, sum(first <= least <= last for first, last in known))
    return min(len(ranges), len(ranges) - len(known) + most + 1)


def _extremes(row_groups: Sequence[Sequence[Chunk]], field: pa.Field) -> pa.Array | None:
    """The least and the greatest value of a column, as an array of both; None where that is not known for sure."""
    found = []
    for row_group in row_groups:
        chunks = [chunk for chunk in row_group if chunk.path == field.name]
        if len(chunks) != 1 or chunks[0].extremes is None:
            return None
        found.append(chunks[0].extremes)
    both = [min(least for least, _ in found), max(most for _, most in found)]
    kind = field.type
    try:
        if pa.types.is_signed_integer(kind):
            return pa.array(both, pa.int64()).cast(kind)
        if pa.types.is_date32(kind):
            return pa.array(both, pa.int32()).view(kind)
        if pa.types.is_timestamp(kind):
            return pa.array(both, pa.int64()).view(kind)
    except pa.ArrowInvalid:
        # Values that the type has not: statistics are a hint, and this is a bad one.
        return None
    return None
