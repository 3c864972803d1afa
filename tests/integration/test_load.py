"""Loading files into tables: what is accepted, what is refused and how it is said; a failure leaves no trace."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import subprocess
import sys
import textwrap
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from flight_server.errors import TableError
from flight_server.tables.catalog import find_table
from flight_server.tables.load import FILE, SHA256, load_file

MakeTable = Callable[..., Table]
HEADER = "meta_id,trade_date,close,adj_close,gross_return\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def data_files(table: Table) -> set[str]:
    return {str(path) for path in Path(table.location()).rglob("*.parquet")}


def refusal(table: Table, path: Path, **options: Any) -> str:
    """The message of a refused load, after checking that it left nothing behind."""
    before, files = table.metadata_location, data_files(table)
    with pytest.raises(TableError) as caught:
        load_file(table, path, **options)
    table.refresh()
    assert table.metadata_location == before
    assert data_files(table) == files
    return str(caught.value)


def test_csv_becomes_the_tables_types_in_one_snapshot(prices: Table, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + "1,2010-01-04,214.01,28.4,\n1,2010-02-01,194.73,25.8,-0.0901\n")
    loaded = load_file(prices, path)
    assert (loaded.rows, loaded.files) == (2, 2)
    assert [snapshot.snapshot_id for snapshot in prices.snapshots()] == [loaded.snapshot_id]
    rows = prices.scan().to_arrow().sort_by("trade_date").to_pylist()
    assert rows[0] == {
        "meta_id": 1,
        "trade_date": dt.date(2010, 1, 4),
        "close": pytest.approx(214.01),
        "adj_close": pytest.approx(28.4),
        "gross_return": None,
    }


def test_data_is_written_with_zstd_one_file_a_month(prices: Table, tmp_path: Path) -> None:
    load_file(prices, write(tmp_path / "a.csv", HEADER + "1,2010-01-04,1,1,\n2,2010-01-05,1,1,\n1,2010-02-01,1,1,0\n"))
    files = sorted(data_files(prices))
    assert [Path(name).parent.name for name in files] == ["trade_date_month=2010-01", "trade_date_month=2010-02"]
    assert pq.ParquetFile(files[0]).metadata.row_group(0).column(0).compression == "ZSTD"


def test_columns_may_be_in_any_order_and_nullable_ones_missing(prices: Table, tmp_path: Path) -> None:
    load_file(prices, write(tmp_path / "a.csv", "trade_date,meta_id\n2010-01-04,7\n"))
    assert prices.scan().to_arrow().to_pylist()[0]["close"] is None


def formats(tmp_path: Path) -> list[Path]:
    table = pa.table({"a": pa.array([1, 2], pa.int32()), "b": ["x", None]})
    pq.write_table(table, tmp_path / "p.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "f.feather")
    with pyarrow.ipc.new_file(tmp_path / "i.arrow", table.schema) as writer:
        writer.write_table(table)
    with pyarrow.ipc.new_stream(tmp_path / "s.arrows", table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "c.csv").write_text("a,b\n1,x\n2,\n")
    with gzip.open(tmp_path / "z.csv.gz", "wt") as file:
        file.write("a,b\n1,x\n2,\n")
    return [tmp_path / name for name in ("p.parquet", "f.feather", "i.arrow", "s.arrows", "c.csv", "z.csv.gz")]


@pytest.mark.parametrize("number", range(6))
def test_every_format_loads_the_same_rows(make_table: MakeTable, tmp_path: Path, number: int) -> None:
    table = make_table("all", "a int, b string", ("a",))
    seen: list[tuple[float, int]] = []
    load_file(table, formats(tmp_path)[number], progress=lambda done, rows: seen.append((done, rows)))
    assert table.scan().to_arrow().to_pylist() == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    assert seen[-1][1] == 2
    assert 0 <= seen[-1][0] <= 1


def test_only_an_unquoted_empty_csv_field_is_null(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table("texts", "a int, b string")
    load_file(table, write(tmp_path / "a.csv", 'a,b\n1,\n2,""\n3,NA\n4,null\n5,"x\ny"\n'))
    assert table.scan().to_arrow()["b"].to_pylist() == [None, "", "NA", "null", "x\ny"]


def test_a_quoted_csv_value_may_lie_across_blocks(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table("blocks", "a int, b string")
    lines = "line\n" * 1000
    text = "a,b\n" + "".join(f'{number},"{lines}"\n' for number in range(2000))
    assert load_file(table, write(tmp_path / "a.csv", text)).rows == 2000
    assert set(table.scan().to_arrow()["b"].to_pylist()) == {lines}


@pytest.mark.parametrize(
    ("suffix", "offsets", "text"),
    [
        ("arrow", [0, 1, 2], b"a\xff"),
        ("parquet", [0, 1, 2], b"a\xff"),
        ("arrow", [0, 5000, 3], b"abc"),
    ],
)
def test_a_damaged_text_is_refused(
    make_table: MakeTable, tmp_path: Path, suffix: str, offsets: list[int], text: bytes
) -> None:
    buffers = [None, pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(text)]
    table = pa.table({"s": pa.Array.from_buffers(pa.string(), 2, buffers)})
    path = tmp_path / f"a.{suffix}"
    if suffix == "arrow":
        with pyarrow.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path)
    assert path.name in refusal(make_table("damaged", "s string"), path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("meta_id,trade_date,clos\n1,2010-01-04,1\n", "column 'clos' is not in the table; did you mean 'close'?"),
        ("meta_id,close\n1,1\n", "column 'trade_date' is missing and must not be null"),
        ("meta_id,meta_id,trade_date\n1,1,2010-01-04\n", "column 'meta_id' is there 2 times"),
        ("meta_id,trade_date\n1,2010-01-04\n,2010-01-05\n", "column 'meta_id', row 2: null, but the column must not"),
        ("meta_id,trade_date\n1,2010-01-04\n1.5,2010-01-05\n", "column 'meta_id', row 2: '1.5' is not a valid int32"),
        ("meta_id,trade_date\n3000000000,2010-01-04\n", "column 'meta_id', row 1: '3000000000' is not a valid int32"),
        ("meta_id,trade_date\n1,04.01.2010\n", "column 'trade_date', row 1: '04.01.2010' is not a valid date32"),
        ("meta_id,trade_date\n1,2010-02-30\n", "column 'trade_date', row 1: '2010-02-30' is not a valid date32"),
        ("meta_id,trade_date,close\n1,2010-02-03,1e39\n", "column 'close', row 1: '1e39' is too large for float"),
        ("meta_id,trade_date,close\n1,2010-02-03,$5\n", "column 'close', row 1: '$5' is not a valid float"),
        ("meta_id,trade_date\n1\n", "Expected 2 columns, got 1"),
        ("", "Empty CSV"),
    ],
)
def test_bad_csv_is_refused_by_column_row_and_value(prices: Table, tmp_path: Path, text: str, message: str) -> None:
    said = refusal(prices, write(tmp_path / "bad.csv", text))
    assert message in said
    assert "bad.csv" in said


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, 2**31], pa.int64()), "column 'i', row 2: 2147483648 does not fit int32 without loss"),
        (pa.array([1.0, 1.5]), "column 'i', row 2: 1.5 does not fit int32 without loss"),
        (pa.array([1.0, float("nan")]), "column 'i', row 2: nan does not fit int32 without loss"),
        (pa.array(["1", "2"]), "column 'i' is string in the file and int32 in the table"),
        (pa.array([True, False]), "column 'i' is bool in the file and int32 in the table"),
        (pa.array([dt.date(2020, 1, 1)] * 2), "column 'i' is date32[day] in the file and int32 in the table"),
        (pa.array([[1], [2]]), "column 'i' is list<element: int64> in the file and int32 in the table"),
    ],
)
def test_a_typed_value_that_does_not_fit_is_refused(
    make_table: MakeTable, tmp_path: Path, column: pa.Array, message: str
) -> None:
    assert message in refusal(make_table("typed", "i int"), parquet(tmp_path / "a.parquet", i=column))


@pytest.mark.parametrize(
    ("kind", "column", "value"),
    [
        ("float", pa.array([0.5, 214.01]), "214.01"),
        ("float", pa.array([1, 2**24 + 1]), "16777217"),
        ("date", pa.array([dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, 5)]), "5, 0"),
        ("timestamp", pa.array([0, 1], pa.timestamp("ns")), "row 2"),
        ("decimal(5,2)", pa.array([Decimal("1.250"), Decimal("1.255")]), "1.255"),
        ("decimal(5,2)", pa.array([1, 1000]), "1000"),
        ("decimal(5,2)", pa.array([1.25, 1.255]), "1.255"),
    ],
)
def test_a_cast_that_loses_anything_is_refused(
    make_table: MakeTable, tmp_path: Path, kind: str, column: pa.Array, value: str
) -> None:
    said = refusal(make_table("lossy", f"c {kind}"), parquet(tmp_path / "a.parquet", c=column))
    assert "row 2" in said
    assert value in said


@pytest.mark.parametrize(
    ("kind", "column", "expected"),
    [
        ("float", pa.array([0.5, None, float("nan")]), [0.5, None, "nan"]),
        ("int", pa.array([1.0, None, -3.0]), [1, None, -3]),
        ("decimal(5,2)", pa.array([1, None, 999], pa.int64()), [Decimal(1), None, Decimal(999)]),
        ("date", pa.array([dt.datetime(2020, 1, 1), None]), [dt.date(2020, 1, 1), None]),
        ("timestamp", pa.array([dt.date(2020, 1, 1), None]), [dt.datetime(2020, 1, 1), None]),
        ("string", pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
        ("string", pa.nulls(2), [None, None]),
        ("binary", pa.array([b"\x00\xff"]), [b"\x00\xff"]),
        ("boolean", pa.array([True, None]), [True, None]),
        ("array<int>", pa.array([[1, 2], None], pa.list_(pa.int32())), [[1, 2], None]),
        ("map<string,double>", pa.array([[("a", 1.5)]], pa.map_(pa.string(), pa.float64())), [[("a", 1.5)]]),
        (
            "struct<x:int,y:string>",
            pa.array([{"x": 1, "y": "b"}], pa.struct({"x": pa.int32(), "y": pa.string()})),
            None,
        ),
    ],
)
def test_an_exact_cast_is_made(
    make_table: MakeTable, tmp_path: Path, kind: str, column: pa.Array, expected: list[Any] | None
) -> None:
    table = make_table("exact", f"c {kind}")
    load_file(table, parquet(tmp_path / "a.parquet", c=column))
    found = table.scan().to_arrow()["c"].to_pylist()
    found = ["nan" if value != value else value for value in found]
    assert found == (column.to_pylist() if expected is None else expected)


def test_csv_cannot_hold_nested_types(make_table: MakeTable, tmp_path: Path) -> None:
    said = refusal(make_table("nested", "a array<int>"), write(tmp_path / "a.csv", "a\n[1]\n"))
    assert "load it from Parquet or Arrow" in said


def test_a_zoned_timestamp_is_no_local_one(make_table: MakeTable, tmp_path: Path) -> None:
    column = pa.array([dt.datetime(2020, 1, 1)], pa.timestamp("us", "UTC"))
    assert "tz=UTC" in refusal(make_table("zoned", "c timestamp"), parquet(tmp_path / "a.parquet", c=column))


def test_the_same_file_is_refused_by_name_until_again(prices: Table, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", HEADER + "1,2010-01-04,1,1,\n")
    loaded = load_file(prices, path)
    said = refusal(prices, path)
    assert "'a.csv' was loaded into market_data.us_stocks_price already" in said
    assert str(loaded.snapshot_id) in said
    assert "--again" in said
    load_file(prices, path, again=True)
    assert prices.scan().to_arrow().num_rows == 2


def test_another_content_under_the_same_name_is_another_file(prices: Table, tmp_path: Path) -> None:
    load_file(prices, write(tmp_path / "a.csv", HEADER + "1,2010-01-04,1,1,\n"))
    load_file(prices, write(tmp_path / "a.csv", HEADER + "1,2010-01-05,1,1,\n"))
    snapshot = prices.current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    assert snapshot.summary.get(FILE) == "a.csv"
    assert len(snapshot.summary.get(SHA256) or "") == 64


def test_a_file_without_rows_commits_nothing(prices: Table, tmp_path: Path) -> None:
    loaded = load_file(prices, write(tmp_path / "a.csv", HEADER))
    assert (loaded.rows, loaded.snapshot_id) == (0, None)
    assert prices.current_snapshot() is None


def test_a_bad_row_in_a_late_chunk_takes_the_earlier_chunks_files_away(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table("late", "i int")
    values = pa.array([*range(200_000), 2**40], pa.int64())
    said = refusal(table, parquet(tmp_path / "a.parquet", i=values), chunk_bytes=100_000)
    assert "row 200001" in said


def test_chunks_of_one_file_make_one_snapshot(make_table: MakeTable, tmp_path: Path) -> None:
    table = make_table("chunks", "i int", partitioned="PARTITIONED BY (bucket(2, i))")
    loaded = load_file(
        table, parquet(tmp_path / "a.parquet", i=pa.array(range(200_000), pa.int64())), chunk_bytes=100_000
    )
    assert loaded.rows == 200_000
    assert loaded.files == 8
    assert len(table.snapshots()) == 1
    assert pc.sum(table.scan().to_arrow()["i"]).as_py() == sum(range(200_000))


def test_a_load_beside_another_writer_keeps_both(prices: Table, catalog: Catalog, tmp_path: Path) -> None:
    stale = find_table(catalog, "market_data.us_stocks_price")
    load_file(prices, write(tmp_path / "a.csv", HEADER + "1,2010-01-04,1,1,\n"))
    load_file(stale, write(tmp_path / "b.csv", HEADER + "1,2010-01-05,1,1,\n"))
    assert find_table(catalog, "market_data.us_stocks_price").scan().to_arrow().num_rows == 2


def test_a_dropped_table_is_said_and_its_files_are_not_left(prices: Table, catalog: Catalog, tmp_path: Path) -> None:
    catalog.drop_table("market_data.us_stocks_price")
    with pytest.raises(TableError, match="us_stocks_price"):
        load_file(prices, write(tmp_path / "a.csv", HEADER + "1,2010-01-04,1,1,\n"))
    assert data_files(prices) == set()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"x", "must end in .csv"),
        ("a.parquet.gz", b"x", "must end in .csv"),
        ("a.parquet", b"x", "Parquet"),
        ("a.parquet", b"", "Parquet"),
        ("a.arrow", b"ARROW1 and then nothing of the kind", "a.arrow"),
        ("a.feather", b"FEA1", "version 2"),
        ("a.csv.gz", b"not gzip", "a.csv.gz"),
        ("a.csv", b"i\n\xff\xfe\n", "UTF8"),
    ],
)
def test_an_unreadable_file_is_named(
    make_table: MakeTable, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    said = refusal(make_table("unreadable", "i string"), path)
    assert message in said
    assert name in said


def test_a_missing_file_is_named(prices: Table, tmp_path: Path) -> None:
    assert "there is no file" in refusal(prices, tmp_path / "none.csv")


# Characters that a CSV file in UTF-8 can carry; a carriage return alone would be read as the end of a line.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(st.integers(-(2**31), 2**31 - 1), TEXT, st.floats(), st.dates()), min_size=1, max_size=8)
)
def test_csv_values_survive(make_table: MakeTable, tmp_path: Path, rows: list[tuple[int, str, float, dt.date]]) -> None:
    table = make_table("texts", "i int, s string, f double, d date")
    path = tmp_path / "values.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n").writerows([("i", "s", "f", "d"), *rows])
    loaded = load_file(table, path, again=True)
    found = table.scan(snapshot_id=loaded.snapshot_id).to_arrow().to_pylist()[: len(rows)]
    assert [repr(tuple(row.values())) for row in found] == [repr(row) for row in rows]


def test_memory_is_bounded_by_the_chunk_not_by_the_file(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        import pyarrow as pa, pyarrow.parquet as pq
        from tests.fix_tables import local_config
        from flight_server.tables.catalog import create_table, find_table, open_catalog
        from flight_server.tables.ddl import parse
        from flight_server.tables.load import load_file

        folder = Path(sys.argv[1])
        schema = pa.schema({"i": pa.int64(), "f": pa.float64()})
        with pq.ParquetWriter(folder / "big.parquet", schema) as writer:
            for start in range(0, 4_000_000, 200_000):
                column = pa.array(range(start, start + 200_000), pa.int64())
                writer.write_table(pa.table([column, column.cast(pa.float64())], schema))
                del column
        catalog = open_catalog(local_config(folder))
        text = "CREATE TABLE t.big (i bigint, f double) TBLPROPERTIES ('table_type'='ICEBERG')"
        create_table(catalog, parse(text, Path("t.big.sql")))
        loaded = load_file(find_table(catalog, "t.big"), folder / "big.parquet", chunk_bytes=4 << 20)
        print(loaded.rows, pa.default_memory_pool().max_memory())
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows, peak = map(int, done.stdout.split())
    assert rows == 4_000_000
    # 64 MB in Arrow; what was measured is 44 MB, from one million rows to eight.
    assert peak < 55_000_000
