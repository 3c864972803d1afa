"""Errors: the server's code and message and nothing of gRPC's, for every code and every call."""

from __future__ import annotations

import inspect
import re
import socket
import sys
from pathlib import Path

import pyarrow.flight as flight
import pytest

import flight_client
from flight_client import Connection, FlightDataError, errors
from flight_server import errors as servers
from flight_server.server import Server
from flight_server.service import status
from tests.clients.peer import Peer, failing, giving
from tests.fix_identity import certificates

# Words of gRPC, pyarrow and Python that no message may have.
NOISE = ("gRPC", "Detail", "Flight returned", "debug context", "Python exception", "Traceback", "IOError")


@pytest.mark.parametrize("code", servers.CODES)
@pytest.mark.parametrize("place", ["info", "first", "later"])
def test_every_code_arrives_as_its_class_with_its_message(
    code: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flight_client._transport.RETRY_TOTAL_S", 0)
    message = "daily_prices.x = 'a. Detail: b' [not-a-code] is no value; write [1, 2]. It takes x"
    kind = servers.CODES[code]
    raised = kind(message) if kind in (servers.EngineFailed, servers.ContractViolated) else kind(code, message)
    wire = status.to_wire(raised)
    with Peer(failing(wire, *([1] if place == "later" else []))) as peer:
        query = flight_client.connect(peer.url).numbers()
        if place == "info":
            peer.refusals = [wire]
        with pytest.raises(FlightDataError) as caught:
            query.arrow()
    assert (caught.value.code, caught.value.message) == (code, message)
    assert str(caught.value) == f"[{code}] {message}"
    assert type(caught.value).__name__ == {"EngineFailed": "ServerError", "ContractViolated": "ServerError"}.get(
        kind.__name__, kind.__name__
    )


def test_the_tree_has_every_code_of_the_server() -> None:
    assert set(servers.CODES) | {"unreachable", "connection-lost", "incomplete", "unexpected"} == set(errors.CODES)


def test_the_tree_is_drawn_as_it_is() -> None:
    names = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, FlightDataError)}
    assert errors.__doc__ is not None
    for name in names:
        assert name in errors.__doc__


def test_a_code_of_a_later_server_keeps_its_status() -> None:
    with Peer(giving(1)) as peer:
        query = flight_client.connect(peer.url).numbers()
        for raised, kind in (
            (flight.FlightUnauthorizedError("[not-on-sundays] come back"), flight_client.Denied),
            (status.InvalidArgument("[odd] no"), flight_client.InvalidRequest),
            (status.Missing("[gone] no"), flight_client.NotFound),
            (flight.FlightInternalError("[worse] no"), flight_client.ServerError),
        ):
            peer.refusals = [raised]
            with pytest.raises(kind) as caught:
                query.plan()
            assert type(caught.value) is kind
            assert caught.value.code in str(raised)


def test_an_answer_without_a_code_is_unexpected() -> None:
    with Peer(giving(1)) as peer:
        query = flight_client.connect(peer.url).numbers()
        peer.refusals = [flight.FlightServerError("something else")]
        with pytest.raises(flight_client.ServerError) as caught:
            query.plan()
        assert (caught.value.code, caught.value.message) == ("unexpected", "something else")


@pytest.mark.parametrize("credential", [{}, {"user": "erin", "password": "secret"}], ids=["no login", "login"])
def test_nobody_there_is_one_line_without_noise(credential: dict[str, str]) -> None:
    with pytest.raises(flight_client.Unavailable) as caught:
        flight_client.connect("grpc://localhost:1", **credential)
    assert caught.value.code == "unreachable"
    assert "server; does it run there: " in caught.value.message
    assert "Connection refused" in caught.value.message
    assert "\n" not in str(caught.value)
    assert not any(word in str(caught.value) for word in NOISE)


def test_an_address_that_is_nearly_right_says_what_to_write(client_server: Server, tmp_path: Path) -> None:
    files = certificates(tmp_path)
    pair = flight.CertKeyPair(Path(files["server_pem"]).read_bytes(), Path(files["server_key"]).read_bytes())
    with Peer(location="grpc+tls://localhost:0", tls_certificates=[pair]) as tls:
        for address, said in (
            (f"grpc+tls://localhost:{client_server.port}", "it speaks no TLS, write grpc://"),
            (f"grpc://localhost:{tls.port}", "if it speaks TLS, write grpc+tls://"),
            (f"grpc+tls://localhost:{tls.port}", "tls_roots names the PEM file"),
            (f"grpc://localhost:{client_server.http.port}", "this is not the port of Flight"),
        ):
            with pytest.raises(flight_client.Unavailable, match=re.escape(said)):
                flight_client.connect(address)


@pytest.mark.parametrize("credential", [{}, {"user": "erin", "password": "secret"}], ids=["no login", "login"])
def test_a_server_that_says_nothing_is_given_up(credential: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flight_client._transport.CALL_TIMEOUT_S", 0.5)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises((flight_client.TimedOut, flight_client.Unavailable)),
    ):
        flight_client.connect(f"grpc://127.0.0.1:{silent.getsockname()[1]}", **credential)


@pytest.mark.parametrize(("library", "method"), [("polars", "pl"), ("pandas", "df"), ("duckdb", "duck")])
def test_a_library_that_is_missing_is_named(
    library: str, method: str, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    query = db.daily_prices("AAPL", "2010-01-04")
    with pytest.raises(ModuleNotFoundError, match=f"^this needs {library}: pip install {library}$"):
        getattr(query, method)(*(["FROM this"] if method == "duck" else []))


def test_errors_of_a_real_server_have_no_noise(db: Connection) -> None:
    asked = (
        lambda: db.daily_prices("a b", "2010-01-04").plan(),
        lambda: db.daily_prices("a b", "2010-01-04").arrow(),
        lambda: db.daily_prices("a b", "2010-01-04").explain(),
        lambda: db.daily_prices("a b", "2010-01-04").submit(),
        lambda: db.submission("none").status(),
        lambda: db.dataset("daily_prices", version=9).contract,
    )
    for ask in asked:
        with pytest.raises(FlightDataError) as caught:
            ask()
        assert not any(word in str(caught.value) for word in NOISE)
        assert caught.value.__cause__ is None
        assert caught.value.code in servers.CODES


@pytest.mark.parametrize("address", ["http://localhost:8815", "localhost:8815", "grpc://"])
def test_an_address_that_is_none_says_how_to_write_it(address: str) -> None:
    with pytest.raises(flight_client.FlightDataError, match="write the address as grpc://localhost:8815") as caught:
        flight_client.connect(address)
    assert caught.value.code == "bad-request"


def test_a_pem_file_that_is_not_there_is_named() -> None:
    with pytest.raises(flight_client.FlightDataError, match="cannot read the PEM file '/nowhere/ca.pem'"):
        flight_client.connect("grpc+tls://localhost:1", tls_roots="/nowhere/ca.pem")
