"""Errors over the wire: the right gRPC status, a code, one clean line, and a server that goes on as before."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.errors import CODES, Error, ServerError
from flight_server.server import Server
from flight_server.service import status
from tests.fix_server import ASKED, SQL, Reply, Serve, Write, action, command, connect, dataset, raw, ticket
from tests.waiting import until

INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
GRPC = {
    "InvalidRequest": INVALID,
    "NotFound": MISSING,
    "Unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "Denied": grpc.StatusCode.PERMISSION_DENIED,
    "Unavailable": grpc.StatusCode.UNAVAILABLE,
    "TimedOut": grpc.StatusCode.DEADLINE_EXCEEDED,
    "Unsupported": grpc.StatusCode.UNIMPLEMENTED,
    "EngineFailed": grpc.StatusCode.INTERNAL,
    "ContractViolated": grpc.StatusCode.INTERNAL,
    "ServerError": grpc.StatusCode.INTERNAL,
    # pyarrow's client would turn CANCELLED from a stream into KeyboardInterrupt.
    "Cancelled": grpc.StatusCode.INTERNAL,
}


def check(reply: Reply, code: str, said: str = "") -> None:
    """The status that goes with the code, and a message of one line with nothing of the server's insides."""
    message = reply.details.partition(". Detail: Python exception")[0]
    assert message.startswith(f"[{code}] "), reply.details
    assert said in message
    assert reply.code == GRPC[CODES[code].__name__]
    for leak in ("Traceback", 'File "', ".py", str(Path.cwd()), "/tmp", "metadata.json", "\n", "site-packages"):
        assert leak not in reply.details


class Raises(flight.FlightServerBase):  # type: ignore[misc]
    """Raises the same error from every place that an RPC can raise from."""

    def __init__(self, error: Exception) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.error = error

    def do_get(self, *_: Any) -> flight.FlightDataStream:
        raise self.error

    def get_flight_info(self, *_: Any) -> flight.FlightInfo:
        raise self.error

    def list_flights(self, *_: Any) -> Iterator[flight.FlightInfo]:
        raise self.error

    def do_action(self, *_: Any) -> Iterator[flight.Result]:
        raise self.error


class RaisesLater(Raises):
    """Raises in the middle of a stream."""

    def do_get(self, *_: Any) -> flight.FlightDataStream:
        def batches() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch([[1]], ["x"])
            raise self.error

        return flight.GeneratorStream(pa.schema([("x", pa.int64())]), batches())


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", [Raises, RaisesLater])
def test_every_class_has_its_status_and_a_clean_message(code: str, kind: type[Raises]) -> None:
    made = CODES[code]
    text = "it failed: 'é 삼'\n  second line"
    error = made(text) if made.__init__ is not Error.__init__ else made(code, text)  # type: ignore[call-arg]
    # An error that was raised has a traceback and a cause; neither may travel.
    error.__cause__ = ZeroDivisionError("of the inside")
    with kind(status.to_wire(error)) as server:
        methods = [("DoGet", ticket(b"x"))]
        if kind is Raises:
            methods += [("GetFlightInfo", command(b"x")), ("ListFlights", b""), ("DoAction", action("a", b"x"))]
        for method, body in methods:
            reply = raw(server, method, body)
            check(reply, code, "it failed: 'é 삼' second line")
            assert "inside" not in reply.details


def test_a_long_message_is_cut_to_what_headers_carry() -> None:
    with Raises(status.to_wire(ServerError("internal", "𝔸" * 100_000))) as server:
        reply = raw(server, "DoGet", ticket(b"x"))
        assert reply.code == grpc.StatusCode.INTERNAL
        assert 100 < len(reply.details) < 1200


def history(meta_ids: list[int]) -> bytes:
    params = {"meta_ids": meta_ids, "start_date": "2010-01-04"}
    return json.dumps({"dataset": "price_history", "params": params}).encode()


