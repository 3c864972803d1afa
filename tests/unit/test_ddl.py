"""Reading DDL files: what they mean, and where and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlglot

from flight_server.errors import TableError
from flight_server.tables.ddl import Definition, parse, read, read_all
from tests.fix_tables import DDL

ICEBERG = "TBLPROPERTIES ('table_type'='ICEBERG')"


def define(columns: str, rest: str = ICEBERG, block: str = "") -> Definition:
    return parse(f"{block}CREATE TABLE a.b ({columns}) {rest}", Path("a.b.sql"))


def refusal(text: str, name: str = "a.b.sql") -> str:
    with pytest.raises(TableError) as caught:
        parse(text, Path(name))
    return str(caught.value)


def test_the_seven_tables_are_defined() -> None:
    assert list(read_all(DDL)) == [
        "analytics.daily_portfolio_value",
        "analytics.tb_metrics",
        "market_data.kr_stocks_price",
        "market_data.us_stocks_price",
        "portfolio.tb_nav",
        "portfolio.tb_rebalance",
        "reference.tb_meta",
    ]


@pytest.mark.parametrize("path", sorted(DDL.glob("*.sql")), ids=lambda path: path.stem)
def test_every_column_and_table_has_a_doc(path: Path) -> None:
    definition = read(path)
    assert definition.doc
    assert [field.name for field in definition.schema.fields if not field.doc] == []


def test_a_price_table_is_what_its_file_says() -> None:
    found = read_all(DDL)["market_data.us_stocks_price"]
    assert [(field.name, str(field.field_type), field.required) for field in found.schema.fields] == [
        ("meta_id", "int", True),
        ("trade_date", "date", True),
        ("close", "float", False),
        ("adj_close", "float", False),
        ("gross_return", "float", False),
    ]
    assert [(field.name, str(field.transform), field.source_id) for field in found.spec.fields] == [
        ("trade_date_month", "month", 2)
    ]
    assert found.properties == {
        "write.format.default": "parquet",
        "write.parquet.compression-codec": "zstd",
        "comment": "Daily prices of US stocks, one row per stock and trading day.",
    }


def test_not_null_and_doc_come_from_the_block() -> None:
    found = define("x int, y int", block='-- /// table\n-- doc = "Two"\n-- not_null = ["y"]\n--\n-- ///\n')
    assert [field.required for field in found.schema.fields] == [False, True]
    assert found.doc == found.properties["comment"] == "Two"


def test_the_block_is_a_comment_to_athena() -> None:
    text = (DDL / "portfolio.tb_nav.sql").read_text()
    assert len([tree for tree in sqlglot.parse(text, read="athena") if tree is not None]) == 1


@pytest.mark.parametrize(
    ("word", "iceberg"),
    [
        ("boolean", "boolean"),
        ("int", "int"),
        ("bigint", "long"),
        ("float", "float"),
        ("double", "double"),
        ("decimal(18,4)", "decimal(18, 4)"),
        ("string", "string"),
        ("binary", "binary"),
        ("date", "date"),
        ("timestamp", "timestamp"),
        ("array<int>", "list<int>"),
        ("map<string,array<double>>", "map<string, list<double>>"),
        ("struct<a:int,b:struct<c:date>>", None),
    ],
)
def test_types_are_athenas(word: str, iceberg: str | None) -> None:
    found = define(f"x {word}").schema
    if iceberg is None:
        iceberg = "struct<2: a: optional int, 3: b: optional struct<4: c: optional date>>"
    assert str(found.find_type("x")) == iceberg


@pytest.mark.parametrize(
    ("term", "name", "transform"),
    [
        ("year(d)", "d_year", "year"),
        ("month(d)", "d_month", "month"),
        ("day(t)", "t_day", "day"),
        ("hour(t)", "t_hour", "hour"),
        ("bucket(16, x)", "x_bucket", "bucket[16]"),
        ("truncate(3, s)", "s_trunc", "truncate[3]"),
        ("x", "x", "identity"),
    ],
)
def test_partition_transforms_are_athenas(term: str, name: str, transform: str) -> None:
    found = define("x int, d date, t timestamp, s string", f"PARTITIONED BY ({term}) {ICEBERG}").spec
    assert [(field.name, str(field.transform)) for field in found.fields] == [(name, transform)]


def test_a_comment_may_hold_quotes_and_semicolons() -> None:
    assert define(r"x int COMMENT 'a; it\'s -- b'").schema.find_field("x").doc == "a; it's -- b"


def test_athenas_own_table_properties_are_kept() -> None:
    rest = "TBLPROPERTIES ('table_type'='ICEBERG', 'vacuum_max_snapshot_age_seconds'='600', 'write_compression'='none')"
    found = define("x int", rest)
    assert found.properties["vacuum_max_snapshot_age_seconds"] == "600"
    assert found.properties["write.parquet.compression-codec"] == "uncompressed"


@pytest.mark.parametrize(
    ("columns", "rest", "message"),
    [
        (
            "x int,\n y varchar(3)",
            ICEBERG,
            "a.b.sql:2:2: column 'y': Athena's Iceberg tables have no type 'varchar(3)'",
        ),
        ("x tinyint", ICEBERG, "no type 'tinyint'"),
        ("x timestamp(6)", ICEBERG, "timestamp takes no length"),
        ("x decimal", ICEBERG, "decimal(18,4)"),
        ("x decimal(40,2)", ICEBERG, "precision is 1 to 38"),
        ("x int, x date", ICEBERG, "a.b.sql:1:26: two columns are named 'x'"),
        ("X int", ICEBERG, "write 'x'"),
        ("x int NOT NULL", ICEBERG, "column 'x': Athena's Iceberg DDL has no NOT NULL; put required columns"),
        ("x int", "", "TBLPROPERTIES must say 'table_type'='ICEBERG'"),
        ("x int", "TBLPROPERTIES ('table_type'='HIVE')", "must say 'table_type'='ICEBERG'"),
        ("x int", "TBLPROPERTIES ('table_type'='ICEBERG', 'format'='orc')", "only 'parquet'"),
        ("x int", "TBLPROPERTIES ('table_type'='ICEBERG', 'write_compression'='zip')", "one of gzip, lz4"),
        ("x int", "TBLPROPERTIES ('table_type'='ICEBERG', 'formt'='parquet')", "did you mean 'format'?"),
        ("x int", f"LOCATION 's3://b/c' {ICEBERG}", "LOCATION follows from the configured warehouse"),
        ("x int", f"STORED AS PARQUET {ICEBERG}", "not part of Athena's Iceberg DDL"),
        ("x int", f"PARTITIONED BY (y) {ICEBERG}", "there is no column 'y'"),
        ("x int", f"PARTITIONED BY (month(x)) {ICEBERG}", "month does not apply to column 'x' of type int"),
        ("x int", f"PARTITIONED BY (y int) {ICEBERG}", "without a type"),
        ("x int", f"PARTITIONED BY (soundex(x)) {ICEBERG}", "one of year(c), month(c)"),
        ("x int", f"PARTITIONED BY (bucket(0, x)) {ICEBERG}", "positive whole number"),
        ("x int", f"PARTITIONED BY (x, x) {ICEBERG}", "'x' is there already"),
    ],
)
def test_a_wrong_statement_is_refused(columns: str, rest: str, message: str) -> None:
    said = refusal(f"CREATE TABLE a.b ({columns}) {rest}")
    assert message in said
    assert said.startswith("a.b.sql:1:" if "2:2" not in message else "a.b.sql:2:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CREATE TABLE a.b (x intt)", "a.b.sql:1:24: Expecting ) near 'intt'"),
        ("\nCREATE TABLE a.b (x int COMMENT 'abc)", "a.b.sql:2:33: Missing '"),
        ("CREATE TABLE a.values (x int)", "Expected table name near 'values'"),
        ("", "found 0 statements"),
        ("-- nothing\n", "found 0 statements"),
        (f"CREATE TABLE a.b (x int) {ICEBERG}; DROP TABLE a.b", "found 2 statements"),
        ("DROP TABLE a.b", "found DROP"),
        ("CREATE VIEW a.b AS SELECT 1", "found CREATE VIEW"),
        ("CREATE TABLE a.b AS SELECT 1 AS x", "found CREATE TABLE AS"),
        ("CREATE TABLE b (x int)", "the table is named database.table"),
        ("CREATE TABLE c.a.b (x int)", "the table is named database.table"),
        ("CREATE TABLE a.c (x int)", "a file named 'a.b.sql' cannot define 'a.c': expected 'a.c.sql'"),
        ("CREATE TABLE a.B (x int)", "write 'a.b'"),
    ],
)
def test_what_is_no_table_definition_is_refused(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("-- /// table\n", "a.b.sql:1: the block '-- /// table' has no end"),
        ("-- /// table\n-- doc = 1\n-- ///\n", "doc must be a text, got 1"),
        ("-- /// table\n-- not_null = 'x'\n-- ///\n", "not_null must be a list of column names, got 'x'"),
        (
            "-- /// table\n-- not_nul = ['x']\n-- ///\n",
            "unknown key 'not_nul' in the block '-- /// table'; did you mean",
        ),
        ("-- /// table\n-- not_null = ['y']\n-- ///\n", "not_null names 'y', which is no column"),
        ("\n-- /// table\n-- doc = oops\n-- ///\n", "line 3"),
        ("-- /// table\ndoc = 'x'\n-- ///\n", "a.b.sql:2: every line of the block starts with '-- '"),
    ],
)
def test_a_wrong_block_is_refused(block: str, message: str) -> None:
    assert message in refusal(f"{block}CREATE TABLE a.b (x int) {ICEBERG}")


def test_a_folder_without_ddl_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"<database>\.<table>\.sql"):
        read_all(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.b.sql").write_bytes(b"\xff\xfe")
    with pytest.raises(TableError, match=r"a\.b\.sql: cannot read it"):
        read_all(tmp_path)
