"""A small Flight server for what a healthy athena-flight server does not do on demand: turn away, lie, break off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

SCHEMA = pa.schema([pa.field("n", pa.int64())])
Batches = Callable[[flight.ServerCallContext], Iterator[pa.RecordBatch]]


class Peer(flight.FlightServerBase):
    """Answers any request with one endpoint for each of `endpoints`; a ticket is the number of its endpoint."""

    def __init__(
        self, *endpoints: Batches, ordered: bool = False, location: str = "grpc://localhost:0", **tls: Any
    ) -> None:
        self._endpoints = endpoints
        self._ordered = ordered
        # Raised by the next calls, one each, before anything else happens.
        self.refusals: list[Exception] = []
        self.calls: list[str] = []
        super().__init__(location, **tls)
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"grpc://localhost:{self.port}"

    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> Iterator[flight.FlightInfo]:
        return iter([flight.FlightInfo(SCHEMA, flight.FlightDescriptor.for_path("numbers"), [], -1, -1)])

    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        self._enter("info")
        endpoints = [flight.FlightEndpoint(str(index).encode(), []) for index in range(len(self._endpoints))]
        return flight.FlightInfo(SCHEMA, descriptor, endpoints, -1, -1, ordered=self._ordered)

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[bytes]:
        self._enter(action.type)
        yield (
            b'{"dataset": "numbers", "version": 1, "title": "Numbers", "doc": "", "owner": "tests", "tags": [],'
            b'"key": [], "sorted": [], "params": [], "rules": {}, "limits": {},'
            b'"columns": [{"name": "n", "type": "int64"}], "a key of a later server": 1}'
        )

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        self._enter("get")
        return flight.GeneratorStream(SCHEMA, self._endpoints[int(ticket.ticket)](context))

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        if self.refusals:
            raise self.refusals.pop(0)


def numbers(*values: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def giving(
    *values: int, pause_s: float = 0, trailer: str | None = None, after: Callable[[], object] = lambda: None
) -> Batches:
    """One batch for each value, with heartbeats between, and the row count of the trailer; begun `after` it returns."""

    def batches(context: flight.ServerCallContext) -> Iterator[pa.RecordBatch]:
        after()
        for value in values:
            time.sleep(pause_s)
            yield numbers()
            yield numbers(value)
        context.add_trailer("x-athena-flight-rows", trailer or str(len(values)))

    return batches


def failing(error: Exception, *before: int) -> Batches:
    """Some values, and then an error."""

    def batches(context: flight.ServerCallContext) -> Iterator[pa.RecordBatch]:
        for value in before:
            yield numbers(value)
        raise error

    return batches
