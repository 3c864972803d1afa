"""The audit log: one line of JSON for every call, when it ends, also for calls that were refused.

Nothing is lost silently. A line that cannot be written is kept, and until it has been, every new call is refused with
`internal`: whoever must be able to say who saw which rows would rather answer nobody. Calls refused for that reason
have no line of their own; the server's log counts them. A process that is killed loses the lines of its running calls.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from flight_server.errors import ConfigError, ServerError
from flight_server.telemetry import log

_FIELDS = ("caller", "method", "dataset", "params", "rows", "bytes", "policies", "query_id", "code")
STDOUT = "-"


class Audit:
    """Appends to a file, or to standard output for `-`; without a name it does nothing. Thread-safe.

    Raises ConfigError when the file cannot be opened.
    """

    def __init__(self, file: str | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._unwritten: list[bytes] = []
        self._target: int | None = None
        if file is not None:
            try:
                self._target = self._open(file)
            except OSError as error:
                raise ConfigError(f"setting 'audit.file': cannot append to {file!r}: {error.strerror}") from error

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
        said = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
        line = json.dumps(said | {name: outcome[name] for name in _FIELDS}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._unwritten.append(line)
            self._flush()

    def reopen(self) -> None:
        """Go on in a new file of the same name, after the old one was moved away."""
        with self._lock:
            if self._target is None or self._file is None or self._file == STDOUT:
                return
            old, self._target = self._target, self._open(self._file)
            os.close(old)

    def close(self) -> None:
        with self._lock:
            if self._target is not None and self._file != STDOUT:
                os.close(self._target)
            self._target = None

    @staticmethod
    def _open(file: str) -> int:
        if file == STDOUT:
            return sys.stdout.fileno()
        # Appending, so that several processes and log rotation can share the file; readable by its owner only.
        return os.open(Path(file), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _flush(self) -> None:
        """Write what waits, in order; what fails stays. Straight to the file, with no buffer between."""
        try:
            while self._unwritten and self._target is not None:
                line = self._unwritten[0]
                written = os.write(self._target, line)
                # A full disk takes the first half of a line; the rest follows when there is room.
                self._unwritten[:1] = [line[written:]] if written < len(line) else []
        except OSError as error:
            log.error("audit_unwritable", file=self._file, error=error.strerror, waiting=len(self._unwritten))
