"""Every RPC, action and Flight SQL command of the service, as calls that tests/e2e/test_access_*.py make.

`RPCS` are about a dataset, `OTHERS` about none. One that is missing here fails a test there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight

from flight_server.service.flight_sql import messages, service
from tests.fix_identity import Client

# Opens a bare gRPC channel to the server in question.
Channel = Callable[[], grpc.Channel]


def descriptor(dataset: str) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(dataset.encode())


def command(name: str, **fields: object) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(messages.pack(name, **fields))


def raw_action(name: str, message: str, client: Client, _: Channel) -> None:
    """An action of Flight or Flight SQL with an empty message."""
    body = b""
    if message:
        body = messages.pack(message) if message.startswith("Action") else messages.new(message).SerializeToString()
    list(client.flight.do_action(flight.Action(name, body), client.options))


def metadata_of(client: Client) -> list[tuple[str, str]]:
    value = client.credential if " " in client.credential else f"Bearer {client.credential}"
    return [("authorization", value)] if client.credential else []


def bare(client: Client, channel: Channel, method: str, request: bytes) -> object:
    """A method of Flight by a bare gRPC client, for those that pyarrow's client does not have."""
    with channel() as opened:
        path = f"/arrow.flight.protocol.FlightService/{method}"
        options = {"metadata": metadata_of(client), "timeout": 30}
        try:
            if method == "Handshake":
                return list(opened.stream_stream(path, bytes, bytes)(iter([request]), **options))
            return opened.unary_unary(path, bytes, bytes)(request, **options)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise NotImplementedError("[unsupported]") from error
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            raise flight.FlightUnauthenticatedError(error.details()) from error


def put(client: Client) -> None:
    writer, reader = client.flight.do_put(descriptor("x"), pa.schema([("a", pa.int32())]), client.options)
    with writer:
        writer.done_writing()
        reader.read()


def exchange(client: Client) -> None:
    writer, reader = client.flight.do_exchange(descriptor("x"), client.options)
    with writer:
        writer.begin(pa.schema([("a", pa.int32())]))
        writer.done_writing()
        reader.read_chunk()


def bound(client: Client, dataset: str) -> list[dict[str, Any]]:
    """A prepared statement whose parameter is put, as ADBC and JDBC do."""
    sql = f"SELECT * FROM {dataset}() LIMIT ?"
    return client.prepared(bind(client, client.prepare(sql).prepared_statement_handle))


