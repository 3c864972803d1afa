"""Results of submitted queries on the disk of this server, for engines that keep none for all replicas.

A file is for its maker alone, stays until it is deleted and does not outlive the process; all together have a bound, at
which a new one is refused. Why this is no part of the store in `local.py`: docs/decisions.md.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from flight_server.errors import Unavailable
from flight_server.results.arrow_file import ArrowFile, read
from flight_server.scratch import Scratch


class Spill:
    """The folder. `bytes_max` is what all its files may hold; it is made with the first one."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._folder: Scratch | None = None
        self._used = 0
        self._made = 0
        self._closed = False

    def file(self, schema: pa.Schema) -> SpillFile:
        """A new file, open for writing."""
        with self._lock:
            if self._closed:
                raise Unavailable("draining", "the server is stopping; ask another one, or this one again later")
            if self._folder is None:
                self._folder = Scratch("submitted")
            self._made += 1
            return SpillFile(self, self._folder.path / f"{self._made}.arrow", schema)

    def grow(self, count: int) -> None:
        """Count `count` bytes more, or fewer. Raises Unavailable (busy) when that is too many."""
        with self._lock:
            if count > 0 and self._used + count > self._bytes_max:
                raise Unavailable("busy", f"kept results fill {self._bytes_max:,} bytes; ask later, or read a stream")
            self._used += count

    def close(self) -> None:
        """Remove all files; readers that have one open can finish it."""
        with self._lock:
            self._closed = True
            folder, self._folder = self._folder, None
        if folder is not None:
            folder.remove()


class SpillFile:
    """One result: `write` batches, `finish`, then `read` any number of times, then `delete`."""

    def __init__(self, spill: Spill, path: Path, schema: pa.Schema) -> None:
        self._spill = spill
        self._file = ArrowFile(path, schema)
        self._counted = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch. Raises Unavailable (busy) when there is no more room."""
        self._file.write(batch)
        self._spill.grow(self._file.size - self._counted)
        self._counted = self._file.size

    def finish(self) -> None:
        self._file.finish()

    def read(self) -> Iterator[pa.RecordBatch]:
        """The batches in order, one in memory at a time."""
        return read(self._file.path)

    def delete(self) -> None:
        """Remove the file, whatever state it is in. Raises nothing."""
        self._file.delete()
        self._spill.grow(-self._counted)
        self._counted = 0
