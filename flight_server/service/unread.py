"""The watch over what clients leave lying: streams that nobody reads, and connections that nobody uses.

A client that stops reading leaves its call's thread in gRPC's write, where nothing of ours runs. After
`limits.stream_idle_s` the watch ends such a stream from outside: its query, its place and its budget are free, and the
client gets `timeout` when it reads on. Only the thread is left; past `limits.unread_max` of those, connections are cut.
"""

from __future__ import annotations

import threading

from flight_server.config import Limits
from flight_server.service import connections
from flight_server.service.calls import Calls
from flight_server.telemetry import log, metrics

# Counting the descriptors of 10,000 connections takes some 20 ms.
_LOOK_S = 1.0


class Watch:
    """A thread that looks after the calls of the server at `port`, until `close`."""

    def __init__(self, calls: Calls, limits: Limits, port: int) -> None:
        self._calls, self._limits, self._port = calls, limits, port
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(min(_LOOK_S, self._limits.stream_idle_s / 4)):
            try:
                self._end_unread()
                self._end_unused()
            except Exception as error:  # noqa: BLE001 - the top of a thread, which must look again
                log.error("internal_error", method="watch", exc_info=error)

    def _end_unread(self) -> None:
        for call in self._calls.running():
            call.expire(self._limits.stream_idle_s)
        left = sorted(
            (call for call in self._calls.present() if call.over and call.unread), key=lambda call: call.started
        )
        extra = left[: max(0, len(left) - self._limits.unread_max)]
        self._told("unread", connections.close(self._port, {call.address for call in extra if call.address}))

    def _end_unused(self) -> None:
        if connections.count() > self._limits.connections_max:
            keep = {call.address for call in self._calls.present() if call.address}
            self._told("unused", connections.trim(self._port, self._limits.connections_max, keep))

    @staticmethod
    def _told(reason: str, closed: int) -> None:
        if closed:
            metrics.CONNECTIONS_CLOSED.labels(reason).inc(closed)
            log.warning("connections_closed", reason=reason, closed=closed)
