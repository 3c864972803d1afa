"""Results of the embedded engine on this server's disk: Arrow IPC files by fingerprint, least recently used out first.

What a query sends is written beside the sending, and kept only when the query came to its end: a broken-off result is
never found. The folder is private and does not outlive the process, so nothing in it is trusted that this process did
not write, and rows that policies guard are gone with it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pyarrow as pa

from flight_server.errors import ResultLost
from flight_server.model import Part, StoredResult
from flight_server.results import arrow_file
from flight_server.results.arrow_file import ArrowFile
from flight_server.scratch import Scratch
from flight_server.telemetry import log, metrics

# One large result must not push out all the small ones that people ask for again.
_SHARE = 4
# A folder with more files than this is slow to remove; a result's entry in memory is some hundred bytes.
_RESULTS_MAX = 10_000


class LocalStore:
    """Keeps what fits in `bytes_max` bytes of disk, what is being written included. Thread-safe.

    More than that are only the last batches of what finds no room: they are counted once their size is known.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        # With the bytes on disk of each, which are fewer than those sent.
        self._results: OrderedDict[str, tuple[StoredResult, int]] = OrderedDict()
        self._folder: Scratch | None = None
        self._kept = 0
        self._writing = 0
        self._made = 0
        self._closed = False
        metrics.LOCAL_BYTES.set_function(lambda: self.used)

    @property
    def used(self) -> int:
        """Bytes on disk, of complete results and of those that are being written."""
        return self._kept + self._writing

    def find(self, fingerprint: str, max_age_s: float | None = None) -> StoredResult | None:
        """The complete result of a fingerprint, unless it is older than `max_age_s`."""
        with self._lock:
            if fingerprint not in self._results:
                return None
            found, _ = self._results[fingerprint]
            if max_age_s is not None and time.time() - found.created > max_age_s:
                return None
            self._results.move_to_end(fingerprint)
            return found

    def read(self, stored: StoredResult) -> Iterator[pa.RecordBatch]:
        """The batches as the engine gave them, one in memory at a time. Raises ResultLost when they are gone."""
        if not stored.parts:
            return
        (part,) = stored.parts
        rows = 0
        try:
            # Once it is open it can be read to its end, also when it is pushed out meanwhile.
            for batch in arrow_file.read(Path(part.path)):
                rows += batch.num_rows
                yield batch
        except (OSError, pa.ArrowException) as error:
            self.forget(stored)
            raise ResultLost("a kept result cannot be read") from error
        if rows != part.rows:
            self.forget(stored)
            raise ResultLost(f"a kept result gave {rows:,} of its {part.rows:,} rows")

    def forget(self, stored: StoredResult) -> None:
        """Give up a result, unless a newer one has taken its place."""
        with self._lock:
            if stored.fingerprint in self._results and self._results[stored.fingerprint][0] is stored:
                self._drop(stored.fingerprint)

    def keep(self, fingerprint: str, batches: Iterator[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
        """Pass `batches` on, and keep them when they have come to their end. On a full disk they are only passed on."""
        copy: _Copy | None = None
        complete = False
        try:
            for batch in batches:
                if copy is None:
                    copy = self._copy(batch.schema)
                copy.write(batch)
                yield batch
            complete = True
        finally:
            if copy is not None:
                self._end(fingerprint, copy, complete=complete)
            elif complete:
                self._add(StoredResult(fingerprint, "", (), 0, time.time()), 0)

    def close(self) -> None:
        """Remove all files; readers that have one open can finish it."""
        with self._lock:
            self._closed = True
            self._results.clear()
            self._kept = self._writing = 0
            folder, self._folder = self._folder, None
        if folder is not None:
            folder.remove()

    def _copy(self, schema: pa.Schema) -> _Copy:
        with self._lock:
            if self._closed:
                return _Copy(None, schema, 0, self._grow)
            if self._folder is None:
                self._folder = Scratch("results")
            self._made += 1
            return _Copy(self._folder.path / f"{self._made}.arrow", schema, self._bytes_max // _SHARE, self._grow)

    def _grow(self, count: int) -> bool:
        """Count `count` bytes more of a copy, or fewer, and make room. False where the others leave none."""
        with self._lock:
            if self._closed:
                return False
            if count > 0 and self._writing + count > self._bytes_max:
                return False
            self._writing += count
            self._make_room()
            return True

    def _end(self, fingerprint: str, copy: _Copy, *, complete: bool) -> None:
        path = copy.close()
        if path is None:
            return
        if not complete:
            copy.give_up()
            return
        part = Part(str(path), copy.rows, copy.bytes)
        self._add(StoredResult(fingerprint, "", (part,), 0, time.time()), copy.disk_bytes)

    def _add(self, stored: StoredResult, disk_bytes: int) -> None:
        with self._lock:
            if self._closed:
                # Its file went with the folder.
                return
            if stored.fingerprint in self._results:
                self._drop(stored.fingerprint)
            self._results[stored.fingerprint] = stored, disk_bytes
            self._kept += disk_bytes
            self._writing -= disk_bytes
            self._make_room()

    def _make_room(self) -> None:
        while self._results and (self.used > self._bytes_max or len(self._results) > _RESULTS_MAX):
            self._drop(next(iter(self._results)))

    def _drop(self, fingerprint: str) -> None:
        stored, disk_bytes = self._results.pop(fingerprint)
        self._kept -= disk_bytes
        for part in stored.parts:
            Path(part.path).unlink(missing_ok=True)


class _Copy:
    """A result on its way to disk. One that is too large or cannot be written is given up, and `write` does nothing.

    `grow` counts bytes more, or fewer, and says whether there is room for them.
    """

    def __init__(self, path: Path | None, schema: pa.Schema, disk_bytes_max: int, grow: Callable[[int], bool]) -> None:
        self._path = path
        self._schema = schema
        self._disk_bytes_max = disk_bytes_max
        self._grow = grow
        self._file: ArrowFile | None = None
        self.rows = 0
        self.bytes = 0
        self.disk_bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if self._path is None:
            return
        try:
            self._file = self._file or ArrowFile(self._path, self._schema)
            self._file.write(batch)
            self.rows += batch.num_rows
            self.bytes += batch.nbytes
            self._count(self._file.size)
        except (OSError, pa.ArrowException) as error:
            log.warning("result_not_kept", reason=str(error)[:200])
            self.give_up()

    def close(self) -> Path | None:
        """The finished file; None when there is none to keep."""
        try:
            if self._file is not None:
                self._file.finish()
                self._count(self._file.size)
        except (OSError, pa.ArrowException) as error:
            log.warning("result_not_kept", reason=str(error)[:200])
            self.give_up()
        return self._path

    def _count(self, disk_bytes: int) -> None:
        if disk_bytes > self._disk_bytes_max or not self._grow(disk_bytes - self.disk_bytes):
            self.give_up()
        else:
            self.disk_bytes = disk_bytes

    def give_up(self) -> None:
        """Remove what is written, and give its bytes back."""
        file, self._file = self._file, None
        path, self._path = self._path, None
        if file is not None:
            file.delete()
        elif path is not None:
            # Of a file that could not even be begun.
            path.unlink(missing_ok=True)
        self._grow(-self.disk_bytes)
        self.disk_bytes = 0
