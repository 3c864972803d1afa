"""What the server says about itself: log lines and metrics. Parameter values and tokens are in neither."""

from flight_server.telemetry.logs import configure, log

__all__ = ["configure", "log"]
