"""Writing an answer to a Parquet file, batch by batch: a file under its name is always a whole answer."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write(path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch], compression: str) -> int:
    """Write `batches` to `path` by way of a temporary file beside it, and return the rows.

    Memory holds one row group at most. Whatever goes wrong, Ctrl-C too, leaves `path` as it was and no other file.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder; name a file in it", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    part = Path(name)
    rows = 0
    try:
        with pq.ParquetWriter(part, schema, compression=compression) as writer:
            for batch in batches:
                # Small batches share a row group; a new one starts at a million rows.
                writer.write_batch(batch)
                rows += batch.num_rows
        # mkstemp's file is for its owner only; a file of one's own would have had the usual rights.
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return rows
