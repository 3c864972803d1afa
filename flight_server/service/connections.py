"""The TCP connections of the Flight port, seen from below: gRPC's own bounds cannot be set through pyarrow.

A connection is found among this process's file descriptors by its two addresses and shut down as a socket. gRPC then
sees what it sees when a client goes away, and ends every call of that connection, also one that waits in a write for a
client that does not read, which nothing else can end. What gRPC does by itself: it closes a connection that has not
said a word of HTTP/2 after 60 s, and within a minute one whose other end acknowledges nothing of what is sent.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote

Peer = tuple[str, int]
# Where a process finds its own descriptors: on Linux, and elsewhere.
_FOLDERS = ("/proc/self/fd", "/dev/fd")


def peer(text: str) -> Peer | None:
    """The address and port in gRPC's name for a peer, `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    _, _, address = unquote(text).partition(":")
    host, _, port = address.rpartition(":")
    return (_plain(host.strip("[]")), int(port)) if host and port.isdecimal() else None


def count() -> int:
    """File descriptors of this process."""
    return len(_descriptors())


def close(port: int, peers: Collection[Peer]) -> int:
    """End the connections of these peers to `port`, and say how many there were."""
    return sum(_end(connection) for found, connection in _connections(port) if found in peers) if peers else 0


def trim(port: int, most: int, keep: Collection[Peer | None]) -> int:
    """End connections to `port` beyond `most`, oldest first and none of `keep`; say how many those were."""
    found = [each for each, _ in _connections(port)]
    spare = [each for each in found if each not in keep]
    return close(port, set(spare[: max(0, len(found) - most)]))


def _connections(port: int) -> Iterator[tuple[Peer, socket.socket]]:
    """Connections to `port` by who is at the other end, about in the order of their age. Closes what it gives."""
    for number in sorted(_descriptors()):
        with contextlib.ExitStack() as stack:
            try:
                # A copy: gRPC may close its own meanwhile, and the number would be another's.
                copy = os.dup(number)
                stack.callback(os.close, copy)
                connection = socket.socket(fileno=copy)
                stack.callback(connection.detach)
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getsockname()[1] == port:
                    host, other = connection.getpeername()[:2]
                    yield (_plain(host), other), connection
            except OSError:
                # No socket, or the one that listens, or one that was closed just now.
                continue


def _end(connection: socket.socket) -> bool:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It has ended by itself.
        return False
    return True


def _descriptors() -> list[int]:
    folder = next(filter(os.path.isdir, _FOLDERS), None)
    return [int(path.name) for path in Path(folder).iterdir() if path.name.isdecimal()] if folder else []


def _plain(host: str) -> str:
    """An address in its one form: gRPC listens on IPv6 and sees IPv4 clients through it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
