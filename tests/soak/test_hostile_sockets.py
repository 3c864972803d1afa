"""Connections that send nothing, greet and fall silent, or never read: bounded, and others are served meanwhile."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import psutil
import pyarrow.flight as flight
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flight_server import config
from tests import processes
from tests.fix_server import ASKED, SQL, dataset
from tests.processes import ROOT
from tests.waiting import until

_CROSS = """FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b
CROSS JOIN market_data.us_stocks_price AS c"""
ENDLESS = dataset(f"SELECT CAST(a.meta_id AS BIGINT) + b.meta_id AS x {_CROSS}")
# What is measured is 13 kB for a connection that has said nothing.
CONNECTION_BYTES_MAX = 40_000
FEW_FILES = 512
SERVING = health_pb2.HealthCheckResponse.SERVING


@contextmanager
def served(demo: config.Config, folder: Path, **limits: Any) -> Iterator[processes.ServerProcess]:
    datasets = folder / "sql"
    datasets.mkdir()
    (datasets / "endless.sql").write_text(ENDLESS)
    (datasets / "daily_prices.sql").write_text((SQL / "daily_prices.sql").read_text())
    catalog = demo.catalog.model_dump()
    found = config.load(None, server={"port": 0}, datasets={"directory": datasets}, catalog=catalog, limits=limits)
    with processes.server(found, folder) as started:
        yield started


@contextmanager
def hostile(server: processes.ServerProcess, count: int, kind: str, face: str = "address") -> Iterator[None]:
    """`face` is the listener that they connect to, as the server calls it when it starts."""
    port = addresses(server)[face].rpartition(":")[2]
    arguments = [sys.executable, "-m", "tests.hostile_sockets", port, str(count), kind]
    with subprocess.Popen(arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        yield
        process.communicate(timeout=60)


def addresses(server: processes.ServerProcess) -> dict[str, str]:
    found: dict[str, str] = json.loads(server.wait_for('"serving"'))
    return found


def probe(server: processes.ServerProcess) -> None:
    """Ask as the probes of a container do, that give a replica a few seconds to answer."""
    for path in ("livez", "readyz"):
        with urlopen(f"{addresses(server)['http']}/{path}", timeout=5) as reply:
            assert reply.status == 200
    with grpc.insecure_channel(addresses(server)["health"].removeprefix("grpc://")) as channel:
        request = health_pb2.HealthCheckRequest(service="")
        assert health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status == SERVING


def is_well(server: processes.ServerProcess) -> bool:
    try:
        probe(server)
    except (OSError, grpc.RpcError):
        return False
    return True


def ask(server: processes.ServerProcess) -> float:
    """Seconds that a new client waits for its rows."""
    began = time.monotonic()
    with flight.connect(server.address) as client:
        assert client.do_get(flight.Ticket(ASKED)).read_all().num_rows == 19
    return time.monotonic() - began


def hold_out(demo: config.Config, folder: Path, count: int, kind: str, most: int) -> None:
    with served(demo, folder, connections_max=most) as server:
        process = psutil.Process(server.child.pid)
        ask(server)
        rest = (process.num_fds(), process.memory_info().rss)
        with hostile(server, count, kind):
            memory = process.memory_info().rss
            waited_s = [ask(server) for _ in range(3)]
            # Down to the bound, with the files of the server itself in it.
            until(lambda: process.num_fds() <= most, 60)
            print(
                f"\n{count:,} {kind}: {(memory - rest[1]) / count:,.0f} bytes each; others waited {max(waited_s):.3f} s"
            )
            assert memory - rest[1] < count * CONNECTION_BYTES_MAX + (64 << 20)
            ask(server)
        until(lambda: process.num_fds() <= rest[0] + 2, 60)
        ask(server)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("kind", ["silent", "greeting"])
def test_three_hundred_connections_without_a_call(demo_config: config.Config, tmp_path: Path, kind: str) -> None:
    hold_out(demo_config, tmp_path, 300, kind, 150)


@pytest.mark.timeout(200)
def test_probes_are_answered_beside_a_hundred_connections_that_say_nothing_to_them(
    demo_config: config.Config, tmp_path: Path
) -> None:
    with (
        served(demo_config, tmp_path) as server,
        hostile(server, 100, "silent", "http"),
        hostile(server, 100, "silent", "health"),
    ):
        probe(server)


@pytest.mark.timeout(200)
@pytest.mark.parametrize("face", ["address", "http", "health"])
def test_a_flood_that_takes_all_files_of_the_process_is_over_soon(
    demo_config: config.Config, tmp_path: Path, face: str
) -> None:
    with served(demo_config, tmp_path) as server:
        process = psutil.Process(server.child.pid)
        ask(server)
        # What answers probes is loaded with the first one, for which a process needs files.
        probe(server)
        rest = process.num_fds()
        # What a shell may start with, where the hard limit is as low.
        resource.prlimit(server.child.pid, resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES))
        with hostile(server, 4 * FEW_FILES, "silent", face):
            # Connections that the kernel holds back come when there is room again: what is told here is its end.
            until(lambda: process.num_fds() <= FEW_FILES // 2 and is_well(server), 60)
            ask(server)
        until(lambda: process.num_fds() <= rest + 2, 60)
        # The threads that look after the server have come through it.
        assert not [line for line in server.lines if "internal_error" in line or "Exception in thread" in line]


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["silent", "greeting"])
def test_ten_thousand_connections_without_a_call(demo_config: config.Config, tmp_path: Path, kind: str) -> None:
    hold_out(demo_config, tmp_path, 10_000, kind, 4096)


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_silent_connections_end_by_themselves_below_the_bound(demo_config: config.Config, tmp_path: Path) -> None:
    with served(demo_config, tmp_path, connections_max=100_000) as server:
        process = psutil.Process(server.child.pid)
        ask(server)
        rest = process.num_fds()
        with hostile(server, 2000, "silent"):
            began = time.monotonic()
            until(lambda: process.num_fds() >= rest + 2000, 30)
            until(lambda: process.num_fds() <= rest + 2, 200)
            print(f"\nclosed by gRPC after {time.monotonic() - began:.0f} s")


@pytest.mark.timeout(200)
def test_clients_that_never_read_their_sockets_hold_nothing_for_long(
    demo_config: config.Config, tmp_path: Path
) -> None:
    limits = {"stream_idle_s": 2.0, "streams_max": 4, "unread_max": 2, "queue_wait_s": 30.0}
    with served(demo_config, tmp_path, **limits) as server:
        process = psutil.Process(server.child.pid)
        ask(server)
        rest = process.num_threads()
        with hostile(server, 20, "deaf"):
            # All places are taken by those; they end, the next ones take theirs, and so on.
            waited_s = ask(server)
            until(lambda: sum('"code": "timeout"' in line for line in server.lines) >= 18, 60)
            # Two streams that are over may keep a thread, and gRPC has a few of its own; the other connections are cut.
            until(lambda: process.num_threads() <= rest + 8, 60)
            ask(server)
        print(f"\nothers waited {waited_s:.3f} s; {rest} threads before, {process.num_threads()} after")
