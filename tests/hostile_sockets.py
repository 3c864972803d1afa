"""Connections that do nothing good: `python -m tests.hostile_sockets PORT COUNT KIND`, until its standard input ends.

`silent` sends nothing; `greeting` is the start of HTTP/2 and no call; `deaf` asks for a long stream and never reads from
its socket. Prints `connected` when all are.
"""

from __future__ import annotations

import socket
import sys

from tests.wire import ticket

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GREETING = _PREFACE + bytes.fromhex("000000040000000000")
# One address has some 28,000 ports to connect from; these stay well below.
_PER_ADDRESS = 5000


def main(port: int, count: int, kind: str) -> None:
    first = {"silent": b"", "greeting": GREETING, "deaf": deaf(b"endless")}[kind]
    held = []
    for number in range(count):
        opened = socket.socket()
        if kind == "deaf":
            # Little room before the peer has to wait.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.bind((f"127.0.0.{2 + number // _PER_ADDRESS}", 0))
        opened.connect(("127.0.0.1", port))
        opened.sendall(first)
        held.append(opened)
    print("connected", flush=True)
    sys.stdin.read()


def deaf(asked: bytes) -> bytes:
    """HTTP/2 by hand: a DoGet with a window of 2 GiB, so that only the socket holds the answer up."""
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/arrow.flight.protocol.FlightService/DoGet"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    ]
    # HPACK's plainest form: a literal, not indexed, name and value as they are.
    block = b"".join(b"\0" + bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in headers)
    body = ticket(asked)
    message = b"\0" + len(body).to_bytes(4, "big") + body
    # SETTINGS_INITIAL_WINDOW_SIZE, and the same for the connection.
    settings = (4).to_bytes(2, "big") + (2**31 - 1).to_bytes(4, "big")
    window = _frame(8, 0, 0, (2**31 - 1 - 65_535).to_bytes(4, "big"))
    return _PREFACE + _frame(4, 0, 0, settings) + window + _frame(1, 4, 1, block) + _frame(0, 1, 1, message)


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