def bind(client: Client, handle: bytes) -> bytes:
    """The handle with a value for its only parameter."""
    asked = command("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    values = pa.record_batch({"1": pa.array([9], pa.int64())})
    writer, reader = client.flight.do_put(asked, values.schema, client.options)
    with writer:
        writer.write_batch(values)
        writer.done_writing()
        answer = reader.read()
    return bytes(messages.parse("DoPutPreparedStatementResult", answer.to_pybytes()).prepared_statement_handle)


def put_command(name: str, client: Client, _: Channel) -> None:
    writer, reader = client.flight.do_put(command(name), pa.schema([("a", pa.int32())]), client.options)
    with writer:
        writer.done_writing()
        reader.read()


def wrapped(client: Client, dataset: str) -> list[dict[str, Any]]:
    """A ticket inside of a TicketStatementQuery, as some drivers send it."""
    ticket = client.info(f'{{"sql": "SELECT * FROM {dataset}()"}}').endpoints[0].ticket.ticket
    return client.rows(messages.pack("TicketStatementQuery", statement_handle=ticket))


# What each RPC says about a dataset: `ok` or a code. `server` is the method of FlightService that it exercises.
RPCS: dict[str, tuple[str, Callable[[Client, str, Channel], object]]] = {
    "GetSchema": ("get_schema", lambda c, d, _: c.flight.get_schema(descriptor(d), c.options)),
    "GetSchema of SQL": (
        "get_schema",
        lambda c, d, _: c.flight.get_schema(command("CommandStatementQuery", query=f"SELECT * FROM {d}()"), c.options),
    ),
    "GetFlightInfo": ("get_flight_info", lambda c, d, _: c.info(d)),
    "GetFlightInfo path": (
        "get_flight_info",
        lambda c, d, _: c.flight.get_flight_info(flight.FlightDescriptor.for_path(d), c.options),
    ),
    "DoGet": ("do_get", lambda c, d, _: c.rows(d)),
    "DoGet JSON": ("do_get", lambda c, d, _: c.rows(f'{{"dataset": "{d}"}}')),
    "describe": ("do_action", lambda c, d, _: c.action("describe", {"dataset": d})),
    "explain": ("do_action", lambda c, d, _: c.action("explain", {"dataset": d})),
    "submit": ("do_action", lambda c, d, _: c.action("submit", {"dataset": d})),
    "submit and result": ("do_action", lambda c, d, _: c.result(c.submitted({"dataset": d}))),
    "SQL": ("get_flight_info", lambda c, d, _: c.sql(f"SELECT * FROM {d}()")),
    "SQL around a call": ("get_flight_info", lambda c, d, _: c.sql(f"SELECT count(*) AS n FROM {d}() AS x")),
    "SQL as JSON": ("do_get", lambda c, d, _: c.rows(json.dumps({"sql": f"SELECT * FROM {d}()"}))),
    "CreatePreparedStatement": ("do_action", lambda c, d, _: c.prepare(f"SELECT * FROM {d}()")),
    "prepared": ("do_action", lambda c, d, _: c.prepared(c.prepare(f"SELECT * FROM {d}()").prepared_statement_handle)),
    "DoPut of parameters": ("do_put", lambda c, d, _: bound(c, d)),
    "wrapped ticket": ("do_get", lambda c, d, _: wrapped(c, d)),
}
IN_SQL = {name for name in RPCS if "SQL" in name} | {
    "CreatePreparedStatement",
    "prepared",
    "DoPut of parameters",
    "wrapped ticket",
}
METADATA = tuple(name for name in messages._MESSAGES if name.startswith("CommandGet"))
# Commands that write, or are written in something else than SQL.
WRITES = ("CommandStatementUpdate", "CommandPreparedStatementUpdate", "CommandStatementIngest")
REFUSED = (*WRITES, "CommandStatementSubstraitPlan")
# RPCs that are about no dataset: what they answer to a good credential.
OTHERS: dict[str, tuple[str, str, Callable[[Client, Channel], object]]] = {
    "ListFlights": ("list_flights", "ok", lambda c, _: c.listed()),
    "ListActions": ("list_actions", "ok", lambda c, _: list(c.flight.list_actions(c.options))),
    "pins": ("do_action", "ok", lambda c, _: c.action("pins", {})),
    "pin": ("do_action", "not-allowed", lambda c, _: c.action("pin", {"name": "eom"})),
    "unpin": ("do_action", "not-allowed", lambda c, _: c.action("unpin", {"name": "eom"})),
    "DoAction unknown": ("do_action", "unsupported", lambda c, _: c.action("none", {})),
    "ListFlights with a glob": (
        "list_flights",
        "ok",
        lambda c, _: list(c.flight.list_flights(b"*", options=c.options)),
    ),
    **{
        f"{rpc} of {name}": (method, "ok", functools.partial(ask, name))
        for name in METADATA
        for rpc, method, ask in (
            ("GetFlightInfo", "get_flight_info", lambda name, c, _: c.flight.get_flight_info(command(name), c.options)),
            ("GetSchema", "get_schema", lambda name, c, _: c.flight.get_schema(command(name), c.options)),
            ("DoGet", "do_get", lambda name, c, _: c.rows(messages.pack(name))),
        )
    },
    **{
        f"GetFlightInfo of {name}": (
            "get_flight_info",
            "unsupported",
            functools.partial(lambda name, c, _: c.flight.get_flight_info(command(name), c.options), name),
        )
        for name in REFUSED
    },
    **{f"DoPut of {name}": ("do_put", "unsupported", functools.partial(put_command, name)) for name in WRITES},
    "DoPut of no statement": ("do_put", "bad-ticket", functools.partial(put_command, "CommandPreparedStatementQuery")),
    "DoGet of nothing": ("do_get", "unknown-dataset", lambda c, _: c.rows("nothing")),
    "DoGet of a forged ticket": ("do_get", "bad-ticket", lambda c, _: c.rows(b"aft1.e30.e30")),
    "whoami": ("do_action", "ok", lambda c, _: c.action("whoami", {})),
    "status": ("do_action", "unknown-query", lambda c, _: c.action("status", {"id": "none"})),
    "result": ("do_action", "unknown-query", lambda c, _: c.action("result", {"id": "none"})),
    "cancel": ("do_action", "unknown-query", lambda c, _: c.action("cancel", {"id": "none"})),
    **{
        name: ("do_action", code, functools.partial(raw_action, name, body))
        for name, (code, body) in {
            "CreatePreparedStatement": ("sql-refused", "ActionCreatePreparedStatementRequest"),
            "ClosePreparedStatement": ("bad-ticket", "ActionClosePreparedStatementRequest"),
            "CancelQuery": ("bad-request", "ActionCancelQueryRequest"),
            "CancelFlightInfo": ("bad-request", "CancelFlightInfoRequest"),
            "RenewFlightEndpoint": ("bad-ticket", "RenewFlightEndpointRequest"),
            "SetSessionOptions": ("ok", "SetSessionOptionsRequest"),
            "GetSessionOptions": ("ok", ""),
            "CloseSession": ("ok", ""),
            **dict.fromkeys(sorted(service.REFUSED), ("unsupported", "")),
        }.items()
    },
    "DoPut": ("do_put", "unsupported", lambda c, _: put(c)),
    "DoExchange": ("do_exchange", "unsupported", lambda c, _: exchange(c)),
    "Handshake": ("", "ok", lambda c, channel: bare(c, channel, "Handshake", b"")),
    "PollFlightInfo": (
        "",
        "unsupported",
        lambda c, channel: bare(c, channel, "PollFlightInfo", descriptor("nav").serialize()),
    ),
}
