"""Literals: no value changes the shape of a query, and the engine reads back exactly the value that was bound."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from flight_server.datasets.types import param_type
from flight_server.model import Parameter, TablePin, Value
from flight_server.plan import bind, dialect
from flight_server.plan.literals import literal
from flight_server.plan.qualify import qualified
from tests.fix_datasets import with_columns
from tests.fix_engine import Run, tree

strings = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40)
# Pieces of SQL are likelier than chance to do harm.
pieces = st.lists(
    st.sampled_from(
        ["'", '"', "\\", "`", "--", "/*", "*/", ";", " OR 1=1", "\n", "\r", ":t", "?", "{", "$$", "%", "x'"]
    ),
    max_size=8,
).map("".join)
hostile = st.one_of(strings, pieces, st.tuples(pieces, strings, pieces).map("".join))

QUERY = """
WITH w AS (SELECT u.k AS k, u.v AS v FROM UNNEST(:m) AS u (k, v))
SELECT p.s AS s, :s AS same, CASE WHEN p.s = :s THEN 1 ELSE 0 END AS hit
FROM d.t AS p
JOIN w ON w.k = p.s
WHERE p.s IN (:l) AND p.s LIKE :s AND p.s BETWEEN :s AND 'zz'
"""
PARAMS = {
    "s": Parameter("s", param_type("string")),
    "l": Parameter("l", param_type("list<string>")),
    "m": Parameter("m", param_type("map<string, string>")),
}
PINS = {"d.t": TablePin("d.t", 7, 0, "/warehouse/d/t/metadata/1.json")}
SCHEMAS = {"d.t": {"s": "VARCHAR"}}
QUALIFIED = qualified(tree(QUERY), SCHEMAS)
RESULT = with_columns('s = { type = "string" }', 'same = { type = "string" }', 'hit = { type = "int32" }')
PRINTERS: dict[str, Callable[[exp.Query], str]] = {
    "athena": lambda bound: dialect.to_athena(bound, PINS, SCHEMAS, RESULT),
    "duckdb": lambda bound: dialect.to_duckdb(bound, PINS, SCHEMAS),
}


def shape(text: str, name: str) -> exp.Expr:
    """The tree of a printed query with its strings blanked; one statement, or it is another shape."""
    (parsed,) = sqlglot.parse(text, read=name)
    assert parsed is not None
    return parsed.transform(
        lambda node: exp.Literal.string("") if isinstance(node, exp.Literal) and node.is_string else node
    )


def printed(name: str, s: str, items: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> str:
    bound, _ = bind.bind(QUALIFIED, PARAMS, {"s": s, "l": items, "m": pairs})
    return PRINTERS[name](bound)


@pytest.mark.parametrize("name", PRINTERS)
@settings(max_examples=80)
@given(s=hostile, item=hostile, key=hostile, value=hostile)
def test_no_string_changes_the_shape_of_a_query(name: str, s: str, item: str, key: str, value: str) -> None:
    assert shape(printed(name, s, (item,), ((key, value),)), name) == plain_shape(name)


@functools.cache
def plain_shape(name: str) -> exp.Expr:
    return shape(printed(name, "a", ("b",), (("c", "d"),)), name)


@pytest.mark.parametrize("name", PRINTERS)
@given(s=hostile)
def test_a_string_is_printed_with_its_quotes_doubled_and_nothing_else_changed(name: str, s: str) -> None:
    assert literal(param_type("string"), s).sql(name) == "'" + s.replace("'", "''") + "'"


@given(s=hostile)
def test_duckdb_reads_back_exactly_the_string(run: Run, s: str) -> None:
    assert run(f"SELECT {literal(param_type('string'), s).sql('duckdb')}") == [(s,)]


EXTREMES: list[tuple[str, Value]] = [
    ("bool", True),
    ("bool", False),
    ("int32", -(2**31)),
    ("int32", 2**31 - 1),
    ("int64", -(2**63)),
    ("int64", 2**63 - 1),
    ("int64", -(2**31)),
    ("int64", 0),
    ("float32", 3.4028234663852886e38),
    ("float32", 1.401298464324817e-45),
    ("float64", 1.7976931348623157e308),
    ("float64", -5e-324),
    ("float64", 0.1),
    ("float64", 1e22),
    ("decimal(38,0)", Decimal("9" * 38)),
    ("decimal(38,38)", Decimal("-0." + "9" * 38)),
    ("decimal(9,2)", Decimal("0.10")),
    ("decimal(12,4)", Decimal("1E-4")),
    ("string", ""),
    ("string", "AAPL' OR '1'='1"),
    ("enum", "\\'; DROP TABLE x; --"),
    ("date", date(1, 1, 1)),
    ("date", date(9999, 12, 31)),
    ("timestamp", datetime(1, 1, 1)),
    ("timestamp", datetime(9999, 12, 31, 23, 59, 59, 999999)),
    ("timestamp(tz)", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ("timestamp(tz)", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ("list<int64>", (-(2**63), 0, 2**63 - 1)),
    ("list<string>", ()),
    ("list<date>", (date(1, 1, 1), date(9999, 12, 31))),
    ("map<int32, float64>", ((1, 0.6), (2, -1e300))),
    ("map<string, decimal(9,2)>", (("it's", Decimal("0.10")),)),
    ("map<int32, string>", ()),
]
TYPES = {
    "bool": "BOOLEAN",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
    "decimal(38,0)": "DECIMAL(38,0)",
    "decimal(9,2)": "DECIMAL(9,2)",
    "string": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamp(tz)": "TIMESTAMP WITH TIME ZONE",
    "list<string>": "VARCHAR[]",
    "map<int32, string>": "MAP(INTEGER, VARCHAR)",
    "list<int64>": "BIGINT[]",
}


@pytest.mark.parametrize(("kind", "value"), EXTREMES)
def test_duckdb_reads_back_exactly_the_value_and_its_type(run: Run, kind: str, value: Value) -> None:
    written = dialect.to_duckdb(exp.select(exp.alias_(literal(param_type(kind), value), "x")), {}, {})
    (found,) = run(f"SELECT x, typeof(x) FROM ({written})")
    expected: object = list(value) if isinstance(value, tuple) else value
    assert found[0] == expected
    assert kind not in TYPES or found[1] == TYPES[kind]


numbers = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59))


@settings(max_examples=60)
@given(number=numbers, count=st.integers(-(2**63), 2**63 - 1), day=st.dates(), moment=moments)
def test_duckdb_reads_back_any_number_day_and_moment(
    run: Run, number: float, count: int, day: date, moment: datetime
) -> None:
    given = (("float64", number), ("int64", count), ("date", day), ("timestamp", moment))
    columns = ", ".join(literal(param_type(kind), value).sql("duckdb") for kind, value in given)
    (found,) = run(f"SELECT {columns}")
    assert found == (number, count, day, moment)
    assert math.copysign(1, found[0]) == math.copysign(1, number) or number == 0


@pytest.mark.parametrize("kind", ["list<string>", "list<int32>", "list<date>"])
def test_nothing_is_in_an_empty_list(run: Run, kind: str) -> None:
    parameter = {"l": Parameter("l", param_type(kind), min_items=0)}
    bound, _ = bind.bind(tree("SELECT 1 AS x WHERE NULL IN (:l) OR 1 = 2"), parameter, {"l": ()})
    assert run(bound.sql("duckdb")) == []
