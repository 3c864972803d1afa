"""The audit log: one line of JSON for every call, when it ends, also for calls that were refused.

Nothing is lost silently. A line that cannot be written is kept, and until it has been, every new call is refused with
`internal`: whoever must be able to say who saw which rows would rather answer nobody. Of calls refused for that reason
so many have lines of their own as are kept; the rest is counted in one line. A file that was moved or removed is
followed by a new one before the next line. A process that is killed loses the lines of its running calls.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from flight_server.config import Audit as Settings
from flight_server.errors import ConfigError, ServerError
from flight_server.telemetry import log

_FIELDS = (
    "caller",
    "method",
    "action",
    "dataset",
    "params",
    "datasets",
    "reads",
    "policies",
    "rows",
    "bytes",
    "query_id",
    "code",
)
STDOUT = "-"


class Audit:
    """Appends to a file, or to standard output for `-`; without a name it does nothing. Thread-safe.

    Raises ConfigError when the file cannot be opened.
    """

    def __init__(self, settings: Settings) -> None:
        self._file = settings.file
        self._waiting_max = settings.waiting_max
        self._lock = threading.Lock()
        self._unwritten: deque[bytes] = deque()
        # Bytes of the first unwritten line that are in the file: a full disk takes the first half of a line.
        self._begun = 0
        # Calls without a line of their own.
        self._left_out = 0
        self._failing = False
        self._target: int | None = None
        if self._file is not None:
            try:
                self._target = self._open(self._file)
            except OSError as error:
                raise ConfigError(f"setting 'audit.file': cannot append to {self._file!r}: {error.strerror}") from error

    def check(self) -> None:
        """Raise ServerError (internal) while a line could not be written."""
        if not self._unwritten:
            return
        with self._lock:
            self._flush()
            if self._unwritten:
                raise ServerError("internal", "the audit log cannot be written, so nobody is answered")

    def write(self, outcome: Mapping[str, object]) -> None:
        """One line about a call that has ended."""
        if self._target is None:
            return
        line = _line({name: outcome[name] for name in _FIELDS})
        with self._lock:
            if len(self._unwritten) < self._waiting_max:
                self._unwritten.append(line)
            else:
                self._left_out += 1
            self._flush()

    def close(self) -> None:
        with self._lock:
            self._flush()
            if self._unwritten:
                log.error("audit_lost", file=self._file, calls=len(self._unwritten) + self._left_out)
            if self._target is not None and self._file != STDOUT:
                os.close(self._target)
            self._target = None

    @staticmethod
    def _open(file: str) -> int:
        if file == STDOUT:
            return sys.stdout.fileno()
        # Appending, so that several processes and log rotation can share the file; readable by its owner only.
        return os.open(Path(file), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _follow(self, target: int) -> None:
        """Go on in a new file when the old one has lost its name: lines in it could be lost with it."""
        if self._file is None or self._file == STDOUT:
            return
        try:
            same = os.path.samestat(Path(self._file).stat(), os.fstat(target))
        except FileNotFoundError:
            same = False
        if not same:
            self._target = self._open(self._file)
            # What the old file has of a line is of no use to who reads the new one.
            self._begun = 0
            os.close(target)

    def _flush(self) -> None:
        """Write what waits, in order; what fails stays. Straight to the file, with no buffer between."""
        try:
            while self._unwritten and self._target is not None:
                self._follow(self._target)
                line = self._unwritten[0]
                self._begun += os.write(self._target, line[self._begun :])
                if self._begun == len(line):
                    self._unwritten.popleft()
                    self._begun = 0
                if self._left_out and not self._unwritten:
                    self._unwritten.append(_line({"method": "", "code": "internal", "calls": self._left_out}))
                    self._left_out = 0
        except OSError as error:
            if not self._failing:
                log.error("audit_unwritable", file=self._file, error=error.strerror)
            self._failing = True
        else:
            self._failing = False


def _line(said: Mapping[str, object]) -> bytes:
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"time": time, **said}, separators=(",", ":"), default=asdict).encode() + b"\n"
