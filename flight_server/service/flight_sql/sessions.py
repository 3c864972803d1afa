"""Flight's own protobuf actions: cancelling, renewing, and sessions, of which there are none to keep.

A session's options are the same for everybody: the one catalog, and the schema of names without one. A client may set
them to what they are. Their bodies are plain messages, without the Any that Flight SQL's have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
from google.protobuf.message import Message

from flight_server.errors import InvalidRequest, NotFound
from flight_server.plan.statement import CATALOG, SCHEMA
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages

# The numbers of CancelStatus, CloseSessionResult.Status and SetSessionOptionsResult.ErrorValue.
_CANCELLED = 1
_CLOSED = 1
_INVALID_NAME, _INVALID_VALUE = 1, 2
_OPTIONS = {"catalog": CATALOG, "schema": SCHEMA}
ACTIONS = {
    "CancelFlightInfo": "Stop the running streams of a FlightInfo's tickets. Body: CancelFlightInfoRequest",
    "RenewFlightEndpoint": "The same endpoint with a later expiration. Body: RenewFlightEndpointRequest",
    "SetSessionOptions": "Takes what GetSessionOptions answers, and nothing else. Body: SetSessionOptionsRequest",
    "GetSessionOptions": "The catalog and the schema of plain names. Body: GetSessionOptionsRequest",
    "CloseSession": "Nothing is left to close. Body: CloseSessionRequest",
}
# Stops the caller's streams of a ticket, and says how many.
Cancel = Callable[[bytes], int]


def act(action: str, body: bytes, tickets: Tickets, cancel: Cancel) -> bytes:
    """The result of one of `ACTIONS`, as bytes."""
    if action == "CancelFlightInfo":
        info = messages.parse("CancelFlightInfoRequest", body).info
        cancel_info(info, tickets, cancel)
        found = messages.new("CancelFlightInfoResult", status=_CANCELLED)
    elif action == "RenewFlightEndpoint":
        return _renewed(messages.parse("RenewFlightEndpointRequest", body).endpoint, tickets)
    elif action == "SetSessionOptions":
        options = messages.parse("SetSessionOptionsRequest", body).session_options
        found = messages.new("SetSessionOptionsResult", errors=list(_refused(options)))
    elif action == "GetSessionOptions":
        found = messages.new("GetSessionOptionsResult", session_options=[_option(name) for name in _OPTIONS])
    else:
        found = messages.new("CloseSessionResult", status=_CLOSED)
    return bytes(found.SerializeToString())


def _option(name: str) -> Message:
    value = messages.new("SessionOptionValue", string_value=_OPTIONS[name])
    return messages.new("SessionOption", name=name, value=value.SerializeToString())


def _refused(options: Iterable[Any]) -> Iterator[Message]:
    for option in options:
        if option.name not in _OPTIONS:
            number = _INVALID_NAME
        elif messages.parse("SessionOptionValue", option.value).string_value != _OPTIONS[option.name]:
            number = _INVALID_VALUE
        else:
            continue
        yield messages.new("SessionError", name=option.name, value=messages.new("SessionErrorValue", value=number))


def cancel_info(info: bytes, tickets: Tickets, cancel: Cancel) -> None:
    """Stop the caller's streams of all tickets in a serialised FlightInfo. Raises NotFound where none runs here."""
    try:
        endpoints = flight.FlightInfo.deserialize(info).endpoints
    except pa.ArrowException:
        raise InvalidRequest("bad-request", "the body has no FlightInfo") from None
    for endpoint in endpoints:
        # Only what was issued here can run here.
        tickets.open(endpoint.ticket.ticket)
    if not sum(cancel(endpoint.ticket.ticket) for endpoint in endpoints):
        raise NotFound("unknown-query", "no stream of this FlightInfo is running at this server")


def _renewed(endpoint: bytes, tickets: Tickets) -> bytes:
    try:
        old = flight.FlightEndpoint.deserialize(endpoint)
    except pa.ArrowException:
        raise InvalidRequest("bad-request", "the body has no FlightEndpoint") from None
    ticket, expires = tickets.renew(old.ticket.ticket)
    moment = pa.scalar(datetime.fromtimestamp(expires, UTC), pa.timestamp("ns", "UTC"))
    return bytes(flight.FlightEndpoint(ticket, old.locations, moment, old.app_metadata).serialize())
