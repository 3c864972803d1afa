"""What holds for calls whose clients do nothing: their shares, and the end that the watch gives them."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from flight_server import config
from flight_server.config import Limits
from flight_server.errors import Unavailable
from flight_server.model import Caller
from flight_server.service.audit import Audit
from flight_server.service.call import Call
from flight_server.service.calls import Calls
from flight_server.service.outcome import Outcome
from flight_server.service.unread import Watch
from flight_server.telemetry.records import Records
from tests.waiting import until

ANN, BEN = Caller("ann"), Caller("ben")


def call(calls: Calls, method: str, caller: Caller | None = None) -> Call:
    return Call(calls, Outcome(method), Audit(config.Audit()), Records(1, 1), caller, named=True)


def test_an_upload_counts_as_its_callers_once_the_certificate_has_named_them() -> None:
    calls = Calls(Limits(streams_max=4, streams_per_caller=1))
    uploads = [call(calls, "DoPut") for _ in range(3)]
    for each in uploads:
        # Nothing has come yet, so nobody is known.
        calls.begin(each)
    for each, caller in zip(uploads, (ANN, BEN, ANN), strict=True):
        each.identified(caller)
    for each in uploads[:2]:
        calls.named(each)
    with pytest.raises(Unavailable, match=r"\[busy\] 1 uploads of yours are open"):
        calls.named(uploads[2])
    uploads[0].call_completed(None)
    calls.named(uploads[2])
    for each in uploads[1:]:
        each.call_completed(None)
    assert calls.uploads.taken == 0


def test_an_engine_that_lets_go_slowly_holds_up_its_own_call_only() -> None:
    calls = Calls(limits := Limits(stream_idle_s=0.1))
    # Each is done only when the other is being released too.
    both = threading.Barrier(2)
    streams = [call(calls, "DoGet", ANN) for _ in range(2)]
    with closing(Watch(calls, limits, port=0)):
        for each in streams:
            calls.enter(each, stream=True)
            each.on_end(lambda: (both.wait(10), None)[1])
            each.waits()
        until(lambda: calls.count == 0)
    assert not both.broken
    assert calls.streams.taken == 0


def test_while_too_many_wait_for_a_first_turn_only_callers_without_another_call_are_let_in() -> None:
    calls = Calls(Limits(backlog_max=10))
    ann, ben = call(calls, "GetFlightInfo", ANN), call(calls, "GetFlightInfo", BEN)
    calls.enter(ann)
    calls.waiting = lambda: 10
    calls.spare(call(calls, "GetFlightInfo", ANN))
    calls.waiting = lambda: 11
    with pytest.raises(Unavailable, match=r"\[busy\] more calls come in than can be answered"):
        calls.spare(call(calls, "GetFlightInfo", ANN))
    calls.spare(ben)
    nobody = call(calls, "GetFlightInfo", Caller("anonymous"))
    nobody.named = False
    with pytest.raises(Unavailable, match=r"\[busy\]"):
        calls.spare(nobody)
    ann.call_completed(None)
    calls.spare(call(calls, "GetFlightInfo", ANN))


class Looked(threading.Event):
    """An event that a drain begins right after somebody has looked at it."""

    def __init__(self, drain: threading.Thread) -> None:
        super().__init__()
        self._drain = drain

    def is_set(self) -> bool:
        found = super().is_set()
        if not self._drain.ident:
            self._drain.start()
            # Done by then, unless it has to wait for who has looked.
            self._drain.join(0.5)
        return found


def test_a_drain_waits_for_a_call_that_comes_in_just_then() -> None:
    calls = Calls(Limits())
    draining = threading.Thread(target=calls.drain, args=(60.0,))
    calls._draining = Looked(draining)
    late = call(calls, "DoGet", ANN)
    calls.enter(late, stream=True)
    until(lambda: calls.draining)
    assert draining.is_alive()
    late.call_completed(None)
    draining.join(30)
    assert not draining.is_alive()
    with pytest.raises(Unavailable, match=r"\[draining\]"):
        calls.enter(call(calls, "DoGet", ANN))
