"""What the ADBC driver does beside the DB-API's SELECT: unprepared, partitions, time limits, writing, transactions."""

from __future__ import annotations

import time
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import adbc_driver_manager
import pyarrow as pa
import pytest
from adbc_driver_flightsql import StatementOptions

from tests.fix_server import Serve
from tests.fix_sql import AAPL, Connect, Counted, count
from tests.integration.test_adbc import select
from tests.waiting import until

SQL = f"SELECT trade_date, close FROM {AAPL}"


def test_an_unprepared_statement_is_the_same(cursor: Any) -> None:
    prepared = select(cursor, SQL)
    with adbc_driver_manager.AdbcStatement(cursor._conn.adbc_connection) as statement:
        statement.set_sql_query(SQL)
        stream, affected = statement.execute_query()
        found = pa.RecordBatchReader.from_stream(stream).read_all()
    assert found.equals(prepared)
    # Known before it runs only where the result is kept.
    assert affected in (-1, 19)


def test_the_schema_alone_runs_nothing(cursor: Any, sql_server: Counted) -> None:
    before = len(sql_server.engine.started)
    assert cursor.adbc_execute_schema(SQL).names == ["trade_date", "close"]
    assert len(sql_server.engine.started) == before


def test_partitions_are_read_by_another_connection(cursor: Any, adbc_connect: Connect, sql_server: Counted) -> None:
    before = len(sql_server.engine.started)
    partitions, schema = cursor.adbc_execute_partitions(SQL)
    # It is the plan; it runs where it is read.
    assert len(sql_server.engine.started) == before
    with adbc_connect(sql_server.url).cursor() as other:
        tables = []
        for partition in partitions:
            other.adbc_read_partition(partition)
            tables.append(other.fetch_arrow_table())
    assert pa.concat_tables(tables).equals(select(cursor, SQL))
    assert schema.equals(tables[0].schema)


def test_the_drivers_time_limit_stops_the_query(adbc_connection: Any, sql_server: Counted) -> None:
    before = len(sql_server.engine.started)
    with adbc_connection.cursor() as cursor:
        # Long enough for the query to begin on a busy machine too; it would run for minutes.
        cursor.adbc_statement.set_options(**{StatementOptions.TIMEOUT_FETCH.value: "2"})
        with pytest.raises((adbc_driver_manager.Error, OSError), match=r"(?i)deadline|timeout"):
            select(cursor, "SELECT * FROM slow_count")
    assert len(sql_server.engine.started) == before + 1
    until(lambda: sql_server.server.flight.calls.count == 0)


def test_the_servers_time_limit_stops_the_query(serve: Serve, adbc_connect: Connect) -> None:
    # A small answer is made within it on a busy machine too.
    server = serve(limits={"timeout_s": 3.0}, sql={"ad_hoc_roles": ("*",)})
    counted = Counted(server, count(server.engines))
    table = "market_data.us_stocks_price"
    pairs = f"SELECT count(*) FROM {table} AS a CROSS JOIN {table} AS b CROSS JOIN {table} AS c WHERE a.close > b.close"
    with adbc_connect(counted.url).cursor() as cursor:
        started = time.monotonic()
        with pytest.raises((adbc_driver_manager.Error, OSError), match=r"\[timeout\]"):
            select(cursor, pairs)
        # Far less than the query takes; far more than the limit, for busy machines.
        assert time.monotonic() - started < 30
        assert select(cursor, SQL).num_rows == 19
    until(lambda: server.flight.calls.count == 0)


def test_nothing_is_written(cursor: Any, sql_server: Counted) -> None:
    before = len(sql_server.engine.started)
    rows = pa.table({"meta_id": pa.array([1], pa.int32())})
    for mode in ("create", "append", "replace", "create_append"):
        with pytest.raises(adbc_driver_manager.NotSupportedError, match=r"\[unsupported\]|not support"):
            cursor.adbc_ingest("tb_meta", rows, mode=mode)
    with adbc_driver_manager.AdbcStatement(cursor._conn.adbc_connection) as statement:
        statement.set_sql_query("DELETE FROM reference.tb_meta")
        with pytest.raises(adbc_driver_manager.NotSupportedError, match=r"\[unsupported\] CommandStatementUpdate is"):
            statement.execute_update()
    assert len(sql_server.engine.started) == before


def test_without_transactions_a_connection_that_wants_them_reads_on(sql_server: Counted) -> None:
    with pytest.warns(Warning, match="Cannot disable autocommit"):
        opened = adbc.connect(sql_server.url)
    with opened as connection, connection.cursor() as cursor:
        assert select(cursor, SQL).num_rows == 19
        # Tools end what they take for a transaction.
        connection.commit()
        connection.rollback()
        assert select(cursor, SQL).num_rows == 19


def test_wide_rows_come_in_messages_that_the_driver_takes(cursor: Any) -> None:
    # It refuses more than 16 MiB in one; all rows together are 30 MB, and fewer than are sent in one batch.
    cursor.execute(
        "SELECT concat(rpad('', 32767, 'x'), rpad('', 32767, 'x'), rpad('', 32767, 'x')) AS wide FROM daily_prices('IBM', DATE '2000-03-01') LIMIT 300"
    )
    batches = list(cursor.fetch_record_batch())
    assert sum(batch.num_rows for batch in batches) == 300
    assert max(batch.nbytes for batch in batches) < 16 << 20
