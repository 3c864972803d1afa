"""Iterators whose next item is made in a pool while the current one is used, and waiting that hears a cancel."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from itertools import pairwise
from typing import Any, TypeVar

import pyarrow as pa

from flight_server.errors import Cancelled

_T = TypeVar("_T")
# How soon a cancel is noticed while a read is on its way.
POLL_S = 0.05


class Ahead:
    """An iterator that makes its next item in a pool. Its first one also begins with `then`, which comes after it."""

    def __init__(self, batches: Iterator[pa.RecordBatch], pool: Executor, cancelled: threading.Event) -> None:
        self.then: Ahead | None = None
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
        self.start()
        if self.then is not None:
            self.then.start()
            self.then = None
        return result(self.start(), self._cancelled)

    def __iter__(self) -> Ahead:
        return self

    def __next__(self) -> pa.RecordBatch:
        batch = self.peek()
        if batch is None:
            raise StopIteration
        self._next = None
        self.start()
        return batch


def as_they_come(running: list[Ahead], waiting: list[Ahead], cancelled: threading.Event) -> Iterator[pa.RecordBatch]:
    """Batches of all streams in the order of arrival; a stream that ends makes room for one that waits."""
    while running:
        futures = {stream.start(): stream for stream in running}
        done, _ = wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED")
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


def in_turn(streams: Sequence[Ahead], lowers: Sequence[Any], together: int) -> None:
    """Begin with the first `together` by their lower bounds, and with each of the others when the one before is used.

    None is the lowest bound.
    """
    by_bound = sorted((i for i, lower in enumerate(lowers) if lower is not None), key=lowers.__getitem__)
    turns = [streams[i] for i, lower in enumerate(lowers) if lower is None] + [streams[i] for i in by_bound]
    for stream in turns[:together]:
        stream.start()
    for stream, following in pairwise(turns[together - 1 :]):
        stream.then = following


def result(future: Future[_T], cancelled: threading.Event) -> _T:
    """What a future gives. Raises Cancelled soon after `cancelled` is set, whether it has come or not."""
    return first([future], cancelled)


def first(futures: Sequence[Future[_T]], cancelled: threading.Event) -> _T:
    """What the first of some futures gives, as `result`."""
    while True:
        done, _ = wait(futures, timeout=POLL_S, return_when="FIRST_COMPLETED")
        if cancelled.is_set():
            raise Cancelled("cancelled", "the query was stopped")
        if done:
            return done.pop().result()
