"""Messages of Flight made by hand, for clients of plain gRPC."""

from __future__ import annotations

# 19 rows of the demo tables.
ASKED = b"daily_prices?ticker=AAPL&start_date=2010-01-04&end_date=2010-01-29"


def ticket(body: bytes) -> bytes:
    """`Ticket{ticket = body}`."""
    return _field(1, body)


def command(body: bytes) -> bytes:
    """`FlightDescriptor{type = CMD, cmd = body}`."""
    return b"\x08\x02" + _field(2, body)


def action(name: str, body: bytes) -> bytes:
    """`Action{type = name, body = body}`."""
    return _field(1, name.encode()) + _field(2, body)


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content
