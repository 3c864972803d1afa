"""Many prepared, parameterised statements at once: all right, and nothing is left over. A minute of it as a soak."""

from __future__ import annotations

import datetime as dt
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import psutil
import pyarrow.flight as flight
import pytest

from tests.fix_sql import Counted
from tests.waiting import until

THREADS = 8
SQL = "SELECT ticker, count(*) AS n, max(close) AS high FROM daily_prices(?, ?, ?) WHERE close > ? GROUP BY ticker"
START, END = dt.date(2012, 1, 3), dt.date(2012, 6, 30)


def expected(url: str) -> dict[tuple[str, float], list[tuple[Any, ...]]]:
    """The rows of each question, worked out in Python from the datasets by name."""
    found = {}
    with flight.connect(url) as client:
        for ticker in ("AAPL", "IBM", "MSFT", "GOOG"):
            body = f"daily_prices?ticker={ticker}&start_date={START}&end_date={END}".encode()
            closes = client.do_get(flight.Ticket(body)).read_all()["close"].to_pylist()
            for least in (0.0, 100.5, 500.0, 1e6):
                over = [close for close in closes if close > least]
                found[ticker, least] = [(ticker, len(over), max(over))] if over else []
    return found


def ask(url: str, right: dict[tuple[str, float], list[tuple[Any, ...]]], seconds: float, first: int) -> Counter[str]:
    """Ask one question after the other, each with a statement of its own, until the time is over."""
    questions = list(right.items())
    counts: Counter[str] = Counter()
    end = time.monotonic() + seconds
    with adbc.connect(url, autocommit=True) as connection:
        while time.monotonic() < end:
            (ticker, least), rows = questions[(first + counts["asked"]) % len(questions)]
            with connection.cursor() as cursor:
                cursor.execute(SQL, [ticker, START, END, least])
                counts["asked"] += 1
                counts["right"] += cursor.fetchall() == rows
    return counts


def run(server: Counted, seconds: float) -> None:
    right = expected(server.url)
    assert sum(map(len, right.values())) > 8
    # Once before and by as many, so that what is made once is there: pools of threads, connections to the catalog.
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda i: ask(server.url, right, 0.5, i), range(THREADS)))
    until(lambda: server.server.flight.calls.count == 0)
    files = psutil.Process(os.getpid()).num_fds()
    with ThreadPoolExecutor(THREADS) as pool:
        counts = sum(pool.map(lambda i: ask(server.url, right, seconds, 2 * i), range(THREADS)), Counter())
    assert counts["right"] == counts["asked"] >= THREADS
    until(lambda: server.server.flight.calls.count == 0)
    # gRPC keeps threads for the next call, and Python remembers those; ours end with their streams.
    until(lambda: not any(thread.name == "engine" for thread in threading.enumerate()))
    # Sockets of closed connections linger for a moment.
    until(lambda: psutil.Process(os.getpid()).num_fds() <= files + THREADS)


def test_eight_threads_of_prepared_statements_are_all_right(sql_server: Counted) -> None:
    run(sql_server, 3.0)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_eight_threads_for_a_minute(sql_server: Counted) -> None:
    before = psutil.Process(os.getpid()).memory_info().rss
    run(sql_server, 60.0)
    grown = psutil.Process(os.getpid()).memory_info().rss - before
    assert grown < 300 << 20, f"{grown:,} bytes more"
