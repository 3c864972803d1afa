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
# Of a check that has not ended in time; the code of what is late everywhere else, too.
LATE = "timeout"


class Readiness:
    """Runs the checks when it is asked, one asker at a time, and keeps their outcome for `ttl_s`. Thread-safe.

    Each check has a thread of its own and is waited for `wait_s`, all of them together. One that hangs is late until it
    has ended, and is not begun a second time meanwhile.
    """

    def __init__(
        self, checks: Mapping[str, Check], draining: Callable[[], bool], ttl_s: float, wait_s: float = 4.0
    ) -> None:
        self._checks = checks
        self._draining = draining
        self._ttl_s = ttl_s
        self._wait_s = wait_s
        self._running: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._found: Mapping[str, str] = {}
        self._until = 0.0
        self._ready = False

    def outcomes(self) -> dict[str, str]:
        """What each check says: `ok`, or the code of its error. Blocks for `wait_s` at most.

        A server that drains says so at once, whatever was found a moment ago.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                self._found = self._asked()
                for name, said in self._found.items():
                    metrics.READY.labels(name).set(said == OK)
                self._until = time.monotonic() + self._ttl_s
                before, self._ready = self._ready, all(said == OK for said in self._found.values())
                if self._ready and not before:
                    log.info("ready", checks=list(self._found))
            found = dict(self._found)
        if self._draining():
            found["draining"] = "the server is stopping"
        return found

    def ready(self) -> bool:
        return all(said == OK for said in self.outcomes().values())

    def _asked(self) -> dict[str, str]:
        for name, check in self._checks.items():
            if name not in self._running:
                self._running[name] = _Run(name, check)
                self._running[name].start()
        deadline = time.monotonic() + self._wait_s
        found = {}
        for name in self._checks:
            run = self._running[name]
            run.join(max(0.0, deadline - time.monotonic()))
            if run.said:
                found[name] = run.said
                del self._running[name]
            else:
                log.warning("not_ready", check=name, code=LATE, message=f"no answer within {self._wait_s:g} s")
                found[name] = LATE
        return found


class _Run(threading.Thread):
    """A check that is being made, by a thread that holds up nobody's end."""

    def __init__(self, name: str, check: Check) -> None:
        super().__init__(name=f"ready-{name}", daemon=True)
        self.said = ""
        self._what = name
        self._check = check

    def run(self) -> None:
        self.said = _outcome(self._what, self._check)


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
