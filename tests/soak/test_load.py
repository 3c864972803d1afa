"""500 clients at once: nobody meets anything but `busy`, who is let in is answered soon, and nothing is left of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from flight_server import config
from tests import load, processes
from tests.large import Memory

SQL = Path(__file__).parents[2] / "sql"
# What 500 connections, all places and a full queue may take over the server after a first, short load.
MEMORY_MAX = 300 << 20
FILES_MAX = 15


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    threads: int
    files: int
    memory: int

    @classmethod
    def by(cls, process: psutil.Process) -> Held:
        return cls(process.num_threads(), process.num_fds(), process.memory_info().rss)

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.files} files, {self.memory >> 20} MiB"


@pytest.fixture
def server(demo_config: config.Config, tmp_path: Path) -> Iterator[processes.ServerProcess]:
    settings = config.load(
        None,
        server={"port": 0, "grace_s": 2.0},
        datasets={"directory": SQL},
        catalog=demo_config.catalog.model_dump(),
    )
    with processes.server(settings, tmp_path) as started:
        yield started


def port_of(server: processes.ServerProcess) -> int:
    return int(server.address.rpartition(":")[2])


def loaded(server: processes.ServerProcess, clients: int, seconds: float) -> load.Met:
    """Load the server, and see that it is as it was afterwards."""
    process = psutil.Process(server.child.pid)
    port = port_of(server)
    # Everything is made once that is made once: pools of threads, buffers, plans.
    load.run(port, clients, min(5.0, seconds))
    rest = settled(process)
    with Memory(process) as memory:
        met = load.run(port, clients, seconds)
    after = settled(process, rest)
    print(f"\n{clients} clients, {seconds:g} s: {met}\nat rest: {rest}; most: {memory.most >> 20} MiB; after: {after}")
    assert set(met.codes) <= {"ok", "busy"}
    assert server.child.poll() is None
    assert memory.most - rest.memory < MEMORY_MAX
    assert after.threads <= rest.threads + 4
    # Each is a connection of the catalog's pool, a file of its SQLite, or a kept result: as many as there are places at
    # most, and none for a client.
    assert after.files <= rest.files + FILES_MAX
    return met


def settled(process: psutil.Process, like: Held | None = None, timeout_s: float = 20.0) -> Held:
    """What the process holds once it holds no more than `like`, or for good."""
    end = time.monotonic() + (timeout_s if like else 2.0)
    while time.monotonic() < end:
        found = Held.by(process)
        if like and found.threads <= like.threads and found.files <= like.files:
            break
        time.sleep(0.1)
    return Held.by(process)


@pytest.mark.timeout(120)
def test_sixty_clients_for_three_seconds(server: processes.ServerProcess) -> None:
    met = loaded(server, 60, 3.0)
    assert met.codes["ok"] > 60


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_five_hundred_clients_for_a_minute(server: processes.ServerProcess) -> None:
    met = loaded(server, 500, 60.0)
    assert met.codes["ok"] > 500
    assert met.percentile(0.99) < 2.0
