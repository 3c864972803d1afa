"""What is true for every call: a place among the running ones, things to release at its end, one log line.

`call_completed` always fires, also for calls whose stream never started, and is where a call's resources are freed
(facts: a generator that never ran has no `finally`). It does not fire while gRPC waits for a client that reads nothing:
such a call is ended by the watch in `service/unread.py`, which frees all but its thread.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow.flight as flight
from opentelemetry.trace import INVALID_SPAN, Span

from flight_server.config import Limits
from flight_server.errors import CODES, Error, ServerError, SetupError, TimedOut, Unavailable
from flight_server.model import Caller
from flight_server.service import connections, status
from flight_server.service.admission import Places
from flight_server.service.audit import Audit
from flight_server.service.auth import Authentication, Identity
from flight_server.telemetry import log, metrics, traces
from flight_server.telemetry.records import Records

NAME = "call"
# A stream looks up from its work this soon after it was told to stop, unless it waits for its client.
_STOP_S = 1.0
# Calls in which the client speaks first, as long as it likes.
_UPLOADS = ("DoPut", "DoExchange")


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
    version: int = 0
    first_batch_s: float | None = None
    # SHA-256 of the parameters as canonical JSON, and the names of the policies that held.
    params: str = ""
    policies: tuple[str, ...] = ()
    code: str = "cancelled"


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
            assert call.caller is not None  # noqa: S101 - set before any method runs
            # Nobody's name is known without authentication: turns are then taken by connections, and have no bound.
            name = call.caller.name if call.named else call.peer
            # On a busy machine a call has waited for its thread to run: that counts, or the bound would be none.
            waited_s = time.monotonic() - call.started
            places = self.streams if stream else self.short
            call.on_end(places.take(name, bounded=call.named, waited_s=waited_s))
        if self._draining.is_set():
            raise Unavailable("draining", "the server is stopping; ask another one, or this one again later")
        with self._lock:
            self._running.add(call)

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


@dataclass(eq=False)
class Call(flight.ServerMiddleware):
    """One call: what to release when it ends, and what to say about it."""

    calls: Calls
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

    def sending_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.bearer}"} if self.bearer else {}

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
        seconds = time.monotonic() - self.started
        _measure(outcome, seconds)
        said = {
            name: value for name, value in vars(outcome).items() if value not in ("", 0, None, ()) and name != "known"
        }
        log.info("rpc", ms=round(seconds * 1000, 1), **said)
        self.audit.write(vars(outcome))
        self.records.ended(vars(outcome), seconds, traces.trace_id(self.span))
        _end_span(self.span, outcome)


def _end_span(span: Span, outcome: Outcome) -> None:
    traces.note(span, {name: value for name, value in vars(outcome).items() if name in _TRACED and value})
    traces.end(span, outcome.code, failed=issubclass(CODES.get(outcome.code, Error), ServerError))


def _measure(outcome: Outcome, seconds: float) -> None:
    metrics.CALLS.labels(outcome.method, outcome.known, outcome.code).inc()
    metrics.CALL_SECONDS.labels(outcome.method).observe(seconds)
    if outcome.first_batch_s is not None:
        metrics.FIRST_BATCH_SECONDS.labels(outcome.engine, outcome.cache).observe(outcome.first_batch_s)
    if outcome.method == "DoGet" and outcome.engine:
        metrics.ANSWERS.labels(outcome.engine, outcome.cache).inc()
        metrics.ROWS.labels(outcome.known).inc(outcome.rows)
        metrics.BYTES.labels(outcome.known).inc(outcome.bytes)
        metrics.SCANNED_BYTES.labels(outcome.known).inc(outcome.scanned_bytes)
        metrics.DOLLARS.labels(outcome.known).inc(outcome.usd)


class CallFactory(flight.ServerMiddlewareFactory):
    """Puts a Call on every RPC whose credential is good, and refuses the others.

    Here, and not in the methods, because this is the one place that every RPC passes, Handshake and those that the
    server does not have included, and from which each of them can be answered with UNAUTHENTICATED.
    """

    def __init__(self, calls: Calls, authentication: Authentication, audit: Audit, records: Records) -> None:
        super().__init__()
        self._calls = calls
        self._authentication = authentication
        self._audit = audit
        self._records = records

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[str]]) -> Call:
        method = _METHODS.get(info.method, "Other")
        call = Call(
            self._calls,
            Outcome(method),
            self._audit,
            self._records,
            named=self._authentication.required,
            span=traces.call(method, headers),
        )
        try:
            self._audit.check()
            _identify(call, self._authentication.identify(headers))
            self._calls.spare(call)
            self._calls.begin(call)
        except BaseException as error:  # noqa: BLE001 - the RPC wrapper's first third: nothing leaks from here either
            refusal = wire(error, call, before_method=True)
            # Without a middleware there is no end of the call: it is told here.
            call.call_completed(None)
            raise refusal from None
        return call


class HandshakeHandler(flight.ServerAuthHandler):
    """Lets Handshake be answered: credentials are checked in CallFactory, and the answer is in the headers."""

    def authenticate(self, outgoing: flight.ServerAuthSender, incoming: flight.ServerAuthReader) -> None:
        pass

    def is_valid(self, token: bytes) -> bytes:  # noqa: ARG002 - of an older way to log in, which is not used
        return b""


def caller_of(context: flight.ServerCallContext) -> Caller:
    """Who is asking in this call."""
    call = context.get_middleware(NAME)
    assert isinstance(call, Call)  # noqa: S101 - CallFactory puts one on every RPC
    assert call.caller is not None  # noqa: S101 - set before any method runs
    return call.caller


def as_text(given: str) -> str:
    """A client's word as an outcome has it: JSON can write lone surrogates, which no span and no column takes."""
    return given.encode(errors="replace").decode()


