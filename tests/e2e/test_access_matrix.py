"""Credential x dataset x RPC: every cell is what the policy says. An RPC that is not in the table fails a test."""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import itertools
from collections.abc import Callable
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.server import Server
from flight_server.service.flight_sql import messages
from flight_server.service.rpc import FlightService
from tests.fix_identity import DATASETS, PASSWORD, STATIC, Client, Lake, code_of, unsigned
from tests.rpcs import IN_SQL, METADATA, OTHERS, REFUSED, RPCS, WRITES, Channel

Connect = Callable[[str], Client]
# What each good credential may see: datasets, and portfolios of `nav`.
EVERYTHING = {"nav", "secret_limits", "public_names"}
OPEN = {"nav", "public_names"}
GOOD: dict[str, tuple[set[str], set[int]]] = {
    "alice": (OPEN, {1, 2}),
    "bob": (OPEN, {3}),
    "carol": (EVERYTHING, {1, 2, 3, 4}),
    "dave": (OPEN, set()),
    "jwt rsa": (OPEN, {4}),
    "jwt ec": (OPEN, {4}),
    "jwt ed": (OPEN, {4}),
    "jwt risk": (EVERYTHING, {1, 2, 3, 4}),
    "jwt star": (OPEN, {4}),
    "session": (OPEN, {2}),
    "basic": (OPEN, {2}),
}
BAD = {
    "none": "no-credential",
    "garbage": "bad-credential",
    "unknown static": "bad-credential",
    "late": "expired-credential",
    "jwt expired": "expired-credential",
    "jwt audience": "bad-credential",
    "jwt issuer": "bad-credential",
    "jwt alg none": "bad-credential",
    "jwt hs256": "bad-credential",
    "jwt unsigned": "bad-credential",
    "session forged": "bad-credential",
    "ticket as token": "bad-credential",
    "wrong password": "bad-credential",
    "other scheme": "bad-credential",
}


def basic(name: str, password: str) -> str:

    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@pytest.fixture(scope="session")
def credentials(policed: Lake, connect: Connect) -> dict[str, str]:
    issuer = policed.issuer
    session = connect("").flight.authenticate_basic_token("erin", PASSWORD)[1].decode().removeprefix("Bearer ")
    issued = connect(STATIC["alice"]).info("nav").endpoints[0].ticket.ticket.decode()
    return {
        **STATIC,
        "jwt rsa": issuer.token(),
        "jwt ec": issuer.token("ec", "ES256"),
        "jwt ed": issuer.token("ed", "EdDSA"),
        "jwt risk": issuer.token(roles="risk other"),
        "jwt star": issuer.token(roles=["*"]),
        "session": session,
        "basic": basic("erin", PASSWORD),
        "none": "",
        "garbage": "Bearer \x7e~!garbage",
        "unknown static": "af_" + "y" * 43,
        "jwt expired": issuer.token(exp=1_600_000_000),
        "jwt audience": issuer.token(aud="another-service"),
        "jwt issuer": issuer.token(iss="https://issuer.example.evil"),
        "jwt alg none": unsigned({"alg": "none", "kid": "rsa"}, issuer.claims()),
        "jwt hs256": hs256(issuer.public_pem(), issuer.claims()),
        "jwt unsigned": issuer.token().rpartition(".")[0] + ".",
        "session forged": session[:-1] + ("0" if session[-1] != "0" else "1"),
        "ticket as token": issued,
        "wrong password": basic("erin", "wrong"),
        "other scheme": "Digest abc",
    }


def insecure(server: Server) -> Channel:
    return lambda: grpc.insecure_channel(f"localhost:{server.port}")


def hs256(key: bytes, claims: dict[str, Any]) -> str:
    """Signed with the public key as if it were a secret: what PyJWT refuses to make."""

    body = unsigned({"alg": "HS256", "kid": "rsa"}, claims).rstrip(".")
    return f"{body}.{base64.urlsafe_b64encode(hmac.digest(key, body.encode(), hashlib.sha256)).rstrip(b'=').decode()}"


def test_every_rpc_of_the_service_is_in_the_matrix() -> None:
    served = {name for name in dir(flight.FlightServerBase) if name in vars(FlightService)}
    served -= {"__init__", "__doc__", "__module__", "serve", "shutdown"}
    assert {name for name in served if not name.startswith("_")} <= {
        method for method, *_ in (*RPCS.values(), *OTHERS.values())
    }


def test_every_action_that_the_service_names_is_in_the_matrix(connect: Connect, credentials: dict[str, str]) -> None:
    client = connect(credentials["alice"])
    named = {action.type for action in client.flight.list_actions(client.options)}
    assert named <= {*RPCS, *OTHERS}


def test_every_flight_sql_command_is_in_the_matrix() -> None:
    queries = {"CommandStatementQuery", "CommandPreparedStatementQuery"}
    assert {name for name in messages._MESSAGES if name.startswith("Command")} == {*METADATA, *REFUSED, *queries}
    assert set(WRITES) < set(REFUSED)


