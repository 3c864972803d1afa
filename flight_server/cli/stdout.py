"""Standard output of a command: one that is full is one line of error, and a reader that goes away is silence.

Python says both with a traceback, or, for what was still in its buffer, with `Exception ignored` after the end.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

from flight_server.errors import SetupError

# What a shell sees of a program that SIGPIPE ended, which is how `| head -1` ends others. The signal itself would end
# this process for sockets too.
READER_GONE = 128 + signal.SIGPIPE


class _Output(io.FileIO):
    """Raises SetupError (bad-output) where the system does not take what is written, and takes no more of it then."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._lost = False

    def write(self, data: Any, /) -> Any:
        if self._lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            self._lost = True
            sys.exit(READER_GONE)
        except OSError as error:
            self._lost = True
            raise SetupError("bad-output", f"cannot write to standard output: {error.strerror}") from error


def guard() -> None:
    """Make `sys.stdout` the above, unless somebody (a test) has put something in its place."""
    if sys.stdout is None:
        # Started with `>&-`. The first file that is opened would be descriptor 1, and what is printed would go there.
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the life of the process
    elif (before := sys.__stdout__) is sys.stdout and isinstance(before, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Output(before.fileno())),
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
