"""Rewriting many small data files of a table as few large ones; the rows stay the same.

On Athena it is the statement OPTIMIZE. On a catalog of this machine it is done here: the small files of a partition are
read and written as one, up to the table's target size, and all of them are exchanged in one commit. Files that were
written under an earlier partitioning of the table are left as they are.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import AlwaysTrue

# The parts of pyiceberg's reader and writer that work on one file and in bounded memory; its public functions hold
# whole tables (apache/iceberg-python#1092 asks for compaction).
from pyiceberg.io.fileformat import FileFormatFactory
from pyiceberg.io.pyarrow import ArrowScan, _read_all_delete_files, schema_to_pyarrow
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.typedef import Record

from flight_server.errors import EngineFailed, TableError
from flight_server.model import ExecutionStats
from flight_server.plan.scan import PUBLISHED, published
from flight_server.tables.catalog import translated
from flight_server.tables.fill import Statements
from flight_server.tables.load import CHUNK_BYTES, NewFiles, chunks, commit, writing
from flight_server.tables.replace import live_files

# In the summary of a snapshot that exchanged files and left the rows as they were.
OPTIMIZED = "athena-flight.optimize"
# Iceberg's own default of `write.target-file-size-bytes`, and the share of it under which it calls a file small.
_TARGET_BYTES = 512 << 20
_SMALL = 0.75
# Athena stops an OPTIMIZE that is too much for one run and asks for another; this many are more than a table needs.
_RUNS_MAX = 20
_MORE_RUNS = "ICEBERG_OPTIMIZE_MORE_RUNS_NEEDED"
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Optimized:
    """Data files and their bytes before and after. `spent` has one entry for each Athena query."""

    files_before: int
    bytes_before: int
    files_after: int
    bytes_after: int
    spent: tuple[ExecutionStats, ...] = ()


def optimize(table: Table, chunk_bytes: int = CHUNK_BYTES) -> Optimized:
    """Rewrite the table's small files, and those with deleted rows, in one commit.

    Blocks. TableError when another commit changed the same files meanwhile, or when a row would be lost: the table is
    as it was then.
    """
    name, before = ".".join(table.name()), list(live_files(table))
    with writing(table) as files:
        try:
            bins = list(_bins(list(table.scan().plan_files()), table))
        except ValueError as error:
            raise TableError(f"cannot optimize {name}: {error}") from error
        old = [task.file for each in bins for task in each]
        new = [file for each in bins for file in _rewritten(table, each, files, chunk_bytes)]
        if not old:
            return _outcome(before, before)
        transaction = table.transaction()
        with transaction.update_snapshot(snapshot_properties={OPTIMIZED: "true"}).overwrite() as snapshot:
            for file in old:
                snapshot.delete_data_file(file)
            for file in new:
                snapshot.append_data_file(file)
        if published(table) == table.metadata.current_snapshot_id is not None:
            transaction.set_properties({PUBLISHED: str(snapshot.snapshot_id)})
        commit(transaction, files)
    gone = {file.file_path for file in old}
    return _outcome(before, [*(file for file in before if file.file_path not in gone), *new])


def optimize_on_athena(table: Table, engine: Statements, started: Callable[[str], None]) -> Optimized:
    """OPTIMIZE, repeated as long as Athena asks for it. Raises EngineFailed, TableError when rows came or went."""
    name = ".".join(table.name())
    # Whether OPTIMIZE takes quoted names is not documented; its examples are plain.
    if not _PLAIN.fullmatch(name):
        raise TableError(f"cannot optimize {name}: OPTIMIZE is only sent for names of letters, digits and underscores")
    current = table.metadata.current_snapshot_id
    is_published = published(table) == current is not None
    before = list(live_files(table))
    spent = [*_runs(f"OPTIMIZE {name} REWRITE DATA USING BIN_PACK", engine, started)]
    with translated(f"look at the new files of {name!r}"):
        table.refresh()
        after = list(live_files(table))
    if is_published and table.metadata.current_snapshot_id != current:
        if sum(file.record_count for file in before) != sum(file.record_count for file in after):
            raise TableError(f"something else wrote to {name} meanwhile: readers keep the files they had")
        with translated(f"publish the new files of {name!r}"), table.transaction() as transaction:
            transaction.set_properties({PUBLISHED: str(table.metadata.current_snapshot_id)})
    return _outcome(before, after, tuple(spent))


def _runs(sql: str, engine: Statements, started: Callable[[str], None]) -> Iterator[ExecutionStats]:
    for left in range(_RUNS_MAX, 0, -1):
        try:
            yield engine.execute(sql, started, again=True)
        except EngineFailed as error:
            if _MORE_RUNS not in error.message or left == 1:
                raise
        else:
            return


def _bins(tasks: list[FileScanTask], table: Table) -> Iterator[list[FileScanTask]]:
    """Files to be written as one: small ones of a partition, or a single one with deleted rows."""
    metadata = table.metadata
    target = int(metadata.properties.get("write.target-file-size-bytes", _TARGET_BYTES))
    partitions: dict[Record, list[FileScanTask]] = {}
    for task in tasks:
        small = task.file.file_size_in_bytes < _SMALL * target
        if task.file.spec_id == metadata.default_spec_id and (small or task.delete_files):
            partitions.setdefault(task.file.partition, []).append(task)
    for found in partitions.values():
        held: list[FileScanTask] = []
        size = 0
        for task in found:
            if held and size + task.file.file_size_in_bytes > target:
                yield from _worthwhile(held)
                held, size = [], 0
            held.append(task)
            size += task.file.file_size_in_bytes
        yield from _worthwhile(held)


def _worthwhile(tasks: list[FileScanTask]) -> Iterator[list[FileScanTask]]:
    if len(tasks) > 1 or any(task.delete_files for task in tasks):
        yield tasks


def _rewritten(table: Table, tasks: list[FileScanTask], files: NewFiles, chunk_bytes: int) -> Iterator[DataFile]:
    """The rows of `tasks`, all of one partition, as one new file; no file for no rows."""
    deletes = _read_all_delete_files(table.io, tasks)
    scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
    schema = schema_to_pyarrow(table.schema(), include_field_ids=True)
    batches = (
        pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(batch.columns, schema, strict=True)], schema=schema)
        for batch in scan._record_batches_from_scan_tasks_and_deletes(tasks, deletes)
    )
    wanted = sum(task.file.record_count - _count(deletes.get(task.file.file_path, [])) for task in tasks)
    written = list(_written(table, tasks[0].file, chunks(batches, schema, chunk_bytes), files))
    rows = sum(file.record_count for file in written)
    if rows != wanted:
        raise TableError(f"{wanted:,} rows of {'.'.join(table.name())} were read as {rows:,}: nothing was changed")
    yield from written


def _count(positions: list[pa.ChunkedArray]) -> int:
    """Rows that delete files take from one data file; two of them may name the same row."""
    return len(pc.unique(pa.chunked_array([chunk for array in positions for chunk in array.chunks], pa.int64())))


def _written(table: Table, like: DataFile, rows: Iterable[pa.Table], files: NewFiles) -> Iterator[DataFile]:
    writer = None
    # Beside the first of the files that it replaces, which lies where the table's layout wants it.
    output = files.new_output(f"{like.file_path.rpartition('/')[0]}/{uuid.uuid4()}-optimized.parquet")
    for chunk in rows:
        if writer is None:
            model = FileFormatFactory.get(FileFormat.PARQUET)
            writer = model.create_writer(output, table.schema(), table.metadata.properties)
        writer.write(chunk)
    if writer is None:
        return
    statistics = writer.close()
    yield DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=output.location,
        file_format=FileFormat.PARQUET,
        partition=like.partition,
        file_size_in_bytes=len(output),
        sort_order_id=None,
        spec_id=table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
        **statistics.to_serialized_dict(),
    )


def _outcome(before: list[DataFile], after: list[DataFile], spent: tuple[ExecutionStats, ...] = ()) -> Optimized:
    old, new = (sum(file.file_size_in_bytes for file in files) for files in (before, after))
    return Optimized(len(before), old, len(after), new, spent)
