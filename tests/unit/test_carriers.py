"""Carriers there and back: what UNLOAD refuses travels as something else, and comes back as the contract says."""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from flight_server.datasets.types import column_type
from flight_server.model import Column, SortKey
from flight_server.plan.carriers import carrier, project
from flight_server.results.carriers import restore

US, UTC, TIME = pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.time64("us")
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
SCALARS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.bool_(), [True, False]),
    (pa.int8(), [-128, 127]),
    (pa.int64(), [-(2**63), 2**63 - 1]),
    (pa.float64(), [0.5, float("inf")]),
    (pa.string(), ["", "a"]),
    (pa.binary(), [b"", b"\x00"]),
    (pa.date32(), [-719162, 2932896]),
    (US, [FIRST_US, -1, 0, LAST_US]),
    (UTC, [FIRST_US, 1, LAST_US]),
    (TIME, [0, 1, 86_399_999_999]),
]


def kinds() -> st.SearchStrategy[pa.DataType]:
    leaf = st.sampled_from([kind for kind, _ in SCALARS])
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            inner.map(pa.list_),
            st.tuples(st.sampled_from([pa.string(), pa.int64(), US]), inner).map(lambda pair: pa.map_(*pair)),
            st.lists(inner, min_size=1, max_size=3).map(
                lambda types: pa.struct([(f"Field{i}", kind) for i, kind in enumerate(types)])
            ),
        ),
        max_leaves=4,
    )


def values(kind: pa.DataType, *, null: bool = True) -> st.SearchStrategy[Any]:
    """Values as integers for times and dates; `None` anywhere but in map keys."""
    found: st.SearchStrategy[Any]
    if pa.types.is_list(kind):
        found = st.lists(values(kind.value_type), max_size=3)
    elif pa.types.is_map(kind):
        keys = values(kind.key_type, null=False)
        found = st.lists(st.tuples(keys, values(kind.item_type)), max_size=3)
    elif pa.types.is_struct(kind):
        found = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    else:
        found = st.sampled_from(dict(SCALARS)[kind])
    return st.one_of(found, st.none()) if null else found


def plain(kind: pa.DataType) -> pa.DataType:
    """`kind` with integers in place of dates and times."""
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    return rebuilt(kind, plain, str)


def carried(kind: pa.DataType) -> pa.DataType:
    """What arrives for `kind`, with the names that Hive's writer gives."""
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_time(kind):
        return pa.string()
    return rebuilt(kind, carried, str.lower)


