"""Rewriting small files: fewer of them, the same rows, in one commit."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat, ManifestContent, ManifestEntry, write_manifest
from pyiceberg.table import Table

from flight_server.errors import TableError
from flight_server.plan.scan import PUBLISHED
from flight_server.tables.catalog import find_table
from flight_server.tables.load import chunks
from flight_server.tables.optimize import OPTIMIZED, optimize

Make = Callable[..., Table]
COLUMNS = "id bigint, day date, tags array<string>, at timestamp, amount decimal(9,2), note string"
START = date(2024, 1, 1)


def rows(table: Table, first: int, count: int) -> pa.Table:
    ids = range(first, first + count)
    data: dict[str, list[Any]] = {
        "id": list(ids),
        "day": [START + timedelta(days=i % 60) for i in ids],
        "tags": [[str(i), None] if i % 3 else None for i in ids],
        "at": [datetime(2024, 1, 1, 0, 0, 0, i) for i in ids],
        "amount": [None if i % 5 == 0 else i for i in ids],
        "note": [f"note {i}" for i in ids],
    }
    schema = schema_to_pyarrow(table.schema(), include_field_ids=False)
    return pa.table(data, pa.schema([field.with_type(_plain(field.type)) for field in schema])).cast(schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    return pa.decimal128(9, 2) if pa.types.is_decimal(kind) else kind


def content(table: Table) -> list[dict[str, Any]]:
    found = table.scan().to_arrow().to_pylist()
    return sorted(found, key=lambda row: row["id"])


def files(table: Table) -> list[DataFile]:
    return [task.file for task in table.scan().plan_files()]


@pytest.fixture
def small(make_table: Make) -> Table:
    """12 appends of 100 rows over three months: 36 files."""
    table = make_table("small", COLUMNS, ("id",), "PARTITIONED BY (month(day))")
    for number in range(12):
        table.append(rows(table, number * 100, 100))
    return table


def test_one_file_for_each_partition_and_the_same_rows(small: Table) -> None:
    before, count = content(small), len(files(small))
    done = optimize(small)
    assert (done.files_before, done.files_after) == (count, 2)
    assert done.bytes_after == sum(file.file_size_in_bytes for file in files(small)) < done.bytes_before
    assert content(small) == before
    assert {file.record_count for file in files(small)} == {
        sum(row["day"].month == month for row in before) for month in (1, 2)
    }
    assert len(small.snapshots()) == 13


def test_what_was_rewritten_is_not_rewritten_again(small: Table) -> None:
    optimize(small)
    snapshots = len(small.snapshots())
    done = optimize(small)
    assert (done.files_before, done.files_after, len(small.snapshots())) == (2, 2, snapshots)
    small.append(rows(small, 5000, 10))
    assert optimize(small).files_after == 2


def test_files_are_found_by_their_columns_statistics_as_before(small: Table) -> None:
    """Wrong bounds would hide rows from every query that filters."""
    optimize(small)
    assert small.scan(row_filter="day = '2024-02-10'").to_arrow().num_rows == sum(
        row["day"] == date(2024, 2, 10) for row in content(small)
    )
    assert small.scan(row_filter="id = 777").to_arrow()["note"].to_pylist() == ["note 777"]
    assert list(small.scan(row_filter="id > 100000").plan_files()) == []
    for file in files(small):
        physical = pq.read_schema(file.file_path)
        assert [int(field.metadata[b"PARQUET:field_id"]) for field in physical] == [1, 2, 3, 4, 5, 6]


def test_files_of_the_target_size_stay(make_table: Make, catalog: Catalog) -> None:
    table = make_table("large", COLUMNS)
    table.append(rows(table, 0, 20_000))
    size = files(table)[0].file_size_in_bytes
    with table.transaction() as transaction:
        transaction.set_properties({"write.target-file-size-bytes": str(size)})
    for number in range(4):
        table.append(rows(table, 30_000 + number, 1))
    large = max(files(table), key=lambda file: file.file_size_in_bytes).file_path
    done = optimize(table)
    assert (done.files_before, done.files_after) == (5, 2)
    assert large in {file.file_path for file in files(table)}


def test_bins_are_no_larger_than_the_target(make_table: Make) -> None:
    table = make_table("bins", COLUMNS)
    for number in range(6):
        table.append(rows(table, number * 1000, 1000))
    size = max(file.file_size_in_bytes for file in files(table))
    with table.transaction() as transaction:
        transaction.set_properties({"write.target-file-size-bytes": str(2 * size)})
    before = content(table)
    assert optimize(table).files_after == 3
    assert content(table) == before


def test_many_chunks_make_one_file(small: Table) -> None:
    before = content(small)
    assert optimize(small, chunk_bytes=2_000).files_after == 2
    assert content(small) == before
    assert max(pq.read_metadata(file.file_path).num_row_groups for file in files(small)) > 3


def test_a_column_that_old_files_lack_is_null(small: Table) -> None:
    newer = rows(small, 9000, 3).rename_columns(["id", "day", "tags", "at", "amount", "remark"])
    with small.update_schema() as update:
        update.add_column("extra", small.schema().find_type("note"))
        update.rename_column("note", "remark")
    small.append(newer)
    before = content(small)
    optimize(small)
    assert content(small) == before
    assert before[0]["remark"] == "note 0"


def test_an_empty_table_has_nothing_to_rewrite(make_table: Make) -> None:
    table = make_table("empty", COLUMNS)
    assert optimize(table).files_before == 0
    assert table.snapshots() == []


def test_readers_of_a_published_snapshot_are_moved_with_it(small: Table) -> None:
    published = small.metadata.current_snapshot_id
    with small.transaction() as transaction:
        transaction.set_properties({PUBLISHED: str(published)})
    optimize(small)
    assert small.properties[PUBLISHED] == str(small.metadata.current_snapshot_id) != str(published)


def test_a_half_filled_table_keeps_what_it_publishes(small: Table) -> None:
    with small.transaction() as transaction:
        transaction.set_properties({PUBLISHED: str(small.snapshots()[0].snapshot_id)})
    optimize(small)
    assert small.properties[PUBLISHED] == str(small.snapshots()[0].snapshot_id)


def test_another_commit_in_between_wins_and_nothing_is_left(small: Table, catalog: Catalog) -> None:
    other = find_table(catalog, "t.small")
    other.delete("id < 150")
    kept = content(other)
    on_disk = set(Path(small.location()).rglob("*.parquet"))
    with pytest.raises(TableError, match=r"cannot write to table 't\.small'.*it is as it was, try again"):
        optimize(small)
    assert set(Path(small.location()).rglob("*.parquet")) == on_disk
    assert content(find_table(catalog, "t.small")) == kept


def test_a_row_that_is_lost_while_reading_changes_nothing(small: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    before, on_disk = small.metadata_location, set(Path(small.location()).rglob("*.parquet"))
    monkeypatch.setattr(
        "flight_server.tables.optimize.chunks", lambda *given: (chunk.slice(1) for chunk in chunks(*given))
    )
    with pytest.raises(TableError, match=r"\d+ rows of t\.small were read as \d+: nothing was changed"):
        optimize(small)
    assert small.refresh().metadata_location == before
    assert set(Path(small.location()).rglob("*.parquet")) == on_disk


def test_the_snapshot_says_what_it_is(small: Table) -> None:
    optimize(small)
    current = small.current_snapshot()
    assert current is not None
    assert current.summary is not None
    assert current.summary.get(OPTIMIZED) == "true"
    assert current.summary.get("total-records") == "1200"


def test_deleted_rows_are_left_out(small: Table, catalog: Catalog) -> None:
    """Position deletes, as Athena writes them; pyiceberg reads and does not write these."""
    victim = files(small)[0]
    add_position_deletes(small, victim.file_path, [0, 2])
    table = find_table(catalog, "t.small")
    before = content(table)
    assert len(before) == 1198
    done = optimize(table)
    assert done.files_after == 2
    assert content(table) == before
    assert sum(file.record_count for file in files(table)) == 1198


def test_a_single_file_with_deleted_rows_is_worth_it(make_table: Make, catalog: Catalog) -> None:
    table = make_table("single", COLUMNS)
    table.append(rows(table, 0, 5))
    add_position_deletes(table, files(table)[0].file_path, [0, 1, 2, 3, 4])
    table = find_table(catalog, "t.single")
    done = optimize(table)
    assert (done.files_before, done.files_after) == (1, 0)
    assert content(table) == []


def add_position_deletes(table: Table, path: str, positions: list[int]) -> None:
    """Commit a position delete file for one data file."""
    field = {b"PARQUET:field_id": b"2147483546"}, {b"PARQUET:field_id": b"2147483545"}
    schema = pa.schema(
        [pa.field("file_path", pa.string(), False, field[0]), pa.field("pos", pa.int64(), False, field[1])]
    )
    target = f"{os.path.dirname(path)}/{uuid.uuid4()}-deletes.parquet"  # noqa: PTH120 - a URI
    pq.write_table(pa.table({"file_path": [path] * len(positions), "pos": positions}, schema), target)
    data = next(file for file in files(table) if file.file_path == path)
    delete = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=target,
        file_format=FileFormat.PARQUET,
        partition=data.partition,
        record_count=len(positions),
        file_size_in_bytes=Path(target).stat().st_size,
        sort_order_id=None,
        spec_id=table.metadata.default_spec_id,
        equality_ids=None,
        key_metadata=None,
    )
    transaction = table.transaction()
    with transaction.update_snapshot().fast_append() as snapshot:
        manifests = snapshot._manifests
        snapshot._manifests = lambda: [*manifests(), _delete_manifest(table, snapshot, delete)]  # type: ignore[method-assign]
    transaction.commit_transaction()


def _delete_manifest(table: Table, snapshot: Any, delete: DataFile) -> Any:
    output = snapshot.new_manifest_output()
    writer = write_manifest(2, table.spec(), table.schema(), output, snapshot.snapshot_id, "deflate")
    writer.content = lambda: ManifestContent.DELETES  # type: ignore[method-assign]
    with writer:
        writer.add(ManifestEntry.from_args(status=1, snapshot_id=snapshot.snapshot_id, data_file=delete))
    return writer.to_manifest_file()
