"""Streams, tickets, submitted queries and prepared statements of one caller in the hands of another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.server import Server
from flight_server.service.flight_sql import messages
from tests.fix_identity import STATIC, Client, Lake, code_of, dataset_text, make_lake

# More than anybody reads in a test.
MANY = dataset_text(
    'title = "Many"\n[columns]\nn = { type = "int64" }',
    "SELECT CAST(a.x AS BIGINT) * b.y AS n FROM UNNEST(SEQUENCE(1, 20000)) AS a (x)\n"
    "CROSS JOIN UNNEST(SEQUENCE(1, 20000)) AS b (y)",
)


@dataclass
class Own:
    lake: Lake
    server: Server
    connection: flight.FlightClient

    def client(self, credential: str) -> Client:
        return Client(self.connection, STATIC.get(credential, credential))


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    lake = make_lake(tmp_path_factory.mktemp("own"))
    (lake.folder / "sql" / "many.sql").write_text(MANY)
    with lake.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as connection:
        yield Own(lake, running, connection)


def cancel(client: Client, action: str, info: flight.FlightInfo) -> None:
    if action == "CancelQuery":
        body = messages.pack("ActionCancelQueryRequest", info=info.serialize())
    else:
        body = messages.new("CancelFlightInfoRequest", info=info.serialize()).SerializeToString()
    list(client.flight.do_action(flight.Action(action, body), client.options))


@pytest.mark.parametrize("action", ["CancelFlightInfo", "CancelQuery"])
def test_a_stream_is_stopped_by_its_caller_and_by_nobody_else(own: Own, action: str) -> None:
    issuer = own.lake.issuer
    # The same person with another token of the same provider, as after an hour.
    first, second = own.client(issuer.token(jti="1")), own.client(issuer.token(jti="2", roles=["other"]))
    info = first.info("many")
    reader = first.flight.do_get(info.endpoints[0].ticket, first.options)
    assert reader.read_chunk().data.num_rows
    for other in ("alice", "carol", "dave"):
        assert code_of(lambda other=other: cancel(own.client(other), action, info)) == "unknown-query"  # type: ignore[misc]
    assert reader.read_chunk().data.num_rows
    assert code_of(lambda: cancel(second, action, info)) == "ok"
    with pytest.raises((flight.FlightError, pa.ArrowException), match=r"\[cancelled\]"):
        reader.read_all()


def test_a_renewed_ticket_of_another_gives_its_bearers_rows(own: Own) -> None:
    endpoint = own.client("carol").info("nav").endpoints[0]
    alice = own.client("alice")
    body = messages.new("RenewFlightEndpointRequest", endpoint=endpoint.serialize()).SerializeToString()
    (result,) = alice.flight.do_action(flight.Action("RenewFlightEndpoint", body), alice.options)
    renewed = flight.FlightEndpoint.deserialize(result.body.to_pybytes())
    assert alice.ports(renewed.ticket.ticket) == {1, 2}


def test_fewer_rights_than_at_submit_do_not_even_count_the_rows(own: Own) -> None:
    issuer = own.lake.issuer
    before, after = own.client(issuer.token(portfolios=[3, 4])), own.client(issuer.token(portfolios=[3]))
    query_id = before.submitted({"dataset": "nav"})
    assert before.action("status", {"id": query_id})["rows"] == 4
    for action in ("status", "result"):
        assert code_of(lambda action=action: after.action(action, {"id": query_id})) == "unknown-query"  # type: ignore[misc]
    # Whoever submitted it can stop it with whatever rights.
    running = before.action("submit", {"dataset": "many"})["id"]
    assert after.action("cancel", {"id": running})["state"] == "CANCELLED"


def test_a_bound_statement_of_another_is_refused_whatever_is_done_with_it(own: Own) -> None:
    handle = own.client("carol").prepare("SELECT port_id FROM p.nav WHERE port_id > ?").prepared_statement_handle
    alice = own.client("alice")
    close = messages.pack("ActionClosePreparedStatementRequest", prepared_statement_handle=handle)

    def bind() -> None:
        command = messages.pack("CommandPreparedStatementQuery", prepared_statement_handle=handle)
        values = pa.record_batch({"1": pa.array([0], pa.int32())})
        descriptor = flight.FlightDescriptor.for_command(command)
        writer, reader = alice.flight.do_put(descriptor, values.schema, alice.options)
        with writer:
            writer.write_batch(values)
            writer.done_writing()
            reader.read()

    assert code_of(bind) == "not-allowed"
    assert code_of(lambda: alice.prepared(handle)) == "not-allowed"
    assert code_of(
        lambda: list(alice.flight.do_action(flight.Action("ClosePreparedStatement", close), alice.options))
    ) == ("not-allowed")
