"""Pushdown is sound: a query over only the files of its plan gives the rows of a query over all of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from flight_server.config import Keeping
from flight_server.plan import allowed, pushdown
from flight_server.plan.qualify import qualified, sql_schema
from flight_server.plan.scan import Tables
from flight_server.tables.locate import locator
from tests.fix_engine import tree
from tests.fix_two_tables import SCHEMA, STRINGS, TwoTables

SCHEMAS = {name: {**sql_schema(SCHEMA), "file": "VARCHAR"} for name in ("d.t", "d.u")}
PLAIN_SCHEMAS = {name: sql_schema(SCHEMA) for name in ("d.t", "d.u")}


def kept_rows(two_tables: TwoTables, sql: str) -> tuple[list[Any], list[Any], int]:
    """Sorted rows over all files, sorted rows over the files of the plan, and how many files the plan left out."""
    whole = qualified(tree(sql), PLAIN_SCHEMAS)
    pruned = whole.copy()
    skipped = 0
    tables = two_tables.tables
    for node in list(allowed.tables(pruned)):
        name = allowed.table_name(node)
        paths = tables.files(tables.pin(name), node).paths
        skipped += two_tables.files[name] - len(paths)
        kept = exp.select("*").from_(name).where(exp.column("file").isin(*(paths or ("none",))))
        node.replace(exp.Subquery(this=kept, alias=exp.TableAlias(this=exp.to_identifier(node.alias_or_name))))
    answers = [
        sorted(map(repr, two_tables.plain.execute(each.sql("duckdb", identify=False)).fetchall()))
        for each in (whole, pruned)
    ]
    return answers[0], answers[1], skipped


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


days = st.dates().map(str) | st.sampled_from(["2024-01-31", "2024-02-01", "2024-02-29", "2024-03-01", "2024-03-31"])
moments = st.sampled_from(["2024-01-31 23:59:59.999999", "2024-02-01 00:00:00", "2024-02-01 00:00:00.000002"])
ints = st.integers(-6, 8).map(str)
LITERALS: dict[str, st.SearchStrategy[str]] = {
    "k": ints | st.sampled_from(["2147483648", "CAST('3' AS BIGINT)", "1.5", "CAST(0.5 AS DOUBLE)"]),
    "n": ints | st.sampled_from(["CAST('-9223372036854775808' AS BIGINT)", "CAST('9223372036854775807' AS BIGINT)"]),
    "day": days.map(lambda day: f"DATE '{day}'") | moments.map(lambda moment: f"TIMESTAMP '{moment}'"),
    "ts": moments.map(lambda moment: f"CAST('{moment}' AS TIMESTAMP(6))") | st.just("DATE '2024-02-01'"),
    "tz": moments.map(lambda moment: f"CAST('{moment}+00:00' AS TIMESTAMP(6) WITH TIME ZONE)"),
    "s": st.sampled_from(STRINGS).map(text),
    "m": st.sampled_from(
        ["DECIMAL '1.10'", "CAST('1.15' AS DECIMAL(9, 2))", "CAST('1.15' AS DECIMAL(3, 1))", "1.2", "1"]
    ),
    "f": st.sampled_from(["0.1", "CAST('0.1' AS REAL)", "CAST('0.1' AS DOUBLE)", "0", "CAST('NaN' AS REAL)"]),
    "d": st.sampled_from(["0.1", "CAST('0.1' AS REAL)", "CAST('0.1' AS DOUBLE)", "0", "CAST('Infinity' AS DOUBLE)"]),
}


def terms(*aliases: str) -> st.SearchStrategy[str]:
    """Random predicates over the columns of the aliases."""

    @st.composite
    def comparison(draw: st.DrawFn) -> str:
        name = draw(st.sampled_from(sorted(LITERALS)))
        column = f"{draw(st.sampled_from(aliases))}.{name}"
        low, high = draw(LITERALS[name]), draw(LITERALS[name])
        operator = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
        form = draw(st.sampled_from(["{c} {o} {l}"] * 4 + ["{l} {o} {c}", *FORMS, *CONSTANTS]))
        return form.format(c=column, o=operator, l=low, h=high, other=f"{draw(st.sampled_from(aliases))}.{name}")

    return st.recursive(
        comparison(),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]} OR {pair[1]})"),
            st.tuples(inner, inner).map(lambda pair: f"({pair[0]} AND {pair[1]})"),
            inner.map(lambda term: f"NOT ({term})"),
            inner.map(lambda term: f"({term}) IS NOT TRUE"),
        ),
        max_leaves=4,
    )


FORMS = [
    "{c} BETWEEN {l} AND {h}",
    "{c} NOT BETWEEN {l} AND {h}",
    "{c} IN ({l}, {h})",
    "{c} NOT IN ({l}, {h})",
    "{c} IN ({l}, NULL)",
    "{c} IS NULL",
    "{c} IS NOT NULL",
    "{c} IS DISTINCT FROM {l}",
    "COALESCE({c}, {l}) {o} {h}",
    "{c} {o} {other}",
    "CASE WHEN {c} {o} {l} THEN TRUE ELSE {c} IS NULL END",
    "{l} BETWEEN {c} AND {other}",
]
CONSTANTS = ["FALSE", "TRUE"]
JOINS = ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]


@settings(max_examples=100)
@given(where=terms("t"))
def test_no_row_of_a_skipped_file_matches(two_tables: TwoTables, where: str) -> None:
    whole, kept, _ = kept_rows(two_tables, f"SELECT t.k, t.day, t.s, t.m FROM d.t AS t WHERE {where}")
    assert kept == whole


def plain_terms(*aliases: str) -> st.SearchStrategy[str]:
    """Predicates that can be pushed, one in three of which lets most rows pass; now and then a constant."""
    comparisons = ["k > 0", "k <= -1", "k BETWEEN 0 AND 9", "k > -100", "k IN (1, 5)", "k = 2"]
    comparison = st.tuples(st.sampled_from(aliases), st.sampled_from(comparisons)).map(".".join)
    return st.one_of(comparison, comparison, st.sampled_from(CONSTANTS))


@settings(max_examples=70)
@given(
    joins=st.tuples(st.sampled_from(JOINS), st.sampled_from(JOINS)),
    on=st.tuples(plain_terms("a", "b"), plain_terms("a", "b", "c") | terms("a", "b", "c")),
    where=st.just("TRUE") | plain_terms("a", "b", "c") | terms("a", "b", "c"),
)
@example(joins=("JOIN", "RIGHT JOIN"), on=("FALSE", "c.k > 0"), where="TRUE")
@example(joins=("JOIN", "FULL JOIN"), on=("(a.k = 2 AND FALSE OR b.k = 2 AND FALSE)", "c.k > 0"), where="TRUE")
@example(joins=("JOIN", "RIGHT JOIN"), on=("a.k > 0", "c.k > 0"), where="TRUE")
@example(joins=("JOIN", "FULL JOIN"), on=("b.k = 2", "b.k > 0"), where="TRUE")
@example(joins=("RIGHT JOIN", "JOIN"), on=("b.k > 0", "a.k = 2"), where="TRUE")
@example(joins=("FULL JOIN", "JOIN"), on=("b.k > 0", "FALSE"), where="TRUE")
def test_joins_keep_every_row_that_they_need(
    two_tables: TwoTables, joins: tuple[str, str], on: tuple[str, str], where: str
) -> None:
    sql = (
        f"SELECT COUNT(*) AS n, COUNT(a.k) AS a, COUNT(b.k) AS b, COUNT(c.k) AS c, SUM(a.k * 7 + b.k) AS z"
        f" FROM d.u AS a {joins[0]} d.t AS b ON a.k = b.k AND {on[0]}"
        f" {joins[1]} d.u AS c ON c.k = b.k AND {on[1]} WHERE {where}"
    )
    whole, kept, _ = kept_rows(two_tables, sql)
    assert kept == whole


@settings(max_examples=25)
@given(inner=terms("t"), outer=terms("u"), negation=st.sampled_from(["", "NOT "]))
@example(inner="t.k = 1", outer="u.k = 1", negation="NOT ")
def test_subqueries_keep_every_row_that_they_need(two_tables: TwoTables, inner: str, outer: str, negation: str) -> None:
    for condition in (
        f"{negation}EXISTS (SELECT 1 FROM d.t AS t WHERE t.k = u.k AND {inner})",
        f"u.k {negation}IN (SELECT t.k FROM d.t AS t WHERE {inner})",
        f"u.k >= (SELECT MIN(t.k) FROM d.t AS t WHERE {inner})",
    ):
        sql = f"WITH u AS (SELECT u.k, u.s FROM d.u AS u WHERE {outer}) SELECT u.k, u.s FROM u WHERE {condition}"
        whole, kept, _ = kept_rows(two_tables, sql)
        assert kept == whole
    sql = f"SELECT t.k FROM d.t AS t WHERE {inner} UNION ALL SELECT u.k FROM d.u AS u WHERE {outer}"
    whole, kept, _ = kept_rows(two_tables, sql)
    assert kept == whole


SKIPS = [
    "SELECT t.k FROM d.t AS t WHERE t.day >= DATE '2024-04-01'",
    "SELECT t.k FROM d.t AS t WHERE DATE '2024-02-29' < t.day AND t.k > -100",
    "SELECT t.k FROM d.t AS t WHERE t.day BETWEEN DATE '2024-02-01' AND DATE '2024-02-29'",
    "SELECT t.k FROM d.t AS t WHERE t.day IN (DATE '2024-02-03', DATE '2024-02-04')",
    "SELECT t.k FROM d.t AS t WHERE t.day = DATE '2024-01-30' OR t.day = DATE '2024-02-03'",
    "SELECT u.k FROM d.u AS u WHERE u.k > 2",
    "SELECT u.k FROM d.u AS u JOIN d.t AS t ON t.k = u.k AND u.k > 2",
    "SELECT u.k FROM d.u AS u LEFT JOIN d.t AS t ON t.k = u.k AND t.day > DATE '2024-03-01'",
    "SELECT t.k FROM d.u AS u RIGHT JOIN d.t AS t ON t.k = u.k WHERE u.k > 2",
    "SELECT u.k FROM d.u AS u FULL JOIN d.t AS t ON t.k = u.k WHERE u.k > 2",
    "WITH w AS (SELECT u.k FROM d.u AS u WHERE u.k > 2) SELECT w.k FROM w",
    "SELECT u.k FROM d.u AS u WHERE u.n >= 0 AND u.k < CAST('-2' AS BIGINT)",
    "SELECT u.k FROM d.u AS u WHERE FALSE",
    "SELECT u.k FROM d.u AS u WHERE u.k > 2 OR FALSE",
    # An inner ON limits the rows of its own sides, whatever is joined to them afterwards.
    "SELECT t.k FROM d.u AS u JOIN d.u AS v ON u.k = v.k AND u.k > 2 RIGHT JOIN d.t AS t ON t.k = v.k",
    "SELECT t.k FROM d.u AS u JOIN d.u AS v ON u.k = v.k AND v.k > 2 FULL JOIN d.t AS t ON t.k = v.k",
]
WHOLE = [
    # An ON of a LEFT JOIN does not limit the rows of the left side, nor one of a RIGHT JOIN the right's.
    "SELECT u.k FROM d.u AS u LEFT JOIN d.t AS t ON t.k = u.k AND u.k > 2",
    "SELECT t.k FROM d.t AS t RIGHT JOIN d.u AS u ON t.k = u.k AND u.k > 2",
    "SELECT t.k FROM d.t AS t FULL JOIN d.u AS u ON t.k = u.k AND u.k > 2 AND t.day > DATE '2024-03-01'",
    # Nor does a constant ON limit the rows of a table that an outer join adds.
    "SELECT w.k FROM d.u AS u JOIN d.u AS v ON TRUE RIGHT JOIN d.t AS w ON w.k = u.k",
    "SELECT u.k FROM d.u AS u LEFT JOIN d.t AS t ON FALSE OR t.k = u.k",
    "SELECT u.k FROM d.u AS u WHERE u.k > 2 OR u.s = u.s",
    "SELECT u.k FROM d.u AS u WHERE NOT u.k > 2",
    "SELECT u.k FROM d.u AS u WHERE COALESCE(u.k, 0) > 2",
    "SELECT u.k FROM d.u AS u WHERE u.k + 0 > 2",
    "SELECT u.k FROM d.u AS u WHERE u.k BETWEEN SYMMETRIC 5 AND 3",
    "SELECT u.k FROM d.u AS u WHERE u.k > 2147483648",
    "SELECT u.k FROM d.u AS u WHERE u.k > 2.5",
    "SELECT t.k FROM d.t AS t WHERE t.day > DATE '9999-12-31' OR t.day < DATE '0001-01-01'",
    "SELECT t.k FROM d.t AS t WHERE t.ts > CAST('9999-12-31 23:59:59.999999' AS TIMESTAMP(6))",
    # The engines widen floats in ways that Iceberg's comparison does not.
    "SELECT u.k FROM d.u AS u WHERE u.f > 1000000 AND u.d > 1000000",
    "SELECT u.k FROM d.u AS u WHERE u.f = CAST('123.5' AS REAL)",
]


@pytest.mark.parametrize("sql", SKIPS)
def test_a_plain_comparison_skips_files(two_tables: TwoTables, sql: str) -> None:
    whole, kept, skipped = kept_rows(two_tables, sql)
    assert skipped > 0
    assert kept == whole


@pytest.mark.parametrize("sql", WHOLE)
def test_what_cannot_be_pushed_soundly_skips_nothing(two_tables: TwoTables, sql: str) -> None:
    whole, kept, skipped = kept_rows(two_tables, sql)
    assert skipped == 0
    assert kept == whole


@pytest.mark.parametrize("side", ["RIGHT", "FULL"])
@pytest.mark.parametrize("on", ["FALSE", "a.k > 2 AND FALSE", "(a.k > 2 AND FALSE) OR (b.k > 2 AND FALSE)"])
def test_a_join_that_is_never_true_leaves_the_files_of_a_table_joined_from_outside(side: str, on: str) -> None:
    sql = f"SELECT c.k FROM d.u AS a JOIN d.u AS b ON {on} {side} JOIN d.t AS c ON a.k = c.k"
    scans = {node.alias: node for node in allowed.tables(qualified(tree(sql), PLAIN_SCHEMAS))}
    assert str(pushdown.row_filter(scans["c"], SCHEMA)) == "AlwaysTrue()"


@pytest.mark.parametrize(
    "term",
    [
        # Nanoseconds that a microsecond would cut off, and casts that round to fewer digits than the column has.
        "t.ts < TIMESTAMP '2024-02-01 00:00:00.000000999'",
        "t.m = CAST('1.15' AS DECIMAL(3, 1))",
        "t.ts > CAST('2024-02-01 00:00:00.600000' AS TIMESTAMP(0))",
        "t.f = 1.5",
        "t.d IN (1.5, 2.5)",
        "t.day = TIMESTAMP '2024-02-01 00:00:00'",
        "t.ts > CAST('2024-02-01 00:00:00.000600' AS TIMESTAMP)",
        "t.m = DECIMAL '1.10'",
    ],
)
def test_a_constant_that_the_column_cannot_hold_is_left_to_the_engine(term: str) -> None:
    bound = qualified(tree(f"SELECT t.k FROM d.t AS t WHERE {term}"), PLAIN_SCHEMAS)
    (scan,) = allowed.tables(bound)
    assert str(pushdown.row_filter(scan, SCHEMA)) == "AlwaysTrue()"


def test_only_the_columns_in_use_are_counted(two_tables: TwoTables) -> None:
    tables = two_tables.tables

    def size(sql: str) -> int:
        (scan,) = allowed.tables(qualified(tree(sql), PLAIN_SCHEMAS))
        return tables.files(tables.pin("d.t"), scan).bytes

    one, two = size("SELECT t.k FROM d.t AS t"), size("SELECT t.k, t.s FROM d.t AS t WHERE t.m > 0")
    assert 0 < one < two
    assert size("SELECT t.k FROM d.t AS t WHERE t.day > DATE '2024-03-01'") < size("SELECT t.k, t.day FROM d.t AS t")


@pytest.mark.parametrize(("bounds", "kept"), [({"file_lists_max": 2}, 2), ({"bytes_max": 50}, 0)])
def test_lists_of_files_are_kept_within_their_bounds(two_tables: TwoTables, bounds: dict[str, int], kept: int) -> None:
    # Past what the setting allows, so that a list of few paths meets it.
    keeping = Keeping().model_copy(update=bounds)
    tables = Tables(two_tables.catalog, locator(two_tables.catalog), kept=keeping)
    for literal in range(4):
        whole = qualified(tree(f"SELECT k FROM d.t WHERE k = {literal}"), PLAIN_SCHEMAS)
        for _ in range(2):
            tables.files(tables.pin("d.t"), next(iter(allowed.tables(whole))))
    assert len(tables._files) == kept
