"""A BI tool runs a statement again for every page of rows: it is planned once, and on Athena it is one query."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server import server as servers
from flight_server.model import ANONYMOUS, Plan, Request
from flight_server.server import Server
from tests.fakes.aws import LocalAws
from tests.fix_served import IDS, Labs
from tests.fix_server import Serve
from tests.fix_sql import Counted, descriptor
from tests.waiting import until

JOINED = """SELECT a.trade_date, a.close, b.close FROM daily_prices(?, DATE '2010-01-04') AS a
JOIN daily_prices('IBM', DATE '2010-01-04') AS b ON a.trade_date = b.trade_date WHERE a.close > ?"""


def plan(server: Server, sql: str, **params: object) -> Plan:
    return server.pipeline.plan(Request("", sql=sql, params=params), ANONYMOUS)


def test_an_equal_statement_is_planned_once(sql_server: Counted) -> None:
    values: dict[str, object] = {"1": "AAPL", "2": 200.5}
    first, again = plan(sql_server.server, JOINED, **values), plan(sql_server.server, JOINED, **values)
    # The very plan, not one like it.
    assert again.dataset is first.dataset
    assert again.bound_sql is first.bound_sql
    assert again.pins is first.pins


@pytest.mark.parametrize("values", [{"1": "AAPL", "2": 200}, {"1": "AAPL", "2": 201.5}, {"1": "IBM", "2": 200.5}])
def test_other_values_are_another_plan(sql_server: Counted, values: dict[str, object]) -> None:
    first = plan(sql_server.server, JOINED, **{"1": "AAPL", "2": 200.5})
    other = plan(sql_server.server, JOINED, **values)
    assert other.bound_sql != first.bound_sql
    assert other.fingerprint != first.fingerprint


@pytest.fixture
def athena_server(labs: Labs) -> Iterator[Server]:
    server = servers.build(labs.configure({"ids": IDS}, sql={"ad_hoc_roles": ("*",)}))
    servers.start_in_thread(server)
    yield server
    server.stop(0)


def page(cursor: Any, sql: str, parameters: Any, skipped: int, rows: int) -> list[Any]:
    """As DBeaver does: the statement anew, rows before the page thrown away, the rest left unread."""
    cursor.execute(sql, parameters)
    reader = cursor.fetch_record_batch()
    found: list[Any] = []
    for batch in reader:
        found += batch.to_pylist()
        if len(found) >= skipped + rows:
            break
    return found[skipped : skipped + rows]


def test_pages_of_a_statement_are_one_query_on_athena(athena_server: Server, aws: LocalAws) -> None:
    sql = "SELECT i.id, i.price * 2 AS twice FROM ids(?) AS i WHERE i.id <> ? ORDER BY i.id"
    before = aws.athena.state()["calls"].get("StartQueryExecution", 0)
    pages = []
    for number in range(4):
        # A connection of its own, as an application that was restarted has one.
        url = f"grpc://localhost:{athena_server.port}"
        with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            if number == 0:
                # A page that is left before the query has ended would stop it; the first one is read whole.
                cursor.execute(sql, [100, 150])
                whole = cursor.fetch_arrow_table().to_pylist()
            pages.append(page(cursor, sql, [100, 150], number * 100, 100))
    assert [len(each) for each in pages] == [100, 100, 100, 100]
    assert list(itertools.chain(*pages)) == whole[:400]
    assert aws.athena.state()["calls"]["StartQueryExecution"] == before + 1
    until(lambda: athena_server.flight.calls.count == 0)


@pytest.fixture
def duckdb_server(serve: Serve) -> Server:
    return serve()


@pytest.mark.parametrize(
    ("engine", "sql"),
    [
        pytest.param(
            "athena_server", "SELECT i.id FROM ids(first => 590) AS i WHERE i.id > 591", marks=pytest.mark.aws
        ),
        ("duckdb_server", "SELECT p.close FROM daily_prices('AAPL', DATE '2013-01-02') AS p WHERE p.close > 500"),
    ],
)
def test_a_kept_statement_says_so_and_how_many_rows_it_has(
    request: pytest.FixtureRequest, engine: str, sql: str
) -> None:
    asked = descriptor("CommandStatementQuery", query=sql)
    with flight.connect(f"grpc://localhost:{request.getfixturevalue(engine).port}") as client:
        first = client.get_flight_info(asked)
        rows: pa.Table = client.do_get(first.endpoints[0].ticket).read_all()
        again = client.get_flight_info(asked)
    assert [json.loads(info.app_metadata)["cache"] for info in (first, again)] == ["miss", "hit"]
    assert (first.total_records, again.total_records) == (-1, rows.num_rows)
