"""Small tables with every awkward value once, for the tests of the local Athena."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa

DATABASE = "lake"
ROWS = 600


def prices() -> pa.Table:
    """600 rows of two tickers over 300 days from 2024-01-01; `id` counts from 0."""
    days = [dt.date(2024, 1, 1) + dt.timedelta(days=i // 2) for i in range(ROWS)]
    moments = [dt.datetime(2024, 1, 1, 9, 30, 0, 123456) + dt.timedelta(seconds=i) for i in range(ROWS)]
    return pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "ticker": ["AAPL", "MSFT"] * (ROWS // 2),
            "trade_date": days,
            "ts": pa.array(moments, pa.timestamp("us")),
            "price": [i * 0.5 for i in range(ROWS)],
            "amount": pa.array([Decimal(i) / 100 for i in range(ROWS)], pa.decimal128(18, 4)),
            "tags": pa.array([["a", "b"], []] * (ROWS // 2), pa.list_(pa.string())),
            "counts": pa.array([[("x", i)] for i in range(ROWS)], pa.map_(pa.string(), pa.int64())),
        }
    )


def values() -> pa.Table:
    """Three rows: plain values, nulls, and values that CSV and JSON get wrong."""
    return pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int64()),
            "text": ['it\'s "quoted", \n twice', None, ""],
            "number": pa.array([1.5, None, -0.0], pa.float64()),
            "small": pa.array([7, None, -7], pa.int32()),
            "day": [dt.date(2024, 2, 29), None, dt.date(1969, 12, 31)],
            "amount": pa.array([Decimal("12345.6789"), None, Decimal("-0.0001")], pa.decimal128(18, 4)),
            "flag": [True, None, False],
            "list": pa.array([[1, 2], None, []], pa.list_(pa.int64())),
        }
    )
