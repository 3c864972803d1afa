"""Traces as a collector receives them: the client's trace goes on through plan, engine, Athena, S3 and stream."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN
from structlog.testing import capture_logs

import flight_client
from flight_server import server as servers
from flight_server.errors import to_install
from flight_server.server import Server
from flight_server.telemetry import traces
from tests.fakes.aws import LocalAws
from tests.fix_collector import Collector, Received
from tests.fix_identity import Client, Lake
from tests.fix_served import IDS, Labs
from tests.fix_server import ASKED, Serve, Write, connect, dataset
from tests.waiting import until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SERVER_KIND = 2


def headers(flags: str = "01", trace: str = TRACE) -> flight.FlightCallOptions:
    """What a client that has a trace sends (W3C Trace Context)."""
    return flight.FlightCallOptions(headers=[(b"traceparent", f"00-{trace}-{PARENT}-{flags}".encode())])


def ask(server: Server, body: bytes, options: flight.FlightCallOptions) -> pa.Table:
    with connect(server) as client:
        return client.do_get(flight.Ticket(body), options).read_all()


def tree(spans: list[Received], parent: str = PARENT) -> dict[str, Any]:
    """Names under names; of several with one name the first."""
    return {span.name: tree(spans, span.id) for span in spans if span.parent == parent}


@pytest.fixture
def traced(serve: Serve, collector: Collector) -> Server:
    return serve(telemetry={"endpoint": collector.endpoint, "service_name": "flight-of-tests"})


def test_the_clients_trace_goes_on(traced: Server, collector: Collector) -> None:
    ask(traced, ASKED, headers())
    spans = collector.of(TRACE, 4)
    assert collector.paths[0] == "/v1/traces"
    assert tree(spans) == {"DoGet": {"plan": {}, "engine": {}, "stream": {}}}
    by_name = {span.name: span for span in spans}
    call = by_name["DoGet"]
    assert (call.kind, call.failed, call.service) == (SERVER_KIND, False, "flight-of-tests")
    said = {name.removeprefix("athena_flight."): value for name, value in call.attributes.items()}
    assert (said["rpc.system"], said["rpc.method"]) == ("grpc", "DoGet")
    assert (said["dataset"], said["version"], said["engine"], said["cache"]) == ("daily_prices", 1, "duckdb", "miss")
    assert (said["rows"], said["code"]) == (19, "ok")
    assert said["bytes"] > 0
    assert by_name["plan"].attributes["athena_flight.files"] > 0
    assert by_name["stream"].attributes["athena_flight.rows"] == 19
    assert by_name["stream"].events == ("first rows",)
    assert all(span.seconds <= call.seconds for span in spans)


def test_no_value_of_a_parameter_is_sent(traced: Server, collector: Collector) -> None:
    ask(traced, ASKED, headers())
    ask(
        traced,
        b'{"sql": "SELECT max(close) AS c FROM daily_prices(?, ?)", "params": {"1": "AAPL", "2": "2010-01-04"}}',
        headers(),
    )
    with pytest.raises(pa.ArrowInvalid, match="planted-7531"):
        ask(traced, b"daily_prices?ticker=AAPL&start_date=planted-7531", headers())
    collector.of(TRACE, 10)
    for body in collector.raw:
        assert b"AAPL" not in body
        assert b"2010-01" not in body
        assert b"planted" not in body


def test_other_calls_are_traced_too_and_errors_have_their_code(traced: Server, collector: Collector) -> None:
    with connect(traced) as client:
        client.get_flight_info(flight.FlightDescriptor.for_command(ASKED), headers())
        list(client.list_flights(b"", headers()))
        with pytest.raises(pa.ArrowInvalid):
            client.do_get(flight.Ticket(b"daily_prices"), headers()).read_all()
    spans = collector.of(TRACE, 5)
    calls = {span.name: span for span in spans if span.kind == SERVER_KIND}
    assert set(calls) == {"GetFlightInfo", "ListFlights", "DoGet"}
    assert calls["DoGet"].attributes["athena_flight.code"] == "missing-parameter"
    # The caller's fault is none of the server's.
    assert not calls["DoGet"].failed


def test_a_failure_of_the_server_is_an_error(serve: Serve, datasets: Write, collector: Collector) -> None:
    broken = dataset("SELECT CAST(CAST(a.x AS VARCHAR) || 'x' AS BIGINT) AS x FROM UNNEST(SEQUENCE(1, 3)) AS a (x)")
    server = serve(datasets(broken=broken), telemetry={"endpoint": collector.endpoint})
    with pytest.raises(flight.FlightInternalError):
        ask(server, b"broken", headers())
    call = next(span for span in collector.of(TRACE, 4) if span.name == "DoGet")
    assert (call.failed, call.attributes["athena_flight.code"]) == (True, "engine-failed")


def test_a_call_that_is_given_up_ends_its_spans(serve: Serve, datasets: Write, collector: Collector) -> None:
    many = dataset(
        "SELECT CAST(a.x AS BIGINT) * b.y AS x FROM UNNEST(SEQUENCE(1, 5000)) AS a (x) CROSS JOIN UNNEST(SEQUENCE(1, 5000)) AS b (y)"
    )
    server = serve(datasets(many=many), telemetry={"endpoint": collector.endpoint})
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"many"), headers())
        assert reader.read_chunk().data.num_rows > 0
        reader.cancel()
        until(lambda: server.flight.calls.count == 0)
    spans = collector.of(TRACE, 4)
    assert tree(spans) == {"DoGet": {"plan": {}, "engine": {}, "stream": {}}}
    assert next(span for span in spans if span.name == "DoGet").attributes["athena_flight.code"] == "cancelled"


NO_PARENTS = [
    "",
    "garbage",
    "00-" + "0" * 32 + f"-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{PARENT}-01",
    "x" * 5000,
]


def test_without_a_good_traceparent_a_trace_begins_here(traced: Server, collector: Collector) -> None:
    for header in NO_PARENTS:
        collector.spans.clear()
        ask(traced, ASKED, flight.FlightCallOptions(headers=[(b"traceparent", header.encode())] if header else []))
        until(lambda: len(collector.spans) >= 4, timeout_s=60)
        (root,) = (span for span in collector.spans if span.name == "DoGet")
        assert root.parent == "", header
        assert root.trace != TRACE, header
        assert {span.trace for span in collector.spans} == {root.trace}, header


def test_a_sample_of_those_that_begin_here_and_the_clients_word_for_its_own(serve: Serve, collector: Collector) -> None:
    server = serve(telemetry={"endpoint": collector.endpoint, "sample_ratio": 0.0})
    other = TRACE[::-1]
    ask(server, ASKED, flight.FlightCallOptions())
    ask(server, ASKED, headers("00", other))
    ask(server, ASKED, headers("01"))
    collector.of(TRACE, 4)
    server.stop(0)
    assert {span.trace for span in collector.spans} == {TRACE}


def test_the_end_of_the_server_sends_what_waits(
    serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")
    server = serve(telemetry={"endpoint": collector.endpoint})
    ask(server, ASKED, headers())
    until(lambda: server.flight.calls.count == 0)
    server.stop(0)
    assert len([span for span in collector.spans if span.trace == TRACE]) == 4


def test_sys_calls_names_the_trace(lake_copy: Lake, collector: Collector) -> None:
    sections: dict[str, Any] = {"telemetry": {"endpoint": collector.endpoint}, "auth": dict.fromkeys(lake_copy.auth())}
    with lake_copy.serve(**sections, system={"roles": ("*",)}) as server:
        ask(server, b"public_names", headers())
        with connect(server) as opened:
            client = Client(opened)
            until(lambda: client.rows("sys_calls?dataset=public_names"))
            assert client.rows("sys_calls?dataset=public_names")[0]["trace_id"] == TRACE


def test_a_collector_that_is_down_holds_nothing_up(serve: Serve) -> None:
    with capture_logs() as lines:
        # RFC 863's discard port: nothing listens there.
        server = serve(telemetry={"endpoint": "http://127.0.0.1:9"})
        assert ask(server, ASKED, headers()).num_rows == 19
        until(lambda: server.flight.calls.count == 0)
        began = time.monotonic()
        server.stop(0)
        took = time.monotonic() - began
    assert any(line["event"] == "traces_not_sent" for line in lines)
    # Two seconds for what waits, and whatever a busy machine adds.
    assert took < 15


def test_off_there_is_nothing(demo_server: Server) -> None:
    assert traces.call("DoGet", {"traceparent": [f"00-{TRACE}-{PARENT}-01"]}) is INVALID_SPAN
    items = iter([1])
    assert traces.iterated("engine", items) is items
    assert traces.carried(len) is len
    assert ask(demo_server, ASKED, headers()).num_rows == 19


def test_without_the_extra_it_is_one_line(tmp_path: Path, demo_file: Path) -> None:
    settings = tmp_path / "s.toml"
    settings.write_text(demo_file.read_text() + '\n[telemetry]\nendpoint = "http://127.0.0.1:9"\n')
    code = (
        "import sys; sys.modules['opentelemetry.exporter'] = None\n"
        "from flight_server.cli import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "serve", "--config", str(settings), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == 1
    said = f"setting 'telemetry.endpoint': traces need OpenTelemetry's exporter; {to_install('otlp')}"
    assert ended.stderr.splitlines()[-1] == f"error: [bad-config] {said}"


def test_the_python_client_hands_its_trace_on(traced: Server, collector: Collector) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("program")
    with flight_client.connect(f"grpc://localhost:{traced.port}") as connection:
        with tracer.start_as_current_span("notebook cell") as cell:
            table = connection.daily_prices("AAPL", "2010-01-04", "2010-01-29").arrow()
        connection.daily_prices("AAPL", "2010-01-04", "2010-01-29").arrow()
    assert table.num_rows == 19
    trace = f"{cell.get_span_context().trace_id:032x}"
    spans = collector.of(trace, 5)
    assert {span.parent for span in spans if span.kind == SERVER_KIND} == {f"{cell.get_span_context().span_id:016x}"}
    assert {span.name for span in spans if span.kind == SERVER_KIND} >= {"GetFlightInfo", "DoGet"}
    # Outside of a span there is nothing to go on with.
    until(lambda: any(span.trace != trace and span.kind == SERVER_KIND and not span.parent for span in collector.spans))


@pytest.fixture
def on_athena(labs: Labs, aws_environment: LocalAws, collector: Collector) -> Iterator[Server]:
    found = labs.configure({"ids": IDS}, telemetry={"endpoint": collector.endpoint})
    server = servers.build(found)
    servers.start_in_thread(server)
    yield server
    server.stop(0)


def test_athena_and_s3_stand_in_the_trace(on_athena: Server, collector: Collector) -> None:
    first = ask(on_athena, b"ids?first=1", headers())
    spans = collector.of(TRACE, 11)
    until(lambda: on_athena.flight.calls.count == 0)
    found = tree(spans)["DoGet"]
    assert found["plan"] == {"find result": {}}
    assert found["engine"] == {"find result": {}, "athena query": {"complete result": {}}, "read part": {}}
    query = next(span for span in spans if span.name == "athena query")
    call = next(span for span in spans if span.name == "DoGet")
    assert query.attributes["athena_flight.code"] == "ok"
    assert query.attributes["athena_flight.query_id"] == call.attributes["athena_flight.query_id"] != ""
    assert query.attributes["athena_flight.scanned_bytes"] == call.attributes["athena_flight.scanned_bytes"] > 0
    parts = [span for span in spans if span.name == "read part"]
    assert sum(span.attributes["athena_flight.rows"] for span in parts) == first.num_rows > 0
    assert call.attributes["athena_flight.cache"] == "miss"

    again = "0" * 31 + "7"
    assert ask(on_athena, b"ids?first=1", headers(trace=again)).equals(first)
    spans = collector.of(again, 9)
    assert tree(spans)["DoGet"]["engine"] == {"find result": {}, "read part": {}}
    assert next(span for span in spans if span.name == "DoGet").attributes["athena_flight.cache"] == "hit"
