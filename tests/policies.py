"""Callers of `policed` (fix_identity) and policies of one filter, for the tests of policies."""

from __future__ import annotations

from flight_server.model import Caller

ALICE = Caller("alice", frozenset({"pm"}), {"portfolios": (1, 2)})
RISK = Caller("carol", frozenset({"risk"}))
NOBODY = Caller("dave")
ALL = {1, 2, 3, 4}


def only(where: str, more: str = "") -> str:
    """Policies with one row filter on p.nav."""
    return f'[[row_filter]]\ntable = "p.nav"\nwhere = """{where}"""\n{more}\n'
