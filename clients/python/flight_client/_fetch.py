"""The endpoints of an answer as one sequence of record batches: read in threads, a few at once, in bounded memory.

Threads, because pyarrow waits for a batch with signals held off: the main thread waits here instead, where Ctrl-C is
seen at once, and then cancels the streams on the server.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from flight_client._transport import Stream, Transport, retried
from flight_client.errors import Cancelled, FlightDataError, Unsupported

Tick = Callable[[pa.RecordBatch | None], None]

# Streams at once, and batches that wait for the reader, for each; a batch has at most 8 MiB.
STREAMS_MAX = 4
_AHEAD = 2
# How often somebody who waits is told that nothing came; a cancelled stream ends within milliseconds.
_TICK_S, _JOIN_S = 0.2, 5.0
_END = object()
_LOCAL = frozenset({b"arrow-flight-reuse-connection://?"})


def _quiet(_: object) -> None:
    """Nobody wants to know."""


class Fetch:
    """Reads an answer. `take` from one thread; `close` ends everything, on the server too."""

    def __init__(self, transport: Transport, info: flight.FlightInfo) -> None:
        for endpoint in info.endpoints:
            if endpoint.locations and not _LOCAL & {location.uri for location in endpoint.locations}:
                raise Unsupported("unsupported", "the answer is at another server; this client stays with its own")
        self._process = os.getpid()
        self._transport = transport
        self._tickets = [endpoint.ticket for endpoint in info.endpoints]
        self._ordered = info.ordered
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._next = 0
        # Of the answer, once an endpoint has come to its end: they are made from the same.
        self.receipt: str | None = None
        # By endpoint: what has come and not been taken, and then what ended it.
        self._ready: list[deque[object]] = [deque() for _ in self._tickets]
        self._running: set[Stream] = set()
        self._threads = [
            # With the caller's context, so that the streams stand in the caller's trace.
            threading.Thread(target=copy_context().run, args=(self._run,), name="flight-fetch", daemon=True)
            for _ in range(min(STREAMS_MAX, len(self._tickets)))
        ]
        _LIVE.add(self)
        for thread in self._threads:
            thread.start()

    def take(self, timeout_s: float) -> pa.RecordBatch | None:
        """The next batch with rows, or None when none came in time or all is `done`. Raises what a stream raised."""
        with self._changed:
            item = self._pick()
            if item is None and not self._ended():
                self._changed.wait(timeout_s)
                item = self._pick()
            self._changed.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item

    @property
    def done(self) -> bool:
        """Whether everything has come and was taken."""
        with self._changed:
            return self._ended()

    def close(self) -> None:
        """Cancel what still runs and forget what has come. Twice is once."""
        if os.getpid() != self._process:
            # A fork has neither the threads nor the right to the sockets.
            return
        self._closed.set()
        with self._changed:
            running = list(self._running)
            for ready in self._ready:
                ready.clear()
            self._changed.notify_all()
        for stream in running:
            stream.cancel()
        # A thread that wakes inside pyarrow while Python ends takes the process down with it.
        for thread in self._threads:
            thread.join(_JOIN_S)

    def _pick(self) -> Any:
        """What is to be handed out now; in an ordered answer only of the first endpoint that has not ended."""
        for ready in self._ready:
            if ready and ready[0] is not _END:
                return ready.popleft()
            if self._ordered and not ready:
                return None
        return None

    def _ended(self) -> bool:
        return all(ready and ready[0] is _END for ready in self._ready)

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._changed:
                index, self._next = self._next, self._next + 1
            if index >= len(self._tickets):
                return
            try:
                retried(lambda index=index: self._read(index), self._closed.wait)  # type: ignore[misc]
            except BaseException as error:  # noqa: BLE001 - the top of a thread: `take` raises it
                self._put(index, error)
                return

    def _read(self, index: int) -> None:
        """One endpoint from its start. What goes wrong before its first row is raised, and may be tried again."""
        if self._closed.is_set():
            raise Cancelled("cancelled", "the answer is no longer read")
        stream = self._transport.open(self._tickets[index])
        with self._changed:
            self._running.add(stream)
        try:
            self._pass_on(index, stream)
        except FlightDataError as error:
            if not stream.rows:
                raise
            self._put(index, error)
        finally:
            with self._changed:
                self._running.discard(stream)

    def _pass_on(self, index: int, stream: Stream) -> None:
        if self._closed.is_set():
            # It came too late for `close` to know of it, and a server that computes may say nothing for long.
            stream.cancel()
            return
        for batch in stream.batches():
            if self._closed.is_set():
                stream.cancel()
                return
            if batch.num_rows:
                self._put(index, batch)
        self.receipt = stream.receipt
        self._put(index, _END)

    def _put(self, index: int, item: object) -> None:
        with self._changed:
            while len(self._ready[index]) >= _AHEAD and not self._closed.is_set():
                self._changed.wait()
            if not self._closed.is_set():
                self._ready[index].append(item)
                self._changed.notify_all()


def batches(
    transport: Transport,
    info: flight.FlightInfo,
    tick: Tick = _quiet,
    ended: Callable[[str | None], None] = _quiet,
) -> Generator[pa.RecordBatch, None, None]:
    """All batches with rows; `tick` hears of each, and of none a few times a second while nothing comes.

    `ended` is given the answer's receipt when all has come.

    Leaving early, by `close`, an error or Ctrl-C, cancels the query on the server.
    """
    fetch = Fetch(transport, info)
    try:
        while not fetch.done:
            batch = fetch.take(_TICK_S)
            tick(batch)
            if batch is not None:
                yield batch
        ended(fetch.receipt)
    finally:
        fetch.close()


def _close_all() -> None:
    for fetch in list(_LIVE):
        fetch.close()


# Readers that somebody left open: their threads must be out of pyarrow before Python ends.
_LIVE: weakref.WeakSet[Fetch] = weakref.WeakSet()
atexit.register(_close_all)
