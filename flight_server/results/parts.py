"""Reading a stored result: Parquet parts, row group by row group, several at a time, in bounded memory.

Memory is bounded by one byte budget for the process. A part is read through buffers of a fixed size for each column,
so what it takes does not depend on how large its writer made the row groups. Rows are counted against the footers: a
part that gives fewer or more is an error, never a short result.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from flight_server.errors import Cancelled, EngineFailed, ResultLost
from flight_server.model import Part, SortKey
from flight_server.results.carriers import restore
from flight_server.results.merge import merge
from flight_server.telemetry import metrics, traces

_T = TypeVar("_T")
# Between a read that is too small for the latency of S3 and one that holds memory for nothing.
_BUFFER_MIN, _BUFFER_MAX = 64 << 10, 4 << 20
# Batches below this cost more in calls than in work.
_BATCH_ROWS_MIN = 1024
# Writers cut pages at 1 MiB, Trino's and Hive's among them; one of each column is held unpacked.
_PAGE_BYTES = 1 << 20
# A reader takes a quarter of what is free, and at least one of so many shares of the whole.
_SHARE, _SHARES_MAX = 4, 32
# How soon a cancel is noticed while a read is on its way.
_POLL_S = 0.05


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
    def hold(self, size: int, cancelled: threading.Event) -> Iterator[None]:
        """Hold `size` bytes (at most the whole budget), waiting for them. Raises Cancelled when told to stop."""
        size = min(size, self.bytes_max)
        turn = object()
        with self._changed:
            self._queue.append(turn)
            try:
                while self._queue[0] is not turn or self._free < size:
                    if cancelled.is_set():
                        raise Cancelled("cancelled", "the query was stopped")
                    self._changed.wait(_POLL_S)
                self._free -= size
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class PartReader:
    """Reads the parts of results from one file system, all within one budget. Threads are shared by all readers."""

    def __init__(self, filesystem: pafs.FileSystem, budget: Budget, parts_ahead: int, threads: int = 16) -> None:
        self._fs = filesystem
        self._budget = budget
        self._parts_ahead = parts_ahead
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="parts")
        metrics.READ_BYTES.set_function(lambda: budget.in_use)
        metrics.READ_BYTES_MAX.set(budget.bytes_max)

    def inspect(self, paths: Sequence[str], cancelled: threading.Event) -> list[Part]:
        """The parts behind `paths`, from their footers. Raises EngineFailed for one that is missing or no Parquet."""

        def look(path: str) -> Part:
            with _translated(path), self._fs.open_input_file(path) as source, pq.ParquetFile(source) as file:
                size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
                return Part(path, file.metadata.num_rows, size, _etag(source))

        return [_result(future, cancelled) for future in [self._pool.submit(look, path) for path in paths]]

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
        together = len(parts) if order else min(self._parts_ahead, len(parts))
        buffer, rows, need = _fit(parts, len(schema), together, batch_rows, self._budget.share())
        with self._budget.hold(need, cancelled):
            streams = [_Ahead(self._part(p, schema, rows, buffer), self._pool, cancelled) for p in parts[:together]]
            if order:
                for stream in streams:
                    stream.start()
                first = next((batch for stream in streams if (batch := stream.peek())), None)
                if first is not None:
                    yield from merge(streams, order, _promised(first.schema, schema), batch_rows)
                return
            waiting = [_Ahead(self._part(p, schema, rows, buffer), self._pool, cancelled) for p in parts[together:]]
            yield from _as_they_come(streams, waiting, cancelled)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    @traces.stepped("read part", lambda _, part, *__: {"part": part.path, "rows": part.rows, "bytes": part.bytes})
    def _part(self, part: Part, schema: pa.Schema, batch_rows: int, buffer: int) -> Iterator[pa.RecordBatch]:
        seen = 0
        with (
            _translated(part.path),
            self._fs.open_input_file(part.path) as source,
            pq.ParquetFile(
                source,
                buffer_size=buffer,
                pre_buffer=False,
                # Hive writes timestamps as INT96, whose nanoseconds would wrap outside 1677 to 2262.
                coerce_int96_timestamp_unit="us",
                page_checksum_verification=True,
            ) as file,
        ):
            # Parquet's checksums are optional: without them a flipped byte in a page mostly decodes to another value.
            if file.metadata.num_rows != part.rows or (part.etag and _etag(source) != part.etag):
                raise ResultLost("a part of the result changed after the query had ended")
            for batch in file.iter_batches(batch_size=batch_rows):
                if batch.num_columns != len(schema):
                    raise ResultLost(f"a part of the result has {batch.num_columns} columns, not {len(schema)}")
                seen += batch.num_rows
                yield restore(batch, schema)
        if seen != part.rows:
            raise ResultLost(f"a part of the result gave {seen:,} of its {part.rows:,} rows")


class _Ahead:
    """An iterator that makes its next item in a pool while the current one is used."""

    def __init__(self, batches: Iterator[pa.RecordBatch], pool: ThreadPoolExecutor, cancelled: threading.Event) -> None:
        self._batches = batches
        self._pool = pool
        self._cancelled = cancelled
        self._next: Future[pa.RecordBatch | None] | None = None

    def start(self) -> Future[pa.RecordBatch | None]:
        """Begin to make the next item, unless it is being made."""
        if self._next is None:
            self._next = self._pool.submit(next, self._batches, None)
        return self._next

    def peek(self) -> pa.RecordBatch | None:
        """The next item, which stays the next; None at the end."""
        return _result(self.start(), self._cancelled)

    def __iter__(self) -> _Ahead:
        return self

    def __next__(self) -> pa.RecordBatch:
        batch = self.peek()
        if batch is None:
            raise StopIteration
        self._next = None
        self.start()
        return batch


def _as_they_come(running: list[_Ahead], waiting: list[_Ahead], cancelled: threading.Event) -> Iterator[pa.RecordBatch]:
    """Batches of all streams in the order of arrival; a stream that ends makes room for one that waits."""
    while running:
        futures = {stream.start(): stream for stream in running}
        done, _ = wait(futures, timeout=_POLL_S, return_when="FIRST_COMPLETED")
        if cancelled.is_set():
            raise Cancelled("cancelled", "the query was stopped")
        for future in done:
            stream = futures[future]
            batch = next(stream, None)
            if batch is not None:
                yield batch
                continue
            running.remove(stream)
            if waiting:
                running.append(waiting.pop(0))


def _result(future: Future[_T], cancelled: threading.Event) -> _T:
    while True:
        done, _ = wait([future], timeout=_POLL_S)
        if cancelled.is_set():
            raise Cancelled("cancelled", "the query was stopped")
        if done:
            return future.result()


def _etag(source: pa.NativeFile) -> str:
    """S3's tag of the object's content; empty on file systems that have none."""
    return str(source.metadata().get("ETag", b"").decode())


def _promised(found: pa.Schema, contract: pa.Schema) -> pa.Schema:
    """The types that were read, with the contract's word on which columns have nulls; Parquet says all of them may."""
    return pa.schema([f.with_nullable(known.nullable) for f, known in zip(found, contract, strict=True)])


