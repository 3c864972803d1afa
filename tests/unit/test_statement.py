"""What SQL of a client's own may say: one SELECT over datasets, tables and CTEs in scope; everything else is refused."""

from __future__ import annotations

import pytest
from sqlglot import exp

from flight_server.errors import InvalidRequest
from flight_server.plan.statement import Statement, parameter_number, parse

REFUSED = [
    ("", "not nothing"),
    (";", "not nothing"),
    ("SELECT 1; DROP TABLE d.t", "one SELECT is run at a time"),
    ("SELECT 1; SELECT 2", "one SELECT is run at a time"),
    ("SELECT 1 /* x */; -- y\nDELETE FROM d.t", "one SELECT is run at a time"),
    ("SELECT 1 -- \n; DROP TABLE d.t", "one SELECT is run at a time"),
    ("SELECT 1 /* /* */ ; DROP TABLE d.t */", "one SELECT is run at a time"),
    ("INSERT INTO d.t VALUES (1)", "not INSERT"),
    ("UPDATE d.t SET a = 1", "not UPDATE"),
    ("DELETE FROM d.t", "not DELETE"),
    ("MERGE INTO d.t USING d.u ON true WHEN MATCHED THEN DELETE", "not MERGE"),
    ("CREATE TABLE d.x AS SELECT 1", "not CREATE"),
    ("DROP TABLE d.t", "not DROP"),
    ("ALTER TABLE d.t ADD COLUMN x int", "not ALTER"),
    ("TRUNCATE TABLE d.t", "not TRUNCATE"),
    ("COPY d.t TO '/tmp/x'", "not COPY"),
    ("ATTACH '/tmp/x' AS x", "not ATTACH"),
    ("PRAGMA version", "not PRAGMA"),
    ("SET threads = 1", "not SET"),
    ("CALL f()", "not CALL"),
    ("EXECUTE f", "not EXECUTE"),
    ("EXPLAIN SELECT 1", "not EXPLAIN"),
    ("SHOW TABLES", "not SHOW"),
    ("DESCRIBE d.t", "not DESCRIBE"),
    ("UNLOAD (SELECT 1) TO 's3://x/'", "not UNLOAD"),
    ("VALUES (1)", "not VALUES"),
    ("TABLE d.t", "not TABLE"),
    ("FROM d.t", "not FROM"),
    ("INSTALL httpfs", "not INSTALL"),
    ("WITH x AS (DELETE FROM d.t RETURNING *) SELECT * FROM x", "DELETE is not allowed"),
    ("SELECT * INTO d.x FROM d.t", "INTO is not allowed"),
    ("SELECT * FROM d.t FOR UPDATE", "LOCK is not allowed"),
    ("SELECT * FROM read_csv('/etc/passwd')", "not the function readcsv()"),
    ("SELECT * FROM read_parquet('/x')", "not the function readparquet()"),
    ("SELECT * FROM glob('*')", "not SQL"),
    ("SELECT * FROM s.read_text('/etc/passwd')", "there is no function s.read_text()"),
    ("SELECT * FROM athena_flight.s.f(1)", "there is no function s.f()"),
    ("SELECT current_setting('threads')", "the function current_setting() is not allowed"),
    ("SELECT getenv('HOME')", "the function getenv() is not allowed"),
    ("SELECT getvariable('x')", "the function getvariable() is not allowed"),
    ("SELECT version()", "the function version() is not allowed"),
    ("SELECT current_user", "current_user() is not allowed"),
    ("SELECT current_catalog", "current_catalog() is not allowed"),
    ("SELECT now()", "changes from call to call"),
    ("SELECT random()", "changes from call to call"),
    ("SELECT uuid()", "changes from call to call"),
    ("SELECT current_date", "changes from call to call"),
    ("SELECT (SELECT max(x) FROM other.d.t)", "there is no table 'other.d.t'"),
    ('SELECT * FROM "$call"."c0"', "there is no table"),
    ('SELECT * FROM "$call".c0(1)', "there is no table"),
    ('SELECT * FROM d."t$files"', "there is no table"),
    ('SELECT * FROM "a.b".c', "there is no table"),
    ("SELECT * FROM d.t FOR VERSION AS OF 1", "VERSION of a table is not allowed"),
    ("SELECT * FROM d.t TABLESAMPLE BERNOULLI (1)", "SAMPLE of a table is not allowed"),
    ("SELECT * FROM d.t PIVOT (sum(x) FOR y IN (1))", "PIVOTS of a table is not allowed"),
    ("SELECT * FROM p() TABLESAMPLE BERNOULLI (1)", "SAMPLE of a table is not allowed"),
    ("SELECT * FROM d.t, LATERAL (SELECT 1)", "not LATERAL"),
    ("SELECT :x", "write ? and bind by place"),
    ("SELECT @x", "write ? and bind by place"),
    ("SELECT ?::int", "not SQL"),
    ("SELECT 'open", "not SQL"),
    ("SELECT FROM", "not SQL: Expected table name but got the end at line 1, column 11"),
    ("SELECT * FROM p WHERE", "not SQL: WHERE lacks what belongs to it at line 1, column 21"),
    ("SELECT " + "(" * 4_000 + "1" + ")" * 4_000, "not SQL"),
    ("SELECT 1" + " + 1" * 10_000, "at most 10,000 are read"),
    ("SELECT 1" + " + 1" * 200, "nested more than 150 deep"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "said"), REFUSED, ids=range(len(REFUSED)))
