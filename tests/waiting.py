"""Waiting in tests for something that another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    true: Callable[[], object],
    timeout_s: float = 30.0,
    said: Callable[[], str] = lambda: "it did not happen in time",
) -> None:
    """Return as soon as `true()` is; fail after `timeout_s` with what `said` says then."""
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, said()
        time.sleep(0.01)
