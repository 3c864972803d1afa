"""Functions that Athena and DuckDB both take and answer differently, run in a real DuckDB: Trino's answer, or refused.

The values are those of Trino's documentation and source; where DuckDB's own would be another one, it is beside them.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from flight_server.errors import InvalidRequest
from flight_server.plan import dialect
from flight_server.plan.qualify import qualified
from tests.fix_engine import Run, tree

ANSWERS: list[tuple[str, Any]] = [
    # Whole units that have passed; DuckDB's date_diff says 1 for each of the first five.
    ("date_diff('month', DATE '2010-01-31', DATE '2010-02-01')", 0),
    ("date_diff('year', DATE '2010-12-31', DATE '2011-01-01')", 0),
    ("date_diff('quarter', DATE '2010-03-31', DATE '2010-04-01')", 0),
    ("date_diff('day', TIMESTAMP '2010-01-01 23:00:00', TIMESTAMP '2010-01-02 01:00:00')", 0),
    ("date_diff('hour', TIMESTAMP '2010-01-01 00:59:00', TIMESTAMP '2010-01-01 01:01:00')", 0),
    ("date_diff('month', DATE '2010-01-31', DATE '2010-02-28')", 1),
    ("date_diff('month', DATE '2010-03-15', DATE '2010-01-16')", -1),
    ("date_diff('day', DATE '2024-01-01', DATE '2024-03-01')", 60),
    ("date_diff('day', NULL, DATE '2024-03-01')", None),
    # 2010-01-03 was a Sunday: 0 in DuckDB.
    ("extract(dow FROM DATE '2010-01-03')", 7),
    ("extract(day_of_week FROM DATE '2010-01-04')", 1),
    ("extract(year_of_week FROM DATE '2010-01-03')", 2009),
    ("extract(month FROM DATE '2010-01-03')", 1),
    # A day stays a day; a timestamp in DuckDB.
    ("date_trunc('month', DATE '2010-01-31')", date(2010, 1, 1)),
    ("date_add('month', 1, DATE '2010-01-31')", date(2010, 2, 28)),
    ("DATE '2010-01-31' + INTERVAL '1' DAY", date(2010, 2, 1)),
    ("date_trunc('year', DATE '2010-03-31' - INTERVAL '1' MONTH) + INTERVAL '1' DAY", date(2010, 1, 2)),
    ("date_trunc('hour', TIMESTAMP '2010-01-31 10:20:00')", datetime(2010, 1, 31, 10)),
    # 3 without the last step.
    ("reduce(ARRAY[1, 2], 0, (s, x) -> s + x, s -> s * 10)", 30),
    ("reduce(ARRAY[1, 2], 0, (s, x) -> s + x, s -> s)", 3),
    ("reduce(ARRAY[1, 2], 1, (s, x) -> s + x, s -> s * s)", 16),
    ("split_part('a,b', ',', 2)", "b"),
    ("split_part('a,,b', ',', 2)", ""),
    ("split_part('a,b', ',', 3)", None),
    ("regexp_extract('abc', 'z')", None),
    ("regexp_extract('abc', 'z*')", ""),
    ("regexp_extract('a1b2', '([a-z])([0-9])', 2)", "1"),
    ("regexp_replace('ab', '(a)', '[$1]')", "[a]b"),
    ("regexp_replace('ab', '(a)', '\\$1')", "$1b"),
    ("regexp_replace('a1b2', '[0-9]')", "ab"),
    ("array_position(ARRAY[1, 2], 3)", 0),
    ("array_position(ARRAY[1, 2], 2)", 2),
    ("array_position(CAST(NULL AS ARRAY(INTEGER)), 2)", None),
    ("array_max(ARRAY[1, NULL])", None),
    ("array_min(ARRAY[2, 1])", 1),
    # Start and length; start and end in DuckDB.
    ("slice(ARRAY[1, 2, 3, 4], 2, 2)", [2, 3]),
    ("slice(ARRAY[1, 2, 3, 4], -2, 2)", [3, 4]),
    ("slice(ARRAY[1, 2, 3, 4], -2, 9)", [3, 4]),
    ("slice(ARRAY[1, 2, 3, 4], 3, 0)", []),
    ("slice(slice(ARRAY[1, 2, 3, 4], 2, 3), 2, 2)", [3, 4]),
    ("to_base(255, 16)", "ff"),
    # Away from zero; DuckDB takes the even one.
    ("CAST(2.5e0 AS INTEGER)", 3),
    ("CAST(-2.5e0 AS BIGINT)", -3),
    ("TRY_CAST(4.5e0 AS INTEGER)", 5),
    ("CAST('abc' AS VARCHAR(2))", "ab"),
    ("CAST(CAST(NULL AS DOUBLE) AS INTEGER)", None),
    # A number with a point and no exponent is a decimal, and decimals keep the digits of the longer one.
    ("10 / 3.0", Decimal("3.3")),
    ("CAST('2.00' AS DECIMAL(10, 2)) / 3", Decimal("0.67")),
    ("CAST(1 AS DECIMAL(10, 2)) / CAST(3 AS DECIMAL(5, 3))", Decimal("0.333")),
    ("count(*) / 3.0", Decimal("0.3")),
    ("(1 + 0.50) / 7", Decimal("0.21")),
    ("-1.0 / 3", Decimal("-0.3")),
    ("1e0 / 4.0", 0.25),
    ("sum(t.i) / CAST(4 AS DOUBLE)", 0.75),
    ("avg(CAST(t.i AS DECIMAL(6, 1)) / 2)", Decimal("1.5")),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "value"), ANSWERS)
def test_duckdb_answers_as_athena_does(run_athena: Run, expression: str, value: Any) -> None:
    (row,) = run_athena(f"SELECT {expression} AS x FROM (VALUES (3)) AS t (i)")
    assert row == (value,)
    assert type(row[0]) is type(value)


def test_the_average_of_decimals_has_their_digits_also_over_windows_and_filters(run_athena: Run) -> None:
    rows = "(SELECT CAST(i AS DECIMAL(10, 2)) AS x FROM (VALUES 1, 1, 2) AS t (i)) AS t"
    assert run_athena(f"SELECT avg(x) AS a, avg(x) FILTER (WHERE x < 2) AS b FROM {rows}") == [
        (Decimal("1.33"), Decimal("1.00"))
    ]
    window = f"SELECT avg(x) OVER () AS a FROM {rows} LIMIT 1"
    assert run_athena(window) == [(Decimal("1.33"),)]


def test_the_difference_of_dates_of_a_table_is_in_whole_months(run_athena: Run) -> None:
    days = "(VALUES (DATE '2010-01-31', DATE '2010-03-30')) AS t (a, b)"
    assert run_athena(f"SELECT date_diff('month', a, b) AS m, b AS b FROM {days}") == [(1, date(2010, 3, 30))]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("split('a,b,c', ',', 2)", "split() with a limit is for Athena only"),
        ("strpos('abcbc', 'bc', 2)", "DuckDB cannot say this: STRPOS does not support the occurrence"),
        ("format('%.2f', 1.0e0)", "format() is for Athena only, not for DuckDB: it has other patterns"),
        ("skewness(t.i)", "skewness() is for Athena only"),
        ("regexp_replace('ab', '(?<n>a)', '${n}')", "DuckDB knows $1 to $9 only"),
        ("regexp_replace('ab', 'a', CAST(t.i AS VARCHAR))", "the replacement of regexp_replace() must be a literal"),
    ],
)
def test_what_duckdb_would_answer_otherwise_is_refused(run_athena: Run, expression: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match="sql-refused") as refused:
        run_athena(f"SELECT {expression} AS x FROM (VALUES (3)) AS t (i)")
    assert says in refused.value.message


def test_what_athena_cannot_say_is_refused_and_not_left_out() -> None:
    """sqlglot leaves EXCLUDE out of Athena's text: another query, under the fingerprint of the one without it."""
    sql = "SELECT sum(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW) AS s FROM d.t"
    with pytest.raises(InvalidRequest, match="Athena cannot say this: EXCLUDE clause"):
        dialect.canonical(qualified(tree(sql), {"d.t": {"x": "INTEGER"}}))


