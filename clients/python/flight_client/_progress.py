"""A line that shows that a slow query goes on: in terminals and notebooks, with rich where it is installed.

Nothing is shown for a query that is quick, in a pipe, or in a log file.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import pyarrow as pa

# Shorter waits need no explanation, and a line that flashes up disturbs.
SLOW_S = 1.0


class Progress:
    """Counts rows and bytes of one answer; a context manager that takes its line away at the end."""

    def __init__(self, label: str, total_rows: int, shown: bool) -> None:
        self._label = label
        self._total = total_rows if total_rows > 0 else None
        self._open: Callable[[], Any] | None = _rich if shown and _somebody_looks() else None
        self._bar: Any = None
        self._task: Any = None
        self._rows = 0
        self._bytes = 0
        self._started = time.monotonic()

    def tick(self, batch: pa.RecordBatch | None) -> None:
        """One batch more, or None: nothing new, but time has passed."""
        if batch is not None:
            self._rows += batch.num_rows
            self._bytes += batch.nbytes
        if self._open is None or time.monotonic() - self._started < SLOW_S:
            return
        if self._bar is None:
            self._bar = self._open()
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=self._total, size="")
        size = f"{self._rows:,} rows, {self._bytes / 1e6:,.1f} MB" if self._rows else "the query runs"
        self._bar.update(self._task, completed=self._rows, size=size)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


def _somebody_looks() -> bool:
    return importlib.util.find_spec("rich") is not None and (sys.stderr.isatty() or _in_notebook())


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _rich() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    # Standard error stays free for data in a pipe; a notebook has one place for both.
    console = Console() if _in_notebook() else Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[size]}"), TimeElapsedColumn())
    return Bar(*columns, console=console, transient=True)
