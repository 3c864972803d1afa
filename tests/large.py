"""A large ordered result, made without a query: sorted parts that interleave, and the values every row must have.

Row `i` has `day` = i // 10,000 and `id` = i % 10,000, the two sort keys; all other columns follow from `i`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq

from flight_server import server
from flight_server.model import StoredResult
from tests.fakes.athena.output import filesystem
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab

PER_DAY = 10_000
NAMES = [f"name-{n:03}" for n in range(1000)]
LARGE = """\
-- /// dataset
-- title = "Large"
-- sorted = ["day", "id"]
-- [columns]
-- day = { type = "date", null = false }
-- id = { type = "int64", null = false }
-- price = { type = "float64" }
-- volume = { type = "int64" }
-- name = { type = "string" }
-- ratio = { type = "float32" }
-- ///
SELECT p.trade_date AS day, p.id AS id, p.price AS price, p.id AS volume, p.ticker AS name,
       CAST(p.price AS REAL) AS ratio
FROM lake.prices AS p ORDER BY p.trade_date, p.id
"""
# The same rows in no order.
LOOSE = LARGE.replace('sorted = ["day", "id"]', "sorted = []").replace(" ORDER BY p.trade_date, p.id", "")
_CHUNK = 1_000_000
_SCHEMA = pa.schema(
    [
        ("day", pa.date32()),
        ("id", pa.int64()),
        ("price", pa.float64()),
        ("volume", pa.int64()),
        ("name", pa.string()),
        ("ratio", pa.float32()),
    ]
)
Rows = npt.NDArray[np.int64]


def numbers(start: int, count: int) -> Rows:
    return np.arange(start, start + count, dtype=np.int64)


def columns(rows: Rows) -> list[pa.Array]:
    """The values of the given rows."""
    return [
        pa.array((rows // PER_DAY).astype(np.int32)).view(pa.date32()),
        pa.array(rows % PER_DAY),
        pa.array(rows * 0.25),
        pa.array((rows * 2_654_435_761) % 1_000_003),
        pa.array(NAMES).take(pa.array(rows % len(NAMES))),
        pa.array((rows % 4096).astype(np.float32)),
    ]


def store(aws: LocalAws, lab: Lab, rows: int, parts: int, name: str = "large") -> StoredResult:
    """Put the result under the fingerprint of dataset `name`, its rows dealt out to the parts at random."""
    plan = lab.plan(name)
    results, files = server.build_store(lab.config), filesystem(aws.store)
    under = results.attempt_uri(plan.fingerprint, "large")
    uris = [f"{under}{uuid.uuid4()}" for _ in range(parts)]
    dice = np.random.default_rng(20)
    writers = [
        pq.ParquetWriter(uri.removeprefix("s3://"), _SCHEMA, filesystem=files, compression="zstd", store_schema=False)
        for uri in uris
    ]
    try:
        with ThreadPoolExecutor(2) as pool:
            for start in range(0, rows, _CHUNK):
                chunk = numbers(start, min(_CHUNK, rows - start))
                part_of = dice.integers(parts, size=len(chunk))
                list(pool.map(lambda p: _append(writers[p], chunk[part_of == p]), range(parts)))  # noqa: B023
    finally:
        for writer in writers:
            writer.close()
    return results.complete(plan.fingerprint, "large", "soak-query", uris, 0, threading.Event())


def _append(writer: pq.ParquetWriter, rows: Rows) -> None:
    writer.write_table(pa.Table.from_arrays(columns(rows), schema=_SCHEMA), row_group_size=122_880)


@dataclass
class Reading:
    """What a client saw: seconds to the first row and to the end, and Arrow bytes."""

    rows: int = 0
    bytes: int = 0
    first_s: float = 0.0
    total_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.rows:,} rows in {self.total_s:.1f} s, {self.rows / self.total_s / 1e6:.2f} million rows/s, "
            f"{self.bytes / self.total_s / 1e6:.0f} MB/s, first batch after {self.first_s:.2f} s"
        )


def read_and_check(address: str, name: str = "large", pause_s_per_million: float = 0.0) -> Reading:
    """Ask for a dataset; every value of every row must be right, and in its place where there is an order.

    A slow reader pauses for each million rows, however many batches they come in. Times count from when the dataset is planned: a server's first plan opens the catalog.
    """
    found = Reading()
    total = 0
    with flight.connect(address) as client:
        client.get_flight_info(flight.FlightDescriptor.for_command(name.encode()))
        began = time.monotonic()
        for batch in _batches(client, name):
            found.first_s = found.first_s or time.monotonic() - began
            rows = numbers(found.rows, batch.num_rows) if name == "large" else _rows(batch)
            for column, want in zip(batch.columns, columns(rows), strict=True):
                assert column.equals(want), f"rows from {found.rows} differ"
            found.rows += batch.num_rows
            found.bytes += batch.nbytes
            total += int(rows.sum())
            time.sleep(pause_s_per_million * batch.num_rows / 1e6)
    found.total_s = time.monotonic() - began
    # With the right number of rows, and each of them right: no row came twice in place of another.
    assert total == found.rows * (found.rows - 1) // 2
    return found


def _rows(batch: pa.RecordBatch) -> Rows:
    """The numbers of rows that come in any order."""
    days = np.asarray(batch.column("day").view(pa.int32())).astype(np.int64)
    return days * PER_DAY + np.asarray(batch.column("id"))


def _batches(client: flight.FlightClient, name: str) -> Iterator[pa.RecordBatch]:
    for chunk in client.do_get(flight.Ticket(name.encode())):
        if chunk.data.num_rows:
            yield chunk.data


@dataclass
class Memory:
    """The resident size of a process, sampled until `close`. `most` is in bytes."""

    process: psutil.Process
    most: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Memory:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self.process.memory_info().rss)