def digest(params: Mapping[str, object]) -> str:
    """SHA-256 of parameters as canonical JSON: equal ones have equal digests, and the log has no values."""
    text = json.dumps(params, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _identify(call: Call, identity: Identity) -> None:
    if identity.caller is not None:
        call.identified(identity.caller)
    if call.outcome.method == "Handshake":
        # No method of ours follows.
        call.outcome.code = "ok"
    if call.outcome.method == "Handshake" or identity.fresh:
        call.bearer = identity.bearer


def wire(error: BaseException, call: Call, *, before_method: bool = False) -> Exception:
    """What the client gets for `error`; what the operator must know is logged, and the call's code noted."""
    # Of pyarrow's methods only get_schema knows no Flight errors; middleware before it does.
    get_schema = call.outcome.method == "GetSchema" and not before_method
    # A SetupError in a call is a catalog, or its storage, that does not answer; why is for the operator.
    if isinstance(error, Error) and not isinstance(error, SetupError):
        call.outcome.code = error.code
        if isinstance(error, ServerError):
            log.error("request_failed", code=error.code, message=error.message, dataset=call.outcome.dataset)
        elif notes := getattr(error, "__notes__", None):
            log.info("request_refused", code=error.code, method=call.outcome.method, reason="; ".join(notes))
        return status.to_wire(error, get_schema=get_schema)
    # The client gets an id, the log what happened.
    incident = uuid.uuid4().hex[:12]
    call.outcome.code = "internal"
    if isinstance(error, SetupError):
        log.error(
            "request_failed", code="internal", message=str(error), dataset=call.outcome.dataset, incident=incident
        )
        message = f"the tables cannot be looked up now; the server's log has the incident {incident}"
    else:
        # Nobody expected this.
        log.error("internal_error", incident=incident, method=call.outcome.method, exc_info=error)
        message = f"the server failed; its log has the incident {incident}"
    return status.to_wire(ServerError("internal", message), get_schema=get_schema)


# What a span says of a call. Not its caller: traces leave the house.
_TRACED = ("dataset", "version", "engine", "query_id", "rows", "bytes", "cache", "fingerprint", "scanned_bytes", "usd")
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
