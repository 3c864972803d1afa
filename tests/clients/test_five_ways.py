"""The same question through pyarrow, flight_client, Java, ADBC and JDBC: the same rows, the same types.

Questions over every type of parameter and of column, in all ways; and for Java the examples of all datasets, which
tests/integration/test_same_answer.py asks in the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import flight_client
from flight_server.model import to_json
from tests.fix_java import JavaClient
from tests.fix_jdbc import Jdbc, url_of
from tests.fix_sql import Connect, Counted
from tests.integration.test_jdbc import NAMES, shown
from tests.integration.test_same_answer import DATASETS, example, rows, same

# JDBC's words for what has more than one type of Arrow behind it.
_FAMILIES = {"decimal128": "DECIMAL", "list": "ARRAY", "map": "JAVA_OBJECT", "struct": "JAVA_OBJECT"}


@dataclass(frozen=True)
class Question:
    """One question: `params` as JSON for the clients, `sql` as the arguments of the dataset's call; rows where known."""

    name: str
    dataset: str
    params: dict[str, object]
    sql: str
    rows: int | None


QUESTIONS = [
    Question(
        "prices",
        "daily_prices",
        {"ticker": "AAPL", "start_date": "2010-01-04", "end_date": "2010-01-29"},
        "ticker => 'AAPL', start_date => DATE '2010-01-04', end_date => DATE '2010-01-29'",
        19,
    ),
    Question(
        "none",
        "daily_prices",
        {"ticker": "AAPL", "start_date": "2030-01-01"},
        "ticker => 'AAPL', start_date => DATE '2030-01-01'",
        0,
    ),
    Question(
        "list",
        "price_history",
        {"meta_ids": [1, 4, 5], "start_date": "2012-06-01"},
        "meta_ids => ARRAY[1, 4, 5], start_date => DATE '2012-06-01'",
        561,
    ),
    Question(
        "map",
        "basket_value",
        {"weights": {"1": 0.6, "5": -0.4}, "start_date": "2013-01-02"},
        "weights => MAP(ARRAY[1, 5], ARRAY[0.6, -0.4]), start_date => DATE '2013-01-02'",
        41,
    ),
    Question(
        "every_parameter",
        "every_type",
        {
            "flag": True,
            "small": -7,
            "large": 9007199254740993,
            "ratio": 0.1,
            "amount": "12345.6789",
            "word": "it's ; -- ? \\ 삼성 𝔸",
            "side": "sell",
            "day": "2024-02-29",
            "moment": "2024-02-29T12:30:00.123456",
            "instant": "2024-02-29T12:30:00.000001Z",
            "numbers": [1, 4, 99],
            "weights": {"1": 0.6, "2": 0.4},
        },
        "true, -7, 9007199254740993, 0.1, DECIMAL '12345.6789', 'it''s ; -- ? \\ 삼성 𝔸', 'sell', DATE '2024-02-29', "
        "TIMESTAMP '2024-02-29 12:30:00.123456', CAST('2024-02-29T12:30:00.000001Z' AS TIMESTAMP WITH TIME ZONE), "
        "ARRAY[1, 4, 99], MAP(ARRAY[1, 2], ARRAY[0.6, 0.4])",
        1,
    ),
    Question("every_column", "every_column", {}, "last => 3", 3),
]
each_question = pytest.mark.parametrize("question", QUESTIONS, ids=[question.name for question in QUESTIONS])


@pytest.fixture
def raw(sql_client: flight.FlightClient) -> Any:
    """The answers of pyarrow alone, which the others are held against: `raw(question)`."""

    def ask(question: Question) -> pa.Table:
        request = {"dataset": question.dataset, "params": question.params}
        found = sql_client.do_get(flight.Ticket(json.dumps(request).encode())).read_all()
        assert question.rows in (None, found.num_rows)
        return found

    return ask


@pytest.fixture
def db(sql_server: Counted) -> Iterator[flight_client.Connection]:
    with flight_client.connect(sql_server.url) as opened:
        yield opened


def statement(question: Question) -> str:
    return f"SELECT * FROM {question.dataset}({question.sql})"


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """The same rows in the same order, types, nullability, documentation and all."""
    assert found.schema.equals(expected.schema, check_metadata=True), f"{found.schema}\nis not\n{expected.schema}"
    assert found.to_pylist() == expected.to_pylist()


@each_question
def test_flight_client(question: Question, raw: Any, db: flight_client.Connection) -> None:
    assert_same(db.dataset(question.dataset)(**question.params).arrow(), raw(question))


@each_question
def test_adbc(question: Question, raw: Any, adbc_connect: Connect, sql_server: Counted) -> None:
    with adbc_connect(sql_server.url).cursor() as cursor:
        cursor.execute(statement(question))
        assert_same(cursor.fetch_arrow_table(), raw(question))


def test_java(
    java_client: JavaClient, sql_server: Counted, raw: Any, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    examples = [example_of(sql_server, name) for name in DATASETS]
    asked = tmp_path / "questions.json"
    asked.write_text(json.dumps([asdict(question) for question in [*QUESTIONS, *examples]]), encoding="utf-8")
    java_client.run("io.athenaflight.client.AnswersToFiles", sql_server.url, str(asked), str(tmp_path))
    for question in [*QUESTIONS, *examples]:
        with subtests.test(question.name), pa.ipc.open_stream(tmp_path / f"{question.name}.arrows") as reader:
            found, expected = reader.read_all(), raw(question)
            if question in QUESTIONS:
                assert_same(found, expected)
            # Sums of floats differ in their last digits from run to run.
            assert found.schema.equals(expected.schema, check_metadata=True)
            assert same(rows(found), rows(expected))


def example_of(server: Counted, name: str) -> Question:
    dataset = server.server.pipeline.registry.latest(name)
    return Question(name, name, {key: to_json(value) for key, value in example(dataset).items()}, "", None)


def test_jdbc(jdbc: Jdbc, sql_server: Counted, raw: Any, subtests: pytest.Subtests) -> None:
    statements = [["query", statement(question)] for question in QUESTIONS]
    answers = jdbc.ask(url_of(sql_server.server.port), statements)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        with subtests.test(question.name):
            expected = raw(question)
            # The driver (18.3.0) describes every column of an empty result twice (apache/arrow-java#44), and none as
            # nullable.
            columns = [column[:2] for column in answer["columns"][: len(expected.schema)]]
            assert columns == [[field.name, jdbc_type(field.type)] for field in expected.schema]
            values = [[shown(value) for value in row.values()] for row in expected.to_pylist()]
            assert comparable(expected.schema, answer["rows"]) == comparable(expected.schema, values)


def jdbc_type(kind: pa.DataType) -> str:
    return NAMES.get(kind) or _FAMILIES[str(kind).partition("(")[0].partition("<")[0]]


def comparable(schema: pa.Schema, rows: list[list[Any]]) -> list[list[Any]]:
    return [[canonical(kind, value) for kind, value in zip(schema.types, row, strict=True)] for row in rows]


def canonical(kind: pa.DataType, value: Any) -> Any:
    """A value of the JDBC program, or of `shown`, without what JDBC cannot say: zeros of decimals, nulls of fields."""
    if value is None:
        return None
    if pa.types.is_decimal(kind):
        return Decimal(value)
    if pa.types.is_map(kind) or pa.types.is_struct(kind):
        # The driver makes maps of both, and leaves out what is null in a struct.
        return {key: item for key, item in dict(value).items() if item is not None}
    return value
