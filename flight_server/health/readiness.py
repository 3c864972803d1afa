"""The checks behind /readyz and the gRPC health service: one outcome for both, so that they never disagree."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from flight_server.errors import Error
from flight_server.telemetry import log, metrics

# A check returns nothing, or raises an Error that says what is wrong.
Check = Callable[[], None]
OK = "ok"


class Readiness:
    """Runs the checks when it is asked, one asker at a time, and keeps their outcome for `ttl_s`. Thread-safe."""

    def __init__(self, checks: Mapping[str, Check], draining: Callable[[], bool], ttl_s: float) -> None:
        self._checks = checks
        self._draining = draining
        self._ttl_s = ttl_s
        self._lock = threading.Lock()
        self._found: Mapping[str, str] = {}
        self._until = 0.0

    def outcomes(self) -> dict[str, str]:
        """What each check says: `ok`, or the code of its error. Blocks as long as the slowest dependency does.

        A server that drains says so at once, whatever was found a moment ago.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = {name: _outcome(name, check) for name, check in self._checks.items()}
                for name, said in self._found.items():
                    metrics.READY.labels(name).set(said == OK)
                self._until = time.monotonic() + self._ttl_s
            found = dict(self._found)
        if self._draining():
            found["draining"] = "the server is stopping"
        return found

    def ready(self) -> bool:
        return all(said == OK for said in self.outcomes().values())


def _outcome(name: str, check: Check) -> str:
    try:
        check()
    except Error as error:
        log.warning("not_ready", check=name, code=error.code, message=error.message)
        # The reason is in the log: the probes' ports are open to whoever reaches them.
        return error.code
    except Exception as error:  # noqa: BLE001 - a probe must answer, whatever is broken
        log.error("not_ready", check=name, exc_info=error)
        return "internal"
    return OK
