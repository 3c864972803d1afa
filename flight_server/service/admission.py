"""Who may go in: places for calls with fair turns in front of them, and rates.

A place is handed from call to call, never taken: while places are free, whoever waits is kept by a bound of their own.
So a call that finds a free place goes straight in, at the price of one lock. Callers take turns, and the calls of one
caller go in the order in which they came. Nothing here knows what a call does with its place.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from flight_server.errors import Unavailable

# Callers whose rate is remembered; who falls out starts with a full bucket, which only ever lets more through.
_RATES_MAX = 10_000


@dataclass(eq=False)
class _Turn:
    """One call in the queue. `end` says how its wait ended, once `over` is set."""

    caller: str
    # Whether the bound of one caller holds for it.
    bounded: bool
    end: Literal["in", "closed", "pushed out"] = "in"
    over: threading.Event = field(default_factory=threading.Event)

    def finish(self, end: Literal["in", "closed", "pushed out"]) -> None:
        self.end = end
        self.over.set()


class Places:
    """`most` places, of which one caller has at most `each`, and a queue of `queue_max` that wait up to `wait_s`.

    `what` names the calls in messages. Thread-safe.
    """

    def __init__(self, what: str, most: int, each: int, queue_max: int, wait_s: float) -> None:
        self._what = what
        self._most, self._each = most, each
        self._queue_max, self._wait_s = queue_max, wait_s
        self._lock = threading.Lock()
        self._taken = 0
        self._held: Counter[str] = Counter()
        # In the order of the next turns; a caller who waits for nothing has no entry.
        self._queues: OrderedDict[str, deque[_Turn]] = OrderedDict()
        self._queued = 0
        self._closed = False

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def queued(self) -> int:
        return self._queued

    def take(self, caller: str, *, bounded: bool = True, waited_s: float = 0.0) -> Callable[[], None]:
        """Wait for a place, and return how to give it back. Raises Unavailable (busy, draining).

        `bounded` says whether `each` holds for this caller, `waited_s` how long the call has waited before.
        """
        with self._lock:
            if self._closed:
                raise _draining()
            turn = _Turn(caller, bounded)
            if self._taken < self._most and self._may_have_more(turn):
                self._go_in(caller)
                return lambda: self._give(caller)
            self._queue(turn)
        if not turn.over.wait(max(0.0, self._wait_s - waited_s)):
            with self._lock:
                # It can have come to its turn while we took the lock.
                if not turn.over.is_set():
                    self._remove(turn)
                    raise self._busy(turn)
        if turn.end == "in":
            return lambda: self._give(caller)
        raise _draining() if turn.end == "closed" else self._busy(turn)

    def close(self) -> None:
        """Send away whoever waits, and whoever comes."""
        with self._lock:
            self._closed = True
            for turns in self._queues.values():
                for turn in turns:
                    turn.finish("closed")
            self._queues.clear()
            self._queued = 0

    def _go_in(self, caller: str) -> None:
        self._taken += 1
        self._held[caller] += 1

    def _give(self, caller: str) -> None:
        with self._lock:
            self._taken -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]
            while self._taken < self._most and (turn := self._next()):
                self._remove(turn)
                self._go_in(turn.caller)
                if turn.caller in self._queues:
                    # Their next one is behind everybody else's.
                    self._queues.move_to_end(turn.caller)
                turn.finish("in")

    def _next(self) -> _Turn | None:
        """The first call of the caller whose turn it is, of those who have not all that one caller may have."""
        return next((turns[0] for turns in self._queues.values() if self._may_have_more(turns[0])), None)

    def _may_have_more(self, turn: _Turn) -> bool:
        return not turn.bounded or self._held[turn.caller] < self._each

    def _queue(self, turn: _Turn) -> None:
        waiting = len(self._queues.get(turn.caller, ()))
        if self._queued >= self._queue_max:
            longest = max(self._queues.values(), key=len, default=deque[_Turn]())
            if len(longest) <= waiting + 1:
                raise self._busy(turn)
            # The flood makes room: its newest call would have gone in last.
            out = longest[-1]
            self._remove(out)
            out.finish("pushed out")
        self._queues.setdefault(turn.caller, deque()).append(turn)
        self._queued += 1

    def _remove(self, turn: _Turn) -> None:
        turns = self._queues[turn.caller]
        turns.remove(turn)
        self._queued -= 1
        if not turns:
            del self._queues[turn.caller]

    def _busy(self, turn: _Turn) -> Unavailable:
        if not self._may_have_more(turn):
            return Unavailable(
                "busy", f"{self._each} {self._what} of yours are open, as many as one caller may have; end some first"
            )
        return Unavailable("busy", f"all {self._most} places for {self._what} are taken; try again in a few seconds")


class Rate:
    """So many a minute for each caller, `burst` of them at once. Thread-safe."""

    def __init__(self, what: str, per_min: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._per_s, self._burst = per_min / 60, float(burst)
        self._clock = clock
        self._lock = threading.Lock()
        # What a caller had left, and when.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    @property
    def per_min(self) -> float:
        return self._per_s * 60

    @property
    def burst(self) -> int:
        return int(self._burst)

    def left(self, caller: str) -> int:
        """How many the caller may spend at once now."""
        with self._lock:
            return int(self._now_left(caller, self._clock()))

    def callers(self) -> dict[str, int]:
        """The same of all who have spent some lately, by name."""
        with self._lock:
            now = self._clock()
            return {caller: int(self._now_left(caller, now)) for caller in self._left}

    def spend(self, caller: str) -> None:
        """Count one. Raises Unavailable (busy) with the time after which one more is allowed."""
        with self._lock:
            now = self._clock()
            left = self._now_left(caller, now)
            self._left.pop(caller, None)
            allowed = left >= 1
            self._left[caller] = (left - allowed, now)
            while len(self._left) > _RATES_MAX:
                self._left.popitem(last=False)
        if not allowed:
            wait_s = (1 - left) / self._per_s
            raise Unavailable(
                "busy", f"{self.per_min:g} {self._what} a minute are for one caller; try again in {wait_s:.1f} s"
            )

    def _now_left(self, caller: str, now: float) -> float:
        left, since = self._left.get(caller, (self._burst, now))
        return min(self._burst, left + (now - since) * self._per_s)


def _draining() -> Unavailable:
    return Unavailable("draining", "the server is stopping; ask another one, or this one again later")
