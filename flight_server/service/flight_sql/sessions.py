"""Flight's own protobuf actions: cancelling, renewing, and sessions, of which there are none to keep.

Their bodies are plain messages, without the Any that Flight SQL's have.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.errors import InvalidRequest, NotFound
from flight_server.service.descriptors import Tickets
from flight_server.service.flight_sql import messages

# The numbers of CancelStatus, CloseSessionResult.Status and SetSessionOptionsResult.ErrorValue.
_CANCELLED = 1
_CLOSED = 1
_INVALID_NAME = 1
ACTIONS = {
    "CancelFlightInfo": "Stop the running streams of a FlightInfo's tickets. Body: CancelFlightInfoRequest",
    "RenewFlightEndpoint": "The same endpoint with a later expiration. Body: RenewFlightEndpointRequest",
    "SetSessionOptions": "Refused option by option: there are no sessions. Body: SetSessionOptionsRequest",
    "GetSessionOptions": "No options. Body: GetSessionOptionsRequest",
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
        refused = messages.new("SessionErrorValue", value=_INVALID_NAME)
        errors = [messages.new("SessionError", name=option.name, value=refused) for option in options]
        found = messages.new("SetSessionOptionsResult", errors=errors)
    elif action == "GetSessionOptions":
        found = messages.new("GetSessionOptionsResult")
    else:
        found = messages.new("CloseSessionResult", status=_CLOSED)
    return bytes(found.SerializeToString())


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
