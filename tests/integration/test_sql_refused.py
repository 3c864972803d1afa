"""SQL that must not run is refused on both engines, whoever sends it in whatever encoding, and nothing is executed."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.errors import InvalidRequest
from flight_server.model import ANONYMOUS, Request
from flight_server.service.flight_sql import messages
from tests.fix_served import IDS, Labs
from tests.fix_sql import Counted, Counting, count
from tests.integration.test_flight_sql import descriptor

HOSTILE = [
    "SELECT 1; DROP TABLE reference.tb_meta",
    "SELECT 1;\nSELECT 2",
    "SELECT * FROM ids(1); SELECT 1",
    "SELECT 1 /* ; */ ; --\nDROP TABLE reference.tb_meta",
    "/* SELECT 1 */ DROP TABLE reference.tb_meta",
    "-- SELECT 1\nDROP TABLE reference.tb_meta",
    "SELECT 1; /* */ --\nDELETE FROM reference.tb_meta",
    "INSERT INTO reference.tb_meta VALUES (1, 'a', 'b', 'c')",
    "INSERT INTO reference.tb_meta SELECT * FROM reference.tb_meta",
    "UPDATE reference.tb_meta SET name = 'x'",
    "DELETE FROM reference.tb_meta",
    "MERGE INTO reference.tb_meta AS t USING reference.tb_meta AS s ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE reference.x AS SELECT 1 AS a",
    "CREATE VIEW reference.x AS SELECT 1 AS a",
    "CREATE SECRET x (TYPE s3)",
    "CREATE MACRO f(a) AS a",
    "COPY (SELECT 1) TO '/tmp/x'",
    "UNLOAD (SELECT 1) TO 's3://x/' WITH (format = 'PARQUET')",
    "ATTACH '/tmp/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "SET memory_limit = '1TB'",
    "RESET ALL",
    "EXPORT DATABASE '/tmp/x'",
    "EXPLAIN ANALYZE SELECT 1",
    "EXECUTE x",
    "CALL pragma_version()",
    "USE reference",
    "VACUUM reference.tb_meta",
    "WITH x AS (INSERT INTO reference.tb_meta VALUES (1)) SELECT 1",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_parquet('/tmp/x.parquet')",
    "SELECT * FROM parquet_scan('/tmp/x.parquet')",
    "SELECT * FROM read_json('/tmp/x.json')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM glob",
    "SELECT * FROM iceberg_scan('/tmp/x')",
    "SELECT * FROM iceberg_metadata('/tmp/x')",
    "SELECT * FROM '/etc/passwd'",
    'SELECT * FROM "/etc/passwd"',
    'SELECT * FROM "x.parquet"',
    'SELECT * FROM "file:///etc/passwd"',
    "SELECT * FROM 's3://x/y.parquet'",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM duckdb_tables",
    "SELECT * FROM pragma_database_list",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM system.runtime.nodes",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table('duckdb_settings')",
    "SELECT * FROM TABLE(query(query => 'SELECT 1'))",
    "SELECT * FROM TABLE(exclude_columns(input => TABLE(reference.tb_meta), columns => DESCRIPTOR(name)))",
    "SELECT * FROM (WITH duckdb_tables AS (SELECT 1 AS a) SELECT a FROM duckdb_tables) AS q, duckdb_tables",
    "WITH a AS (SELECT * FROM duckdb_views), duckdb_views AS (SELECT 1 AS x) SELECT * FROM a",
    "SELECT current_setting('home_directory')",
    "SELECT getenv('HOME')",
    "SELECT current_user",
    "SELECT current_database()",
    "SELECT current_schemas(true)",
    "SELECT version()",
    "SELECT pg_sleep(10)",
    "SELECT read_text('/etc/passwd')",
    "SELECT now()",
    "SELECT current_timestamp",
    "SELECT random(), uuid()",
    "SELECT nextval('x')",
    "SELECT COLUMNS(*) FROM reference.tb_meta",
    "SELECT rowid FROM reference.tb_meta",
    "SELECT filename FROM reference.tb_meta",
    'SELECT * FROM reference."tb_meta$files"',
    "SELECT * FROM reference.tb_meta FOR VERSION AS OF 1",
    "SELECT * FROM reference.tb_meta FOR TIMESTAMP AS OF TIMESTAMP '2020-01-01 00:00:00'",
    "SELECT * FROM reference.tb_meta TABLESAMPLE BERNOULLI (10)",
    "SELECT * FROM reference.tb_meta FOR UPDATE",
    "SELECT * INTO reference.x FROM reference.tb_meta",
    "SELECT 'a' LIKE (SELECT * FROM read_text('/etc/passwd'))",
    "SELECT (SELECT max(x) FROM (SELECT * FROM glob('*')) AS g(x))",
    "SELECT 1 WHERE EXISTS (SELECT * FROM duckdb_functions())",
    "SELECT 1 ORDER BY (SELECT getenv('HOME'))",
    "SELECT sum(1) OVER (ORDER BY getenv('HOME'))",
    "SELECT CASE WHEN true THEN getenv('HOME') END",
    "SELECT list_transform([1], x -> getenv('HOME'))",
    "SELECT 1 GROUP BY getenv('HOME')",
    "SELECT @@version",
    "SELECT $1",
    "SELECT :x",
]  # fmt: skip


def test_on_duckdb_in_every_encoding(sql_client: flight.FlightClient, sql_server: Counted) -> None:
    before = len(sql_server.engine.started)
    for sql in HOSTILE:
        body = json.dumps({"sql": sql}).encode()
        prepare = messages.pack("ActionCreatePreparedStatementRequest", query=sql)
        statement = descriptor("CommandStatementQuery", query=sql)
        for ask in (
            lambda body=body: sql_client.do_get(flight.Ticket(body)).read_all(),
            lambda body=body: sql_client.get_schema(flight.FlightDescriptor.for_command(body)),
            lambda statement=statement: sql_client.get_flight_info(statement),
            lambda prepare=prepare: list(sql_client.do_action(flight.Action("CreatePreparedStatement", prepare))),
        ):
            with pytest.raises(pa.ArrowInvalid, match=r"^\[sql-refused\]"):
                ask()
    assert len(sql_server.engine.started) == before


@pytest.fixture
def on_athena(labs: Labs) -> tuple[Labs, Counting]:
    lab = labs.open({"ids": IDS}, sql={"ad_hoc_roles": ("*",)})
    return labs, count(lab.engines)


def test_on_athena(on_athena: tuple[Labs, Counting]) -> None:
    labs, engine = on_athena
    pipeline = labs.opened[-1].pipeline
    for sql in HOSTILE:
        for call in (pipeline.plan, pipeline.describe):
            with pytest.raises(InvalidRequest) as caught:
                call(Request("", sql=sql), ANONYMOUS)
            assert caught.value.code == "sql-refused"
    assert engine.started == []
