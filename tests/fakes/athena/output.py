"""What queries leave in S3: one CSV with its metadata, or many Parquet files with a manifest.

Nothing written is ever removed here, as on AWS: a query that fails or is stopped leaves its files and no manifest.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from tests.fakes.athena.catalog import Store, split
from tests.fakes.athena.engine import Answer
from tests.fakes.athena.errors import QueryFailed
from tests.fakes.athena.faults import Faults
from tests.fakes.athena.text import text_column

# Encoding Parquet is CPU work outside the GIL; more threads than the small machines of tests have cores gain nothing.
_ENCODERS = 4
# Athena's limit of partitions of one UNLOAD, CTAS or INSERT.
PARTITIONS_MAX = 100


def filesystem(store: Store) -> pafs.S3FileSystem:
    scheme, _, host = store.s3_endpoint.partition("://")
    return pafs.S3FileSystem(
        endpoint_override=host,
        scheme=scheme,
        region=store.region,
        access_key=store.access_key,
        secret_key=store.secret_key,
        # A small object is then one request instead of three.
        allow_delayed_open=True,
    )


def write_csv(answer: Answer, files: pafs.FileSystem, uri: str, spool: Path, check: Callable[[int], None]) -> int:
    """Write `uri` as Athena does: every value quoted, nulls as nothing. The same text goes to `spool` as Arrow IPC,
    which GetQueryResults pages through. Returns the number of rows."""
    schema = pa.schema([(c.name, pa.string()) for c in answer.columns])
    rows = 0
    with (
        files.open_output_stream(uri.removeprefix("s3://")) as out,
        pa.ipc.new_file(str(spool), schema) as kept,
    ):
        out.write((",".join(f'"{_doubled(c.name)}"' for c in answer.columns) + "\n").encode())
        for batch in answer.batches(as_text=True):
            check(rows)
            columns = [text_column(a, c.type) for a, c in zip(batch.columns, answer.columns, strict=True)]
            kept.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            if batch.num_rows:
                out.write(_lines(columns))
            rows += batch.num_rows
    return rows


def _doubled(text: str) -> str:
    return text.replace('"', '""')


def _lines(columns: list[pa.Array]) -> memoryview:
    """The lines of a batch as they lie in Arrow's buffer: a million rows are no million Python strings."""
    quote = pa.scalar('"')
    none = pa.scalar("")
    quoted = [pc.binary_join_element_wise(quote, pc.replace_substring(c, '"', '""'), quote, none) for c in columns]
    comma, newline = pa.scalar(","), pa.scalar("\n")
    lines = pc.binary_join_element_wise(*quoted, comma, null_handling="replace", null_replacement="")
    ended = pc.binary_join_element_wise(lines, newline, none)
    offsets = np.frombuffer(ended.buffers()[1], np.int32)
    return memoryview(ended.buffers()[2])[offsets[ended.offset] : offsets[ended.offset + len(ended)]]


@dataclass
class _Part:
    """One open Parquet file and the rows that wait for its next row group."""

    uri: str
    sink: pa.NativeFile
    writer: pq.ParquetWriter
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    rows: int = 0
    flushed: bool = False

    def abandon(self) -> None:
        """Forget most of what waits: a query that is to stop must not encode for another second."""
        self.waiting = [] if self.flushed else [batch.slice(0, 1000) for batch in self.waiting[:1]]

    def flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.Table.from_batches(self.waiting))
            self.waiting, self.rows, self.flushed = [], 0, True

    def close(self) -> None:
        # ParquetWriter does not close a stream that it was given.
        with self.sink, self.writer:
            self.flush()


