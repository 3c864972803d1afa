"""The demo tables, built into a catalog from real prices, once. The rules: `demo_prices` and `demo_portfolios`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow

from flight_server.errors import TableError, to_install
from flight_server.tables import demo_portfolios, demo_prices
from flight_server.tables.catalog import create_table, find_table
from flight_server.tables.conform import conform
from flight_server.tables.ddl import read_all
from flight_server.tables.load import append

# Key and value in the summary of every snapshot written here; another value when a rule of the demo changes.
DEMO = "athena-flight.demo"
VERSION = "1"


def build(catalog: Catalog, ddl: Path, report: Callable[[str], None] | None = None) -> dict[str, int]:
    """Create all tables of the DDL files in `ddl` and fill the demo's seven; returns the rows written, by table.

    Each table is filled in one commit, and one that has data is left alone, so a second call, or one after an
    interrupted build, does only what is missing; an empty answer means that nothing was. `report` is called with a line
    for each table filled. Raises TableError when bokeh-sampledata is not installed, when a table's data was written by
    another version of the demo, or when the DDL lacks a table.
    """
    for definition in read_all(ddl).values():
        create_table(catalog, definition)
    if all(_has_data(catalog, name) for name in TABLES):
        return {}
    written: dict[str, int] = {}
    for name, rows in tables(_source()).items():
        if _has_data(catalog, name):
            continue
        table = find_table(catalog, name)
        schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
        batches = (conform(batch, schema, 1) for batch in rows.to_batches())
        loaded = append(table, batches, schema, {DEMO: VERSION})
        written[name] = loaded.rows
        if report is not None:
            report(f"{name}: {loaded.rows:,} rows in {loaded.files} files")
    return written


TABLES = (
    "reference.tb_meta",
    "market_data.us_stocks_price",
    "market_data.kr_stocks_price",
    "portfolio.tb_rebalance",
    "portfolio.tb_nav",
    "analytics.tb_metrics",
    "analytics.daily_portfolio_value",
)


def tables(series: dict[int, dict[str, list[object]]]) -> dict[str, pa.Table]:
    """The rows of every table in `TABLES`, from the price lists by meta_id. Pure."""
    us = demo_prices.real_prices(series)
    days: list[date] = us["trade_date"].unique().to_pylist()
    rebalances = demo_portfolios.rebalances(us)
    nav = demo_portfolios.nav(us, rebalances)
    rows = (
        demo_prices.stocks(),
        us,
        demo_prices.generated_prices(min(days), max(days)),
        rebalances,
        nav,
        demo_portfolios.metrics(nav),
        demo_portfolios.portfolio_value(us, rebalances),
    )
    return dict(zip(TABLES, rows, strict=True))


def _has_data(catalog: Catalog, name: str) -> bool:
    snapshots = find_table(catalog, name).snapshots()
    for snapshot in snapshots:
        version = snapshot.summary.get(DEMO) if snapshot.summary is not None else None
        if version not in (None, VERSION):
            raise TableError(
                f"table {name!r} holds version {version} of the demo and this is version {VERSION}:"
                " delete the folder of the demo and build it again"
            )
    return bool(snapshots)


def _source() -> dict[int, dict[str, list[object]]]:
    # An optional extra: only the first build needs it, so only the first build asks for it.
    try:
        from bokeh_sampledata import stocks
    except ImportError as error:
        raise TableError(f"the demo's prices are not installed; {to_install('demo')}") from error
    return {meta_id: getattr(stocks, ticker) for meta_id, ticker, *_ in demo_prices.US_STOCKS}
