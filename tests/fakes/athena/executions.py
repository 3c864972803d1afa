"""Query executions and their states: QUEUED → RUNNING (→ QUEUED → RUNNING) → SUCCEEDED | FAILED | CANCELLED.

One thread for each execution; places in RUNNING are counted, so that a query beyond them waits in QUEUED. Everything
that the API shows of an execution is kept here, for as long as the server lives.
"""

from __future__ import annotations

import tempfile
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tests.fakes.athena.catalog import Catalog
from tests.fakes.athena.engine import Answer, Engine
from tests.fakes.athena.errors import SYSTEM, ApiError, InvalidRequest, QueryFailed, QueryStopped
from tests.fakes.athena.faults import Faults
from tests.fakes.athena.output import filesystem
from tests.fakes.athena.runs import Outcome, Run, now_ms, run
from tests.fakes.athena.statements import Statement

FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")
# Pause between interrupts of a query that is to stop.
_INTERRUPT_S = 0.05
# How long a stopped query may take to end.
_SETTLED_S = 10


@dataclass
class Execution:
    """One query execution. Guarded by the lock of `Executions`, but for `run`, which only its thread touches."""

    id: str
    query: str
    statement: Statement | None
    request: dict[str, Any]
    work_group: str
    result_location: str
    enforced: bool
    cutoff: int
    state: str = "QUEUED"
    history: list[str] = field(default_factory=lambda: ["QUEUED"])
    reason: str = ""
    error: dict[str, Any] | None = None
    submitted: float = field(default_factory=time.time)
    completed: float | None = None
    outcome: Outcome = field(default_factory=Outcome)
    stop: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    queue_ms: int = 0
    engine_ms: int = 0
    failure: dict[str, Any] | None = None
    # Rows that its output has so far.
    written: int = 0

    @property
    def database(self) -> str:
        return str(self.request.get("QueryExecutionContext", {}).get("Database") or "default")

    def describe(self) -> dict[str, Any]:
        """The QueryExecution of the API."""
        status: dict[str, Any] = {"State": self.state, "SubmissionDateTime": self.submitted}
        if self.reason:
            status["StateChangeReason"] = self.reason
        if self.completed is not None:
            status["CompletionDateTime"] = self.completed
        if self.error is not None:
            status["AthenaError"] = self.error
        result = dict(self.request.get("ResultConfiguration", {}))
        result["OutputLocation"] = self.outcome.location or f"{self.result_location.rstrip('/')}/{self.id}"
        return {
            "QueryExecutionId": self.id,
            "Query": self.query,
            "StatementType": self.statement.kind if self.statement else "DML",
            "SubstatementType": self.statement.sub if self.statement else "SELECT",
            "ResultConfiguration": result,
            "ResultReuseConfiguration": {"ResultReuseByAgeConfiguration": {"Enabled": False}},
            "QueryExecutionContext": self.request.get("QueryExecutionContext", {}),
            "Status": status,
            "Statistics": self._statistics(),
            "WorkGroup": self.work_group,
            "EngineVersion": {
                "SelectedEngineVersion": "AUTO",
                "EffectiveEngineVersion": "Athena engine version 3",
            },
        }

    def _statistics(self) -> dict[str, Any]:
        end = self.completed if self.completed is not None else time.time()
        total = int((end - self.submitted) * 1000)
        statistics: dict[str, Any] = {
            "DataScannedInBytes": self.outcome.scanned,
            "EngineExecutionTimeInMillis": self.engine_ms,
            "QueryQueueTimeInMillis": self.queue_ms,
            "QueryPlanningTimeInMillis": min(1, self.engine_ms),
            "ServicePreProcessingTimeInMillis": 0,
            "ServiceProcessingTimeInMillis": max(0, total - self.engine_ms - self.queue_ms),
            "TotalExecutionTimeInMillis": total,
            "ResultReuseInformation": {"ReusedPreviousResult": False},
        }
        if self.outcome.manifest and self.state == "SUCCEEDED":
            statistics["DataManifestLocation"] = self.outcome.manifest
        return statistics


