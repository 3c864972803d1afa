"""One part of a stored result: opened, held against what is known of it, and decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from flight_server.errors import EngineFailed, ResultLost
from flight_server.model import Part
from flight_server.results.carriers import restore
from flight_server.results.fit import BUFFER_BYTES, PIECES, Fit
from flight_server.results.footer import Chunk, row_groups
from flight_server.results.pieces import groups
from flight_server.results.source import Source


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part whose footer has been read. It holds nothing that has to be closed."""

    part: Part
    source: Source
    file: pq.ParquetFile
    row_groups: list[list[Chunk]]

    def batches(self, schema: pa.Schema, fit: Fit, *, threads: bool) -> Iterator[pa.RecordBatch]:
        """All rows, carriers turned back by `schema`. With `threads` in Arrow's own, one for each column."""
        seen = 0
        with translated(self.part.path), self.source:
            plan = groups(self.row_groups, fit.piece_bytes)
            for group in self.source.enter(plan, PIECES * fit.piece_bytes):
                for batch in self.file.iter_batches(fit.batch_rows, group.row_groups, use_threads=threads):
                    seen += batch.num_rows
                    yield restore(batch, schema)
        if seen != self.part.rows:
            raise ResultLost(f"a part of the result gave {seen:,} of its {self.part.rows:,} rows")


def open_part(
    files: pafs.FileSystem, part: Part, columns: int, fetchers: Executor, cancelled: threading.Event
) -> OpenPart:
    """Read a part's footer. Raises ResultLost when it is not the part that it was, EngineFailed for trouble with S3."""
    with translated(part.path):
        opened = files.open_input_file(part.path)
        source = Source(opened, fetchers, cancelled)
        file = decoder(source)
        # Parquet's checksums are optional: without them a flipped byte in a page mostly decodes to another value.
        if file.metadata.num_rows != part.rows or (part.etag and etag(opened) != part.etag):
            raise ResultLost("a part of the result changed after the query had ended")
        if len(file.schema_arrow) != columns:
            raise ResultLost(f"a part of the result has {len(file.schema_arrow)} columns, not {columns}")
        found = row_groups(source.footer(), source.size)
        if not found or any(len(row_group) != file.metadata.num_columns for row_group in found):
            raise pa.ArrowInvalid("its footer has row groups of other columns than the part's")
        return OpenPart(part, source, file, found)


def decoder(source: Source) -> pq.ParquetFile:
    """Arrow's reader on a source. It reads a column front to back, a page at a time."""
    return pq.ParquetFile(
        pa.PythonFile(source, "r"),
        buffer_size=BUFFER_BYTES,
        # Arrow's own way to read ahead holds whole row groups.
        pre_buffer=False,
        # Hive writes timestamps as INT96, whose nanoseconds would wrap outside 1677 to 2262.
        coerce_int96_timestamp_unit="us",
        page_checksum_verification=True,
    )


def etag(source: pa.NativeFile) -> str:
    """S3's tag of the object's content; empty on file systems that have none."""
    return str(source.metadata().get("ETag", b"").decode())


@contextmanager
def translated(path: str) -> Iterator[None]:
    """What goes wrong with a part: ResultLost for its content, EngineFailed for S3."""
    name = path.rsplit("/", 1)[-1]
    try:
        yield
    except FileNotFoundError as error:
        raise ResultLost(f"the part {name!r} is not there") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        # It was there when it was opened, and has gone since.
        if "AWS Error NO_SUCH_KEY" in str(error):
            raise ResultLost(f"the part {name!r} is not there") from error
        # Arrow says this of every answer of S3, and of no answer; everything else is about the content.
        kind = EngineFailed if "AWS Error" in str(error) else ResultLost
        raise kind(f"the part {name!r} cannot be read: {str(error).splitlines()[0][:200]}") from error
