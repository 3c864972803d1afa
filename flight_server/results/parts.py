"""Reading a stored result: Parquet parts, row group by row group, several at a time, in bounded memory.

Memory is bounded by one byte budget for the process. A part is fetched in pieces of a fixed size, so what it takes does
not depend on how large its writer made the row groups. Rows are counted against the footers: a part that gives fewer or
more is an error, never a short result.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import zip_longest

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from flight_server.errors import Cancelled
from flight_server.model import Part, SortKey
from flight_server.results.ahead import POLL_S, Ahead, as_they_come, first, in_turn, result
from flight_server.results.bounds import bounds, overlapping
from flight_server.results.carriers import restore
from flight_server.results.fit import Fit, fitting
from flight_server.results.keys import encoder
from flight_server.results.merge import merge
from flight_server.results.part import OpenPart, etag, open_part, translated
from flight_server.telemetry import metrics, traces

# A reader takes a third of what is free, and at least one of so many shares of the whole.
_SHARE, _SHARES_MAX = 3, 32


class Budget:
    """Bytes that all readers of the process may hold together; whoever comes first is served first."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._free = bytes_max
        self._changed = threading.Condition()
        self._queue: list[object] = []

    @property
    def in_use(self) -> int:
        return self.bytes_max - self._free

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def share(self) -> int:
        """What the next reader should take: a part of what is free, so that there is always room for another one.

        A reader holds its share for as long as its client takes, and clients can be slow.
        """
        return max(self._free // _SHARE, self.bytes_max // _SHARES_MAX)

    @contextmanager
    def hold(self, need: Callable[[int], int], cancelled: threading.Event) -> Iterator[int]:
        """Hold what `need` makes of a share (at most the whole budget), waiting for it; gives the share.

        The share is that of the moment in which it is taken: of two that come at once, the second has less. Raises
        Cancelled when told to stop.
        """
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                while True:
                    share = self.share()
                    size = min(need(share), self.bytes_max)
                    if self._queue[0] is turn and size <= self._free:
                        break
                    if cancelled.is_set():
                        raise Cancelled("cancelled", "the query was stopped")
                    self._changed.wait(POLL_S)
                self._free -= size
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield share
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class PartReader:
    """Reads the parts of results from one file system, all within one budget. Threads are shared by all readers."""

    def __init__(self, filesystem: pafs.FileSystem, budget: Budget, parts_ahead: int, threads: int) -> None:
        self._fs = filesystem
        self._budget = budget
        self._parts_ahead = parts_ahead
        # Two pools, as what decodes waits for what fetches.
        self._decoders = ThreadPoolExecutor(threads, thread_name_prefix="parts")
        self._fetchers = ThreadPoolExecutor(threads, thread_name_prefix="pieces")
        metrics.READ_BYTES.set_function(lambda: budget.in_use)
        metrics.READ_BYTES_MAX.set(budget.bytes_max)

    def inspect(self, paths: Sequence[str], cancelled: threading.Event) -> list[Part]:
        """The parts behind `paths`, from their footers. Raises EngineFailed for one that is missing or no Parquet."""

        def look(path: str) -> Part:
            with translated(path), self._fs.open_input_file(path) as source, pq.ParquetFile(source) as file:
                size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
                return Part(path, file.metadata.num_rows, size, etag(source))

        return [result(future, cancelled) for future in [self._decoders.submit(look, path) for path in paths]]

    def read(
        self,
        parts: Sequence[Part],
        schema: pa.Schema,
        order: Sequence[SortKey],
        batch_rows: int,
        cancelled: threading.Event,
    ) -> Iterator[pa.RecordBatch]:
        """All rows of `parts`, carriers turned back by `schema`: in `order` where there is one, else part by part.

        Lazy and cancellable. Raises EngineFailed for whatever keeps a part from being read whole and right.
        """
        parts = [part for part in parts if part.rows]
        if not parts:
            return
        if order:
            yield from self._ordered(parts, schema, order, batch_rows, cancelled)
        else:
            yield from self._loose(parts, schema, batch_rows, cancelled)

    def close(self) -> None:
        for pool in (self._decoders, self._fetchers):
            pool.shutdown(wait=False, cancel_futures=True)

    def _ordered(
        self,
        parts: Sequence[Part],
        schema: pa.Schema,
        order: Sequence[SortKey],
        batch_rows: int,
        cancelled: threading.Event,
    ) -> Iterator[pa.RecordBatch]:
        opening = [self._open(part, schema, cancelled) for part in parts]
        opened = [result(future, cancelled) for future in opening]
        found = _promised(opened[0].file.schema_arrow, schema)
        encode = encoder(order, found)
        ranges = [bounds(each, schema, order, encode) for each in opened]
        together = overlapping(ranges)
        fit = fitting(parts, [each.row_groups for each in opened], together, batch_rows)
        with self._budget.hold(lambda share: fit(share).bytes, cancelled) as share:
            size = fit(share)
            streams = [
                self._rows(part, each, schema, size, together == 1, cancelled)
                for part, each in zip(parts, opening, strict=True)
            ]
            in_turn(streams, [each and each[0] for each in ranges], together)
            yield from merge(streams, order, found, batch_rows, [each and each[0] for each in ranges])

    def _loose(
        self, parts: Sequence[Part], schema: pa.Schema, batch_rows: int, cancelled: threading.Event
    ) -> Iterator[pa.RecordBatch]:
        together = min(self._parts_ahead, len(parts))
        opening = [self._open(part, schema, cancelled) for part in parts[:together]]
        # Parts of one query are alike: whichever comes first tells how to read all of them.
        fit = fitting(parts, [first(opening, cancelled).row_groups], together, batch_rows)
        with self._budget.hold(lambda share: fit(share).bytes, cancelled) as share:
            size = fit(share)
            streams = [
                self._rows(part, each, schema, size, together == 1, cancelled)
                for part, each in zip_longest(parts, opening)
            ]
            yield from as_they_come(streams[:together], streams[together:], cancelled)

    def _rows(
        self,
        part: Part,
        opening: Future[OpenPart] | None,
        schema: pa.Schema,
        size: Fit,
        alone: bool,
        cancelled: threading.Event,
    ) -> Ahead:
        @traces.stepped("read part", lambda: {"part": part.path, "rows": part.rows, "bytes": part.bytes})
        def rows() -> Iterator[pa.RecordBatch]:
            opened = result(opening or self._open(part, schema, cancelled), cancelled)
            yield from opened.batches(schema, size, threads=alone)

        return Ahead(rows(), self._decoders, cancelled)

    def _open(self, part: Part, schema: pa.Schema, cancelled: threading.Event) -> Future[OpenPart]:
        return self._fetchers.submit(open_part, self._fs, part, len(schema), self._fetchers, cancelled)


def _promised(found: pa.Schema, contract: pa.Schema) -> pa.Schema:
    """The types as they will be read, nullable where the contract says so; Parquet says that all columns may be."""
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in found], schema=found)
    restored = restore(empty, contract).schema
    return pa.schema([f.with_nullable(known.nullable) for f, known in zip(restored, contract, strict=True)])
