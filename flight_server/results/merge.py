"""Restoring a declared order: a streaming k-way merge of parts that are each sorted, but not among each other.

Each round takes, from the current batch of every part, all rows up to the smallest last key among those batches, and
sorts them: no later row can come before them. Ties keep the order of the parts, and of the rows within a part. A part
that turns out not to be sorted is an error: the output is in order, or ends with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from flight_server.errors import EngineFailed
from flight_server.model import SortKey
from flight_server.results.keys import Keys, encoder


def merge(
    parts: Sequence[Iterator[pa.RecordBatch]],
    order: Sequence[SortKey],
    schema: pa.Schema,
    batch_rows: int,
    lowers: Sequence[Any] | None = None,
) -> Iterator[pa.RecordBatch]:
    """The rows of all `parts` in `order`, in batches of at most `batch_rows`. Lazy: holds one batch of each part.

    `schema` is that of the batches. `lowers` are encoded keys that no row of the part comes before: a part is begun
    when its own is reached, and one without at once. Raises EngineFailed when a part is not sorted, ContractViolated
    for a null in a key that has none by `schema`.
    """
    encode = encoder(order, schema)
    reading = [_Cursor(part, encode, lower) for part, lower in zip(parts, lowers or [None] * len(parts), strict=True)]
    last: Any = None
    while cursors := _begun(reading):
        lasts = [cursor.last_key() for cursor in cursors]
        at = min(range(len(cursors)), key=lasts.__getitem__)
        # Rows equal to the cutoff in later parts wait: more of them may follow in the part that set it.
        taken = [cursor.take(lasts[at], inclusive=i <= at) for i, cursor in enumerate(cursors)]
        for batch, first, final in _in_order([run for run in taken if run[0].num_rows], batch_rows):
            if last is not None and first < last:
                raise EngineFailed("a part of the result is not in the order of the query")
            last = final
            yield batch
        reading = [cursor for cursor in reading if not cursor.begun or cursor.remaining or cursor.advance()]


def _begun(reading: list[_Cursor]) -> list[_Cursor]:
    """The cursors that the next rows come from: begins those whose bound is reached, drops those without rows."""
    while True:
        begun = [cursor for cursor in reading if cursor.begun]
        waiting = [cursor for cursor in reading if not cursor.begun]
        reached = min(
            (cursor.last_key() for cursor in begun),
            default=min((cursor.lower for cursor in waiting if cursor.lower is not None), default=None),
        )
        due = [cursor for cursor in waiting if cursor.lower is None or cursor.lower <= reached]
        if not due:
            return begun
        for cursor in due:
            if not cursor.advance():
                reading.remove(cursor)


class _Cursor:
    """The current batch of one part, and how much of it is taken."""

    def __init__(
        self, batches: Iterator[pa.RecordBatch], encode: Callable[[pa.RecordBatch], Keys], lower: Any | None
    ) -> None:
        self.lower = lower
        self.begun = False
        self._batches = batches
        self._encode = encode
        self._batch: pa.RecordBatch
        self._keys: Keys
        self._start = 0

    @property
    def remaining(self) -> int:
        return int(self._batch.num_rows) - self._start

    def advance(self) -> bool:
        """Go to the next batch with rows; False at the end of the part."""
        self.begun = True
        for batch in self._batches:
            if batch.num_rows:
                self._batch, self._keys, self._start = batch, self._encode(batch), 0
                return True
        return False

    def last_key(self) -> Any:
        return self._keys.at(self._batch.num_rows - 1)

    def take(self, cutoff: Any, *, inclusive: bool) -> tuple[pa.RecordBatch, Keys]:
        rows = self._keys.count_up_to(cutoff, self._start, inclusive=inclusive)
        run = self._batch.slice(self._start, rows), self._keys.slice(self._start, rows)
        self._start += rows
        return run


def _in_order(runs: list[tuple[pa.RecordBatch, Keys]], batch_rows: int) -> Iterator[tuple[pa.RecordBatch, Any, Any]]:
    """The rows of all runs in order, cut to `batch_rows`, each batch with its first and last key."""
    if not runs:
        raise EngineFailed("a part of the result is not in the order of the query")
    # A run that nothing comes between is passed on as it is; concatenating would copy it.
    rows = runs[0][0] if len(runs) == 1 else pa.concat_batches([run[0] for run in runs])
    indices = runs[0][1].stable_order([run[1] for run in runs[1:]])
    starts = _starts([run[0].num_rows for run in runs])

    def key(row: int) -> Any:
        run = max(i for i, start in enumerate(starts) if start <= row)
        return runs[run][1].at(row - starts[run])

    for start in range(0, rows.num_rows, batch_rows):
        if indices is None:
            stop = min(start + batch_rows, rows.num_rows)
            yield rows.slice(start, stop - start), key(start), key(stop - 1)
        else:
            chosen = indices[start : start + batch_rows]
            yield rows.take(pa.array(chosen)), key(int(chosen[0])), key(int(chosen[-1]))


def _starts(lengths: Sequence[int]) -> list[int]:
    return [sum(lengths[:i]) for i in range(len(lengths))]
