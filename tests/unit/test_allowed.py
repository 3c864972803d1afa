"""What a query may name: the first wall, over the parsed tree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flight_server.datasets import query
from flight_server.errors import InvalidRequest
from flight_server.plan import allowed
from tests.fix_datasets import message


class NotParsed(ValueError):
    """The text is no single SELECT."""


def refusal(sql: str) -> str | None:
    """Why `sql` is refused by the parser or by the wall; None when it is not."""

    def check() -> None:
        allowed.check(query.parse(sql, lambda line, column, said: NotParsed(f"{line}:{column}: {said}")))

    return message(check)


# What DuckDB would run, and Athena not, or with another meaning.
FOREIGN = [
    ("SELECT x FROM a.t GROUP BY ALL", "GROUP BY ALL is not Athena's; name the columns"),
    ("SELECT x FROM a.t UNION BY NAME SELECT x FROM a.t", "UNION BY NAME is not Athena's"),
    ("SELECT x FROM a.t LIMIT 10%", "Athena has no PERCENT"),
    ("SELECT t.x FROM a.t ASOF JOIN a.u ON t.x >= u.x", "ASOF JOIN is not Athena's"),
    ("SELECT x FROM a.t WHERE s GLOB 'a*'", "GLOB is not Athena's"),
    ("SELECT x FROM a.t WHERE s SIMILAR TO 'a'", "SIMILAR TO is not Athena's"),
    ("SELECT x FROM a.t WHERE NOT (s IS TRUE)", "write COALESCE(…, FALSE)"),
    ("SELECT x IS NOT FALSE AS x FROM a.t", "write COALESCE(…, FALSE)"),
    ("SELECT CAST(x AS HUGEINT) AS x FROM a.t", "the type INT128 is not Athena's"),
    ("SELECT DECIMAL '2.05' AS x", "DECIMAL needs its digits: CAST(… AS DECIMAL(10, 2))"),
    ("SELECT CAST(x AS DECIMAL) AS x FROM a.t", "DECIMAL needs its digits"),
    ("SELECT CAST(x AS CHAR) AS x FROM a.t", "CHAR needs its digits"),
]


@pytest.mark.parametrize(("sql", "says"), FOREIGN)
def test_what_only_duckdb_takes_is_refused_with_what_athena_takes(sql: str, says: str) -> None:
    assert says in (refusal(sql) or "")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT CAST(x AS DECIMAL(10, 2)) AS x FROM a.t WHERE y IS NULL AND z IS NOT NULL LIMIT 10",
        "SELECT CAST(x AS CHAR(3)) AS x FROM a.t UNION ALL SELECT s FROM a.u FETCH FIRST 5 ROWS ONLY",
        "SELECT CAST(x AS TINYINT) AS x, count(*) AS n FROM a.t LEFT JOIN a.u ON t.x = u.x GROUP BY x",
        "SELECT CAST(x AS VARCHAR) AS x FROM a.t NATURAL JOIN a.u",
        # Printed as NOT EXISTS.
        "SELECT x FROM a.t ANTI JOIN a.u ON t.x = u.x",
    ],
)
def test_what_athena_takes_is_not_refused_as_foreign(sql: str) -> None:
    assert refusal(sql) is None


FROM_REFUSED = [
    ("SELECT 1 AS x FROM read_csv('/etc/passwd')", "read_csv() is not allowed in FROM"),
    ("SELECT 1 AS x FROM read_csv_auto('x')", "read_csv_auto"),
    ("SELECT 1 AS x FROM read_parquet('/warehouse/other/*.parquet')", "read_parquet() is not allowed in FROM"),
    ("SELECT 1 AS x FROM read_text('/etc/passwd')", "read_text"),
    ("SELECT 1 AS x FROM parquet_scan('/x')", "parquet_scan"),
    ("SELECT 1 AS x FROM iceberg_scan('/x')", "iceberg_scan"),
    ("SELECT 1 AS x FROM glob('*')", "not SQL"),
    ("SELECT 1 AS x FROM duckdb_settings()", "duckdb_settings"),
    ("SELECT 1 AS x FROM duckdb_secrets()", "duckdb_secrets"),
    ("SELECT 1 AS x FROM pragma_version()", "pragma_version"),
    ("SELECT 1 AS x FROM generate_series(1, 10)", "sequence() is not allowed in FROM"),
    ("SELECT 1 AS x FROM range(10)", "range"),
    ("SELECT 1 AS x FROM TABLE(system.query(query => 'SELECT 1'))", ""),
    ("SELECT 1 AS x FROM query('SELECT 1')", "query"),
    ("SELECT 1 AS x FROM query_table('t')", "query_table"),
    ("SELECT 1 AS x FROM a.t, read_csv('/etc/passwd')", "read_csv() is not allowed in FROM"),
    ("SELECT 1 AS x FROM a.t JOIN read_csv('/etc/passwd') AS r ON TRUE", "read_csv() is not allowed in FROM"),
    ("SELECT 1 AS x FROM (SELECT 1 FROM read_csv('/etc/passwd')) AS s", "read_csv() is not allowed in FROM"),
    ("SELECT 1 AS x WHERE EXISTS (SELECT 1 FROM read_csv('/etc/passwd'))", "read_csv() is not allowed in FROM"),
    (
        "WITH w AS (SELECT 1 AS y FROM read_csv('/etc/passwd')) SELECT y AS x FROM w",
        "read_csv() is not allowed in FROM",
    ),
    ("SELECT 1 AS x FROM a.t UNION ALL SELECT 1 FROM read_csv('/etc/passwd')", "read_csv() is not allowed in FROM"),
    ("SELECT 1 AS x FROM '/etc/passwd'", ""),
    ('SELECT 1 AS x FROM "/etc/passwd"', "has no database"),
    ('SELECT 1 AS x FROM "data.csv"', "has no database"),
    ("SELECT 1 AS x FROM t", "the table 't' has no database"),
    ("SELECT 1 AS x FROM awsdatacatalog.a.t", "write database.table, without a catalog"),
    ('SELECT 1 AS x FROM "a"."b"."c"', "without a catalog"),
    ("SELECT 1 AS x FROM c.information_schema.tables", "without a catalog"),
    ('SELECT 1 AS x FROM a."t$files"', "the metadata table 't$files'"),
    ('SELECT 1 AS x FROM a."t$history"', "metadata table"),
    ("SELECT 1 AS x FROM a.t FOR VERSION AS OF 5", "ask with as_of"),
    ("SELECT 1 AS x FROM a.t FOR TIMESTAMP AS OF TIMESTAMP '2020-01-01 00:00:00'", "ask with as_of"),
    ("SELECT 1 AS x FROM a.t TABLESAMPLE BERNOULLI (10)", "its rows change from call to call"),
    ("SELECT 1 AS x FROM LATERAL (SELECT 1) AS l", ""),
    ("SELECT UNNEST(ARRAY[1]) AS x FROM a.t", "UNNEST stands in FROM"),
    ("SELECT 1 AS x FROM (DESCRIBE a.t)", "DESCRIBE is not allowed"),
    ("SELECT 1 AS x FROM a.t PIVOT (sum(y) FOR z IN (1, 2))", "Athena does not have it"),
    ("SELECT 1 AS x FROM (SELECT y, z FROM a.t) PIVOT (sum(y) FOR z IN (1, 2))", "Athena does not have it"),
    ("SELECT a.t.x AS x FROM a.t START WITH x = 1 CONNECT BY PRIOR x = y", "Athena does not have it"),
]
FUNCTIONS_REFUSED = [
    *(f"{name}" for name in ("getenv('HOME')", "current_setting('x')", "GETENV('HOME')", "\"getenv\"('HOME')")),
    *("read_blob('/x')", "pg_read_file('/x')", "load_extension('x')", "system('ls')", "getvariable('x')"),
    *("version()", "current_database()", "current_schema()", "current_user", "current_catalog"),
    *("nextval('s')", "txid_current()", "pg_sleep(10)", "sleep(10)", "hash(1)", "list_transform(ARRAY[1], x -> x)"),
    *(
        "getenv ('HOME')",
        "getenv/**/('HOME')",
        "getenv--\n('HOME')",
        "abs(getenv('HOME'))",
        "1 + length(getenv('HOME'))",
    ),
    *("CASE WHEN TRUE THEN getenv('HOME') END", "CAST(getenv('HOME') AS VARCHAR)", "COALESCE(NULL, getenv('HOME'))"),
    *(
        "ARRAY[getenv('HOME')]",
        "transform(ARRAY[1], x -> getenv('HOME'))",
        "COUNT(*) FILTER (WHERE getenv('HOME') = 'x')",
    ),
    *("SUM(1) OVER (ORDER BY getenv('HOME'))", "(SELECT getenv('HOME'))", "ｇetenv('HOME')", "system.getenv('HOME')"),
    *("approx_most_frequent(3, 1, 10)", "apply(1)", "external_function('x')", "@x", "@@version"),
]
CHANGING = [
    "now()",
    "random()",
    "rand()",
    "uuid()",
    "current_date",
    "current_timestamp",
    "localtime",
    "localtimestamp",
    "current_time",
    "shuffle(ARRAY[1])",
    "RANDOM ( )",
    "date_trunc('day', now())",
    "current_timestamp(3)",
]
STATEMENTS = [
    "COPY (SELECT 1) TO '/tmp/x'",
    "ATTACH '/tmp/x.db'",
    "PRAGMA database_list",
    "SET memory_limit = '1TB'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "INSERT INTO a.t SELECT 1",
    "UPDATE a.t SET x = 1",
    "DELETE FROM a.t",
    "MERGE INTO a.t USING a.u ON 1 = 1 WHEN MATCHED THEN DELETE",
    "CREATE TABLE a.t AS SELECT 1 AS x",
    "DROP TABLE a.t",
    "ALTER TABLE a.t ADD COLUMN x int",
    "TRUNCATE TABLE a.t",
    "CALL f()",
    "EXPLAIN SELECT 1",
    "UNLOAD (SELECT 1) TO 's3://x/' WITH (format = 'PARQUET')",
    "MSCK REPAIR TABLE a.t",
    "VACUUM a.t",
    "OPTIMIZE a.t REWRITE DATA USING BIN_PACK",
    "PREPARE p FROM SELECT 1",
    "EXECUTE p",
    "SHOW TABLES",
    "DESCRIBE a.t",
    "USE a",
    "GRANT SELECT ON a.t TO x",
    "SELECT 1 INTO a.t",
    "EXPORT DATABASE 'x'",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP TABLE a.t",
    "SELECT 1 --\n; DROP TABLE a.t",
    "SELECT 1 /* ; */ ; COPY a.t TO 'x'",
    "",
    ";",
    "-- nothing",
    "SELECT 1 AS x FROM a.t FOR UPDATE",
    "VALUES 1; DROP TABLE a.t",
]


@pytest.mark.parametrize(("sql", "said"), FROM_REFUSED)
def test_from_takes_only_tables_of_the_catalog(sql: str, said: str) -> None:
    assert said in (refusal(sql) or "not refused")
    assert refusal(sql)


@pytest.mark.parametrize("call", FUNCTIONS_REFUSED)
def test_a_function_that_is_not_listed_is_refused_wherever_it_stands(call: str) -> None:
    assert refusal(f"SELECT {call} AS x FROM a.t")


@pytest.mark.parametrize("call", CHANGING)
def test_a_function_that_changes_from_call_to_call_says_what_to_use(call: str) -> None:
    assert "changes from call to call; use a parameter" in (refusal(f"SELECT {call} AS x FROM a.t") or "")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_only_one_select_is_run(statement: str) -> None:
    assert refusal(statement)


def test_the_refusal_names_the_nearest_function() -> None:
    assert "the function regexp_lik() is not allowed; did you mean 'regexp_like'?" in (
        refusal("SELECT regexp_lik('a', 'b') AS x FROM a.t") or ""
    )


GOOD = [
    "SELECT a.x AS x FROM d.t AS a JOIN d.u AS b ON a.k = b.k LEFT JOIN d.v AS c ON c.k = b.k",
    "SELECT x FROM d.t WHERE x IN (SELECT y FROM d.u) AND EXISTS (SELECT 1 FROM d.v)",
    "WITH w AS (SELECT x FROM d.t), v AS (SELECT x FROM w) SELECT x FROM v UNION ALL SELECT x FROM W",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i AS x FROM n",
    "SELECT t.k, u.v FROM d.t AS t CROSS JOIN UNNEST(t.m) WITH ORDINALITY AS u (k, v, n)",
    "SELECT v.a AS x FROM (VALUES (1, 'a'), (2, 'b')) AS v (a, b)",
    "SELECT x FROM d.t GROUP BY GROUPING SETS ((x), ()) HAVING COUNT(*) > 1 ORDER BY x DESC NULLS FIRST LIMIT 10",
    "(SELECT x FROM d.t) INTERSECT (SELECT x FROM d.u) EXCEPT SELECT x FROM d.v",
    "SELECT 'COPY; DROP TABLE -- read_csv(''x'')' AS x, \"read_csv\" AS y FROM d.t",
]
EVERYDAY = """
    abs(x); round(x, 2); ceil(x); floor(x); power(x, 2); sqrt(x); ln(x); exp(x); sign(x); mod(x, 3); greatest(x, 1)
    least(x, 1); log(2, x); log10(x); truncate(x); pi(); width_bucket(x, 0, 10, 5); x % 3; -x; x || 'a'; x AND y
    NOT x; x IS NULL; x IS DISTINCT FROM y; length(s); lower(s); upper(s); trim(s); substr(s, 2); substring(s, 1, 2)
    replace(s, 'a', 'b'); concat(s, 'a'); split(s, ','); split_part(s, ',', 1); strpos(s, 'a'); position('a' IN s)
    reverse(s); lpad(s, 3, 'x'); starts_with(s, 'a'); regexp_like(s, 'a'); regexp_extract(s, 'a'); format('%s', s)
    date_trunc('month', d); date_add('day', 1, d); date_diff('day', d, d); d + INTERVAL '1' DAY; year(d); month(d)
    day(d); day_of_week(d); quarter(d); extract(YEAR FROM d); last_day_of_month(d); date_format(d, '%Y')
    date_parse(s, '%Y'); from_unixtime(x); to_unixtime(d); date(d); date '2024-01-01'; from_iso8601_date(s)
    timestamp '2024-01-01 00:00:00.123456'; d AT TIME ZONE 'UTC'; hour(d); format_datetime(d, 'yyyy'); week(d)
    doy(d); coalesce(x, 1); nullif(x, 1); if(x, 1, 2); CASE WHEN x THEN 1 END; CASE x WHEN 1 THEN 2 END
    cast(x AS decimal(12, 2)); try_cast(x AS integer); try(x); x BETWEEN 1 AND 2; x IN (1, 2)
    s LIKE 'a%' ESCAPE '\\'; x = ANY (SELECT y FROM d.u); x > ALL (SELECT y FROM d.u); typeof(x); cardinality(a)
    element_at(a, 1); contains(a, 1); array_join(a, ','); array_distinct(a); array_sort(a); array_max(a)
    transform(a, e -> e + 1); filter(a, e -> e > 1); reduce(a, 0, (s, e) -> s + e, s -> s); sequence(1, 3)
    slice(a, 1, 2); flatten(a); map_keys(m); map(a, a); a[1]; zip(a, a); ARRAY[1, 2]; row(1, 2)
    any_match(a, e -> e = 1); json_extract_scalar(s, '$.a'); json_parse(s); md5(to_utf8(s)); to_hex(md5(to_utf8(s)))
    is_nan(x); count(*); count(DISTINCT x); sum(x); avg(x); min(x); max(x); stddev(x); stddev_samp(x); variance(x)
    corr(x, y); approx_distinct(x); max_by(x, y); approx_percentile(x, 0.5); array_agg(x ORDER BY x)
    count_if(x > 1); bool_and(x); arbitrary(x); count(*) FILTER (WHERE x > 1); map_agg(x, y)
    listagg(s, ',') WITHIN GROUP (ORDER BY s); regr_slope(x, y); histogram(x); grouping(x)
    row_number() OVER (ORDER BY x); rank() OVER w; lag(x) OVER (PARTITION BY y ORDER BY x)
    lead(x, 2, 0) OVER (ORDER BY x); ntile(4) OVER (ORDER BY x)
    first_value(x) OVER (ORDER BY x ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)
    sum(x) OVER (ORDER BY d RANGE BETWEEN INTERVAL '7' DAY PRECEDING AND CURRENT ROW)
