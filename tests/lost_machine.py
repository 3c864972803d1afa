"""A machine of its own that can vanish without a word, as one does whose cable is pulled: a network namespace.

`python -m tests.lost_machine HOST FLIGHT HTTP HEALTH` is what runs on it: one client of each kind, which prints
`connected` when all are.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pyarrow.flight as flight

from tests.hostile_sockets import GREETING
from tests.processes import Process

# Addresses that nobody has: frames to them go nowhere.
_NOWHERE = "02:00:00:00:00:99"


class LostMachine:
    """`here` is this machine's address on the cable, `there` the other's."""

    def __init__(self, number: int) -> None:
        self.name, self._cable = f"lost{number}", (f"lo{number}a", f"lo{number}b")
        self.here, self.there = f"10.213.{number % 256}.1", f"10.213.{number % 256}.2"

    def connect(self) -> None:
        near, far = self._cable
        _ip("netns", "add", self.name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", self.name)
        for where, address in (((), self.here), (("-n", self.name), self.there)):
            device = far if where else near
            _ip(*where, "addr", "add", f"{address}/24", "dev", device)
            _ip(*where, "link", "set", device, "up")

    def run(self, *arguments: str) -> Process:
        """Python on that machine."""
        return Process(["netns", "exec", self.name, sys.executable, *arguments], "ip")

    def vanish(self) -> None:
        """Nothing of it arrives any more, nor anything at it; no end is told."""
        near, far = self._cable
        _ip("neigh", "replace", self.there, "lladdr", _NOWHERE, "dev", near, "nud", "permanent")
        _ip("-n", self.name, "neigh", "replace", self.here, "lladdr", _NOWHERE, "dev", far, "nud", "permanent")

    def close(self) -> None:
        # The cable goes with it.
        _ip("netns", "del", self.name)


@contextmanager
def machine() -> Iterator[LostMachine]:
    found = LostMachine(os.getpid())
    found.connect()
    try:
        yield found
    finally:
        found.close()


def why_not() -> str | None:
    """What this machine lacks for it."""
    if shutil.which("ip") is None:
        return "a machine that vanishes needs `ip` (iproute2)"
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False)
    return "a machine that vanishes needs the right to make network namespaces" if tried.returncode else None


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def uploading() -> Iterator[bytes]:
    """The messages of an upload, of which none comes."""
    threading.Event().wait()
    yield b""


def main(host: str, flight_port: int, *probes: int) -> None:
    held: list[Any] = [socket.create_connection((host, port)) for port in (flight_port, *probes)]
    for port in (flight_port, probes[-1]):
        greeting = socket.create_connection((host, port))
        greeting.sendall(GREETING)
        held.append(greeting)

    def client() -> flight.FlightClient:
        # Without arguments of its own gRPC may give two clients one connection.
        found = flight.connect(f"grpc://{host}:{flight_port}", generic_options=[("grpc.test", len(held))])
        held.append(found)
        return found

    list(client().list_actions())
    channel = grpc.insecure_channel(f"{host}:{flight_port}")
    held.append(channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")(uploading()))
    reading = client().do_get(flight.Ticket(b"endless"))
    reading.read_chunk()
    # Its first row is minutes away.
    threading.Thread(target=lambda: client().do_get(flight.Ticket(b"long")).read_all(), daemon=True).start()
    print("connected", flush=True)
    while True:
        reading.read_chunk()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
