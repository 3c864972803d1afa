"""How many calls wait for their first turn, before anything of ours has run for them.

pyarrow gives each call a thread at once, without a limit, and the threads of a flood wait for Python's lock: each slows
all of them, those that were let in too. Nothing tells of such a call, so they are counted as what the process has of
threads beyond those that are known. Linux only; elsewhere there are none.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

# A flood of hundreds comes up within some tens of milliseconds.
_LOOK_S = 0.05
_STAT = Path("/proc/self/stat")
# num_threads, counted from behind the name of the process, which can have spaces in it (proc_pid_stat(5)).
_THREADS = 17
# Some 50 numbers of up to 20 digits, and a name.
_STAT_BYTES = 4096


class Backlog:
    """Counts in a thread of its own until `close`. `known` says how many calls have a thread that is accounted for."""

    def __init__(self, known: Callable[[], int]) -> None:
        self._known = known
        # Threads that are neither Python's nor a call's: of gRPC, Arrow and DuckDB, which start them when first needed.
        self._others: int | None = None
        self.waiting = 0
        # Open from the start: in a flood there may be no file left to open it with.
        self._stat = _STAT.open("rb", buffering=0) if _STAT.exists() else None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backlog", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()
        if self._stat is not None:
            self._stat.close()

    def _run(self) -> None:
        while self._stat is not None and not self._closed.wait(_LOOK_S):
            self.look()

    def look(self) -> None:
        """Count now."""
        known = self._known()
        rest = self._threads() - _python_threads() - known
        if self._others is None or rest < self._others:
            self._others = rest
        self.waiting = max(0, rest - self._others)

    def _threads(self) -> int:
        if self._stat is None:
            return 0
        # Each reading from the start is made anew.
        return int(os.pread(self._stat.fileno(), _STAT_BYTES, 0).rpartition(b")")[2].split()[_THREADS])


def _python_threads() -> int:
    """Those that Python started; it makes an entry for others as well, when they log."""
    return sum(not isinstance(thread, threading._DummyThread) for thread in threading.enumerate())