"""


@pytest.mark.parametrize("sql", GOOD)
def test_plain_queries_pass(sql: str) -> None:
    assert refusal(sql) is None


@pytest.mark.parametrize(
    "call", [each.strip() for line in EVERYDAY.splitlines() for each in line.split(";") if each.strip()]
)
def test_everyday_functions_pass(call: str) -> None:
    assert refusal(f"SELECT {call} AS z FROM d.t WINDOW w AS (ORDER BY x)") is None


def test_tables_are_those_scanned_and_no_names_of_ctes() -> None:
    sql = "WITH W AS (SELECT x FROM D.T) SELECT w.x FROM w JOIN d.w AS v ON v.x = w.x WHERE EXISTS (SELECT 1 FROM e.u)"
    parsed = query.parse(sql, lambda *_: NotParsed())
    assert sorted(allowed.table_name(node) for node in allowed.tables(parsed)) == ["d.t", "d.w", "e.u"]


words = st.sampled_from(
    [
        "SELECT",
        "FROM",
        "WHERE",
        "(",
        ")",
        ",",
        ";",
        "--",
        "/*",
        "*/",
        "'",
        '"',
        "read_csv",
        "getenv",
        "a.t",
        "x",
        "1",
        "AS",
        "COPY",
        "*",
        "JOIN",
        "UNNEST",
        "$",
        ":",
        "::",
    ]
)


@given(st.lists(words, max_size=14).map(" ".join) | st.text(max_size=60))
def test_any_text_is_checked_or_refused(sql: str) -> None:
    said = refusal(sql)
    assert said is None or "\n" not in said


def test_the_wall_speaks_with_the_code_sql_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        allowed.check(query.parse("SELECT getenv('x') AS x", lambda *_: NotParsed()))
    assert caught.value.code == "sql-refused"
