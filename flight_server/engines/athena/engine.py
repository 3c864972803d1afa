"""Plans answered by Athena: from the result store where it has the fingerprint, else by a query all askers share."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from flight_server.config import Athena, Cost
from flight_server.engines.athena.api import Api
from flight_server.engines.athena.poller import Poller
from flight_server.engines.athena.query import Admission, Ended, ResultStore, SharedQuery, one_line
from flight_server.engines.athena.running import start, stop, watch
from flight_server.errors import Cancelled, EngineFailed, ResultLost, Unavailable
from flight_server.model import EngineName, ExecutionStats, Plan, StoredResult
from flight_server.telemetry import log, metrics, traces

if TYPE_CHECKING:
    from mypy_boto3_athena.client import AthenaClient

# A fingerprint that no result has.
_NOBODYS = "0" * 64


class AthenaEngine:
    """Runs plans on Athena. Equal plans at the same time are one query, stopped when the last waiter leaves."""

    name: EngineName = "athena"
    keeps: Literal["nothing", "here", "shared"] = "shared"

    def __init__(self, client: AthenaClient, store: ResultStore, settings: Athena, cost: Cost) -> None:
        self._api = Api(client, settings)
        self._poller = Poller(self._api, settings)
        self._admission = Admission(settings)
        self._ended = Ended()
        self._store = store
        self._settings = settings
        self._cost = cost
        self._lock = threading.Lock()
        self._running: dict[str, SharedQuery] = {}
        self._ending: set[SharedQuery] = set()
        self._closed = False
        metrics.QUERIES_RUNNING.labels(self.name).set_function(lambda: self.running)
        metrics.QUERIES_QUEUED.labels(self.name).set_function(lambda: self._admission.queued)

    def start(self, plan: Plan) -> AthenaExecution:
        return AthenaExecution(self, self._store, plan, self._cost)

    def stored(self, plan: Plan) -> StoredResult | None:
        cache = plan.dataset.cache
        if cache.mode == "off":
            return None
        with traces.span("find result") as span:
            found = self._store.find(plan.fingerprint, cache.ttl_s)
            traces.note(span, {"found": found is not None})
        return found

    def ping(self) -> None:
        self._api.ping()
        # A result that nobody has: without its store each plan fails, whatever Athena says.
        self._store.find(_NOBODYS)

    def execute(self, sql: str, started: Callable[[str], None], *, again: bool) -> ExecutionStats:
        """Run a statement that gives no rows (DELETE, INSERT, OPTIMIZE) to its end; blocks.

        `started` hears of each query's id at once. A failure that Athena calls retryable is tried again only with
        `again`: an INSERT whose commit is in doubt must not be. Raises EngineFailed, Unavailable. Whatever else ends
        the wait, an interrupt too, stops the query.
        """
        never = threading.Event()
        for left in range(self._settings.attempts_max if again else 1, 0, -1):
            with self._admission.place(never):
                query_id = start(self._api, self._settings, sql, secrets.token_hex(32), never)
                try:
                    started(query_id)
                    status = watch(self._api, self._poller, query_id, never)
                except BaseException:
                    stop(self._api, query_id)
                    raise
            if status.state == "SUCCEEDED":
                return ExecutionStats(query_id, status.scanned_bytes, self._cost.usd(status.scanned_bytes))
            if not status.retryable or left == 1:
                raise EngineFailed(f"Athena query {query_id}: {one_line(status.reason) or status.state}")
            log.warning("athena_retry", query_id=query_id, reason=one_line(status.reason))
        raise AssertionError("attempts_max is at least one")

    def has_ended(self, query_id: str) -> bool:
        """Whether a query is known to have ended. Raises Unavailable, EngineFailed."""
        return all(status.ended for status in self._api.statuses([query_id]))

    @property
    def running(self) -> int:
        """Queries that run or wait for a place."""
        with self._lock:
            return len(self._running)

    @property
    def queued(self) -> int:
        """Queries that wait for a place."""
        return self._admission.queued

    def forget(self, stored: StoredResult) -> None:
        """Give up a result that cannot be read: neither it nor its query is asked for again."""
        self._ended.add(stored.query_id, lost=True)
        self._store.forget(stored.fingerprint)

    def join(self, plan: Plan, waiter: object) -> SharedQuery:
        """The running query of this plan, or a new one, with `waiter` among those who wait until it `leave`s."""
        with self._lock:
            if self._closed:
                raise Unavailable("draining", "the server is stopping; ask another one, or this one again later")
            shared = self._running.get(plan.fingerprint)
            if shared is None or shared.done.is_set():
                shared = SharedQuery(
                    plan, self._api, self._poller, self._admission, self._store, self._ended, self._settings
                )
                self._running[plan.fingerprint] = shared
                shared.start()
            shared.waiters.append(waiter)
            return shared

    def pays(self, shared: SharedQuery, waiter: object) -> bool:
        """Whether the query's cost is this waiter's: of those who waited until it ended, the one who came first."""
        with self._lock:
            self._bill(shared)
            return shared.payer is waiter

    @staticmethod
    def _bill(shared: SharedQuery) -> bool:
        """Who pays for a query that has ended is known from then on. Whether it has."""
        ended = shared.done.is_set()
        if ended and shared.payer is None and shared.waiters:
            shared.payer = shared.waiters[0]
        return ended

    def leave(self, shared: SharedQuery, waiter: object) -> bool:
        """One waiter less; without any the query is stopped. Whether it was, and may have scanned something."""
        with self._lock:
            self._ending = {query for query in self._ending if not query.done.is_set()}
            # Looked at once: a query that ends just then is billed to nobody else, so it counts as stopped.
            ended = self._bill(shared)
            shared.waiters.remove(waiter)
            if shared.waiters:
                return False
            shared.abandoned.set()
            self._ending.add(shared)
            if self._running.get(shared.plan.fingerprint) is shared:
                del self._running[shared.plan.fingerprint]
            # Only now: one that is not asked for yet looks whether it is abandoned, and one of the two sees the other.
            return not ended and shared.asked

    def close(self) -> None:
        """Stop what runs, on Athena too, and end all threads."""
        with self._lock:
            self._closed = True
            queries = [*self._running.values(), *self._ending]
            self._running.clear()
        for query in queries:
            query.abandoned.set()
        for query in queries:
            query.join()
        self._poller.close()


class AthenaExecution:
    """One stream's part in a query: waits for the result, reads it, and leaves."""

    def __init__(self, engine: AthenaEngine, store: ResultStore, plan: Plan, cost: Cost) -> None:
        self._engine = engine
        self._store = store
        self._plan = plan
        self._cost = cost
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._shared: SharedQuery | None = None
        self._stats = ExecutionStats()
        self._stopped = False

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of the stored result, or of a query run now. Blocks; raises EngineFailed, Unavailable, Cancelled."""
        stored = self._engine.stored(self._plan)
        if stored is not None:
            self._stats = ExecutionStats(stored.query_id)
            sent = False
            try:
                for batch in self._read(stored):
                    sent = True
                    yield batch
                return
            except ResultLost:
                # Its parts were removed under it, by a life-cycle rule: ask again as if it had never been.
                if sent:
                    raise
        yield from self._read(self._run())

    def cancel(self) -> None:
        self._cancelled.set()
        self._leave()

    def close(self) -> None:
        self.cancel()

    @property
    def stats(self) -> ExecutionStats:
        return replace(self._stats, stopped=self._stopped)

    def _run(self) -> StoredResult:
        with self._lock:
            if self._cancelled.is_set():
                raise Cancelled("cancelled", "the query was stopped")
            shared = self._shared = self._engine.join(self._plan, self)
        try:
            return shared.result(self._cancelled)
        finally:
            scanned = shared.scanned_bytes if self._engine.pays(shared, self) else None
            usd = 0.0 if scanned is None else self._cost.usd(scanned)
            self._stats = ExecutionStats(shared.query_id, scanned or 0, usd)
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            shared, self._shared = self._shared, None
        if shared is not None and self._engine.leave(shared, self):
            self._stopped = True

    def _read(self, stored: StoredResult) -> Iterator[pa.RecordBatch]:
        """The rows of a result, with the query's id in whatever goes wrong. One that is lost is not served again."""
        try:
            yield from self._store.read(stored, self._plan, self._cancelled)
        except EngineFailed as error:
            if isinstance(error, ResultLost):
                self._engine.forget(stored)
            raise type(error)(f"Athena query {stored.query_id}: {error.message}") from error
