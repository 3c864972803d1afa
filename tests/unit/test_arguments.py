"""Constants of dataset calls in SQL, as the values that a request in JSON form would have."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlglot

from flight_server.datasets import contract as contracts
from flight_server.datasets.params import parse_json, parse_value
from flight_server.model import Parameter, ParamType, Value
from flight_server.plan import arguments
from flight_server.plan.statement import Call

NOON = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)


def moment(sql: str, kind: str) -> object:
    return parse_json(ParamType(kind), arguments.value(sqlglot.parse_one(sql, read="athena"), {}))


@pytest.mark.parametrize(
    "text",
    [
        "2024-02-29 12:30:00 UTC",
        "2024-02-29 12:30 UTC",
        "2024-02-29 12:30:00.000000 UTC",
        "2024-02-29 12:30:00Z",
        "2024-02-29T12:30:00Z",
        "2024-02-29 14:30:00 +02:00",
        "2024-02-29 14:30:00+02:00",
        "2024-02-29 14:30:00+02",
        "2024-02-29 07:00:00 -05:30",
    ],
)
def test_a_moment_is_taken_as_sql_writes_it(text: str) -> None:
    assert moment(f"TIMESTAMP '{text}'", "timestamptz") == NOON
    assert moment(f"CAST('{text}' AS TIMESTAMP WITH TIME ZONE)", "timestamptz") == NOON
    assert moment(f"CAST('{text}' AS TIMESTAMP(6) WITH TIME ZONE)", "timestamptz") == NOON


def test_without_a_zone_it_is_utc_where_the_type_has_one() -> None:
    assert moment("CAST('2024-02-29 12:30:00' AS TIMESTAMP WITH TIME ZONE)", "timestamptz") == NOON
    assert moment("TIMESTAMP '2024-02-29 12:30:00'", "timestamp") == NOON.replace(tzinfo=None)


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("TIMESTAMP '2024-02-29 12:30:00 UTC'", "timestamp"),
        ("TIMESTAMP '2024-02-29 12:30:00'", "timestamptz"),
        ("TIMESTAMP '2024-02-30 12:30:00 UTC'", "timestamptz"),
        ("TIMESTAMP '2024-02-29 12:30:00.1234567 UTC'", "timestamptz"),
        ("TIMESTAMP '2024-02-29 12:30:00 Europe/Berlin'", "timestamptz"),
        ("CAST('noon' AS TIMESTAMP WITH TIME ZONE)", "timestamptz"),
    ],
)
def test_what_the_contract_cannot_hold_is_refused(sql: str, kind: str) -> None:
    with pytest.raises(ValueError, match=r"time zone|is not a (moment|timestamp)"):
        moment(sql, kind)


@pytest.mark.parametrize(
    ("sql", "way"),
    [
        ("ticker = 'AAPL'", "write ticker => 'AAPL'"),
        ("ticker = AAPL", "write ticker => 'AAPL'"),
        ("AAPL", "write text in single quotes, 'AAPL'"),
        ('"it\'s"', "write text in single quotes, 'it''s'"),
        ("2010-01-04", "write a date as DATE '2010-01-04'"),
        ("3 - 1", "write a constant, ARRAY[…], MAP(ARRAY[…], ARRAY[…]) or ?"),
        ("(1, 4)", "write a constant, ARRAY[…], MAP(ARRAY[…], ARRAY[…]) or ?"),
    ],
)
def test_what_is_no_constant_says_how_to_write_it(sql: str, way: str) -> None:
    with pytest.raises(ValueError, match=f"{re.escape(way)}$"):
        arguments.value(sqlglot.parse_one(sql, read="athena"), {})


@pytest.mark.parametrize(
    ("kind", "found", "text"),
    [
        (ParamType("string"), "it's", "'it''s'"),
        (ParamType("bool"), True, "true"),
        (ParamType("int64"), -(2**63), "-9223372036854775808"),
        (ParamType("float64"), -1e-10, "-1e-10"),
        (ParamType("decimal", 18, 4), Decimal("12345.6789"), "12345.6789"),
        (ParamType("date"), date(2024, 2, 29), "DATE '2024-02-29'"),
        (ParamType("timestamp"), NOON.replace(tzinfo=None), "TIMESTAMP '2024-02-29 12:30:00'"),
        (ParamType("timestamptz"), NOON, "TIMESTAMP '2024-02-29 12:30:00 UTC'"),
        (ParamType("list", item=ParamType("string")), ("a", "b"), "ARRAY['a', 'b']"),
        (
            ParamType("map", key=ParamType("date"), item=ParamType("float64")),
            ((date(2024, 2, 29), 0.5),),
            "MAP(ARRAY[DATE '2024-02-29'], ARRAY[0.5])",
        ),
    ],
)
def test_an_example_is_written_as_it_is_read(kind: ParamType, found: Value, text: str) -> None:
    assert arguments.written(kind, found) == text
    read = arguments.value(sqlglot.parse_one(text, read="athena"), {})
    assert parse_value(Parameter("x", kind), read) == found


def test_without_an_example_the_place_of_the_value_is_shown() -> None:
    header = '-- /// dataset\n-- title = "One"\n-- [params]\n-- ticker = { type = "string" }\n-- [columns]\n'
    text = f'{header}-- x = {{ type = "string" }}\n-- ///\nSELECT :ticker AS x\n'
    dataset = contracts.parse(Path("one.sql"), text)
    parameter = dataset.params["ticker"]
    assert arguments.example(Call("one", ()), dataset, parameter) == "one(ticker => …)"
    given = (sqlglot.parse_one("1", read="athena"),)
    assert arguments.example(Call("one", given), dataset, parameter) == "ticker => …"
