"""Threads that nobody knows of are calls that wait."""

from __future__ import annotations

import _thread
import threading
from contextlib import closing

from flight_server.service.backlog import Backlog
from tests.waiting import until


def test_threads_that_are_neither_pythons_nor_a_known_calls_are_counted() -> None:
    known = 0
    go = threading.Event()
    with closing(Backlog(lambda: known)) as backlog:
        until(lambda: backlog.waiting == 0)
        backlog.look()
        for _ in range(10):
            # As gRPC's, these are not among Python's own.
            _thread.start_new_thread(go.wait, ())
        until(lambda: backlog.waiting >= 10)
        known = 10
        until(lambda: backlog.waiting == 0)
        known = 0
        # Python's own threads are none of them.
        more = [threading.Thread(target=go.wait) for _ in range(10)]
        for each in more:
            each.start()
        until(lambda: 10 <= backlog.waiting < 20)
        go.set()
        for each in more:
            each.join()
        until(lambda: backlog.waiting == 0)
