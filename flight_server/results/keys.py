"""Sort keys of record batches, encoded so that plain comparison gives the declared order.

Keys of fixed width are packed into one uint64 a row, the fast path: dates, numbers, timestamps, alone or together; or
into several where they need more bits. All others stay Arrow columns. Nulls go where the key says, NaN is the greatest
number as in Trino, -0.0 equals 0.0.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import total_ordering
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flight_server.errors import ContractViolated
from flight_server.model import SortKey

_GREATEST = np.uint64((1 << 64) - 1)
Indices = npt.NDArray[np.int64]


class Keys(Protocol):
    """The encoded keys of some rows. `at` gives values that compare with those of other rows, of other batches too."""

    def at(self, row: int) -> Any: ...

    def count_up_to(self, key: Any, start: int, *, inclusive: bool) -> int:
        """How many rows from `start` on, which are sorted, come before `key`, or with it when `inclusive`."""

    def slice(self, start: int, rows: int) -> Keys: ...

    def stable_order(self, others: Sequence[Keys]) -> Indices | None:
        """The stable sort order of these rows followed by those of `others`; None when they are in order already."""


def encoder(order: Sequence[SortKey], schema: pa.Schema) -> Callable[[pa.RecordBatch], Keys]:
    """What encodes the keys of batches with `schema`. One encoder for all parts: its keys compare across batches.

    A key that is not nullable takes no room for nulls; encoding one raises ContractViolated.
    """
    fields = [schema.field(key.column) for key in order]
    widths = [_bits(field.type) + field.nullable for field in fields]
    fixed = all(_bits(field.type) <= 64 for field in fields)

    def encode(batch: pa.RecordBatch) -> Keys:
        for field in fields:
            if not field.nullable and (nulls := batch.column(field.name).null_count):
                raise ContractViolated(f"the sort key {field.name!r} promises no nulls, and the result has {nulls}")
        if sum(widths) <= 64:
            return _Packed(_pack(batch, order, widths))
        if fixed:
            return _Words(tuple(_words(batch, order, widths)))
        columns = [_comparable(batch.column(key.column)) for key in order]
        return _Columns(pa.RecordBatch.from_arrays(columns, names=[str(i) for i in range(len(order))]), order)

    return encode


@dataclass(frozen=True, slots=True)
class _Packed:
    numbers: npt.NDArray[np.uint64]

    def at(self, row: int) -> np.uint64:
        return np.uint64(self.numbers[row])

    def count_up_to(self, key: np.uint64, start: int, *, inclusive: bool) -> int:
        return int(np.searchsorted(self.numbers[start:], key, side="right" if inclusive else "left"))

    def slice(self, start: int, rows: int) -> _Packed:
        return _Packed(self.numbers[start : start + rows])

    def stable_order(self, others: Sequence[Keys]) -> Indices | None:
        numbers = np.concatenate([self.numbers, *(other.numbers for other in others if isinstance(other, _Packed))])
        if bool(np.all(numbers[:-1] <= numbers[1:])):
            return None
        return np.argsort(numbers, kind="stable").astype(np.int64, copy=False)


@dataclass(frozen=True, slots=True)
class _Words:
    """Keys of more than 64 bits, the most significant numbers first."""

    numbers: tuple[npt.NDArray[np.uint64], ...]

    def at(self, row: int) -> tuple[np.uint64, ...]:
        return tuple(np.uint64(each[row]) for each in self.numbers)

    def count_up_to(self, key: tuple[np.uint64, ...], start: int, *, inclusive: bool) -> int:
        low, high = start, len(self.numbers[0])
        for each, value in zip(self.numbers, key, strict=True):
            # Within the rows that are equal so far.
            ends = np.searchsorted(each[low:high], value, side="left"), np.searchsorted(each[low:high], value, "right")
            low, high = low + int(ends[0]), low + int(ends[1])
        return (high if inclusive else low) - start

    def slice(self, start: int, rows: int) -> _Words:
        return _Words(tuple(each[start : start + rows] for each in self.numbers))

    def stable_order(self, others: Sequence[Keys]) -> Indices | None:
        runs = [self.numbers, *(other.numbers for other in others if isinstance(other, _Words))]
        numbers = [np.concatenate(each) for each in zip(*runs, strict=True)]
        least = [each.min(initial=_GREATEST) for each in numbers]
        bits = [int(each.max(initial=low) - low).bit_length() for each, low in zip(numbers, least, strict=True)]
        if sum(bits) > 64:
            indices = np.lexsort(numbers[::-1]).astype(np.int64, copy=False)
            return None if bool(np.all(indices[:-1] < indices[1:])) else indices
        # These rows alone fit into one number each, whose runs are merged faster than several keys are sorted.
        packed = np.zeros(len(numbers[0]), np.uint64)
        for each, low, width in zip(numbers, least, bits, strict=True):
            packed = (packed << np.uint64(width) if width < 64 else packed) | (each - low)
        return _Packed(packed).stable_order([])


@dataclass(frozen=True, slots=True)
class _Columns:
    columns: pa.RecordBatch
    order: Sequence[SortKey]

    def at(self, row: int) -> tuple[_Value, ...]:
        return tuple(_Value(c[row].as_py(), key) for c, key in zip(self.columns.columns, self.order, strict=True))

    def count_up_to(self, key: tuple[_Value, ...], start: int, *, inclusive: bool) -> int:
        find = bisect.bisect_right if inclusive else bisect.bisect_left
        return find(range(self.columns.num_rows), key, lo=start, key=self.at) - start

    def slice(self, start: int, rows: int) -> _Columns:
        return _Columns(self.columns.slice(start, rows), self.order)

    def stable_order(self, others: Sequence[Keys]) -> Indices | None:
        batches = [self.columns, *(other.columns for other in others if isinstance(other, _Columns))]
        keys = [
            (
                str(i),
                "descending" if key.descending else "ascending",
                "at_start" if key.nulls_first else "at_end",
            )
            for i, key in enumerate(self.order)
        ]
        indices = np.asarray(pc.sort_indices(pa.concat_batches(batches), sort_keys=keys)).astype(np.int64)
        return None if bool(np.all(indices[:-1] < indices[1:])) else indices


@total_ordering
@dataclass(frozen=True, slots=True)
class _Value:
    """One key value that compares in its key's direction."""

    value: Any
    key: SortKey

    def __lt__(self, other: _Value) -> bool:
        if self.value is None or other.value is None:
            if self.value is None and other.value is None:
                return False
            return (self.value is None) == self.key.nulls_first
        return bool(other.value < self.value if self.key.descending else self.value < other.value)


