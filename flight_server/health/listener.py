"""The gRPC health service (grpc.health.v1) on a port of its own, for the probes of Kubernetes and ECS.

In plain text also where Flight has TLS: the probes of Kubernetes speak no other, and there is nothing to hide. It runs
on grpcio, which has a gRPC core of its own beside the one inside pyarrow; they share nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from flight_server.errors import ConfigError
from flight_server.health.readiness import Readiness

# The server as a whole, and the one service that it has.
SERVICES = ("", "arrow.flight.protocol.FlightService")
# Checks answered at once; a probe asks every few seconds.
_THREADS = 4
# Callers of Watch at once: each is a connection that stays, and probes use Check.
_WATCHERS_MAX = 32
# How soon those who watch hear of a drain; reading the flag costs nothing.
_DRAIN_S = 0.1
# Checks between two looks of those who watch, in steps of `_DRAIN_S`: every 5 s, as often as a probe would.
_STEPS = 50


class HealthListener:
    """Answers from construction until `close`, on host and port (0 = a free one)."""

    def __init__(self, readiness: Readiness, host: str, port: int) -> None:
        self._readiness = readiness
        self._servicer = _Servicer(readiness)
        self._server = grpc.server(
            ThreadPoolExecutor(_THREADS, thread_name_prefix="health"),
            # Without it a second server on the port would take half of the probes in silence.
            options=[("grpc.so_reuseport", 0)],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, self._server)
        address = f"[{host}]" if ":" in host and not host.startswith("[") else host
        try:
            self.port = int(self._server.add_insecure_port(f"{address}:{port}"))
        except RuntimeError as error:
            raise ConfigError(
                f"setting 'server.health_port': {address}:{port} cannot be used; choose another, or 0 for a free one"
            ) from error
        self._server.start()
        self._closed = threading.Event()
        self._watching = threading.Thread(target=self._watch, name="health", daemon=True)
        self._watching.start()

    @property
    def watchers(self) -> int:
        """Callers of Watch now."""
        return self._servicer.watchers

    def close(self) -> None:
        """Say NOT_SERVING to those who watch, and hang up. Waits until gRPC has ended its threads."""
        self._closed.set()
        self._watching.join()
        self._servicer.enter_graceful_shutdown()
        self._server.stop(grace=None).wait()

    def _watch(self) -> None:
        """Tell those who watch what has changed, while there are any."""
        step = 0
        while not self._closed.wait(_DRAIN_S):
            step += 1
            if self._servicer.watchers and (self._readiness.draining or step % _STEPS == 0):
                self._servicer.refresh()


class _Servicer(health.HealthServicer):  # type: ignore[misc]
    """The library's servicer, which asks the checks before each answer instead of keeping what it was told."""

    def __init__(self, readiness: Readiness) -> None:
        super().__init__()
        self._ready = readiness.ready
        self._state = threading.Lock()
        self.watchers = 0
        for service in SERVICES:
            self.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)

    def refresh(self) -> None:
        status = health_pb2.HealthCheckResponse
        found = status.SERVING if self._ready() else status.NOT_SERVING
        with self._state:
            for service in SERVICES:
                # `set` tells all who watch, so only what is new.
                if self._server_status[service] != found:
                    self.set(service, found)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 - named by gRPC
        self.refresh()
        return super().Check(request, context)

    def Watch(  # noqa: N802 - named by gRPC
        self, request: Any, context: grpc.ServicerContext, send_response_callback: Callable[[Any], None] | None = None
    ) -> Any:
        with self._state:
            full = self.watchers >= _WATCHERS_MAX
            self.watchers += not full
        if full:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_WATCHERS_MAX} callers watch already; ask with Check")
        if not context.add_callback(self._left):
            self._left()
        self.refresh()
        return super().Watch(request, context, send_response_callback)

    def _left(self) -> None:
        with self._state:
            self.watchers -= 1
