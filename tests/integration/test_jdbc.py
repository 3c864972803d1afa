"""The Arrow Flight SQL JDBC driver against a running server, compared with pyarrow's answers to the same questions."""

from __future__ import annotations

import datetime as dt
import itertools
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from argon2 import PasswordHasher

from flight_server.service.flight_sql.metadata import CALLED, TABLE
from tests.fix_jdbc import NAMED, Jdbc, JdbcWith, url_of
from tests.fix_server import Serve
from tests.fix_sql import AAPL, Counted, descriptor, rows
from tests.integration.test_adbc import PAIRS
from tests.waiting import until

# One of the years that BI tools bring along, and one that not every repository has yet.
OTHERS = ("17.0.0", "19.0.0")
# What JDBC calls the types.
NAMES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.decimal128(10, 2): "DECIMAL",
    pa.string(): "VARCHAR",
    pa.binary(): "VARBINARY",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMP_WITH_TIMEZONE",
    pa.list_(pa.int32()): "ARRAY",
    pa.map_(pa.string(), pa.int32()): "JAVA_OBJECT",
    pa.struct([("x", pa.int32()), ("y", pa.string())]): "JAVA_OBJECT",
}
VALUES = [
    "true", "CAST(-7 AS TINYINT)", "CAST(300 AS SMALLINT)", "2147483647", "CAST(-9007199254740993 AS BIGINT)",
    "CAST(0.1 AS REAL)", "CAST(0.1 AS DOUBLE)", "CAST('-12.30' AS DECIMAL(10, 2))", "'it''s ? ; -- \U0001d538 삼성'",
    "CAST('ab' AS VARBINARY)", "DATE '0001-01-01'", "DATE '9999-12-31'", "TIME '10:11:12'",
    "TIMESTAMP '2024-02-29 10:11:12.123456'", "CAST('2024-02-29 10:11:12.123456 UTC' AS TIMESTAMP WITH TIME ZONE)",
    "ARRAY[1, NULL, 3]", "MAP(ARRAY['a'], ARRAY[1])", "CAST(ROW(1, 'a') AS ROW(x INTEGER, y VARCHAR))",
]  # fmt: skip
STATEMENTS = [
    f"SELECT * FROM {AAPL}",
    f"SELECT close FROM {AAPL} LIMIT 3",
    "SELECT ticker, max(close) AS high, count(*) FROM daily_prices('IBM', DATE '2012-01-01') GROUP BY ticker",
    "SELECT * FROM reference.tb_meta ORDER BY meta_id DESC",
    "SELECT * FROM daily_prices('AAPL', DATE '2030-01-01')",
    *[f"SELECT {value} AS x UNION ALL SELECT NULL ORDER BY 1 NULLS LAST" for value in VALUES],
]
# Kind, value as JDBC is given it, SQL type, and what comes back.
BOUND: list[tuple[str, str, str, object]] = [
    ("boolean", "true", "BOOLEAN", True),
    ("int", "-5", "INTEGER", -5),
    ("int", "5", "SMALLINT", 5),
    ("long", "-9007199254740993", "BIGINT", -9007199254740993),
    ("float", "1.5", "REAL", 1.5),
    ("double", "0.1", "DOUBLE", 0.1),
    ("int", "5", "DOUBLE", 5.0),
    ("decimal", "-12.30", "DECIMAL(10, 2)", "-12.30"),
    ("string", "it's ? \\ \U0001d538", "VARCHAR", "it's ? \\ \U0001d538"),
    ("date", "2024-02-29", "DATE", "2024-02-29"),
    # Milliseconds are all that the driver sends.
    ("timestamp", "2024-02-29 10:11:12.123456", "TIMESTAMP(6)", "2024-02-29T10:11:12.123"),
]
# Arguments of a call, and what is bound to them.
EVERY: dict[str, tuple[str, ...]] = {
    "flag => ?": ("boolean=true",),
    "small => ?": ("int=-7",),
    "large => ?": ("long=9007199254740993",),
    "ratio => ?": ("double=0.1",),
    "amount => ?": ("decimal=12345.6789",),
    "word => ?": ("string=it's",),
    "side => ?": ("string=sell",),
    "day => ?": ("date=2024-02-29",),
    "moment => ?": ("timestamp=2024-02-29 12:30:00.123",),
    "instant => ?": ("timestamp=2024-02-29 12:30:00.123",),
    "numbers => ?": ("ints=1,2,2",),
    "weights => MAP(ARRAY[1, ?], ARRAY[?, 0.25])": ("int=2", "double=0.75"),
    "class => ?": ("string=first",),
}
FOUR = "SELECT ticker, trade_date FROM daily_prices(ticker => ?, start_date => ?, end_date => ?) WHERE close > ?"


