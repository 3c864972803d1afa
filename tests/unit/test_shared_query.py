"""Who pays for a query that ends, or begins, in the moment in which its last waiter leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from flight_server.config import Athena, Cost
from flight_server.engines.athena.engine import AthenaEngine
from flight_server.engines.athena.query import ResultStore, SharedQuery
from flight_server.model import Bounds, Estimate, Plan, StoredResult
from tests.fix_datasets import with_params

WAIT_S = 30.0
NONE = Estimate(0, 0, 0.0)
PLAN = Plan(with_params(), {}, "athena", "SELECT 1", "", "", (), (), "f" * 64, NONE, NONE, Bounds(1, 1.0, 1, 1))


class Client:
    """As boto3's: a query runs until it is stopped."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self._state = "RUNNING"

    def start_query_execution(self, **_: Any) -> dict[str, str]:
        self.started.set()
        return {"QueryExecutionId": "q"}

    def batch_get_query_execution(self, **_: Any) -> dict[str, Any]:
        return {"QueryExecutions": [{"QueryExecutionId": "q", "Status": {"State": self._state}}]}

    def stop_query_execution(self, **_: Any) -> None:
        self._state = "CANCELLED"


class Store:
    """Has nothing, and says so when the gate is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def find(self, fingerprint: str, max_age_s: float | None = None) -> StoredResult | None:
        assert self.gate.wait(WAIT_S)
        return None

    def attempt_uri(self, fingerprint: str, attempt: str) -> str:
        return "s3://bucket/results/"

    def discard(self, fingerprint: str, attempt: str) -> None: ...


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    made.gate.set()


@pytest.fixture
def engine(client: Client, store: Store) -> Iterator[AthenaEngine]:
    settings = Athena(results="s3://bucket/results")
    opened = AthenaEngine(cast("Any", client), cast("ResultStore", store), settings, Cost())
    yield opened
    store.gate.set()
    opened.close()


class Meanwhile(threading.Event):
    """An event in which something else happens just before it is set."""

    def __init__(self, happens: Any) -> None:
        super().__init__()
        self._happens = happens

    def set(self) -> None:
        self._happens()
        super().set()


def test_a_query_that_athena_is_asked_for_while_its_last_waiter_leaves_was_stopped(
    engine: AthenaEngine, client: Client, store: Store
) -> None:
    def asked() -> None:
        store.gate.set()
        assert client.started.wait(WAIT_S)

    waiter = object()
    shared = engine.join(PLAN, waiter)
    shared.abandoned = Meanwhile(asked)
    assert engine.leave(shared, waiter)


def test_a_query_that_never_began_cost_nothing(engine: AthenaEngine, client: Client, store: Store) -> None:
    waiter = object()
    shared = engine.join(PLAN, waiter)
    assert not engine.leave(shared, waiter)
    store.gate.set()
    shared.join(WAIT_S)
    assert not client.started.is_set()


class Leaving(list[object]):
    """Waiters of a query that ends in the moment in which the last of them leaves."""

    def __init__(self, shared: SharedQuery) -> None:
        super().__init__(shared.waiters)
        self._shared = shared

    def remove(self, waiter: object) -> None:
        super().remove(waiter)
        self._shared.done.set()


def test_a_query_that_ends_while_its_last_waiter_leaves_is_billed(
    engine: AthenaEngine, client: Client, store: Store
) -> None:
    waiter = object()
    shared = engine.join(PLAN, waiter)
    store.gate.set()
    assert client.started.wait(WAIT_S)
    shared.waiters = Leaving(shared)
    stopped = engine.leave(shared, waiter)
    assert stopped or engine.pays(shared, waiter)