def _bits(kind: pa.DataType) -> int:
    """Width of a type that can be packed; more than fits for one that cannot."""
    if pa.types.is_boolean(kind):
        return 1
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        return int(kind.bit_width)
    return 65


def _pack(batch: pa.RecordBatch, order: Sequence[SortKey], widths: Sequence[int]) -> npt.NDArray[np.uint64]:
    """All keys of a row in one number, the first key in the highest bits; a nullable key has one bit for its nulls."""
    packed = np.zeros(batch.num_rows, np.uint64)
    for key, width in zip(order, widths, strict=True):
        values, mark = _key(batch.column(key.column), key, width)
        bits = width if mark is None else width - 1
        if mark is not None:
            values = values | (mark << np.uint64(bits))
        packed = values if width == 64 else (packed << np.uint64(width)) | values
    return packed


def _words(batch: pa.RecordBatch, order: Sequence[SortKey], widths: Sequence[int]) -> Iterator[npt.NDArray[np.uint64]]:
    """The same in several numbers: those of the nulls of a key, where it has any, and of its values."""
    for key, width in zip(order, widths, strict=True):
        values, mark = _key(batch.column(key.column), key, width)
        if mark is not None:
            yield mark
        yield values


def _key(column: pa.Array, key: SortKey, width: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64] | None]:
    """One key's values as unsigned numbers in its direction, and where it can have nulls what places them: 0 or 1."""
    bits = _bits(column.type)
    values = _unsigned(column, bits)
    if key.descending:
        values = np.uint64((1 << bits) - 1) - values
    if width == bits:
        return values, None
    nulls = np.asarray(column.is_null())
    return np.where(nulls, np.uint64(0), values), (nulls != key.nulls_first).astype(np.uint64)


def _unsigned(column: pa.Array, bits: int) -> npt.NDArray[np.uint64]:
    """The values as unsigned numbers of `bits` bits in the same order; what stands for a null does not matter."""
    if bits == 1:
        return np.asarray(pc.fill_null(column, False)).astype(np.uint64)
    integers = _integers(column)
    signed = np.asarray(pc.fill_null(integers, 0) if integers.null_count else integers).astype(np.int64, copy=False)
    return (signed.view(np.uint64) + np.uint64(1 << (bits - 1))) & np.uint64((1 << bits) - 1)


def _comparable(column: pa.Array) -> pa.Array:
    """A column whose own comparison is right: numbers and times as integers, everything else as it is."""
    kind = column.type
    return _integers(column) if pa.types.is_floating(kind) or pa.types.is_temporal(kind) else column


def _integers(column: pa.Array) -> pa.Array:
    """Integers that compare as the values do, nulls kept. Times of the years 1 and 9999 have no Python object."""
    kind = column.type
    if pa.types.is_temporal(kind):
        return column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    if not pa.types.is_floating(kind):
        return column
    floats = np.asarray(pc.fill_null(column, 0.0)) + 0.0
    floats = np.where(np.isnan(floats), np.array(np.nan, floats.dtype), floats)
    bits: Any = floats.view(np.int32 if kind.bit_width == 32 else np.int64)
    # The bit patterns of negative floats run backwards.
    ordered = bits ^ ((bits >> (kind.bit_width - 1)) & np.iinfo(bits.dtype).max)
    return pa.array(ordered, mask=np.asarray(column.is_null()))
