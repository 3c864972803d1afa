"""Ways to the bytes of parts, measured: ranges alone, and results read in order through each. Run it with `-s`.

pyarrow.fs, s3fs and boto3 against the local S3, whose server is Python and has a processor in common with the reader;
a local folder, for what reading takes without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
import s3fs
from botocore.config import Config as BotoConfig
from pyarrow import fs as pafs

from flight_server.model import Part
from flight_server.results.parts import Budget, PartReader
from tests import large
from tests.fakes.athena.output import filesystem
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab, Labs
from tests.large import LARGE

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
ROWS, ROUNDS = 5_000_000, 3
KIB = 1 << 10
Fetch = Callable[[str, int, int], bytes]


@dataclass
class Ranges:
    """As much of a file system as parts are read from, over a function that fetches `count` bytes from `start` on."""

    fetch: Fetch
    sizes: Mapping[str, int]

    def open_input_file(self, path: str) -> Range:
        return Range(self.fetch, path, self.sizes[path])


@dataclass
class Range:
    fetch: Fetch
    path: str
    bytes: int

    def size(self) -> int:
        return self.bytes

    def read_at(self, count: int, start: int) -> bytes:
        return self.fetch(self.path, start, count)


def ways(aws: LocalAws, sizes: Mapping[str, int]) -> dict[str, Any]:
    store = aws.store
    fsspec = s3fs.S3FileSystem(endpoint_url=store.s3_endpoint, key=store.access_key, secret=store.secret_key)
    client = boto3.client(
        "s3",
        endpoint_url=store.s3_endpoint,
        region_name=store.region,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        config=BotoConfig(max_pool_connections=32),
    )

    def by_boto3(path: str, start: int, count: int) -> bytes:
        bucket, _, key = path.partition("/")
        found = client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + count - 1}")
        return bytes(found["Body"].read())

    return {
        "pyarrow.fs": filesystem(store),
        "s3fs": Ranges(lambda path, start, count: fsspec.cat_file(path, start=start, end=start + count), sizes),
        "boto3": Ranges(by_boto3, sizes),
    }


def test_all_ways_give_the_same_rows(labs: Labs, aws: LocalAws, tmp_path: Path) -> None:
    lab = labs.open({"large": LARGE})
    parts = large.store(aws, lab, ROWS, 8).parts
    files = filesystem(aws.store)
    sizes = {part.path: files.get_file_info(part.path).size for part in parts}
    tried = ways(aws, sizes)
    for count in (64 * KIB, 1024 * KIB, 4096 * KIB):
        for connections in (1, 2, 4, 8):
            for name, way in tried.items():
                requests, took, cpu = ranged(way, sizes, count, connections)
                print(
                    f"\n{name}: {requests} requests of {count // KIB} KiB, {connections} at once: "
                    f"{requests * count / took / 1e6:.0f} MB/s, {requests / took:.0f} requests/s, {cpu:.1f} s of CPU",
                    end="",
                )
    for name, way in [*tried.items()] * ROUNDS:
        merged(f"{name}, local S3", lab, way, parts)
    local = [Part(str(tmp_path / str(i)), part.rows, part.bytes) for i, part in enumerate(parts)]
    for part, copy in zip(parts, local, strict=True):
        pafs.copy_files(part.path, copy.path, source_filesystem=files, destination_filesystem=pafs.LocalFileSystem())
    for _ in range(ROUNDS):
        merged("local folder", lab, pafs.LocalFileSystem(), tuple(local))


def ranged(way: Any, sizes: Mapping[str, int], count: int, connections: int) -> tuple[int, float, float]:
    """Ranges of all parts in turn: how many, in which time, for which CPU time of this process."""
    wanted = [(path, start) for path, size in sizes.items() for start in range(0, size - count, count)][:300]
    opened = {path: way.open_input_file(path) for path in sizes}
    began, before = time.monotonic(), time.process_time()
    with ThreadPoolExecutor(connections) as pool:
        found = list(pool.map(lambda each: len(opened[each[0]].read_at(count, each[1])), wanted))
    took, cpu = time.monotonic() - began, time.process_time() - before
    assert set(found) == {count}
    return len(wanted), took, cpu


def merged(name: str, lab: Lab, way: Any, parts: tuple[Part, ...]) -> None:
    dataset = lab.plan("large").dataset
    reader = PartReader(way, Budget(lab.config.results.read_bytes_max), lab.config.results.parts_ahead, 16)
    # Tags are compared with those of pyarrow.fs, which alone gives them here.
    plain = [Part(part.path, part.rows, part.bytes) for part in parts]
    for order in (dataset.sorted, ()):
        began, before, first = time.monotonic(), time.process_time(), 0.0
        rows = 0
        for batch in reader.read(plain, dataset.schema, order, 65_536, threading.Event()):
            first = first or time.monotonic() - began
            rows += batch.num_rows
            assert isinstance(batch, pa.RecordBatch)
        took = time.monotonic() - began
        assert rows == ROWS
        print(
            f"\n{name}, {'ordered' if order else 'unordered'}: {rows / took / 1e6:.2f} million rows/s, first batch "
            f"after {first * 1000:.0f} ms, {time.process_time() - before:.1f} s of CPU",
            end="",
        )
    reader.close()
