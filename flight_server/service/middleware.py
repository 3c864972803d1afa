"""What every RPC passes before its method: its credential is checked, and a Call is made for it."""

from __future__ import annotations

import pyarrow.flight as flight

from flight_server.service.audit import Audit
from flight_server.service.auth import Authentication, Identity
from flight_server.service.call import Call
from flight_server.service.calls import Calls
from flight_server.service.outcome import Outcome
from flight_server.telemetry import traces
from flight_server.telemetry.records import Records

NAME = "call"
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
            refusal = call.failed(error, before_method=True)
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


def call_of(context: flight.ServerCallContext) -> Call:
    """The call that a method is answering."""
    call = context.get_middleware(NAME)
    assert isinstance(call, Call)  # noqa: S101 - CallFactory puts one on every RPC
    return call


def _identify(call: Call, identity: Identity) -> None:
    if identity.caller is not None:
        call.identified(identity.caller)
    if call.outcome.method == "Handshake":
        # No method of ours follows.
        call.outcome.code = "ok"
    if call.outcome.method == "Handshake" or identity.fresh:
        call.bearer = identity.bearer
