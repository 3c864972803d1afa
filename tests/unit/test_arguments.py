"""Constants of dataset calls in SQL, as the values that a request in JSON form would have."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
import sqlglot

from flight_server.datasets.params import parse_json
from flight_server.model import ParamType
from flight_server.plan import arguments, statement
from tests.fix_datasets import with_params

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


def test_an_example_of_missing_parameters_is_the_call_that_has_them() -> None:
    dataset = with_params(
        'ticker = { type = "string", example = "it\'s" }',
        'day    = { type = "date", example = 2010-01-04 }',
        'at     = { type = "timestamp(tz)", example = 2010-01-04T09:30:00Z }',
        'ids    = { type = "list<int32>", example = [1, 5] }',
        'w      = { type = "map<int32, float64>", example = { 1 = 0.6 } }',
        'flag   = { type = "bool", example = true }',
    )
    call = arguments.example(statement.Call("sample", ()), dataset, list(dataset.params.values()))
    assert call == (
        "sample(ticker => 'it''s', day => DATE '2010-01-04', at => TIMESTAMP '2010-01-04 09:30:00 UTC', "
        "ids => ARRAY[1, 5], w => MAP(ARRAY[1], ARRAY[0.6]), flag => true)"
    )
    (found,) = statement.parse(f"SELECT * FROM {call}").calls
    assert list(arguments.named(found, dataset)) == list(dataset.params)
    # Who has written some arguments adds to them: a call of the rest alone would lack those.
    assert arguments.example(found, dataset, [dataset.params["flag"]]) == "flag => true"
