"""Reading Parquet parts: order, rows counted, damage noticed, INT96, the byte budget, cancellation."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from pyarrow import fs as pafs

from flight_server.errors import Cancelled, EngineFailed, ResultLost
from flight_server.model import Part, SortKey
from flight_server.results.parts import Budget, PartReader
from tests.fix_served import in_background
from tests.waiting import until

SCHEMA = pa.schema([pa.field("id", pa.int64(), False), pa.field("text", pa.string())])
ORDER = (SortKey("id"),)


@pytest.fixture
def reader() -> Iterator[PartReader]:
    opened = PartReader(pafs.LocalFileSystem(), Budget(64 << 20), 2, threads=4)
    yield opened
    opened.close()


def write(path: Path, ids: list[int], **options: object) -> Part:
    table = pa.table({"id": pa.array(ids, pa.int64()), "text": [f"row {i}" for i in ids]})
    pq.write_table(table, path, **{"row_group_size": 100, "store_schema": False, **options})
    return Part(str(path), len(ids), table.nbytes)


def rows(reader: PartReader, parts: list[Part], order: tuple[SortKey, ...] = ORDER, batch_rows: int = 64) -> list[int]:
    batches = reader.read(parts, SCHEMA, order, batch_rows, threading.Event())
    return [value for batch in batches for value in batch.column("id").to_pylist()]


def test_ordered_parts_are_merged(reader: PartReader, tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{i}", list(range(i, 3000, 3))) for i in range(3)]
    assert rows(reader, parts) == list(range(3000))


def test_unordered_parts_give_all_rows_once(reader: PartReader, tmp_path: Path) -> None:
    parts = [write(tmp_path / f"{i}", list(range(i * 500, (i + 1) * 500))) for i in range(7)]
    found = rows(reader, parts, ())
    assert sorted(found) == list(range(3500))


def test_an_unordered_part_does_not_wait_for_a_slow_one(tmp_path: Path) -> None:
    gate = threading.Event()
    parts = [write(tmp_path / "slow", [0, 1]), write(tmp_path / "fast", list(range(10, 500)))]
    slow = PartReader(pafs.PyFileSystem(Gated("slow", gate)), Budget(64 << 20), 2, threads=4)
    batches = slow.read(parts, SCHEMA, (), 64, threading.Event())
    seen: list[int] = []
    while len(seen) < 490:
        seen += next(batches).column("id").to_pylist()
    assert sorted(seen) == list(range(10, 500))
    gate.set()
    assert [v for batch in batches for v in batch.column("id").to_pylist()] == [0, 1]
    slow.close()


class Gated(pafs.FSSpecHandler):  # type: ignore[misc]
    """Local files; the one called `name` can be opened only when `gate` is set."""

    def __init__(self, name: str, gate: threading.Event) -> None:
        super().__init__(LocalFileSystem())
        self._name, self._gate = name, gate

    def open_input_file(self, path: str) -> pa.NativeFile:
        if path.endswith(self._name):
            assert self._gate.wait(60)
        return pafs.LocalFileSystem().open_input_file(path)


class Noted(pafs.FSSpecHandler):  # type: ignore[misc]
    """Local files that note what is read of each, and fail with what `fails` says once that many bytes were read."""

    def __init__(self, fails: tuple[int, OSError] | None = None) -> None:
        super().__init__(LocalFileSystem())
        self.bytes: dict[str, int] = {}
        self._fails = fails

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(NotedFile(path, self), "r")

    def note(self, path: str, count: int) -> None:
        name = Path(path).name
        self.bytes[name] = self.bytes.get(name, 0) + count
        if self._fails and self.bytes[name] > self._fails[0]:
            raise self._fails[1]


class NotedFile(io.BytesIO):
    def __init__(self, path: str, files: Noted) -> None:
        super().__init__(Path(path).read_bytes())
        self._path = path
        self._files = files

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self._files.note(self._path, len(found))
        return found


def test_parts_that_do_not_overlap_are_read_one_after_the_other(tmp_path: Path) -> None:
    files, rows_each = Noted(), 100_000
    # Written in another order than that of their keys.
    starts = {name: i * rows_each for i, name in enumerate("dbaec")}
    parts = [
        write(tmp_path / name, list(range(at, at + rows_each)), row_group_size=10_000) for name, at in starts.items()
    ]
    reader = PartReader(pafs.PyFileSystem(files), Budget(64 << 20), 2, threads=4)
    shuffled = sorted(parts, key=lambda part: part.path)
    seen: list[int] = []
    for batch in reader.read(shuffled, SCHEMA, ORDER, 5000, threading.Event()):
        if len(seen) < 80_000:
            # Of the last three nothing but the footers, which the first 64 KiB from the end have in them.
            assert all(files.bytes[name] <= 64 << 10 for name in "aec")
        seen += batch.column("id").to_pylist()
    assert seen == list(range(5 * rows_each))
    reader.close()


def test_one_part_among_several_that_overlaps_two_is_merged_with_both(reader: PartReader, tmp_path: Path) -> None:
    ids = {"a": range(1000, 2000), "b": [500, 999, 1000, 1500, 2500], "c": range(2000, 3000), "d": range(1000)}
    parts = [write(tmp_path / name, list(values)) for name, values in ids.items()]
    assert rows(reader, parts) == sorted(value for values in ids.values() for value in values)


def test_statistics_that_are_wrong_end_in_an_error(reader: PartReader, tmp_path: Path) -> None:
    parts = [
        write(tmp_path / "a", list(range(2000))),
        write(tmp_path / "b", list(range(3000, 4000)), row_group_size=1000),
    ]
    first, last = (number.to_bytes(8, "little") for number in (3000, 9000))
    content = (tmp_path / "b").read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    (tmp_path / "b").write_bytes(content[:footer] + content[footer:].replace(first, last))
    parts.append(write(tmp_path / "c", list(range(5000, 6000))))
    parts[1] = Part(parts[1].path, 1000, parts[1].bytes)
    found: list[int] = []
    with pytest.raises(EngineFailed, match="not in the order of the query"):
        for batch in reader.read(parts, SCHEMA, ORDER, 64, threading.Event()):
            found += batch.column("id").to_pylist()
    assert found == sorted(found)


@pytest.mark.parametrize("order", [ORDER, ()], ids=["ordered", "loose"])
@pytest.mark.parametrize(
    ("trouble", "kind", "text"),
    [
        (OSError("When reading: AWS Error SLOW_DOWN during GetObject"), EngineFailed, "AWS Error SLOW_DOWN"),
        (FileNotFoundError("gone"), ResultLost, "'a' is not there"),
        (OSError("it broke off"), ResultLost, "it broke off"),
    ],
    ids=["S3", "gone", "content"],
)
def test_trouble_in_the_middle_of_a_part_is_told_as_it_is(
    tmp_path: Path, order: tuple[SortKey, ...], trouble: OSError, kind: type[EngineFailed], text: str
) -> None:
    part = write(tmp_path / "a", list(range(100_000)), row_group_size=10_000)
    reader = PartReader(pafs.PyFileSystem(Noted((100_000, trouble))), Budget(64 << 20), 2, threads=4)
    with pytest.raises(EngineFailed, match=text) as told:
        rows(reader, [part], order)
    assert type(told.value) is kind
    reader.close()


@pytest.mark.parametrize("order", [ORDER, ()], ids=["ordered", "loose"])
def test_a_part_with_other_rows_than_noted_is_an_error(
    reader: PartReader, tmp_path: Path, order: tuple[SortKey, ...]
) -> None:
    parts = [write(tmp_path / "a", [1, 2, 3]), write(tmp_path / "b", [4, 5])]
    parts[1] = replace(parts[1], rows=3)
    with pytest.raises(ResultLost, match="changed after the query had ended"):
        rows(reader, parts, order)


@pytest.mark.parametrize("order", [ORDER, ()], ids=["ordered", "loose"])
def test_damage_to_a_part_with_page_checksums_never_passes(
    reader: PartReader, tmp_path: Path, order: tuple[SortKey, ...]
) -> None:
    path = tmp_path / "a"
    part = write(path, list(range(2000)), write_page_checksum=True, compression="zstd")
    good, right = path.read_bytes(), {"id": list(range(2000)), "text": [f"row {i}" for i in range(2000)]}
    noticed = 0
    for at in range(4, len(good), 37):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
        try:
            found = pa.Table.from_batches(reader.read([part], SCHEMA, order, 64, threading.Event()))
        except EngineFailed:
            noticed += 1
        else:
            assert found.to_pydict() == right
    assert noticed > 10


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -8])
def test_a_part_cut_short_is_lost(reader: PartReader, tmp_path: Path, keep: int) -> None:
    part = write(tmp_path / "a", list(range(300)))
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:keep])
    with pytest.raises(ResultLost, match="part 'a' cannot be read"):
        rows(reader, [part])
    with pytest.raises(ResultLost, match="part 'a' cannot be read"):
        reader.inspect([part.path], threading.Event())


def test_a_missing_part_is_lost(reader: PartReader, tmp_path: Path) -> None:
    part = Part(str(tmp_path / "gone"), 3, 10)
    with pytest.raises(ResultLost, match="'gone' is not there"):
        rows(reader, [part])
    with pytest.raises(ResultLost, match="'gone' is not there"):
        reader.inspect([part.path], threading.Event())


def test_a_part_with_other_columns_is_lost(reader: PartReader, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a")
    with pytest.raises(ResultLost, match="1 columns, not 2"):
        rows(reader, [Part(str(tmp_path / "a"), 1, 8)])


def test_inspect_tells_rows_and_bytes_from_the_footers(reader: PartReader, tmp_path: Path) -> None:
    write(tmp_path / "a", list(range(250)))
    (found,) = reader.inspect([str(tmp_path / "a")], threading.Event())
    assert found.rows == 250
    assert found.bytes > 250 * 8


def test_int96_keeps_the_years_1_and_9999(reader: PartReader, tmp_path: Path) -> None:
    # Arrow's writer goes through nanoseconds; Hive's days and nanoseconds of the day are written here by hand.
    schema = pa.schema([pa.field("ts", pa.timestamp("us"))])
    values = [-62_135_596_800_000_000, -1_000, 0, 253_402_300_799_999_000]
    path = tmp_path / "int96"
    write_int96(path, values)
    assert pq.ParquetFile(path).schema.column(0).physical_type == "INT96"
    batches = list(reader.read([Part(str(path), 4, 48)], schema, (), 64, threading.Event()))
    assert batches[0].column(0).cast(pa.int64()).to_pylist() == values


def write_int96(path: Path, micros: list[int]) -> None:
    """A Parquet file of one INT96 column `ts`: values of the right width are written, then replaced in the page."""
    julian_epoch, day_us = 2_440_588, 86_400_000_000
    days = [divmod(value, day_us) for value in micros]
    raw = b"".join((us * 1000).to_bytes(8, "little") + (day + julian_epoch).to_bytes(4, "little") for day, us in days)
    stand_ins = pa.array(range(1, len(micros) + 1), pa.timestamp("us"))
    pq.write_table(
        pa.table({"ts": stand_ins}),
        path,
        use_deprecated_int96_timestamps=True,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
    )
    written = b"".join((i * 1000).to_bytes(8, "little") + julian_epoch.to_bytes(4, "little") for i in range(1, 5))
    content = path.read_bytes()
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, raw))


def test_a_cancelled_read_stops(reader: PartReader, tmp_path: Path) -> None:
    cancelled = threading.Event()
    parts = [write(tmp_path / f"{i}", list(range(i, 3000, 3))) for i in range(3)]
    batches = reader.read(parts, SCHEMA, ORDER, 64, cancelled)
    next(batches)
    cancelled.set()
    with pytest.raises(Cancelled):
        list(batches)


def test_the_budget_is_free_again_after_every_kind_of_end(tmp_path: Path) -> None:
    budget = Budget(64 << 20)
    reader = PartReader(pafs.LocalFileSystem(), budget, 2, threads=16)
    parts = [write(tmp_path / f"{i}", list(range(i, 3000, 3))) for i in range(3)]
    rows(reader, parts)
    assert budget.in_use == 0
    batches = reader.read(parts, SCHEMA, ORDER, 64, threading.Event())
    next(batches)
    assert budget.in_use > 0
    batches.close()  # type: ignore[attr-defined]
    assert budget.in_use == 0
    with pytest.raises(ResultLost):
        rows(reader, [replace(parts[0], rows=5)])
    assert budget.in_use == 0
    reader.close()


def test_several_streams_read_at_once_whatever_their_parts(tmp_path: Path) -> None:
    """One reader that its client leaves waiting must not keep the others out."""
    budget = Budget(64 << 20)
    reader = PartReader(pafs.LocalFileSystem(), budget, 4, threads=16)
    rows_each = 20_000
    parts = [write(tmp_path / f"{i}", list(range(i, 8 * rows_each, 8)), row_group_size=rows_each) for i in range(8)]
    slow = [reader.read(parts, SCHEMA, ORDER, 65_536, threading.Event()) for _ in range(3)]
    for batches in slow:
        next(batches)
    assert in_background(rows, reader, parts).get(60) == list(range(8 * rows_each))
    for batches in slow:
        batches.close()  # type: ignore[attr-defined]
    assert budget.in_use == 0
    reader.close()


def test_the_budget_serves_in_the_order_of_arrival() -> None:
    """Also who would fit into what is free; both together do not, so one is done before the other begins."""
    budget = Budget(100)
    served: list[str] = []
    never = threading.Event()

    def take(name: str, size: int) -> None:
        with budget.hold(lambda _: size, never):
            served.append(name)

    with budget.hold(lambda _: 60, never):
        large = in_background(take, "large", 80)
        until(lambda: budget.waiting == 1)
        small = in_background(take, "small", 30)
        until(lambda: budget.waiting == 2)
        assert served == []
    large.get()
    small.get()
    assert served == ["large", "small"]
    assert budget.in_use == 0


def test_of_two_readers_that_come_at_once_the_second_has_a_smaller_share() -> None:
    budget, never = Budget(96 << 20), threading.Event()
    with budget.hold(lambda share: share, never) as first, budget.hold(lambda share: share, never) as second:
        assert first == 32 << 20
        assert second == (64 << 20) // 3


def test_more_than_the_whole_budget_is_the_whole_budget() -> None:
    budget = Budget(100)
    with budget.hold(lambda _: 1000, threading.Event()):
        assert budget.in_use == 100


def test_waiting_for_the_budget_can_be_cancelled_and_leaves_the_queue() -> None:
    budget = Budget(100)
    cancelled = threading.Event()

    def take(size: int, stop: threading.Event) -> float:
        with budget.hold(lambda _: size, stop):
            return time.monotonic()

    with budget.hold(lambda _: 60, threading.Event()):
        waiting = in_background(take, 80, cancelled)
        until(lambda: budget.waiting == 1)
        behind = in_background(take, 10, threading.Event())
        cancelled.set()
        with pytest.raises(Cancelled):
            waiting.get()
        behind.get()
    assert budget.in_use == 0
