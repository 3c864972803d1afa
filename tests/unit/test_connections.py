"""Connections are found by their peers among the file descriptors of the process, and cut."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from flight_server.service import connections


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ipv4:127.0.0.1:5000", ("127.0.0.1", 5000)),
        ("ipv6:%5B::1%5D:5000", ("::1", 5000)),
        ("ipv6:[::ffff:10.0.0.7]:5000", ("10.0.0.7", 5000)),
        ("unix:", None),
        ("", None),
    ],
)
def test_a_peer_has_one_form(text: str, found: tuple[str, int] | None) -> None:
    assert connections.peer(text) == found


class Port:
    """A port that accepts, with its connections: pairs of the client's end and ours."""

    def __init__(self, family: socket.AddressFamily, stack: ExitStack) -> None:
        self._stack = stack
        self._accepted: dict[connections.Peer, socket.socket] = {}
        self._listener = stack.enter_context(socket.create_server(("::1", 0), family=family))
        self.number = int(self._listener.getsockname()[1])

    def connect(self) -> socket.socket:
        client = self._stack.enter_context(socket.create_connection(("::1", self.number)))
        self._accepted[address(client)] = self._stack.enter_context(self._listener.accept()[0])
        client.settimeout(5)
        return client

    def accepted(self, client: socket.socket) -> socket.socket:
        """Our end of it."""
        return self._accepted[address(client)]


@pytest.fixture
def port() -> Iterator[Port]:
    with ExitStack() as stack:
        yield Port(socket.AF_INET6, stack)


def address(client: socket.socket) -> connections.Peer:
    host, number = client.getsockname()[:2]
    return host, number


def cut(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def test_the_connection_of_a_peer_is_cut_and_no_other(port: Port) -> None:
    first, second = port.connect(), port.connect()
    assert connections.close(port.number, {address(first)}) == 1
    assert (cut(first), cut(second)) == (True, False)
    assert connections.close(port.number, {("::1", 1)}) == 0
    assert connections.close(port.number, set()) == 0


def test_the_oldest_without_a_call_are_cut(port: Port) -> None:
    clients = [port.connect() for _ in range(6)]
    assert connections.trim(port.number, 3, {address(clients[0])}) == 3
    assert [cut(client) for client in clients] == [False, True, True, True, False, False]


def test_nothing_is_cut_below_the_bound(port: Port) -> None:
    clients = [port.connect() for _ in range(3)]
    assert connections.trim(port.number, 3, set()) == 0
    assert not any(cut(client) for client in clients)


def test_tcp_asks_after_the_other_end_of_what_is_accepted_from_now_on(port: Port) -> None:
    before = port.connect()
    connections.notice_the_gone((port.number,), 30.0)
    after = port.connect()
    assert [asked_after(each) for each in (port.accepted(before), port.accepted(after))] == [None, (15, 5, 3)]


def asked_after(connection: socket.socket) -> tuple[int, int, int] | None:
    if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return None
    idle, pause, times = (
        connection.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    return idle, pause, times


def test_connections_are_cut_when_no_file_is_left_to_look_with(port: Port) -> None:
    clients = [port.connect() for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(each.name) for each in Path("/proc/self/fd").iterdir()) + 10, hard)
        )
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(0))
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
        assert connections.count() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert connections.trim(port.number, 1, set()) == 2
    assert [cut(client) for client in clients] == [True, True, False]


def test_looking_leaves_no_file_open(port: Port, tmp_path: Path) -> None:
    client = port.connect()
    with (tmp_path / "file").open("w"):
        before = connections.count()
        assert connections.trim(port.number, 3, set()) == 0
        assert connections.close(port.number, {address(client)}) == 1
        assert connections.count() == before >= 4


_WRITE = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_looking_takes_no_lock_from_a_database(port: Port, tmp_path: Path) -> None:
    """POSIX: whoever closes any descriptor of a file loses the locks of the whole process on it."""
    client = port.connect()
    with closing(sqlite3.connect(tmp_path / "spent.db", isolation_level=None)) as ours:
        ours.execute("CREATE TABLE t (x)")
        ours.execute("BEGIN IMMEDIATE")
        ours.execute("INSERT INTO t VALUES (1)")
        assert set(connections.traffic(port.number)) == {address(client)}
        other = subprocess.run(
            [sys.executable, "-c", _WRITE, str(tmp_path / "spent.db")], capture_output=True, text=True, check=True
        )
    assert other.stdout == "database is locked\n"