def shown(value: object) -> object:
    """A value of pyarrow as the Java program writes JDBC's."""
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)
    return str(value) if isinstance(value, Decimal) else value


QUESTIONS: dict[str, list[str]] = {
    **{f"query {sql}": ["query", sql] for sql in STATEMENTS},
    **{f"bound {i}": ["prepare", f"SELECT CAST(? AS {b[2]}) AS x", f"{b[0]}={b[1]}"] for i, b in enumerate(BOUND)},
    **{f"null {i}": ["prepare", f"SELECT CAST(? AS {b[2]}) AS x", "null"] for i, b in enumerate(BOUND)},
    "every": ["prepare", f"SELECT * FROM every_type({', '.join(EVERY)})", *itertools.chain(*EVERY.values())],
    "four": ["prepare", FOUR, "string=AAPL", "date=2013-02-25", "null", "double=441"],
    "again": ["again", "SELECT max(close) FROM daily_prices(?, DATE '2013-01-01')", "string=AAPL", "string=IBM"],
    "two": ["two", f"SELECT trade_date FROM {AAPL}", f"SELECT close FROM {AAPL} LIMIT 5"],
    "insert": ["update", "INSERT INTO reference.tb_meta VALUES (1)"],
    "batch": ["batch", "SELECT 1"],
    "unknown": ["query", "SELECT * FROM read_csv('/etc/passwd')"],
    "typed": ["prepare", "SELECT meta_id FROM reference.tb_meta WHERE meta_id = ?", "string=x"],
    "catalogs": ["catalogs"],
    "schemas": ["schemas", "", ""],
    "some schemas": ["schemas", "", "ref%"],
    "types": ["types"],
    "tables": ["tables", "", "", "", ""],
    "some tables": ["tables", "athena_flight", "datasets", "daily\\_prices", f"{CALLED},{TABLE}"],
    "columns": ["columns", "", "datasets", "daily_prices", "%"],
    "one column": ["columns", "", "reference", "tb_meta", "meta_id"],
    "primary": ["primary", "", "datasets", "daily_prices"],
    "imported": ["imported", "", "datasets", "daily_prices"],
    "exported": ["exported", "", "datasets", "daily_prices"],
    "cross": ["cross", "", "datasets", "daily_prices"],
    "typeinfo": ["typeinfo"],
    "getters": ["getters"],
    "timed": ["timed", "SELECT * FROM slow_count", "1"],
    "leave": ["leave", PAIRS],
    "cancel": ["cancel", PAIRS],
    "after": ["query", "SELECT 1 AS x"],
    "close": ["close"],
    "closed": ["query", "SELECT 1"],
    "our catalog": ["open", "{url}&catalog=athena_flight"],
    "its rows": ["query", f"SELECT count(*) FROM {AAPL}"],
    "no catalog": ["open", "{url}&catalog=other"],
}


def ask_all(jdbc: Jdbc, server: Counted) -> dict[str, Any]:
    """All questions, asked in one JVM, by their names. No query of theirs is left running."""
    url = url_of(server.server.port)
    found = jdbc.ask(url, [[part.replace("{url}", url) for part in question] for question in QUESTIONS.values()])
    until(lambda: server.server.flight.calls.count == 0)
    return dict(zip(QUESTIONS, found, strict=True))


