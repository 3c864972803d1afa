"""The one poller for all running queries: BatchGetQueryExecution, 50 ids a call, a first look after 75 ms.

Peers poll each query by itself every second; this costs a fraction of the calls and sees the end sooner.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from flight_server.config import Athena
from flight_server.engines.athena.api import BATCH_MAX, Api, QueryStatus
from flight_server.errors import EngineFailed, Error, Unavailable
from flight_server.telemetry import log, metrics

# Each pause is half as long again as the one before: a query that has run for a minute is looked at every second.
_BACK_OFF = 1.5
_CLOSED = Unavailable("draining", "the server is stopping; nobody looks after the query any more")


@dataclass(eq=False)
class Watch:
    """One watched query. `changed` is set at its end, or when watching broke down (`error`)."""

    id: str
    pause_s: float
    due: float
    status: QueryStatus | None = None
    error: Error | None = None
    changed: threading.Event = field(default_factory=threading.Event)


class Poller:
    """Watches queries until they end. One daemon thread, asleep while there is nothing to watch."""

    def __init__(self, api: Api, settings: Athena) -> None:
        self._api = api
        self._settings = settings
        # One query may be watched twice: who asks again while it is being stopped is given it by its token.
        self._watches: set[Watch] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._throttled_s = 0.0
        self._thread = threading.Thread(target=self._run, name="athena-poller", daemon=True)
        self._thread.start()

    def watch(self, query_id: str) -> Watch:
        """Begin to watch a query. After `close` there is nobody who looks: it ends with that error at once."""
        watch = Watch(query_id, self._settings.poll_min_s, time.monotonic() + self._settings.poll_min_s)
        with self._changed:
            self._watches.add(watch)
            self._changed.notify_all()
            if self._closed:
                self._tell(watch, _CLOSED)
        return watch

    def unwatch(self, watch: Watch) -> None:
        with self._changed:
            self._watches.discard(watch)

    def close(self) -> None:
        """Look no more. Whoever still waits is told so."""
        with self._changed:
            self._closed = True
            for watch in list(self._watches):
                self._tell(watch, _CLOSED)
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while due := self._wait_for_due():
            try:
                statuses = self._api.statuses(list(dict.fromkeys(watch.id for watch in due)))
            except Error as error:
                self._broken(due, error)
                continue
            except Exception as error:  # noqa: BLE001 - the top of a thread: without it nobody would see an end any more
                log.error("athena_poller_failed", exc_info=error)
                self._broken(due, EngineFailed(f"{type(error).__name__} while looking at queries"))
                continue
            self._throttled_s = 0.0
            self._seen(due, {status.id: status for status in statuses})

    def _wait_for_due(self) -> list[Watch]:
        """The watches that are due, at most one call's worth; an empty list when closed."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                waiting = sorted(self._watches, key=lambda watch: watch.due)
                due = [watch for watch in waiting if watch.due <= now][:BATCH_MAX]
                if due:
                    metrics.POLL_LAG_SECONDS.set(now - due[0].due)
                    return due
                self._changed.wait(waiting[0].due - now if waiting else None)
            return []

    def _seen(self, due: list[Watch], statuses: dict[str, QueryStatus]) -> None:
        now = time.monotonic()
        with self._changed:
            for watch in due:
                status = statuses.get(watch.id)
                watch.pause_s = min(watch.pause_s * _BACK_OFF, self._settings.poll_max_s)
                watch.due = now + watch.pause_s
                if status is None:
                    continue
                # A running query may be queued again; only an end is final.
                watch.status = status
                if status.ended:
                    self._watches.discard(watch)
                    watch.changed.set()

    def _broken(self, due: list[Watch], error: Error) -> None:
        """Look again later when throttled or cut off; tell those who wait after `throttle_wait_s` of that."""
        with self._changed:
            pause_s = min(1.0, max(self._settings.poll_min_s, self._throttled_s))
            self._throttled_s += pause_s
            log.warning("athena_poll_failed", code=error.code, waiting_s=round(self._throttled_s, 2))
            for watch in due:
                watch.due = time.monotonic() + pause_s
                if self._throttled_s > self._settings.throttle_wait_s:
                    self._tell(watch, error)

    def _tell(self, watch: Watch, error: Error) -> None:
        self._watches.discard(watch)
        watch.error = error
        watch.changed.set()
