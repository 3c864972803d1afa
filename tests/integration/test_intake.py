"""Requests that are longer than any: who sends them is hung up on, and others are not."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.server import Server
from tests.fix_server import ASKED, Serve, connect


@pytest.mark.parametrize("way", ["ticket", "command", "action"])
def test_a_request_without_end_is_cut(demo_server: Server, way: str) -> None:
    long = bytes(200 << 20)
    with connect(demo_server) as other, connect(demo_server) as client:
        assert other.do_get(flight.Ticket(ASKED)).read_all().num_rows
        with pytest.raises((flight.FlightUnavailableError, pa.ArrowException)) as raised:
            if way == "ticket":
                client.do_get(flight.Ticket(long)).read_all()
            elif way == "command":
                client.get_flight_info(flight.FlightDescriptor.for_command(long))
            else:
                list(client.do_action(flight.Action("describe", long)))
        # The server did not come to read it.
        assert "[bad-request]" not in str(raised.value)
        assert other.do_get(flight.Ticket(ASKED)).read_all().num_rows


def test_many_calls_on_one_connection_are_no_flood(serve: Serve) -> None:
    server = serve(limits={"received_bytes_max": 1 << 20})
    with connect(server) as client:
        for _ in range(60):
            # Too long to be read, and short enough to be answered; 3.6 MB together.
            with pytest.raises(pa.ArrowInvalid, match="at most 65,536"):
                client.do_get(flight.Ticket(bytes(70_000))).read_all()
