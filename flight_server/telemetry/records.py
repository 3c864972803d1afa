"""What was asked of this server, for the operator to ask about: ended calls, running and recent queries, sums.

In memory of one server and gone with it; the audit log is what lasts. Everything is bounded by `[system]` settings.
No values of parameters are in here. What a row has is in `TABLES`, which `datasets/system/*.sql` select from.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pyarrow as pa

Row = dict[str, object]
_MOMENT = pa.timestamp("us", "UTC")
_TEXT, _COUNT, _NUMBER = pa.string(), pa.int64(), pa.float64()
_QUERY = {
    "caller": _TEXT,
    "dataset": _TEXT,
    "version": _COUNT,
    "engine": _TEXT,
    "cache": _TEXT,
    "fingerprint": _TEXT,
    "query_id": _TEXT,
    "rows": _COUNT,
    "bytes": _COUNT,
    "scanned_bytes": _COUNT,
    "usd": _NUMBER,
    "ms": _NUMBER,
    "code": _TEXT,
    "datasets": _TEXT,
    "reads": _TEXT,
}
# The database has a sign that no client may write, so that they are reached through the datasets and not beside them.
CALLS, QUERIES, DATASETS, COSTS, BUDGETS = (
    f"$sys.{name}" for name in ("calls", "queries", "datasets", "costs", "budgets")
)
TABLES = {
    CALLS: pa.schema(
        {
            "ended": _MOMENT,
            "method": _TEXT,
            "action": _TEXT,
            "first_batch_ms": _NUMBER,
            "policies": _TEXT,
            "trace_id": _TEXT,
        }
        | _QUERY
    ),
    QUERIES: pa.schema({"started": _MOMENT, "ended": _MOMENT, "kind": _TEXT, "state": _TEXT} | _QUERY),
    DATASETS: pa.schema(
        {
            "name": _TEXT,
            "version": _COUNT,
            "title": _TEXT,
            "owner": _TEXT,
            "roles": _TEXT,
            "engine": _TEXT,
            "deprecated": _TEXT,
            "calls": _COUNT,
            "errors": _COUNT,
            "rows": _COUNT,
            "bytes": _COUNT,
            "last_call": _MOMENT,
        }
    ),
    COSTS: pa.schema(
        {
            "day": pa.date32(),
            "caller": _TEXT,
            "dataset": _TEXT,
            "queries": _COUNT,
            "scanned_bytes": _COUNT,
            "usd": _NUMBER,
        }
    ),
    BUDGETS: pa.schema(
        {
            "caller": _TEXT,
            "day": pa.date32(),
            "usd_per_day": _NUMBER,
            "spent_usd": _NUMBER,
            "left_usd": _NUMBER,
            "statements_left": _COUNT,
        }
    ),
}


@dataclass(slots=True)
class Use:
    """What has been asked of one version of a dataset since the server started."""

    calls: int = 0
    errors: int = 0
    rows: int = 0
    bytes: int = 0
    last_call: datetime | None = None


@dataclass(slots=True)
class Spent:
    """What one caller's queries of one dataset have cost in one day (UTC)."""

    queries: int = 0
    scanned_bytes: int = 0
    usd: float = 0.0


@dataclass(eq=False, slots=True)
class _Running:
    outcome: Mapping[str, object]
    started: float = field(default_factory=time.monotonic)


