"""A Flight client in a few lines: what `athena-flight demo` shows and runs."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as flight


def fetch(location: str, ticket: str) -> pa.Table:
    """The whole answer to a ticket that a person wrote, such as `daily_prices?ticker=AAPL&start_date=2010-01-04`."""
    with flight.connect(location) as client:
        return client.do_get(flight.Ticket(ticket.encode())).read_all()


def lines(location: str, ticket: str) -> str:
    """The same as Python to copy."""
    return (
        "import pyarrow.flight as flight\n"
        f'client = flight.connect("{location}")\n'
        f'table = client.do_get(flight.Ticket(b"{ticket}")).read_all()'
    )
