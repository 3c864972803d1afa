"""Private folders on the temporary disk that go with their process, also when it is killed.

A folder is locked for as long as its process lives; a server that starts removes those that nobody locks any more.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_NAMES = re.compile(r"athena-flight-(results|submitted|spill)-.+")
# A folder that is being made is not locked for some microseconds.
_AGE_S = 60.0


class Scratch:
    """A new folder for `kind` (results, submitted, spill), mode 0700, locked until `remove`."""

    def __init__(self, kind: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"athena-flight-{kind}-"))
        self._lock = _locked(self.path)

    def remove(self) -> None:
        """Remove it with all that is in it; who has a file of it open can read that to its end."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def sweep() -> list[Path]:
    """Remove what killed processes of this user have left, and say what that was."""
    swept = []
    for path in Path(tempfile.gettempdir()).iterdir():
        # Another process may sweep at the same time.
        with suppress(FileNotFoundError):
            if _NAMES.fullmatch(path.name) and _ours(path) and (lock := _locked(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
                swept.append(path)
    return swept


def _ours(path: Path) -> bool:
    found = path.lstat()
    return path.is_dir() and not path.is_symlink() and found.st_uid == os.getuid() and _old(found.st_ctime)


def _old(made: float) -> bool:
    return time.time() - made > _AGE_S


def _locked(path: Path) -> int | None:
    """A descriptor that holds the folder's lock; None when somebody else has it."""
    found = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(found)
        return None
    return found
