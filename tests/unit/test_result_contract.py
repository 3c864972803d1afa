"""A result has exactly the types of its contract, without loss, or it is an error."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.datasets.types import column_type
from flight_server.errors import ContractViolated, InvalidRequest
from flight_server.results.contract import conform, conform_batch
from tests.fix_datasets import with_columns

BIG = pa.decimal128(38, 0)
NAN, INF = float("nan"), float("inf")


def held(kind: str, values: list[Any], given: pa.DataType, nullable: bool = True) -> list[Any]:
    """What a column declared as `kind` sends when the engine gives `values` of the type `given`."""
    schema = pa.schema([pa.field("x", column_type(kind), nullable)])
    batch = conform_batch("sample", schema, pa.record_batch([pa.array(values, given)], ["x"]))
    assert batch.schema == schema
    return list(batch.column(0).to_pylist())


FITS = [
    ("int32", [1, -5, None], pa.int64()),
    ("int8", [127, -128], pa.int64()),
    ("int64", [2**63 - 1, -(2**63), None], BIG),
    ("int64", [1.0, -7.0], pa.float64()),
    ("int32", [Decimal("5.00")], pa.decimal128(9, 2)),
    ("float64", [1, 2**53, None], pa.int64()),
    ("float64", [0.5, -0.0, INF, None], pa.float32()),
    ("float32", [0.5, -INF, None], pa.float64()),
    ("float64", [Decimal("0.5"), Decimal("-2.25"), None], pa.decimal128(12, 4)),
    ("float64", [Decimal("0.1")], pa.decimal128(2, 1)),
    ("decimal(12,2)", [Decimal("1.50"), None], pa.decimal128(38, 4)),
    ("decimal(12,2)", [3, None], pa.int32()),
    ("date", [datetime(2024, 1, 31), None], pa.timestamp("us")),
    ("timestamp", [date(2024, 1, 31)], pa.date32()),
    ("timestamp", [datetime(2024, 1, 31, 1, 2, 3)], pa.timestamp("ns")),
    ("timestamp(tz)", [datetime(2024, 1, 31, tzinfo=UTC)], pa.timestamp("us", "Asia/Seoul")),
    ("string", ["a", None], pa.large_string()),
    ("string", ["a", "b", "a"], pa.dictionary(pa.int8(), pa.string())),
    ("list<int32>", [[1, None], [], None], pa.list_(pa.int64())),
    ("struct<a: int32, b: float64>", [{"a": 1, "b": 2.0}], pa.struct([("a", pa.int64()), ("b", pa.int32())])),
    ("string", [None, None], pa.int32()),
    ("map<string, int32>", [[("a", 1)]], pa.map_(pa.string(), pa.int64())),
]
VIOLATES = [
    ("int32", [2**31], pa.int64()),
    ("int64", [Decimal(2**63)], BIG),
    ("int32", [1.5], pa.float64()),
    ("int32", [NAN], pa.float64()),
    ("int32", [Decimal("5.01")], pa.decimal128(9, 2)),
    ("float64", [2**53 + 1], pa.int64()),
    ("float32", [2**24 + 1], pa.int64()),
    ("float32", [0.1], pa.float64()),
    ("float32", [1e300], pa.float64()),
    ("float64", [Decimal("9007199254740993")], BIG),
    ("float64", [Decimal("0.12345678901234567891")], pa.decimal128(38, 20)),
    ("decimal(4,2)", [Decimal("1.505")], pa.decimal128(9, 3)),
    ("decimal(4,2)", [Decimal("100.00")], pa.decimal128(9, 2)),
    ("decimal(4,2)", [100], pa.int32()),
    ("date", [datetime(2024, 1, 31, 0, 0, 1)], pa.timestamp("us")),
    ("list<float32>", [[0.1]], pa.list_(pa.float64())),
    ("struct<a: float32>", [{"a": 0.1}], pa.struct([("a", pa.float64())])),
    ("map<string, float32>", [[("a", 0.1)]], pa.map_(pa.string(), pa.float64())),
]
# Every one of these can be cast by Arrow, and none is what the contract promises.
ANOTHER_KIND = [
    ("int32", ["12"], pa.string()),
    ("string", [12], pa.int64()),
    ("string", [date(2024, 1, 1)], pa.date32()),
    ("string", [True], pa.bool_()),
    ("bool", [1], pa.int32()),
    ("int32", [True], pa.bool_()),
    ("date", [19000], pa.int32()),
    ("int32", [date(2024, 1, 1)], pa.date32()),
    ("timestamp", [1704067200000000], pa.int64()),
    ("int64", [datetime(2024, 1, 1)], pa.timestamp("us")),
    ("date", ["2024-01-01"], pa.string()),
    ("float64", ["0.5"], pa.string()),
    ("timestamp", [datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC")),
    ("timestamp(tz)", [datetime(2024, 1, 1)], pa.timestamp("us")),
    ("list<int32>", [1], pa.int32()),
    ("list<string>", [[1]], pa.list_(pa.int32())),
    ("string", [b"plain"], pa.binary()),
]


@pytest.mark.parametrize(("kind", "values", "given"), FITS)
def test_a_type_that_holds_the_values_is_restored(kind: str, values: list[Any], given: pa.DataType) -> None:
    assert held(kind, values, given) == pa.array(values, given).cast(column_type(kind)).to_pylist()


@pytest.mark.parametrize(("kind", "values", "given"), VIOLATES)
def test_a_value_that_would_change_is_an_error(kind: str, values: list[Any], given: pa.DataType) -> None:
    with pytest.raises(ContractViolated, match=r"^\[contract-violated\] sample.x promises "):
        held(kind, values, given)


@pytest.mark.parametrize(("kind", "values", "given"), ANOTHER_KIND)
def test_a_value_of_another_kind_is_never_reinterpreted(kind: str, values: list[Any], given: pa.DataType) -> None:
    with pytest.raises(ContractViolated, match=r"sample.x promises "):
        held(kind, values, given)


def test_a_nan_stays_one() -> None:
    assert str(held("float32", [NAN, None], pa.float64())) == "[nan, None]"


@given(st.lists(st.floats(width=32) | st.none()))
def test_any_float_survives_a_detour_over_double(values: list[float | None]) -> None:
    assert str(held("float32", values, pa.float64())) == str(pa.array(values, pa.float32()).to_pylist())


@given(st.lists(st.floats(), min_size=1))
def test_a_double_comes_back_equal_or_not_at_all(values: list[float]) -> None:
    try:
        found = held("float32", values, pa.float64())
    except ContractViolated:
        found = values
    assert str(found) == str(values)


def test_a_null_where_none_is_promised_is_an_error() -> None:
    with pytest.raises(ContractViolated, match=r"sample.x promises no nulls, and the result has 2"):
        held("int32", [1, None, None], pa.int32(), nullable=False)


def test_another_number_of_columns_is_an_error() -> None:
    with pytest.raises(ContractViolated, match="promises 1 columns, the engine gave 2"):
        conform_batch("sample", pa.schema([("x", pa.int32())]), pa.record_batch([[1], [2]], ["x", "y"]))


def batches(*sizes: int) -> Iterator[pa.RecordBatch]:
    return (pa.record_batch([pa.array([7] * size, pa.int64())], ["x"]) for size in sizes)


def test_the_row_limit_holds_over_all_batches() -> None:
    dataset = with_columns('x = { type = "int32" }')
    assert sum(batch.num_rows for batch in conform(dataset, batches(4, 6), 10)) == 10
    read = conform(dataset, batches(4, 6, 1, 1_000_000), 10)
    assert [next(read).num_rows, next(read).num_rows] == [4, 6]
    with pytest.raises(InvalidRequest, match=r"\[row-limit\] sample gave more than 10 rows"):
        next(read)


def test_the_schema_of_a_result_carries_the_contract() -> None:
    dataset = with_columns('x = { type = "int32", null = false, doc = "A number", unit = "USD" }')
    (batch,) = conform(dataset, batches(1), 10)
    assert batch.schema.equals(dataset.schema, check_metadata=True)
    assert batch.schema.metadata[b"athena_flight.dataset"] == b"sample"
    assert batch.schema.field("x").metadata == {b"doc": b"A number", b"unit": b"USD"}
