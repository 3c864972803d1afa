"""FlightInfos: of a plan, with the ticket for its rows, and of a dataset in a list."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.flight as flight

from flight_server.model import Dataset, Plan, plan_json


def planned(
    asked: flight.FlightDescriptor, plan: Plan, ticket: tuple[bytes, float], size: tuple[int, int]
) -> flight.FlightInfo:
    """The answer to GetFlightInfo. `ticket` comes with the second it expires; `size` is rows and bytes, -1 unknown."""
    expires = pa.scalar(datetime.fromtimestamp(ticket[1], UTC), pa.timestamp("ns", "UTC"))
    # No location: the ticket is good wherever the client is connected.
    endpoint = flight.FlightEndpoint(ticket[0], [], expires)
    return flight.FlightInfo(
        plan.dataset.schema,
        asked,
        [endpoint],
        *size,
        ordered=bool(plan.dataset.sorted),
        app_metadata=json.dumps(plan_json(plan)),
    )


def listed(dataset: Dataset) -> flight.FlightInfo:
    """An entry of ListFlights."""
    descriptor = flight.FlightDescriptor.for_path(dataset.name)
    return flight.FlightInfo(dataset.schema, descriptor, [], -1, -1, ordered=bool(dataset.sorted))
