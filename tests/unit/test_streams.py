"""Streams: what is prefetched, sliced, said while the engine works, and released when anything goes wrong."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flight_server.errors import EngineFailed, TimedOut, Unavailable
from flight_server.service.streams import Prefetch, slices, stream
from tests.waiting import until

SCHEMA = pa.schema([("x", pa.int64())])


def batch(*values: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


class Engine:
    """An engine that gives what it is told, counts what was taken, and blocks until told to go on."""

    def __init__(self, *batches: pa.RecordBatch, error: Exception | None = None, pause_s: float = 0.0) -> None:
        self.given = 0
        self.go = threading.Event()
        self.blocks_after: int | None = None
        self._batches = batches
        self._error = error
        self._pause_s = pause_s

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for each in self._batches:
            if self.given == self.blocks_after:
                self.go.wait(60)
            time.sleep(self._pause_s)
            self.given += 1
            yield each
        if self._error:
            raise self._error


def answer(engine: Engine, **changed: Any) -> Iterator[pa.RecordBatch]:
    """The stream over an engine; its thread is ended when the stream is."""
    prefetch = Prefetch(iter(engine))
    options: dict[str, Any] = {
        "batch_rows": 100, "batch_bytes": 1 << 20, "timeout_s": 30, "heartbeat_s": 30,
        "is_cancelled": lambda: False, "stopped": threading.Event(),
    }  # fmt: skip
    try:
        yield from stream(prefetch, SCHEMA, **(options | changed))
    finally:
        engine.go.set()
        prefetch.close()


def test_batches_arrive_in_order_and_end() -> None:
    sent = list(answer(Engine(batch(1, 2), batch(3), batch(4))))
    assert pa.Table.from_batches(sent).column("x").to_pylist() == [1, 2, 3, 4]


def test_an_error_comes_after_the_batches_before_it() -> None:
    read = answer(Engine(batch(1), batch(2), error=EngineFailed("broken")))
    assert [next(read).num_rows, next(read).num_rows] == [1, 1]
    with pytest.raises(EngineFailed, match="broken"):
        next(read)


def test_an_error_before_the_first_batch_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        next(answer(Engine(error=ZeroDivisionError())))


def test_at_most_two_batches_more_than_were_taken_are_made() -> None:
    engine = Engine(*[batch(number) for number in range(50)])
    read = answer(engine)
    for taken in range(1, 5):
        next(read)
        # Two are ready, one more is in the engine's hands.
        until(lambda taken=taken: engine.given >= taken + 2)  # type: ignore[misc]
        time.sleep(0.02)
        assert engine.given <= taken + 3
    read.close()  # type: ignore[attr-defined]
    assert engine.given <= 8


def test_closing_while_the_engine_blocks_ends_the_thread_once_it_is_stopped() -> None:
    engine = Engine(batch(1), batch(2))
    engine.blocks_after = 0
    before = threading.active_count()
    prefetch = Prefetch(iter(engine))
    assert prefetch.take(0.01) is None
    closing = threading.Thread(target=prefetch.close)
    closing.start()
    time.sleep(0.05)
    assert closing.is_alive()
    engine.go.set()
    closing.join(30)
    until(lambda: threading.active_count() <= before)


def test_closing_while_the_reader_sleeps_ends_the_thread() -> None:
    prefetch = Prefetch(iter(Engine(*[batch(1)] * 10)))
    until(lambda: prefetch.take(0.01) is not None)
    prefetch.close()
    prefetch.close()
    assert not prefetch._thread.is_alive()


def test_a_silent_engine_is_covered_by_empty_batches() -> None:
    engine = Engine(batch(1))
    engine.blocks_after = 0
    read = answer(engine, heartbeat_s=0.05)
    beats = list(itertools.islice(read, 3))
    assert [beat.num_rows for beat in beats] == [0, 0, 0]
    assert all(beat.schema == SCHEMA for beat in beats)
    engine.go.set()
    assert [each.num_rows for each in read if each.num_rows] == [1]


def test_an_engine_that_gives_empty_batches_is_covered_too() -> None:
    engine = Engine(*[batch()] * 1000, pause_s=0.01)
    read = answer(engine, heartbeat_s=0.1)
    assert next(read).num_rows == 0
    # Long before its end.
    assert engine.given < 900
    read.close()  # type: ignore[attr-defined]


def test_no_heartbeat_is_sent_while_rows_are() -> None:
    assert all(each.num_rows for each in answer(Engine(*[batch(1)] * 24, pause_s=0.05), heartbeat_s=1.0))


def test_a_blocked_engine_is_stopped_at_its_time_limit() -> None:
    engine = Engine(batch(1))
    engine.blocks_after = 0
    started = time.monotonic()
    with pytest.raises(TimedOut, match=r"the query took longer than 0.2 s and was stopped"):
        list(answer(engine, timeout_s=0.2))
    assert time.monotonic() - started >= 0.2


def test_an_engine_that_keeps_giving_is_stopped_at_its_time_limit() -> None:
    engine = Engine(*[batch(1)] * 1000, pause_s=0.01)
    with pytest.raises(TimedOut):
        list(answer(engine, timeout_s=0.3))
    assert engine.given < 900


def test_a_slow_reader_does_not_use_up_the_time_limit() -> None:
    rows = 0
    for each in answer(Engine(*[batch(1)] * 12), timeout_s=1.0):
        time.sleep(0.1)
        rows += each.num_rows
    assert rows == 12


def test_a_cancelled_call_ends_quietly_while_the_engine_blocks() -> None:
    engine = Engine(batch(1))
    engine.blocks_after = 0
    cancelled = threading.Event()
    threading.Timer(0.1, cancelled.set).start()
    # Or it would end with the time limit.
    assert list(answer(engine, is_cancelled=cancelled.is_set)) == []


def test_a_server_that_stops_says_so() -> None:
    stopped = threading.Event()
    read = answer(Engine(*[batch(1)] * 100), stopped=stopped)
    next(read)
    stopped.set()
    with pytest.raises(Unavailable, match=r"^\[draining\] the server is stopping"):
        list(read)


texts = st.lists(st.text(max_size=300) | st.none(), min_size=0, max_size=60)


@settings(max_examples=80)
@given(texts, st.integers(1, 70), st.integers(1, 4000), st.integers(0, 5))
def test_slices_are_within_bounds_and_make_the_whole(
    values: list[str | None], rows_max: int, bytes_max: int, offset: int
) -> None:
    whole = pa.record_batch([pa.array(values, pa.string()), pa.array(range(len(values)), pa.int64())], ["s", "n"])
    whole = whole.slice(min(offset, whole.num_rows))
    parts = list(slices(whole, rows_max, bytes_max))
    assert all(0 < part.num_rows <= rows_max for part in parts)
    assert all(part.nbytes <= bytes_max or part.num_rows == 1 for part in parts)
    assert pa.Table.from_batches(parts, whole.schema).equals(pa.Table.from_batches([whole]))


def test_a_batch_within_bounds_is_passed_on_untouched() -> None:
    given = batch(1, 2, 3)
    assert next(slices(given, 3, 1 << 20)) is given


def test_a_large_batch_is_cut_without_a_copy() -> None:
    large = batch(*range(10_000))
    before = pa.total_allocated_bytes()
    parts = list(slices(large, 100, 1 << 20))
    assert len(parts) == 100
    assert pa.total_allocated_bytes() - before < 1000
