"""Starting a statement and waiting for its end: what a shared query and a plain statement have in common."""

from __future__ import annotations

import random
import threading
import time

from flight_server.config import Athena
from flight_server.engines.athena.api import Api, QueryStatus
from flight_server.engines.athena.poller import Poller
from flight_server.errors import Cancelled, EngineFailed, Error, Unavailable
from flight_server.telemetry import log, metrics

# How soon it is noticed that nobody waits any more.
POLL_S = 0.05
# How long a stopped query gets to say so before its files are left to the sweep.
_STOP_WAIT_S = 10.0


def start(api: Api, settings: Athena, sql: str, token: str, abandoned: threading.Event) -> str:
    """Start `sql`, again for as long as Athena is throttling, and return its id.

    Raises Unavailable (engine-throttled) after `throttle_wait_s`, Cancelled when `abandoned` meanwhile.
    """
    deadline = time.monotonic() + settings.throttle_wait_s
    pause_s = settings.poll_min_s
    while True:
        if abandoned.is_set():
            raise Cancelled("cancelled", "the query was stopped")
        try:
            return api.start(sql, token)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        # Spread out, or all who were refused together come back together.
        abandoned.wait(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        pause_s = min(pause_s * 2, settings.poll_max_s)


def watch(api: Api, poller: Poller, query_id: str, abandoned: threading.Event) -> QueryStatus:
    """Wait for the query's end; stop it when `abandoned`. Raises EngineFailed when watching breaks down."""
    found = poller.watch(query_id)
    told, give_up = False, 0.0
    try:
        while not found.changed.wait(POLL_S):
            if not abandoned.is_set():
                continue
            give_up = give_up or time.monotonic() + _STOP_WAIT_S
            told = told or stop(api, query_id)
            if time.monotonic() > give_up:
                log.error("athena_stop_failed", query_id=query_id, told=told)
                return QueryStatus(query_id, "CANCELLED", "stopped")
    finally:
        poller.unwatch(found)
    metrics.ENGINE_QUERIES.labels(found.status.state if found.status else "LOST").inc()
    if found.error is not None:
        raise EngineFailed(f"Athena query {query_id}: {found.error.message}")
    assert found.status is not None  # noqa: S101 - changed without an error means an end
    return found.status


def stop(api: Api, query_id: str) -> bool:
    """Whether Athena has taken the order to stop; throttling and broken connections are worth another try."""
    try:
        api.stop(query_id)
    except Error as error:
        log.warning("athena_stop_refused", query_id=query_id, reason=error.message)
        return False
    return True
