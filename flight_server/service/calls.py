"""The calls of a server: their places, and the drain.

Every call is known here from its first turn until gRPC is done with it. What one call holds and how it ends is in
`service/call.py`; what makes one for an RPC in `service/middleware.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from flight_server.config import Limits
from flight_server.errors import Unavailable
from flight_server.model import Caller
from flight_server.service import connections
from flight_server.service.admission import Places
from flight_server.service.call import Call

# A stream looks up from its work this soon after it was told to stop, unless it waits for its client.
_STOP_S = 1.0
# Calls in which the client speaks first, as long as it likes.
_UPLOADS = ("DoPut", "DoExchange")


class Calls:
    """All calls of a server: gives them places, and knows them for drain and for the watch.

    Streams have places of their own, so that no plan and no list waits behind slow readers.
    """

    def __init__(self, limits: Limits) -> None:
        # Of the Flight service, once it listens.
        self.port = 0
        queue = (limits.queue_max, limits.queue_wait_s)
        self.short = Places("calls", limits.calls_max, limits.calls_per_caller, *queue)
        self.streams = Places("streams", limits.streams_max, limits.streams_per_caller, *queue)
        # gRPC gives each a thread before anything of it has come; as few as streams, and none waits.
        self.uploads = Places("uploads", limits.streams_max, limits.streams_per_caller, 0, 0.0)
        # The share of a caller whom only a certificate names, of those places.
        self._certified = Places("uploads", limits.streams_max, limits.streams_per_caller, 0, 0.0)
        self._lock = threading.Lock()
        self._present: set[Call] = set()
        self._running: set[Call] = set()
        self._uploading: set[Call] = set()
        self._draining = threading.Event()
        self._backlog_max = limits.backlog_max
        # How many calls wait for their first turn (service/backlog.py); of the Flight service, once it listens.
        self.waiting: Callable[[], int] = lambda: 0

    def spare(self, call: Call) -> None:
        """Refuse a call at once while too many wait for their first turn. Raises Unavailable (busy).

        A caller of a verified name who has no other call is let in: the flood is somebody else's.
        """
        if self.waiting() <= self._backlog_max:
            return
        if call.named and call.caller is not None:
            name = call.caller.name
            if not any(each.caller is not None and each.caller.name == name for each in self.present()):
                return
        raise Unavailable("busy", "more calls come in than can be answered; try again in a few seconds")

    @property
    def known(self) -> int:
        """Calls whose threads have had their first turn."""
        return len(self._present) + self.uploads.taken

    def begin(self, call: Call) -> None:
        """Take the place of a call whose method comes only when its client has sent something, if it ever does.

        Raises Unavailable (busy, draining) at once where there is none.
        """
        if call.outcome.method in _UPLOADS:
            name = call.caller.name if call.caller else ""
            call.on_end(self.uploads.take(name, bounded=call.named and bool(name)))
            with self._lock:
                self._uploading.add(call)

    def named(self, call: Call) -> None:
        """Count an upload as its caller's, whom the certificate has named by now. Raises Unavailable (busy)."""
        if call.outcome.method in _UPLOADS and call.caller is not None:
            call.on_end(self._certified.take(call.caller.name, bounded=call.named))

    def enter(self, call: Call, *, stream: bool = False) -> None:
        """Take a place, waiting a little for one. Raises Unavailable (busy, draining)."""
        with self._lock:
            self._present.add(call)
        if call.outcome.method not in _UPLOADS:
            # Nobody's name is known without authentication: turns are then taken by connections, and have no bound.
            name = call.asker.name if call.named else call.peer
            # On a busy machine a call has waited for its thread to run: that counts, or the bound would be none.
            waited_s = time.monotonic() - call.started
            places = self.streams if stream else self.short
            call.on_end(places.take(name, bounded=call.named, waited_s=waited_s))
        with self._lock:
            # Under the lock: a drain waits for all that it has let in, or whose turn comes while it begins.
            if not self._draining.is_set():
                self._running.add(call)
                return
        raise Unavailable("draining", "the server is stopping; ask another one, or this one again later")

    def leave(self, call: Call) -> None:
        """The call has nothing any more, though gRPC may not be done with it."""
        with self._lock:
            self._running.discard(call)

    def gone(self, call: Call) -> None:
        """gRPC is done with the call."""
        with self._lock:
            self._present.discard(call)
            self._uploading.discard(call)

    def cancel(self, ticket: bytes, caller: Caller) -> int:
        """Stop the caller's running streams of a ticket, and say how many there were."""
        # By name: the credential that cancels can be a newer one, whose claims say when it was issued.
        found = [
            call
            for call in self.running()
            if call.ticket == ticket and call.caller is not None and call.caller.name == caller.name
        ]
        for call in found:
            call.cancel()
        return len(found)

    def running(self) -> list[Call]:
        """Those that hold a place now."""
        with self._lock:
            return list(self._running)

    def present(self) -> list[Call]:
        """Those that gRPC is not done with, waiting and unread ones included."""
        with self._lock:
            return list(self._present)

    def uploading(self) -> list[Call]:
        """Uploads that gRPC is not done with, those of which nothing has come included."""
        with self._lock:
            return list(self._uploading)

    @property
    def count(self) -> int:
        """Calls that hold a place now."""
        with self._lock:
            return len(self._running)

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, wait up to `grace_s` for the running ones, then tell those that are left to stop.

        Those that cannot hear it, as their clients do not read, and those that do not end lose their connections.
        What keeps gRPC from ending after that is the watch's business.
        """
        with self._lock:
            self._draining.set()
        for places in (self.short, self.streams, self.uploads, self._certified):
            places.close()
        self._wait(grace_s)
        for call in self.running():
            call.stop.set()
        self._wait(_STOP_S)
        left = [*self.running(), *(call for call in self.present() if call.unread)]
        connections.close(self.port, {call.address for call in left if call.address})

    def _wait(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.count and time.monotonic() < deadline:
            time.sleep(0.02)
