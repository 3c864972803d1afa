"""Requests that are longer than any: who sends them is hung up on, and others are not."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, closing, suppress

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.server import Server
from flight_server.service.intake import Intake
from tests.fix_server import ASKED, Serve, connect
from tests.waiting import until

LONG = bytes(200 << 20)


def sent(client: flight.FlightClient, way: str) -> str:
    """What comes of a request without end."""
    try:
        if way == "ticket":
            client.do_get(flight.Ticket(LONG)).read_all()
        elif way == "command":
            client.get_flight_info(flight.FlightDescriptor.for_command(LONG))
        else:
            list(client.do_action(flight.Action("describe", LONG)))
    except (flight.FlightError, pa.ArrowException) as error:
        return str(error)
    return "answered"


@pytest.mark.parametrize("way", ["ticket", "command", "action"])
def test_a_request_without_end_is_cut(demo_server: Server, way: str) -> None:
    with connect(demo_server) as other, connect(demo_server) as client:
        # Where the whole of it comes between two looks, it is read and refused.
        until(lambda: "[bad-request]" not in sent(client, way))
        assert "answered" not in sent(client, way)
        assert other.do_get(flight.Ticket(ASKED)).read_all().num_rows


def test_a_connection_is_cut_for_what_it_delivers_without_a_call() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with (
            closing(Intake(1 << 20, port)) as intake,
            socket.create_connection(("127.0.0.1", port)) as quiet,
            socket.create_connection(("127.0.0.1", port)) as client,
            ExitStack() as stack,
        ):
            accepted = [listener.accept() for _ in range(2)]
            ours = {address: stack.enter_context(each) for each, address in accepted}
            peer = client.getsockname()
            mine = ours[peer]
            for number in range(1, 5):
                # A call in between: less than the bound since the last one.
                client.sendall(bytes(700_000))
                assert len(_read(mine, 700_000)) == 700_000
                intake.heard(f"ipv4:{peer[0]}:{peer[1]}")
                # Nothing more may come before the look that has heard of it is over.
                until(lambda number=number: intake._before.get(peer) == number * 700_000)  # type: ignore[misc]
            client.settimeout(20)
            client.sendall(bytes(900_000))
            assert len(_read(mine, 900_000)) == 900_000
            with suppress(ConnectionError):
                client.sendall(bytes(1_800_000))
            until(lambda: _ended(client))
            quiet.sendall(b"still here")
            assert ours[quiet.getsockname()].recv(100) == b"still here"


class Slow(set[str]):
    """A set into which something is put slowly."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def add(self, each: str) -> None:
        self.begun.set()
        assert self.go.wait(30)
        super().add(each)


def test_a_call_that_is_heard_while_somebody_looks_counts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with closing(Intake(1 << 20, port)) as intake, socket.create_connection(("127.0.0.1", port)) as client:
            mine, peer = listener.accept()
            with mine:
                until(lambda: peer in intake._before)
                client.sendall(bytes(1000))
                assert len(_read(mine, 1000)) == 1000
                slow = intake._heard = Slow()
                hearing = threading.Thread(target=intake.heard, args=(f"ipv4:{peer[0]}:{peer[1]}",))
                hearing.start()
                assert slow.begun.wait(30)
                # Several looks, if they do not wait for who is being heard.
                time.sleep(0.3)
                slow.go.set()
                hearing.join()
                until(lambda: intake._before[peer] == 1000, 10)


def test_what_a_connection_takes_lets_it_deliver_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with closing(Intake(1 << 20, port)), socket.create_connection(("127.0.0.1", port)) as client:
            mine = listener.accept()[0]
            with mine:
                # As a long stream does, whose reader tells again and again what it has read.
                sender = threading.Thread(target=mine.sendall, args=(bytes(100 << 20),))
                sender.start()
                assert len(_read(client, 100 << 20)) == 100 << 20
                sender.join()
                client.sendall(bytes(1_500_000))
                assert len(_read(mine, 1_500_000)) == 1_500_000
                # Longer than the pause between two looks.
                time.sleep(0.5)
                assert not _ended(client)


def _read(connection: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        found += connection.recv(min(1 << 20, size - len(found)))
    return bytes(found)


def _ended(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_many_calls_on_one_connection_are_no_flood(serve: Serve) -> None:
    server = serve(limits={"received_bytes_max": 1 << 20})
    with connect(server) as client:
        for _ in range(60):
            # Too long to be taken, and short enough to be answered; 4.2 MB together.
            with pytest.raises(pa.ArrowInvalid, match="at most 65,536"):
                client.do_get(flight.Ticket(bytes(70_000))).read_all()