DAILY = b'{"dataset": "daily_prices", "params": {"start_date": "2010-01-04", "ticker": %s%s}}'
PRICES = b"daily_prices?start_date=2010-01-04&"
BAD = [
    (b"daily_price", "unknown-dataset", "there is no dataset 'daily_price'; did you mean 'daily_prices'?"),
    (b"", "bad-request", "the request names no dataset; write daily_prices?"),
    (b"SELECT * FROM daily_prices", "bad-request", 'SQL is asked as JSON, {"sql": "SELECT'),
    (b"../daily_prices", "unknown-dataset", "there is no dataset"),
    ("일별_가격?ticker=AAPL".encode(), "unknown-dataset", "there is no dataset '일별_가격'"),
    (ASKED + b"&_version=7", "unknown-version", "daily_prices has no version 7; it has 1"),
    (ASKED + b"&_as_of=2001-01-01", "unknown-pin", "has no snapshot as old as 2001-01-01"),
    (ASKED + b"&_as_of=yesterday", "unknown-pin", "in no pin 'yesterday'; as_of takes a pin's name, a receipt, or an ISO timestamp"),
    (ASKED + b"&_as_of=0001-01-01T00:00:00%2B14:00", "unknown-pin", ""),
    (ASKED + b"&_engine=spark", "bad-request", "there is no engine 'spark'; there is duckdb"),
    (ASKED + b"&_engine=", "bad-request", "there is no engine ''; there is duckdb"),
    (b'{"dataset": "daily_prices", "params": {"ticker": "AAPL", "start_date": "2010-01-04"}, "engine": ""}',
     "bad-request", "there is no engine ''; there is duckdb"),
    (PRICES + b"tiker=AAPL", "unknown-parameter", "has no parameter 'tiker'; did you mean 'ticker'?"),
    (PRICES[:-1], "missing-parameter", "daily_prices needs 'ticker' (string), for example ticker=AAPL"),
    (PRICES + b"ticker=AAPL&ticker=IBM", "bad-parameter", "is given 2 times; it takes one value"),
    (b"daily_prices?ticker=AAPL&start_date=today", "bad-parameter", "is not a date; write it as 2010-01-04"),
    (b"daily_prices?ticker=AAPL&start_date=1989-12-31", "bad-parameter", "below the least allowed value"),
    (PRICES + b"ticker=AAPL&end_date=2010-01-03", "rule-violated", "rule 'range' asks start_date <= end_date"),
    (PRICES + b"ticker=" + b"A" * 13, "bad-parameter", "has 13 characters; at most 12 are taken"),
    (PRICES + b"ticker=%27%20OR%201=1--", "bad-parameter", "does not match"),
    (PRICES + b"ticker=A' OR '1'='1", "bad-parameter", "does not match"),
    (PRICES + b"ticker=%00", "bad-parameter", "has a NUL character"),
    (PRICES + "ticker=삼성전자".encode(), "bad-parameter", "does not match"),
    (PRICES + b"ticker=%ed%a0%80", "bad-request", "not UTF-8 with %XX"),
    (history([]), "bad-parameter", "has 0 items; at least 1 are needed"),
    (history([*range(5000)]), "bad-parameter", "has 5000 items; at most"),
    (history([*range(20_000)])[:65_000], "bad-request", "not JSON"),
    (DAILY % (b'"\\ud800"', b""), "bad-parameter", "has a lone surrogate"),
    (DAILY % (b"null", b""), "bad-parameter", "is null, and it is not optional"),
    (DAILY % (b'"AAPL"', b', "ticker": "IBM"'), "bad-request", "the key 'ticker' is given twice"),
    (b'{"dataset": "\\ud800"}', "unknown-dataset", r"'\ud800'"),
    (b'{"dataset": "daily_prices", "params": {"\\udfff": 1}}', "unknown-parameter", r"'\udfff'"),
    (b'{"sql": "SELECT \'\\ud800\' AS x"}', "bad-request", '"sql" has a lone surrogate, which is not a character'),
    (b'{"sql": "SELECT ? AS x", "params": {"1": "\\ud800"}}', "bad-parameter", "has a lone surrogate"),
    (b'{"dataset": null}', "bad-request", "must be a string"),
    (b'{"sql": "SELECT 1; SELECT 2"}', "sql-refused", "one SELECT is run at a time"),
    (b'{"sql": "SELECT ?"}', "missing-parameter", "parameter 1 of 1 (?) has no value"),
    (b'{"dataset": ' + b"[" * 60_000, "bad-request", "nested too deeply"),
    (b"x" * 1_000_000, "bad-request", "the request has 1,000,000 bytes"),
    (bytes(range(256)), "bad-ticket", "not UTF-8"),
    (b"aft1." + b"x" * 100, "bad-ticket", "not issued by this server"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "code", "said"), BAD, ids=range(len(BAD)))
def test_bad_input_is_refused_and_changes_nothing(demo_server: Server, body: bytes, code: str, said: str) -> None:
    check(raw(demo_server, "DoGet", ticket(body)), code, said)
    if not body.startswith(b"aft1."):
        check(raw(demo_server, "GetFlightInfo", command(body)), code, said)
    until(lambda: demo_server.flight.calls.count == 0)
    assert raw(demo_server, "DoGet", ticket(ASKED)).trailers["x-athena-flight-rows"] == "19"


