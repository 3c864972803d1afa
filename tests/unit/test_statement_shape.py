"""What a statement gives: columns and types from contracts, order, hidden sort columns, and the types of its `?`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pyarrow as pa
import pytest

from flight_server.engines.result_types import ResultTypes
from flight_server.errors import InvalidRequest
from flight_server.plan.shape import Shape, shape
from flight_server.plan.statement import parse
from tests.fix_datasets import VALID
from tests.fix_datasets import parse as dataset

P = dataset(VALID, "p.sql")
EVERY = dataset(
    """\
-- /// dataset
-- title = "Every type"
-- [params]
-- i = { type = "list<int32>" }
-- w = { type = "map<string, float64>" }
-- b = { type = "bool", default = true }
-- m = { type = "decimal(9,2)", optional = true }
-- z = { type = "timestamp(tz)", optional = true }
-- [columns]
-- i32 = { type = "int32" }
-- i64 = { type = "int64" }
-- f32 = { type = "float32" }
-- f64 = { type = "float64" }
-- m = { type = "decimal(9,2)" }
-- s = { type = "string" }
-- d = { type = "date" }
-- ts = { type = "timestamp" }
-- tz = { type = "timestamp(tz)" }
-- b = { type = "bool" }
-- l = { type = "list<int32>" }
-- st = { type = "struct<x: int32, y: string>" }
-- ///
SELECT t.i32, t.i64, t.f32, t.f64, t.m, t.s, t.d, t.ts, t.tz, t.b, t.l, t.st FROM d.every AS t
WHERE t.i32 IN (:i) AND cardinality(:w) > 0 AND t.b = :b AND t.m = :m AND t.tz = :z
""",
    "every.sql",
)
TABLES = {"d.t": {"x": "INTEGER", "name": "VARCHAR"}}
DATASETS = {"p": P, "every": EVERY}


@pytest.fixture(scope="module")
def types() -> Iterator[ResultTypes]:
    with closing(ResultTypes()) as opened:
        yield opened


def of(types: ResultTypes, sql: str) -> Shape:
    statement = parse(sql)
    tables = {name: TABLES[name] for name in statement.tables}
    return shape(statement, [DATASETS[call.dataset] for call in statement.calls], tables, types.of)


def columns(found: Shape) -> list[tuple[str, str]]:
    shown = found.columns[: len(found.columns) - found.hidden]
    return [(column.name, str(column.type) + (" not null" if not column.nullable else "")) for column in shown]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM p('A') LIMIT 1", [("day", "date32[day] not null"), ("close", "float")]),
        ("SELECT close AS c, day FROM p('A')", [("c", "float"), ("day", "date32[day] not null")]),
        ("SELECT q.* FROM p('A') AS q (a, b)", [("a", "date32[day]"), ("b", "float")]),
        ("SELECT count(*), sum(close), max(day) FROM p('A')",
         [("_col0", "int64"), ("_col1", "double"), ("_col2", "date32[day]")]),
        ("SELECT 1, 'a' AS b, CAST('x' AS VARCHAR), 1.50", [
            ("_col0", "int32"), ("b", "string"), ("_col2", "string"), ("_col3", "decimal128(3, 2)")]),
        ("SELECT a.day, b.day, b.day AS day_1 FROM p('A') AS a JOIN p('B') AS b ON a.day = b.day",
         [("day", "date32[day]"), ("day_1", "date32[day]"), ("day_1_1", "date32[day]")]),
        ("SELECT day FROM p('A') UNION ALL SELECT day FROM p('B')", [("day", "date32[day]")]),
        ("SELECT sum(x), avg(x), x / 2, x * 1.5 FROM d.t GROUP BY x",
         [("_col0", "int64"), ("_col1", "double"), ("_col2", "int32"), ("_col3", "decimal128(12, 1)")]),
        ("SELECT * FROM every(i => ARRAY[1], w => MAP(ARRAY['a'], ARRAY[1])) WHERE b", [
            ("i32", "int32"), ("i64", "int64"), ("f32", "float"), ("f64", "double"), ("m", "decimal128(9, 2)"),
            ("s", "string"), ("d", "date32[day]"), ("ts", "timestamp[us]"), ("tz", "timestamp[us, tz=UTC]"),
            ("b", "bool"), ("l", "list<item: int32>"), ("st", "struct<x: int32, y: string>")]),
        ("SELECT l[1], st.y, TIME '10:00:00' AS t, CAST('a' AS VARBINARY) FROM every(ARRAY[1], MAP(ARRAY['a'], ARRAY[1]))",
         [("_col0", "int32"), ("y", "string"), ("t", "time64[us]"), ("_col3", "binary")]),
    ],
)  # fmt: skip
def test_columns_have_the_types_of_contracts_and_unique_names(
    types: ResultTypes, sql: str, expected: list[tuple[str, str]]
) -> None:
    assert columns(of(types, sql)) == expected


def test_a_column_as_it_is_keeps_its_doc_and_unit(types: ResultTypes) -> None:
    close, double = of(types, "SELECT close, close * 2 AS double FROM p('A')").columns[:2]
    assert (close.unit, double.unit) == ("USD", None)


@pytest.mark.parametrize(
    ("sql", "order", "hidden"),
    [
        ("SELECT day FROM p('A')", ["day"], 0),
        ("SELECT day AS d FROM p('A') WHERE close > 1 LIMIT 3", ["d"], 0),
        # The column that carries the order is not selected: it comes along, and is not sent.
        ("SELECT close FROM p('A')", ["_sort1"], 1),
        ("SELECT y FROM p('A') AS q (x, y)", ["_sort1"], 1),
        ("SELECT day FROM p('A') ORDER BY close DESC, 1", ["_sort1 desc", "day"], 1),
        ("SELECT close AS day, day AS other FROM p('A') ORDER BY day", ["day"], 0),
        ("SELECT count(*) FROM p('A')", [], 0),
        ("SELECT day, count(*) FROM p('A') GROUP BY day ORDER BY count(*) DESC NULLS FIRST, day",
         ["_col1 desc nulls first", "day"], 0),
        ("SELECT DISTINCT close FROM p('A')", [], 0),
        ("SELECT a.day FROM p('A') AS a, p('B') AS b", [], 0),
        ("SELECT day FROM p('A') UNION SELECT day FROM p('B') ORDER BY day DESC", ["day desc"], 0),
        ("SELECT name FROM d.t ORDER BY x + 1", ["_sort1"], 1),
    ],
)  # fmt: skip
def test_order_is_said_by_columns_that_are_there(types: ResultTypes, sql: str, order: list[str], hidden: int) -> None:
    found = of(types, sql)
    assert [str(key) for key in found.sorted] == order
    assert found.hidden == hidden


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM p(ticker => ?, day => ?)", ["string", "date"]),
        ("SELECT * FROM every(?, ?, ?, ?, ?)",
         ["list<int32>", "map<string, float64>", "bool", "decimal(9,2)", "timestamp(tz)"]),
        ("SELECT * FROM every(i => ARRAY[?, -?], w => MAP(ARRAY[?], ARRAY[CAST(? AS DOUBLE)]))",
         ["int32", "int32", "string", "float64"]),
        ("SELECT * FROM p('A') WHERE close > ? AND day BETWEEN ? AND ? AND ? < close AND close IN (?, ?)",
         ["float32", "date", "date", "float32", "float32", "float32"]),
        ("SELECT * FROM every(ARRAY[1], MAP()) WHERE i32 = ? OR i64 = ? OR f64 = ? OR m = ? OR ts = ? OR tz = ? OR b = ?",
         ["int32", "int64", "float64", "decimal(9,2)", "timestamp", "timestamp(tz)", "bool"]),
        ("SELECT ?, CAST(? AS DECIMAL(5,1)), CAST(? AS BIGINT) FROM d.t WHERE name LIKE ? LIMIT ? OFFSET ?",
         ["string", "decimal(5,1)", "int64", "string", "int64", "int64"]),
        ("WITH c AS (SELECT max(close) AS m FROM p(?)) SELECT * FROM c WHERE m >= (?)", ["string", "float32"]),
    ],
)  # fmt: skip
def test_parameters_have_the_types_of_what_they_stand_beside(types: ResultTypes, sql: str, expected: list[str]) -> None:
    assert [str(kind) for kind in of(types, sql).parameters] == expected


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT nothing FROM p('A')", "nothing"),
        ("SELECT x.y FROM p('A')", "y"),
        ("SELECT INTERVAL '1' DAY", "INTERVAL cannot be sent"),
        ("SELECT day FROM p('A') UNION SELECT day FROM p('B') ORDER BY close", "output columns only"),
        ("SELECT DISTINCT day FROM p('A') ORDER BY close", "output columns only"),
        ("SELECT upper(day) || close + name FROM p('A'), d.t", "Binder Error"),
        ("SELECT sum(close) FROM p('A') WHERE sum(close) > 1", "Binder Error"),
    ],
)
def test_what_has_no_type_or_order_is_refused(types: ResultTypes, sql: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        of(types, sql)
    assert caught.value.code == "sql-refused"
    assert said in caught.value.message


def test_types_are_found_without_running_anything(types: ResultTypes) -> None:
    # Run, this would be a hundred billion rows.
    sql = "SELECT count(*) AS n FROM range(1000000000) AS a, range(100) AS b"
    assert types.of(sql) == [pa.int64()]
