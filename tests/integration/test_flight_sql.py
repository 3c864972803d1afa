"""Flight SQL on the wire, with messages made here: schemas, metadata, cancelling, renewing, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.plan.allowed import FUNCTIONS
from flight_server.service.flight_sql import messages, schemas, sql_info
from tests.fix_sql import AAPL, Counted, descriptor, rows
from tests.waiting import until

PAIRS = "SELECT a.close FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b"


def test_messages_are_the_bytes_that_protobuf_says() -> None:
    packed = messages.pack("CommandStatementQuery", query="SELECT 1", transaction_id=b"")
    url = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    # Fields 1 and 2 are length-delimited: tags 0x0a and 0x12. An optional field is sent although it is empty.
    assert packed == b"\x0a" + bytes([len(url)]) + url + b"\x12\x0c" + b"\x0a\x08SELECT 1\x12\x00"
    assert messages.is_command(packed)
    name, found = messages.unpack(packed)
    assert (name, found.query, found.HasField("transaction_id")) == ("CommandStatementQuery", "SELECT 1", True)
    assert not messages.unpack(messages.pack("CommandStatementQuery", query="x"))[1].HasField("transaction_id")
    tables = messages.pack("CommandGetTables", table_types=["A", "B"], include_schema=True)
    assert tables.endswith(b"\x22\x01A\x22\x01B\x28\x01")


@pytest.mark.parametrize("body", [b"", b"daily_prices", b'\n{"sql": "SELECT 1"}', b"aft1.x", b"\x0a\x04abcd"])
def test_a_request_of_another_form_is_no_command(body: bytes) -> None:
    assert not messages.is_command(body)


def test_the_two_schemas_are_those_of_the_result(sql_client: flight.FlightClient) -> None:
    asked = descriptor("CommandStatementQuery", query=f"SELECT * FROM {AAPL}")
    by_name = sql_client.get_schema(flight.FlightDescriptor.for_command(b"daily_prices")).schema
    assert sql_client.get_schema(asked).schema.equals(by_name, check_metadata=True)
    info = sql_client.get_flight_info(asked)
    assert info.schema.equals(by_name, check_metadata=True)
    assert info.ordered
    assert json.loads(info.app_metadata)["dataset"] == "daily_prices"


def test_a_ticket_wrapped_as_a_statement_is_taken(sql_client: flight.FlightClient) -> None:
    info = sql_client.get_flight_info(descriptor("CommandStatementQuery", query="SELECT 7 AS x"))
    wrapped = messages.pack("TicketStatementQuery", statement_handle=info.endpoints[0].ticket.ticket)
    assert sql_client.do_get(flight.Ticket(wrapped)).read_all().to_pylist() == [{"x": 7}]


@pytest.mark.parametrize("name", [name for name in schemas.BY_COMMAND if name != "CommandGetSqlInfo"])
def test_metadata_has_its_exact_schema(sql_client: flight.FlightClient, name: str) -> None:
    asked = descriptor(name)
    info = sql_client.get_flight_info(asked)
    assert info.schema == schemas.BY_COMMAND[name] == sql_client.get_schema(asked).schema
    found = rows(sql_client, asked)
    assert found.schema == info.schema
    found.validate(full=True)


def test_nothing_refers_to_anything_and_keys_are_the_contracts(sql_client: flight.FlightClient) -> None:
    for name in ("CommandGetImportedKeys", "CommandGetExportedKeys"):
        assert rows(sql_client, descriptor(name, table="daily_prices")).num_rows == 0
    found = rows(sql_client, descriptor("CommandGetPrimaryKeys", table="daily_prices"))
    assert found.select(["column_name", "key_sequence"]).to_pylist() == [
        {"column_name": "ticker", "key_sequence": 1},
        {"column_name": "trade_date", "key_sequence": 2},
    ]


def test_types_are_told_with_their_numbers(sql_client: flight.FlightClient) -> None:
    found = rows(sql_client, descriptor("CommandGetXdbcTypeInfo"))
    numbers = found["data_type"].to_pylist()
    assert numbers == sorted(numbers)
    one = rows(sql_client, descriptor("CommandGetXdbcTypeInfo", data_type=91))
    assert one["type_name"].to_pylist() == ["DATE"]


def test_sql_info_is_a_dense_union_by_place(sql_client: flight.FlightClient) -> None:
    names = ["string_value", "bool_value", "bigint_value", "int32_bitmask", "string_list", "int32_to_int32_list_map"]
    found = rows(sql_client, descriptor("CommandGetSqlInfo"))
    assert found.schema == sql_info.SCHEMA
    union = found.schema.field("value").type
    assert [union.field(i).name for i in range(union.num_fields)] == names
    assert (union.mode, found.schema.field("value").nullable) == ("dense", False)
    values = dict(zip(found["info_name"].to_pylist(), found["value"].to_pylist(), strict=True))
    assert set(range(500, 577)) <= set(values)
    assert (values[0], values[3], values[8], values[504], values[526]) == ("athena-flight", True, 0, '"', 1)
    assert set(values[510]) <= FUNCTIONS
    assert dict(values[517])[4] == [4, 16, 19]
    some = rows(sql_client, descriptor("CommandGetSqlInfo", info=[2, 0, 4711, 0]))
    assert some["info_name"].to_pylist() == [0, 2]


def test_a_running_stream_is_cancelled_by_its_info(sql_client: flight.FlightClient, sql_server: Counted) -> None:
    for action, request, answer in (
        ("CancelFlightInfo", lambda info: messages.new("CancelFlightInfoRequest", info=info).SerializeToString(),
         lambda body: messages.parse("CancelFlightInfoResult", body).status),
        ("CancelQuery", lambda info: messages.pack("ActionCancelQueryRequest", info=info),
         lambda body: messages.unpack(body)[1].result),
    ):  # fmt: skip
        info = sql_client.get_flight_info(descriptor("CommandStatementQuery", query=PAIRS))
        body = request(info.serialize())
        with pytest.raises(KeyError, match=r"\[unknown-query\]"):
            list(sql_client.do_action(flight.Action(action, body)))
        reader = sql_client.do_get(info.endpoints[0].ticket)
        reader.read_chunk()
        (result,) = sql_client.do_action(flight.Action(action, body))
        assert answer(result.body.to_pybytes()) == 1
        with pytest.raises(pa.ArrowException, match=r"\[cancelled\]"):
            reader.read_all()
        until(lambda: sql_server.server.flight.calls.count == 0)


def test_an_endpoint_is_renewed(sql_client: flight.FlightClient) -> None:
    (endpoint,) = sql_client.get_flight_info(descriptor("CommandStatementQuery", query="SELECT 7 AS x")).endpoints
    body = messages.new("RenewFlightEndpointRequest", endpoint=endpoint.serialize()).SerializeToString()
    (result,) = sql_client.do_action(flight.Action("RenewFlightEndpoint", body))
    renewed = flight.FlightEndpoint.deserialize(result.body.to_pybytes())
    assert renewed.expiration_time.as_py() >= endpoint.expiration_time.as_py()
    assert sql_client.do_get(renewed.ticket).read_all().to_pylist() == [{"x": 7}]


def test_sessions_keep_nothing_and_take_what_is_so_anyway(sql_client: flight.FlightClient) -> None:
    def act(name: str, body: bytes = b"") -> bytes:
        (result,) = sql_client.do_action(flight.Action(name, body))
        return bytes(result.body.to_pybytes())

    def refused(**options: bytes) -> list[tuple[str, int]]:
        asked = [messages.new("SessionOption", name=name, value=value) for name, value in options.items()]
        body = messages.new("SetSessionOptionsRequest", session_options=asked).SerializeToString()
        errors = messages.parse("SetSessionOptionsResult", act("SetSessionOptions", body)).errors
        return [(error.name, error.value.value) for error in errors]

    assert messages.parse("CloseSessionResult", act("CloseSession")).status == 1
    found = messages.parse("GetSessionOptionsResult", act("GetSessionOptions")).session_options
    assert {option.name: option.value for option in found} == {
        "catalog": b"\x0a\x0dathena_flight", "schema": b"\x0a\x08datasets",
    }  # fmt: skip
    assert refused(**{option.name: option.value for option in found}) == []
    # Another text, and a boolean: invalid values. Another name: an invalid name.
    assert refused(catalog=b"\x0a\x01x", schema=b"\x10\x01", limit=b"\x10\x01") == [
        ("catalog", 2), ("schema", 2), ("limit", 1),
    ]  # fmt: skip


def _put(name: str, **fields: object) -> Callable[[flight.FlightClient], object]:
    def put(client: flight.FlightClient) -> object:
        writer, reader = client.do_put(descriptor(name, **fields), pa.schema([]))
        with writer:
            writer.done_writing()
            return reader.read()

    return put


def _act(name: str, body: bytes = b"") -> Callable[[flight.FlightClient], object]:
    return lambda client: list(client.do_action(flight.Action(name, body)))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (_put("CommandStatementUpdate", query="DROP TABLE x"), NotImplementedError, "[unsupported] CommandStatementUp"),
        (_put("CommandPreparedStatementUpdate"), NotImplementedError, "[unsupported] CommandPreparedStatementUpdate"),
        (_put("CommandStatementIngest"), NotImplementedError, "[unsupported] CommandStatementIngest is not served"),
        (_put("CommandPreparedStatementQuery", prepared_statement_handle=b"x"), pa.ArrowInvalid, "[bad-ticket]"),
        (_act("BeginTransaction"), NotImplementedError, "[unsupported] BeginTransaction: there are no transactions"),
        (_act("EndSavepoint"), NotImplementedError, "[unsupported] EndSavepoint"),
        (lambda client: client.get_flight_info(descriptor("CommandStatementQuery", query="SELECT 1", transaction_id=b"t")),
         NotImplementedError, "[unsupported] there are no transactions here"),
        (_act("CreatePreparedStatement", messages.pack("ActionCreatePreparedStatementRequest", query="SELECT 1",
         transaction_id=b"t")), NotImplementedError, "[unsupported] there are no transactions here"),
        (_act("CreatePreparedSubstraitPlan"), NotImplementedError, "[unsupported] CreatePreparedSubstraitPlan"),
        (_act("CreatePreparedStatement", b"\xff"), pa.ArrowInvalid, "[bad-request] these bytes are no Any"),
        (_act("CreatePreparedStatement", messages.pack("CommandGetTables")), pa.ArrowInvalid, "is a CommandGetTables"),
        (_act("ClosePreparedStatement", messages.pack("ActionClosePreparedStatementRequest")), pa.ArrowInvalid,
         "[bad-ticket] the prepared statement is unknown"),
        (_act("CancelFlightInfo", b"\x0a\x01x"), pa.ArrowInvalid, "[bad-request]"),
        (_act("RenewFlightEndpoint", b"\x0a\x03\x0a\x01x"), pa.ArrowInvalid, "[bad-"),
        (_act("CreatePreparedStatement", messages.pack("ActionCreatePreparedStatementRequest", query="x" * 70_000)),
         pa.ArrowInvalid, "[bad-request] the statement is longer than"),
        (lambda client: client.get_flight_info(descriptor("CommandStatementSubstraitPlan")), NotImplementedError,
         "[unsupported] CommandStatementSubstraitPlan"),
        (lambda client: client.do_get(flight.Ticket(messages.pack("CommandStatementQuery"))).read_all(),
         NotImplementedError, "[unsupported] CommandStatementQuery"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_clearly(
    sql_client: flight.FlightClient,
    sql_server: Counted,
    call: Callable[[flight.FlightClient], object],
    error: type[Exception],
    said: str,
) -> None:
    before = len(sql_server.engine.started)
    with pytest.raises(error) as caught:
        call(sql_client)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert len(sql_server.engine.started) == before


def test_unknown_messages_are_refused(sql_client: flight.FlightClient) -> None:
    url = "type.googleapis.com/arrow.flight.protocol.sql.CommandNothing"
    body = messages.new("Any", type_url=url, value=b"").SerializeToString()
    with pytest.raises(pa.ArrowInvalid, match=r"\[bad-request\] there is no Flight SQL message"):
        sql_client.get_flight_info(flight.FlightDescriptor.for_command(body))


def test_actions_are_listed(sql_client: flight.FlightClient) -> None:
    listed = {action.type for action in sql_client.list_actions()}
    assert {"CreatePreparedStatement", "ClosePreparedStatement", "CancelFlightInfo", "CloseSession"} <= listed