class Records:
    """Remembers calls from their outcomes, the values that their log lines have. Thread-safe."""

    def __init__(self, calls_kept: int, costs_kept: int) -> None:
        self._lock = threading.Lock()
        self._costs_max = costs_kept
        self._calls: deque[Row] = deque(maxlen=calls_kept)
        self._queries: deque[Row] = deque(maxlen=calls_kept)
        self._running: set[_Running] = set()
        self._costs: OrderedDict[tuple[str, str, str], Spent] = OrderedDict()
        self._uses: defaultdict[tuple[str, int], Use] = defaultdict(Use)

    def running(self, outcome: Mapping[str, object]) -> Callable[[], None]:
        """A query has begun, with an `outcome` that goes on changing; the answer is called at its end."""
        run = _Running(outcome)
        with self._lock:
            self._running.add(run)

        def end() -> None:
            with self._lock:
                self._running.discard(run)

        return end

    def ended(self, outcome: Mapping[str, object], seconds: float, trace_id: str | None = None) -> None:
        """A call has ended. `known` in it is the dataset's name where there is such a dataset for the caller."""
        now = datetime.now(UTC)
        row = _row(outcome, seconds)
        first = outcome["first_batch_s"]
        call = {
            "ended": now,
            "method": outcome["method"],
            "action": outcome["action"] or None,
            "first_batch_ms": first * 1000 if isinstance(first, float) else None,
            "policies": words(outcome["policies"]),
            "trace_id": trace_id,
        }
        with self._lock:
            self._calls.append(call | row)
            if outcome["known"]:
                self._use(outcome, now)
            if outcome["method"] == "DoGet" and outcome["engine"]:
                self._queries.append(query(row, now - timedelta(seconds=seconds), now, "stream", _state(row["code"])))
                self._spend(row)

    def spent(self, caller: str, dataset: str, scanned_bytes: int, usd: float) -> None:
        """A query has ended that no call waited for."""
        with self._lock:
            self._spend({"caller": caller, "dataset": dataset, "scanned_bytes": scanned_bytes, "usd": usd})

    def calls(self) -> list[Row]:
        with self._lock:
            return list(self._calls)

    def queries(self) -> list[Row]:
        """Those of streams: recent and running ones."""
        now, moment = datetime.now(UTC), time.monotonic()
        with self._lock:
            found = list(self._queries)
            running = list(self._running)
        for run in running:
            seconds = moment - run.started
            row = _row(run.outcome, seconds) | {"code": None}
            found.append(query(row, now - timedelta(seconds=seconds), None, "stream", "RUNNING"))
        return found

    def costs(self) -> list[Row]:
        with self._lock:
            return [
                {
                    "day": datetime.fromisoformat(day).date(),
                    "caller": caller,
                    "dataset": dataset,
                    "queries": spent.queries,
                    "scanned_bytes": spent.scanned_bytes,
                    "usd": spent.usd,
                }
                for (day, caller, dataset), spent in self._costs.items()
            ]

    def use(self, dataset: str, version: int) -> Use:
        """Of a dataset in service."""
        with self._lock:
            return self._uses.get((dataset, version), Use())

    def _use(self, outcome: Mapping[str, object], now: datetime) -> None:
        # Keys are datasets that are or were in service, so their number is bounded.
        use = self._uses[str(outcome["known"]), _whole(outcome["version"])]
        use.calls += 1
        use.errors += outcome["code"] not in ("ok", "cancelled")
        use.rows += _whole(outcome["rows"])
        use.bytes += _whole(outcome["bytes"])
        use.last_call = now

    def _spend(self, row: Mapping[str, object]) -> None:
        key = (datetime.now(UTC).date().isoformat(), str(row["caller"]), str(row["dataset"]))
        spent = self._costs.setdefault(key, Spent())
        self._costs.move_to_end(key)
        spent.queries += 1
        spent.scanned_bytes += _whole(row["scanned_bytes"])
        usd = row["usd"]
        spent.usd += usd if isinstance(usd, float) else 0.0
        while len(self._costs) > self._costs_max:
            self._costs.popitem(last=False)


def query(row: Row, started: datetime, ended: datetime | None, kind: str, state: str) -> Row:
    """A row of sys_queries."""
    return {"started": started, "ended": ended, "kind": kind, "state": state} | row


def _row(outcome: Mapping[str, object], seconds: float) -> Row:
    return {name: outcome[name] for name in _QUERY if name != "ms"} | {
        "ms": round(seconds * 1000, 3),
        "datasets": words(outcome["datasets"]),
        # Of tables the names only: filters have values of claims.
        "reads": words(outcome["reads"]),
    }


def words(names: object) -> str:
    return " ".join(map(str, names)) if isinstance(names, tuple) else ""


def _state(code: object) -> str:
    return {"ok": "SUCCEEDED", "cancelled": "CANCELLED"}.get(str(code), "FAILED")


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0
