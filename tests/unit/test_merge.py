"""The ordered merge against a plain Python sort: every key type, direction, place of nulls, ties, unsorted parts."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flight_server.errors import ContractViolated, EngineFailed
from flight_server.model import SortKey
from flight_server.results.keys import encoder
from flight_server.results.merge import merge

NAN, INF = math.nan, math.inf
I64 = 2**63
# Microseconds of 0001-01-01 and of the last one of 9999.
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
# Few values of each type, so that ties are frequent; the extremes of each among them.
POOL: dict[pa.DataType, list[Any]] = {
    pa.bool_(): [False, True],
    pa.int8(): [-128, -1, 0, 127],
    pa.int16(): [-32768, -1, 0, 1, 32767],
    pa.int32(): [-(2**31), -5, 0, 7, 2**31 - 1],
    pa.int64(): [-I64, -1, 0, 1, I64 - 1],
    pa.float32(): [-INF, -1.5, -0.0, 0.0, 2.5, INF, NAN, -NAN],
    pa.float64(): [-INF, -1e300, -0.0, 0.0, 5e-324, INF, NAN, -NAN],
    pa.date32(): [-719162, -1, 0, 20000, 2932896],
    pa.time64("us"): [0, 1, 86_399_999_999],
    pa.timestamp("us"): [FIRST_US, -1, 0, 1, LAST_US],
    pa.timestamp("us", "UTC"): [FIRST_US, -1, 0, 1, LAST_US],
    pa.decimal128(38, 18): [Decimal("-1e19"), Decimal("-0.000000000000000001"), Decimal(0), Decimal("12.5")],
    pa.string(): ["", "A", "a", "aa", "\x00", "é", "\uffff", "\U0001f600"],
    pa.binary(): [b"", b"\x00", b"\x00\x00", b"\x7f", b"\xff"],
}
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """Rows dealt out to parts, each cut into batches; the last value of a row is its number."""

    types: tuple[pa.DataType, ...]
    nullable: tuple[bool, ...]
    order: tuple[SortKey, ...]
    parts: tuple[tuple[Row, ...], ...]
    batch_rows: int
    cut: int

    @property
    def schema(self) -> pa.Schema:
        keys = [pa.field(f"k{i}", t, n) for i, (t, n) in enumerate(zip(self.types, self.nullable, strict=True))]
        return pa.schema([*keys, pa.field("row", pa.int64())])

    def batches(self, part: Sequence[Row]) -> Iterator[pa.RecordBatch]:
        for start in range(0, len(part), self.cut):
            yield _batch(part[start : start + self.cut], self.schema)
            yield _batch([], self.schema)

    def merged(self) -> list[pa.RecordBatch]:
        return list(merge([self.batches(p) for p in self.parts], self.order, self.schema, self.batch_rows))

    def expected(self) -> list[int]:
        return [row[-1] for row in sorted((row for part in self.parts for row in part), key=_comparison(self.order))]


def _batch(rows: Sequence[Row], schema: pa.Schema) -> pa.RecordBatch:
    columns = [_array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_temporal(kind):
        return pa.array(values, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    return pa.array(values, kind)


def _comparison(order: Sequence[SortKey]) -> Any:
    def compare(left: Row, right: Row) -> int:
        for key, a, b in zip(order, left, right, strict=False):
            if a is None or b is None:
                if (a is None) != (b is None):
                    return -1 if (a is None) == key.nulls_first else 1
                continue
            a, b = _plain(a), _plain(b)
            if a != b:
                return (1 if a < b else -1) if key.descending else (-1 if a < b else 1)
        return 0

    return functools.cmp_to_key(compare)


def _plain(value: Any) -> Any:
    """NaN above all other numbers, text by its bytes."""
    if isinstance(value, float):
        return (math.isnan(value), 0.0 if math.isnan(value) else value)
    return value.encode() if isinstance(value, str) else value


@st.composite
def cases(draw: st.DrawFn) -> Case:
    types = tuple(draw(st.lists(st.sampled_from(list(POOL)), min_size=1, max_size=3)))
    nullable = tuple(draw(st.booleans()) for _ in types)
    order = tuple(SortKey(f"k{i}", draw(st.booleans()), draw(st.booleans())) for i in range(len(types)))
    values = [
        st.one_of(st.sampled_from(POOL[t]), st.none()) if n else st.sampled_from(POOL[t])
        for t, n in zip(types, nullable, strict=True)
    ]
    keys = draw(st.lists(st.tuples(*values), max_size=40))
    count = draw(st.integers(1, 4))
    parts: list[list[Row]] = [[] for _ in range(count)]
    for number, key in enumerate(keys):
        parts[draw(st.integers(0, count - 1))].append((*key, number))
    by_key = _comparison(order)
    return Case(
        types,
        nullable,
        order,
        tuple(tuple(sorted(part, key=by_key)) for part in parts),
        draw(st.integers(1, 7)),
        draw(st.integers(1, 7)),
    )


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_merge_gives_what_a_stable_sort_gives(case: Case) -> None:
    found = case.merged()
    assert [n for batch in found for n in batch.column("row").to_pylist()] == case.expected()
    assert all(0 < batch.num_rows <= case.batch_rows for batch in found)
    assert all(batch.schema.equals(case.schema) for batch in found)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.randoms(use_true_random=False))
def test_bounds_of_parts_change_nothing(case: Case, random: Any) -> None:
    encode = encoder(case.order, case.schema)
    firsts = [encode(_batch(part[:1], case.schema)).at(0) if part else None for part in case.parts]
    lowers = [random.choice([first, None]) for first in firsts]
    parts = [case.batches(part) for part in case.parts]
    found = list(merge(parts, case.order, case.schema, case.batch_rows, lowers))
    assert [n for batch in found for n in batch.column("row").to_pylist()] == case.expected()


def test_a_part_is_begun_when_its_bound_is_reached() -> None:
    begun: list[int] = []

    def part(number: int) -> Iterator[pa.RecordBatch]:
        begun.append(number)
        yield from case.batches(case.parts[number])

    parts = tuple(tuple((start + i, start + i) for i in range(10)) for start in (20, 0, 15))
    case = Case((pa.int32(),), (False,), (SortKey("k0"),), parts, 100, 5)
    encode = encoder(case.order, case.schema)
    lowers = [encode(_batch(rows[:1], case.schema)).at(0) for rows in parts]
    batches = merge([part(i) for i in range(3)], case.order, case.schema, 100, lowers)
    seen = {tuple(next(batches).column("row").to_pylist()): list(begun) for _ in range(3)}
    assert list(seen.values()) == [[1], [1], [1, 2]]
    assert [n for batch in batches for n in batch.column("row").to_pylist()][-1] == 29
    assert begun == [1, 2, 0]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases(), st.randoms(use_true_random=False))
def test_parts_that_are_not_sorted_never_give_rows_out_of_order(case: Case, random: Any) -> None:
    parts = [list(part) for part in case.parts]
    for part in parts:
        random.shuffle(part)
    seen: list[Row] = []
    by_number = {row[-1]: row for part in parts for row in part}
    try:
        for batch in merge([case.batches(p) for p in parts], case.order, case.schema, case.batch_rows):
            seen += [by_number[n] for n in batch.column("row").to_pylist()]
    except EngineFailed:
        pass
    else:
        assert len(seen) == len(by_number)
    by_key = _comparison(case.order)
    assert all(by_key(a) <= by_key(b) for a, b in itertools.pairwise(seen))


@pytest.mark.parametrize("kind", list(POOL), ids=str)
@pytest.mark.parametrize("descending", [False, True], ids=["asc", "desc"])
@pytest.mark.parametrize("nulls_first", [False, True], ids=["nulls last", "nulls first"])
def test_each_type_orders_all_its_values(kind: pa.DataType, descending: bool, nulls_first: bool) -> None:
    order = (SortKey("k0", descending, nulls_first),)
    rows = sorted([(v, i) for i, v in enumerate([*POOL[kind], None, None])], key=_comparison(order))
    parts = (tuple(rows[::2]), tuple(rows[1::2]))
    case = Case((kind,), (True,), order, parts, 3, 2)
    assert [n for batch in case.merged() for n in batch.column("row").to_pylist()] == case.expected()


def test_ties_keep_the_order_of_parts_and_of_rows_within_them() -> None:
    parts = tuple(tuple((1, part * 100 + i) for i in range(50)) for part in range(3))
    case = Case((pa.int32(),), (False,), (SortKey("k0"),), parts, 7, 4)
    rows = [n for batch in case.merged() for n in batch.column("row").to_pylist()]
    assert rows == [part * 100 + i for part in range(3) for i in range(50)]


def test_a_part_that_is_not_sorted_is_an_error() -> None:
    case = Case((pa.int32(),), (False,), (SortKey("k0"),), (((1, 0), (3, 1), (2, 2)), ((1, 3), (4, 4))), 10, 1)
    with pytest.raises(EngineFailed, match="not in the order of the query"):
        case.merged()


def test_parts_that_do_not_overlap_are_passed_on_without_a_copy() -> None:
    parts = tuple(tuple((part * 10 + i, part * 10 + i) for i in range(10)) for part in range(3))
    case = Case((pa.int32(),), (False,), (SortKey("k0"),), parts, 100, 10)
    read = [list(case.batches(part)) for part in parts]
    found = list(merge([iter(batches) for batches in read], case.order, case.schema, 100))
    sources = {batch.column("row").buffers()[1].address for batches in read for batch in batches if batch.num_rows}
    assert [b.num_rows for b in found] == [10, 10, 10]
    assert {b.column("row").buffers()[1].address for b in found} == sources


def test_two_keys_of_32_bits_are_packed_into_one_number() -> None:
    schema = pa.schema([pa.field("day", pa.date32(), False), pa.field("id", pa.int32(), False)])
    keys = encoder([SortKey("day"), SortKey("id", descending=True)], schema)(
        pa.RecordBatch.from_arrays([_array([-1, 0, 0], pa.date32()), pa.array([5, 9, -9], pa.int32())], schema=schema)
    )
    assert keys.at(0) < keys.at(1) < keys.at(2)
    assert isinstance(keys.at(0).item(), int)


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.string()], ids=str)
def test_a_null_in_a_key_that_promises_none_is_named(kind: pa.DataType) -> None:
    schema = pa.schema([pa.field("id", kind, False)])
    batch = pa.RecordBatch.from_arrays([pa.array([None], kind)], schema=schema)
    with pytest.raises(ContractViolated, match="'id' promises no nulls"):
        list(merge([iter([batch])], [SortKey("id")], schema, 10))


def test_a_failing_part_fails_the_merge() -> None:
    def part() -> Iterator[pa.RecordBatch]:
        yield _batch([(1, 1)], schema)
        raise EngineFailed("the part broke off")

    schema = pa.schema([("k0", pa.int32()), ("row", pa.int64())])
    with pytest.raises(EngineFailed, match="broke off"):
        list(merge([part(), iter([_batch([(2, 2)], schema)])], [SortKey("k0")], schema, 10))
