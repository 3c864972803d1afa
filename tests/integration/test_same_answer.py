"""The example of every dataset, asked through every way in from Python and by JDBC: the same rows and types.

The Java client's tests hold its rows and types against the same server's.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import flight_client
from flight_server.model import Dataset, Value, to_json
from tests.fix_jdbc import Jdbc, url_of
from tests.fix_sql import Counted, descriptor
from tests.fix_sql import rows as by_statement
from tests.integration.test_jdbc import NAMES, shown

DATASETS = sorted(path.stem for path in (Path(__file__).parents[2] / "sql").glob("*.sql"))


def literal(value: Any) -> str:
    """The value as SQL."""
    if isinstance(value, tuple) and isinstance(value[0], tuple):
        keys, items = zip(*value, strict=True)
        return f"MAP({literal(keys)}, {literal(items)})"
    if isinstance(value, tuple):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    if isinstance(value, dt.date):
        return f"DATE '{value}'"
    return f"'{value}'" if isinstance(value, str) else str(value)


def example(dataset: Dataset) -> Mapping[str, Value]:
    return {name: each.example for name, each in dataset.params.items() if each.example is not None}


def statement(dataset: Dataset) -> str:
    given = ", ".join(f"{name} => {literal(value)}" for name, value in example(dataset).items())
    return f"SELECT * FROM {dataset.name}({given})"


def asked_in_python(server: Counted, client: flight.FlightClient, cursor: Any, dataset: Dataset) -> Iterator[pa.Table]:
    """The answer by pyarrow's ticket and plan, as a statement, by the client, and by ADBC with and without parameters."""
    params = {name: to_json(value) for name, value in example(dataset).items()}
    body = json.dumps({"dataset": dataset.name, "params": params}).encode()
    yield client.do_get(flight.Ticket(body)).read_all()
    yield by_statement(client, flight.FlightDescriptor.for_command(body))
    yield by_statement(client, descriptor("CommandStatementQuery", query=statement(dataset)))
    with flight_client.connect(server.url) as db:
        yield db[dataset.name](**{name: dict(v) if _is_map(v) else v for name, v in example(dataset).items()}).arrow()
    cursor.execute(statement(dataset))
    yield cursor.fetch_arrow_table()
    marks = ", ".join(f"{name} => ?" for name in params)
    schema = cursor.adbc_prepare(f"SELECT * FROM {dataset.name}({marks})")
    values = [[list(v) if isinstance(v, tuple) else v] for v in example(dataset).values()]
    cursor.execute(f"SELECT * FROM {dataset.name}({marks})", pa.record_batch(values, schema=schema))
    yield cursor.fetch_arrow_table()


def _is_map(value: Any) -> bool:
    return isinstance(value, tuple) and isinstance(value[0], tuple)


def same(one: list[list[Any]], other: list[list[Any]]) -> bool:
    """Equal but for the last digits of floats: engines add them up in another order each time."""
    return len(one) == len(other) and all(
        math.isclose(a, b, rel_tol=1e-5) if isinstance(a, float) and isinstance(b, float) else a == b
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def rows(table: pa.Table) -> list[list[Any]]:
    return [list(row.values()) for row in table.to_pylist()]


@pytest.fixture(scope="module")
def datasets(sql_server: Counted) -> dict[str, Dataset]:
    return {name: sql_server.server.pipeline.registry.latest(name) for name in DATASETS}


@pytest.mark.parametrize("name", DATASETS)
def test_every_way_of_python_gives_the_same(
    datasets: dict[str, Dataset], sql_server: Counted, sql_client: flight.FlightClient, cursor: Any, name: str
) -> None:
    first, *others = asked_in_python(sql_server, sql_client, cursor, datasets[name])
    assert first.schema == datasets[name].schema
    assert len(others) == 5
    for other in others:
        assert other.schema.equals(first.schema, check_metadata=True)
        assert same(rows(other), rows(first))


def test_jdbc_gives_the_same(
    datasets: dict[str, Dataset], jdbc: Jdbc, sql_server: Counted, sql_client: flight.FlightClient
) -> None:
    answers = jdbc.ask(url_of(sql_server.server.port), [["query", statement(dataset)] for dataset in datasets.values()])
    read = 0
    for dataset, found in zip(datasets.values(), answers, strict=True):
        expected = by_statement(sql_client, descriptor("CommandStatementQuery", query=statement(dataset)))
        if expected.num_rows:
            # An empty result is described twice by the driver: test_jdbc.py.
            assert [column[1] for column in found["columns"]] == [NAMES[kind] for kind in expected.schema.types]
        assert same(found["rows"], [[shown(value) for value in row] for row in rows(expected)])
        read += expected.num_rows
    assert read > 500
