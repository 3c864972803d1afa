"""What can go wrong, split by who can act on it.

    FlightDataError          code + one-line message
    ├── RequestError         the request can be mended
    │   ├── InvalidRequest     bad value, unknown or missing parameter, refused SQL, a limit, an expired ticket
    │   ├── NotFound           no such dataset, version, query or pin, for this caller
    │   ├── Unauthenticated    the credential is missing, wrong or expired
    │   ├── Denied             the caller is known and may not do this
    │   └── Unsupported        the server has no such function
    ├── Unavailable          asking again later can work
    ├── TimedOut             the query ran into its time limit
    ├── Cancelled            somebody stopped the query
    └── ServerError          the engine, the data or the server failed

`code` is the server's stable code (docs/protocol.md), or one of four that only a client can know: `unreachable` (no
connection), `connection-lost` (the stream broke off), `incomplete` (fewer or more rows than the server counted) and
`unexpected` (an answer without a code: not an athena-flight server, or something between).
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.flight as flight


class FlightDataError(Exception):
    """Base of all errors here. `code` is stable, `message` is one line for a person, without the code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"[{self.code}] {self.message}"


class RequestError(FlightDataError):
    """Asking again unchanged gives the same answer."""


class InvalidRequest(RequestError):
    """The request is malformed, or a value in it breaks the dataset's contract."""


class NotFound(RequestError):
    """What was named does not exist for this caller."""


class Unauthenticated(RequestError):
    """The credential is missing, wrong or expired."""


class Denied(RequestError):
    """The caller is known and may not do this."""


class Unsupported(RequestError):
    """The server, or this client, has no such function."""


class Unavailable(FlightDataError):
    """Nothing is wrong with the request; trying again later can work."""


class TimedOut(FlightDataError):
    """The query, or a wait for one, took too long."""


class Cancelled(FlightDataError):
    """The query was stopped."""


class ServerError(FlightDataError):
    """The request was fine; the engine, the data or the server was not."""


_CLASSES: dict[type[FlightDataError], str] = {
    InvalidRequest: "bad-request unknown-parameter missing-parameter bad-parameter rule-violated sql-refused scan-limit"
    " row-limit bad-ticket expired-ticket",
    NotFound: "unknown-dataset unknown-version unknown-query unknown-pin",
    Unauthenticated: "no-credential bad-credential expired-credential",
    Denied: "not-allowed budget-spent",
    Unsupported: "unsupported",
    Unavailable: "busy draining engine-throttled unreachable connection-lost",
    TimedOut: "timeout",
    Cancelled: "cancelled",
    ServerError: "engine-failed contract-violated internal incomplete unexpected",
}
CODES: dict[str, type[FlightDataError]] = {code: kind for kind, codes in _CLASSES.items() for code in codes.split()}
# The server asks for these to be tried again; a lost connection may have done half of the work, so it is not here.
RETRIED = frozenset({"busy", "draining", "engine-throttled"})

# What a code that this release does not know falls back to: what pyarrow makes of the gRPC status. Subclasses first.
_BY_STATUS: dict[type[BaseException], type[FlightDataError]] = {
    flight.FlightUnauthenticatedError: Unauthenticated,
    flight.FlightUnauthorizedError: Denied,
    flight.FlightUnavailableError: Unavailable,
    flight.FlightTimedOutError: TimedOut,
    flight.FlightCancelledError: Cancelled,
    NotImplementedError: Unsupported,
    pa.ArrowKeyError: NotFound,
    pa.ArrowInvalid: InvalidRequest,
}
_CODE = re.compile(r"\[([a-z]+(?:-[a-z]+)*)\] ")
# pyarrow appends `. Detail: …`, and for streams all of it once more behind `gRPC client debug context: STATUS:`.
_REPEATED = re.compile(r"(?P<said>.*?)\. gRPC client debug context: [A-Z_]+:.*", re.DOTALL)
_PREFIX = re.compile(r"Flight (?:returned|cancelled) [a-z ]+, with message: ")

# What gRPC says where an address is nearly right, and what to do about it.
_HINTS = {
    "Connection refused": "; does it run there",
    "wrong version number": "; it speaks no TLS, write grpc://",
    "Socket closed": "; if it speaks TLS, write grpc+tls://",
    "certificate verify failed": "; tls_roots names the PEM file of an authority of one's own",
    "Expected SETTINGS frame": "; this is not the port of Flight, 8815 unless set otherwise",
}


def error_of(code: str, message: str) -> FlightDataError:
    """The error of a code: from the table above, or ServerError for a code of a newer server."""
    return CODES.get(code, ServerError)(code, message)


def from_wire(error: BaseException, *, rows_seen: bool = False) -> FlightDataError:
    """What pyarrow raised as one of the errors above. `rows_seen`: rows of the stream had already been handed out."""
    if isinstance(error, FlightDataError):
        return error
    text = _said(str(error))
    found = _CODE.search(text)
    if found:
        code, message = found[1], text[found.end() :]
        if code in CODES:
            return CODES[code](code, message)
        return _by_status(error, ServerError)(code, message)
    # No code: not written by an athena-flight server, so most often no server at all.
    message = " ".join(text.split())
    if message == "FlightClient is closed":
        return InvalidRequest("bad-request", "this connection is closed; connect(…) makes a new one")
    if isinstance(error, flight.FlightUnavailableError) or "unavailable error" in str(error):
        if rows_seen:
            return Unavailable("connection-lost", f"the stream broke off, the rows so far are not all: {message}")
        hint = next((found for said, found in _HINTS.items() if said in message), "")
        return Unavailable("unreachable", f"there is no answer from the server{hint}: {message}")
    hint = "; this is not the port of Flight, 8815 unless set otherwise" if message == "Method not found!" else ""
    return _by_status(error, ServerError)("unexpected", (message or type(error).__name__) + hint)


def _by_status(error: BaseException, default: type[FlightDataError]) -> type[FlightDataError]:
    return next((ours for theirs, ours in _BY_STATUS.items() if isinstance(error, theirs)), default)


def _said(text: str) -> str:
    """What the server said, without what gRPC and pyarrow put around it."""
    repeated = _REPEATED.fullmatch(text)
    said = repeated["said"] if repeated else text
    head, mark, _ = said.rpartition(". Detail: ")
    said = head if mark else said
    return _PREFIX.sub("", said, count=1)
