"""Flight SQL on the wire, with messages made here: handles and their owners, schemas, cancelling, renewing, refusals."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.errors import Denied, InvalidRequest
from flight_server.model import Caller
from flight_server.plan.allowed import FUNCTIONS
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages, schemas, sql_info
from flight_server.service.flight_sql.prepared import Handles
from tests.fix_server import Serve, connect
from tests.fix_sql import AAPL, Counted
from tests.waiting import until

ANN, BOB = Caller("ann"), Caller("bob")
PAIRS = "SELECT a.close FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b"


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


def test_a_prepared_statement_has_its_schemas_before_anything_is_bound(
    sql_client: flight.FlightClient, sql_server: Counted
) -> None:
    before = len(sql_server.engine.started)
    found = prepare(sql_client, "SELECT close * 2 AS x FROM daily_prices(?, ?)")
    assert pa.ipc.read_schema(pa.py_buffer(found.dataset_schema)) == pa.schema([("x", pa.float32())])
    bound = pa.ipc.read_schema(pa.py_buffer(found.parameter_schema))
    assert bound == pa.schema([("1", pa.string()), ("2", pa.date32())])
    asked = descriptor("CommandPreparedStatementQuery", prepared_statement_handle=found.prepared_statement_handle)
    # As Power BI asks.
    assert sql_client.get_schema(asked).schema == pa.schema([("x", pa.float32())])
    with pytest.raises(pa.ArrowInvalid, match=r"\[missing-parameter\] parameter 1 of 2"):
        sql_client.get_flight_info(asked)
    assert len(sql_server.engine.started) == before


def test_binding_answers_a_handle_with_the_values_and_any_replica_takes_it(
    sql_client: flight.FlightClient, serve: Serve
) -> None:
    handle = prepare(sql_client, f"SELECT trade_date FROM {AAPL} WHERE close > ? ORDER BY 1").prepared_statement_handle
    bound = []
    for value in (213.0, 214.0):
        asked = descriptor("CommandPreparedStatementQuery", prepared_statement_handle=handle)
        writer, reader = sql_client.do_put(asked, pa.schema([("1", pa.float64())]))
        with writer:
            writer.write_table(pa.table({"1": [value]}))
            writer.done_writing()
            answer = messages.parse("DoPutPreparedStatementResult", reader.read().to_pybytes())
        # A bound handle can be bound again.
        handle = answer.prepared_statement_handle
        bound.append(descriptor("CommandPreparedStatementQuery", prepared_statement_handle=handle))
    replica = serve()
    with flight.connect(f"grpc://localhost:{replica.port}") as other:
        for asked, value in zip(bound, (213.0, 214.0), strict=True):
            plain = descriptor("CommandStatementQuery", query=f"SELECT trade_date FROM {AAPL} WHERE close > {value}")
            assert rows(other, asked).equals(rows(sql_client, plain))


def put(client: flight.FlightClient, schema: pa.Schema) -> tuple[Any, Any]:
    """A DoPut of the parameters of a statement with one."""
    handle = prepare(client, f"SELECT trade_date FROM {AAPL} WHERE close > ?").prepared_statement_handle
    asked = descriptor("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    found: tuple[Any, Any] = client.do_put(asked, schema)
    return found


def test_parameters_beyond_the_longest_request_are_refused(sql_client: flight.FlightClient) -> None:
    writer, _ = put(sql_client, pa.schema([("1", pa.string())]))
    long = pa.table({"1": ["x" * 40_000]})
    writer.write_table(long)
    writer.write_table(long)
    with pytest.raises(pa.ArrowInvalid, match=r"\[bad-request\] the parameters have more than 65,536 bytes"):
        writer.close()


def lists(first: int, last: int) -> pa.RecordBatch:
    """A list of four numbers whose offsets say something else, which pyarrow sends as it is."""
    offsets = bytearray(struct.pack("<ii", 0, 4))
    numbers = pa.array([1, 1, 1, 1], pa.int64())
    made = pa.Array.from_buffers(pa.list_(pa.int64()), 1, [None, pa.py_buffer(offsets)], children=[numbers])
    batch = pa.RecordBatch.from_arrays([made], ["1"])
    offsets[:] = struct.pack("<ii", first, last)
    return batch


def chosen(index: int) -> pa.RecordBatch:
    """A word out of two by an index beyond them."""
    numbers = bytearray(struct.pack("<i", 0))
    indices = pa.Array.from_buffers(pa.int32(), 1, [None, pa.py_buffer(numbers)])
    batch = pa.RecordBatch.from_arrays([pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]))], ["1"])
    numbers[:] = struct.pack("<i", index)
    return batch


@pytest.mark.parametrize(
    "batch", [lists(-20, 4), lists(-20_000_000, -19_999_990), lists(0, 60), chosen(5000), chosen(-5000)]
)
def test_parameters_that_point_outside_of_themselves_read_nothing_of_the_server(
    sql_client: flight.FlightClient, batch: pa.RecordBatch
) -> None:
    writer, _ = put(sql_client, batch.schema)
    writer.write_batch(batch)
    with pytest.raises(pa.ArrowInvalid, match=r"\[bad-request\] the parameters are no valid record batch"):
        writer.close()
    assert len(rows(sql_client, descriptor("CommandStatementQuery", query=f"SELECT * FROM {AAPL}")))


@pytest.mark.parametrize(
    "value",
    [
        pa.array([2**31 - 1], pa.date32()),
        pa.array([2**63 - 1], pa.timestamp("us")),
        pa.array([2**63 - 1], pa.timestamp("s")),
        pa.array([b"\x00"], pa.binary_view()),
    ],
)
def test_parameters_that_no_parameter_takes_are_the_clients_fault(
    sql_client: flight.FlightClient, value: pa.Array
) -> None:
    batch = pa.record_batch([value], ["1"])
    writer, _ = put(sql_client, batch.schema)
    writer.write_batch(batch)
    with pytest.raises(pa.ArrowInvalid, match=r"\[bad-parameter\]"):
        writer.close()


def test_parameters_that_are_no_batch_are_the_clients_fault(
    sql_server: Counted, sql_client: flight.FlightClient
) -> None:
    handle = prepare(sql_client, f"SELECT trade_date FROM {AAPL} WHERE close > ?").prepared_statement_handle
    command = messages.pack("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    schema = next(pa.ipc.MessageReader.open_stream(pa.schema([("1", pa.float64())]).serialize())).metadata.to_pybytes()
    # FlightData of Arrow's Flight.proto: 1 is the descriptor (its type 1, its command 2), 2 the header of a message.
    sent = [_field(1, b"\x08\x02" + _field(2, command)) + _field(2, schema), _field(2, b"no message at all")]
    with grpc.insecure_channel(f"localhost:{sql_server.server.port}") as channel:
        method = channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut", bytes, bytes)
        with pytest.raises(grpc.RpcError, match=r"\[bad-request\] the parameters are no valid record batch"):
            list(method(iter(sent), timeout=20))


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field of protobuf."""
    size = bytes([len(value) & 127 | 128, len(value) >> 7]) if len(value) > 127 else bytes([len(value)])
    return bytes([number << 3 | 2]) + size + value