@pytest.mark.parametrize(
    ("name", "body", "code", "said"),
    [
        ("descibe", b"{}", "unsupported", "there is no action 'descibe'; did you mean 'describe'?"),
        ("", b"", "unsupported", "there is no action ''"),
        ("describe", b"daily_prices", "bad-request", 'must be a JSON object; write {"dataset": "…"}'),
        ("cancel", b"{}", "bad-request", 'write {"id": "…"}'),
        ("status", b'{"id": 1}', "bad-request", 'write {"id": "…"}'),
        ("describe", b"{}", "bad-request", 'write {"dataset": "daily_prices"}'),
        ("describe", b'{"dataset": 1}', "bad-request", 'write {"dataset": "daily_prices"}'),
        ("describe", b'{"dataset": "daily_prices", "version": true}', "bad-request", "write"),
        ("describe", b'{"dataset": "nothing"}', "unknown-dataset", "there is no dataset 'nothing'"),
        ("describe", b'{"dataset": "daily_prices", "params": {}}', "bad-request", "no key 'params'"),
        ("explain", b'{"dataset": "daily_prices"}', "missing-parameter", "needs 'ticker'"),
        ("explain", b"\xff", "bad-ticket", "not UTF-8"),
        ("describe", b" " * 70_000, "bad-request", "the request has 70,000 bytes"),
    ],
)
def test_a_bad_action_is_refused(demo_server: Server, name: str, body: bytes, code: str, said: str) -> None:
    check(raw(demo_server, "DoAction", action(name, body)), code, said)


def test_a_long_pattern_of_names_is_refused(demo_server: Server) -> None:
    check(raw(demo_server, "ListFlights", b"\x0a\x80\x80\x40" + b"*" * (1 << 20)), "bad-request", "1,048,576 bytes")


def test_schema_errors_have_code_and_status(demo_server: Server) -> None:
    check(raw(demo_server, "GetSchema", command(b"daily_price")), "unknown-dataset", "did you mean 'daily_prices'?")
    check(raw(demo_server, "GetSchema", command(b"\xff")), "bad-ticket")


def test_nothing_can_be_written_or_exchanged(client: flight.FlightClient) -> None:
    descriptor = flight.FlightDescriptor.for_path("daily_prices")
    with pytest.raises(NotImplementedError, match=r"\[unsupported\] nothing can be written here"):
        put(client, descriptor)
    with pytest.raises(NotImplementedError, match=r"\[unsupported\] DoExchange has no use here"):
        exchange(client, descriptor)


def put(client: flight.FlightClient, descriptor: flight.FlightDescriptor) -> None:
    writer, _ = client.do_put(descriptor, pa.schema([("x", pa.int32())]))
    writer.write_batch(pa.record_batch([pa.array([1], pa.int32())], ["x"]))
    writer.close()


def exchange(client: flight.FlightClient, descriptor: flight.FlightDescriptor) -> None:
    writer, reader = client.do_exchange(descriptor)
    with writer:
        writer.begin(pa.schema([("x", pa.int32())]))
        reader.read_all()


IDS = "SELECT CAST(p.meta_id AS BIGINT) AS x FROM market_data.us_stocks_price AS p"
SLOW = """
SELECT COUNT(*) AS x FROM market_data.us_stocks_price AS a
CROSS JOIN market_data.us_stocks_price AS b CROSS JOIN market_data.us_stocks_price AS c
WHERE a.close < b.close + c.close
"""
FAILING = {
    "late": dataset("SELECT CAST(m.ticker AS BIGINT) AS x FROM reference.tb_meta AS m"),
    "mistyped": dataset("SELECT CAST(p.close AS DOUBLE) + 0.5 AS x FROM market_data.us_stocks_price AS p"),
    "nulls": dataset("SELECT p.gross_return AS x FROM market_data.us_stocks_price AS p",
                     'x = { type = "float32", null = false }'),
    "long": dataset(IDS, limits="max_rows = 1000"),
    "wide": dataset(IDS, limits='max_scan = "1 KB"'),
    "dear": dataset(IDS, limits="max_cost = 0.00001"),
    "slow": dataset(SLOW, limits='timeout = "300ms"'),
    "missing": dataset("SELECT t.x AS x FROM nowhere.nothing AS t"),
    "misnamed": dataset("SELECT m.tickre AS x FROM reference.tb_meta AS m"),
}  # fmt: skip
WHY = [
    ("late", "engine-failed", "DuckDB: Conversion Error: Could not convert string 'AAPL' to INT64"),
    ("mistyped", "contract-violated", "mistyped.x promises int64, the engine gave double"),
    ("nulls", "contract-violated", "nulls.x promises no nulls"),
    ("long", "row-limit", "long gave more than 1,000 rows"),
    ("wide", "scan-limit", "and may read 1,000; ask for less"),
    ("dear", "scan-limit", "dear would cost $0.0001 and may cost $0.0000"),
    ("slow", "timeout", "the query took longer than 0.3 s and was stopped"),
    ("missing", "internal", "the table nowhere.nothing is not in the catalog"),
    ("misnamed", "sql-refused", "tickre"),
]


