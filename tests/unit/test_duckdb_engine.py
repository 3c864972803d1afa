"""The embedded engine: locked down behind the first wall, spilling where it may, and stopped at any moment."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from flight_server.config import DuckDB
from flight_server.engines.duckdb import DuckDBEngine, DuckDBExecution
from flight_server.errors import Cancelled, EngineFailed
from tests.fix_engine import Run, rows

HEAVY = "SELECT COUNT(*) FROM range(1000000) AS a (x), range(1000000) AS b (y) WHERE (x * y) % 7 = 3"
LOST = "DuckDB: the query failed, and the reason was lost as its threads stopped each other; ask again to see it"

REFUSED = [
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/proc/self/environ')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM read_parquet('{warehouse}/../outside.parquet')",
    "SELECT * FROM iceberg_scan('/etc')",
    "SELECT * FROM read_csv('https://example.com/x.csv')",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT getenv('HOME')",
    "COPY (SELECT 1) TO '/tmp/x.csv'",
    "ATTACH '/tmp/x.db' AS x",
    "EXPORT DATABASE '/tmp/x'",
    "INSTALL spatial",
    "LOAD spatial",
    "SET memory_limit = '1TB'",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "RESET lock_configuration",
    "PRAGMA threads = 64",
    "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_nothing_outside_the_warehouse_can_be_reached_or_set(engine: DuckDBEngine, tmp_path: Path, sql: str) -> None:
    with pytest.raises(EngineFailed, match=r"^\[engine-failed\] DuckDB: "):
        rows(engine, sql.replace("{warehouse}", str(tmp_path)))


@pytest.mark.parametrize("name", ["part", "gone"])
def test_no_message_names_a_folder_of_the_server(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "part.parquet").write_bytes(b"no parquet")
    with (
        closing(DuckDBEngine(DuckDB(memory="64MB"), (str(tmp_path),))) as engine,
        pytest.raises(EngineFailed, match=f"[\"']data/{name}.parquet") as raised,
    ):
        rows(engine, f"SELECT * FROM read_parquet('{tmp_path}/data/{name}.parquet')")
    assert str(tmp_path) not in str(raised.value)


def test_no_message_names_a_folder_outside_the_warehouse_either(tmp_path: Path) -> None:
    table = tmp_path / "moved" / "metadata" / "v1.metadata.json"
    with (
        closing(DuckDBEngine(DuckDB(memory="64MB"), (str(tmp_path / "warehouse"),))) as engine,
        pytest.raises(EngineFailed, match='Permission Error: Cannot access file "v1.metadata.json"') as raised,
    ):
        rows(engine, f"SELECT * FROM iceberg_scan('{table}')")
    assert "/" not in str(raised.value)


def test_a_name_that_is_no_table_is_no_variable_of_the_server(tmp_path: Path) -> None:
    settings = DuckDB(memory="64MB", threads=1)
    with closing(DuckDBEngine(settings, (str(tmp_path),))) as engine:
        assert rows(engine, "SELECT current_setting('python_enable_replacements')") == [(False,)]


def test_a_query_that_does_not_fit_into_memory_spills_outside_the_working_directory(tmp_path: Path) -> None:
    settings = DuckDB(memory="64MB", threads=1)
    before = set(Path.cwd().iterdir())
    with closing(DuckDBEngine(settings, (str(tmp_path),))) as engine:
        sql = "SELECT COUNT(*) FROM (SELECT ROW_NUMBER() OVER (ORDER BY hash(x)) AS n, x FROM range(6000000) AS t (x))"
        assert rows(engine, sql) == [(6_000_000,)]
        ((folder,),) = rows(engine, "SELECT current_setting('temp_directory')")
        assert Path(folder).is_dir()
    assert set(Path.cwd().iterdir()) == before
    assert not Path(folder).exists()


def test_a_session_is_the_same_on_every_machine(run: Run) -> None:
    assert run("SELECT CAST(TIMESTAMPTZ '2024-07-01 00:00:00+00' AS VARCHAR)") == [("2024-07-01 00:00:00+00",)]


def test_batches_come_before_the_query_has_ended(engine: DuckDBEngine) -> None:
    execution = DuckDBExecution(engine._connection.cursor(), "SELECT x FROM range(1000000000000) AS t (x)", 1000)
    assert next(execution.batches()).num_rows > 0
    execution.close()


def test_an_error_in_the_middle_gives_the_engines_reason(engine: DuckDBEngine) -> None:
    sql = "SELECT CAST(IF(x = 3000000, 'x', '1') AS INTEGER) AS n FROM range(4000000) AS t (x)"
    said = set()
    # Now and then DuckDB loses the reason, in two of a hundred on a quiet machine: not in all of so many.
    for _ in range(20):
        with pytest.raises(EngineFailed, match=r"DuckDB: ") as raised:
            rows(engine, sql)
        said.add("Could not convert string 'x' to INT32" in str(raised.value) or str(raised.value))
        if True in said:
            break
    assert True in said
    assert said - {True} <= {f"[engine-failed] {LOST}"}


def test_an_interrupt_that_is_not_ours_is_a_failure_and_no_cancellation(engine: DuckDBEngine) -> None:
    cursor = engine._connection.cursor()
    execution = DuckDBExecution(cursor, HEAVY, 1000)
    ended: list[BaseException] = []
    thread = threading.Thread(target=lambda: drain(execution, ended))
    thread.start()
    while thread.is_alive():
        cursor.interrupt()
        thread.join(0.01)
    execution.close()
    assert list(map(str, ended)) == [f"[engine-failed] {LOST}"]


@pytest.mark.parametrize("delay_s", [0.0, 0.001, 0.005, 0.02, 0.1])
def test_a_query_is_stopped_at_any_moment(engine: DuckDBEngine, delay_s: float) -> None:
    for _ in range(5):
        execution = DuckDBExecution(engine._connection.cursor(), HEAVY, 1000)
        ended: list[BaseException] = []
        thread = threading.Thread(target=lambda e=execution, to=ended: drain(e, to))
        thread.start()
        time.sleep(delay_s)
        execution.cancel()
        execution.cancel()
        execution.close()
        thread.join(5)
        assert not thread.is_alive()
        assert [type(error) for error in ended] == [Cancelled]


def drain(execution: DuckDBExecution, ended: list[BaseException]) -> None:
    try:
        list(execution.batches())
    except (Cancelled, EngineFailed) as error:
        ended.append(error)


def test_a_query_that_was_closed_never_starts(engine: DuckDBEngine) -> None:
    execution = DuckDBExecution(engine._connection.cursor(), HEAVY, 1000)
    execution.close()
    with pytest.raises(Cancelled):
        next(execution.batches())
    execution.close()


def test_ping_answers(engine: DuckDBEngine) -> None:
    engine.ping()
    assert engine.describe("SELECT 1 AS one, 'a' AS two") == [("one", "INTEGER"), ("two", "VARCHAR")]
