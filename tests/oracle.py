"""What each dataset should answer, computed with polars and the standard library from the tables.

Written from the semantics in docs/datasets.md and not from the SQL: where the SQL has a window or an interval join,
here stands a loop over days. Nothing here knows how the actual answer is obtained. `tables` maps a table's name to a
frame with the columns and types of its DDL; rows may be in any order.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date

import polars as pl
import pyarrow as pa

Tables = Mapping[str, pl.DataFrame]

US = "market_data.us_stocks_price"
KR = "market_data.kr_stocks_price"
META = "reference.tb_meta"
NAV = "portfolio.tb_nav"
REBALANCE = "portfolio.tb_rebalance"
METRICS = "analytics.tb_metrics"
DAILY_VALUE = "analytics.daily_portfolio_value"

YEAR_DAYS = 252
CORRELATION_DAYS = 20


def assert_equal(actual: pa.Table, expected: pl.DataFrame, rel: float = 1e-9) -> None:
    """The same columns, types, rows and order; float64 within `rel`, everything else exactly, null only equals null."""
    assert actual.column_names == expected.columns
    assert [str(t) for t in actual.schema.types] == [_ARROW[str(t)] for t in expected.dtypes]
    assert actual.num_rows == expected.height
    for name, dtype in expected.schema.items():
        values: list[object] = actual.column(name).to_pylist()
        for row, (got, want) in enumerate(zip(values, expected[name].to_list(), strict=True)):
            same = got == want
            if dtype == pl.Float64 and isinstance(got, float) and isinstance(want, float):
                # The absolute part is for sums that cancel to zero, such as the mean of +0.5 and -0.5.
                same = math.isclose(got, want, rel_tol=rel, abs_tol=1e-12)
            assert same, f"{name}[{row}]: got {got!r}, expected {want!r}"


def expected_daily_prices(
    tables: Tables, *, ticker: str, start_date: date, end_date: date | None = None
) -> pl.DataFrame:
    stock = tables[META].filter(pl.col("ticker") == ticker)
    return (
        _between(tables[US], start_date, end_date)
        .join(stock, on="meta_id", how="inner")
        .sort("trade_date")
        .select("trade_date", "close", "adj_close", "gross_return", "ticker", "name", "sector")
    )


def expected_aggregate_stats(tables: Tables, *, tickers: Sequence[str], start_date: date) -> pl.DataFrame:
    rows: list[tuple[object, ...]] = []
    for meta_id, ticker, name, sector in tables[META].rows():
        prices = _between(tables[US], start_date).filter(pl.col("meta_id") == meta_id)
        if ticker not in tickers or prices.is_empty():
            continue
        close = prices["close"].drop_nulls().to_list()
        returns = prices["gross_return"].drop_nulls().to_list()
        deviation = _stdev(returns)
        rows.append(
            (
                ticker,
                name,
                sector,
                prices.height,
                _mean(close),
                _stdev(close),
                _mean(returns),
                None if deviation is None else deviation * math.sqrt(YEAR_DAYS),
                min(close, default=None),
                max(close, default=None),
            )
        )
    schema = {
        "ticker": pl.String,
        "name": pl.String,
        "sector": pl.String,
        "trading_days": pl.Int64,
        "avg_price": pl.Float64,
        "price_std": pl.Float64,
        "avg_return": pl.Float64,
        "volatility": pl.Float64,
        "min_price": pl.Float32,
        "max_price": pl.Float32,
    }
    return _frame(rows, schema).sort("ticker")


def expected_portfolio_perf(tables: Tables, *, port_id: int, start_date: date) -> pl.DataFrame:
    values = _portfolio_values(tables, port_id)
    metrics = {
        row["calculation_date"]: row
        for row in tables[METRICS].filter(pl.col("port_id") == port_id).iter_rows(named=True)
    }
    nav = _between(tables[NAV], start_date).filter(pl.col("port_id") == port_id).sort("trade_date")
    rows: list[tuple[object, ...]] = []
    for day, nav_value in nav.select("trade_date", "value").iter_rows():
        calculated = _latest(metrics, day)
        figures = [
            None if calculated is None else metrics[calculated][n] for n in ("sharpe", "mdd", "ann_ret", "ann_vol")
        ]
        rows.append((day, values.get(day), nav_value, *figures))
    schema = {
        "trade_date": pl.Date,
        "portfolio_value": pl.Float64,
        "nav_value": pl.Float32,
        "sharpe": pl.Float32,
        "mdd": pl.Float32,
        "ann_ret": pl.Float32,
        "ann_vol": pl.Float32,
    }
    return _frame(rows, schema)


def expected_cross_market(tables: Tables, *, us_ticker: str, kr_ticker: str, start_date: date) -> pl.DataFrame:
    us = _days_of(tables, US, us_ticker, start_date)
    kr = _days_of(tables, KR, kr_ticker, start_date)
    pairs: list[tuple[float, float]] = []
    rows: list[tuple[object, ...]] = []
    for day in sorted(us.keys() | kr.keys()):
        us_price, us_return = us.get(day, (None, None))
        kr_price, kr_return = kr.get(day, (None, None))
        correlation = None
        if us_return is not None and kr_return is not None:
            pairs.append((us_return, kr_return))
            correlation = _correlation(pairs[-CORRELATION_DAYS:])
        rows.append((day, us_price, kr_price, us_return, kr_return, correlation))
    schema = {
        "trade_date": pl.Date,
        "us_price": pl.Float32,
        "kr_price": pl.Float32,
        "us_return": pl.Float32,
        "kr_return": pl.Float32,
        "rolling_correlation_20d": pl.Float64,
    }
    return _frame(rows, schema)


def expected_price_history(
    tables: Tables, *, meta_ids: Sequence[int], start_date: date, end_date: date | None = None
) -> pl.DataFrame:
    return (
        _between(tables[US], start_date, end_date)
        .filter(pl.col("meta_id").is_in(list(meta_ids)))
        .sort("trade_date", "meta_id")
        .select("meta_id", "trade_date", "adj_close")
    )


def expected_returns(
    tables: Tables, *, meta_ids: Sequence[int], start_date: date, end_date: date | None = None
) -> pl.DataFrame:
    stocks: list[pl.DataFrame] = []
    for meta_id in sorted(set(meta_ids)):
        stock = _between(tables[US], start_date, end_date).filter(pl.col("meta_id") == meta_id).sort("trade_date")
        price = pl.col("adj_close").cast(pl.Float64)
        previous = price.shift(1)
        # A return on a price of zero is not a number that can be used.
        change = pl.when(previous != 0).then(price / previous - 1).alias("simple_return")
        stocks.append(stock.select("meta_id", "trade_date", "adj_close", change))
    return pl.concat(stocks)


def expected_basket_value(
    tables: Tables, *, weights: Mapping[int, float], start_date: date, end_date: date | None = None
) -> pl.DataFrame:
    prices = _prices_by_day(_between(tables[US], start_date, end_date))
    rows = [
        (day, sum(weight * priced[meta_id] for meta_id, weight in weights.items()))
        for day, priced in sorted(prices.items())
        if weights.keys() <= priced.keys()
    ]
    return _frame(rows, {"trade_date": pl.Date, "value": pl.Float64})


def expected_performance_metrics(
    tables: Tables, *, port_id: int, start_date: date, end_date: date | None = None, risk_free_rate: float = 0.0
) -> pl.DataFrame:
    nav = _between(tables[NAV], start_date, end_date).filter(pl.col("port_id") == port_id).sort("trade_date")
    values: list[float] = nav["value"].to_list()
    returns = [after / before - 1 for before, after in itertools.pairwise(values)]
    rows: list[tuple[object, ...]] = []
    if values:
        deviation = _stdev(returns)
        excess = [r - risk_free_rate / YEAR_DAYS for r in returns]
        rows.append(
            (
                port_id,
                nav["trade_date"][0],
                nav["trade_date"][-1],
                (values[-1] / values[0]) ** (YEAR_DAYS / len(returns)) - 1 if returns else None,
                None if deviation is None else deviation * math.sqrt(YEAR_DAYS),
                statistics.fmean(excess) / deviation * math.sqrt(YEAR_DAYS) if deviation else None,
                min(value / max(values[: i + 1]) - 1 for i, value in enumerate(values)),
            )
        )
    schema = {
        "port_id": pl.Int32,
        "first_date": pl.Date,
        "last_date": pl.Date,
        "ann_return": pl.Float64,
        "ann_volatility": pl.Float64,
        "sharpe": pl.Float64,
        "max_drawdown": pl.Float64,
    }
    return _frame(rows, schema)


def expected_daily_portfolio_value(
    tables: Tables, *, port_id: int, start_date: date | None = None, end_date: date | None = None
) -> pl.DataFrame:
    return (
        _between(tables[DAILY_VALUE], start_date, end_date)
        .filter(pl.col("port_id") == port_id)
        .sort("trade_date")
        .select("trade_date", "port_id", "portfolio_value")
    )


def expected_materialized_value(tables: Tables) -> pl.DataFrame:
    """What `sql/materialize/daily_portfolio_value.sql` should write, by trade_date and port_id."""
    rows = [
        (day, port_id, value)
        for port_id in tables[REBALANCE]["port_id"].unique().to_list()
        for day, value in _portfolio_values(tables, port_id).items()
    ]
    schema = {"trade_date": pl.Date, "port_id": pl.Int32, "portfolio_value": pl.Float64}
    return _frame(rows, schema).sort("trade_date", "port_id")


EXPECTED: Mapping[str, Callable[..., pl.DataFrame]] = {
    "aggregate_stats": expected_aggregate_stats,
    "basket_value": expected_basket_value,
    "cross_market": expected_cross_market,
    "daily_portfolio_value": expected_daily_portfolio_value,
    "daily_prices": expected_daily_prices,
    "performance_metrics": expected_performance_metrics,
    "portfolio_perf": expected_portfolio_perf,
    "price_history": expected_price_history,
    "returns": expected_returns,
}

_ARROW = {
    "Date": "date32[day]",
    "Float32": "float",
    "Float64": "double",
    "Int32": "int32",
    "Int64": "int64",
    "String": "string",
}


def _portfolio_values(tables: Tables, port_id: int) -> dict[date, float]:
    """Value on every day on which a stock of the latest rebalance has a price."""
    holdings: dict[date, dict[int, float]] = {}
    for row in tables[REBALANCE].filter(pl.col("port_id") == port_id).iter_rows(named=True):
        holdings.setdefault(row["rebal_date"], {})[row["meta_id"]] = row["weight"]
    values: dict[date, float] = {}
    for day, priced in _prices_by_day(tables[US]).items():
        rebalanced = _latest(holdings, day)
        held = {} if rebalanced is None else holdings[rebalanced]
        traded = held.keys() & priced.keys()
        if traded:
            values[day] = math.fsum(held[meta_id] * priced[meta_id] for meta_id in traded)
    return values


def _prices_by_day(prices: pl.DataFrame) -> dict[date, dict[int, float]]:
    days: dict[date, dict[int, float]] = {}
    for row in prices.drop_nulls("adj_close").iter_rows(named=True):
        days.setdefault(row["trade_date"], {})[row["meta_id"]] = row["adj_close"]
    return days


def _days_of(
    tables: Tables, market: str, ticker: str, start_date: date
) -> dict[date, tuple[float | None, float | None]]:
    stock = tables[META].filter(pl.col("ticker") == ticker)["meta_id"].to_list()
    prices = _between(tables[market], start_date).filter(pl.col("meta_id").is_in(stock))
    return {row["trade_date"]: (row["close"], row["gross_return"]) for row in prices.iter_rows(named=True)}


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    us, kr = ([pair[i] for pair in pairs] for i in (0, 1))
    if len(pairs) < CORRELATION_DAYS or len(set(us)) == 1 or len(set(kr)) == 1:
        return None
    return statistics.correlation(us, kr)


def _latest(dates: Iterable[date], day: date) -> date | None:
    return max((d for d in dates if d <= day), default=None)


def _between(frame: pl.DataFrame, start_date: date | None, end_date: date | None = None) -> pl.DataFrame:
    return frame.filter(
        pl.col("trade_date") >= (start_date or date.min), pl.col("trade_date") <= (end_date or date.max)
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _stdev(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _frame(rows: Sequence[tuple[object, ...]], schema: Mapping[str, type[pl.DataType]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict(schema), orient="row")
