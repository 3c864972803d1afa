"""What callers have spent today, and whether the next query still fits: `[budget]` of the settings.

A query is charged its estimate before it runs and what it cost after it has, so that many at once cannot overdraw
together, and a server that is killed has charged too much rather than too little. Days are UTC. Answers from the store
and from the embedded engine cost nothing; a query that several share is paid by one of them (engines/athena). What a
query cost beside its estimate waits in memory where the file cannot be written, counts, and is written with the next.
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from flight_server.config import Budget
from flight_server.errors import ConfigError, Denied, Error, ServerError, Unavailable
from flight_server.model import Caller, ExecutionStats, Plan
from flight_server.telemetry import log

# Of each caller what was charged, and the limit that held when it was charged or refused last.
_TABLES = ("spent", "allowed")
_MAKE = "CREATE TABLE IF NOT EXISTS {} (day TEXT, caller TEXT, usd REAL NOT NULL, PRIMARY KEY (day, caller))"
_ADD = "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET usd = usd + excluded.usd"
_ALLOW = "INSERT INTO allowed VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET usd = excluded.usd"


@dataclass(frozen=True, slots=True)
class Account:
    """A caller's day (UTC): what may be spent in it, `inf` without an end, and what is charged already."""

    day: date
    caller: str
    usd_per_day: float
    spent_usd: float

    @property
    def left_usd(self) -> float:
        return max(0.0, self.usd_per_day - self.spent_usd)

    def json(self) -> dict[str, object]:
        """The budget of protocol.md. JSON has no infinity: without an end there is no figure."""
        endless = math.isinf(self.usd_per_day)
        return {
            "usd_per_day": None if endless else self.usd_per_day,
            "spent_usd": self.spent_usd,
            "left_usd": None if endless else self.left_usd,
            "renews": self.renews,
        }

    @property
    def renews(self) -> str:
        """When the next day starts, with nothing spent."""
        return f"{(self.day + timedelta(days=1)).isoformat()}T00:00:00Z"


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
        # By day and caller: what is to be added and could not be written yet, and the limit. While it cannot, no query
        # is let in that has a price, so these are the callers of those that ran.
        self._owed: dict[tuple[str, str], tuple[float, float]] = {}
        try:
            self._sums = sqlite3.connect(
                settings.file or ":memory:", timeout=settings.busy_s, isolation_level=None, check_same_thread=False
            )
            for table in _TABLES:
                self._sums.execute(_MAKE.format(table))
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
            return self._sum(self._today().isoformat(), caller.name)

    def account(self, caller: Caller) -> Account | None:
        """The caller's day; None where there is no limit."""
        limit = self.limit(caller)
        if limit is None:
            return None
        return Account(self._today(), caller.name, limit, self.spent(caller))

    def accounts(self) -> list[Account]:
        """Of all who were charged or refused today, by any server with the same file."""
        today = self._today()
        with self._lock, _told():
            found = self._sums.execute("SELECT caller, usd FROM allowed WHERE day = ?", (today.isoformat(),)).fetchall()
            return [Account(today, name, usd, self._sum(today.isoformat(), name)) for name, usd in found]

    def reserve(self, caller: Caller, plan: Plan) -> Charge:
        """Charge what the plan is estimated to cost. Raises Denied (budget-spent) where that does not fit any more.

        Blocks while another process writes to the file. Raises Unavailable (busy) where it does not come to an end.
        """
        usd, limit = price(plan), self.limit(caller)
        if limit is None:
            return Charge(lambda _: None, usd)
        today = self._today()
        day = today.isoformat()
        if usd:
            with self._writing():
                for table in _TABLES:
                    self._sums.execute(f"DELETE FROM {table} WHERE day < ?", (day,))
                self._sums.execute(_ALLOW, (day, caller.name, limit))
                account = Account(today, caller.name, limit, self._sum(day, caller.name))
                fits = account.spent_usd + usd <= limit
                if fits:
                    self._sums.execute(_ADD, (day, caller.name, usd))
            if not fits:
                raise _denied(account, plan.told.usd)
        # Also where nothing is to be paid: a stored result can be gone when it is read, and then the query runs.
        return Charge(lambda more: self._add(day, caller.name, more, limit), usd)

    def close(self) -> None:
        if self._owed:
            self._pay()
        if self._owed:
            log.error("charges_lost", callers=len(self._owed), usd=sum(usd for usd, _ in self._owed.values()))
        with self._lock:
            self._sums.close()

    def _add(self, day: str, caller: str, usd: float, limit: float) -> None:
        """Add to a day of a caller, now or with what is written next."""
        with self._lock:
            self._owed[day, caller] = self._unwritten(day, caller) + usd, limit
        self._pay()

    def _pay(self) -> None:
        try:
            with self._writing():
                pass
        except Error as error:
            log.warning("charges_wait", error=error.message)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Read and write as one, for other processes too, what is owed first: all of it is done, or nothing."""
        with self._lock, _told():
            owed, self._owed = self._owed, {}
            try:
                # The connection commits or rolls back at the end of its `with`.
                with self._sums:
                    self._sums.execute("BEGIN IMMEDIATE")
                    self._sums.executemany(_ADD, [(*key, usd) for key, (usd, _) in owed.items()])
                    self._sums.executemany(_ALLOW, [(*key, limit) for key, (_, limit) in owed.items()])
                    yield
            except BaseException:
                self._owed = owed
                raise

    def _sum(self, day: str, caller: str) -> float:
        """What is charged, whether it is written or not."""
        found = self._sums.execute("SELECT usd FROM spent WHERE day = ? AND caller = ?", (day, caller)).fetchone()
        return (float(found[0]) if found else 0.0) + self._unwritten(day, caller)

    def _unwritten(self, day: str, caller: str) -> float:
        return self._owed.get((day, caller), (0.0, 0.0))[0]


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


def _denied(account: Account, usd: float) -> Denied:
    return Denied(
        "budget-spent",
        f"{account.caller} has spent ${account.spent_usd:.4f} of ${account.usd_per_day:.4f} today, and this query would"
        f" cost about ${usd:.4f}; ask for less, or again after {account.renews}, when the budget starts anew",
    )
