"""A refused plan names a value with which the same question is planned without an error."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog

from flight_server.config import Cost
from flight_server.datasets import registry
from flight_server.errors import InvalidRequest
from flight_server.model import ANONYMOUS, Bounds, Dataset, Value
from flight_server.plan.planner import Planner
from flight_server.plan.scan import Tables
from flight_server.tables.locate import locator

SQL = Path(__file__).parents[2] / "sql"


def planner(catalog: Catalog) -> Planner:
    return Planner(Tables(catalog, locator(catalog)), Cost(), lambda: date(2013, 3, 1))


def dataset(name: str) -> Dataset:
    return registry.load(SQL)[0].get(name, None, ANONYMOUS)


def bounds(scan_bytes: int | None = None, cost_usd: float | None = None) -> Bounds:
    return Bounds(1000, 60, 1000, 1 << 20, scan_bytes, cost_usd)


def test_the_suggested_start_date_fits_and_the_month_before_does_not(demo_catalog: Catalog) -> None:
    made, asked = planner(demo_catalog), dataset("daily_prices")
    values: dict[str, Value] = {"ticker": "AAPL", "start_date": date(2000, 1, 1)}
    full = made.plan(asked, values, "duckdb", bounds()).estimate.bytes
    limit = bounds(full // 3)
    with pytest.raises(InvalidRequest, match=r"^\[scan-limit\] daily_prices would read") as refused:
        made.plan(asked, values, "duckdb", limit)
    text, _, hint = str(refused.value).partition("; with start_date=")
    assert f"{full:,} bytes and may read {full // 3:,}" in text
    day, _, end = hint.partition(" ")
    assert end == "it would fit"
    named = date.fromisoformat(day)
    assert made.plan(asked, {**values, "start_date": named}, "duckdb", limit).estimate.bytes <= full // 3
    earlier = date(named.year - (named.month == 1), (named.month - 2) % 12 + 1, 1)
    with pytest.raises(InvalidRequest, match="scan-limit"):
        made.plan(asked, {**values, "start_date": earlier}, "duckdb", limit)


def test_a_cost_that_no_date_brings_down_names_its_limit(demo_catalog: Catalog) -> None:
    values: dict[str, Value] = {"ticker": "AAPL", "start_date": date(2000, 1, 1)}
    with pytest.raises(
        InvalidRequest,
        match=r"daily_prices would cost \$0\.0001 and may cost \$0\.0000; no start_date makes it fit; "
        r"the data owner can raise max_cost of daily_prices$",
    ):
        planner(demo_catalog).plan(dataset("daily_prices"), values, "duckdb", bounds(cost_usd=1e-6))
