"""Parquet's footer from its bytes: as pyarrow tells it, and damage told as an error."""

from __future__ import annotations

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_server.results.footer import row_groups


def footer(path: Path) -> tuple[bytes, int]:
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    return content[-8 - length : -8], len(content)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    count = 5000
    table = pa.table(
        {
            "id": pa.array(range(-7, count - 7), pa.int64()),
            "day": pa.array([datetime.date(1969, 12, 30)] * count, pa.date32()),
            "text": [f"text {i % 50}" for i in range(count)],
            "number": pa.array([0.5] * count),
            "nested": [{"a": [i], "b": {"id": i}} for i in range(count)],
            "empty": pa.nulls(count, pa.int32()),
        }
    )
    # More row groups than Thrift's short form of a list has room for.
    pq.write_table(table, tmp_path / "a", row_group_size=200, compression="zstd")
    return tmp_path / "a"


def test_it_says_what_pyarrow_says(written: Path) -> None:
    found = row_groups(*footer(written))
    known = pq.read_metadata(written)
    assert len(found) == known.num_row_groups == 25
    for number, group in enumerate(found):
        for i, chunk in enumerate(group):
            column = known.row_group(number).column(i)
            first = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
            assert (chunk.start, chunk.stop) == (first, first + column.total_compressed_size)
            assert (chunk.unpacked, chunk.path) == (column.total_uncompressed_size, column.path_in_schema)
            numbers = column.physical_type in ("INT32", "INT64") and column.statistics.has_min_max
            assert chunk.extremes == ((column.statistics.min_raw, column.statistics.max_raw) if numbers else None), (
                chunk.path
            )
    assert found[0][0].extremes == (-7, 192)
    assert found[0][1].extremes == (-2, -2)


def test_without_statistics_there_are_no_extremes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "a", write_statistics=False)
    ((chunk,),) = row_groups(*footer(tmp_path / "a"))
    assert chunk.extremes is None


def test_every_damage_is_told_or_does_no_harm(written: Path) -> None:
    good, size = footer(written)
    told = 0
    for at in range(0, len(good), 29):
        try:
            found = row_groups(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :], size)
        except pa.ArrowInvalid:
            told += 1
        else:
            assert all(0 <= chunk.start <= chunk.stop <= size for group in found for chunk in group)
    assert told > 200


@pytest.mark.parametrize("footer", [b"", b"\x15", b"\x1c" * 500, b"\x49\xf5\xff\xff\xff\xff\x0f", b"\x18\xff\xff\x03a"])
def test_what_is_no_footer_is_an_error(footer: bytes) -> None:
    with pytest.raises(pa.ArrowInvalid, match="the footer is damaged"):
        row_groups(footer, 1000)


def test_a_column_beyond_the_end_of_the_part_is_an_error(written: Path) -> None:
    good, size = footer(written)
    with pytest.raises(pa.ArrowInvalid, match=r"names bytes \d+ to \d+ of 300"):
        row_groups(good, 300)
    assert row_groups(good, size)
