"""What the local Athena leaves in S3 and in Glue: CSV, UNLOAD, CTAS, INSERT, DELETE, DDL, EXPLAIN."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog

from tests.fakes.athena import output
from tests.fix_athena import AthenaClient
from tests.lake import ROWS


def test_csv_quotes_every_value_and_no_null(athena: AthenaClient) -> None:
    execution = athena.run("SELECT id, text, number, list FROM values_ ORDER BY id")
    location = execution["ResultConfiguration"]["OutputLocation"]
    assert location == f"s3://{athena.aws.bucket}/results/{execution['QueryExecutionId']}.csv"
    assert athena.text(location) == (
        '"id","text","number","list"\n"1","it\'s ""quoted"", \n twice","1.5","[1, 2]"\n"2",,,\n"3","","-0.0","[]"\n'
    )
    assert athena.text(f"{location}.metadata")


def test_results_come_in_pages_with_one_header(athena: AthenaClient) -> None:
    id_ = athena.run("SELECT a.id FROM prices a, prices b WHERE b.id < 4 ORDER BY a.id, b.id")["QueryExecutionId"]
    pages = list(athena.api.get_paginator("get_query_results").paginate(QueryExecutionId=id_))
    sizes = [len(page["ResultSet"]["Rows"]) for page in pages]
    assert sizes == [1000, 1000, 401]
    rows = [row["Data"][0]["VarCharValue"] for page in pages for row in page["ResultSet"]["Rows"]]
    assert rows == ["id", *(str(i) for i in range(ROWS) for _ in range(4))]
    one = athena.api.get_query_results(QueryExecutionId=id_, MaxResults=1)
    assert [row["Data"] for row in one["ResultSet"]["Rows"]] == [[{"VarCharValue": "id"}]]


def test_unload_writes_sorted_files_that_do_not_follow_each_other(athena: AthenaClient) -> None:
    execution = athena.unload("SELECT id, ticker FROM prices ORDER BY id", "sorted")
    uris = athena.manifest(execution)
    parts = [part["id"].to_pylist() for part in athena.parts(uris)]
    assert len(parts) == 3
    assert all(part == sorted(part) for part in parts)
    assert sorted(i for part in parts for i in part) == list(range(ROWS))
    assert all(part[0] < 100 and part[-1] > ROWS - 100 for part in parts)
    assert sorted(uris) == athena.listed("sorted")
    id_ = execution["QueryExecutionId"]
    assert execution["Statistics"]["DataManifestLocation"] == f"s3://{athena.aws.bucket}/results/{id_}-manifest.csv"
    assert athena.text(f"s3://{athena.aws.bucket}/results/{id_}.metadata")


def test_the_manifest_comes_as_rows_too(athena: AthenaClient) -> None:
    execution = athena.unload("SELECT id FROM prices", "as-rows")
    id_ = execution["QueryExecutionId"]
    answer = athena.api.get_query_results(QueryExecutionId=id_, QueryResultType="DATA_MANIFEST")
    assert [row["Data"][0]["VarCharValue"] for row in answer["ResultSet"]["Rows"]] == athena.manifest(execution)
    assert athena.api.get_query_results(QueryExecutionId=id_)["UpdateCount"] == ROWS


def test_names_of_files_cannot_be_foreseen(athena: AthenaClient) -> None:
    first = athena.manifest(athena.unload("SELECT id FROM prices", "names/1"))
    second = athena.manifest(athena.unload("SELECT id FROM prices", "names/2"))
    assert not {u.rsplit("/", 1)[1] for u in first} & {u.rsplit("/", 1)[1] for u in second}


def test_timestamps_travel_as_int96_and_know_nothing_of_arrow(athena: AthenaClient) -> None:
    moments = [dt.datetime(1, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59, 999000), dt.datetime(9999, 12, 31, 23, 59)]
    listed = ", ".join(f"(CAST('{m.isoformat(' ')}' AS timestamp(3)))" for m in moments)
    uris = athena.manifest(athena.unload(f"SELECT t, ARRAY[t] AS a FROM (VALUES {listed}) AS v(t) ORDER BY t", "int96"))
    found = pa.concat_tables(athena.parts(uris)).sort_by("t")
    assert found["t"].to_pylist() == moments
    assert found["a"].to_pylist() == [[m] for m in moments]
    schema = pq.read_schema(uris[0].removeprefix("s3://"), filesystem=athena.files)
    assert not schema.metadata
    kind = pq.ParquetFile(uris[0].removeprefix("s3://"), filesystem=athena.files).schema.column(0).physical_type
    assert kind == "INT96"


def test_unload_keeps_types_and_values(athena: AthenaClient) -> None:
    query = """
        SELECT CAST(1 AS tinyint) AS a, CAST(2 AS smallint) AS b, 3 AS c, CAST(4 AS bigint) AS d,
               CAST(1.5 AS real) AS e, nan() AS f, CAST('1.000000000000000001' AS decimal(38, 18)) AS g,
               X'00ff' AS h, '' AS i, true AS j,
               DATE '0001-01-01' AS k, CAST(ARRAY[] AS array(integer)) AS l, MAP(ARRAY['x'], ARRAY[NULL]) AS m,
               CAST(ROW(1, 'y') AS ROW(Upper integer, low varchar)) AS n, sum(id) AS o
        FROM prices WHERE id < 3"""
    execution = athena.unload(query.replace("ARRAY[NULL]", "ARRAY[CAST(NULL AS bigint)]"), "types")
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
    (table,) = athena.parts(athena.manifest(execution))
    assert [str(t) for t in table.schema.types] == [
        "int8", "int16", "int32", "int64", "float", "double", "decimal128(38, 18)", "binary", "string", "bool",
        "date32[day]", "list<element: int32>", "map<string, int64 ('m')>", "struct<upper: int32, low: string>", "int64",
    ]  # fmt: skip
    row = table.to_pylist()[0]
    assert str(row.pop("f")) == "nan"
    assert row == {
        "a": 1, "b": 2, "c": 3, "d": 4, "e": 1.5, "g": Decimal("1.000000000000000001"), "h": b"\x00\xff", "i": "",
        "j": True, "k": dt.date(1, 1, 1), "l": [], "m": [("x", None)], "n": {"upper": 1, "low": "y"}, "o": 3,
    }  # fmt: skip


def test_zero_rows_leave_no_file_and_an_empty_manifest(athena: AthenaClient) -> None:
    execution = athena.unload("SELECT id FROM prices WHERE id < 0", "none")
    assert athena.manifest(execution) == []
    assert athena.text(execution["Statistics"]["DataManifestLocation"]) == ""
    assert athena.listed("none") == []


def test_a_destination_with_anything_in_it_is_refused(athena: AthenaClient) -> None:
    athena.unload("SELECT id FROM prices", "taken")
    again = athena.unload("SELECT id FROM prices", "taken")
    assert again["Status"]["State"] == "FAILED"
    assert "HIVE_PATH_ALREADY_EXISTS" in again["Status"]["StateChangeReason"]
    assert athena.unload("SELECT id FROM prices", "take")["Status"]["State"] == "SUCCEEDED"


REFUSED = [
    (
        "SELECT ts FROM prices",
        "Incorrect timestamp precision for timestamp(6); the configured precision is MILLISECONDS",
    ),
    ("SELECT max(ts) AS t FROM prices", "timestamp(6)"),
    ("SELECT ARRAY[ts] AS t FROM prices", "timestamp(6)"),
    ("SELECT date_trunc('day', ts) AS t FROM prices", "timestamp(6)"),
    ("WITH a AS (SELECT ts AS t FROM prices) SELECT t FROM a", "timestamp(6)"),
    ("SELECT TIMESTAMP '2024-01-01 00:00:00.123456' AS t", "timestamp(6)"),
    ("SELECT current_timestamp AS t", "Unsupported Hive type: timestamp(3) with time zone"),
    ("SELECT TIME '10:00:00' AS t", "Unsupported Hive type: time"),
    ("SELECT INTERVAL '1' DAY AS t", "Unsupported Hive type: interval"),
    ("SELECT CAST('1' AS json) AS t", "Unsupported Hive type: json"),
    ("SELECT uuid() AS t", "Unsupported Hive type: uuid"),
    ("SELECT NULL AS t", "Column type is unknown"),
    ("SELECT ROW(1, 2) AS t", "Anonymous row type"),
    ("SELECT 1", "Column name not specified at position 1"),
    ("SELECT id, price AS ID FROM prices", "Column name 'id' specified more than once"),
]


@pytest.mark.parametrize(("query", "reason"), REFUSED)
def test_unload_refuses(athena: AthenaClient, query: str, reason: str) -> None:
    execution = athena.unload(query, "refused")
    assert execution["Status"]["State"] == "FAILED"
    assert reason in execution["Status"]["StateChangeReason"]
    assert athena.listed("refused") == []


ACCEPTED = [
    "SELECT CAST(ts AS timestamp(3)) AS t FROM prices",
    "SELECT CAST(ts AS timestamp) AS t FROM prices",
    "SELECT date_trunc('day', CAST(ts AS timestamp(3))) AS t FROM prices",
    "SELECT date_add('day', 1, CAST(ts AS timestamp(3))) AS t FROM prices",
    "SELECT max(t) AS t FROM (SELECT CAST(ts AS timestamp(3)) AS t FROM prices)",
    "SELECT TIMESTAMP '2024-01-01 00:00:00.123' AS t",
]


@pytest.mark.parametrize("query", ACCEPTED)
def test_unload_accepts_milliseconds(athena: AthenaClient, query: str) -> None:
    execution = athena.unload(query, f"accepted/{ACCEPTED.index(query)}")
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]


def test_compression_is_what_was_asked_for(athena: AthenaClient) -> None:
    asked = ["compression='ZSTD', compression_level=4", "compression='SNAPPY'", "compression='GZIP'"]
    for i, options in enumerate(asked):
        uris = athena.manifest(athena.unload("SELECT id FROM prices", f"codec/{i}", options))
        metadata = pq.ParquetFile(uris[0].removeprefix("s3://"), filesystem=athena.files).metadata
        assert metadata.row_group(0).column(0).compression == options.split("'")[1]


def test_partitioned_unload(athena: AthenaClient, monkeypatch: pytest.MonkeyPatch) -> None:
    execution = athena.unload("SELECT id, ticker FROM prices", "partitioned", "partitioned_by=ARRAY['ticker']")
    uris = athena.manifest(execution)
    assert {uri.split("/")[-2] for uri in uris} == {"ticker=AAPL", "ticker=MSFT"}
    assert athena.parts(uris)[0].schema.names[0] == "id"
    monkeypatch.setattr(output, "PARTITIONS_MAX", 10)
    many = athena.unload("SELECT price, id FROM prices", "many", "partitioned_by=ARRAY['id']")
    assert "HIVE_TOO_MANY_OPEN_PARTITIONS" in many["Status"]["StateChangeReason"]


def test_leftovers_lie_in_the_prefix_and_not_in_the_manifest(athena: AthenaClient) -> None:
    athena.aws.faults.leftovers = 2
    uris = athena.manifest(athena.unload("SELECT id FROM prices", "leftovers"))
    listed = athena.listed("leftovers")
    assert set(uris) < set(listed)
    assert len(listed) - len(uris) == 2


def test_ctas_to_parquet_makes_a_hive_table(athena: AthenaClient) -> None:
    target = f"s3://{athena.aws.bucket}/ctas-parquet/"
    execution = athena.run(
        f"CREATE TABLE hive_prices WITH (format='PARQUET', write_compression='SNAPPY', external_location='{target}') "
        "AS SELECT id, CAST(ts AS timestamp(3)) AS ts, tags FROM prices ORDER BY id"
    )
    assert execution["SubstatementType"] == "CREATE_TABLE_AS_SELECT"
    assert all(uri.startswith(target) for uri in athena.manifest(execution))
    parts = [part["id"].to_pylist() for part in athena.parts(athena.manifest(execution))]
    assert all(part != sorted(part) for part in parts)
    glue = athena.aws.client("glue").get_table(DatabaseName="lake", Name="hive_prices")["Table"]
    columns = [(c["Name"], c["Type"]) for c in glue["StorageDescriptor"]["Columns"]]
    assert columns == [("id", "bigint"), ("ts", "timestamp"), ("tags", "array<string>")]
    assert athena.rows("SELECT count(*), max(ts) FROM hive_prices") == [["600", "2024-01-01 09:39:59.123"]]
    athena.run("DROP TABLE hive_prices")
    assert athena.listed("ctas-parquet")


def test_ctas_to_iceberg_then_insert_and_delete(athena: AthenaClient, lake: Catalog) -> None:
    target = f"s3://{athena.aws.bucket}/ctas-iceberg/"
    made = (
        f"CREATE TABLE ice WITH (table_type='ICEBERG', is_external=false, location='{target}', "
        "partitioning=ARRAY['year(trade_date)', 'bucket(2, id)']) AS SELECT id, trade_date, ts, tags FROM prices"
    )
    assert athena.run(made)["Status"]["State"] == "SUCCEEDED"
    table = lake.load_table("lake.ice")
    assert [str(f.transform) for f in table.spec().fields] == ["year", "bucket[2]"]
    assert "TABLE_ALREADY_EXISTS" in athena.reason(made) or "already exists" in athena.reason(made)
    assert athena.rows("SELECT count(*), max(ts) FROM ice") == [["600", "2024-01-01 09:39:59.123456"]]
    inserted = athena.run("INSERT INTO ice (id, trade_date) SELECT id + 1000, trade_date FROM prices WHERE id < 10")
    assert athena.api.get_query_results(QueryExecutionId=inserted["QueryExecutionId"])["UpdateCount"] == 10
    athena.run("INSERT INTO ice (id) VALUES (7777), (8888)")
    exact = athena.run("DELETE FROM ice WHERE id >= 1000 AND id < 1010")
    assert athena.api.get_query_results(QueryExecutionId=exact["QueryExecutionId"])["UpdateCount"] == 10
    athena.run("DELETE FROM ice WHERE mod(id, 2) = 0 AND id < 1000")
    assert athena.rows("SELECT count(*), sum(id) FROM ice") == [["302", str(sum(range(1, 600, 2)) + 7777 + 8888)]]
    athena.run("DELETE FROM ice")
    assert athena.rows("SELECT count(*) FROM ice") == [["0"]]
    athena.run("DROP TABLE ice")
    assert athena.listed("ctas-iceberg") == []


ICEBERG_REFUSED = [
    ("location='s3://local-lake/x/'", "SELECT 1 AS a", "is_external"),
    ("is_external=false", "SELECT 1 AS a", "location"),
    ("is_external=false, location='s3://local-lake/x/'", "SELECT CAST(1 AS smallint) AS a", "smallint"),
    (
        "is_external=false, location='s3://local-lake/x/'",
        "SELECT CAST('2024-01-01' AS timestamp(3)) AS a",
        'Timestamp precision (3) not supported for Iceberg. Use "timestamp(6)" instead',
    ),
]


@pytest.mark.parametrize(("options", "query", "reason"), ICEBERG_REFUSED)
def test_ctas_to_iceberg_refuses(athena: AthenaClient, options: str, query: str, reason: str) -> None:
    assert reason in athena.reason(f"CREATE TABLE refused WITH (table_type='ICEBERG', {options}) AS {query}")


def test_ddl(athena: AthenaClient, lake: Catalog) -> None:
    assert athena.run("CREATE DATABASE IF NOT EXISTS ddl")["Status"]["State"] == "SUCCEEDED"
    assert athena.run("CREATE SCHEMA IF NOT EXISTS ddl")["StatementType"] == "DDL"
    assert "already exists" in athena.reason("CREATE DATABASE ddl")
    create = (
        "CREATE TABLE ddl.t (id bigint COMMENT 'key', at timestamp, p decimal(10,2), s struct<a:int,b:array<string>>)\n"
        f"PARTITIONED BY (day(at), bucket(8, id)) LOCATION 's3://{athena.aws.bucket}/ddl-t/' "
        "TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet')"
    )
    assert athena.run(create)["Status"]["State"] == "SUCCEEDED"
    table = lake.load_table("ddl.t")
    kinds = [str(f.field_type) for f in table.schema().fields]
    assert kinds[:3] == ["long", "timestamp", "decimal(10, 2)"]
    assert [str(f.transform) for f in table.spec().fields] == ["day", "bucket[8]"]
    row = "CAST(ROW(1, ARRAY['x']) AS ROW(a integer, b array(varchar)))"
    athena.run(f"INSERT INTO ddl.t SELECT 1, TIMESTAMP '2024-01-01 00:00:00.123456', 1.25, {row}")
    assert athena.rows("SELECT * FROM ddl.t") == [["1", "2024-01-01 00:00:00.123456", "1.25", "{a=1, b=[x]}"]]
    assert athena.rows("SHOW TABLES IN ddl") == [["t"]]
    assert athena.rows("DESCRIBE ddl.t")[0] == ["id", "bigint", ""]
    assert "not empty" in athena.reason("DROP DATABASE ddl")
    athena.run("DROP TABLE ddl.t")
    athena.run("DROP TABLE IF EXISTS ddl.t")
    athena.run("DROP DATABASE ddl")
    assert ["ddl"] not in athena.rows("SHOW DATABASES")


def test_explain_is_text_and_scans_nothing(athena: AthenaClient) -> None:
    execution = athena.run("EXPLAIN SELECT id FROM prices WHERE id = 1")
    assert execution["ResultConfiguration"]["OutputLocation"].endswith(".txt")
    assert execution["Statistics"]["DataScannedInBytes"] == 0
    assert "ICEBERG_SCAN" in athena.text(execution["ResultConfiguration"]["OutputLocation"])


def test_scanned_bytes_are_those_of_the_files_and_columns_touched(athena: AthenaClient, lake: Catalog) -> None:
    def scanned(sql: str) -> int:
        return int(athena.run(sql)["Statistics"]["DataScannedInBytes"])

    files = [task.file for task in lake.load_table("lake.prices").scan().plan_files()]
    everything = scanned("SELECT * FROM prices")
    assert everything == sum(sum(f.column_sizes.values()) for f in files)
    one_column = scanned("SELECT price FROM prices")
    assert 0 < one_column < everything / 2
    month = "trade_date BETWEEN DATE '2024-03-01' AND DATE '2024-03-31'"
    assert 0 < scanned(f"SELECT price, trade_date FROM prices WHERE {month}") < everything / 8
    nested = f"WITH a AS (SELECT * FROM prices) SELECT max(price) FROM a JOIN values_ v ON a.id = v.id WHERE {month}"
    assert 0 < scanned(nested) < everything / 4
    assert scanned("SELECT count(*) FROM prices WHERE trade_date > DATE '2030-01-01'") == 0


@pytest.mark.soak
def test_twenty_million_rows_in_eight_files(athena: AthenaClient) -> None:
    count = 20_000_000
    athena.aws.faults.file_count = 8
    query = f"""
        SELECT n AS id, CAST(n % 1000 AS integer) AS grp, n * 0.5e0 AS price, n * 2 AS volume,
               date_add('day', CAST(n % 3000 AS integer), DATE '2015-01-01') AS day, CAST(n % 500 AS varchar) AS ticker
        FROM TABLE(sequence(start => 1, stop => {count})) AS s(n) ORDER BY 1"""
    id_ = athena.start(
        f"UNLOAD ({query}) TO 's3://{athena.aws.bucket}/soak/' WITH (format='PARQUET', compression='ZSTD')"
    )
    status = athena.wait(id_, deadline_s=110)["Status"]
    assert status["State"] == "SUCCEEDED", status
    uris = athena.manifest(athena.execution(id_))
    assert len(uris) == 8
    ids = [part["id"].to_numpy() for part in athena.parts(uris)]
    assert all((part[1:] > part[:-1]).all() for part in ids)
    assert sum(len(part) for part in ids) == count
    assert sum(int(part.sum()) for part in ids) == count * (count + 1) // 2
