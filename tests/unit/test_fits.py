"""Which declared types take what a query gives without loss."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flight_server.authoring.fits import fits
from flight_server.datasets.types import column_type


@pytest.mark.parametrize(
    ("produced", "declared", "expected"),
    [
        ("int32", "int32", True),
        ("int32", "int64", True),
        ("int64", "int32", False),
        ("int16", "float32", True),
        ("int32", "float32", False),
        ("int32", "float64", True),
        ("int64", "float64", False),
        ("int32", "decimal(10,0)", True),
        ("int32", "decimal(10,2)", False),
        ("float32", "float64", True),
        ("float64", "float32", False),
        ("float32", "int64", False),
        ("decimal(10,2)", "decimal(12,4)", True),
        ("decimal(10,2)", "decimal(11,4)", False),
        ("decimal(10,2)", "decimal(12,1)", False),
        ("decimal(9,0)", "int32", True),
        ("decimal(10,0)", "int32", False),
        ("decimal(38,0)", "int64", True),
        ("decimal(38,0)", "int32", False),
        ("decimal(15,2)", "float64", True),
        ("decimal(16,2)", "float64", False),
        ("date", "timestamp", True),
        ("date", "timestamp(tz)", False),
        ("timestamp", "date", False),
        ("timestamp", "timestamp(tz)", False),
        ("string", "int32", False),
        ("int32", "string", False),
        ("bool", "int32", False),
        ("list<int32>", "list<int64>", True),
        ("list<int64>", "list<int32>", False),
        ("map<string, int32>", "map<string, int64>", True),
        ("map<string, int64>", "list<int64>", False),
        ("struct<a: int32>", "struct<a: int64>", True),
        ("struct<a: int32>", "struct<b: int32>", False),
    ],
)
def test_what_fits(produced: str, declared: str, expected: bool) -> None:
    assert fits(column_type(produced), column_type(declared)) is expected


@pytest.mark.parametrize(
    ("produced", "declared", "expected"),
    [
        (pa.large_string(), "string", True),
        (pa.dictionary(pa.int8(), pa.string()), "string", True),
        (pa.string_view(), "string", True),
        (pa.large_list(pa.int32()), "list<int32>", True),
        (pa.timestamp("us", "Europe/Berlin"), "timestamp(tz)", True),
        (pa.uint32(), "int64", True),
        (pa.uint32(), "int32", False),
        (pa.uint64(), "int64", False),
        (pa.binary_view(), "binary", True),
    ],
)
def test_types_that_no_contract_declares(produced: pa.DataType, declared: str, expected: bool) -> None:
    assert fits(produced, column_type(declared)) is expected