def test_everything_but_one_select_is_refused(sql: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(sql)
    assert caught.value.code == "sql-refused"
    assert said in caught.value.message


def calls(statement: Statement) -> list[tuple[str, list[str]]]:
    return [(call.dataset, [argument.sql("athena") for argument in call.arguments]) for call in statement.calls]


@pytest.mark.parametrize(
    ("sql", "called"),
    [
        ("SELECT * FROM p(ticker => 'A', n => 1)", [("p", ["ticker => 'A'", "n => 1"])]),
        ("SELECT * FROM p('A', DATE '2010-01-04');", [("p", ["'A'", "CAST('2010-01-04' AS DATE)"])]),
        ("SELECT * FROM TABLE(p(ticker => 'A'))", [("p", ["ticker => 'A'"])]),
        ('SELECT * FROM "datasets"."p"(1)', [("p", ["1"])]),
        ("SELECT * FROM athena_flight.datasets.p", [("p", [])]),
        ("(SELECT * FROM p)", [("p", [])]),
        ("SELECT * FROM p(1) AS a JOIN p(2) AS b ON a.x = b.x", [("p", ["1"]), ("p", ["2"])]),
        ("WITH c AS (SELECT * FROM p(1)) SELECT * FROM c", [("p", ["1"])]),
        ("WITH p AS (SELECT 1 AS x) SELECT * FROM p", []),
        # A CTE out of scope hides no name: an engine's own views must not pass under it.
        ("SELECT * FROM (WITH c AS (SELECT 1 AS x) SELECT x FROM c) AS q CROSS JOIN c", [("c", [])]),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1 AS x) SELECT * FROM a", [("b", [])]),
        ("WITH a AS (SELECT * FROM a) SELECT * FROM a", [("a", [])]),
        ("WITH RECURSIVE a (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM a WHERE n < 3) SELECT * FROM a", []),
        ("SELECT 1 UNION ALL SELECT x FROM p WHERE x IN (SELECT y FROM q)", [("p", []), ("q", [])]),
        ("SELECT '; DROP TABLE x', \"a?b\" FROM p /* ? ; */ -- ?", [("p", [])]),
    ],
)  # fmt: skip
def test_dataset_calls_are_found_where_they_are(sql: str, called: list[tuple[str, list[str]]]) -> None:
    found = parse(sql)
    assert sorted(calls(found)) == sorted(called)
    assert found.tables == ()
    assert found.parameters == 0


def test_tables_of_the_catalog_are_told_from_datasets() -> None:
    found = parse('SELECT * FROM D.T AS p JOIN datasets.u ON true JOIN athena_flight."e".v ON true')
    assert found.tables == ("d.t", "e.v")
    assert [call.dataset for call in found.calls] == ["u"]


def test_parameters_are_numbered_by_their_place_in_the_text() -> None:
    found = parse("WITH c AS (SELECT * FROM p(?, ARRAY[?])) SELECT x + ? FROM c WHERE '?' <> ? LIMIT ? -- ?")
    assert found.parameters == 5
    (call,) = found.calls
    inside = [parameter_number(n) for argument in call.arguments for n in argument.find_all(exp.Placeholder)]
    outside = {parameter_number(node): type(node.parent) for node in found.tree.find_all(exp.Placeholder)}
    assert inside == [1, 2]
    assert outside == {3: exp.Add, 4: exp.NEQ, 5: exp.Limit}


@pytest.mark.parametrize(
    ("sql", "whole"),
    [
        ("SELECT * FROM p(1)", True),
        ("SELECT * FROM p AS q", True),
        ("SELECT * FROM p(1) LIMIT 1", False),
        ("SELECT DISTINCT * FROM p(1)", False),
        ("SELECT q.* FROM p(1) AS q", False),
        ("SELECT * EXCLUDE (x) FROM p(1)", False),
        ("SELECT * FROM p(1) AS q (a, b)", False),
        ("SELECT * FROM p(1), p(2)", False),
        ("SELECT * FROM p(1) WHERE true", False),
        ("WITH c AS (SELECT 1) SELECT * FROM p(1)", False),
        ("SELECT * FROM d.t", False),
    ],
)
def test_a_statement_that_is_a_dataset_and_nothing_else_is_known(sql: str, whole: bool) -> None:
    assert parse(sql).whole is whole
