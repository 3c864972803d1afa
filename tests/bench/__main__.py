"""`make bench`: what a request costs on this machine, printed and written nowhere.

Absolute figures are this machine's, now; what can be compared is the ratio against DuckDB alone in the same run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow.flight as flight

from flight_server import config, server, telemetry
from flight_server.model import ANONYMOUS, Request
from flight_server.tables import demo
from flight_server.tables.catalog import open_catalog

ROOT = Path(__file__).parents[2]
SMALL = b"daily_prices?ticker=AAPL&start_date=2010-01-04&end_date=2010-01-29"
# Each day of two stocks with all days up to it: ten million rows from a few thousand.
PAIRS = """-- /// dataset
-- title = "Pairs of days"
-- [columns]
-- trade_date = { type = "date" }
-- meta_id    = { type = "int32" }
-- left_close = { type = "float32" }
-- right_close = { type = "float32" }
-- product    = { type = "float64" }
-- [cache]
-- mode = "<cache>"
-- ///
SELECT a.trade_date, a.meta_id, a.close AS left_close, b.close AS right_close,
  CAST(a.close AS DOUBLE) * CAST(b.close AS DOUBLE) AS product
FROM market_data.us_stocks_price AS a
JOIN market_data.us_stocks_price AS b ON b.meta_id = a.meta_id AND b.trade_date <= a.trade_date
WHERE a.meta_id IN (1, 4)
"""


def main() -> None:
    telemetry.configure("console", "warning")
    with tempfile.TemporaryDirectory() as folder:
        datasets = Path(folder, "sql")
        datasets.mkdir()
        prices = (ROOT / "sql/daily_prices.sql").read_text()
        (datasets / "daily_prices.sql").write_text(prices)
        (datasets / "prices_made.sql").write_text(
            prices.replace("-- ///\nSELECT", '-- [cache]\n-- mode = "off"\n-- ///\nSELECT')
        )
        (datasets / "pairs.sql").write_text(PAIRS.replace("<cache>", "off"))
        (datasets / "pairs_kept.sql").write_text(PAIRS.replace("<cache>", "snapshot"))
        settings = config.load(
            server={"port": 0},
            datasets={"directory": datasets},
            catalog={"uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"{folder}/warehouse"},
        )
        with closing(open_catalog(settings)) as catalog:
            demo.build(catalog, ROOT / "sql/tables")
        running = server.build(settings)
        server.start_in_thread(running)
        try:
            with flight.connect(f"grpc://localhost:{running.port}") as client:
                _small(running, client)
                _large(running, client)
        finally:
            running.stop(0)


def _small(running: server.Server, client: flight.FlightClient) -> None:
    request = Request("daily_prices", {"ticker": "AAPL", "start_date": "2010-01-04", "end_date": "2010-01-29"})
    _print("plan, in process", _times(200, lambda: running.pipeline.plan(request, ANONYMOUS)))
    descriptor = flight.FlightDescriptor.for_command(SMALL)
    _print("GetFlightInfo", _times(200, lambda: client.get_flight_info(descriptor)))
    made = SMALL.replace(b"daily_prices", b"prices_made")
    _print("DoGet of 19 rows, made each time", _times(50, lambda: client.do_get(flight.Ticket(made)).read_all()))
    _print("DoGet of 19 rows, kept", _times(200, lambda: client.do_get(flight.Ticket(SMALL)).read_all()))


def _large(running: server.Server, client: flight.FlightClient) -> None:
    plan = running.pipeline.plan(Request("pairs"), ANONYMOUS)
    ratios = []
    for _ in range(3):
        started = time.perf_counter()
        answer = running.pipeline.answer(plan)
        rows = sum(batch.num_rows for batch in answer.execution.batches())
        answer.execution.close()
        alone = time.perf_counter() - started
        started = time.perf_counter()
        first = None
        size = count = 0
        for chunk in client.do_get(flight.Ticket(b"pairs")):
            if first is None and chunk.data.num_rows:
                first = time.perf_counter() - started
            size, count = size + chunk.data.nbytes, count + chunk.data.num_rows
        streamed = time.perf_counter() - started
        assert count == rows
        ratios.append(streamed / alone)
        print(
            f"{rows:,} rows, {size / 1e6:,.0f} MB: DuckDB alone {alone:.2f} s, over Flight {streamed:.2f} s "
            f"({size / 1e6 / streamed:,.0f} MB/s), first rows after {first or 0:.3f} s"
        )
    print(f"over Flight / DuckDB alone, median of 3: {statistics.median(ratios):.2f}")
    for what in ("made and kept", "kept", "kept"):
        started = time.perf_counter()
        table = client.do_get(flight.Ticket(b"pairs_kept")).read_all()
        print(f"{table.num_rows:,} rows, {what}: {time.perf_counter() - started:.2f} s")


def _times(count: int, call: Callable[[], object]) -> list[float]:
    call()
    found = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        found.append((time.perf_counter() - started) * 1000)
    return sorted(found)


def _print(name: str, times_ms: list[float]) -> None:
    print(f"{name}: p50 {statistics.median(times_ms):.2f} ms, p99 {times_ms[int(len(times_ms) * 0.99)]:.2f} ms")


if __name__ == "__main__":
    main()