@pytest.fixture(scope="module")
def answers(jdbc: Jdbc, sql_server: Counted) -> dict[str, Any]:
    return ask_all(jdbc, sql_server)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_rows_and_types_are_those_of_pyarrow(
    answers: dict[str, Any], sql_client: flight.FlightClient, sql: str
) -> None:
    expected = rows(sql_client, descriptor("CommandStatementQuery", query=sql))
    found = answers[f"query {sql}"]
    if not found["rows"]:
        # The driver (18.3.0) describes every column of an empty result twice (apache/arrow-java#44).
        assert found["columns"][len(expected.schema) :] == found["columns"][: len(expected.schema)]
        found["columns"] = found["columns"][: len(expected.schema)]
    assert [column[0] for column in found["columns"]] == expected.schema.names
    assert [column[1] for column in found["columns"]] == [NAMES[kind] for kind in expected.schema.types]
    assert found["rows"] == [[shown(value) for value in row.values()] for row in expected.to_pylist()]


@pytest.mark.parametrize("number", range(len(BOUND)))
def test_parameters_of_every_type_come_back_as_they_went(answers: dict[str, Any], number: int) -> None:
    assert answers[f"bound {number}"]["rows"] == [[BOUND[number][3]]]
    assert answers[f"null {number}"]["rows"] == [[None]]


def test_parameters_of_a_call_come_back_as_they_went(answers: dict[str, Any]) -> None:
    (row,) = answers["every"]["rows"]
    moment = "2024-02-29T12:30:00.123"
    assert row == [
        True, -7, 9007199254740993, 0.1, "12345.6789", "it's", "sell", "2024-02-29", moment, moment, 2, 0.25, "first",
    ]  # fmt: skip


def test_parameters_are_described_with_their_types(answers: dict[str, Any]) -> None:
    found = answers["four"]
    assert found["parameters"] == ["Utf8", "Date(DAY)", "Date(DAY)", "FloatingPoint(SINGLE)"]
    assert found["rows"] == [["AAPL", f"2013-02-{day}"] for day in (25, 26, 27, 28)]


def test_a_prepared_statement_is_run_again(answers: dict[str, Any], sql_client: flight.FlightClient) -> None:
    sql = "SELECT max(close) AS x FROM daily_prices('{}', DATE '2013-01-01')"
    expected = [
        rows(sql_client, descriptor("CommandStatementQuery", query=sql.format(ticker)))["x"][0].as_py()
        for ticker in ("AAPL", "IBM")
    ]
    assert [found["rows"][0][0] for found in answers["again"]] == expected


def test_two_results_are_open_at_once(answers: dict[str, Any], sql_client: flight.FlightClient) -> None:
    expected = rows(sql_client, descriptor("CommandStatementQuery", query=f"SELECT * FROM {AAPL}"))
    days, closes = expected["trade_date"].to_pylist(), expected["close"].to_pylist()[:5]
    assert answers["two"] == [[day.isoformat(), closes[i] if i < len(closes) else None] for i, day in enumerate(days)]


def test_errors_have_their_codes(answers: dict[str, Any]) -> None:
    assert "[sql-refused] only a SELECT is run, not INSERT" in answers["insert"]["error"]
    assert "[sql-refused] FROM takes datasets and tables" in answers["unknown"]["error"]
    assert "Int(32, true)" in answers["typed"]["error"]
    assert answers["insert"]["kind"] == "SQLException"
    assert "[unsupported] CommandPreparedStatementUpdate is not served" in answers["batch"]["error"]
    assert not any("Traceback" in str(answer) for answer in answers.values())


def test_metadata_is_walked(answers: dict[str, Any]) -> None:
    assert answers["catalogs"]["rows"] == [["athena_flight"]]
    names = ["analytics", "datasets", "market_data", "portfolio", "reference"]
    assert answers["schemas"]["rows"] == [[name, "athena_flight"] for name in names]
    assert answers["some schemas"]["rows"] == [["reference", "athena_flight"]]
    assert answers["types"]["rows"] == [[CALLED], [TABLE]]
    tables = [row[:4] for row in answers["tables"]["rows"]]
    assert ["athena_flight", "reference", "tb_meta", TABLE] in tables
    assert tables == sorted(tables)
    assert [row[:4] for row in answers["some tables"]["rows"]] == [
        ["athena_flight", "datasets", "daily_prices", CALLED]
    ]
    for name in ("imported", "exported", "cross"):
        assert answers[name]["rows"] == []
    assert [row[3:5] for row in answers["primary"]["rows"]] == [["ticker", 1], ["trade_date", 2]]
    assert "error" not in answers["typeinfo"]


