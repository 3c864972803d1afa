"""The local Athena's SQL: Trino's functions, types and rounding, as far as datasets use them."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError
from pyiceberg.catalog import Catalog

from tests.fix_athena import AthenaClient

EXPRESSIONS = [
    ("date_trunc('month', DATE '2024-02-29')", "2024-02-01"),
    ("date_trunc('day', TIMESTAMP '2024-02-29 10:11:12.123456')", "2024-02-29 00:00:00.000000"),
    ("date_add('day', 1, DATE '2024-02-29')", "2024-03-01"),
    ("DATE '2024-01-31' + INTERVAL '1' MONTH", "2024-02-29"),
    ("date_diff('month', DATE '2024-01-31', DATE '2024-02-01')", "0"),
    ("date_diff('second', TIMESTAMP '1970-01-01 00:00:00', TIMESTAMP '0001-01-01 00:00:00')", "-62135596800"),
    ("transform_values(MAP(ARRAY['a'], ARRAY[1]), (k, v) -> k || CAST(v + 1 AS varchar))", "{a=a2}"),
    ("transform_keys(MAP(ARRAY['a'], ARRAY[1]), (k, v) -> k || 'b')", "{ab=1}"),
    ("map_filter(MAP(ARRAY['a', 'b'], ARRAY[1, 2]), (k, v) -> v > 1)", "{b=2}"),
    ("to_unixtime(TIMESTAMP '2024-01-01 00:00:00.500')", "1.7040672005E9"),
    ("CAST(to_unixtime(TIMESTAMP '2024-01-01 00:00:00.123456') * 1000000 AS bigint)", "1704067200123456"),
    ("from_unixtime(1700000000)", "2023-11-14 22:13:20.000 UTC"),
    ("format_datetime(TIMESTAMP '2024-01-02 03:04:05', 'yyyy-MM-dd''T''HH:mm')", "2024-01-02T03:04"),
    ("date_format(DATE '2024-01-02', '%Y-%m')", "2024-01"),
    ("date_parse('2024-01-02', '%Y-%m-%d')", "2024-01-02 00:00:00.000"),
    ("to_iso8601(DATE '2024-01-02')", "2024-01-02"),
    ("to_iso8601(TIMESTAMP '2024-01-02 03:04:05.678')", "2024-01-02T03:04:05.678"),
    ("CAST(CAST('2024-01-01 00:00:00.1235' AS timestamp(6)) AS timestamp(3))", "2024-01-01 00:00:00.124"),
    ("CAST(TIMESTAMP '1960-01-01 00:00:00.1235' AS timestamp(3))", "1960-01-01 00:00:00.124"),
    ("CAST(TIMESTAMP '2024-01-01 00:00:00.5' AS varchar)", "2024-01-01 00:00:00.500"),
    ("CAST(1e10 AS varchar)", "1.0E10"),
    ("CAST(0.0001e0 AS varchar)", "1.0E-4"),
    ("CAST(12.5e0 AS varchar)", "12.5"),
    ("CAST('abcdef' || 'g' AS varchar(3))", "abc"),
    ("7 / 2", "3"),
    ("7e0 / 2", "3.5"),
    ("-7 % 3", "-1"),
    ("element_at(ARRAY[1, 2], 2)", "2"),
    ("element_at(ARRAY[1, 2], 3)", None),
    ("element_at(MAP(ARRAY['a'], ARRAY[1]), 'a')", "1"),
    ("map_keys(MAP(ARRAY['a', 'b'], ARRAY[1, 2]))", "[a, b]"),
    ("transform(ARRAY[1, 2], x -> x * 2)", "[2, 4]"),
    ("filter(ARRAY[1, 2], x -> x > 1)", "[2]"),
    ("reduce(ARRAY[1, 2], 0, (s, x) -> s + x, s -> s)", "3"),
    ("CAST(ROW(1, 'a') AS ROW(x integer, y varchar))", "{x=1, y=a}"),
    ("ARRAY[1, NULL]", "[1, null]"),
    ("json_format(CAST(ARRAY[1, 2] AS json))", "[1,2]"),
    ("json_extract_scalar('{\"a\": {\"b\": 1}}', '$.a.b')", "1"),
    ("X'00ff'", "00 ff"),
    ("try_cast('x' AS integer)", None),
    ("regexp_like('abc', '^a')", "true"),
    ("round(1.255, 2)", "1.26"),
    ("ln(exp(1))", "1.0"),
    ("infinity()", "Infinity"),
    ("nan()", "NaN"),
    ("-0e0", "-0.0"),
    ("123456789e0", "1.23456789E8"),
    ("1e-3", "0.001"),
    ("100e0", "100.0"),
    ("CAST(3e10 AS real)", "3.0E10"),
    ("CAST(1.1 AS real)", "1.1"),
    ("CAST(TIMESTAMP '2024-01-01 00:00:00 UTC' AT TIME ZONE 'America/New_York' AS date)", "2023-12-31"),
]

TYPES = [
    ("1", "integer", 10),
    ("CAST(1 AS bigint)", "bigint", 19),
    ("CAST(1 AS smallint)", "smallint", 5),
    ("CAST(1 AS tinyint)", "tinyint", 3),
    ("CAST(1 AS real)", "float", 17),
    ("1e0", "double", 17),
    ("1.25", "decimal", 3),
    ("CAST(1 AS decimal(38, 18))", "decimal", 38),
    ("'a'", "varchar", 2147483647),
    ("true", "boolean", 0),
    ("DATE '2024-01-01'", "date", 0),
    ("TIMESTAMP '2024-01-01 00:00:00.000'", "timestamp", 3),
    ("TIMESTAMP '2024-01-01 00:00:00.000000'", "timestamp", 6),
    ("current_timestamp", "timestamp with time zone", 3),
    ("X'00'", "varbinary", 1073741824),
    ("ARRAY[1]", "array", 0),
    ("MAP(ARRAY['a'], ARRAY[1])", "map", 0),
    ("ROW(1, 2)", "row", 0),
    ("uuid()", "uuid", 0),
    ("CAST('1' AS json)", "json", 0),
    ("sum(CAST(1 AS bigint))", "bigint", 19),
    ("NULL", "unknown", 0),
]


def test_expressions_have_athenas_values(athena: AthenaClient) -> None:
    listed = ", ".join(expression for expression, _ in EXPRESSIONS)
    found = athena.rows(f"SELECT {listed}")[0]
    assert dict(zip([e for e, _ in EXPRESSIONS], found, strict=True)) == dict(EXPRESSIONS)


def test_floats_of_one_column_are_written_each_in_its_way(athena: AthenaClient) -> None:
    listed = "(1e0), (1e7), (NULL), (0.5e0), (nan()), (0e0), (-infinity()), (1e-4)"
    found = athena.rows(f"SELECT x FROM (VALUES {listed}) AS v(x)")
    assert [row[0] for row in found] == ["1.0", "1.0E7", None, "0.5", "NaN", "0.0", "-Infinity", "1.0E-4"]


def test_expressions_have_athenas_types(athena: AthenaClient) -> None:
    listed = ", ".join(f"{expression} AS c{i}" for i, (expression, _, _) in enumerate(TYPES))
    id_ = athena.run(f"SELECT {listed}")["QueryExecutionId"]
    infos = athena.api.get_query_results(QueryExecutionId=id_)["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
    found = [(e, i["Type"], i["Precision"]) for (e, _, _), i in zip(TYPES, infos, strict=True)]
    assert found == TYPES


def test_aggregates_and_windows(athena: AthenaClient) -> None:
    sql = """
        SELECT ticker, count(*) AS n, approx_distinct(id), arbitrary(ticker), round(corr(price, id), 6),
               round(stddev(price), 3), count_if(price > 10), count(*) FILTER (WHERE price < 1),
               array_agg(id ORDER BY id DESC)[1], max_by(id, price)
        FROM prices WHERE id < 100 GROUP BY ticker ORDER BY ticker"""
    (first, second) = athena.rows(sql)
    assert first == ["AAPL", "50", first[2], "AAPL", "1.0", "14.577", "39", "1", "98", "98"]
    assert second[0] == "MSFT"
    windows = """
        SELECT id, lag(nullif(price, 0.5)) IGNORE NULLS OVER (ORDER BY id),
               sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
        FROM prices WHERE id < 3 ORDER BY id"""
    assert athena.rows(windows) == [["0", None, "0"], ["1", "0.0", "1"], ["2", "0.0", "3"]]


UNNEST = [
    ("SELECT x, y FROM UNNEST(ARRAY[1, 2], ARRAY['a']) AS u(x, y) ORDER BY x", [["1", "a"], ["2", None]]),
    ("SELECT id, x, n FROM prices CROSS JOIN UNNEST(tags) WITH ORDINALITY AS u(x, n) WHERE id < 2 ORDER BY n",
     [["0", "a", "1"], ["0", "b", "2"]]),
    ("SELECT k, v FROM prices, UNNEST(counts) AS u(k, v) WHERE id = 7", [["x", "7"]]),
    ("SELECT id, x FROM prices LEFT JOIN UNNEST(tags) AS u(x) ON true WHERE id = 1", [["1", None]]),
    ("SELECT a, b FROM UNNEST(ARRAY[CAST(ROW(1, 'x') AS ROW(p integer, q varchar))]) AS u(a, b)", [["1", "x"]]),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "rows"), UNNEST)
def test_unnest(athena: AthenaClient, sql: str, rows: list[list[str | None]]) -> None:
    assert athena.rows(sql) == rows


def test_names_are_resolved_as_athena_does(athena: AthenaClient) -> None:
    three = 'SELECT p.id FROM "awsdatacatalog"."lake"."prices" AS p WHERE p.id = 1'
    assert athena.rows(three) == [["1"]]
    assert athena.rows("SELECT lake.prices.id FROM lake.prices WHERE lake.prices.id = 1") == [["1"]]
    assert athena.rows("WITH prices AS (SELECT 1 AS one) SELECT one FROM prices") == [["1"]]


def test_unnamed_columns_get_trinos_names(athena: AthenaClient) -> None:
    id_ = athena.run("SELECT 1, ID, count(*) AS N FROM prices GROUP BY id LIMIT 1")["QueryExecutionId"]
    infos = athena.api.get_query_results(QueryExecutionId=id_)["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
    assert [i["Name"] for i in infos] == ["_col0", "id", "n"]


def test_time_travel(athena: AthenaClient, lake: Catalog) -> None:
    athena.run("CREATE TABLE travel WITH (table_type='ICEBERG', is_external=false, location="
               f"'s3://{athena.aws.bucket}/travel/') AS SELECT id FROM prices WHERE id < 10")  # fmt: skip
    table = lake.load_table("lake.travel")
    first = table.current_snapshot()
    assert first is not None
    athena.run("INSERT INTO travel VALUES (10)")
    assert athena.rows("SELECT count(*) FROM travel") == [["11"]]
    assert athena.rows(f"SELECT count(*) FROM travel FOR VERSION AS OF {first.snapshot_id}") == [["10"]]
    second = table.refresh().current_snapshot()
    assert second is not None
    at = f"{second.timestamp_ms / 1000 - 0.001:.3f}"
    stamp = athena.one(f"date_format(from_unixtime({at}), '%Y-%m-%d %H:%i:%s.%f')")
    found = athena.rows(f"SELECT count(*) FROM travel FOR TIMESTAMP AS OF TIMESTAMP '{stamp} UTC'")
    assert found == [["10"]]
    later = "SELECT count(*) FROM travel FOR TIMESTAMP AS OF current_timestamp + INTERVAL '1' DAY"
    assert athena.rows(later) == [["11"]]
    reason = athena.reason("SELECT * FROM travel FOR VERSION AS OF 1")
    assert "Iceberg snapshot ID does not exist: 1" in reason
    assert "No version history" in athena.reason(
        "SELECT * FROM travel FOR TIMESTAMP AS OF TIMESTAMP '2020-01-01 00:00:00 UTC'"
    )


def test_a_subquery_has_no_order(athena: AthenaClient) -> None:
    inner = "SELECT id FROM prices ORDER BY id DESC"
    assert athena.rows(f"SELECT id FROM ({inner})")[0] != ["599"]
    assert athena.rows(f"SELECT id FROM ({inner} LIMIT 3)")[0] == ["599"]
    assert athena.rows(f"({inner})")[0] == ["599"]


def test_a_table_never_written_to_is_empty(athena: AthenaClient) -> None:
    assert athena.rows("SELECT count(*), max(amount) FROM nothing") == [["0", None]]


def test_snapshots_are_a_table(athena: AthenaClient) -> None:
    assert athena.rows('SELECT operation FROM "prices$snapshots"') == [["append"]]


REASONS = [
    ("SELECT\n  nope FROM prices", "COLUMN_NOT_FOUND: line 2:3: Column 'nope' cannot be resolved"),
    ("SELECT * FROM nope", "TABLE_NOT_FOUND: line 1:15: Table 'awsdatacatalog.lake.nope' does not exist"),
    ("SELECT * FROM nowhere.t", "SCHEMA_NOT_FOUND: line 1:"),
    ("SELECT ffoo(1)", "FUNCTION_NOT_FOUND: line 1:1: Function 'ffoo' not registered"),
    ("SELECT sum(ticker) FROM prices", "TYPE_MISMATCH"),
    ("SELECT CAST('a' AS integer)", "INVALID_CAST_ARGUMENT"),
    ("SELECT date_diff('microsecond', ts, ts) FROM prices", "'microsecond' is not a valid TIMESTAMP field"),
    ("UPDATE prices SET id = 1", "NOT_SUPPORTED"),
]


@pytest.mark.parametrize(("sql", "reason"), REASONS)
def test_what_makes_no_sense_fails(athena: AthenaClient, sql: str, reason: str) -> None:
    status = athena.run(sql)["Status"]
    assert status["State"] == "FAILED"
    assert reason in status["StateChangeReason"]
    error = status["AthenaError"]
    assert (error["ErrorCategory"], error["Retryable"]) == (2, False)
    assert error["ErrorMessage"] == status["StateChangeReason"]


@pytest.mark.parametrize(
    "sql",
    ["SELEC 1", "SELECT 1 FROM", "SELECT (1", "SELECT 'a", "UNLOAD SELECT 1", "SELECT 1; SELECT 2",
     "UNLOAD (SELECT 1 AS a) 's3://b/c/'", "UNLOAD (SELECT 1 AS a", "GARBAGE IN"],
)  # fmt: skip
def test_what_does_not_parse_is_refused_at_start(athena: AthenaClient, sql: str) -> None:
    before = athena.aws.athena.state()["started"]
    with pytest.raises(ClientError, match=r"\(InvalidRequestException\)"):
        athena.start(sql)
    assert athena.aws.athena.state()["started"] == before
