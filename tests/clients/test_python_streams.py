"""Streams that are slow, many, refused, broken off or no longer wanted."""

from __future__ import annotations

import gc
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import flight_client
from flight_client import Connection, FlightDataError, ServerError, Unavailable, _transport
from flight_client._fetch import Fetch
from flight_server.server import Server
from tests.clients.peer import Batches, Peer, failing, giving, numbers
from tests.fix_client import ServerProcess, client_env
from tests.waiting import until


def ask(peer: Peer) -> flight_client.Query:
    return flight_client.connect(peer.url).numbers()


def column(query: flight_client.Query) -> list[int]:
    return [value for batch in query for value in batch["n"].to_pylist()]


def test_heartbeats_are_not_rows() -> None:
    with Peer(giving(1, 2, 3)) as peer:
        assert [batch.num_rows for batch in ask(peer)] == [1, 1, 1]
        assert ask(peer).arrow()["n"].to_pylist() == [1, 2, 3]


def test_endpoints_are_read_at_once_and_all_arrive() -> None:
    # Eight streams, each of which begins only when four are being read.
    four = threading.Barrier(4, timeout=30)
    with Peer(*(giving(*range(start, start + 5), after=four.wait) for start in range(0, 40, 5))) as peer:
        assert sorted(column(ask(peer))) == list(range(40))


def test_ordered_endpoints_keep_their_order() -> None:
    # The first endpoint is the slowest one.
    many: list[Batches] = [
        giving(*range(start, start + 5), pause_s=0.05 if start == 0 else 0) for start in range(0, 40, 5)
    ]
    with Peer(*many, ordered=True) as peer:
        assert column(ask(peer)) == list(range(40))


def test_an_error_of_one_endpoint_is_the_answers() -> None:
    broken = failing(flight.FlightInternalError("[engine-failed] out of memory"), 5)
    with (
        Peer(giving(1, 2), broken, giving(3)) as peer,
        pytest.raises(ServerError, match=r"\[engine-failed\] out of memory$"),
    ):
        ask(peer).arrow()


@pytest.mark.parametrize("code", ["busy", "draining", "engine-throttled"])
def test_unavailable_is_asked_again(code: str) -> None:
    with Peer(giving(1)) as peer:
        query = ask(peer)
        peer.calls.clear()
        peer.refusals = [flight.FlightUnavailableError(f"[{code}] later") for _ in range(2)]
        assert column(query) == [1]
        assert peer.calls == ["info", "info", "info", "get"]


def test_a_stream_that_is_turned_away_before_its_first_row_is_asked_again() -> None:
    turns: list[Batches] = [failing(flight.FlightUnavailableError("[engine-throttled] later")), giving(7)]

    def batches(context: flight.ServerCallContext) -> Iterator[pa.RecordBatch]:
        return turns.pop(0)(context)

    with Peer(batches) as peer:
        assert column(ask(peer)) == [7]
        assert peer.calls.count("get") == 2


def test_after_a_row_nothing_is_asked_again() -> None:
    with Peer(failing(flight.FlightUnavailableError("[draining] stopping"), 1)) as peer:
        query = ask(peer)
        with pytest.raises(Unavailable, match=r"^\[draining\] stopping$"):
            query.arrow()
        assert peer.calls.count("get") == 1


@pytest.mark.parametrize(
    "refusal",
    [
        flight.FlightInternalError("[engine-failed] no"),
        flight.FlightTimedOutError("[timeout] no"),
        flight.FlightUnauthorizedError("[not-allowed] no"),
        flight.FlightUnavailableError("no code at all"),
    ],
)
def test_nothing_else_is_asked_again(refusal: Exception) -> None:
    with Peer(giving(1)) as peer:
        query = ask(peer)
        peer.calls.clear()
        peer.refusals = [refusal]
        with pytest.raises(FlightDataError):
            query.arrow()
        assert peer.calls == ["info"]