def test_columns_have_names_types_and_remarks(answers: dict[str, Any]) -> None:
    # COLUMN_NAME, TYPE_NAME, NULLABLE, REMARKS, ORDINAL_POSITION.
    found = [[row[i] for i in (3, 5, 10, 11, 16)] for row in answers["columns"]["rows"]]
    assert found[:2] == [
        ["trade_date", "DATE", 0, "Trading day", 1],
        ["close", "REAL", 1, "Close as quoted that day", 2],
    ]
    assert [row[0] for row in found] == [
        "trade_date", "close", "adj_close", "gross_return", "ticker", "name", "sector",
    ]  # fmt: skip
    assert [row[3:6:2] for row in answers["one column"]["rows"]] == [["meta_id", "INTEGER"]]


def test_every_property_of_the_database_has_an_answer(answers: dict[str, Any]) -> None:
    found = answers["getters"]
    assert {name: value for name, value in found.items() if isinstance(value, dict)} == {}
    assert found["getDatabaseProductName"] == "athena-flight"
    assert found["getIdentifierQuoteString"] == '"'
    assert found["isReadOnly"] is True
    assert found["supportsTransactions"] is False
    assert found["supportsANSI92EntryLevelSQL"] is True
    assert found["supportsUnionAll"] is True
    assert found["nullsAreSortedAtEnd"] is True


def test_a_closed_connection_says_so(answers: dict[str, Any]) -> None:
    assert answers["close"] == "closed"
    assert answers["closed"]["kind"] == "SQLException"


def test_a_connection_may_name_the_catalog(answers: dict[str, Any]) -> None:
    assert answers["our catalog"] == "open"
    assert answers["its rows"]["rows"] == [[19]]
    assert "Cannot set session option for catalog" in answers["no catalog"]["error"]


def test_results_that_are_left_cancelled_or_late_free_their_queries(answers: dict[str, Any]) -> None:
    # `ask_all` has seen them end.
    assert answers["leave"] is True
    assert answers["cancel"] == "stopped"
    assert "timed out after 1 SECOND" in answers["timed"]["error"]
    assert answers["after"]["rows"] == [[1]]


def told(name: str, answer: Any) -> Any:
    """What must be the same whichever driver asks: rows, and codes of errors."""
    if isinstance(answer, dict) and "error" in answer:
        return re.findall(r"\[[a-z-]+\]", answer["error"])
    # What follows are remarks, and what drivers find worth saying of a type.
    parts = {"tables": 4, "some tables": 4, "columns": 6, "one column": 6}.get(name)
    return [row[:parts] for row in answer["rows"]] if isinstance(answer, dict) else answer


@pytest.mark.parametrize("version", OTHERS)
def test_another_driver_is_told_the_same(
    jdbc_with: JdbcWith, answers: dict[str, Any], sql_server: Counted, version: str
) -> None:
    found = ask_all(jdbc_with(version), sql_server)
    # Properties differ by driver; that each has an answer is enough.
    assert {name: value for name, value in found.pop("getters").items() if isinstance(value, dict)} == {}
    expected = {name: answers[name] for name in found}
    del found["again"], expected["again"]
    assert {name: told(name, each) for name, each in found.items()} == {
        name: told(name, each) for name, each in expected.items()
    }


@pytest.mark.parametrize("version", [NAMED, *OTHERS])
def test_a_password_is_needed_where_there_is_one(
    jdbc_with: JdbcWith, serve: Serve, tmp_path: Path, version: str
) -> None:
    hash_ = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("annannann")
    (tmp_path / "users.toml").write_text(f'[[user]]\nname = "ann"\nargon2 = "{hash_}"\nroles = []\n')
    port = serve(auth={"passwords": tmp_path / "users.toml"}).port
    questions = [
        ["query", f"SELECT count(*) FROM {AAPL}"],
        ["open", url_of(port, user="ann", password="wrong")],
        ["open", url_of(port)],
        ["query", "SELECT 1"],
    ]
    found, wrong, _, without = jdbc_with(version).ask(url_of(port, user="ann", password="annannann"), questions)
    assert found["rows"] == [[19]]
    assert "bad-credential" in wrong["error"]
    assert "no-credential" in without["error"]