@pytest.fixture(scope="module")
def failing_server(serve_session: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("failing")
    for name, text in FAILING.items():
        (folder / f"{name}.sql").write_text(text)
    return serve_session(folder)


@pytest.mark.parametrize(("name", "code", "said"), WHY)
def test_a_failing_dataset_says_why(failing_server: Server, name: str, code: str, said: str) -> None:
    reply = raw(failing_server, "DoGet", ticket(name.encode()))
    if code == "timeout":
        assert reply.code == grpc.StatusCode.DEADLINE_EXCEEDED
    check(reply, code, said)


def test_an_unexpected_failure_gives_an_incident_and_nothing_else(serve: Serve) -> None:
    server = serve()
    server.pipeline.registry = None  # type: ignore[assignment]
    reply = raw(server, "DoGet", ticket(ASKED))
    check(reply, "internal", "the server failed; its log has the incident ")
    assert "NoneType" not in reply.details


def test_a_full_server_is_busy_and_has_places_again(serve: Serve, datasets: Write) -> None:
    server = serve(datasets(slow=dataset(SLOW)), limits={"streams_max": 2, "queue_wait_s": 0.1})
    clients = [connect(server) for _ in range(2)]
    readers = [client.do_get(flight.Ticket(b"slow")) for client in clients]
    until(lambda: server.flight.calls.count == 2)
    check(raw(server, "DoGet", ticket(b"slow")), "busy", "all 2 places for streams are taken; try again in a few")
    # Plans and lists have places of their own.
    assert raw(server, "GetFlightInfo", command(b"slow")).code == grpc.StatusCode.OK
    # They are still there.
    assert server.flight.calls.count == 2
    for reader in readers:
        reader.cancel()
    until(lambda: server.flight.calls.count == 0)
    again = clients[0].do_get(flight.Ticket(b"slow"))
    assert again.schema.names
    again.cancel()
    for client in clients:
        client.close()


def test_a_draining_server_refuses_new_calls_and_ends_running_ones(serve: Serve, datasets: Write) -> None:
    server = serve(datasets(slow=dataset(SLOW)))
    replies: list[Reply] = []
    running = in_thread(lambda: replies.append(raw(server, "DoGet", ticket(b"slow"))))
    until(lambda: server.flight.calls.count)
    server.flight.calls.drain(0.1)
    check(raw(server, "ListFlights", b""), "draining", "the server is stopping")
    running.join(30)
    check(replies[0], "draining", "the result is not complete")


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def issued(server: Server, body: bytes) -> bytes:
    with connect(server) as client:
        (endpoint,) = client.get_flight_info(flight.FlightDescriptor.for_command(body)).endpoints
        return bytes(endpoint.ticket.ticket)


def test_a_tampered_ticket_is_refused(demo_server: Server) -> None:
    good = issued(demo_server, ASKED)
    for place in (6, len(good) // 2, len(good) - 1):
        changed = good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :]
        check(raw(demo_server, "DoGet", ticket(changed)), "bad-ticket", "or was changed; ask again")


def test_a_ticket_runs_out(serve: Serve) -> None:
    server = serve(server={"ticket_ttl_s": 0.001})
    old = issued(server, ASKED)
    time.sleep(0.01)
    check(raw(server, "DoGet", ticket(old)), "expired-ticket", "ask GetFlightInfo for a new one")


def test_a_ticket_ends_with_the_text_of_its_dataset(serve: Serve, datasets: Write) -> None:
    text = (SQL / "daily_prices.sql").read_text()
    folder = datasets(daily_prices=text)
    server = serve(folder)
    old = issued(server, ASKED)
    assert raw(server, "DoGet", ticket(old)).code == grpc.StatusCode.OK
    (folder / "daily_prices.sql").write_text(text.replace("max_rows = 50_000", "max_rows = 60_000"))
    assert server.reload() == []
    check(raw(server, "DoGet", ticket(old)), "expired-ticket", "daily_prices has changed since the ticket was issued")
    assert raw(server, "DoGet", ticket(issued(server, ASKED))).code == grpc.StatusCode.OK


def test_a_wrong_file_leaves_the_last_good_datasets_in_service(serve: Serve, datasets: Write) -> None:
    folder = datasets(daily_prices=(SQL / "daily_prices.sql").read_text())
    server = serve(folder)
    (folder / "daily_prices.sql").write_text("SELECT 1")
    assert len(server.reload()) == 1
    assert raw(server, "DoGet", ticket(ASKED)).trailers["x-athena-flight-rows"] == "19"
