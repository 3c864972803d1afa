"""What callers have spent today, and whether the next query still fits: `[budget]` of the settings.

A query is charged its estimate before it runs and what it cost after it has, so that many at once cannot overdraw
together, and a server that is killed has charged too much rather than too little. Days are UTC. Answers from the store
and from the embedded engine cost nothing; a query that several share is paid by one of them (engines/athena).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from flight_server.config import Budget
from flight_server.errors import ConfigError, Denied, ServerError, Unavailable
from flight_server.model import Caller, ExecutionStats, Plan

# How long to wait for another replica on this machine that writes to the same file: its writes take milliseconds.
_LOCKED_S = 5.0
_TABLE = "CREATE TABLE IF NOT EXISTS spent (day TEXT, caller TEXT, usd REAL NOT NULL, PRIMARY KEY (day, caller))"
_ADD = "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET usd = usd + excluded.usd"


@dataclass(eq=False)
class Charge:
    """A query's estimate, charged already to a caller's day. `settle` it when the query has ended; once counts."""

    add: Callable[[float], None]
    usd: float
    settled: bool = False

    def settle(self, stats: ExecutionStats) -> None:
        """Charge what the query cost instead. What a stopped one had scanned is billed, but not known: no change."""
        more = stats.usd - self.usd
        if not self.settled and not stats.stopped and more:
            self.add(more)
        self.settled = True


class Spending:
    """Sums by caller and day, in a SQLite file or in memory. Thread-safe. Raises ConfigError for an unusable file."""

    def __init__(self, settings: Budget, today: Callable[[], date] = lambda: datetime.now(UTC).date()) -> None:
        self._settings = settings
        self._today = today
        self._lock = threading.Lock()
        try:
            self._sums = sqlite3.connect(
                settings.file or ":memory:", timeout=_LOCKED_S, isolation_level=None, check_same_thread=False
            )
            self._sums.execute(_TABLE)
        except sqlite3.Error as error:
            raise ConfigError(f"setting 'budget.file': {str(settings.file)!r} cannot be used: {error}") from error

    def limit(self, caller: Caller) -> float | None:
        """Dollars a day: what is said for the caller's name, else the most that is said for a role, else for all."""
        named = self._settings.callers.get(caller.name)
        if named is not None:
            return named
        of_roles = [usd for role, usd in self._settings.roles.items() if role in caller.roles]
        return max(of_roles, default=self._settings.usd_per_day)

    def spent(self, caller: Caller) -> float:
        """Dollars charged today, estimates of running queries included."""
        with self._lock, _told():
            return self._sum(self._today().isoformat(), caller)

    def reserve(self, caller: Caller, plan: Plan) -> Charge:
        """Charge what the plan is estimated to cost. Raises Denied (budget-spent) where that does not fit any more.

        Blocks while another process writes to the file. Raises Unavailable (busy) where it does not come to an end.
        """
        usd, limit = price(plan), self.limit(caller)
        if limit is None:
            return Charge(lambda _: None, usd)
        today = self._today()
        if usd:
            with self._writing():
                self._sums.execute("DELETE FROM spent WHERE day < ?", (today.isoformat(),))
                spent = self._sum(today.isoformat(), caller)
                if spent + usd > limit:
                    raise _denied(caller, spent, limit, usd, today)
                self._sums.execute(_ADD, (today.isoformat(), caller.name, usd))
        # Also where nothing is to be paid: a stored result can be gone when it is read, and then the query runs.
        return Charge(lambda more: self._add(today.isoformat(), caller, more), usd)

    def close(self) -> None:
        with self._lock:
            self._sums.close()

    def _add(self, day: str, caller: Caller, usd: float) -> None:
        with self._writing():
            self._sums.execute(_ADD, (day, caller.name, usd))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Read and write as one, for other processes too: all of it is done, or nothing."""
        # The connection commits or rolls back at the end of its `with`.
        with self._lock, _told(), self._sums:
            self._sums.execute("BEGIN IMMEDIATE")
            yield

    def _sum(self, day: str, caller: Caller) -> float:
        found = self._sums.execute("SELECT usd FROM spent WHERE day = ? AND caller = ?", (day, caller.name)).fetchone()
        return float(found[0]) if found else 0.0


def price(plan: Plan) -> float:
    """Dollars that running the plan now is estimated to cost."""
    return plan.estimate.usd if plan.engine == "athena" and plan.cache != "hit" else 0.0


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
            raise Unavailable("busy", "what was spent is being written by another server; try again") from error
        raise ServerError("internal", f"what was spent cannot be read or written: {error}") from error


def _denied(caller: Caller, spent: float, limit: float, usd: float, today: date) -> Denied:
    tomorrow = today + timedelta(days=1)
    return Denied(
        "budget-spent",
        f"{caller.name} has spent ${spent:.4f} of ${limit:.4f} today, and this query would cost about ${usd:.4f}; "
        f"ask for less, or again after {tomorrow.isoformat()}T00:00Z",
    )
