"""Writing a result to a file or a pipe, batch by batch.

A file appears under its name only when it is complete: it is written beside it and renamed at the end, so that a
result that broke off never looks like a whole one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from flight_server.errors import SetupError

Format = Literal["csv", "parquet", "arrow"]


class _Writer(Protocol):
    def write_batch(self, batch: pa.RecordBatch) -> None: ...


def to_file(path: Path, form: Format, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write the batches to `path`, replacing what is there, and return the number of rows.

    `arrow` is the file format (Feather), not a stream. On any error `path` is as it was.
    """
    with _replacing(path) as file:
        return _write(_FILES[form](file, schema), batches)


def to_pipe(pipe: BinaryIO, form: Format, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write the batches to `pipe` as they come; `arrow` is the stream format. Returns the number of rows."""
    rows = _write(_PIPES[form](pipe, schema), batches)
    pipe.flush()
    return rows


def _write(opened: AbstractContextManager[_Writer], batches: Iterable[pa.RecordBatch]) -> int:
    rows = 0
    with opened as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    try:
        # In the same folder, because a rename is atomic only within one file system.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            unfinished = Path(file.name)
            try:
                yield file  # type: ignore[misc]
                file.flush()
                unfinished.chmod(0o644)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise SetupError("bad-output", f"cannot write {str(path)!r}: {error.strerror or error}") from error


_Opener = Callable[[BinaryIO, pa.Schema], AbstractContextManager[_Writer]]


def _parquet(file: BinaryIO, schema: pa.Schema) -> AbstractContextManager[_Writer]:
    return pq.ParquetWriter(file, schema, compression="zstd")  # type: ignore[no-any-return]


_FILES: dict[Format, _Opener] = {
    "csv": lambda file, schema: pa_csv.CSVWriter(file, schema),
    "parquet": _parquet,
    "arrow": lambda file, schema: pa.ipc.new_file(file, schema),
}
_PIPES: dict[Format, _Opener] = {
    "csv": _FILES["csv"],
    "parquet": _parquet,
    "arrow": lambda file, schema: pa.ipc.new_stream(file, schema),
}
