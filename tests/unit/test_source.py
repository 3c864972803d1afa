"""A part's bytes fetched ahead of its decoder: few requests, each byte once, bounded, and trouble told as it is."""

from __future__ import annotations

import io
import itertools
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_server.errors import Cancelled
from flight_server.results.footer import row_groups
from flight_server.results.part import decoder
from flight_server.results.pieces import PIECE_BYTES_MIN, groups
from flight_server.results.source import Source

MIB = 1 << 20
ROWS = 200_000


class Slices:
    """A file in memory that notes what is asked of it, and how much of what it gave is still held."""

    def __init__(self, content: bytes) -> None:
        self.content = np.frombuffer(content, np.uint8)
        self.asked: list[tuple[int, int]] = []
        self.held = self.held_most = 0
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    def size(self) -> int:
        return len(self.content)

    def read_at(self, count: int, start: int) -> pa.Buffer:
        assert self.gate.wait(60)
        piece = self.content[start : start + count].copy()
        with self._lock:
            self.asked.append((start, start + len(piece)))
            self.held += len(piece)
            self.held_most = max(self.held_most, self.held)
        weakref.finalize(piece, self._free, len(piece))
        return pa.py_buffer(piece)

    def _free(self, count: int) -> None:
        with self._lock:
            self.held -= count


@pytest.fixture(scope="module")
def table() -> pa.Table:
    dice = np.random.default_rng(1)
    return pa.table({name: dice.integers(0, 1 << 60, ROWS) for name in "abc"} | {"small": [1] * ROWS})


@pytest.fixture(scope="module")
def content(table: pa.Table) -> bytes:
    """Row groups of 0.5 MiB, and a last one of 2 MiB."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="none", use_dictionary=["small"]) as writer:
        for start in range(0, 100_000, 20_000):
            writer.write_table(table.slice(start, 20_000), row_group_size=20_000)
        writer.write_table(table.slice(100_000), row_group_size=100_000)
    return sink.getvalue()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as opened:
        yield opened


def read(file: Slices, pool: ThreadPoolExecutor, piece_bytes: int, batch_rows: int = 1000) -> pa.Table:
    source = Source(file, pool, threading.Event())
    parquet = decoder(source)
    plan = groups(row_groups(source.footer(), source.size), piece_bytes)
    with source:
        return pa.Table.from_batches(
            batch
            for group in source.enter(plan, 2 * piece_bytes)
            for batch in parquet.iter_batches(batch_rows, group.row_groups, use_threads=False)
        )


@pytest.mark.parametrize("piece_bytes", [PIECE_BYTES_MIN, 200_000, MIB, 64 * MIB])
def test_whatever_the_pieces_each_byte_is_fetched_once(
    content: bytes, table: pa.Table, pool: ThreadPoolExecutor, piece_bytes: int
) -> None:
    file = Slices(content)
    assert read(file, pool, piece_bytes).equals(table)
    tail, *pieces = file.asked
    assert tail == (len(content) - (64 << 10), len(content))
    ends = sorted(pieces)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))
    # Magic, footer and indexes are not part of any row group.
    assert sum(stop - start for start, stop in pieces) < len(content)


def test_few_requests_where_there_is_room(content: bytes, table: pa.Table, pool: ThreadPoolExecutor) -> None:
    file = Slices(content)
    read(file, pool, MIB + 400_000)
    # The tail, the five small row groups by twos, and three columns of the large one, which does not fit, in two each.
    assert len(file.asked) <= 1 + 3 + 8


@pytest.mark.parametrize("piece_bytes", [100_000, 400_000])
def test_what_is_held_does_not_depend_on_the_row_groups(
    content: bytes, pool: ThreadPoolExecutor, piece_bytes: int
) -> None:
    file = Slices(content)
    read(file, pool, piece_bytes)
    columns = 4
    # One piece of each column is fetched while the one before it is read.
    assert piece_bytes < file.held_most <= 2 * (piece_bytes + columns * PIECE_BYTES_MIN)


def test_a_small_part_is_one_request(pool: ThreadPoolExecutor) -> None:
    sink = io.BytesIO()
    small = pa.table({"a": [1, 2, 3]})
    pq.write_table(small, sink)
    file = Slices(sink.getvalue())
    assert read(file, pool, MIB).equals(small)
    assert file.asked == [(0, len(sink.getvalue()))]


def test_fewer_bytes_than_asked_for_are_an_error(content: bytes, pool: ThreadPoolExecutor) -> None:
    file = Slices(content)
    source = Source(file, pool, threading.Event())
    file.content = file.content[:1000]
    source.seek(500)
    with pytest.raises(OSError, match="500 bytes came of 1000 from 500 on"):
        source.read(1000)


def test_waiting_for_a_piece_hears_a_cancel(content: bytes, pool: ThreadPoolExecutor) -> None:
    file, cancelled = Slices(content), threading.Event()
    source = Source(file, pool, cancelled)
    parquet = decoder(source)
    plan = groups(row_groups(source.footer(), source.size), MIB)
    file.gate.clear()
    group = next(source.enter(plan, MIB))
    threading.Timer(0.2, cancelled.set).start()
    with pytest.raises(Cancelled):
        next(parquet.iter_batches(1000, group.row_groups, use_threads=False))
    file.gate.set()
