"""Whatever a client does, the server keeps nothing of it: no running query, no thread, no open file, no place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.server import Server
from tests.fix_server import ASKED, Serve, connect, dataset, raw, ticket
from tests.waiting import until

_CROSS = """FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b
CROSS JOIN market_data.us_stocks_price AS c"""
FILES = {
    # Some 10^12 rows, of which the first come at once.
    "stream": dataset(f"SELECT CAST(a.meta_id AS BIGINT) + b.meta_id AS x {_CROSS}"),
    # No batch for minutes.
    "silent": dataset(f"SELECT COUNT(*) AS x {_CROSS} WHERE a.close < b.close + c.close"),
    "sorted": dataset(f"SELECT ROW_NUMBER() OVER (ORDER BY a.close * b.close * c.close) AS x {_CROSS}"),
    "brief": dataset(f"SELECT COUNT(*) AS x {_CROSS} WHERE a.close < b.close + c.close", limits='timeout = "1s"'),
    "broken": dataset(f"SELECT CAST(IF(a.close < 30 AND b.close < 30, 'x', '1') AS BIGINT) AS x {_CROSS}"),
}
QUERIES = ["stream", "silent", "sorted"]


@dataclass(frozen=True)
class Held:
    """What a process holds: threads of queries, files and sockets, places for calls, and whether it computes."""

    threads: list[str]
    files: int
    places: int

    @classmethod
    def by(cls, server: Server) -> Held:
        names = sorted(thread.name for thread in threading.enumerate() if thread.name == "engine")
        # Connections of a catalog's pool are no call's: they are bounded, and come and go.
        files = [file for file in psutil.Process().open_files() if "catalog.db" not in file.path]
        return cls(names, len(files), server.flight.calls.count)

    def within(self, before: Held) -> bool:
        """Whether it is no more than `before`: what others had open may have been closed meanwhile."""
        return (self.threads, self.places) == (before.threads, before.places) and self.files <= before.files


@pytest.fixture(scope="module")
def server(serve_session: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("heavy")
    for name, text in FILES.items():
        (folder / f"{name}.sql").write_text(text)
    # Small, so that sorting more than fits is not what is measured.
    return serve_session(folder, server={"heartbeat_s": 0.2}, duckdb={"memory": "1GB"})


@pytest.fixture
def quiet(server: Server) -> Iterator[Held]:
    """What the server holds before a test; soon after it, it holds the same and computes nothing.

    The queries go on for minutes where nobody stops them, so the bound is for busy machines.
    """
    raw(server, "DoGet", ticket(b"nothing"))
    settle(server)
    before = Held.by(server)
    assert before.threads == []
    yield before
    until(lambda: Held.by(server).within(before), 10, lambda: f"{Held.by(server)} after {before}")
    until(idle, 10)


def settle(server: Server) -> None:
    until(lambda: server.flight.calls.count == 0)


def idle() -> bool:
    """Whether this process uses little CPU for a fifth of a second: a query takes whole cores.

    The other servers of the tests look after their connections meanwhile, each for a twentieth of a core at most.
    """
    before = time.process_time()
    time.sleep(0.2)
    return time.process_time() - before < 0.08


def started(server: Server, count: int = 1) -> None:
    """Wait until `count` queries run."""
    until(lambda: sum(t.name == "engine" for t in threading.enumerate()) >= count)
    assert server.flight.calls.count >= count
    # Into the query, past its planning.
    time.sleep(0.15)


def rows_of(reader: flight.FlightStreamReader, batches: int) -> None:
    """Read until so many batches with rows have come."""
    while batches:
        batches -= bool(reader.read_chunk().data.num_rows)


@pytest.mark.parametrize("name", QUERIES)
def test_a_client_that_cancels_leaves_nothing(server: Server, quiet: Held, name: str) -> None:
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(name.encode()))
        started(server)
        if name == "stream":
            rows_of(reader, 3)
        reader.cancel()


@pytest.mark.parametrize("name", QUERIES)
def test_a_client_that_disconnects_leaves_nothing(server: Server, quiet: Held, name: str) -> None:
    client = connect(server)
    reader = client.do_get(flight.Ticket(name.encode()))
    started(server)
    if name == "stream":
        rows_of(reader, 2)
    del reader
    client.close()
    del client


@pytest.mark.parametrize("name", QUERIES)
def test_a_client_whose_time_is_up_leaves_nothing(server: Server, quiet: Held, name: str) -> None:
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(name.encode()), flight.FlightCallOptions(timeout=0.5))
        with pytest.raises(flight.FlightTimedOutError):
            while True:
                reader.read_chunk()
                time.sleep(0.01)


CLIENT = """
import sys
import pyarrow.flight as flight
reader = flight.connect(f"grpc://localhost:{sys.argv[1]}").do_get(flight.Ticket(sys.argv[2].encode()))
print("first", reader.read_chunk().data.num_rows, flush=True)
import time
time.sleep(60)
"""


@pytest.mark.parametrize("name", QUERIES)
def test_a_client_that_is_killed_leaves_nothing(server: Server, quiet: Held, name: str) -> None:
    arguments = [sys.executable, "-c", CLIENT, str(server.port), name]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # A heartbeat is a chunk too: the silent ones have begun when it comes.
        assert process.stdout.readline().startswith("first")
        started(server)
        os.kill(process.pid, signal.SIGKILL)


def test_a_client_that_never_reads_leaves_nothing(server: Server, quiet: Held) -> None:
    client = connect(server)
    reader = client.do_get(flight.Ticket(b"stream"))
    started(server)
    assert not server.flight.calls.draining
    del reader
    client.close()


def test_clients_that_cancel_at_any_moment_leave_nothing(server: Server, quiet: Held) -> None:
    with connect(server) as client:
        for number in range(40):
            reader = client.do_get(flight.Ticket(QUERIES[number % 3].encode()))
            time.sleep(0.002 * (number % 20))
            reader.cancel()
        settle(server)


def test_many_clients_that_leave_at_once_leave_nothing(server: Server, quiet: Held) -> None:
    clients = [connect(server) for _ in range(6)]
    readers = [client.do_get(flight.Ticket(QUERIES[n % 3].encode())) for n, client in enumerate(clients)]
    started(server, 6)
    for reader in readers:
        reader.cancel()
    for client in clients:
        client.close()


def test_requests_that_fail_leave_nothing(server: Server, quiet: Held) -> None:
    for body in (b"nothing", b"stream?x=1", b"\xff", b"{", b"aft1.x.y", b"broken"):
        assert raw(server, "DoGet", ticket(body)).code != grpc.StatusCode.OK


def test_an_engine_that_fails_mid_stream_says_why(server: Server, quiet: Held) -> None:
    reply = raw(server, "DoGet", ticket(b"broken"), timeout_s=30)
    assert reply.code == grpc.StatusCode.INTERNAL
    assert reply.details.startswith("[engine-failed] DuckDB: Conversion Error: Could not convert string 'x' to INT64")


def test_a_query_that_takes_too_long_is_stopped_in_time(server: Server, quiet: Held) -> None:
    began = time.monotonic()
    reply = raw(server, "DoGet", ticket(b"brief"))
    # It would run for minutes; one second is its limit, and the rest is for busy machines.
    assert 1 <= time.monotonic() - began < 10
    assert reply.code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert reply.details.startswith("[timeout] the query took longer than 1 s and was stopped")


def test_the_other_calls_go_on(server: Server, quiet: Held, demo_server: Server) -> None:
    with connect(server) as client, connect(demo_server) as other:
        silent = client.do_get(flight.Ticket(b"silent"))
        started(server)
        assert other.do_get(flight.Ticket(ASKED)).read_all().num_rows == 19
        assert [each.type for each in client.list_actions()][:1]
        # All the while it has run.
        assert server.flight.calls.count == 1
        silent.cancel()


def test_a_silent_query_is_heard_of(server: Server, quiet: Held) -> None:
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"silent"))
        began = time.monotonic()
        beats = [reader.read_chunk().data for _ in range(4)]
        assert [beat.num_rows for beat in beats] == [0, 0, 0, 0]
        assert beats[0].schema.equals(reader.schema)
        assert 0.6 <= time.monotonic() - began < 10
        reader.cancel()


def test_a_client_with_keepalive_lives_through_a_silent_query(server: Server, quiet: Held) -> None:
    options = [("GRPC_ARG_KEEPALIVE_TIME_MS", 300), ("GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS", 1)]
    options += [("grpc.keepalive_time_ms", 300), ("grpc.http2.max_pings_without_data", 0)]
    with flight.connect(f"grpc://localhost:{server.port}", generic_options=options) as client:
        reader = client.do_get(flight.Ticket(b"silent"))
        began = time.monotonic()
        beats = 0
        while time.monotonic() - began < 3:
            beats += reader.read_chunk().data.num_rows == 0
        assert beats >= 10
        reader.cancel()


def test_cancelling_a_finished_call_changes_nothing(server: Server, quiet: Held, demo_server: Server) -> None:
    with connect(demo_server) as client:
        reader = client.do_get(flight.Ticket(ASKED))
        table = reader.read_all()
        reader.cancel()
        assert client.do_get(flight.Ticket(ASKED)).read_all().equals(table)


def test_a_stopped_server_has_no_threads_left(serve: Serve) -> None:
    before = {thread.ident for thread in threading.enumerate()}

    def left() -> set[str]:
        # gRPC's own threads are remembered as Dummy-n for as long as the process lives.
        others = (thread for thread in threading.enumerate() if thread.ident not in before)
        return {thread.name for thread in others if not thread.name.startswith("Dummy-")}

    server = serve()
    assert raw(server, "DoGet", ticket(ASKED)).code == grpc.StatusCode.OK
    server.stop(0)
    until(lambda: not left(), 10, lambda: f"{left()} are left")
    with pytest.raises(pa.ArrowException):
        connect(server).do_get(flight.Ticket(ASKED))
