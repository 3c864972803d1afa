"""Places go to callers in turns, within the bounds of each; rates let a burst through and then so many a minute."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from flight_server.errors import Unavailable
from flight_server.service.admission import Places, Rate
from tests.waiting import until


class Queue:
    """Calls that wait in threads; `went` has the callers in the order in which they went in."""

    def __init__(self, places: Places) -> None:
        self.places = places
        self.went: list[str] = []
        self._pool = ThreadPoolExecutor(64)
        self._lock = threading.Lock()

    def join(self, caller: str, *, bounded: bool = True) -> Future[Callable[[], None]]:
        """Take a place in a thread; returns when the call waits."""
        before = self.places.queued

        def take() -> Callable[[], None]:
            give = self.places.take(caller, bounded=bounded)
            with self._lock:
                self.went.append(caller)
            return give

        future = self._pool.submit(take)
        until(lambda: future.done() or self.places.queued > before)
        return future


def places(most: int = 1, each: int = 100, queue_max: int = 100, wait_s: float = 30.0) -> Places:
    return Places("calls", most, each, queue_max, wait_s)


def code(call: Callable[[], object]) -> str:
    with pytest.raises(Unavailable) as error:
        call()
    return error.value.code


def test_a_free_place_is_taken_at_once_and_given_back() -> None:
    found = places(2)
    first, second = found.take("a"), found.take("a")
    assert (found.taken, found.queued) == (2, 0)
    first()
    second()
    assert found.taken == 0


def test_a_single_call_goes_before_all_but_the_first_of_a_flood() -> None:
    found = places()
    queue = Queue(found)
    give = found.take("flood")
    waiting = [queue.join("flood") for _ in range(20)]
    single = queue.join("single")
    give()
    waiting[0].result(10)()
    single.result(10)()
    waiting[1].result(10)
    assert queue.went == ["flood", "single", "flood"]
    found.close()


def test_callers_take_turns() -> None:
    found = places()
    queue = Queue(found)
    give = found.take("x")
    waiting = [queue.join(caller) for caller in ("a", "a", "a", "b", "b", "c")]
    left = set(range(len(waiting)))
    while left:
        give()
        until(lambda: any(waiting[n].done() for n in left))
        went = next(n for n in left if waiting[n].done())
        left.remove(went)
        give = waiting[went].result()
    assert queue.went == ["a", "b", "c", "a", "b", "a"]


def test_one_caller_has_a_share_and_others_the_rest() -> None:
    found = places(most=3, each=2, wait_s=0.0)
    found.take("a")
    give = found.take("a")
    with pytest.raises(Unavailable, match="2 calls of yours are open, as many as one caller may have; end some first"):
        found.take("a")
    found.take("b")
    with pytest.raises(Unavailable, match="all 3 places for calls are taken; try again in a few seconds"):
        found.take("c")
    give()
    found.take("a")


def test_whoever_waits_for_their_own_share_holds_up_nobody() -> None:
    found = places(most=2, each=1)
    queue = Queue(found)
    give = found.take("a")
    second = queue.join("a")
    assert not second.done()
    found.take("b")()
    assert not second.done()
    give()
    second.result(10)


def test_who_is_not_bounded_may_have_all() -> None:
    found = places(most=2, each=1)
    queue = Queue(found)
    give = found.take("a", bounded=False)
    found.take("a", bounded=False)
    third = queue.join("a", bounded=False)
    give()
    third.result(10)
    assert found.taken == 2


def test_a_full_queue_is_busy_at_once() -> None:
    found = places(queue_max=1)
    queue = Queue(found)
    give = found.take("a")
    waiting = queue.join("b")
    assert code(lambda: found.take("c")) == "busy"
    assert code(lambda: found.take("b")) == "busy"
    give()
    waiting.result(10)


def test_a_flood_makes_room_in_a_full_queue() -> None:
    found = places(queue_max=3)
    queue = Queue(found)
    give = found.take("flood")
    waiting = [queue.join("flood") for _ in range(3)]
    single = ThreadPoolExecutor(1).submit(found.take, "single")
    # The newest of the flood is sent away, and the queue is as long as before.
    assert code(lambda: waiting[2].result(10)) == "busy"
    until(lambda: found.queued == 3)
    give()
    waiting[0].result(10)()
    single.result(10)()
    waiting[1].result(10)
    assert queue.went == ["flood", "flood"]


def test_waiting_ends_in_time_and_leaves_nothing() -> None:
    found = places(wait_s=0.05)
    give = found.take("a")
    assert code(lambda: found.take("b")) == "busy"
    assert found.queued == 0
    give()
    assert found.taken == 0


def test_who_has_waited_before_waits_no_longer_than_all() -> None:
    found = places(wait_s=3600.0)
    found.take("a")
    # Returns at all: what is left of an hour is nothing.
    assert code(lambda: found.take("b", waited_s=3600.0)) == "busy"
    assert found.queued == 0


def test_closing_sends_away_whoever_waits_and_whoever_comes() -> None:
    found = places()
    queue = Queue(found)
    found.take("a")
    waiting = queue.join("b")
    found.close()
    assert code(lambda: waiting.result(10)) == "draining"
    assert code(lambda: found.take("c")) == "draining"


def test_many_threads_never_hold_more_than_there_is() -> None:
    found = places(most=3, each=2, wait_s=30)
    lock, most, now = threading.Lock(), [0], [0]
    held = {"a": 0, "b": 0, "c": 0}

    def work(caller: str) -> None:
        for _ in range(200):
            give = found.take(caller)
            with lock:
                now[0] += 1
                held[caller] += 1
                most[0] = max(most[0], now[0])
                assert held[caller] <= 2
            with lock:
                now[0] -= 1
                held[caller] -= 1
            give()

    with ThreadPoolExecutor(9) as pool:
        for done in [pool.submit(work, caller) for caller in "abc" * 3]:
            done.result()
    assert most[0] <= 3
    assert (found.taken, found.queued) == (0, 0)


def test_a_rate_lets_a_burst_through_and_then_says_when() -> None:
    now = [100.0]
    rate = Rate("statements", per_min=30, burst=2, clock=lambda: now[0])
    rate.spend("a")
    rate.spend("a")
    with pytest.raises(Unavailable, match=r"30 statements a minute are for one caller; try again in 2\.0 s"):
        rate.spend("a")
    rate.spend("b")
    now[0] += 1.5
    with pytest.raises(Unavailable, match=r"try again in 0\.5 s"):
        rate.spend("a")
    now[0] += 0.5
    rate.spend("a")
    now[0] += 3600
    rate.spend("a")
    rate.spend("a")
    assert code(lambda: rate.spend("a")) == "busy"
