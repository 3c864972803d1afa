"""Fixtures about SQL: servers of the demo's datasets that count what they run, and ADBC connections to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import adbc_driver_flightsql.dbapi as adbc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.model import Engine, EngineName, Execution, Plan, StoredResult
from flight_server.server import Server
from flight_server.service.flight_sql import messages
from tests.fix_server import Serve

# Nineteen rows, and their statement in the other encodings of a request.
AAPL = "daily_prices(ticker => 'AAPL', start_date => DATE '2010-01-04', end_date => DATE '2010-01-29')"


@dataclass
class Counting:
    """An engine that answers as another one does, and counts the plans that were started."""

    inner: Engine
    started: list[Plan] = field(default_factory=list)

    @property
    def name(self) -> EngineName:
        return self.inner.name

    @property
    def keeps(self) -> Literal["nothing", "here", "shared"]:
        return self.inner.keeps

    def start(self, plan: Plan) -> Execution:
        self.started.append(plan)
        return self.inner.start(plan)

    def stored(self, plan: Plan) -> StoredResult | None:
        return self.inner.stored(plan)

    def ping(self) -> None:
        self.inner.ping()

    def close(self) -> None:
        self.inner.close()


def count(engines: dict[EngineName, Engine]) -> Counting:
    """Count the executions of the first engine of a pipeline or server from now on."""
    name = next(iter(engines))
    counting = Counting(engines[name])
    engines[name] = counting
    return counting


@dataclass(frozen=True)
class Counted:
    """A running server, and the plans that it has executed."""

    server: Server
    engine: Counting

    @property
    def url(self) -> str:
        return f"grpc://localhost:{self.server.port}"


@pytest.fixture(scope="session")
def sql_server(serve_session: Serve, client_datasets: Path) -> Counted:
    """The demo's datasets and those of tests/clients; SQL may name tables, as in the demo. Not to be changed."""
    server = serve_session(client_datasets, sql={"ad_hoc_roles": ("*",)}, server={"heartbeat_s": 0.2})
    return Counted(server, count(server.engines))


@pytest.fixture(scope="session")
def closed_server(serve_session: Serve, client_datasets: Path) -> Counted:
    """The same with the default settings: SQL may name datasets only."""
    server = serve_session(client_datasets)
    return Counted(server, count(server.engines))


@pytest.fixture
def sql_client(sql_server: Counted) -> Iterator[flight.FlightClient]:
    with flight.connect(sql_server.url) as opened:
        yield opened


Connect = Callable[..., Any]


@pytest.fixture
def adbc_connect() -> Iterator[Connect]:
    """Open ADBC connections that are closed when the test ends: `adbc_connect(url, username="alice")`."""
    with ExitStack() as stack:

        def connect(url: str, **options: str) -> Any:
            return stack.enter_context(adbc.connect(url, db_kwargs=options, autocommit=True))

        yield connect


@pytest.fixture
def adbc_connection(adbc_connect: Connect, sql_server: Counted) -> Any:
    return adbc_connect(sql_server.url)


@pytest.fixture
def cursor(adbc_connection: Any) -> Iterator[Any]:
    with adbc_connection.cursor() as opened:
        yield opened


def descriptor(name: str, **fields: object) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(messages.pack(name, **fields))


def prepare(client: flight.FlightClient, sql: str) -> Any:
    body = messages.pack("ActionCreatePreparedStatementRequest", query=sql)
    (result,) = client.do_action(flight.Action("CreatePreparedStatement", body))
    name, found = messages.unpack(result.body.to_pybytes())
    assert name == "ActionCreatePreparedStatementResult"
    return found


def rows(client: flight.FlightClient, asked: flight.FlightDescriptor) -> pa.Table:
    (endpoint,) = client.get_flight_info(asked).endpoints
    return client.do_get(endpoint.ticket).read_all()
