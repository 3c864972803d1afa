"""A query that runs on the server whether or not anybody waits for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from flight_client._transport import Transport
from flight_client.answer import Answer
from flight_client.errors import Cancelled, TimedOut, error_of

# Pauses between two looks: short for short queries, and never so long that a person would notice.
_POLL_FIRST_S, _POLL_MAX_S = 0.05, 2.0
_RUNNING = ("QUEUED", "RUNNING")


@dataclass(frozen=True)
class Status:
    """How a submitted query stands. `state` is QUEUED, RUNNING, SUCCEEDED, FAILED or CANCELLED."""

    state: str
    rows: int
    bytes: int
    elapsed_s: float
    scanned_bytes: int
    error: str | None = None

    @property
    def done(self) -> bool:
        return self.state not in _RUNNING


class Submission(Answer):
    """A submitted query. Every way to read it waits for its end; Ctrl-C ends the waiting, not the query."""

    def __init__(self, transport: Transport, query_id: str, label: str, bar: bool) -> None:
        super().__init__(transport, label, self._finished, bar)
        self.id = query_id

    def __repr__(self) -> str:
        return f"<Submission {self.id} of {self._label}>"

    def status(self) -> Status:
        """How it stands now. Raises NotFound (unknown-query) when the server keeps it no longer."""
        found = self._transport.action_json("status", {"id": self.id})
        return Status(
            state=found["state"],
            rows=found["rows"],
            bytes=found["bytes"],
            elapsed_s=found["elapsed_ms"] / 1000,
            scanned_bytes=found["scanned_bytes"],
            error=found.get("error"),
        )

    def wait(self, timeout_s: float | None = None) -> Status:
        """Wait for the end, whatever it is. Raises TimedOut after `timeout_s`; the query then goes on."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = _POLL_FIRST_S
        while not (found := self.status()).done:
            left = pause_s if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimedOut("timeout", f"query {self.id} is still {found.state} after {timeout_s:g} s; it goes on")
            time.sleep(min(pause_s, left))
            pause_s = min(pause_s * 1.5, _POLL_MAX_S)
        return found

    def result(self, timeout_s: float | None = None) -> pa.Table:
        """The whole result, when it is there. Raises what the query raised, Cancelled, or TimedOut."""
        self.wait(timeout_s)
        return self.arrow()

    def cancel(self) -> Status:
        """Stop it, and drop its result. One that has ended stays as it is."""
        self._transport.action_json("cancel", {"id": self.id})
        return self.status()

    def _finished(self) -> flight.FlightInfo:
        found = self.wait()
        if found.state == "CANCELLED":
            raise Cancelled("cancelled", f"query {self.id} was cancelled")
        if found.state == "FAILED":
            raise _failure(found.error or "")
        return flight.FlightInfo.deserialize(self._transport.action("result", {"id": self.id}))


def submitted(transport: Transport, request: Mapping[str, Any], label: str, bar: bool) -> Submission:
    """Hand a request to the server's `submit`."""
    found = transport.action_json("submit", request)
    return Submission(transport, found["id"], label, bar)


def _failure(text: str) -> Exception:
    code, _, message = text.removeprefix("[").partition("] ")
    return error_of(code, message)
