"""The server's memory is flat while a result many times larger than its batches goes to a slow reader."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pyarrow.flight as flight
import pytest

from flight_server import config
from tests.fix_server import Write, dataset

ROWS = 25_000_000
COLUMNS = """a = { type = "int32" }
b = { type = "int32" }
day = { type = "date" }
x = { type = "float64" }
y = { type = "float32" }"""
LARGE = dataset(
    f"""SELECT a.meta_id AS a, b.meta_id AS b, b.trade_date AS day, CAST(a.close AS DOUBLE) AS x, b.close AS y
FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b LIMIT {ROWS}""",
    COLUMNS,
)
# Between two samples the reader takes this many batches: 30 MiB.
_STEP = 20


@pytest.fixture
def process(demo_config: config.Config, datasets: Write) -> Iterator[tuple[psutil.Process, int]]:
    """A server process and its port."""
    catalog = demo_config.catalog
    arguments = [catalog.uri, catalog.warehouse, str(datasets(large=LARGE))]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.serving", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdout is not None
        yield psutil.Process(running.pid), int(running.stdout.readline())
        running.communicate(timeout=20)


def test_memory_is_flat_while_a_slow_reader_takes_a_large_result(process: tuple[psutil.Process, int]) -> None:
    server, port = process
    samples: list[int] = []
    rows = size = 0
    with flight.connect(f"grpc://localhost:{port}") as client:
        reader = client.do_get(flight.Ticket(b"large"))
        for number, chunk in enumerate(reader):
            assert chunk.data.nbytes <= 8 << 20
            rows, size = rows + chunk.data.num_rows, size + chunk.data.nbytes
            if number % _STEP == 0:
                # Long enough for anything that runs ahead to fill up.
                time.sleep(0.05)
                samples.append(server.memory_info().rss)
    assert rows == ROWS
    assert size > 500 << 20
    # The first samples see buffers being made for the first time.
    settled = samples[len(samples) // 4]
    assert max(samples[len(samples) // 4 :]) - settled < 48 << 20
    assert samples[-1] - samples[1] < 96 << 20


def test_memory_does_not_grow_from_one_reader_that_leaves_to_the_next(process: tuple[psutil.Process, int]) -> None:
    server, port = process
    samples: list[int] = []
    with flight.connect(f"grpc://localhost:{port}") as client:
        for _ in range(12):
            reader = client.do_get(flight.Ticket(b"large"))
            for _ in range(10):
                reader.read_chunk()
            reader.cancel()
            time.sleep(0.05)
            samples.append(server.memory_info().rss)
    assert samples[-1] - samples[3] < 64 << 20
