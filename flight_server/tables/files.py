"""Files that can be loaded, opened as streams of record batches: CSV, Parquet, Arrow IPC (file, stream, Feather 2).

A CSV file has a header and arrives as text columns: an unquoted empty field is null, and nothing else is (a ticker may
be called NA). Values are made into the table's types in `conform.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

from flight_server.errors import TableError

# Text that is parsed at once; pyarrow reads a few blocks ahead.
_CSV_BLOCK_BYTES = 4 << 20
_CSV_PARSE = pyarrow.csv.ParseOptions(newlines_in_values=True)
# Rows decoded at once from Parquet; the row group's compressed columns are read through a window.
_PARQUET_ROWS = 65_536
_PARQUET_WINDOW_BYTES = 1 << 20
_SUFFIXES = ".csv, .csv.gz, .parquet, .arrow, .arrows, .ipc or .feather"


@dataclass(frozen=True, slots=True)
class Source:
    """An open file. `batches` is read once; `done` says how much of the file has been read, 0 to 1."""

    schema: pa.Schema
    # Columns hold text that stands for values of any type.
    untyped: bool
    batches: Iterator[pa.RecordBatch]
    done: Callable[[], float]


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """The file at `path`, of the kind that its suffix names; closed at the end. TableError when it is none of them."""
    openers = {".csv": _csv, ".parquet": _parquet, ".arrow": _ipc, ".arrows": _ipc, ".ipc": _ipc, ".feather": _ipc}
    suffix = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    opener = openers.get(f".{suffix}")
    if opener is None or (path.suffix.lower() == ".gz" and suffix != "csv"):
        raise TableError(f"{str(path)!r}: the name must end in {_SUFFIXES}")
    with broken(path), pa.OSFile(str(path), "rb") as file:
        yield opener(file, path)


@contextmanager
def broken(path: Path) -> Iterator[None]:
    """Turn what pyarrow says of an unreadable file into TableError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{str(path)!r}: {str(error).splitlines()[0]}") from error


def _csv(file: pa.NativeFile, path: Path) -> Source:
    size = max(path.stat().st_size, 1)
    compressed = path.suffix.lower() == ".gz"
    stream = pa.CompressedInputStream(file, "gzip") if compressed else file
    # The names are needed before the types can be said, and the schema of a first reader has them.
    with (
        pa.input_stream(str(path), compression="gzip" if compressed else None) as peek,
        pyarrow.csv.open_csv(peek, parse_options=_CSV_PARSE) as first,
    ):
        names = first.schema.names
    options = pyarrow.csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    reader = pyarrow.csv.open_csv(
        stream,
        read_options=pyarrow.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
        parse_options=_CSV_PARSE,
        convert_options=options,
    )
    return Source(reader.schema, True, iter(reader), lambda: min(file.tell() / size, 1.0))


def _parquet(file: pa.NativeFile, _path: Path) -> Source:
    # pre_buffer would keep every row group that has been read until the end.
    parquet = pyarrow.parquet.ParquetFile(file, pre_buffer=False, buffer_size=_PARQUET_WINDOW_BYTES)
    rows = max(parquet.metadata.num_rows, 1)
    read = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS):
            read += batch.num_rows
            yield batch

    return Source(parquet.schema_arrow, False, _validated(batches()), lambda: read / rows)


def _ipc(file: pa.NativeFile, path: Path) -> Source:
    size = max(file.size(), 1)
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"FEA1"):
        raise TableError(f"{str(path)!r}: Feather version 1 is not supported; write version 2")
    if magic != b"ARROW1":
        stream = pyarrow.ipc.open_stream(file)
        return Source(stream.schema, False, _validated(iter(stream)), lambda: file.tell() / size)
    reader = pyarrow.ipc.open_file(file)
    read = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal read
        for read in range(reader.num_record_batches):
            yield reader.get_batch(read)

    return Source(reader.schema, False, _validated(batches()), lambda: read / max(reader.num_record_batches, 1))


def _validated(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Refuse text that is no UTF-8, and IPC offsets that point outside their buffer; reading alone checks neither."""
    for batch in batches:
        batch.validate(full=True)
        yield batch
