"""Prices of the demo: real US ones reshaped, Korean ones generated. Pure: no files, no catalog.

US: daily prices of five stocks as the package bokeh-sampledata has them (Quandl WIKI, 2000-03-01 to 2013-03-01).

Korea: no real series is at hand, so five are generated, and named so. Their calendar is Monday to Friday without the
fixed-date holidays of `_CLOSED`; lunar holidays are left out, so it is not the calendar of the real exchange, but it
differs from the US one in both directions. A price starts at 10,000 won times the series' number and moves each day by
a return of about 1.5 % standard deviation, rounded to whole won; the random numbers come from one fixed seed per series
and take part in additions and multiplications only, so every machine generates the same values.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

PRICES = pa.schema(
    {
        "meta_id": pa.int32(),
        "trade_date": pa.date32(),
        "close": pa.float32(),
        "adj_close": pa.float32(),
        "gross_return": pa.float32(),
    }
)
# (meta_id, ticker, name, sector); the ticker is the attribute of bokeh_sampledata.stocks.
US_STOCKS = (
    (1, "AAPL", "Apple Inc.", "Computer hardware"),
    (2, "FB", "Facebook, Inc.", "Internet"),
    (3, "GOOG", "Google Inc.", "Internet"),
    (4, "IBM", "International Business Machines Corporation", "IT services"),
    (5, "MSFT", "Microsoft Corporation", "Software"),
)
KR_STOCKS = tuple(
    (100 + number, f"KRX-GEN{number}", f"Generated series {number} (not real)", "Generated") for number in range(1, 6)
)
# (month, day): New Year, Independence Movement, Labour, Children, Memorial, Liberation, Foundation, Christmas and the
# last day of the year.
_CLOSED = {(1, 1), (3, 1), (5, 1), (5, 5), (6, 6), (8, 15), (10, 3), (12, 25), (12, 31)}
_DAILY_DEVIATION = 0.015
# 7 % a year.
_DAILY_DRIFT = 0.0003


def stocks() -> pa.Table:
    """`reference.tb_meta`: meta_id int32, ticker, name, sector string; US stocks, then generated series."""
    columns = zip(*US_STOCKS, *KR_STOCKS, strict=True)
    names = ("meta_id", "ticker", "name", "sector")
    table = pa.table(dict(zip(names, map(list, columns), strict=True)))
    return table.set_column(0, "meta_id", table["meta_id"].cast(pa.int32()))


def real_prices(series: Mapping[int, Mapping[str, Sequence[Any]]]) -> pa.Table:
    """Rows of `PRICES` by trade_date, meta_id; `series` has lists date (ISO text, ascending), close, adj_close."""
    return _prices(
        {
            meta_id: (
                pa.array(found["date"], pa.string()).cast(pa.date32()),
                pa.array(found["close"], pa.float64()),
                pa.array(found["adj_close"], pa.float64()),
            )
            for meta_id, found in series.items()
        }
    )


def generated_prices(first: date, last: date) -> pa.Table:
    """Rows of `PRICES` by trade_date, meta_id for the generated series on their trading days from `first` to `last`."""
    days = trading_days(first, last)
    series = {}
    for number, (meta_id, *_) in enumerate(KR_STOCKS, start=1):
        close = pa.array(_walk(random.Random(meta_id), 10_000.0 * number, len(days)))  # noqa: S311 - not a secret
        series[meta_id] = (pa.array(days, pa.date32()), close, close)
    return _prices(series)


def trading_days(first: date, last: date) -> list[date]:
    """The days from `first` to `last` on which the generated series have a price."""
    every = (first + timedelta(days) for days in range((last - first).days + 1))
    return [day for day in every if day.weekday() < 5 and (day.month, day.day) not in _CLOSED]


def _walk(random_numbers: random.Random, start: float, length: int) -> list[float]:
    prices, price = [], start
    for _ in range(length):
        prices.append(price)
        # The sum of twelve uniform numbers less six is nearly normal with deviation one, and never beyond six.
        normal = sum(random_numbers.random() for _ in range(12)) - 6
        price = float(round(price * (1 + _DAILY_DRIFT + _DAILY_DEVIATION * normal)))
    return prices


def _prices(series: Mapping[int, tuple[pa.Array, pa.Array, pa.Array]]) -> pa.Table:
    parts = []
    for meta_id, (days, close, adj_close) in series.items():
        # Computed before rounding to float32, and per stock: the first day of each has none.
        change = pc.subtract(pc.divide(adj_close[1:], adj_close[:-1]), 1.0)
        columns = [
            pa.array([meta_id] * len(days), pa.int32()),
            days,
            close.cast(pa.float32()),
            adj_close.cast(pa.float32()),
            pa.concat_arrays([pa.nulls(1, pa.float32()), change.cast(pa.float32())]),
        ]
        parts.append(pa.Table.from_arrays(columns, schema=PRICES))
    return pa.concat_tables(parts).sort_by([("trade_date", "ascending"), ("meta_id", "ascending")])
