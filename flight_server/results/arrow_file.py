"""One result as an Arrow IPC file on this server's disk: written batch by batch, then read any number of times.

Who finds a file, how long it lives and what all of them may take is for the stores: `local.py` keeps what may be asked
again, `spill.py` what was submitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa

# Half the disk for prices (facts: lz4 0.52), at a cost that is small against the query's.
_COMPRESSION = "lz4"


class ArrowFile:
    """A file that is being written. `size` is its bytes on disk so far. All raise OSError, pa.ArrowException."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.size = 0
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_stream(self._sink, schema, options=pa.ipc.IpcWriteOptions(compression=_COMPRESSION))

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.size = self._sink.tell()

    def finish(self) -> None:
        """Write the end of the stream, which `read` wants."""
        self._writer.close()
        self.size = self._sink.tell()
        self._sink.close()

    def delete(self) -> None:
        """Remove the file, whatever state it is in. Raises nothing: what cannot be removed goes with the folder."""
        for close in (self._writer.close, self._sink.close, self._unlink):
            # On a full disk even the end of the stream cannot be written.
            with suppress(OSError, pa.ArrowException):
                close()

    def _unlink(self) -> None:
        self.path.unlink(missing_ok=True)


def read(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches in order, one in memory at a time; also to their end when the file is removed meanwhile."""
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
        yield from reader
