"""Submitted queries: run by the server whether or not anybody waits, kept for a while, seen by their owner only.

An engine that stores results for all replicas runs the query until it is stored; its result is then an ordinary ticket.
For the embedded engine the result goes to a file of this server (results/spill.py), and its ticket is good here only.
The table of queries is this server's own, too: `status` goes to where `submit` went.
"""

from __future__ import annotations

import functools
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import pyarrow as pa

from flight_server.config import Submitted
from flight_server.errors import Cancelled, Error, InvalidRequest, NotFound, ServerError, Unavailable
from flight_server.model import Caller, ExecutionStats, Plan
from flight_server.pipeline import Answer, Pipeline, question
from flight_server.results.received import received_bytes
from flight_server.results.spill import Spill, SpillFile
from flight_server.service.spending import Charge, Spending
from flight_server.service.streams import Prefetch, stream
from flight_server.telemetry import log, metrics, traces
from flight_server.telemetry.records import Records, Row, query, words

State = Literal["QUEUED", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
# Nobody is sent these; they only make the run look up from its wait.
_HEARTBEAT_S = 1.0


@dataclass(eq=False)
class Submission:
    """One submitted query. `plan` is what was promised, pins included; `kept` is its file where the engine has none."""

    id: str
    caller: Caller
    plan: Plan
    charge: Charge
    state: State = "QUEUED"
    rows: int = 0
    bytes: int = 0
    stats: ExecutionStats = field(default_factory=ExecutionStats)
    error: Error | None = None
    kept: SpillFile | None = None
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def status(self) -> dict[str, object]:
        """The status of protocol.md."""
        return {
            "id": self.id,
            "state": self.state,
            "rows": self.rows,
            "bytes": self.bytes,
            "elapsed_ms": round(((self.ended or time.monotonic()) - self.started) * 1000),
            "scanned_bytes": self.stats.scanned_bytes,
            "error": str(self.error) if self.error else None,
        }

    def row(self) -> Row:
        """A row of sys_queries."""
        now, moment, plan = datetime.now(UTC), time.monotonic(), self.plan
        took = (self.ended or moment) - self.started
        code = self.error.code if self.error else {"SUCCEEDED": "ok", "CANCELLED": "cancelled"}.get(self.state)
        row: Row = {
            "caller": self.caller.name,
            "dataset": plan.dataset.name,
            "version": plan.dataset.version,
            "engine": plan.engine,
            "cache": plan.cache,
            "fingerprint": plan.fingerprint,
            "query_id": self.stats.query_id,
            "rows": self.rows,
            "bytes": self.bytes,
            "scanned_bytes": self.stats.scanned_bytes,
            "usd": self.stats.usd,
            "ms": round(took * 1000, 3),
            "code": code,
            "datasets": words(plan.reading.datasets),
            "reads": words(plan.reading.tables),
        }
        started = now - timedelta(seconds=moment - self.started)
        ended = None if self.ended is None else started + timedelta(seconds=took)
        return query(row, started, ended, "submitted", self.state)


class Submissions:
    """All submitted queries of this server: a bounded table, a few runners, one folder. Thread-safe.

    Callers take turns at the runners, and the queries of one caller go in the order in which they came.
    """

    def __init__(self, pipeline: Pipeline, settings: Submitted, spending: Spending, records: Records) -> None:
        self._records = records
        self._pipeline = pipeline
        self._spending = spending
        self._settings = settings
        self._spill = Spill(settings.bytes_max)
        self._lock = threading.Lock()
        self._table: dict[str, Submission] = {}
        # What waits for a runner, by caller, in the order of the next turns; who waits for nothing has no entry.
        self._waiting: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()
        self._runners = ThreadPoolExecutor(settings.running_max, thread_name_prefix="submitted")
        self._closed = False

    def submit(self, plan: Plan, caller: Caller, *, named: bool = True) -> Submission:
        """Queue a plan and return at once. Raises Unavailable (busy, draining), Denied (budget-spent).

        `named` says whether the bound of one caller holds for this one.
        """
        # Not under the lock: it can wait for another server that writes to the same file.
        charge = self._spending.reserve(caller, plan)
        try:
            return self._queue(plan, caller, charge, named=named)
        except Unavailable:
            charge.settle(ExecutionStats())
            raise

    def _queue(self, plan: Plan, caller: Caller, charge: Charge, *, named: bool) -> Submission:
        with self._lock:
            self._forget_old()
            if self._closed:
                raise Unavailable("draining", "the server is stopping; ask another one, or this one again later")
            if len(self._table) >= self._settings.queries_max:
                raise Unavailable("busy", f"{len(self._table)} submitted queries are kept already; ask later")
            theirs = sum(each.caller.name == caller.name for each in self._table.values())
            if named and theirs >= self._settings.queries_per_caller:
                raise Unavailable(
                    "busy", f"{theirs} submitted queries of yours are kept, as many as one caller may have; ask later"
                )
            # Unguessable, though the owner is checked all the same.
            found = Submission(secrets.token_hex(16), caller, plan, charge)
            self._table[found.id] = found
            run = functools.partial(traces.carried(self._run), found)
            self._waiting.setdefault(caller.name, deque()).append(run)
            self._runners.submit(self._next)
        return found

    def get(self, query_id: object, caller: Caller) -> Submission:
        """A query of this caller. Raises NotFound (unknown-query) for others' too, as if there were none."""
        found = self._owned(query_id, caller)
        # What a caller may no longer ask for is no longer theirs to fetch.
        self._pipeline.describe(question(found.plan), caller)
        return found

    def _owned(self, query_id: object, caller: Caller) -> Submission:
        with self._lock:
            self._forget_old()
            found = self._table.get(query_id) if isinstance(query_id, str) else None
        if found is None or found.caller.name != caller.name:
            raise NotFound("unknown-query", f"there is no submitted query {str(query_id)[:40]!r} of yours here")
        return found

    def seen(self, query_id: object, caller: Caller) -> Submission:
        """A query of this caller whose rows, and how many there are, it may see. Raises NotFound (unknown-query)."""
        found = self.get(query_id, caller)
        if not self._pipeline.sees(found.plan, caller):
            # Other roles or claims than at `submit`, or other policies: they may hide what was kept.
            raise NotFound("unknown-query", f"query {found.id} was submitted with other rights; submit it again")
        return found

    def cancel(self, query_id: object, caller: Caller) -> Submission:
        """Stop a query that waits or runs; one that has ended stays as it is."""
        # Whatever the owner may still see: it runs at their expense.
        found = self._owned(query_id, caller)
        with self._lock:
            found.stop.set()
            if found.state in ("QUEUED", "RUNNING"):
                self._end(found, "CANCELLED")
        return found

    def finished(self, query_id: object, caller: Caller) -> Submission:
        """A query that succeeded. Raises what it failed with, Cancelled, or InvalidRequest while it runs."""
        found = self.seen(query_id, caller)
        if found.error is not None:
            raise found.error
        if found.state == "CANCELLED":
            raise Cancelled("cancelled", f"query {found.id} was cancelled")
        if found.state != "SUCCEEDED":
            raise InvalidRequest("bad-request", f"query {found.id} is still {found.state}; ask for its status first")
        return found

    def answer(self, query_id: str, caller: Caller) -> Answer:
        """The kept result of a query that succeeded, as a running answer."""
        found = self.finished(query_id, caller)
        if found.kept is None:
            raise NotFound("unknown-query", f"query {found.id} has no result at this server")
        # Its costs were counted when it ran; to read it again costs nothing.
        return Answer(found.plan, _Kept(found.kept, ExecutionStats(found.stats.query_id)), found.kept.read())

    def queries(self) -> list[Row]:
        """Rows of sys_queries: all that are kept."""
        with self._lock:
            self._forget_old()
            return [each.row() for each in self._table.values()]

    def close(self) -> None:
        """Stop what runs, wait for it, and remove the results."""
        with self._lock:
            self._closed = True
            for each in self._table.values():
                each.stop.set()
        self._runners.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            # A status that is asked for meanwhile forgets old ones.
            left = list(self._table.values())
        for each in left:
            # Of those that never came to run.
            each.charge.settle(each.stats)
        self._spill.close()

    def _next(self) -> None:
        """A runner's task: the first query of the caller whose turn it is."""
        with self._lock:
            caller, theirs = next(iter(self._waiting.items()))
            run = theirs.popleft()
            if theirs:
                # Their next one is behind everybody else's.
                self._waiting.move_to_end(caller)
            else:
                del self._waiting[caller]
        run()

    def _run(self, query: Submission) -> None:
        """The top of a runner's task."""
        with self._lock:
            stopped = query.stop.is_set()
            if not stopped:
                query.state = "RUNNING"
        if stopped:
            query.charge.settle(query.stats)
            return
        end: State = "FAILED"
        try:
            end = "SUCCEEDED" if self._keep(query) else "CANCELLED"
        except Error as error:
            query.error = error
        except Exception as error:  # noqa: BLE001 - the top of a thread: `status` and `result` say it
            log.error("internal_error", method="submit", query=query.id, exc_info=error)
            query.error = ServerError("internal", f"the server failed; its log has the incident {query.id}")
        # Before anything that could fail.
        query.charge.settle(query.stats)
        name = query.plan.dataset.name
        metrics.SCANNED_BYTES.labels(name).inc(query.stats.scanned_bytes)
        metrics.DOLLARS.labels(name).inc(query.stats.usd)
        self._records.spent(query.caller.name, name, query.stats.scanned_bytes, query.stats.usd)
        with self._lock:
            # A cancel has said so already, and is right even where the result came in the same moment.
            if query.stop.is_set():
                end, query.error = "CANCELLED", None
            if end != "SUCCEEDED" and query.kept is not None:
                query.kept.delete()
                query.kept = None
            self._end(query, end)
        code = query.error.code if query.error else "ok" if end == "SUCCEEDED" else "cancelled"
        log.info("submitted", query=query.id, dataset=name, engine=query.plan.engine, code=code, rows=query.rows)

    def _keep(self, query: Submission) -> bool:
        """Run the query until its result is kept, by the engine or in a file. Whether it was run to its end."""
        plan = query.plan
        answer = self._pipeline.answer(plan)
        prefetch = Prefetch(answer.batches)
        try:
            for batch in stream(
                prefetch,
                plan.dataset.schema,
                batch_rows=plan.bounds.batch_rows,
                batch_bytes=plan.bounds.batch_bytes,
                timeout_s=plan.bounds.timeout_s,
                heartbeat_s=_HEARTBEAT_S,
                is_cancelled=query.stop.is_set,
                stopped=threading.Event(),
            ):
                if query.kept is None and batch.num_rows and self._stored(query):
                    return True
                if batch.num_rows:
                    self._write(query, batch)
            if not prefetch.finished:
                return False
            self._pipeline.sent(plan, query.bytes)
            if query.kept is None and not self._stored(query):
                query.kept = self._spill.file(plan.dataset.schema)
            if query.kept is not None:
                query.kept.finish()
            return True
        finally:
            try:
                prefetch.close(answer.execution.cancel)
                answer.execution.close()
            finally:
                query.stats = answer.execution.stats

    def _write(self, query: Submission, batch: pa.RecordBatch) -> None:
        if query.kept is None:
            query.kept = self._spill.file(query.plan.dataset.schema)
        query.kept.write(batch)
        query.rows += batch.num_rows
        query.bytes += received_bytes(batch)

    def _stored(self, query: Submission) -> bool:
        """Whether the engine has the whole result, so that reading it here would be for nothing."""
        stored = self._pipeline.lasting(query.plan)
        if stored is not None:
            query.rows, query.bytes = stored.rows, stored.bytes
        return stored is not None

    @staticmethod
    def _end(query: Submission, state: State) -> None:
        query.state, query.ended = state, time.monotonic()

    def _forget_old(self) -> None:
        limit = time.monotonic() - self._settings.ttl_s
        for each in [each for each in self._table.values() if each.ended is not None and each.ended < limit]:
            del self._table[each.id]
            if each.kept is not None:
                each.kept.delete()


@dataclass(frozen=True, slots=True)
class _Kept:
    """Reading a kept result, as an execution: nothing runs, so there is nothing to stop."""

    file: SpillFile
    stats: ExecutionStats

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self.file.read()

    def cancel(self) -> None: ...

    def close(self) -> None: ...
