"""One connection to one server: credentials, errors without gRPC noise, retries with back-off, trailers.

pyarrow's readers show no trailers, but a client middleware is handed them as headers, in the thread that reads the end
of a stream. That is how a stream's row count is known.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import pyarrow.flight as flight
import pyarrow.ipc as ipc

from flight_client import _process
from flight_client._credential import Credential, Headers
from flight_client.errors import (
    RETRIED,
    FlightDataError,
    InvalidRequest,
    ServerError,
    Unavailable,
    from_wire,
)
from flight_client.settings import Settings

_R = TypeVar("_R")
# What pyarrow's client can connect to.
_SCHEMES = ("grpc", "grpc+tcp", "grpc+tls", "grpc+unix")
_ADDRESS = "write the address as grpc://localhost:8815"
# First pause, longest pause, and the time after which a busy server is reported: a person waits that long, not longer.
RETRY_FIRST_S, RETRY_MAX_S, RETRY_TOTAL_S = 0.2, 5.0, 30.0
# Everything but a stream answers within milliseconds; a server that says nothing for so long never will.
CALL_TIMEOUT_S = 60.0
# Flight's buffers lie as gRPC received them; Acero, which DuckDB reads Arrow tables with, complains about each that is
# not aligned. Only those are copied.
_READ = ipc.IpcReadOptions(ensure_alignment=ipc.Alignment.DataTypeSpecific)


class Transport:
    """A FlightClient that speaks in our errors. Thread-safe; `close` ends its streams."""

    def __init__(self, settings: Settings) -> None:
        _check_address(settings.url)
        _process.connects()
        self.url = settings.url
        self._settings = settings
        self._watch = _Watch()
        options = {
            "tls_root_certs": _pem(settings.tls_roots),
            "cert_chain": _pem(settings.cert),
            "private_key": _pem(settings.key),
        }
        given = {name: value for name, value in options.items() if value is not None}
        self._client = flight.FlightClient(settings.url, middleware=[self._watch], **given)
        self._credential = Credential(settings.token, None if settings.user is None else self._log_in)

    def close(self) -> None:
        self._client.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a connection and its queries cannot be copied or pickled; connect(…) where they are needed, "
            "or pass the rows on, q.arrow()"
        )

    def list_flights(self) -> list[flight.FlightInfo]:
        return self._call(lambda options: list(self._client.list_flights(b"", options)))

    def flight_info(self, request: Mapping[str, object]) -> flight.FlightInfo:
        descriptor = flight.FlightDescriptor.for_command(encode(request))
        return self._call(lambda options: self._client.get_flight_info(descriptor, options))

    def action(self, name: str, body: Mapping[str, object]) -> bytes:
        """The one result of an action."""
        asked = flight.Action(name, encode(body))
        results = self._call(lambda options: list(self._client.do_action(asked, options)))
        if len(results) != 1:
            raise ServerError("unexpected", f"the action {name} gave {len(results)} results, not one")
        return bytes(results[0].body.to_pybytes())

    def action_json(self, name: str, body: Mapping[str, object]) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.action(name, body))
        return found

    def open(self, ticket: flight.Ticket) -> Stream:
        """A stream that has begun: its schema is known. No time limit: the server has one for each dataset."""
        with self._watch.trailers() as trailers:
            reader = self._mended(lambda options: self._client.do_get(ticket, options), None)
        return Stream(reader, trailers)

    def _call(self, call: Callable[[flight.FlightCallOptions], _R]) -> _R:
        return retried(lambda: self._mended(call, CALL_TIMEOUT_S))

    def _mended(self, call: Callable[[flight.FlightCallOptions], _R], timeout_s: float | None) -> _R:
        """`call` with its errors translated, and once more with a new session where the old one has ended."""
        _process.check()
        used = self._credential.headers
        try:
            return call(_options(used, timeout_s))
        except Exception as error:  # noqa: BLE001 - the one place where pyarrow's errors become ours
            ours = from_wire(error)
        if self._credential.renewed(used, ours.code):
            try:
                return call(_options(self._credential.headers, timeout_s))
            except Exception as error:  # noqa: BLE001 - as above
                ours = from_wire(error)
        raise ours

    def _log_in(self) -> Headers:
        limit = flight.FlightCallOptions(timeout=CALL_TIMEOUT_S)
        try:
            pair = self._client.authenticate_basic_token(self._settings.user, self._settings.password, limit)
        except Exception as error:  # noqa: BLE001 - as in `_mended`
            raise from_wire(self._reason(error, limit)) from None
        return [pair]

    def _reason(self, error: Exception, limit: flight.FlightCallOptions) -> Exception:
        """`error`, or why nobody answers: of a handshake pyarrow then says only that it could not finish writing."""
        if isinstance(error, flight.FlightInternalError) and "Could not finish writing" in str(error):
            try:
                list(self._client.list_actions(limit))
            except flight.FlightError as reason:
                if isinstance(reason, flight.FlightUnavailableError | flight.FlightTimedOutError):
                    error = reason
        return error


class Stream:
    """One running DoGet. Read it from one thread; `cancel` may come from any."""

    def __init__(self, reader: flight.FlightStreamReader, trailers: dict[str, str]) -> None:
        self._reader = reader
        self._trailers = trailers
        self.rows = 0

    def batches(self) -> Iterator[Any]:
        """Record batches; zero-row ones are the server's sign of life. Ends only when the server said that it is all.

        gRPC ends a stream with a status, and pyarrow raises for any but OK, so that a stream that broke off never
        looks complete. The server's own row count in the trailers is held against what came, for what lies between.
        """
        while True:
            try:
                chunk = self._reader.read_chunk()
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - as in `_mended`
                raise from_wire(error, rows_seen=self.rows > 0) from None
            if chunk.data is not None:
                self.rows += chunk.data.num_rows
                yield chunk.data
        said = self._trailers.get("x-athena-flight-rows")
        if said is not None and int(said) != self.rows:
            raise ServerError("incomplete", f"the server sent {int(said):,} rows and {self.rows:,} arrived")

    @property
    def receipt(self) -> str | None:
        """What the answer was made from, as text for `as_of`; known at its end, where the server tells it."""
        return self._trailers.get("x-athena-flight-receipt")

    def cancel(self) -> None:
        self._reader.cancel()


def _options(headers: Headers, timeout_s: float | None) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(timeout=timeout_s, headers=[*headers, *_trace()], read_options=_READ)


def _trace() -> list[tuple[bytes, bytes]]:
    """The program's current trace as headers, where it uses OpenTelemetry: the server's spans then stand in it."""
    if "opentelemetry.trace" not in sys.modules:
        # A program without it pays nothing, not even the import.
        return []
    from opentelemetry import propagate

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    # Baggage is the program's own business.
    return [(name.encode(), carrier[name].encode()) for name in ("traceparent", "tracestate") if name in carrier]


def retried(call: Callable[[], _R], wait: Callable[[float], object] = time.sleep) -> _R:
    """`call`, again after a pause while the server says busy, draining or engine-throttled, for `RETRY_TOTAL_S`."""
    deadline = time.monotonic() + RETRY_TOTAL_S
    pause = RETRY_FIRST_S
    while True:
        try:
            return call()
        except Unavailable as error:
            # Full jitter: clients that were turned away together do not come back together.
            pause_s = random.uniform(0.5, 1.0) * pause  # noqa: S311 - no secret
            if not may_retry(error) or time.monotonic() + pause_s > deadline:
                raise
        wait(pause_s)
        pause = min(2 * pause, RETRY_MAX_S)


def may_retry(error: FlightDataError) -> bool:
    """Whether the server asked for another try. A connection that is refused or lost is reported at once."""
    return isinstance(error, Unavailable) and error.code in RETRIED


def encode(body: Mapping[str, object]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _pem(file: Any) -> bytes | None:
    if file is None:
        return None
    try:
        found: bytes = file.read_bytes()
    except OSError as error:
        raise InvalidRequest("bad-request", f"cannot read the PEM file {str(file)!r}: {error.strerror}") from None
    return found


def _check_address(url: str) -> None:
    scheme, mark, host = url.partition("://")
    if not mark or not host or scheme not in _SCHEMES:
        raise InvalidRequest("bad-request", f"{url!r} is no address; {_ADDRESS}")
    if scheme == "grpc+unix":
        return
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest("bad-request", f"{url!r} is no address: {error}; {_ADDRESS}") from None
    if port is None:
        raise InvalidRequest("bad-request", f"{url!r} names no port; {_ADDRESS}")
    if parts.path not in ("", "/") or parts.query:
        raise InvalidRequest("bad-request", f"{url!r} says more than an address; {_ADDRESS}")


class _Watch(flight.ClientMiddlewareFactory):
    """Gives the next call of this thread a place for its trailers."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    def trailers(self) -> _Sink:
        return _Sink(self._local)

    def start_call(self, info: flight.CallInfo) -> flight.ClientMiddleware | None:  # noqa: ARG002 - fixed by pyarrow
        found: dict[str, str] | None = getattr(self._local, "found", None)
        return None if found is None else _Collect(found)


class _Sink:
    def __init__(self, local: threading.local) -> None:
        self._local = local

    def __enter__(self) -> dict[str, str]:
        found: dict[str, str] = {}
        self._local.found = found
        return found

    def __exit__(self, *_: object) -> None:
        self._local.found = None


class _Collect(flight.ClientMiddleware):
    def __init__(self, found: dict[str, str]) -> None:
        super().__init__()
        self._found = found

    def received_headers(self, headers: dict[str, list[str | bytes]]) -> None:
        for name, values in headers.items():
            if isinstance(values[0], str):
                self._found[name] = values[0]
