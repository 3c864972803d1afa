"""Prepared statements of Flight SQL: handles and their owners, and parameters that are put, good and hostile ones."""

from __future__ import annotations

import struct
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.errors import Denied, InvalidRequest
from flight_server.model import Caller, ParamType
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages, prepared
from flight_server.service.flight_sql.prepared import Handles
from tests.fix_server import Serve, connect
from tests.fix_sql import AAPL, Counted, descriptor, prepare, rows
from tests.waiting import until

ANN, BOB = Caller("ann"), Caller("bob")


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


def test_closing_leaves_nothing_and_can_be_done_twice(sql_client: flight.FlightClient) -> None:
    handle = prepare(sql_client, "SELECT 1").prepared_statement_handle
    body = messages.pack("ActionClosePreparedStatementRequest", prepared_statement_handle=handle)
    for _ in range(2):
        assert list(sql_client.do_action(flight.Action("ClosePreparedStatement", body))) == []


def test_maps_are_bound_with_their_keys_as_the_json_form_has_them() -> None:
    def bound(kind: pa.DataType, entries: list[tuple[object, object]] | None) -> object:
        key, item = ("bool", "int32") if kind.key_type == pa.bool_() else ("int32", "float64")
        wanted = ParamType("map", key=ParamType(key), item=ParamType(item))
        return prepared.values(pa.table({"1": pa.array([entries], kind)}), [wanted])["1"]

    assert bound(pa.map_(pa.bool_(), pa.int32()), [(True, 1), (False, 0)]) == {"true": 1, "false": 0}
    assert bound(pa.map_(pa.int32(), pa.float64()), []) == {}
    assert bound(pa.map_(pa.int32(), pa.float64()), None) is None
