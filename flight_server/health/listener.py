"""The gRPC health service (grpc.health.v1) on a port of its own, for the probes of Kubernetes and ECS.

In plain text also where Flight has TLS: the probes of Kubernetes speak no other, and there is nothing to hide. It runs
on grpcio, which has a gRPC core of its own beside the one inside pyarrow; they share nothing.

`Watch` is refused, as the protocol allows. The library's servicer sends to all who watch under the lock that its
`Check` needs, so that one who watches and reads nothing could keep all probes waiting.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flight_server.errors import ConfigError
from flight_server.health.readiness import Readiness

# The server as a whole, and the one service that it has.
SERVICES = ("", "arrow.flight.protocol.FlightService")
# Checks answered at once; a probe asks every few seconds.
_THREADS = 4
_OPTIONS = [
    # With it a second server on the port would take half of the probes in silence.
    ("grpc.so_reuseport", 0),
    # Whoever reaches the port can open connections and say nothing; a probe makes a new one each time, or asks soon.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 30_000),
    # A request is the name of a service.
    ("grpc.max_receive_message_length", 4096),
]


class HealthListener:
    """Answers from construction until `close`, on host and port (0 = a free one)."""

    def __init__(self, readiness: Readiness, host: str, port: int) -> None:
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="health"),
            options=_OPTIONS,
        )
        health_pb2_grpc.add_HealthServicer_to_server(_Servicer(readiness), self._server)
        address = f"[{host}]" if ":" in host and not host.startswith("[") else host
        try:
            self.port = int(self._server.add_insecure_port(f"{address}:{port}"))
        except RuntimeError as error:
            raise ConfigError(
                f"setting 'server.health_port': {address}:{port} cannot be used; choose another, or 0 for a free one"
            ) from error
        self._server.start()

    def close(self) -> None:
        """Hang up. Waits until gRPC has ended its threads."""
        self._server.stop(grace=None).wait()


class _Servicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Asks the checks before each answer instead of keeping what it was told."""

    def __init__(self, readiness: Readiness) -> None:
        self._ready = readiness.ready

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - named by gRPC
        if request.service not in SERVICES:
            context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        response = health_pb2.HealthCheckResponse
        return response(status=response.SERVING if self._ready() else response.NOT_SERVING)

    def Watch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802, ARG002 - named by gRPC
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "ask with Check")