def test_a_server_that_stays_busy_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_transport, "RETRY_TOTAL_S", 0.5)
    with Peer(giving(1)) as peer:
        query = ask(peer)
        peer.refusals = [flight.FlightUnavailableError("[busy] all places are taken") for _ in range(100)]
        with pytest.raises(Unavailable, match=r"^\[busy\] all places are taken$"):
            query.arrow()
        # It has given up before the server did.
        assert len(peer.refusals) > 90


@pytest.mark.parametrize("said", ["2", "4"])
def test_a_stream_with_another_row_count_than_the_server_says_is_an_error(said: str) -> None:
    with Peer(giving(1, 2, 3, trailer=said)) as peer:
        with pytest.raises(ServerError) as caught:
            ask(peer).arrow()
        assert caught.value.code == "incomplete"
        assert caught.value.message == f"the server sent {said} rows and 3 arrived"


def test_a_location_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = flight.FlightEndpoint(b"0", ["grpc://elsewhere.invalid:1"])
    here = flight.FlightEndpoint(b"0", ["arrow-flight-reuse-connection://?"])
    with Peer(giving(1)) as peer:
        for found, refused in (([endpoint], True), ([here], False)):
            info = flight.FlightInfo(numbers().schema, flight.FlightDescriptor.for_path("n"), found, -1, -1)
            monkeypatch.setattr(peer, "get_flight_info", lambda *_, info=info: info)
            if refused:
                with pytest.raises(flight_client.Unsupported):
                    ask(peer).arrow()
            else:
                assert column(ask(peer)) == [1]


def test_a_killed_server_never_looks_like_the_end(server_process: ServerProcess, tmp_path: Path) -> None:
    with flight_client.connect(server_process.url) as db:
        batches = iter(db.slow_rows())
        assert next(batches).num_rows
        server_process.process.kill()
        with pytest.raises(Unavailable) as caught:
            list(batches)
        assert caught.value.code == "connection-lost"
        with pytest.raises(Unavailable) as caught:
            db.slow_rows().plan()
        assert caught.value.code == "unreachable"


def test_a_killed_server_leaves_no_parquet_file(server_process: ServerProcess, tmp_path: Path) -> None:
    script = (
        "import sys, flight_client\n"
        "try: flight_client.connect(sys.argv[1]).slow_rows().to_parquet(sys.argv[2])\n"
        "except flight_client.Unavailable as error: print(error.code)"
    )
    file = tmp_path / "rows.parquet"
    client = subprocess.Popen(
        [sys.executable, "-c", script, server_process.url, str(file)],
        stdout=subprocess.PIPE,
        text=True,
        env=client_env(),
    )
    until(lambda: any(each.stat().st_size > 100_000 for each in tmp_path.iterdir()), 30)
    server_process.process.kill()
    assert client.communicate(timeout=30)[0] == "connection-lost\n"
    assert list(tmp_path.iterdir()) == []


def test_a_dropped_reader_stops_the_query(db: Connection, client_server: Server) -> None:
    before = client_server.flight.calls.count
    reader = db.slow_rows().reader()
    assert reader.read_next_batch().num_rows
    assert client_server.flight.calls.count == before + 1
    del reader
    gc.collect()
    until(lambda: client_server.flight.calls.count == before)


def test_a_server_that_says_nothing_hears_at_once_that_nobody_reads() -> None:
    heard = threading.Event()

    def silent(context: flight.ServerCallContext) -> Iterator[pa.RecordBatch]:
        yield numbers(1)
        while not context.is_cancelled():
            time.sleep(0.01)
        heard.set()

    with Peer(silent) as peer:
        batches = iter(ask(peer))
        assert next(batches).num_rows == 1
        batches.close()  # type: ignore[attr-defined]
        assert heard.wait(30)


