"""The one map from our errors to what goes over the wire.

pyarrow sends ValueError, KeyError and NotImplementedError with the right gRPC code and the whole Python traceback,
server paths included. It formats them with `traceback.format_exception`, and falls back to the bare message when that
fails. The three classes below make it fail, by a `__cause__` that cannot be read. They exist for the last hop only:
they are never logged and never raised anywhere else.
"""

from __future__ import annotations

import pyarrow.flight as flight

from flight_server.errors import (
    Cancelled,
    Denied,
    Error,
    InvalidRequest,
    NotFound,
    TimedOut,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

# All headers of a response share 8 KiB before gRPC refuses some, and the message is in them twice: escaped to three
# times its size where it is not ASCII, and in base64.
_MESSAGE_BYTES_MAX = 1000


class _Unprintable:
    @property
    def __cause__(self) -> BaseException:
        raise AttributeError("no traceback goes over the wire")


class InvalidArgument(_Unprintable, ValueError):  # type: ignore[misc]
    """INVALID_ARGUMENT."""


class Missing(_Unprintable, KeyError):  # type: ignore[misc]
    """NOT_FOUND."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument.
        return str(self.args[0])


class Unimplemented(_Unprintable, NotImplementedError):  # type: ignore[misc]
    """UNIMPLEMENTED."""


class Unmapped(_Unprintable, RuntimeError):  # type: ignore[misc]
    """UNKNOWN."""


_WIRE: dict[type[Error], type[Exception]] = {
    InvalidRequest: InvalidArgument,
    NotFound: Missing,
    Unsupported: Unimplemented,
    Unauthenticated: flight.FlightUnauthenticatedError,
    Denied: flight.FlightUnauthorizedError,
    Unavailable: flight.FlightUnavailableError,
    TimedOut: flight.FlightTimedOutError,
    # pyarrow's client turns a server's CANCELLED into KeyboardInterrupt, and asks never to send it from a stream.
    Cancelled: flight.FlightInternalError,
}


def to_wire(error: Error, *, get_schema: bool = False) -> Exception:
    """The exception that makes pyarrow send the right status with `[code] message`, one line, and nothing else.

    pyarrow's GetSchema knows no Flight errors and would send their traceback: from it they go as UNKNOWN, but clean.
    """
    text = " ".join(str(error).split())
    kind = next((wire for ours, wire in _WIRE.items() if isinstance(error, ours)), flight.FlightInternalError)
    if get_schema and issubclass(kind, flight.FlightError):
        kind = Unmapped
    return kind(_cut(text))


def _cut(text: str) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= _MESSAGE_BYTES_MAX:
        return encoded.decode()
    return encoded[:_MESSAGE_BYTES_MAX].decode(errors="ignore") + "…"
