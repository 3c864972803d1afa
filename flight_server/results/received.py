"""Bytes of results as their clients hold them, which is what GetFlightInfo, trailers and `status` tell.

An engine's batch has a bitmap of nulls for each column that may have some, and may be a slice of a larger one; what
arrives has bitmaps only where there are nulls, and begins with itself. So `nbytes` of the same rows was another number
on the first sending, on the next, and at the client.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import pyarrow as pa

# As many as `local.py` keeps results of; an entry takes 200 bytes.
_SIZES_MAX = 10_000


class Sizes:
    """Bytes of results that were sent to their end, by engine and fingerprint; the oldest go first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sizes: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, engine: str, fingerprint: str, size: int) -> None:
        with self._lock:
            self._sizes[engine, fingerprint] = size
            self._sizes.move_to_end((engine, fingerprint))
            if len(self._sizes) > _SIZES_MAX:
                self._sizes.popitem(last=False)

    def find(self, engine: str, fingerprint: str) -> int:
        """The bytes; -1 where they are not known."""
        with self._lock:
            return self._sizes.get((engine, fingerprint), -1)


def received_bytes(batch: pa.RecordBatch) -> int:
    """What `nbytes` of the batch is at its client. Takes microseconds, whatever the rows."""
    return sum(map(_bytes, batch.columns))


def _bytes(array: pa.Array) -> int:
    kind, rows = array.type, len(array)
    nulls = _bits(rows) if array.null_count else 0
    if pa.types.is_boolean(kind):
        return nulls + _bits(rows)
    if pa.types.is_struct(kind):
        # Arrow leaves out the bitmap of the struct itself.
        return sum(_bytes(array.field(number)) for number in range(kind.num_fields))
    if pa.types.is_map(kind) or pa.types.is_list(kind):
        first, last = _ends(array)
        items = (array.keys, array.items) if pa.types.is_map(kind) else (array.values,)
        return nulls + 4 * rows + sum(_bytes(each.slice(first, last - first)) for each in items)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        first, last = _ends(array)
        return nulls + 4 * rows + last - first
    if pa.types.is_primitive(kind) or pa.types.is_decimal(kind):
        return nulls + rows * int(kind.bit_width) // 8
    # No contract has others.
    return int(array.nbytes)


def _ends(array: pa.Array) -> tuple[int, int]:
    """The first and the last of an array's 32-bit offsets."""
    if not len(array):
        return 0, 0
    offsets = pa.Array.from_buffers(pa.int32(), len(array) + 1, [None, array.buffers()[1]], offset=array.offset)
    return offsets[0].as_py(), offsets[-1].as_py()


def _bits(count: int) -> int:
    return (count + 7) // 8