def _fit(parts: Sequence[Part], columns: int, together: int, batch_rows: int, share: int) -> tuple[int, int, int]:
    """How to read `together` parts within `share` bytes: the buffer of a column, rows of a batch, and what that takes.

    An open part holds a buffer and a page for each column, and three batches (being made, ahead, in use). Where even
    the smallest of these do not fit, they take more than the share.
    """
    largest = max(part.bytes for part in parts)
    row_bytes = sum(part.bytes for part in parts) // sum(part.rows for part in parts) + 8 * columns
    # What is small as a whole fits into less.
    pages = columns * min(_PAGE_BYTES, largest // columns + 1)
    each = share // together - pages
    buffer = max(_BUFFER_MIN, min(_BUFFER_MAX, each // (2 * columns)))
    rows = max(_BATCH_ROWS_MIN, min(batch_rows, each // (6 * row_bytes)))
    batches = 3 * row_bytes * min(rows, max(part.rows for part in parts))
    return buffer, rows, together * (pages + min(columns * buffer, largest) + batches)


@contextmanager
def _translated(path: str) -> Iterator[None]:
    name = path.rsplit("/", 1)[-1]
    try:
        yield
    except FileNotFoundError as error:
        raise ResultLost(f"the part {name!r} is not there") from error
    except (OSError, pa.ArrowException) as error:
        # Arrow says this of every answer of S3, and of no answer; everything else is about the content.
        kind = EngineFailed if "AWS Error" in str(error) else ResultLost
        raise kind(f"the part {name!r} cannot be read: {str(error).splitlines()[0][:200]}") from error
