"""pyarrow.fs against s3fs for reading parts: the same rows through both, and how long each takes. Run it with `-s`."""

from __future__ import annotations

import threading
import time

import pyarrow as pa
import pytest
import s3fs
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


def test_both_data_paths_give_the_same_rows(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"large": LARGE})
    parts = large.store(aws, lab, ROWS, 8).parts
    store = aws.store
    other = s3fs.S3FileSystem(endpoint_url=store.s3_endpoint, key=store.access_key, secret=store.secret_key)
    paths = {"pyarrow.fs": filesystem(store), "s3fs": pafs.PyFileSystem(pafs.FSSpecHandler(other))}
    size = sum(filesystem(store).get_file_info(part.path).size for part in parts)
    for name, files in [(name, files) for _ in range(ROUNDS) for name, files in paths.items()]:
        raw = _fetched(files, [part.path for part in parts])
        began = time.monotonic()
        rows = _merged(lab, files, parts)
        merged = time.monotonic() - began
        print(
            f"\n{name}: {size / 1e6:.0f} MB fetched in {raw:.2f} s, {size / raw / 1e6:.0f} MB/s; "
            f"{rows:,} rows merged in {merged:.2f} s, {rows / merged / 1e6:.2f} million rows/s"
        )
        assert rows == ROWS


def _fetched(files: pafs.FileSystem, paths: list[str]) -> float:
    """Seconds to fetch the objects whole, one after another, 8 MiB at a time."""
    began = time.monotonic()
    for path in paths:
        with files.open_input_file(path) as source:
            while source.read(8 << 20):
                pass
    return time.monotonic() - began


def _merged(lab: Lab, files: pafs.FileSystem, parts: tuple[Part, ...]) -> int:
    dataset = lab.plan("large").dataset
    reader = PartReader(files, Budget(lab.config.results.read_bytes_max), lab.config.results.parts_ahead)
    # s3fs writes its tags without the quotes of the header.
    plain = [Part(part.path, part.rows, part.bytes) for part in parts]
    batches = reader.read(plain, dataset.schema, dataset.sorted, 65_536, threading.Event())
    rows = sum(_checked(batch) for batch in batches)
    reader.close()
    return rows


def _checked(batch: pa.RecordBatch) -> int:
    assert batch.num_columns == 6
    return int(batch.num_rows)
