"""What is true for every call: a place among the running ones, things to release at its end, one log line.

`call_completed` always fires, also for calls whose stream never started, and is the only place where a call's
resources are freed (facts: a generator that never ran has no `finally`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow.flight as flight

from flight_server.config import Limits
from flight_server.errors import Unavailable
from flight_server.telemetry import log, metrics

NAME = "call"


@dataclass
class Outcome:
    """What the log line of a call says; filled in as the call goes on."""

    method: str
    caller: str = ""
    dataset: str = ""
    fingerprint: str = ""
    engine: str = ""
    query_id: str = ""
    rows: int = 0
    bytes: int = 0
    cache: str = ""
    scanned_bytes: int = 0
    usd: float = 0.0
    # The dataset's name once it is known to be one: labels take no text of a client.
    known: str = ""
    first_batch_s: float | None = None
    code: str = "cancelled"


class Calls:
    """All running calls of a server: bounds their number, and knows them for drain."""

    def __init__(self, limits: Limits) -> None:
        self._slots = threading.BoundedSemaphore(limits.calls_max)
        self._queue_wait_s = limits.queue_wait_s
        self._lock = threading.Lock()
        self._running: set[Call] = set()
        self._draining = threading.Event()

    def enter(self, call: Call) -> None:
        """Take a place, waiting a little for one. Raises Unavailable (busy, draining)."""
        if self._draining.is_set():
            raise Unavailable("draining", "the server is stopping; ask another one, or this one again later")
        if not self._slots.acquire(timeout=self._queue_wait_s):
            raise Unavailable("busy", "all places for calls are taken; try again in a few seconds")
        call.on_end(self._slots.release)
        with self._lock:
            self._running.add(call)

    def leave(self, call: Call) -> None:
        with self._lock:
            self._running.discard(call)

    @property
    def count(self) -> int:
        """Calls that hold a place now."""
        with self._lock:
            return len(self._running)

    @property
    def draining(self) -> bool:
        return self._draining.is_set()

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, wait up to `grace_s` for the running ones, then tell those that are left to stop."""
        self._draining.set()
        deadline = time.monotonic() + grace_s
        while self.count and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._lock:
            for call in self._running:
                call.stop.set()


@dataclass(eq=False)
class Call(flight.ServerMiddleware):
    """One call: what to release when it ends, and what to say about it."""

    calls: Calls
    outcome: Outcome
    # Set when the server wants the stream to end early.
    stop: threading.Event = field(default_factory=threading.Event)
    _releases: list[Callable[[], None]] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def on_end(self, release: Callable[[], None]) -> None:
        """Run `release` when the call is over, last registered first."""
        self._releases.append(release)

    def call_completed(self, exception: BaseException | None) -> None:
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
        seconds = time.monotonic() - self.started
        _measure(outcome, seconds)
        said = {name: value for name, value in vars(outcome).items() if value not in ("", 0, None) and name != "known"}
        log.info("rpc", ms=round(seconds * 1000, 1), **said)


def _measure(outcome: Outcome, seconds: float) -> None:
    metrics.CALLS.labels(outcome.method, outcome.known, outcome.code).inc()
    metrics.CALL_SECONDS.labels(outcome.method).observe(seconds)
    if outcome.first_batch_s is not None:
        metrics.FIRST_BATCH_SECONDS.labels(outcome.engine, outcome.cache).observe(outcome.first_batch_s)
    if outcome.method == "DoGet" and outcome.known:
        metrics.ANSWERS.labels(outcome.engine, outcome.cache).inc()
        metrics.ROWS.labels(outcome.known).inc(outcome.rows)
        metrics.BYTES.labels(outcome.known).inc(outcome.bytes)
        metrics.SCANNED_BYTES.labels(outcome.known).inc(outcome.scanned_bytes)
        metrics.DOLLARS.labels(outcome.known).inc(outcome.usd)


class CallFactory(flight.ServerMiddlewareFactory):
    """Puts a Call on every RPC."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self._calls = calls

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[str]]) -> Call:  # noqa: ARG002 - fixed by pyarrow
        return Call(self._calls, Outcome(_METHODS.get(info.method, "Other")))


_METHODS = {
    flight.FlightMethod.LIST_FLIGHTS: "ListFlights",
    flight.FlightMethod.GET_FLIGHT_INFO: "GetFlightInfo",
    flight.FlightMethod.GET_SCHEMA: "GetSchema",
    flight.FlightMethod.DO_GET: "DoGet",
    flight.FlightMethod.DO_PUT: "DoPut",
    flight.FlightMethod.DO_EXCHANGE: "DoExchange",
    flight.FlightMethod.DO_ACTION: "DoAction",
    flight.FlightMethod.LIST_ACTIONS: "ListActions",
    flight.FlightMethod.HANDSHAKE: "Handshake",
}
