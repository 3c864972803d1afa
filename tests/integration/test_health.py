"""The probes: /livez and /readyz over HTTP, and the gRPC health service asked with grpcio's own client."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pyarrow.flight as flight
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from flight_server import telemetry
from flight_server.errors import ConfigError, EngineFailed
from flight_server.health.listener import SERVICES, HealthListener
from flight_server.health.readiness import Readiness
from flight_server.server import Server
from flight_server.tables.catalog import database
from tests.fix_identity import Lake
from tests.fix_server import ASKED, Serve, Write, connect, dataset
from tests.waiting import until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
# More rows than gRPC and the prefetch buffer, so that the stream is still open while nobody reads it.
MANY = dataset(
    "SELECT CAST(a.x AS BIGINT) * b.y AS x FROM UNNEST(SEQUENCE(1, 5000)) AS a (x) CROSS JOIN UNNEST(SEQUENCE(1, 5000)) AS b (y)"
)


def check(port: int, service: str = "") -> int:
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return int(health_pb2_grpc.HealthStub(channel).Check(request, timeout=20).status)


def readyz(server: Server) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(f"http://localhost:{server.http.port}/readyz", timeout=20) as reply:
            return reply.status, json.loads(reply.read())["checks"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())["checks"]


def health_port(server: Server) -> int:
    assert server.health is not None
    return server.health.port


def test_a_ready_server_is_serving_under_each_name(demo_server: Server) -> None:
    assert readyz(demo_server) == (
        200,
        {"files": "ok", "catalog": "ok", "datasets": "ok", "disk": "ok", "engine:duckdb": "ok"},
    )
    assert SERVICES == ("", "arrow.flight.protocol.FlightService")
    assert [check(health_port(demo_server), name) for name in SERVICES] == [SERVING, SERVING]


def test_a_service_that_is_not_here_is_not_found(demo_server: Server) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        check(health_port(demo_server), "grpc.reflection.v1.ServerReflection")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_a_failing_check_turns_both_faces_red(serve: Serve) -> None:
    server = serve(limits={"disk_free_min": 1 << 60})
    status, checks = readyz(server)
    assert (status, checks["disk"], checks["catalog"]) == (503, "disk-full", "ok")
    assert check(health_port(server)) == NOT_SERVING
    with urllib.request.urlopen(f"http://localhost:{server.http.port}/livez", timeout=20) as reply:
        assert reply.status == 200


def test_a_draining_server_is_red_until_its_last_stream_has_ended(serve: Serve, datasets: Write) -> None:
    server = serve(datasets(many=MANY))
    port = health_port(server)
    with connect(server) as client:
        reader = client.do_get(flight.Ticket(b"many"))
        assert reader.read_chunk().data.num_rows > 0
        assert check(port) == SERVING
        stopping = threading.Thread(target=server.stop, args=(60,))
        stopping.start()
        until(lambda: server.flight.calls.draining)
        assert check(port) == NOT_SERVING
        assert readyz(server)[0] == 503
        assert readyz(server)[1]["draining"] == "the server is stopping"
        reader.cancel()
    stopping.join(60)
    assert not stopping.is_alive()
    with socket.socket() as probe:
        assert probe.connect_ex(("localhost", port)) != 0


def test_without_health_there_is_no_such_port(serve: Serve) -> None:
    server = serve(server={"health": False})
    assert server.health is None
    assert readyz(server)[0] == 200


class Switch:
    """A check whose outcome the test decides, and a listener that asks it."""

    def __init__(self) -> None:
        self.well = True
        self.draining = False
        self.readiness = Readiness({"switch": self._check}, lambda: self.draining, ttl_s=0.0)
        self.listener = HealthListener(self.readiness, "127.0.0.1", 0)

    def _check(self) -> None:
        if not self.well:
            raise EngineFailed("switched off")


@pytest.fixture
def switch() -> Iterator[Switch]:
    made = Switch()
    yield made
    made.listener.close()


def test_check_follows_the_checks_at_once(switch: Switch) -> None:
    found = []
    for well in (True, False, True):
        switch.well = well
        found.append(check(switch.listener.port))
    assert found == [SERVING, NOT_SERVING, SERVING]


def test_nobody_who_watches_can_keep_probes_waiting(switch: Switch) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{switch.listener.port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        with pytest.raises(grpc.RpcError):
            next(watch)
        assert watch.code() == grpc.StatusCode.UNIMPLEMENTED
        assert check(switch.listener.port) == SERVING


def test_outcomes_are_kept_for_their_time_and_a_drain_is_told_at_once() -> None:
    asked: list[None] = []
    draining = threading.Event()
    readiness = Readiness({"counted": lambda: asked.append(None)}, draining.is_set, ttl_s=3600)
    assert [readiness.ready() for _ in range(3)] == [True] * 3
    assert len(asked) == 1
    draining.set()
    assert readiness.outcomes() == {"counted": "ok", "draining": "the server is stopping"}


def test_what_probes_found_is_a_metric(switch: Switch) -> None:
    def told() -> float | None:
        return REGISTRY.get_sample_value("athena_flight_ready", {"check": "switch"})

    switch.readiness.outcomes()
    assert told() == 1
    switch.well = False
    switch.readiness.outcomes()
    assert told() == 0


def test_a_taken_port_is_a_setting_that_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"'server.health_port': 127\.0\.0\.1:{port} cannot be used"):
            HealthListener(Readiness({}, lambda: False, 0), "127.0.0.1", port)


def test_flight_and_health_serve_side_by_side(demo_server: Server) -> None:
    """pyarrow and grpcio have a gRPC core each; calls of both at once, from several threads, get their answers."""
    wrong: list[object] = []

    def ask() -> None:
        with connect(demo_server) as client:
            for _ in range(5):
                rows = client.do_get(flight.Ticket(ASKED)).read_all().num_rows
                status = check(health_port(demo_server))
                if (rows, status) != (19, SERVING):
                    wrong.append((rows, status))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


def silent(port: int, count: int, said: bytes = b"") -> list[socket.socket]:
    """Connections on which nothing comes, or the beginning of a request."""
    found = [socket.create_connection(("localhost", port)) for _ in range(count)]
    for each in found:
        each.sendall(said)
    return found


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\n"])
def test_connections_that_say_nothing_keep_no_probe_out(demo_server: Server, said: bytes) -> None:
    with ExitStack() as stack:
        for each in silent(demo_server.http.port, 300, said):
            stack.enter_context(each)
        assert readyz(demo_server)[0] == 200


def test_the_health_service_reads_no_long_request(demo_server: Server) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        check(health_port(demo_server), "x" * 10_000)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_check_that_hangs_fails_in_time_and_is_not_begun_again() -> None:
    begun, answers = [], threading.Event()

    def hangs() -> None:
        begun.append(threading.current_thread())
        answers.wait(60)

    readiness = Readiness({"catalog": hangs, "disk": lambda: None}, lambda: False, ttl_s=0.0, wait_s=0.1)
    assert readiness.outcomes() == readiness.outcomes() == {"catalog": "timeout", "disk": "ok"}
    assert not readiness.ready()
    assert REGISTRY.get_sample_value("athena_flight_ready", {"check": "catalog"}) == 0.0
    assert len(begun) == 1
    answers.set()
    begun[0].join(60)
    assert readiness.ready()


def moved(path: Path) -> Path:
    return path.rename(path.with_name(f"{path.name}.away"))


def test_a_catalog_file_that_was_removed_or_replaced_is_seen(lake_copy: Lake) -> None:
    # SQLite reads on in the file that it has open, and knows of no other.
    with lake_copy.serve() as server:
        file = database(server.config.catalog)
        assert file is not None
        assert readyz(server)[1]["catalog"] == "ok"
        away = moved(file)
        until(lambda: readyz(server)[1]["catalog"] == "bad-table")
        shutil.copy(away, file)
        assert readyz(server)[1]["catalog"] == "bad-table"
        away.replace(file)
        until(lambda: readyz(server) == (200, dict.fromkeys(server.readiness.outcomes(), "ok")))


def test_metadata_that_cannot_be_read_is_seen(lake_copy: Lake, capfd: pytest.CaptureFixture[str]) -> None:
    with lake_copy.serve() as server:
        assert readyz(server)[0] == 200
        away = moved(Path(server.config.catalog.warehouse))
        until(lambda: readyz(server)[1]["catalog"] == "bad-table")
        assert "cannot read the tables' metadata: " in capfd.readouterr().err
        away.rename(server.config.catalog.warehouse)
        until(lambda: readyz(server)[0] == 200)


def test_ready_is_told_once_each_time_that_it_becomes_true(switch: Switch) -> None:
    telemetry.configure("json", "info")
    with capture_logs() as lines:
        for well in (True, True, False, False, True):
            switch.well = well
            switch.readiness.outcomes()
    telemetry.configure("console", "warning")
    assert [line["event"] for line in lines] == ["ready", "not_ready", "not_ready", "ready"]
