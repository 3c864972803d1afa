"""Appending one file to a table: every row checked, memory bounded, one snapshot for the whole file or nothing at all.

What was loaded is written into the snapshot's summary (`FILE`, `SHA256`); that is how a second load of the same file is
noticed, for as long as the snapshot is kept. Two loads of the same file at the same moment are not noticed.
"""

from __future__ import annotations

import hashlib
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationException
from pyiceberg.io import FileIO, InputFile, OutputFile

# pyiceberg 0.12 appends a stream to unpartitioned tables only (apache/iceberg-python#2152); this is the function under
# Table.append that writes one Arrow table's files, so that several can go into one snapshot.
from pyiceberg.io.pyarrow import _dataframe_to_data_files, schema_to_pyarrow
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Snapshot

from flight_server.errors import TableError
from flight_server.plan.scan import PUBLISHED
from flight_server.tables.catalog import translated
from flight_server.tables.conform import check_columns, check_text, check_types, conform
from flight_server.tables.files import Source, broken, open_source

FILE = "athena-flight.load.file"
SHA256 = "athena-flight.load.sha256"

# Arrow bytes that are cut into partitions at once: large enough for few small files, and a load stays under about
# three times this in memory.
CHUNK_BYTES = 64 << 20

# Called with the share of the file that is done, 0 to 1, and the rows so far.
Progress = Callable[[float, int], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did. `snapshot_id` is None for a file without rows: nothing is committed for it."""

    rows: int
    files: int
    bytes: int
    snapshot_id: int | None

    @classmethod
    def of(cls, files: list[DataFile], snapshot_id: int | None) -> Loaded:
        rows, size = (sum(getattr(file, name) for file in files) for name in ("record_count", "file_size_in_bytes"))
        return cls(rows, len(files), size, snapshot_id)


def load_file(
    table: Table,
    path: Path,
    *,
    again: bool = False,
    progress: Progress | None = None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Loaded:
    """Append the rows of the file at `path` to `table` in one commit; blocks until it is done.

    Column order does not matter; nullable columns may be missing. Refused with TableError that names the file, column,
    row and value: unknown or missing columns, other types, values that do not fit exactly, nulls where none may be, and
    a file with the name and content of one loaded before, unless `again`. After any failure the table has the snapshot
    it had before, and the data files that were written for the load are deleted.
    """
    if not path.is_file():
        raise TableError(f"there is no file {str(path)!r}")
    summary = {FILE: path.name, SHA256: _sha256(path)}
    before = None if again else _loaded_before(table.snapshots(), summary)
    if before is not None:
        when = datetime.fromtimestamp(before.timestamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        raise TableError(
            f"{path.name!r} was loaded into {'.'.join(table.name())} already, with the same content"
            f" (snapshot {before.snapshot_id}, {when}); say --again to load it twice"
        )
    if PUBLISHED in table.properties:
        raise TableError(
            f"{'.'.join(table.name())} is filled by 'athena-flight materialize' and read at the snapshot that it "
            "published: loaded rows would be seen by nobody and deleted by its next run; change its query instead"
        )
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    with open_source(path) as source:
        try:
            check_columns(source.schema.names, schema)
            (check_text if source.untyped else check_types)(source.schema, schema)
        except TableError as error:
            raise TableError(f"{str(path)!r}: {error}") from error
        return append(table, _rows(source, schema, path, progress), schema, summary, chunk_bytes)


def append(
    table: Table,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    summary: dict[str, str],
    chunk_bytes: int = CHUNK_BYTES,
) -> Loaded:
    """Append `batches`, which all have `schema`, the table's, in one commit with `summary` in its snapshot."""
    with writing(table) as files:
        written = write(table, batches, schema, files, chunk_bytes)
        if not written:
            return Loaded(0, 0, 0, None)
        transaction = table.transaction()
        with transaction.update_snapshot(snapshot_properties=summary).fast_append() as snapshot:
            for file in written:
                snapshot.append_data_file(file)
        commit(transaction, files)
    return Loaded.of(written, snapshot.snapshot_id)


@contextmanager
def writing(table: Table) -> Iterator[NewFiles]:
    """What to write data files of `table` through. Those that were not committed by the end are deleted again."""
    files = NewFiles(table.io)
    with translated(f"write to table {'.'.join(table.name())!r}"):
        try:
            yield files
        finally:
            files.delete_all()


def write(
    table: Table, batches: Iterable[pa.RecordBatch], schema: pa.Schema, files: NewFiles, chunk_bytes: int = CHUNK_BYTES
) -> list[DataFile]:
    """Write `batches` as data files in the table's partitions; none has fewer than one row."""
    numbers, write_id = itertools.count(), uuid.uuid4()
    written: list[DataFile] = []
    for chunk in chunks(batches, schema, chunk_bytes):
        written += _dataframe_to_data_files(table.metadata, chunk, files, write_id, numbers)
    return written


def commit(transaction: Transaction, files: NewFiles) -> None:
    """Commit what was written through `files`; TableError when it is certain that nothing was committed."""
    # Only these errors say for certain that nothing was committed. After any other the snapshot may stand, and its
    # files must not be deleted.
    written = files.take()
    try:
        transaction.commit_transaction()
    except (CommitFailedException, NoSuchTableError, ValidationException) as error:
        files.give_back(written)
        name = ".".join(transaction._table.name())
        raise TableError(f"cannot write to table {name!r}: {error}; it is as it was, try again") from error


def _rows(source: Source, schema: pa.Schema, path: Path, progress: Progress | None) -> Iterator[pa.RecordBatch]:
    rows = 0
    with broken(path):
        for batch in source.batches:
            try:
                yield conform(batch, schema, rows + 1)
            except TableError as error:
                raise TableError(f"{str(path)!r}: {error}") from error
            rows += batch.num_rows
            if progress is not None:
                progress(source.done(), rows)


def chunks(batches: Iterable[pa.RecordBatch], schema: pa.Schema, chunk_bytes: int) -> Iterator[pa.Table]:
    """The rows of `batches` in tables of about `chunk_bytes`, none empty."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
            size += batch.nbytes
        if size >= chunk_bytes:
            yield pa.Table.from_batches(held, schema)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held, schema)


def _loaded_before(snapshots: list[Snapshot], summary: dict[str, str]) -> Snapshot | None:
    for snapshot in reversed(snapshots):
        found = snapshot.summary
        if found is not None and all(found.get(key) == value for key, value in summary.items()):
            return snapshot
    return None


def _sha256(path: Path) -> str:
    with broken(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class NewFiles(FileIO):
    """A FileIO that remembers what was written through it, so that a failed write can be taken away again."""

    def __init__(self, io: FileIO) -> None:
        super().__init__(io.properties)
        self._io = io
        self._written: list[str] = []

    def new_input(self, location: str) -> InputFile:
        return self._io.new_input(location)

    def new_output(self, location: str) -> OutputFile:
        self._written.append(location)
        return self._io.new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        self._io.delete(location)

    def take(self) -> list[str]:
        """The files so far, which are no longer remembered."""
        written, self._written = self._written, []
        return written

    def give_back(self, written: list[str]) -> None:
        self._written += written

    def delete_all(self) -> None:
        """Delete what can be deleted: one that was never finished is not there, and the load's error comes first."""
        for location in self.take():
            with suppress(OSError):
                self._io.delete(location)
