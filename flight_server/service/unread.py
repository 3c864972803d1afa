"""The watch over what clients leave lying: streams that nobody reads, uploads that do not come, unused connections.

A client that stops reading leaves its call's thread in gRPC's write, where nothing of ours runs. After
`limits.stream_idle_s` the watch ends such a stream from outside: its query, its place and its budget are free, and the
client gets `timeout` when it reads on. Only the thread is left; past `limits.unread_max` of those, connections are cut.
An upload keeps its place until its thread is free: after `limits.upload_s` its connection is cut at once.
"""

from __future__ import annotations

import threading
import time

from flight_server.config import Limits
from flight_server.service import connections
from flight_server.service.call import Call
from flight_server.service.calls import Calls
from flight_server.telemetry import log, metrics

# Counting the descriptors of 10,000 connections takes some 20 ms.
_LOOK_S = 1.0
# While there are too many: a flood may have filled what the system lets wait, and nobody new is heard before those.
_AGAIN_S = 0.1
# What was answered just now gets this long to leave, when the server ends; a second look does no harm.
_END_S = 0.5


class Watch:
    """A thread that looks after the calls of the server at `port`, until `close`."""

    def __init__(self, calls: Calls, limits: Limits, port: int) -> None:
        self._calls, self._limits, self._port = calls, limits, port
        # Ports of this process's other listeners. Their connections take files as well, and each is done in no time.
        self.beside: tuple[int, ...] = ()
        self._closed = threading.Event()
        # When connections of which it is not known what they do may be cut again.
        self._next_cut = 0.0
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """From now on cut whatever keeps gRPC from ending. `close` when it has."""
        threading.Thread(target=self._cut, name="watch-end", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        usual_s = min(_LOOK_S, self._limits.stream_idle_s / 4, self._limits.upload_s / 4)
        wait_s = usual_s
        while not self._closed.wait(wait_s):
            try:
                self._end_unread()
                self._end_uploads()
                wait_s = min(usual_s, _AGAIN_S) if self._end_unused() else usual_s
            except Exception as error:  # noqa: BLE001 - the top of a thread, which must look again
                log.error("internal_error", method="watch", exc_info=error)

    def _cut(self) -> None:
        while not self._closed.wait(_END_S):
            self._told("ending", connections.trim(self._port, 0, set()))

    def _end_unread(self) -> None:
        for call in self._calls.running():
            if call.expire(self._limits.stream_idle_s):
                # An engine that lets go slowly holds up no other call; there are no more of these than places.
                threading.Thread(target=_release, args=(call,), name="release", daemon=True).start()
        left = sorted(
            (call for call in self._calls.present() if call.over and call.unread), key=lambda call: call.started
        )
        extra = left[: max(0, len(left) - self._limits.unread_max)]
        self._told("unread", connections.close(self._port, {call.address for call in extra if call.address}))

    def _end_uploads(self) -> None:
        now = time.monotonic()
        late = [call for call in self._calls.uploading() if now - call.started > self._limits.upload_s]
        closed = connections.close(self._port, {call.address for call in late if call.address})
        if now >= self._next_cut and any(call.address is None for call in late):
            # gRPC does not say whose an upload is before something of it has come. So all connections go on which no
            # call is known; their clients make new ones by themselves, and not more often than this.
            closed += connections.trim(self._port, 0, self._known() - {call.address for call in late})
            self._next_cut = now + self._limits.upload_s
        self._told("upload", closed)

    def _known(self) -> set[connections.Peer | None]:
        return {call.address for call in self._calls.present() if call.address}

    def _end_unused(self) -> bool:
        """Whether there were too many."""
        most = connections.bound(self._limits.connections_max)
        if connections.count() <= most:
            return False
        closed = sum(connections.trim(port, self._limits.probes_max, set()) for port in self.beside)
        if (extra := connections.count() - closed - most) > 0:
            closed += connections.end_oldest(self._port, extra, self._known())
        self._told("unused", closed)
        return True

    @staticmethod
    def _told(reason: str, closed: int) -> None:
        if closed:
            metrics.CONNECTIONS_CLOSED.labels(reason).inc(closed)
            log.warning("connections_closed", reason=reason, closed=closed)


def _release(call: Call) -> None:
    try:
        call.release()
    except Exception as error:  # noqa: BLE001 - the top of a thread: nobody else would say it
        log.error("internal_error", method="watch", exc_info=error)
