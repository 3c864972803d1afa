"""Each caller has a share, a stream that nobody reads ends, and results and statements have bounds."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.server import Server
from tests.fix_identity import STATIC, Client, Lake, code_of, write_datasets
from tests.fix_server import ASKED, Serve, Write, command, connect, dataset, raw, ticket
from tests.waiting import until

_CROSS = """FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b
CROSS JOIN market_data.us_stocks_price AS c"""
# Some 10^12 rows, of which the first come at once.
ENDLESS = dataset(f"SELECT CAST(a.meta_id AS BIGINT) + b.meta_id AS x {_CROSS}")
PAIRS = ", ".join(f"p.open AS t{n}" for n in range(24))
LONG = ('title = "Long"\n[columns]\nname = { type = "string" }', f"SELECT t0.name FROM {PAIRS}")


def engines() -> int:
    return sum(thread.name == "engine" for thread in threading.enumerate())


@pytest.fixture
def endless(datasets: Write) -> Path:
    return datasets(endless=ENDLESS)


def read_to_the_end(reader: flight.FlightStreamReader) -> str:
    """The text of the error that a stream ends with."""
    with pytest.raises((flight.FlightError, pa.ArrowException)) as error:
        while True:
            reader.read_chunk()
    return str(error.value)


def test_a_stream_that_nobody_reads_ends_and_says_so_when_it_is_read(serve: Serve, endless: Path) -> None:
    server = serve(endless, limits={"stream_idle_s": 0.4, "streams_max": 1})
    with connect(server) as client, connect(server) as other:
        reader = client.do_get(flight.Ticket(b"endless"))
        reader.read_chunk()
        until(lambda: engines() == 1)
        # The query and the place are free, although the client is there and its call is open.
        until(lambda: engines() == 0 and server.flight.calls.count == 0)
        assert server.flight.calls.present()
        again = other.do_get(flight.Ticket(b"endless"))
        assert again.read_chunk().data.num_rows
        said = read_to_the_end(reader)
        assert said.startswith("[timeout] the stream waited too long for its client and was ended")
        assert list(client.list_actions())
        again.cancel()
    until(lambda: not server.flight.calls.present())


def test_too_many_unread_streams_lose_their_connections_and_others_go_on(serve: Serve, endless: Path) -> None:
    server = serve(endless, limits={"stream_idle_s": 0.4, "unread_max": 1})
    with connect(server) as first, connect(server) as second, connect(server) as other:
        readers = [client.do_get(flight.Ticket(b"endless")) for client in (first, second)]
        for reader in readers:
            reader.read_chunk()
        until(lambda: len(server.flight.calls.present()) == 1)
        # The older one is cut; the younger one may still read on to its end.
        assert "[timeout]" not in read_to_the_end(readers[0])
        assert "[timeout]" in read_to_the_end(readers[1])
        # A client whose connection was cut makes a new one by itself.
        assert list(first.list_actions()) == list(other.list_actions())


def test_a_client_that_reads_nothing_does_not_hold_up_the_end(serve: Serve, endless: Path) -> None:
    server = serve(endless)
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"endless"))
        reader.read_chunk()
        until(lambda: any(call.unread for call in server.flight.calls.present()))
        stopping = threading.Thread(target=server.stop, args=(0,))
        stopping.start()
        stopping.join(30)
        assert not stopping.is_alive()
        read_to_the_end(reader)
    assert engines() == 0


def test_an_upload_that_never_comes_does_not_hold_up_the_end(serve: Serve) -> None:
    server = serve()
    with silent_uploads(server, 1):
        stopping = threading.Thread(target=server.stop, args=(0,))
        stopping.start()
        stopping.join(30)
        assert not stopping.is_alive()


def test_a_slow_reader_is_left_in_peace(serve: Serve, endless: Path) -> None:
    server = serve(endless, limits={"stream_idle_s": 2.0})
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"endless"))
        end = time.monotonic() + 3.0
        while time.monotonic() < end:
            # Together longer than the bound, each well below it.
            for _ in range(10):
                reader.read_chunk()
            time.sleep(0.1)
        assert reader.read_chunk().data.num_rows
        reader.cancel()


def test_a_slow_engine_is_not_its_readers_fault(serve: Serve, datasets: Write) -> None:
    count = f"SELECT COUNT(*) AS x {_CROSS} WHERE a.close < b.close + c.close"
    silent = datasets(silent=dataset(count, limits='timeout = "2.5s"'))
    # The engine works for longer than a reader may wait, after a heartbeat that the reader took at once.
    server = serve(silent, server={"heartbeat_s": 1.0}, limits={"stream_idle_s": 0.4})
    reply = raw(server, "DoGet", ticket(b"silent"))
    assert reply.details.startswith("[timeout] the query took longer than 2.5 s")


def test_a_stream_has_a_longest_life(serve: Serve, endless: Path) -> None:
    server = serve(endless, limits={"stream_life_s": 0.5})
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"endless"))
        assert "[timeout] the stream was open for 0.5 s" in read_to_the_end(reader)


def test_unused_connections_are_cut_and_their_clients_come_again(serve: Serve) -> None:
    server = serve(limits={"connections_max": 1})
    with connect(server) as client:
        assert list(client.list_actions())
        found = flight_connections(server)
        assert found >= 1
        until(lambda: flight_connections(server) <= 1)
        assert list(client.list_actions())


def flight_connections(server: Server) -> int:
    return sum(
        each.status == psutil.CONN_ESTABLISHED and bool(each.laddr) and each.laddr.port == server.port
        for each in psutil.Process().net_connections("tcp")
    )


@pytest.mark.parametrize(("limit", "more"), [('max_bytes = "80 KB"', True), ('max_bytes = "1 MB"', False)])
def test_a_result_has_a_bound_of_bytes(serve: Serve, datasets: Write, limit: str, more: bool) -> None:
    rows = "SELECT CAST(p.meta_id AS BIGINT) AS x FROM market_data.us_stocks_price AS p LIMIT 12000"
    reply = raw(serve(datasets(rows=dataset(rows, limits=limit))), "DoGet", ticket(b"rows"))
    if more:
        assert reply.details.startswith("[row-limit] rows gave more than 80,000 bytes, which is its limit; ask for")
    else:
        assert reply.code == grpc.StatusCode.OK


def test_the_servers_own_bounds_hold_where_a_dataset_says_more(serve: Serve, datasets: Write) -> None:
    rows = "SELECT CAST(p.meta_id AS BIGINT) AS x FROM market_data.us_stocks_price AS p"
    files = datasets(rows=dataset(rows, limits='max_bytes = "1 GB"\nmax_scan = "1 TB"'))
    reply = raw(serve(files, limits={"bytes_max": 50_000}), "DoGet", ticket(b"rows"))
    assert reply.details.startswith("[row-limit] rows gave more than 50,000 bytes")
    reply = raw(serve(files, limits={"scan_bytes_max": 1000}), "DoGet", ticket(b"rows"))
    assert reply.details.startswith("[scan-limit]")
    assert "may read 1,000" in reply.details


def as_callers(server: Server, *names: str) -> list[Client]:
    return [Client(connect(server), STATIC[name]) for name in names]


def opened(client: Client, name: str = "long") -> flight.FlightStreamReader:
    """A stream whose first rows have come and whose others wait."""
    reader = client.flight.do_get(flight.Ticket(name.encode()), client.options)
    while not reader.read_chunk().data.num_rows:
        pass
    return reader


def test_one_callers_open_streams_leave_places_for_others(lake_copy: Lake) -> None:
    write_datasets(lake_copy.folder / "sql", long=LONG)
    limits = {"streams_max": 3, "streams_per_caller": 2, "queue_wait_s": 0.2}
    with lake_copy.serve(limits=limits) as server:
        alice, bob = as_callers(server, "alice", "bob")
        readers = [opened(alice), opened(alice)]
        with pytest.raises(flight.FlightUnavailableError, match=r"\[busy\] 2 streams of yours are open"):
            opened(alice)
        assert bob.ports() == {3}
        # What takes no stream's place is not held up.
        assert alice.info("nav").total_records == -1
        assert alice.listed()
        readers.pop().cancel()
        until(lambda: server.flight.calls.count == 1)
        readers.append(opened(alice))
        for reader in readers:
            reader.cancel()
        until(lambda: server.flight.calls.count == 0)


def test_a_flood_does_not_starve_a_single_request(lake_copy: Lake) -> None:
    limits = {"streams_max": 2, "streams_per_caller": 2, "queue_max": 10, "queue_wait_s": 5.0}
    with lake_copy.serve(limits=limits) as server:
        alice, bob = as_callers(server, "alice", "bob")
        stop, codes = threading.Event(), list[str]()

        def flood() -> None:
            while not stop.is_set():
                codes.append(code_of(alice.ports))

        threads = [threading.Thread(target=flood) for _ in range(24)]
        for thread in threads:
            thread.start()
        until(lambda: server.flight.calls.streams.queued >= 8)
        answers = [bob.ports() for _ in range(8)]
        stop.set()
        for thread in threads:
            thread.join()
    assert answers == [{3}] * 8
    # The flood has felt it: more came than could wait.
    assert set(codes) == {"ok", "busy"}


def test_statements_have_a_rate_for_each_caller(lake_copy: Lake) -> None:
    with lake_copy.serve(limits={"statements_burst": 2, "statements_per_min": 0.5}) as server:
        alice, bob = as_callers(server, "alice", "bob")

        def ask(client: Client) -> object:
            return client.sql("SELECT COUNT(*) AS n FROM nav() AS n")

        assert [code_of(lambda: ask(alice)) for _ in range(3)] == ["ok", "ok", "busy"]
        with pytest.raises(flight.FlightUnavailableError, match=r"0\.5 statements a minute .*; try again in 1"):
            ask(alice)
        assert code_of(lambda: ask(bob)) == "ok"
        # A call of a dataset is a request by name, whatever language it comes in.
        assert alice.sql("SELECT * FROM nav()")
        assert alice.ports() == {1, 2}


def test_uploads_that_never_come_are_bounded_and_hold_up_nobody(serve: Serve) -> None:
    server = serve(limits={"streams_max": 2, "calls_max": 1})
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        put = channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")
        silent = [put(silence()) for _ in range(2)]
        until(lambda: server.flight.calls.uploads.taken == 2)
        refused = put(silence())
        with pytest.raises(grpc.RpcError):
            next(refused)
        assert (refused.code(), refused.details()[:6]) == (grpc.StatusCode.UNAVAILABLE, "[busy]")
        assert raw(server, "DoGet", ticket(ASKED)).code == grpc.StatusCode.OK
        assert raw(server, "GetFlightInfo", command(ASKED)).code == grpc.StatusCode.OK
        for call in silent:
            call.cancel()
        until(lambda: server.flight.calls.uploads.taken == 0)
        never.set()


def test_uploads_that_do_not_come_in_time_lose_their_connections_and_streams_go_on(serve: Serve, endless: Path) -> None:
    server = serve(endless, limits={"upload_s": 0.5})
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"endless"))
        reader.read_chunk()
        with silent_uploads(server, 2) as silent:
            until(lambda: server.flight.calls.uploads.taken == 0)
            for call in silent:
                with pytest.raises(grpc.RpcError):
                    next(call)
        # As many chunks as do not fit into any buffer on the way.
        for _ in range(1000):
            assert reader.read_chunk().data is not None
        reader.cancel()


@contextlib.contextmanager
def silent_uploads(server: Server, count: int) -> Iterator[list[Any]]:
    """DoPuts of which nothing comes, on a connection of their own."""
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        put = channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")
        silent = [put(silence()) for _ in range(count)]
        try:
            until(lambda: server.flight.calls.uploads.taken == count)
            yield silent
        finally:
            for call in silent:
                call.cancel()
            never.set()


def test_without_authentication_nobody_has_a_share(serve: Serve, endless: Path) -> None:
    server = serve(endless, limits={"streams_per_caller": 1, "streams_max": 3, "calls_per_caller": 1})
    with connect(server) as client:
        readers = [client.do_get(flight.Ticket(b"endless")) for _ in range(3)]
        for reader in readers:
            reader.read_chunk()
        assert server.flight.calls.streams.taken == 3
        for reader in readers:
            reader.cancel()
