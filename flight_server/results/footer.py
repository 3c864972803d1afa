"""Parquet's footer, read from its bytes: where each column of each row group lies, and between which values.

pyarrow tells the same, but its accessors for a column end the process where a footer is damaged, which its reader
reports as an error. Thrift's compact protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md,
field numbers: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# Numbers of the fields in parquet.thrift.
_ROW_GROUPS, _COLUMNS, _META_DATA = 4, 1, 3
_TYPE, _PATH, _UNPACKED, _PACKED, _DATA_PAGE, _DICTIONARY_PAGE, _STATISTICS = 1, 3, 6, 7, 9, 11, 12
_MAX_VALUE, _MIN_VALUE = 5, 6
_WIDTHS = {1: 4, 2: 8}
# Thrift's own readers go no deeper.
_DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Chunk:
    """One column of one row group: its bytes in the part, how many they are unpacked, and its name.

    `extremes` are the least and the greatest value of an INT32 or INT64 column, as they are stored.
    """

    start: int
    stop: int
    unpacked: int
    path: str = ""
    extremes: tuple[int, int] | None = None


def row_groups(footer: bytes, size: int) -> list[list[Chunk]]:
    """The columns of each row group of a part of `size` bytes.

    Raises ArrowInvalid for a footer that cannot be read, or that speaks of other bytes than the part has.
    """
    try:
        found = _Reader(footer).fields()
        return [[_chunk(column, size) for column in group[_COLUMNS]] for group in found.get(_ROW_GROUPS, [])]
    except (LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise pa.ArrowInvalid(f"the footer is damaged: {error!r}") from error


def _chunk(column: dict[int, Any], size: int) -> Chunk:
    found = column[_META_DATA]
    start = found[_DATA_PAGE]
    # As Arrow has it: some writers note a dictionary at 0 where there is none.
    if 0 < found.get(_DICTIONARY_PAGE, 0) < start:
        start = found[_DICTIONARY_PAGE]
    stop = start + found[_PACKED]
    if not 0 <= start <= stop <= size or found[_UNPACKED] < 0:
        raise pa.ArrowInvalid(f"the footer names bytes {start} to {stop} of {size}")
    return Chunk(start, stop, found[_UNPACKED], b".".join(found[_PATH]).decode(), _extremes(found))


def _extremes(found: dict[int, Any]) -> tuple[int, int] | None:
    statistics, width = found.get(_STATISTICS, {}), _WIDTHS.get(found[_TYPE])
    both = statistics.get(_MIN_VALUE, b""), statistics.get(_MAX_VALUE, b"")
    if any(len(each) != width for each in both):
        return None
    least, most = (int.from_bytes(each, "little", signed=True) for each in both)
    return least, most


class _Reader:
    """Structs as dicts by field number."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self, depth: int = 0) -> dict[int, Any]:
        if depth > _DEPTH_MAX:
            raise ValueError("it is nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 0x0F
            # In a struct the type of a boolean is its value.
            found[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 8:
            return self._take(self._unsigned())
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 != 15 else self._unsigned()
            return [self._value(head & 0x0F, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.fields(depth + 1)
        if kind in (1, 2, 3):
            return self._byte()
        if kind == 7:
            return struct.unpack("<d", self._take(8))[0]
        if kind == 11:
            count = self._unsigned()
            kinds = self._byte() if count else 0
            return [(self._value(kinds >> 4, depth + 1), self._value(kinds & 0x0F, depth + 1)) for _ in range(count)]
        raise ValueError(f"there is no type {kind}")

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, count: int) -> bytes:
        start = self._at
        self._at += count
        if self._at > len(self._data):
            raise ValueError("it ends too early")
        return self._data[start : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
