"""Results on the disk of this server, for engines that keep none: Arrow IPC files in a private temporary folder.

A file is for its maker alone, does not outlive the process, and all files together have a bound.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

from flight_server.errors import Unavailable
from flight_server.scratch import Scratch

# Half the disk for prices (facts: lz4 0.52), at a cost that a disk hides.
_COMPRESSION = "lz4"


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
        self._path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, schema, options=pa.ipc.IpcWriteOptions(compression=_COMPRESSION))
        self._counted = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch. Raises Unavailable (busy) when there is no more room."""
        self._writer.write_batch(batch)
        size = self._sink.tell()
        self._spill.grow(size - self._counted)
        self._counted = size

    def finish(self) -> None:
        self._writer.close()
        self._sink.close()

    def read(self) -> Iterator[pa.RecordBatch]:
        """The batches in order, one in memory at a time."""
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader

    def delete(self) -> None:
        """Remove the file, whatever state it is in. Raises nothing: what cannot be removed goes with the folder."""
        for close in (self._writer.close, self._sink.close, self._unlink):
            # On a full disk even the end of the stream cannot be written.
            with suppress(OSError, pa.ArrowException):
                close()
        self._spill.grow(-self._counted)
        self._counted = 0

    def _unlink(self) -> None:
        self._path.unlink(missing_ok=True)
