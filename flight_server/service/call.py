"""One call: who asks, what it holds until its end, how it ends.

`call_completed` always fires, also for calls whose stream never started, and is where a call's resources are freed
(facts: a generator that never ran has no `finally`). It does not fire while gRPC waits for a client that reads nothing:
such a call is ended by the watch in `service/unread.py`, which frees all but its thread.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow.flight as flight
from opentelemetry.trace import INVALID_SPAN, Span

from flight_server.errors import Error, ServerError, TimedOut
from flight_server.model import Caller
from flight_server.service import connections, status
from flight_server.service.audit import Audit
from flight_server.service.outcome import Outcome, tell
from flight_server.telemetry import log
from flight_server.telemetry.records import Records


class Known(Protocol):
    """Where the server's calls are known, and which is told of their ends: `Calls` in `service/calls.py`."""

    def leave(self, call: Call) -> None: ...

    def gone(self, call: Call) -> None: ...


@dataclass(eq=False)
class Call(flight.ServerMiddleware):
    """One call: what to release when it ends, and what to say about it."""

    calls: Known
    outcome: Outcome
    audit: Audit
    records: Records
    # Who calls; None until the client's certificate has said it.
    caller: Caller | None = None
    # The token that a Handshake or a password is answered with.
    bearer: str = field(default="", repr=False)
    # Whether `caller` is somebody in particular; `peer` is gRPC's name for the connection.
    named: bool = False
    peer: str = ""
    # Set when the server wants the stream to end early.
    stop: threading.Event = field(default_factory=threading.Event)
    # Of a DoGet whose stream is made: what it was asked with, and how its query is stopped.
    ticket: bytes = field(default=b"", repr=False)
    cancel: Callable[[], None] = field(default=lambda: None, repr=False)
    _releases: list[Callable[[], None]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    span: Span = field(default=INVALID_SPAN, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    # Since when the client has what there is to read; None while the server works.
    _unread_since: float | None = None
    _over: bool = False

    def on_end(self, release: Callable[[], None]) -> None:
        """Run `release` when the call is over, last registered first."""
        self._releases.append(release)

    def identified(self, caller: Caller) -> None:
        self.caller = caller
        self.outcome.caller = caller.name

    @property
    def asker(self) -> Caller:
        """Who asks; known when a method runs."""
        assert self.caller is not None  # noqa: S101 - set before any method runs
        return self.caller

    def sending_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.bearer}"} if self.bearer else {}

    def failed(self, error: BaseException, *, before_method: bool = False) -> Exception:
        """What the client gets for `error`; what the operator must know is logged, and the call's code noted."""
        # Of pyarrow's methods only get_schema knows no Flight errors; middleware before it does.
        get_schema = self.outcome.method == "GetSchema" and not before_method
        if isinstance(error, Error):
            self.outcome.code = error.code
            if isinstance(error, ServerError):
                log.error("request_failed", code=error.code, message=error.message, dataset=self.outcome.dataset)
            elif notes := getattr(error, "__notes__", None):
                log.info("request_refused", code=error.code, method=self.outcome.method, reason="; ".join(notes))
            return status.to_wire(error, get_schema=get_schema)
        # Nobody expected this: the client gets an id, the log what happened.
        incident = uuid.uuid4().hex[:12]
        self.outcome.code = "internal"
        log.error("internal_error", incident=incident, method=self.outcome.method, exc_info=error)
        message = f"the server failed; its log has the incident {incident}"
        return status.to_wire(ServerError("internal", message), get_schema=get_schema)

    def waits(self) -> None:
        """From now on the server waits for its client: to make room for a batch, or to send one."""
        self._unread_since = time.monotonic()

    def goes_on(self) -> None:
        """The client has done its part. Raises TimedOut when that took longer than the watch allows."""
        with self._lock:
            self._unread_since = None
            if self._over:
                raise TimedOut("timeout", "the stream waited too long for its client and was ended; ask again")

    @property
    def unread(self) -> bool:
        """Whether the server waits for the client."""
        return self._unread_since is not None

    @property
    def over(self) -> bool:
        """Whether the call has ended for us; gRPC may still wait for its client."""
        return self._over

    @property
    def address(self) -> connections.Peer | None:
        return connections.peer(self.peer)

    def expire(self, idle_s: float) -> bool:
        """Declare a call over that has not been read for `idle_s`; `release` it then. Whether that was so."""
        with self._lock:
            since = self._unread_since
            if self._over or since is None or time.monotonic() - since < idle_s:
                return False
            self._over = True
            if self.outcome.code != "ok":
                self.outcome.code = "timeout"
        return True

    def release(self) -> None:
        """Free what an expired call holds, but for gRPC's part. Blocks until its engine has let go."""
        self._finish(None)

    def call_completed(self, exception: BaseException | None) -> None:
        self.calls.gone(self)
        with self._lock:
            over, self._over = self._over, True
        if not over:
            self._finish(exception)

    def _finish(self, exception: BaseException | None) -> None:
        for release in reversed(self._releases):
            try:
                release()
            except Exception:  # noqa: BLE001 - one failing release must not keep the others from running
                log.exception("release_failed", method=self.outcome.method)
        self.calls.leave(self)
        outcome = self.outcome
        # A client that goes away ends a call without an exception; the outcome then still says cancelled.
        if exception is not None and outcome.code == "ok":
            outcome.code = "cancelled"
        tell(outcome, time.monotonic() - self.started, self.span, self.audit, self.records)
