"""One query shared by everybody who asks the same: admission, start, retries, its end, its stop.

The attempts of a fingerprint have names (`2026-11-22-0`, `-1`, …) that give both the prefix they write under and the
token they are started with. So another process, or this one after a crash, that asks the same on the same day gets the
query that is already running instead of a second one.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pyarrow as pa

from flight_server.config import Athena
from flight_server.engines.athena import running
from flight_server.engines.athena.api import Api, QueryStatus
from flight_server.engines.athena.poller import Poller
from flight_server.engines.athena.running import POLL_S
from flight_server.errors import Cancelled, EngineFailed, Error, ResultLost, Unavailable
from flight_server.model import Plan, StoredResult
from flight_server.telemetry import log, traces

# Queries of this process that are known to have ended; a day has fewer than Athena's quotas allow.
_ENDED_MAX = 100_000
# Clocks differ: a query that ended this much before we asked is one of an earlier run.
_CLOCK_SKEW = timedelta(seconds=30)


class ResultStore(Protocol):
    """What the engine needs of the result store (`results/store.py`)."""

    def find(self, fingerprint: str, max_age_s: float | None = None) -> StoredResult | None: ...

    def attempt_uri(self, fingerprint: str, attempt: str) -> str: ...

    def complete(
        self,
        fingerprint: str,
        attempt: str,
        query_id: str,
        uris: list[str],
        scanned_bytes: int,
        cancelled: threading.Event,
    ) -> StoredResult: ...

    def read(self, stored: StoredResult, plan: Plan, cancelled: threading.Event) -> Iterator[pa.RecordBatch]: ...

    def read_lines(self, uri: str) -> list[str]: ...

    def forget(self, fingerprint: str) -> None: ...

    def discard(self, fingerprint: str, attempt: str) -> None: ...


class Admission:
    """Places for running queries, first come first served, with a bounded queue in front."""

    def __init__(self, settings: Athena) -> None:
        self._free = settings.queries_max
        self._queue_max = settings.queue_max
        self._queue: list[object] = []
        self._changed = threading.Condition()

    @property
    def queued(self) -> int:
        return len(self._queue)

    @contextmanager
    def place(self, abandoned: threading.Event) -> Iterator[None]:
        """Hold a place. Raises Unavailable (busy) when the queue is full, Cancelled when `abandoned` meanwhile."""
        turn = object()
        with self._changed:
            if len(self._queue) >= self._queue_max and not self._free:
                raise Unavailable("busy", f"{len(self._queue)} queries are waiting for Athena already; try again later")
            self._queue.append(turn)
            try:
                while self._queue[0] is not turn or not self._free:
                    if abandoned.is_set():
                        raise Cancelled("cancelled", "the query was stopped")
                    self._changed.wait(POLL_S)
                self._free -= 1
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()


class Ended:
    """Ids of queries whose end this process has seen, and which of them left a result that cannot be read."""

    def __init__(self) -> None:
        self._lost: OrderedDict[str, bool] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, query_id: str, *, lost: bool = False) -> None:
        with self._lock:
            self._lost[query_id] = lost or self._lost.get(query_id, False)
            while len(self._lost) > _ENDED_MAX:
                self._lost.popitem(last=False)

    def has(self, query_id: str) -> bool:
        with self._lock:
            return query_id in self._lost

    def lost(self, query_id: str) -> bool:
        with self._lock:
            return self._lost.get(query_id, False)


class SharedQuery:
    """The run of one fingerprint. Ends with a stored result or an error; stopped when nobody waits any more."""

    def __init__(
        self,
        plan: Plan,
        api: Api,
        poller: Poller,
        admission: Admission,
        store: ResultStore,
        ended: Ended,
        settings: Athena,
    ) -> None:
        self.plan = plan
        # In the order in which they came, and who of them is billed, once it has ended.
        self.waiters: list[object] = []
        self.payer: object | None = None
        # Whether Athena was asked to run it; its id comes with the answer only.
        self.asked = False
        self.done = threading.Event()
        self.abandoned = threading.Event()
        self.query_id = ""
        # Bytes that this run is billed for; None when it found a result that was paid before.
        self.scanned_bytes: int | None = None
        self._api, self._poller, self._admission = api, poller, admission
        self._store, self._ended, self._settings = store, ended, settings
        self._result: StoredResult | None = None
        self._error: Error | None = None
        self._thread = threading.Thread(target=traces.carried(self._run), name="athena-query", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> None:
        self._thread.join(timeout_s)

    def result(self, cancelled: threading.Event) -> StoredResult:
        """Wait for the end. Raises the query's error, or Cancelled when this waiter is told to stop."""
        while not self.done.wait(POLL_S):
            if cancelled.is_set():
                raise Cancelled("cancelled", "the query was stopped")
        if self._error is not None:
            raise self._error
        assert self._result is not None  # noqa: S101 - done with neither cannot be
        return self._result

    def _run(self) -> None:
        # In the trace of who asked first; others who wait name the same query.
        try:
            with traces.span("athena query", {"fingerprint": self.plan.fingerprint}) as span:
                self._found()
                code = self._error.code if self._error else "ok"
                scanned = self.scanned_bytes or 0
                traces.note(span, {"query_id": self.query_id, "scanned_bytes": scanned, "code": code})
        finally:
            self.done.set()

    def _found(self) -> None:
        try:
            self._result = self._stored()
            if self._result is None:
                with self._admission.place(self.abandoned):
                    self._result = self._attempts()
        except Error as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - the top of a thread: those who wait must hear of it
            log.error("athena_query_failed", fingerprint=self.plan.fingerprint, exc_info=error)
            self._error = EngineFailed(f"query {self.query_id or 'not started'}: {type(error).__name__} in the server")

    def _stored(self) -> StoredResult | None:
        """What an equal query has stored since our caller looked: one that ends just then must not be paid twice."""
        cache = self.plan.dataset.cache
        stored = None if cache.mode == "off" else self._store.find(self.plan.fingerprint, cache.ttl_s)
        self.query_id = stored.query_id if stored else ""
        return stored

    def _attempts(self) -> StoredResult:
        runs = 0
        today = datetime.now(UTC).date().isoformat()
        for number in range(self._settings.attempts_per_day):
            attempt = f"{today}-{number}"
            asked = datetime.now(UTC)
            self.asked = True
            self.query_id = self._start(attempt)
            status = self._watch()
            earlier = self._ended.has(status.id) or (status.completed or asked) < asked - _CLOCK_SKEW
            self._ended.add(status.id)
            if status.state == "SUCCEEDED" and self._may_serve(status.id, earlier=earlier):
                try:
                    stored = self._complete(attempt, status)
                except ResultLost:
                    # A life-cycle rule took the files of an earlier run; those of this one should be there.
                    if not earlier:
                        raise
                else:
                    if status.submitted is None or status.submitted > asked - _CLOCK_SKEW:
                        self.scanned_bytes = status.scanned_bytes
                    return stored
            elif self.abandoned.is_set():
                self._discard(attempt)
                raise Cancelled("cancelled", "the query was stopped")
            if earlier or "HIVE_PATH_ALREADY_EXISTS" in status.reason:
                log.info("athena_attempt_stale", query_id=self.query_id, state=status.state)
                continue
            self._discard(attempt)
            runs += 1
            if runs >= self._settings.attempts_max or not _may_run_again(status):
                raise EngineFailed(f"Athena query {self.query_id}: {one_line(status.reason)}")
            log.warning("athena_retry", query_id=self.query_id, run=runs, reason=one_line(status.reason))
        used = f"{self._settings.attempts_per_day} attempts of this query are used up today"
        raise EngineFailed(f"{used} (athena.attempts_per_day); the last is {self.query_id}")

    def _may_serve(self, query_id: str, *, earlier: bool) -> bool:
        """Whether a successful query answers this question: one that had ended before may be too old for its cache."""
        return not self._ended.lost(query_id) and (not earlier or self.plan.dataset.cache.mode == "snapshot")

    def _discard(self, attempt: str) -> None:
        try:
            self._store.discard(self.plan.fingerprint, attempt)
        except EngineFailed as error:
            # What the query said matters more; the sweep finds the files.
            log.warning("athena_discard_failed", query_id=self.query_id, reason=error.message)

    def _start(self, attempt: str) -> str:
        fingerprint = self.plan.fingerprint
        sql = unload(self.plan.sql, self._store.attempt_uri(fingerprint, attempt))
        token = hashlib.sha256(f"{fingerprint}/{attempt}/{sql}".encode()).hexdigest()
        return running.start(self._api, self._settings, sql, token, self.abandoned)

    def _watch(self) -> QueryStatus:
        return running.watch(self._api, self._poller, self.query_id, self.abandoned)

    def _complete(self, attempt: str, status: QueryStatus) -> StoredResult:
        try:
            uris = self._store.read_lines(status.manifest_uri) if status.manifest_uri else None
            if uris is None:
                uris = self._api.manifest_lines(status.id)
            # What is paid for is kept, also when nobody waits any more: not stopped by `abandoned`.
            with traces.span("complete result", {"query_id": status.id, "parts": len(uris)}):
                return self._store.complete(
                    self.plan.fingerprint, attempt, status.id, uris, status.scanned_bytes, threading.Event()
                )
        except EngineFailed as error:
            raise type(error)(f"Athena query {status.id}: {error.message}") from error
        except Error as error:
            raise EngineFailed(f"Athena query {status.id}: {error.message}") from error


def unload(sql: str, uri: str) -> str:
    """The statement that makes Athena write the rows of `sql` as Parquet under `uri`."""
    # Level 3 is zstd's own default; Athena's writer takes the same time for it as for gzip's and writes less.
    return f"UNLOAD ({sql}) TO '{uri}' WITH (format = 'PARQUET', compression = 'ZSTD', compression_level = 3)"


def _may_run_again(status: QueryStatus) -> bool:
    """What Athena calls retryable, and what another replica's last waiter stopped under ours; never a limit."""
    return status.retryable or (status.state == "CANCELLED" and "limit" not in status.reason.lower())


def one_line(text: str) -> str:
    return " ".join(text.split())[:400]
