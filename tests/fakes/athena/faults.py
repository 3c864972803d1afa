"""What a test can turn: delays, failures, throttles, the shape of the output. Plain fields, safe to set at any time.

Set them on `LocalAthena.faults` in the process, or with `POST /_faults` and a JSON object of the same names.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, fields
from typing import Any

# Documented calls per second and burst of an account (facts: service quotas), for `rates = Faults.AWS_RATES`.
AWS_RATES: dict[str, tuple[float, float]] = {
    "StartQueryExecution": (20, 80),
    "StopQueryExecution": (20, 80),
    "GetQueryExecution": (100, 200),
    "GetQueryResults": (100, 200),
    "BatchGetQueryExecution": (20, 40),
    "ListQueryExecutions": (5, 10),
}


@dataclass
class Faults:
    """The knobs. Lists and counts are used up by the queries or calls that meet them."""

    # Time that a query spends in QUEUED, and in RUNNING before its engine starts.
    queued_s: float = 0.0
    running_s: float = 0.0
    # How often a query goes back from RUNNING to QUEUED before it runs.
    bounces: int = 0
    # AthenaErrors of the next queries, as {"category": 1, "type": 401, "retryable": true, "message": "…"}.
    # With `"after_rows": n` above 0 the query fails in the middle of its output and leaves it behind.
    fail_next: list[dict[str, Any]] = field(default_factory=list)
    # Calls that meet ThrottlingException, by operation ("*" = any), and calls that meet HTTP 500.
    throttle_next: dict[str, int] = field(default_factory=dict)
    broken_next: dict[str, int] = field(default_factory=dict)
    # Errors of the next calls: {"operation": "*", "type": "ExpiredTokenException", "message": "…", "status": 400}.
    errors_next: list[dict[str, Any]] = field(default_factory=list)
    # Calls that are carried out and whose answer is lost: the connection closes without one.
    lost_next: dict[str, int] = field(default_factory=dict)
    # Calls per second and burst, by operation; `{}` = no limit, `AWS_RATES` = the documented ones.
    rates: dict[str, tuple[float, float]] = field(default_factory=dict)
    # StartQueryExecution calls that meet TooManyRequestsException whatever is running.
    too_many_next: int = 0
    # RUNNING + QUEUED queries beyond which StartQueryExecution is refused, and RUNNING ones at the same time.
    quota: int = 200
    concurrency: int = 20
    # Files of one UNLOAD or CTAS, rows of one of their row groups.
    file_count: int = 3
    row_group_rows: int = 122_880
    # Files of a "retried attempt", written into the prefix and not named by the manifest.
    leftovers: int = 0
    # Longest time one batch of output waits, to keep a query running for as long as a test needs.
    batch_s: float = 0.0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def update(self, values: dict[str, Any]) -> None:
        """Set fields by name; `reset` puts all of them back first. Raises KeyError on a name that is no knob."""
        names = {f.name for f in fields(self)}
        values = dict(values)
        with self._lock:
            if values.pop("reset", False):
                fresh = Faults()
                for name in names:
                    setattr(self, name, getattr(fresh, name))
            for name, value in values.items():
                if name not in names:
                    raise KeyError(f"{name!r} is no knob; there are {', '.join(sorted(names))}")
                setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def take(self, knob: str, operation: str) -> bool:
        """Use up one count of a by-operation knob; False when there is none for this operation."""
        with self._lock:
            counts: dict[str, int] = getattr(self, knob)
            for name in (operation, "*"):
                if counts.get(name, 0) > 0:
                    counts[name] -= 1
                    return True
            return False

    def take_too_many(self) -> bool:
        with self._lock:
            if self.too_many_next <= 0:
                return False
            self.too_many_next -= 1
            return True

    def take_error(self, operation: str) -> dict[str, Any] | None:
        with self._lock:
            for i, error in enumerate(self.errors_next):
                if error.get("operation", "*") in ("*", operation):
                    return self.errors_next.pop(i)
            return None

    def take_failure(self) -> dict[str, Any] | None:
        with self._lock:
            return self.fail_next.pop(0) if self.fail_next else None

    def over_rate(self, operation: str) -> bool:
        """Token bucket of one operation, filled at its rate up to its burst; True = this call is one too many."""
        with self._lock:
            if operation not in self.rates:
                return False
            rate, burst = self.rates[operation]
            now = time.monotonic()
            tokens, then = self._buckets.get(operation, (burst, now))
            tokens = min(burst, tokens + (now - then) * rate)
            over = tokens < 1
            self._buckets[operation] = (tokens if over else tokens - 1, now)
            return over