def rebuilt(kind: pa.DataType, inner: Any, name: Any) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(pa.field("array_element", inner(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(inner(kind.key_type), inner(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([(name(field.name), inner(field.type)) for field in kind])
    return kind


def to_carrier(value: Any, kind: pa.DataType) -> Any:
    """One value as it would arrive."""
    if value is None:
        return None
    if pa.types.is_time(kind):
        seconds, micros = divmod(value, 1_000_000)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{micros:06}"
    if pa.types.is_date(kind):
        return value
    if pa.types.is_list(kind):
        return [to_carrier(item, kind.value_type) for item in value]
    if pa.types.is_map(kind):
        return [(to_carrier(key, kind.key_type), to_carrier(item, kind.item_type)) for key, item in value]
    if pa.types.is_struct(kind):
        return {field.name.lower(): to_carrier(value[field.name], field.type) for field in kind}
    return value


@settings(max_examples=300, deadline=None)
@given(st.data(), kinds())
def test_every_type_comes_back(data: st.DataObject, kind: pa.DataType) -> None:
    given_values = data.draw(st.lists(values(kind), max_size=5))
    arrived = pa.array([to_carrier(value, kind) for value in given_values], carried(kind))
    start = data.draw(st.integers(0, len(given_values)))
    batch = pa.RecordBatch.from_arrays([arrived.slice(start)], names=["lower"])
    back = restore(batch, pa.schema([("Name", kind)]))
    column = back.column(0).cast(kind)
    column.validate(full=True)
    assert back.schema.names == ["Name"]
    assert to_ints(column) == given_values[start:]


def to_ints(array: pa.Array) -> list[Any]:
    """Values as `values` draws them: the times of the years 1 and 9999 have no Python object in every zone."""
    kind = array.type
    if pa.types.is_temporal(kind):
        return list(array.view(plain(kind)).to_pylist())
    return list(array.cast(plain(kind)).to_pylist())


def test_nulls_inside_a_null_struct_stay_inside() -> None:
    kind = pa.struct([("a", US), ("b", pa.int32())])
    arrived = pa.array([None, {"a": None, "b": 1}, {"a": 5, "b": None}], carried(kind))
    back = restore(pa.RecordBatch.from_arrays([arrived], names=["s"]), pa.schema([("s", kind)])).column(0)
    assert back.is_null().to_pylist() == [True, False, False]
    assert back.field(0).cast(pa.int64()).to_pylist()[1:] == [None, 5]


def test_what_differs_from_the_contract_otherwise_is_left_for_it_to_judge() -> None:
    arrived = pa.RecordBatch.from_arrays(
        [pa.array([1], pa.int32()), pa.array([{"a": 1, "b": 2}]), pa.array([[{"a": 1}]])], names=["a", "b", "c"]
    )
    declared = [pa.string(), pa.struct([("a", US)]), pa.list_(pa.struct([("a", pa.string())]))]
    back = restore(arrived, pa.schema(list(zip("abc", declared, strict=True))))
    assert back.column(0).type == pa.int32()
    assert back.column(1).type.num_fields == 2


def test_other_numbers_of_columns_are_left_alone() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1])], names=["a"])
    assert restore(batch, pa.schema([("a", US), ("b", US)])) is batch


PLAIN = ["bool", "int8", "int16", "int32", "int64", "float32", "float64", "string", "binary", "date", "decimal(38, 18)"]


@pytest.mark.parametrize("text", [*PLAIN, *(f"list<{t}>" for t in PLAIN), "struct<a: int32>", "map<string, float64>"])
def test_what_hive_can_write_is_not_touched(text: str) -> None:
    assert carrier("x", column_type(text)) == "x"


WRAPPED = ["list<{}>", "map<string, {}>", "map<{}, int32>", "struct<a: int32, b: {}>", "{}"]


@pytest.mark.parametrize(
    "text",
    [
        a.format(b.format(c))
        for a, b, c in itertools.product(WRAPPED, WRAPPED, ["timestamp", "timestamp(tz)", "time"])
        if not (a.startswith("map<{") and "<" in b)
    ],
)
def test_every_carrier_is_sql_in_which_no_variable_hides_another(text: str) -> None:
    sql = carrier("x", column_type(text))
    tree = sqlglot.parse_one(f"SELECT {sql} AS x", read="athena")
    for lambda_ in tree.find_all(exp.Lambda):
        outer, hidden = lambda_.parent, {e.name for e in lambda_.expressions}
        while outer is not None:
            if isinstance(outer, exp.Lambda):
                assert hidden.isdisjoint({e.name for e in outer.expressions})
            outer = outer.parent


def test_the_projection_repeats_the_order_outside_and_names_every_column() -> None:
    columns = [Column("ts", US), Column('odd "name"', pa.int32())]
    sql = project("SELECT 1", columns, {}, [SortKey("ts", descending=True, nulls_first=True), SortKey('odd "name"')])
    assert sql.endswith('FROM (SELECT 1) AS result ORDER BY "ts" DESC NULLS FIRST, "odd ""name""" NULLS LAST')
    assert 'result."odd ""name""" AS "odd ""name"""' in sql


@pytest.mark.parametrize(
    ("sql_type", "expected"),
    [
        ("JSON", 'json_format(result."c")'),
        ("UUID", 'CAST(result."c" AS VARCHAR)'),
        ("CHAR(3)", 'CAST(result."c" AS VARCHAR)'),
        ("VARCHAR(3)", 'result."c"'),
    ],
)
def test_types_that_arrow_has_not_travel_as_text(sql_type: str, expected: str) -> None:
    sql = project("q", [Column("c", pa.string())], {"c": sql_type}, [])
    assert sql == f'SELECT {expected} AS "c" FROM (q) AS result'
