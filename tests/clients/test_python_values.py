"""Python values as the wire's JSON, whatever library they come from."""

from __future__ import annotations

import datetime as dt
import enum
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from flight_client.errors import InvalidRequest
from flight_client.values import ANY, to_json

DAY = dt.date(2024, 2, 29)
UTC = dt.UTC


class Side(enum.Enum):
    BUY = "buy"


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        (True, "bool", True),
        (7, "int32", 7),
        (2**53 + 1, "int64", 2**53 + 1),
        (0.1, "float64", 0.1),
        ("it's", "string", "it's"),
        (None, "date", None),
        (Decimal("1.10"), "decimal(18,4)", "1.10"),
        (DAY, "date", "2024-02-29"),
        (dt.datetime(2024, 2, 29), "date", "2024-02-29"),
        (dt.datetime(2024, 2, 29, 12, 30), "timestamp", "2024-02-29T12:30:00"),
        (dt.datetime(2024, 2, 29, 12, 30, tzinfo=UTC), "timestamp(tz)", "2024-02-29T12:30:00+00:00"),
        (Side.BUY, "enum", "buy"),
        (["AAPL", "IBM"], "list<string>", ["AAPL", "IBM"]),
        (("AAPL",), "list<string>", ["AAPL"]),
        ({3}, "list<int32>", [3]),
        (range(1, 3), "list<int32>", [1, 2]),
        ((n for n in (1, 2)), "list<int32>", [1, 2]),
        ([dt.datetime(2024, 2, 29)], "list<date>", ["2024-02-29"]),
        (Decimal("0.4"), "float64", 0.4),
        ({1: 0.6, 5: Decimal("0.4")}, "map<int32, float64>", {"1": 0.6, "5": 0.4}),
        ({DAY: 1}, "map<date, int32>", {"2024-02-29": 1}),
        (np.int64(7), "int32", 7),
        (np.float32(0.5), "float64", 0.5),
        (np.bool_(True), "bool", True),
        (np.str_("AAPL"), "string", "AAPL"),
        (np.datetime64("2024-02-29"), "date", "2024-02-29"),
        (np.datetime64("2024-02-29T12:30:00.123456789", "ns"), "timestamp", "2024-02-29T12:30:00.123456"),
        (np.array([1, 2]), "list<int32>", [1, 2]),
        (np.array(["2024-02-29"], "datetime64[ns]"), "list<date>", ["2024-02-29"]),
        (pd.Timestamp("2024-02-29"), "date", "2024-02-29"),
        (pd.Series([1, 2]), "list<int32>", [1, 2]),
        (pd.Series(pd.to_datetime(["2024-02-29"])), "list<date>", ["2024-02-29"]),
        (
            pd.Series(pd.to_datetime(["2024-02-29 12:00"]).tz_localize("Asia/Seoul")),
            "list<timestamp(tz)>",
            ["2024-02-29T12:00:00+09:00"],
        ),
        (pl.Series(["AAPL"]), "list<string>", ["AAPL"]),
        (pl.Series([DAY]), "list<date>", ["2024-02-29"]),
        (pa.scalar(7), "int32", 7),
        (pa.array([1, 2]), "list<int32>", [1, 2]),
        (pa.chunked_array([[1], [2]]), "list<int32>", [1, 2]),
        (Decimal("1.10"), ANY, 1.1),
        (Decimal("12345678901234567.8901"), ANY, "12345678901234567.8901"),
        (dt.datetime(2024, 2, 29), ANY, "2024-02-29"),
        (dt.datetime(2024, 2, 29, 12, 30), ANY, "2024-02-29T12:30:00"),
        ([np.datetime64("2024-02-29")], ANY, ["2024-02-29"]),
        ({1: [Decimal("0.5")]}, ANY, {"1": [0.5]}),
    ],
)
def test_value_is_written_as_the_protocol_has_it(value: object, kind: str, written: object) -> None:
    found = to_json(value, kind, "p")
    assert found == written
    assert type(found) is type(written)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan"), b"AAPL", object(), 1j, [b"x"]])
def test_what_json_cannot_say_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^\[bad-parameter\] ticker: "):
        to_json(value, "string", "ticker")


def test_a_time_of_day_is_not_cut_off_from_a_date() -> None:
    assert to_json(dt.datetime(2024, 2, 29, 12), "date", "p") == "2024-02-29T12:00:00"
