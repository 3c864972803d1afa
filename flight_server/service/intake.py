"""How much a connection delivers before anything of this server has heard of it.

pyarrow lets gRPC take messages of any length, and a request is read to its end before its credential is looked at: one
ticket of 1 GB, without any credential, took 3.4 GB of memory. What a connection has delivered the kernel knows, so a
connection that goes on and on without a call is shut down. Linux only; elsewhere nothing is.
"""

from __future__ import annotations

import threading
import time

from flight_server.service import connections
from flight_server.telemetry import log, metrics

# A gigabit brings 6 MB in this time.
_LOOK_S = 0.05
# A client tells what it has read of a stream, in a hundred bytes for some tens of thousands. So many bytes that it has
# taken allow it one more.
_TAKEN = 64
# One part in so many of a core's time is for looking: with thousands of connections it takes some 10 ms.
_SHARE = 20


class Intake:
    """A thread that looks at the connections to `port` until `close`, and ends those beyond `bytes_max`."""

    def __init__(self, bytes_max: int, port: int) -> None:
        self._bytes_max, self._port = bytes_max, port
        # Calls come in threads of their own, and none of them may be lost between two looks.
        self._lock = threading.Lock()
        self._heard: set[str] = set()
        # What each connection had delivered when a call of it was heard last.
        self._before: dict[connections.Peer, int] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def heard(self, peer: str) -> None:
        """A call of this connection has come in, in gRPC's name for its peer."""
        with self._lock:
            self._heard.add(peer)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = _LOOK_S
        while not self._closed.wait(wait_s):
            # Of this thread's own time: what it waits for others is no reason to look more rarely.
            began = time.thread_time()
            try:
                self._look()
            except Exception as error:  # noqa: BLE001 - the top of a thread, which must look again
                log.error("internal_error", method="intake", exc_info=error)
            wait_s = max(_LOOK_S, _SHARE * (time.thread_time() - began))

    def _look(self) -> None:
        with self._lock:
            heard, self._heard = self._heard, set()
        known = {connections.peer(each) for each in heard}
        traffic = connections.traffic(self._port)
        now = {peer: delivered - taken // _TAKEN for peer, (taken, delivered) in traffic.items()}
        # One that is new has delivered nothing before.
        self._before = {peer: size if peer in known else self._before.get(peer, 0) for peer, size in now.items()}
        over = {peer for peer, size in now.items() if size - self._before[peer] > self._bytes_max}
        if over and (closed := connections.close(self._port, over)):
            metrics.CONNECTIONS_CLOSED.labels("flooding").inc(closed)
            log.warning("connections_closed", reason="flooding", closed=closed)