@pytest.mark.parametrize(("rpc", "who"), list(itertools.product(RPCS, GOOD)))
def test_a_dataset_exists_for_whom_its_roles_let_in(
    connect: Connect, policed_server: Server, credentials: dict[str, str], rpc: str, who: str
) -> None:
    client = connect(credentials[who])
    said = {name: code_of(functools.partial(RPCS[rpc][1], client, name, insecure(policed_server))) for name in DATASETS}
    # In SQL, what is not there to be called is a refused statement.
    missing = "sql-refused" if rpc in IN_SQL else "unknown-dataset"
    assert said == {name: "ok" if name in GOOD[who][0] else missing for name in DATASETS}


@pytest.mark.parametrize(("rpc", "who"), list(itertools.product(OTHERS, GOOD)))
def test_a_good_credential_is_let_in_everywhere(
    connect: Connect, policed_server: Server, credentials: dict[str, str], rpc: str, who: str
) -> None:
    assert code_of(lambda: OTHERS[rpc][2](connect(credentials[who]), insecure(policed_server))) == OTHERS[rpc][1]


@pytest.mark.parametrize(("rpc", "who"), list(itertools.product({**RPCS, **OTHERS}, BAD)))
def test_a_bad_credential_is_refused_everywhere(
    connect: Connect, policed_server: Server, credentials: dict[str, str], rpc: str, who: str
) -> None:
    client, channel = connect(credentials[who]), insecure(policed_server)
    policed_server.flight.authentication._passwords._failures.clear()
    if rpc in RPCS:
        for name in [*DATASETS, "no_such_dataset"]:
            assert code_of(functools.partial(RPCS[rpc][1], client, name, channel)) == BAD[who]
    else:
        assert code_of(functools.partial(OTHERS[rpc][2], client, channel)) == BAD[who]


@pytest.mark.parametrize("who", GOOD)
def test_each_caller_sees_its_own_datasets_and_rows(connect: Connect, credentials: dict[str, str], who: str) -> None:
    client = connect(credentials[who])
    assert client.listed() == GOOD[who][0]
    tables = client.metadata("CommandGetTables", include_schema=True).to_pylist()
    assert {each["table_name"] for each in tables} & set(DATASETS) == GOOD[who][0]
    keys = client.metadata("CommandGetPrimaryKeys", table="secret_limits").num_rows
    assert keys == 0 or "secret_limits" in GOOD[who][0]
    assert client.ports() == GOOD[who][1]


@pytest.mark.parametrize(("issued_to", "used_by"), list(itertools.product(GOOD, GOOD)))
def test_an_issued_ticket_gives_its_user_only_the_users_rows(
    connect: Connect, credentials: dict[str, str], issued_to: str, used_by: str
) -> None:
    ticket = connect(credentials[issued_to]).info("nav").endpoints[0].ticket.ticket
    assert connect(credentials[used_by]).ports(ticket) == GOOD[used_by][1]


@pytest.mark.parametrize("who", GOOD)
def test_a_ticket_for_a_dataset_that_its_user_may_not_use_names_nothing(
    connect: Connect, credentials: dict[str, str], who: str
) -> None:
    ticket = connect(credentials["carol"]).info("secret_limits").endpoints[0].ticket.ticket
    expected = "ok" if "secret_limits" in GOOD[who][0] else "unknown-dataset"
    assert code_of(lambda: connect(credentials[who]).rows(ticket)) == expected


def test_a_hidden_dataset_answers_exactly_like_one_that_does_not_exist(connect: Connect) -> None:
    client = connect(STATIC["alice"])
    calls: list[Callable[[str], object]] = [
        client.info,
        client.rows,
        lambda name: client.action("describe", {"dataset": name}),
        lambda name: client.action("explain", {"dataset": name}),
        lambda name: client.action("submit", {"dataset": name}),
        lambda name: client.info(f"{name}?_version=2"),
        lambda name: client.sql(f"SELECT * FROM {name}()"),
        lambda name: client.sql(f"SELECT * FROM {name}(nothing => 1)"),
        lambda name: client.prepare(f"SELECT name FROM {name}() AS x"),
    ]
    for call in calls:
        texts = []
        for name in ("secret_limits", "secret_limitz"):
            with pytest.raises((flight.FlightError, pa.ArrowException, KeyError)) as caught:
                call(name)
            texts.append(str(caught.value).replace(name, "…"))
        assert texts[0] == texts[1]


def test_refusals_name_no_dataset_that_the_caller_may_not_use(connect: Connect) -> None:
    with pytest.raises(KeyError) as caught:
        connect(STATIC["alice"]).info("secret_limit")
    assert "secret_limits" not in str(caught.value)
    with pytest.raises(KeyError, match="secret_limits"):
        connect(STATIC["carol"]).info("secret_limit")


def test_get_schema_says_unauthenticated_on_the_wire(policed_server: Server) -> None:
    with grpc.insecure_channel(f"localhost:{policed_server.port}") as channel:
        method = channel.unary_unary("/arrow.flight.protocol.FlightService/GetSchema", bytes, bytes)
        with pytest.raises(grpc.RpcError) as caught:
            method(b"", metadata=[("authorization", "Bearer nothing")], timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details().startswith("[bad-credential] ")
