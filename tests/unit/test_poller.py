"""The poller of Athena queries: who watches a query hears of its end, however many watch it and whenever they began."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from flight_server.config import Athena
from flight_server.engines.athena.api import Api, QueryStatus
from flight_server.engines.athena.poller import Poller

WAIT_S = 30.0


class Gated(Api):
    """Answers that every query has been cancelled, each time the gate is opened."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.called = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def statuses(self, ids: Sequence[str]) -> list[QueryStatus]:
        self.asked.append(list(ids))
        self.called.release()
        self.gate.acquire()
        return [QueryStatus(each, "CANCELLED") for each in ids]


@pytest.fixture
def api() -> Gated:
    return Gated()


@pytest.fixture
def poller(api: Gated) -> Iterator[Poller]:
    opened = Poller(api, Athena(results="s3://bucket/results"))
    yield opened
    api.gate.release(100)
    opened.close()


def test_a_second_watch_of_a_query_that_is_being_looked_at_hears_of_its_end(api: Gated, poller: Poller) -> None:
    first = poller.watch("q")
    assert api.called.acquire(timeout=WAIT_S)
    # The answer to the first is under way: this one came too late for it, and needs one of its own.
    second = poller.watch("q")
    api.gate.release()
    assert first.changed.wait(WAIT_S)
    assert not second.changed.is_set()
    api.gate.release()
    assert second.changed.wait(WAIT_S)
    assert second.status == QueryStatus("q", "CANCELLED")


def test_a_first_watch_is_not_lost_to_a_second_one(api: Gated, poller: Poller) -> None:
    watches = [poller.watch("q"), poller.watch("q"), poller.watch("other")]
    api.gate.release(len(watches))
    for watch in watches:
        assert watch.changed.wait(WAIT_S), watch
    assert all(len(ids) == len(set(ids)) for ids in api.asked), api.asked


def test_a_watch_that_was_left_does_not_end_another_of_its_query(api: Gated, poller: Poller) -> None:
    left, stays = poller.watch("q"), poller.watch("q")
    poller.unwatch(left)
    api.gate.release(2)
    assert stays.changed.wait(WAIT_S)


def test_who_watches_when_the_poller_closes_hears_of_it_and_who_comes_later_too(api: Gated, poller: Poller) -> None:
    early = poller.watch("q")
    assert api.called.acquire(timeout=WAIT_S)
    closing = threading.Thread(target=poller.close)
    closing.start()
    # Its query is being looked at, and that answer comes when nobody waits for it any more.
    assert early.changed.wait(WAIT_S)
    late = poller.watch("q")
    assert late.changed.is_set()
    api.gate.release()
    closing.join(WAIT_S)
    assert [str(each.error) for each in (early, late)] == [
        "[draining] the server is stopping; nobody looks after the query any more"
    ] * 2
