"""The TCP connections of the Flight port, seen from below: gRPC's own bounds cannot be set through pyarrow.

A connection is found among this process's file descriptors by its two addresses and shut down as a socket. gRPC then
sees what it sees when a client goes away, and ends every call of that connection, also one that waits in a write for a
client that does not read, which nothing else can end. What gRPC does by itself: it closes a connection that has not
said a word of HTTP/2 after 60 s, and after 20 s one whose other end acknowledges nothing of what was sent. Where
nothing is sent it would not notice for two hours that a machine has gone: `notice_the_gone` lets TCP ask.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import os
import resource
import socket
import stat
import struct
import sys
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

Peer = tuple[str, int]
# Where a process finds its own descriptors: on Linux, and elsewhere.
_FOLDERS = ("/proc/self/fd", "/dev/fd")
# One that is lost on the way must not end a connection.
_QUESTIONS = 3
# Where tcpi_bytes_acked and, after it, tcpi_bytes_received are in Linux's struct tcp_info, since 4.1 (linux/tcp.h).
_TRAFFIC = struct.Struct("=120xQQ")


def peer(text: str) -> Peer | None:
    """The address and port in gRPC's name for a peer, `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    _, _, address = unquote(text).partition(":")
    host, _, port = address.rpartition(":")
    return (_plain(host.strip("[]")), int(port)) if host and port.isdecimal() else None


def count() -> int:
    """File descriptors of this process."""
    return len(_descriptors())


def bound(most: int) -> int:
    """`most`, or half of the files that this process may have: the others are for tables, results and a flood."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(most, soft // 2)


def notice_the_gone(ports: Collection[int], after_s: float) -> None:
    """From now on end connections to these ports whose other end has said nothing and answers nothing for so long.

    TCP itself asks. It is set on the sockets that listen, from which connections have it.
    """
    for number in _descriptors():
        with _socket(number) as listening:
            if listening is not None and _listens(listening) and listening.getsockname()[1] in ports:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in _asking(after_s).items():
                    # Not every system has each of them; its own times hold then.
                    if (option := getattr(socket, name, None)) is not None:
                        listening.setsockopt(socket.IPPROTO_TCP, option, value)


def close(port: int, peers: Collection[Peer]) -> int:
    """End the connections of these peers to `port`, and say how many there were."""
    return sum(_end(connection) for found, connection in _connections(port) if found in peers) if peers else 0


def traffic(port: int) -> dict[Peer, tuple[int, int]]:
    """Bytes that each connection to `port` has taken and delivered so far. Empty where the system does not tell."""
    if sys.platform != "linux":
        return {}
    return {
        found: _TRAFFIC.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TRAFFIC.size))
        for found, connection in _connections(port)
    }


def trim(port: int, most: int, keep: Collection[Peer | None]) -> int:
    """End connections to `port` beyond `most`, oldest first and none of `keep`; say how many those were."""
    return end_oldest(port, max(0, sum(1 for _ in _connections(port)) - most), keep)


def end_oldest(port: int, number: int, keep: Collection[Peer | None]) -> int:
    """End so many connections to `port`, oldest first and none of `keep`; say how many there were to end."""
    spare = [each for each, _ in _connections(port) if each not in keep]
    return close(port, set(spare[:number]))


def _connections(port: int) -> Iterator[tuple[Peer, socket.socket]]:
    """Connections to `port` by who is at the other end, about in the order of their age.

    Closes what it gives, and lets nobody else look until it has been read to its end.
    """
    for number in sorted(_descriptors()):
        with _socket(number) as connection:
            try:
                if connection is not None and connection.getsockname()[1] == port:
                    host, other = connection.getpeername()[:2]
                    yield (_plain(host), other), connection
            except OSError:
                # The one that listens, or one that was closed just now.
                continue


@contextlib.contextmanager
def _socket(number: int) -> Iterator[socket.socket | None]:
    """The TCP socket behind a descriptor, while the context lasts; None where there is none, or no more."""
    with _reserve().holding(number) as copy, contextlib.ExitStack() as stack:
        found = None
        with contextlib.suppress(OSError):
            found = socket.socket(fileno=copy)
            stack.callback(found.detach)
        is_tcp = found and found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
        yield found if is_tcp else None


class _Reserve:
    """A descriptor kept for looking at others, as there may be no other one left when it is most needed.

    Only sockets are copied. Closing the copy of a file ends all POSIX locks that this process has on it (fcntl(2)), and
    those of SQLite are such: another process could write to the catalog, or the budget, in the middle of our writing.
    """

    def __init__(self) -> None:
        self._nothing = os.open(os.devnull, os.O_RDONLY)
        self._copy = os.dup(self._nothing)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def holding(self, number: int) -> Iterator[int]:
        """A copy of a socket, or of nothing if there is none: gRPC closes its own, and the number is another's."""
        with self._lock:
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(number).st_mode):
                    os.dup2(number, self._copy, inheritable=False)
                    if not stat.S_ISSOCK(os.fstat(self._copy).st_mode):
                        # Closed, and taken by a file since: its copy stays open for good.
                        self._copy = os.dup(self._nothing)
            try:
                yield self._copy
            finally:
                os.dup2(self._nothing, self._copy, inheritable=False)


@functools.cache
def _reserve() -> _Reserve:
    return _Reserve()


def _listens(each: socket.socket) -> bool:
    return bool(each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _asking(after_s: float) -> dict[str, int]:
    """TCP's settings: asked first after half of the time, then three times in the other half."""
    half = after_s / 2
    return {
        "TCP_KEEPIDLE": max(1, round(half)),
        "TCP_KEEPINTVL": max(1, round(half / _QUESTIONS)),
        "TCP_KEEPCNT": _QUESTIONS,
    }


def _end(connection: socket.socket) -> bool:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It has ended by itself.
        return False
    return True


def _descriptors() -> Collection[int]:
    folder = next(filter(os.path.isdir, _FOLDERS), None)
    try:
        return [int(path.name) for path in Path(folder).iterdir() if path.name.isdecimal()] if folder else []
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        # Not even the folder can be opened. Then each one that there may be is taken.
        return range(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _plain(host: str) -> str:
    """An address in its one form: gRPC listens on IPv6 and sees IPv4 clients through it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
