"""Connections do not outlive a fork.

gRPC's threads are gone there, so that calls hang, and what they write to the parent's sockets breaks the parent's.
"""

from __future__ import annotations

import os

from flight_client.errors import InvalidRequest

# The processes that made a connection: this one, or those that it was forked from.
_connected: set[int] = set()


def connects() -> None:
    """Note that this process makes a connection. Raises InvalidRequest (bad-request) in a fork of one that did."""
    _connected.add(os.getpid())
    check()


def check() -> None:
    """Raise InvalidRequest (bad-request) in a fork of a process that made a connection."""
    if _connected != {os.getpid()}:
        raise InvalidRequest(
            "bad-request",
            "this process was forked from one with a connection, which does not work here: start it with "
            'multiprocessing.get_context("spawn"), and connect(…) in it',
        )