@pytest.mark.parametrize(
    "call",
    [
        "split_part({}, 'a', 1)",
        "regexp_extract({}, 'a')",
        "CAST(array_position(ARRAY[{}], 'a') AS VARCHAR)",
        "array_max(ARRAY[{}])",
        "array_min(ARRAY[split_part({}, 'b', 1)])",
        "array_join(slice(ARRAY[{}], 1, 2), '')",
    ],
)
def test_a_nest_of_what_is_written_twice_for_duckdb_is_refused(call: str) -> None:
    """Each level doubles all below it: fourteen were a million letters of SQL, and 26 s of planning."""

    def sql(levels: int) -> str:
        text = "'a'"
        for _ in range(levels):
            text = call.format(text)
        return dialect.to_duckdb(qualified(tree(f"SELECT {text} AS x"), {}), {}, {})

    assert len(sql(2)) < 5_000
    with pytest.raises(InvalidRequest, match="sql-refused.*in one another more than 5 times; put the inner ones into"):
        sql(6)


def test_the_last_step_of_a_reduce_may_name_its_state_any_number_of_times() -> None:
    text = "1"
    for _ in range(4):
        text = f"reduce(ARRAY[{text}], 0, (s, x) -> s + x, s -> {' + '.join(['s'] * 50)})"
    sql = dialect.to_duckdb(qualified(tree(f"SELECT {text} AS x"), {}), {}, {})
    assert len(sql) < 10_000
