"""From a running answer to a stream of record batches: prefetching, slicing, heartbeats, cancellation, time limit.

A thread of its own pulls from the engine, so that the stream can say something while the engine thinks, and can stop
it. It holds at most two batches more than the client has taken: memory does not grow with the result.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from math import ceil

import pyarrow as pa

from flight_server.errors import TimedOut, Unavailable
from flight_server.results.received import received_bytes
from flight_server.telemetry import traces

# One batch in the client's hands, one on its way, one being made.
_PREFETCH = 2
# How soon a client that went away is noticed while the engine works; the call costs microseconds.
_POLL_S = 0.05
_END = object()


class Prefetch:
    """Pulls batches from an iterator in a thread, at most `_PREFETCH` ahead. `close` from any thread ends it."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._ready: deque[object] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._working_since: float | None = None
        self._worked_s = 0.0
        self._thread = threading.Thread(target=traces.carried(self._run), name="engine", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> pa.RecordBatch | None:
        """The next batch, or None when none came in time or `finished`. Raises what the engine raised."""
        with self._changed:
            if not self._ready:
                self._changed.wait(timeout_s)
            if not self._ready or self._ready[0] is _END:
                return None
            item = self._ready[0]
            if isinstance(item, BaseException):
                raise item
            self._ready.popleft()
            self._changed.notify_all()
            return item

    @property
    def finished(self) -> bool:
        """Whether the engine has given everything and all of it was taken."""
        with self._changed:
            return bool(self._ready) and self._ready[0] is _END

    @property
    def worked_s(self) -> float:
        """Seconds that the engine has worked so far, waiting for a slow reader not counted."""
        with self._changed:
            since = self._working_since
            return self._worked_s + (time.monotonic() - since if since is not None else 0.0)

    def close(self, cancel: Callable[[], None] | None = None) -> None:
        """Ask the thread to end and wait for it. `cancel` stops the engine; without it this waits for its batch."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        # Again and again: an engine that is only about to start its query does not hear it the first time.
        while cancel is not None and self._thread.is_alive():
            cancel()
            self._thread.join(_POLL_S)
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closed:
                self._work(start=True)
                batch = next(self._batches, None)
                self._work(start=False)
                if not self._put(_END if batch is None else batch) or batch is None:
                    return
        except BaseException as error:  # noqa: BLE001 - the top of a thread: the stream raises it
            self._put(error)
        finally:
            # One that is left half-way would hold files and budget until the garbage is collected.
            if isinstance(self._batches, Generator):
                self._batches.close()

    def _work(self, *, start: bool) -> None:
        with self._changed:
            now = time.monotonic()
            if start:
                self._working_since = now
            elif self._working_since is not None:
                self._worked_s += now - self._working_since
                self._working_since = None

    def _put(self, item: object) -> bool:
        with self._changed:
            while len(self._ready) >= _PREFETCH and not self._closed:
                self._changed.wait()
            if not self._closed:
                self._ready.append(item)
                self._changed.notify_all()
            return not self._closed


def stream(
    prefetch: Prefetch,
    schema: pa.Schema,
    *,
    batch_rows: int,
    batch_bytes: int,
    timeout_s: float,
    heartbeat_s: float,
    is_cancelled: Callable[[], bool],
    stopped: threading.Event,
) -> Iterator[pa.RecordBatch]:
    """Batches to send, zero-row ones while the engine works longer than `heartbeat_s` between two.

    Ends quietly when the client is gone. Raises TimedOut when the engine has worked `timeout_s`, Unavailable
    (draining) when `stopped` is set, and whatever the engine raises. Clean-up is the caller's.
    """
    heartbeat: pa.RecordBatch | None = None
    said = time.monotonic()
    while not is_cancelled():
        if stopped.is_set():
            raise Unavailable("draining", "the server is stopping; the result is not complete, ask again")
        batch = prefetch.take(min(_POLL_S, heartbeat_s))
        if batch is not None and batch.num_rows:
            yield from slices(batch, batch_rows, batch_bytes)
            said = time.monotonic()
        elif prefetch.finished:
            return
        elif time.monotonic() - said >= heartbeat_s:
            if heartbeat is None:
                empty = [pa.array([], field.type) for field in schema]
                heartbeat = pa.RecordBatch.from_arrays(empty, schema=schema)
            yield heartbeat
            said = time.monotonic()
        # Also between batches: an engine that gives one now and then is never caught waiting.
        if prefetch.worked_s > timeout_s and not prefetch.finished:
            raise TimedOut("timeout", f"the query took longer than {timeout_s:g} s and was stopped")


def slices(batch: pa.RecordBatch, rows_max: int, bytes_max: int) -> Iterator[pa.RecordBatch]:
    """`batch` cut to at most `rows_max` rows and, where rows allow, `bytes_max` bytes; empty batches give nothing."""
    rows = batch.num_rows
    if rows == 0:
        return
    size = received_bytes(batch)
    if rows <= rows_max and (size <= bytes_max or rows == 1):
        yield batch
        return
    parts = max(ceil(rows / rows_max), ceil(size / bytes_max), 2)
    step = max(1, ceil(rows / parts))
    for start in range(0, rows, step):
        # A slice can still be too big when its rows are: cut again.
        yield from slices(batch.slice(start, min(step, rows - start)), rows_max, bytes_max)