def test_a_stream_that_opens_while_its_reader_leaves_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, leaving = threading.Event(), threading.Event()

    def silent(context: flight.ServerCallContext) -> Iterator[pa.RecordBatch]:
        while not context.is_cancelled():
            time.sleep(0.01)
        heard.set()
        yield from ()

    plain = _transport.Transport.open

    def late(self: _transport.Transport, ticket: flight.Ticket) -> _transport.Stream:
        stream = plain(self, ticket)
        assert leaving.wait(30)
        return stream

    monkeypatch.setattr(_transport.Transport, "open", late)
    with Peer(silent) as peer, flight_client.connect(peer.url) as db, flight.connect(peer.url) as client:
        fetch = Fetch(db._transport, client.get_flight_info(flight.FlightDescriptor.for_path("numbers")))
        closing = threading.Thread(target=fetch.close)
        closing.start()
        # It has cancelled what ran, which was nothing, and waits for its threads.
        until(fetch._closed.is_set)
        closing.join(0.2)
        leaving.set()
        assert heard.wait(30)
        closing.join(30)


def test_a_program_that_survives_ctrl_c_has_stopped_its_query(url: str, client_server: Server) -> None:
    script = (
        "import sys, flight_client\n"
        "query = flight_client.connect(sys.argv[1]).slow_count()\n"
        "print('asking', flush=True)\n"
        "try: query.arrow()\n"
        "except KeyboardInterrupt: print('stopped', flush=True)\n"
        "sys.stdin.read()"
    )
    before = client_server.flight.calls.count
    command = [sys.executable, "-c", script, url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=client_env()
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "asking\n"
        until(lambda: client_server.flight.calls.count > before)
        time.sleep(0.3)
        client.send_signal(signal.SIGINT)
        assert client.stdout.readline() == "stopped\n"
        until(lambda: client_server.flight.calls.count == before)
        assert client.poll() is None


def test_leaving_a_loop_stops_the_query(db: Connection, client_server: Server) -> None:
    before = client_server.flight.calls.count
    for batch in itertools.islice(db.slow_rows(), 3):
        assert batch.num_rows
    gc.collect()
    until(lambda: client_server.flight.calls.count == before)


@pytest.mark.parametrize("dataset", ["slow_rows", "slow_count"])
@pytest.mark.parametrize("method", ["arrow", "to_parquet"])
def test_ctrl_c_stops_the_query_on_the_server(
    url: str, client_server: Server, tmp_path: Path, dataset: str, method: str
) -> None:
    script = (
        "import sys, flight_client\n"
        f"query = flight_client.connect(sys.argv[1]).{dataset}()\n"
        "print('asking', flush=True)\n"
        f"query.{method}({'sys.argv[2]' if method == 'to_parquet' else ''})"
    )
    before = client_server.flight.calls.count
    client = subprocess.Popen(
        [sys.executable, "-c", script, url, str(tmp_path / "rows.parquet")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=client_env(),
    )
    assert client.stdout is not None
    assert client.stdout.readline() == "asking\n"
    until(lambda: client_server.flight.calls.count > before)
    time.sleep(0.3)
    client.send_signal(signal.SIGINT)
    # The queries go on for minutes where nobody stops them.
    _, err = client.communicate(timeout=20)
    # Python's own end of a program that Ctrl-C has stopped, soon and without a crash of pyarrow's threads.
    assert (client.returncode, err.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
    until(lambda: client_server.flight.calls.count == before)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_left_open_does_not_break_the_end_of_python(url: str) -> None:
    script = (
        "import sys, flight_client\n"
        "reader = flight_client.connect(sys.argv[1]).slow_rows().reader()\n"
        "print(reader.read_next_batch().num_rows > 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, url], capture_output=True, text=True, timeout=30, env=client_env()
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_parquet_is_written_in_bounded_memory(url: str, tmp_path: Path) -> None:
    script = (
        "import os, resource, sys, flight_client\n"
        "query = flight_client.connect(sys.argv[1]).slow_rows()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "import flight_client._parquet as parquet, itertools, pyarrow.parquet as pq\n"
        "batches = itertools.islice(query, 80)\n"
        "rows = parquet.write(parquet.Path(sys.argv[2]), query.schema, batches, 'zstd')\n"
        "print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, url, str(tmp_path / "rows.parquet")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=client_env(),
    )
    rows, grown = map(int, ended.stdout.split())
    assert rows > 1_000_000
    # 12 bytes a row as Arrow; a million of them are one row group.
    assert grown < 150e6, f"{grown:,} bytes for {rows:,} rows"