class Executions:
    """All query executions of one server, and the places that they run in."""

    def __init__(self, engine: Engine, catalog: Catalog, faults: Faults) -> None:
        self._engine = engine
        self._catalog = catalog
        self._faults = faults
        self._files = filesystem(catalog.store)
        self._spool = tempfile.TemporaryDirectory(prefix="local-athena-")
        self._changed = threading.Condition()
        self._all: dict[str, Execution] = {}
        self._tokens: dict[str, tuple[str, dict[str, Any]]] = {}
        self._running = 0
        self._threads: set[threading.Thread] = set()
        self.counters: Counter[str] = Counter()

    def start(self, execution: Execution, token: str | None, request: dict[str, Any]) -> str:
        """Admit one execution and return its id; with a token seen before, the id of then.

        Raises InvalidRequest when the token came with another request, ApiError TooManyRequestsException at the quota.
        """
        with self._changed:
            if token and token in self._tokens:
                known, before = self._tokens[token]
                if before != request:
                    raise InvalidRequest("Idempotent parameters do not match")
                self.counters["joined"] += 1
                return known
            active = sum(e.state not in FINAL for e in self._all.values())
            if active >= self._faults.quota or self._faults.take_too_many():
                message = "You have exceeded the limit for the number of queries you can run concurrently. "
                message += "Please reduce the number of concurrent queries submitted by this account."
                self.counters["too_many"] += 1
                raise ApiError("TooManyRequestsException", message, Reason="CONCURRENT_QUERY_LIMIT_EXCEEDED")
            if token:
                self._tokens[token] = (execution.id, request)
            execution.failure = self._faults.take_failure()
            self._all[execution.id] = execution
            self.counters["started"] += 1
            thread = threading.Thread(
                target=self._live, args=(execution,), name=f"query-{execution.id[:8]}", daemon=True
            )
            self._threads.add(thread)
        thread.start()
        return execution.id

    def get(self, id_: str) -> Execution:
        with self._changed:
            if id_ not in self._all:
                raise InvalidRequest(f"QueryExecution {id_} was not found")
            return self._all[id_]

    def find(self, id_: str) -> Execution | None:
        with self._changed:
            return self._all.get(id_)

    def newest(self, work_group: str) -> list[str]:
        with self._changed:
            return [e.id for e in reversed(self._all.values()) if e.work_group == work_group]

    def stop(self, id_: str) -> None:
        """Ask an execution to stop; no effect on one that has ended, as on Athena."""
        execution = self.get(id_)
        with self._changed:
            self.counters["stop_calls"] += 1
            if execution.state in FINAL:
                return
            execution.stop.set()
            self._changed.notify_all()
        threading.Thread(target=self._interrupt, args=(execution,), daemon=True).start()

    def _interrupt(self, execution: Execution) -> None:
        """Interrupt until it has ended: an interrupt that comes before DuckDB starts has no effect."""
        while execution.state not in FINAL:
            answer = execution.answer
            if answer is not None:
                answer.interrupt()
            time.sleep(_INTERRUPT_S)

    def describe(self, id_: str) -> dict[str, Any]:
        execution = self.get(id_)
        with self._changed:
            return execution.describe()

    def state(self) -> dict[str, Any]:
        """What tests count."""
        with self._changed:
            states = Counter(e.state for e in self._all.values())
            return {
                "started": self.counters["started"],
                "joined": self.counters["joined"],
                "stop_calls": self.counters["stop_calls"],
                "too_many": self.counters["too_many"],
                "most_running": self.counters["most_running"],
                "stopped": states["CANCELLED"],
                "running": states["RUNNING"],
                "queued": states["QUEUED"],
                "succeeded": states["SUCCEEDED"],
                "failed": states["FAILED"],
                "queries": [e.query for e in self._all.values()],
                "executions": [
                    {"id": e.id, "state": e.state, "history": list(e.history), "written": e.written}
                    for e in self._all.values()
                ],
            }

    def settle(self) -> list[str]:
        """Stop what has not ended, and wait until it has; the SQL of each."""
        with self._changed:
            threads = list(self._threads)
            left = [execution for execution in self._all.values() if execution.state not in FINAL]
            for execution in left:
                execution.stop.set()
                threading.Thread(target=self._interrupt, args=(execution,), daemon=True).start()
            self._changed.notify_all()
        for thread in threads:
            thread.join(_SETTLED_S)
        return [execution.query for execution in left]

    def close(self) -> None:
        self.settle()
        self._spool.cleanup()

    def _live(self, execution: Execution) -> None:
        """The thread of one execution, from QUEUED to its end."""
        try:
            self._queue(execution)
            for _ in range(self._faults.bounces):
                self._wait(execution, min(self._faults.running_s, 0.2))
                self._leave_place(execution, "QUEUED")
                self._queue(execution)
            self._wait(execution, self._faults.running_s)
            started = time.monotonic()
            try:
                self._run(execution)
            finally:
                execution.engine_ms = now_ms(started)
            self._end(execution, "SUCCEEDED")
        except QueryStopped as stopped:
            self._end(execution, "CANCELLED", str(stopped))
        except QueryFailed as failed:
            if execution.stop.is_set():
                self._end(execution, "CANCELLED", "Query cancelled by user")
            else:
                self._end(execution, "FAILED", failed.message, failed)
        except ClientError as error:
            # S3 refuses a location of the statement: no such bucket, no access.
            self._end(execution, "FAILED", str(error), QueryFailed("", str(error)))
        except Exception as error:  # noqa: BLE001 - a thread's top: what is wrong here must reach the test as FAILED
            message = f"GENERIC_INTERNAL_ERROR: {type(error).__name__}: {error}"
            self._end(execution, "FAILED", message, QueryFailed("", message, SYSTEM, 500))
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _queue(self, execution: Execution) -> None:
        """Wait in QUEUED: for the delay, then for a place."""
        begun = time.monotonic()
        self._wait(execution, self._faults.queued_s)
        with self._changed:
            while self._running >= self._faults.concurrency and not execution.stop.is_set():
                self._changed.wait(0.5)
            if execution.stop.is_set():
                raise QueryStopped("Query cancelled by user")
            self._running += 1
            self.counters["most_running"] = max(self.counters["most_running"], self._running)
            self._enter(execution, "RUNNING")
            execution.queue_ms += now_ms(begun)

    def _leave_place(self, execution: Execution, state: str) -> None:
        with self._changed:
            if execution.state == "RUNNING":
                self._running -= 1
            self._enter(execution, state)
            self._changed.notify_all()

    def _enter(self, execution: Execution, state: str) -> None:
        execution.state = state
        execution.history.append(state)

    def _end(self, execution: Execution, state: str, reason: str = "", failed: QueryFailed | None = None) -> None:
        with self._changed:
            execution.reason = reason
            execution.completed = time.time()
            if failed is not None:
                execution.error = {
                    "ErrorCategory": failed.category,
                    "ErrorType": failed.error_type,
                    "Retryable": failed.retryable,
                    "ErrorMessage": failed.message,
                }
            execution.answer = None
        self._leave_place(execution, state)

    @staticmethod
    def _wait(execution: Execution, seconds: float) -> None:
        if execution.stop.wait(seconds) if seconds > 0 else execution.stop.is_set():
            raise QueryStopped("Query cancelled by user")

    def _run(self, execution: Execution) -> None:
        planned = execution.failure or {}
        after = int(planned.get("after_rows", 0))

        def failed() -> QueryFailed:
            return QueryFailed(
                str(planned.get("code", "")),
                str(planned.get("message", "Query exhausted resources at this scale factor")),
                int(planned.get("category", SYSTEM)),
                int(planned.get("type", 401)),
                bool(planned.get("retryable", False)),
            )

        def check(rows: int) -> None:
            execution.written = max(rows, execution.written)
            self._wait(execution, self._faults.batch_s if rows >= 0 else 0)
            if planned and (rows < 0 or rows >= after > 0):
                raise failed()

        def bound(answer: Answer) -> None:
            with self._changed:
                execution.answer = answer
            self._wait(execution, 0)

        if planned and not after:
            raise failed()
        if execution.statement is None:
            raise QueryFailed("", execution.reason)
        job = Run(
            id=execution.id,
            statement=execution.statement,
            database=execution.database,
            result_location=execution.result_location,
            enforced=execution.enforced,
            cutoff=execution.cutoff,
            engine=self._engine,
            catalog=self._catalog,
            files=self._files,
            faults=self._faults,
            check=check,
            bound=bound,
            spool=Path(self._spool.name) / f"{execution.id}.arrow",
            outcome=execution.outcome,
        )
        run(job)
        if planned:
            raise failed()


def new_id() -> str:
    return str(uuid.uuid4())
