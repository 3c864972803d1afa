"""Fixtures about the Flight server: real ones in this process on free ports, and calls that see all of gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import pyarrow.flight as flight
import pytest

from flight_server import config
from flight_server import server as servers
from flight_server.server import Server
from tests.wire import ASKED, action, command, ticket

__all__ = ["ASKED", "action", "command", "ticket"]

SQL = Path(__file__).parents[1] / "sql"


class Serve(Protocol):
    """Start a server over the demo tables: `serve(limits={"calls_max": 1}, datasets=folder)`."""

    def __call__(self, datasets: Path = SQL, **sections: dict[str, Any]) -> Server: ...


@pytest.fixture(scope="session")
def serve_session(demo_config: config.Config) -> Iterator[Serve]:
    """Servers that run until the session ends."""
    yield from _serving(demo_config)


@pytest.fixture
def serve(demo_config: config.Config) -> Iterator[Serve]:
    """Servers that run until the test ends."""
    yield from _serving(demo_config)


def _serving(demo: config.Config) -> Iterator[Serve]:
    running: list[Server] = []

    def start(datasets: Path = SQL, **sections: dict[str, Any]) -> Server:
        server = {"port": 0, "ticket_secret": "of the tests", **sections.pop("server", {})}
        catalog = demo.catalog.model_dump()
        found = config.load(None, server=server, datasets={"directory": datasets}, catalog=catalog, **sections)
        running.append(servers.build(found))
        servers.start_in_thread(running[-1])
        return running[-1]

    yield start
    for server in running:
        server.stop(0)


@pytest.fixture(scope="session")
def demo_server(serve_session: Serve) -> Server:
    """A server of the repository's datasets over the demo tables. Not to be changed."""
    return serve_session()


@pytest.fixture
def client(demo_server: Server) -> Iterator[flight.FlightClient]:
    """A client of `demo_server` with nothing but pyarrow."""
    with connect(demo_server) as opened:
        yield opened


def connect(server: Server) -> flight.FlightClient:
    return flight.connect(f"grpc://localhost:{server.port}")


@dataclass(frozen=True)
class Reply:
    """All that gRPC says about a finished call; pyarrow's client shows neither the code's number nor trailers."""

    messages: list[bytes]
    code: grpc.StatusCode
    details: str
    trailers: dict[str, str]


def raw(server: Server, method: str, body: bytes, timeout_s: float = 20.0, token: str = "") -> Reply:
    """Call a Flight RPC that answers with a stream or one message, with a protobuf body made by hand."""
    headers = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        call = channel.unary_stream(f"/arrow.flight.protocol.FlightService/{method}")(
            body, timeout=timeout_s, metadata=headers
        )
        messages: list[bytes] = []
        with contextlib.suppress(grpc.RpcError):
            messages.extend(call)
        trailers = {key: value for key, value in call.trailing_metadata() or () if isinstance(value, str)}
        return Reply(messages, call.code(), call.details() or "", trailers)


def folder_of(path: Path, **files: str) -> Path:
    """A folder with the dataset files `name.sql`."""
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / f"{name}.sql").write_text(content)
    return path


Write = Callable[..., Path]


@pytest.fixture
def datasets(tmp_path: Path) -> Write:
    """Write a folder of dataset files: `datasets(big="…")`."""
    return lambda **files: folder_of(tmp_path / "sql", **files)


def dataset(sql: str, columns: str = 'x = { type = "int64" }', **tables: str) -> str:
    """The text of a dataset file; each keyword is a TOML table of its contract."""
    rest = "".join(f"[{name}]\n{content}\n" for name, content in tables.items())
    header = f'title = "Test"\n[columns]\n{columns}\n{rest}'
    return "\n".join(("-- /// dataset", *(f"-- {line}" for line in header.splitlines()), "-- ///", sql, ""))
