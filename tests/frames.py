"""Tables to ask the datasets about: the real prices with portfolios derived from them, and a small hostile set.

Frames have the columns and types of the DDL, and their rows are shuffled: no answer may depend on the order in which
a table happens to be stored.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import polars as pl
from bokeh_sampledata import stocks

Tables = dict[str, pl.DataFrame]

PRICE = {
    "meta_id": pl.Int32,
    "trade_date": pl.Date,
    "close": pl.Float32,
    "adj_close": pl.Float32,
    "gross_return": pl.Float32,
}
SCHEMAS: dict[str, dict[str, type[pl.DataType]]] = {
    "market_data.us_stocks_price": PRICE,
    "market_data.kr_stocks_price": PRICE,
    "reference.tb_meta": {"meta_id": pl.Int32, "ticker": pl.String, "name": pl.String, "sector": pl.String},
    "portfolio.tb_nav": {"trade_date": pl.Date, "port_id": pl.Int32, "value": pl.Float32},
    "portfolio.tb_rebalance": {
        "rebal_date": pl.Date,
        "port_id": pl.Int32,
        "meta_id": pl.Int32,
        "weight": pl.Float32,
    },
    "analytics.tb_metrics": {
        "port_id": pl.Int32,
        "calculation_date": pl.Date,
        "sharpe": pl.Float32,
        "mdd": pl.Float32,
        "ann_ret": pl.Float32,
        "ann_vol": pl.Float32,
    },
    "analytics.daily_portfolio_value": {"trade_date": pl.Date, "port_id": pl.Int32, "portfolio_value": pl.Float64},
}
Row = Sequence[object]


def real_tables() -> Tables:
    """Daily prices of five US stocks, 2000-2013; everything else is generated from a fixed seed."""
    dice = random.Random(20130301)
    us: list[Row] = []
    for meta_id, name in enumerate(("AAPL", "FB", "GOOG", "IBM", "MSFT"), start=1):
        sample = getattr(stocks, name)
        days = [date.fromisoformat(day) for day in sample["date"]]
        us += _with_returns(meta_id, zip(days, sample["close"], sample["adj_close"], strict=True))
    sessions = sorted({row[1] for row in us if isinstance(row[1], date)})
    kr: list[Row] = []
    for meta_id in (101, 102):
        price, quoted = 50_000.0, []
        # Other holidays than in the US, and sessions on some days on which the US was closed.
        for day in (sessions[0] + timedelta(days=n) for n in range((sessions[-1] - sessions[0]).days)):
            if dice.random() < (0.94 if day.weekday() < 5 else 0.02):
                price *= 1 + dice.gauss(0.0003, 0.02)
                quoted.append((day, price, price * 0.8))
        kr += _with_returns(meta_id, quoted)
    names = [(1, "AAPL"), (2, "FB"), (3, "GOOG"), (4, "IBM"), (5, "MSFT"), (101, "KRX-GEN1"), (102, "KRX-GEN2")]
    meta: list[Row] = [(i, ticker, f"{ticker} Inc.", "Technology" if i < 100 else None) for i, ticker in names]
    rebalance: list[Row] = []
    nav: list[Row] = []
    metrics: list[Row] = []
    for port_id, first, held in ((1, date(2005, 1, 1), (1, 4, 5)), (2, date(2009, 7, 1), (1, 2, 3, 5))):
        life = [day for day in sessions if day >= first]
        quarters = [b for a, b in itertools.pairwise(life) if (a.month - 1) // 3 != (b.month - 1) // 3]
        for day in quarters:
            kept = dice.sample(held, len(held) - 1)
            rebalance += [(day, port_id, meta_id, dice.uniform(0.1, 2.0)) for meta_id in kept]
            figures = [dice.uniform(-1.0, 2.0) for _ in range(4)]
            metrics.append((port_id, day + timedelta(days=dice.randint(30, 60)), *figures))
        value = 1000.0
        for day in life:
            value *= 1 + dice.gauss(0.0004, 0.015)
            nav.append((day, port_id, value))
    return _tables(dice, us, kr, meta, nav, rebalance, metrics)


def hostile_tables() -> Tables:
    """Gaps, nulls, zeros, single days, constant series, rebalances on closed days, and portfolios without anything."""
    dice = random.Random(7)
    first = date(2024, 1, 1)
    us: list[Row] = []
    kr: list[Row] = []
    for n in range(90):
        day = first + timedelta(days=n)
        # Two stocks of opposite price level, so that a return across their boundary would be enormous.
        if n % 7 != 3:
            us.append((1, day, 2.0 + n, 1.0 + n / 2, None if n == 0 else dice.uniform(-0.1, 0.1)))
        if n % 5 != 2:
            adj_close = None if n % 11 == 6 else 0.0 if n % 13 == 9 else 5000.0 - n
            us.append((2, day, 5000.0 - n, adj_close, dice.uniform(-0.1, 0.1)))
        if n % 6 != 1:
            kr.append((101, day, 70_000.0 + n, 7_000.0 + n, None if n < 2 else dice.uniform(-0.1, 0.1)))
        # Never moves until day 60, then does once; closed on days on which the others trade.
        kr.append((102, day, 10.0, 10.0, 0.25 if n == 60 else 0.1))
    us.append((3, first + timedelta(days=40), 8.0, 8.0, None))
    us.append((4, first - timedelta(days=400), 8.0, 8.0, None))
    us.append((6, first + timedelta(days=5), None, None, None))
    meta: list[Row] = [
        (1, "AAA", "Alpha", "Tech"),
        (2, "BBB", "O'Brien & Söhne", None),
        (3, "ONE", None, None),
        (4, "OLD", "Old", "Tech"),
        (5, "NIL", "Never traded", "Tech"),
        (6, "NUL", "No price", "Tech"),
        (101, "KRX-A", "Generated A", "Tech"),
        (102, "KRX-B", "Generated B", "Tech"),
    ]
    rebalance: list[Row] = [
        # Days 10 (1 alone trades), 31 (stock 2 is dropped, 3 comes in) and 66 (stock 1 is dropped).
        (first + timedelta(days=10), 1, 1, 0.5),
        (first + timedelta(days=12), 1, 1, 0.7),
        (first + timedelta(days=12), 1, 2, -0.3),
        (first + timedelta(days=31), 1, 1, 1.0),
        (first + timedelta(days=31), 1, 3, 2.0),
        (first + timedelta(days=66), 1, 2, 3.0),
        (first + timedelta(days=300), 1, 2, 99.0),
        # Another portfolio's rebalances lie between those of the first.
        (first + timedelta(days=20), 2, 2, 1.0),
        (first + timedelta(days=45), 2, 1, 1.0),
        # Rebalanced once, long before the first price.
        (first - timedelta(days=800), 3, 1, 4.0),
        # Holds a stock that is not traded in the US.
        (first, 4, 101, 1.0),
    ]
    nav: list[Row] = [(first + timedelta(days=n), 1, 100.0 + 10 * (n % 9)) for n in range(0, 95, 2)]
    nav += [(first + timedelta(days=n), 2, 50.0) for n in range(30)]
    nav += [(first + timedelta(days=n), 3, 100.0 - n) for n in range(60)]
    nav += [(first, 4, 1.0), (first + timedelta(days=50), 5, 1.0), (first + timedelta(days=51), 5, 1.5)]
    metrics: list[Row] = [
        (1, first + timedelta(days=11), 1.0, -0.1, 0.1, 0.2),
        (1, first + timedelta(days=40), None, -0.2, None, 0.3),
        (1, first + timedelta(days=41), 3.0, -0.3, 0.3, 0.4),
        (1, first + timedelta(days=500), 9.0, -0.9, 0.9, 0.9),
        (2, first + timedelta(days=25), 7.0, -0.7, 0.7, 0.7),
        (3, first - timedelta(days=800), 5.0, -0.5, 0.5, 0.5),
    ]
    return _tables(dice, us, kr, meta, nav, rebalance, metrics)


def _tables(
    dice: random.Random,
    us: list[Row],
    kr: list[Row],
    meta: list[Row],
    nav: list[Row],
    rebalance: list[Row],
    metrics: list[Row],
) -> Tables:
    # What the materialised table holds need not come from prices: its dataset only reads it.
    stored: list[Row] = [(day, port_id, dice.uniform(1.0, 1e6)) for day, port_id, _ in nav]
    tables: Tables = {}
    for (name, schema), rows in zip(SCHEMAS.items(), (us, kr, meta, nav, rebalance, metrics, stored), strict=True):
        dice.shuffle(rows)
        tables[name] = pl.DataFrame(rows, schema=schema, orient="row")
    return tables


def _with_returns(meta_id: int, quoted: Iterable[tuple[date, float, float]]) -> list[Row]:
    rows: list[Row] = []
    previous: float | None = None
    for day, close, adj_close in quoted:
        rows.append((meta_id, day, close, adj_close, None if previous is None else adj_close / previous - 1))
        previous = adj_close
    return rows