def test_parameters_that_never_come_end_with_their_connection(serve: Serve) -> None:
    server = serve(limits={"upload_s": 0.5})
    with connect(server) as client:
        writer, reader = put(client, pa.schema([("1", pa.float64())]))
        until(lambda: server.flight.calls.uploads.taken == 1)
        until(lambda: server.flight.calls.uploads.taken == 0)
        assert reader.read() is None
        with pytest.raises((flight.FlightError, pa.ArrowException)):
            writer.close()


def test_a_handle_is_its_callers_and_ends() -> None:
    tickets = Tickets(b"secret", 60)
    handles = Handles(tickets, 60)
    handle = handles.make("SELECT ?", ANN, {"1": "x"})
    assert handles.read(handle, ANN).params == {"1": "x"}
    with pytest.raises(Denied, match="another caller's"):
        handles.read(handle, BOB)
    changed = handle[:30] + bytes([handle[30] ^ 1]) + handle[31:]
    old = Handles(tickets, -1).make("SELECT 1", ANN)
    others = Handles(Tickets(b"other", 60), 60).make("SELECT 1", ANN)
    for bad, code in ((changed, "bad-ticket"), (b"", "bad-ticket"), (others, "bad-ticket"), (old, "expired-ticket")):
        with pytest.raises(InvalidRequest, match="prepare it again") as caught:
            handles.read(bad, ANN)
        assert caught.value.code == code


def test_a_handle_is_no_ticket_and_a_ticket_no_handle(sql_client: flight.FlightClient) -> None:
    handle = prepare(sql_client, "SELECT 1").prepared_statement_handle
    ticket = sql_client.get_flight_info(descriptor("CommandStatementQuery", query="SELECT 1")).endpoints[0].ticket
    with pytest.raises(KeyError, match=r"\[unknown-dataset\]"):
        sql_client.do_get(flight.Ticket(handle)).read_all()
    asked = descriptor("CommandPreparedStatementQuery", prepared_statement_handle=ticket.ticket)
    with pytest.raises(pa.ArrowInvalid, match=r"\[bad-ticket\]"):
        sql_client.get_flight_info(asked)


def test_a_ticket_wrapped_as_a_statement_is_taken(sql_client: flight.FlightClient) -> None:
    info = sql_client.get_flight_info(descriptor("CommandStatementQuery", query="SELECT 7 AS x"))
    wrapped = messages.pack("TicketStatementQuery", statement_handle=info.endpoints[0].ticket.ticket)
    assert sql_client.do_get(flight.Ticket(wrapped)).read_all().to_pylist() == [{"x": 7}]


def test_closing_leaves_nothing_and_can_be_done_twice(sql_client: flight.FlightClient) -> None:
    handle = prepare(sql_client, "SELECT 1").prepared_statement_handle
    body = messages.pack("ActionClosePreparedStatementRequest", prepared_statement_handle=handle)
    for _ in range(2):
        assert list(sql_client.do_action(flight.Action("ClosePreparedStatement", body))) == []


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
