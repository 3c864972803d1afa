"""Fixtures about planning: two small Iceberg tables of many types and files, and the same rows in a plain DuckDB."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import MonthTransform
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from flight_server.plan.scan import Tables
from flight_server.tables.catalog import open_catalog
from flight_server.tables.locate import locator
from tests.fix_tables import local_config

SCHEMA = Schema(
    NestedField(1, "k", IntegerType()),
    NestedField(2, "n", LongType()),
    NestedField(3, "day", DateType()),
    NestedField(4, "ts", TimestampType()),
    NestedField(5, "tz", TimestamptzType()),
    NestedField(6, "s", StringType()),
    NestedField(7, "m", DecimalType(9, 2)),
    NestedField(8, "f", FloatType()),
    NestedField(9, "d", DoubleType()),
)
BY_MONTH = PartitionSpec(PartitionField(3, 1000, MonthTransform(), "day_month"))
# Longer than the 16 characters that Iceberg keeps of a bound, and beyond what sorts as bytes do.
STRINGS = ("", "a", "ab", "b", "Z", "é", "삼", "𝔸", "a" * 16, "a" * 17, "a" * 16 + "b", "'", "\\")
START = date(2024, 1, 29)
MICROSECOND = timedelta(microseconds=1)


@dataclass
class TwoTables:
    """`d.t` (by month) and `d.u` (unpartitioned), and in `plain` the same rows with the path of their file."""

    catalog: Catalog
    plain: duckdb.DuckDBPyConnection

    def __post_init__(self) -> None:
        # How many data files each has, as of the last copy.
        self.files: dict[str, int] = {}
        self.tables = Tables(self.catalog, locator(self.catalog))

    def append(self, name: str, rows: pa.Table) -> None:
        self.catalog.load_table(name).append(rows)

    def copy(self) -> None:
        """Put what the tables hold now into `plain`."""
        self.plain.execute("CREATE SCHEMA IF NOT EXISTS d")
        for name in ("d.t", "d.u"):
            files = [task.file.file_path for task in self.catalog.load_table(name).scan().plan_files()]
            self.files[name] = len(files)
            parts = [pq.read_table(path.removeprefix("file://")) for path in files]
            read = [
                part.append_column("file", pa.array([path] * part.num_rows, pa.string()))
                for path, part in zip(files, parts, strict=True)
            ]
            self.plain.register("read", pa.concat_tables(read))
            self.plain.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM read")
            self.plain.unregister("read")


def some_rows(seed: int, count: int, months: int = 3, low: int = -4) -> pa.Table:
    """Random rows of `SCHEMA` in a narrow range, so that predicates meet bounds; some of everything is null."""
    dice = random.Random(seed)
    moment = datetime(2024, 2, 1)

    def one() -> dict[str, object]:
        day = START + timedelta(days=dice.randrange(31 * months))
        return {
            "k": low + dice.randrange(4),
            "n": dice.choice([-(2**63), -1, 0, 1, 2**31, 2**63 - 1]),
            "day": day,
            "ts": moment + dice.randrange(-3, 4) * MICROSECOND,
            "tz": moment.replace(tzinfo=UTC) + dice.randrange(-3, 4) * MICROSECOND,
            "s": dice.choice(STRINGS),
            "m": Decimal(dice.randrange(100, 130)) / 100,
            "f": dice.choice([0.1, -0.0, 0.0, 1.5, float("inf"), float("nan")]),
            "d": dice.choice([0.1, -0.0, 0.0, 1.5, float("-inf"), float("nan")]),
        }

    made = [{name: None if dice.random() < 0.1 else value for name, value in one().items()} for _ in range(count)]
    return pa.Table.from_pylist(made, schema=SCHEMA.as_arrow())


@pytest.fixture(scope="session")
def two_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoTables]:
    """Filled tables that no test writes to."""
    with filled(tmp_path_factory.mktemp("two_tables")) as made:
        yield made


@pytest.fixture
def own_two_tables(tmp_path: Path) -> Iterator[TwoTables]:
    """Filled tables that a test may write to."""
    with filled(tmp_path) as made:
        yield made


class filled:  # noqa: N801 - used as a with statement
    """Open a catalog in `folder` with both tables filled; closes it at the end."""

    def __init__(self, folder: Path) -> None:
        self._catalog = closing(open_catalog(local_config(folder)))
        self._plain = duckdb.connect(config={"threads": 1})

    def __enter__(self) -> TwoTables:
        made = TwoTables(self._catalog.__enter__(), self._plain)
        made.catalog.create_namespace("d")
        made.catalog.create_table("d.t", SCHEMA, partition_spec=BY_MONTH)
        made.catalog.create_table("d.u", SCHEMA)
        made.append("d.t", some_rows(1, 40))
        made.append("d.t", some_rows(2, 20, low=0))
        for number in range(5):
            made.append("d.u", some_rows(10 + number, 3, low=2 * number - 4))
        made.plain.execute("SET TimeZone = 'UTC'")
        made.copy()
        return made

    def __exit__(self, *_: object) -> None:
        self._plain.close()
        self._catalog.__exit__(None, None, None)
