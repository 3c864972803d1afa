"""`athena-flight version`."""

from __future__ import annotations

from flight_server import __version__


def version() -> None:
    """Show the version."""
    print(f"athena-flight {__version__}")
