"""SQL that must not run is refused on both engines, whoever sends it in whatever encoding, and nothing is executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server import server as servers
from flight_server.service.flight_sql import messages
from tests.fakes.aws import LocalAws
from tests.fix_identity import STATIC, Client, Lake, code_of
from tests.fix_jdbc import Jdbc, url_of
from tests.fix_served import IDS, Labs
from tests.fix_server import Serve, dataset, folder_of
from tests.fix_sql import Counted, count, descriptor

HOSTILE = [
    "SELECT 1; DROP TABLE {table}",
    "SELECT 1;\nSELECT 2",
    "SELECT * FROM ids(1); SELECT 1",
    "SELECT 1 /* ; */ ; --\nDROP TABLE {table}",
    "/* SELECT 1 */ DROP TABLE {table}",
    "-- SELECT 1\nDROP TABLE {table}",
    "SELECT 1; /* */ --\nDELETE FROM {table}",
    "INSERT INTO {table} VALUES (1, 'a', 'b', 'c')",
    "INSERT INTO {table} SELECT * FROM {table}",
    "UPDATE {table} SET name = 'x'",
    "DELETE FROM {table}",
    "MERGE INTO {table} AS t USING {table} AS s ON true WHEN MATCHED THEN DELETE",
    "CREATE TABLE reference.x AS SELECT 1 AS a",
    "CREATE VIEW reference.x AS SELECT 1 AS a",
    "CREATE SECRET x (TYPE s3)",
    "CREATE MACRO f(a) AS a",
    "COPY (SELECT 1) TO '{folder}/x'",
    "UNLOAD (SELECT 1) TO 's3://x/' WITH (format = 'PARQUET')",
    "ATTACH '{folder}/x.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "SET memory_limit = '1TB'",
    "RESET ALL",
    "EXPORT DATABASE '{folder}/x'",
    "EXPLAIN ANALYZE SELECT 1",
    "EXECUTE x",
    "CALL pragma_version()",
    "USE reference",
    "VACUUM {table}",
    "WITH x AS (INSERT INTO {table} VALUES (1)) SELECT 1",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_csv_auto('/etc/passwd')",
    "SELECT * FROM read_parquet('{folder}/x.parquet')",
    "SELECT * FROM parquet_scan('{folder}/x.parquet')",
    "SELECT * FROM read_json('{folder}/x.json')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM glob",
    "SELECT * FROM iceberg_scan('{folder}/x')",
    "SELECT * FROM iceberg_metadata('{folder}/x')",
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
    "SELECT * FROM TABLE(exclude_columns(input => TABLE({table}), columns => DESCRIPTOR(name)))",
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
    "SELECT COLUMNS(*) FROM {table}",
    "SELECT rowid FROM {table}",
    "SELECT filename FROM {table}",
    'SELECT * FROM reference."tb_meta$files"',
    "SELECT * FROM {table} FOR VERSION AS OF 1",
    "SELECT * FROM {table} FOR TIMESTAMP AS OF TIMESTAMP '2020-01-01 00:00:00'",
    "SELECT * FROM {table} TABLESAMPLE BERNOULLI (10)",
    "SELECT * FROM {table} FOR UPDATE",
    "SELECT * INTO reference.x FROM {table}",
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
    # Within the arguments of a dataset, whose own text is never run either.
    "SELECT * FROM ids(first => (SELECT 1))",
    "SELECT * FROM ids(first => (SELECT max(size) FROM read_blob('/etc/passwd')))",
    "SELECT * FROM ids(first => read_csv('/etc/passwd'))",
    "SELECT * FROM ids(first => CAST(getenv('HOME') AS BIGINT))",
    "SELECT * FROM ids(getenv('HOME'))",
    "SELECT * FROM ids(first => current_setting('threads'))",
    "SELECT * FROM ids(first => ARRAY[getenv('HOME')])",
    "SELECT * FROM ids(first => 1; DROP TABLE {table})",
    "SELECT * FROM ids(first => 1); DROP TABLE {table}; --",
    "SELECT * FROM ids(first => 1 /* ) */); COPY (SELECT 1) TO '{folder}/x'",
    "SELECT * FROM ids(first => (INSERT INTO {table} VALUES (1)))",
    "SELECT * FROM ids(TABLE({table}))",
    "SELECT * FROM ids(first => glob('/etc/*'))",
]  # fmt: skip


# The dataset that statements call, over the demo tables.
IDS_HERE = dataset(
    "SELECT m.meta_id AS x FROM reference.tb_meta AS m WHERE m.meta_id >= :first", params='first = { type = "int64" }'
)


@dataclass(frozen=True)
class Target:
    """A server, the table that statements name, and a folder that they may try to write to or read from."""

    port: int
    table: str
    folder: Path

    @property
    def statements(self) -> list[str]:
        return [sql.replace("{table}", self.table).replace("{folder}", str(self.folder)) for sql in HOSTILE]


def by_flight(client: flight.FlightClient, sql: str) -> Iterator[Callable[[], object]]:
    """The statement in every encoding of a request, by every RPC that takes it."""
    body = json.dumps({"sql": sql}).encode()
    statement = descriptor("CommandStatementQuery", query=sql)
    prepare = messages.pack("ActionCreatePreparedStatementRequest", query=sql)
    wrapped = messages.pack("TicketStatementQuery", statement_handle=body)
    yield lambda: client.do_get(flight.Ticket(body)).read_all()
    yield lambda: client.do_get(flight.Ticket(wrapped)).read_all()
    for asked in (flight.FlightDescriptor.for_command(body), statement):
        yield lambda asked=asked: client.get_schema(asked)
        yield lambda asked=asked: client.get_flight_info(asked)
    yield lambda: list(client.do_action(flight.Action("CreatePreparedStatement", prepare)))
    for action in ("explain", "submit"):
        yield lambda action=action: list(client.do_action(flight.Action(action, body)))


def by_adbc(connection: Any, sql: str) -> Iterator[Callable[[], object]]:
    """The statement prepared, with parameters, for its schema, and unprepared as below the DB-API."""
    calls: tuple[Callable[[Any], object], ...] = (
        lambda cursor: cursor.execute(sql),
        lambda cursor: cursor.execute(sql, [1]),
        lambda cursor: cursor.executemany(sql, [[1], [2]]),
        lambda cursor: cursor.adbc_prepare(sql),
        lambda cursor: cursor.adbc_execute_schema(sql),
        lambda cursor: cursor.adbc_execute_partitions(sql),
        lambda cursor: unprepared(cursor, sql).execute_query(),
        lambda cursor: unprepared(cursor, sql).execute_update(),
    )
    for call in calls:
        with connection.cursor() as cursor:
            yield lambda call=call, cursor=cursor: call(cursor)


def unprepared(cursor: Any, sql: str) -> adbc_driver_manager.AdbcStatement:
    cursor.adbc_statement.set_sql_query(sql)
    return cursor.adbc_statement


def refuse_all(target: Target) -> None:
    """Every hostile statement is refused, however it is sent, and leaves no file behind; what is allowed is answered."""
    url = f"grpc://localhost:{target.port}"
    with (
        flight.connect(url) as client,
        adbc.connect(url, autocommit=True) as connection,
    ):
        for sql in target.statements:
            for ask in by_flight(client, sql):
                with pytest.raises(pa.ArrowInvalid, match=r"^\[sql-refused\]"):
                    ask()
            for ask in by_adbc(connection, sql):
                with pytest.raises(adbc_driver_manager.Error, match=r"\[(sql-refused|unsupported)\]"):
                    ask()
    assert list(target.folder.iterdir()) == []


def answer(target: Target) -> None:
    """That the server does answer what is allowed, so that a refusal says something."""
    with flight.connect(f"grpc://localhost:{target.port}") as client:
        for sql in (f"SELECT count(*) FROM {target.table}", "SELECT * FROM ids(first => 1)"):
            assert client.do_get(flight.Ticket(json.dumps({"sql": sql}).encode())).read_all().num_rows > 0


@pytest.fixture(scope="module")
def here(serve_session: Serve, tmp_path_factory: pytest.TempPathFactory) -> tuple[Counted, Target]:
    """A server on DuckDB."""
    folder = folder_of(tmp_path_factory.mktemp("refused") / "sql", ids=IDS_HERE)
    server = serve_session(folder, sql={"ad_hoc_roles": ("*",)})
    return Counted(server, count(server.engines)), Target(
        server.port, "reference.tb_meta", tmp_path_factory.mktemp("scratch")
    )


def test_on_duckdb_nothing_runs_and_no_file_is_made(here: tuple[Counted, Target]) -> None:
    counted, target = here
    warehouse = Path(counted.server.config.catalog.warehouse.removeprefix("file://"))
    before = sorted(warehouse.rglob("*"))
    refuse_all(target)
    assert counted.engine.started == []
    assert len(before) > 10
    assert sorted(warehouse.rglob("*")) == before
    answer(target)


def test_over_jdbc(jdbc: Jdbc, here: tuple[Counted, Target]) -> None:
    counted, target = here
    before = len(counted.engine.started)
    # executeQuery, executeUpdate and prepareStatement of each.
    questions = [[how, sql] for sql in target.statements for how in ("query", "update", "prepare")]
    for question, found in zip(questions, jdbc.ask(url_of(target.port), questions), strict=True):
        assert "[sql-refused]" in found["error"], question
    assert list(target.folder.iterdir()) == []
    assert len(counted.engine.started) == before


@pytest.fixture
def there(labs: Labs, tmp_path: Path) -> Iterator[Target]:
    """A server on the local Athena."""
    (tmp_path / "scratch").mkdir()
    server = servers.build(labs.configure({"ids": IDS}, sql={"ad_hoc_roles": ("*",)}))
    servers.start_in_thread(server)
    yield Target(server.port, "lake.prices", tmp_path / "scratch")
    server.stop(0)


def test_on_athena_no_query_is_started(there: Target, aws: LocalAws) -> None:
    before = aws.athena.state()
    refuse_all(there)
    after = aws.athena.state()
    assert after["started"] == before["started"]
    assert after["calls"].get("StartQueryExecution") == before["calls"].get("StartQueryExecution")
    answer(there)
    assert aws.athena.state()["started"] == before["started"] + 2


def test_sql_of_ones_own_is_for_the_roles_that_have_it_and_a_call_is_for_all(lake_copy: Lake) -> None:
    own = "SELECT count(*) AS n FROM nav()"
    with (
        lake_copy.serve(sql={"roles": ("risk",), "ad_hoc_roles": ("pm", "risk")}) as server,
        flight.connect(f"grpc://localhost:{server.port}") as client,
    ):
        alice, carol = (Client(client, STATIC[name]) for name in ("alice", "carol"))
        refused = [
            lambda: alice.sql(own),
            lambda: alice.prepare(own),
            lambda: alice.rows(json.dumps({"sql": own})),
            lambda: alice.action("explain", {"sql": own}),
            lambda: alice.sql("SELECT n.port_id FROM p.nav AS n"),
        ]
        assert [code_of(each) for each in refused] == ["sql-refused"] * len(refused)
        assert {row["port_id"] for row in alice.sql("SELECT * FROM nav()")} == {1, 2}
        assert carol.sql(own) == [{"n": 8}]