class PartWriter:
    """Spreads ordered rows at random over several files: each stays ordered, none continues another.
    With `ordered` False rows are mixed too: CTAS ignores ORDER BY.

    A file is opened when its first row comes, so that zero rows leave no file. `write` takes all batches; what it has
    opened is closed in every case.
    """

    def __init__(
        self, files: pafs.FileSystem, prefix: str, schema: pa.Schema, options: dict[str, Any], ordered: bool = True
    ) -> None:
        self.parts: dict[tuple[str, int], _Part] = {}
        self.rows = 0
        self._files = files
        self._prefix = prefix.rstrip("/") + "/"
        self._partitions = [c.lower() for c in options.get("partitioned_by", [])]
        self._schema = schema
        self._ordered = ordered
        self._kept = pa.schema([f for f in schema if f.name not in self._partitions])
        codec = str(options.get("compression") or options.get("write_compression") or "GZIP").upper()
        # Arrow's own default for gzip is its level 9: eight times the time of Java's default for nothing.
        self._level = options.get("compression_level") if codec == "ZSTD" else 6 if codec == "GZIP" else None
        self._codec = "NONE" if codec in ("NONE", "UNCOMPRESSED") else codec
        self._names = f"{time.strftime('%Y%m%d_%H%M%S')}_{secrets.randbelow(10**5):05d}_{secrets.token_hex(3)[:5]}"

    @property
    def uris(self) -> list[str]:
        return [part.uri for part in self.parts.values()]

    def write(self, batches: Iterator[pa.RecordBatch], faults: Faults, check: Callable[[int], None]) -> None:
        random = np.random.default_rng()
        with ThreadPoolExecutor(_ENCODERS) as pool:
            try:
                for raw in batches:
                    check(self.rows)
                    batch = pa.RecordBatch.from_arrays(raw.columns, schema=self._schema)
                    self.rows += batch.num_rows
                    for part, rows in self._spread(batch, faults.file_count, random):
                        part.waiting.append(rows)
                        part.rows += rows.num_rows
                    full = [p for p in self.parts.values() if p.rows >= faults.row_group_rows]
                    list(pool.map(_Part.flush, full))
            except BaseException:
                for part in self.parts.values():
                    part.abandon()
                raise
            finally:
                list(pool.map(_Part.close, self.parts.values()))

    def _spread(
        self, batch: pa.RecordBatch, count: int, random: np.random.Generator
    ) -> Iterator[tuple[_Part, pa.RecordBatch]]:
        if self._partitions:
            yield from self._by_partition(batch)
            return
        target = random.integers(count, size=batch.num_rows)
        if not self._ordered:
            batch = batch.take(pa.array(random.permutation(batch.num_rows)))
        mixed = batch.take(pa.array(np.argsort(target, kind="stable")))
        start = 0
        for i, size in enumerate(np.bincount(target, minlength=count).tolist()):
            if size:
                yield self._part("", i), mixed.slice(start, size)
            start += size

    def _by_partition(self, batch: pa.RecordBatch) -> Iterator[tuple[_Part, pa.RecordBatch]]:
        keys = [batch.column(name).cast(pa.string()) for name in self._partitions]
        folders = [f"{n}=" for n in self._partitions]
        pieces = [
            pc.binary_join_element_wise(pa.scalar(f), pc.fill_null(k, "__HIVE_DEFAULT_PARTITION__"), pa.scalar(""))
            for f, k in zip(folders, keys, strict=True)
        ]
        paths = pc.binary_join_element_wise(*pieces, pa.scalar("/")).dictionary_encode()
        for i, path in enumerate(paths.dictionary.to_pylist()):
            yield self._part(path + "/", 0), batch.select(self._kept.names).filter(pc.equal(paths.indices, i))

    def _part(self, folder: str, number: int) -> _Part:
        key = (folder, number)
        if key not in self.parts:
            if folder and len(self.parts) >= PARTITIONS_MAX:
                message = f"Exceeded limit of {PARTITIONS_MAX} open writers for partitions/buckets."
                raise QueryFailed("HIVE_TOO_MANY_OPEN_PARTITIONS", message)
            self.parts[key] = self._open(folder)
        return self.parts[key]

    def _open(self, folder: str) -> _Part:
        uri = f"{self._prefix}{folder}{self._names}_{uuid.uuid4()}"
        sink = self._files.open_output_stream(uri.removeprefix("s3://"))
        writer = pq.ParquetWriter(
            sink,
            self._kept,
            compression=self._codec,
            compression_level=self._level,
            use_deprecated_int96_timestamps=True,
            # Athena's files know nothing of Arrow.
            store_schema=False,
        )
        return _Part(uri, sink, writer)


def put(files: pafs.FileSystem, uri: str, body: bytes) -> None:
    with files.open_output_stream(uri.removeprefix("s3://")) as out:
        out.write(body)


def read_rows(spool: Path, start: int, count: int) -> list[list[str | None]]:
    """Rows [start, start + count) of a spooled result."""
    found: list[list[str | None]] = []
    with pa.memory_map(str(spool)) as source:
        reader = pa.ipc.open_file(source)
        at = 0
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            low, high = max(start - at, 0), min(start + count - at, batch.num_rows)
            if low < high:
                found += [
                    list(r) for r in zip(*(c.to_pylist() for c in batch.slice(low, high - low).columns), strict=True)
                ]
            at += batch.num_rows
            if at >= start + count:
                break
    return found


def target_is_empty(s3: Any, location: str) -> bool:
    bucket, prefix = split(location.rstrip("/") + "/")
    return not s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents")
