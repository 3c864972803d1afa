"""The ADBC driver for Flight SQL against a running server: SELECT, parameters, several results, cancel, data frames."""

from __future__ import annotations

import datetime as dt
import json
import threading
from decimal import Decimal
from typing import Any

import adbc_driver_manager
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from tests.fix_sql import AAPL, Connect, Counted
from tests.waiting import until

PAIRS = "SELECT a.close FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b"
REQUEST = b"daily_prices?ticker=AAPL&start_date=2010-01-04&end_date=2010-01-29"


def select(cursor: Any, sql: str, parameters: Any = None) -> pa.Table:
    cursor.execute(sql, parameters)
    return cursor.fetch_arrow_table()


def refused(cursor: Any, sql: str, parameters: Any = None) -> str:
    """What a statement is refused with, less what the driver says around it."""
    with pytest.raises(adbc_driver_manager.Error) as caught:
        cursor.execute(sql, parameters)
    return str(caught.value).partition("[FlightSQL] ")[2].partition(". Detail")[0]


def test_a_dataset_is_the_same_table_as_by_name(cursor: Any, sql_client: flight.FlightClient) -> None:
    by_name = sql_client.do_get(flight.Ticket(REQUEST)).read_all()
    by_sql = select(cursor, f"SELECT * FROM {AAPL}")
    assert by_sql.equals(by_name)
    assert by_sql.schema.equals(by_name.schema, check_metadata=True)
    assert by_sql.num_rows == 19


def test_datasets_are_joined_filtered_and_aggregated(cursor: Any) -> None:
    found = select(
        cursor,
        f"""WITH both AS (
              SELECT a.trade_date, a.close AS apple, b.close AS ibm
              FROM {AAPL} AS a JOIN {AAPL.replace("AAPL", "IBM")} AS b ON a.trade_date = b.trade_date
            )
            SELECT count(*) AS days, max(apple) AS high, min(ibm) AS low FROM both WHERE apple > 200""",
    )
    apple = select(cursor, f"SELECT trade_date, close FROM {AAPL} WHERE close > 200")
    ibm = dict(select(cursor, f"SELECT trade_date, close FROM {AAPL.replace('AAPL', 'IBM')}").to_pandas().values)
    lows = [ibm[day] for day in apple["trade_date"].to_pylist()]
    assert found.to_pylist() == [{"days": len(lows), "high": max(apple["close"].to_pylist()), "low": min(lows)}]


def test_a_subset_comes_in_the_order_of_the_dataset(cursor: Any) -> None:
    sql = "SELECT close FROM daily_prices('IBM', DATE '2000-03-01')"
    whole = select(cursor, sql.replace("close", "*", 1))
    assert whole["trade_date"].to_pylist() == sorted(whole["trade_date"].to_pylist())
    assert whole.num_rows > 3000
    assert select(cursor, sql)["close"].equals(whole["close"])
    assert select(cursor, f"{sql} LIMIT 5")["close"].to_pylist() == whole["close"].to_pylist()[:5]
    assert select(cursor, sql).schema.names == ["close"]


def test_tables_of_the_catalog_are_read(cursor: Any) -> None:
    found = select(cursor, "SELECT ticker, count(*) AS n FROM reference.tb_meta GROUP BY ticker ORDER BY 1 LIMIT 2")
    assert found.to_pylist() == [{"ticker": "AAPL", "n": 1}, {"ticker": "FB", "n": 1}]


EVERY = {
    "flag": True,
    "small": 2**31 - 1,
    "large": -(2**62),
    "ratio": 0.1,
    "amount": Decimal("12345.6789"),
    "word": "it's ; -- ? \\ 삼성 \U0001d538",
    "side": "sell",
    "day": dt.date(2024, 2, 29),
    "moment": dt.datetime(2024, 2, 29, 12, 30, 0, 123456),
    "instant": dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC),
}


def test_parameters_of_every_type_come_back_as_they_went(cursor: Any) -> None:
    names = [*EVERY, "numbers", "weights"]
    row = pa.record_batch(
        [
            *[pa.array([value]) for value in EVERY.values()],
            pa.array([[1, 2, 2]], pa.list_(pa.int32())),
            pa.array([[(1, 0.5), (2, 0.25)]], pa.map_(pa.int32(), pa.float64())),
        ],
        names=names,
    )
    sql = f"SELECT * FROM every_type({', '.join(f'{name} => ?' for name in names)})"
    found = select(cursor, sql, row).to_pylist()
    assert found == [{**EVERY, "hits": 2, "weight": 0.25, "class": "none"}]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("BOOLEAN", False),
        ("INTEGER", -5),
        ("BIGINT", 2**62),
        ("REAL", 0.5),
        ("DOUBLE", 1e300),
        ("DECIMAL(18, 4)", Decimal("-0.0001")),
        ("VARCHAR", ""),
        ("DATE", dt.date(1, 1, 1)),
        ("TIMESTAMP(6)", dt.datetime(9999, 12, 31, 23, 59, 59, 999999)),
        ("TIMESTAMP(6) WITH TIME ZONE", dt.datetime(2024, 2, 29, tzinfo=dt.UTC)),
    ],
)
def test_parameters_outside_of_calls_have_their_types_and_can_be_null(cursor: Any, kind: str, value: object) -> None:
    sql = f"SELECT CAST(? AS {kind}) AS x, CAST(? AS {kind}) IS NULL AS no"
    assert select(cursor, sql, [value, value]).to_pylist() == [{"x": value, "no": False}]
    null = pa.record_batch([pa.array([None]), pa.array([None])], names=["1", "2"])
    found = select(cursor, sql, null)
    assert found.to_pylist() == [{"x": None, "no": True}]
    assert found.schema == select(cursor, sql, [value, value]).schema


@pytest.mark.parametrize(
    ("kind", "bound", "value"),
    [
        ("DOUBLE", "700.5", 700.5),
        ("REAL", "-0.25", -0.25),
        ("INTEGER", "7.00", 7),
        ("BIGINT", "9223372036854775807", 2**63 - 1),
        (
            "DECIMAL(38, 10)",
            "1234567890123456789012345678.0123456789",
            Decimal("1234567890123456789012345678.0123456789"),
        ),
    ],
)
def test_a_decimal_is_bound_as_a_number(cursor: Any, kind: str, bound: str, value: object) -> None:
    assert select(cursor, f"SELECT CAST(? AS {kind}) AS x", [Decimal(bound)]).to_pylist() == [{"x": value}]


def test_the_schema_of_parameters_is_theirs(adbc_connection: Any) -> None:
    with adbc_connection.cursor() as cursor:
        schema = cursor.adbc_prepare(
            "SELECT * FROM daily_prices(ticker => ?, start_date => ?) WHERE close > ? AND name LIKE ? LIMIT ?"
        )
    assert schema == pa.schema(
        [("1", pa.string()), ("2", pa.date32()), ("3", pa.float32()), ("4", pa.string()), ("5", pa.int64())]
    )


def test_a_prepared_statement_is_run_again_with_other_values(cursor: Any) -> None:
    sql = "SELECT max(close) AS high FROM daily_prices(ticker => ?, start_date => ?)"
    highs = [select(cursor, sql, [ticker, dt.date(2012, 1, 1)])["high"][0].as_py() for ticker in ("AAPL", "IBM")]
    plain = "SELECT max(close) AS high FROM daily_prices('{}', DATE '2012-01-01')"
    assert highs == [select(cursor, plain.format(ticker))["high"][0].as_py() for ticker in ("AAPL", "IBM")]
    assert len(set(highs)) == 2


@pytest.mark.parametrize(
    ("sql", "parameters", "said"),
    [
        ("SELECT ?", [], "missing-parameter] parameter 1 of 1"),
        ("SELECT ? + 1", [1, 2], "bad-parameter] the statement has 1 parameters (?), and 2 are bound"),
        ("SELECT * FROM daily_prices(?, ?)", ["aapl", dt.date(2010, 1, 1)], "bad-parameter] daily_prices.ticker = 'aapl'"),
        ("SELECT * FROM daily_prices(?, ?)", ["AAPL", "soon"], "bad-parameter] daily_prices.start_date = 'soon'"),
        ("SELECT * FROM daily_prices(?, ?)", ["AAPL", None], "bad-parameter] daily_prices.start_date is null"),
        ("SELECT * FROM daily_prices('AAPL', DATE '2010-02-01', ?)", [dt.date(2010, 1, 1)], "rule-violated]"),
        ("SELECT meta_id FROM reference.tb_meta WHERE meta_id = ?", ["1"], "bad-parameter] parameter 1 (?) is text"),
        ("SELECT meta_id FROM reference.tb_meta WHERE meta_id = ?", [2**40], "bad-parameter] parameter 1 (?) does not fit"),
        ("SELECT CAST(? AS DOUBLE)", [float("nan")], "bad-parameter] parameter 1 (?) is a float that no parameter takes"),
        ("SELECT ? || 'x'", [b"x"], "bad-parameter] parameter 1 (?) is a bytes"),
        ("SELECT ? || 'x'", ["\x00"], "bad-parameter] parameter 1 (?) has a NUL"),
        ("SELECT meta_id FROM reference.tb_meta LIMIT ?", [-1], "bad-parameter] parameter 1 (?) is no number of rows"),
    ],
)  # fmt: skip
def test_values_that_do_not_fit_are_refused(
    cursor: Any, sql_server: Counted, sql: str, parameters: list[Any], said: str
) -> None:
    before = len(sql_server.engine.started)
    assert said in refused(cursor, sql, parameters or None)
    assert len(sql_server.engine.started) == before


@pytest.mark.parametrize(
    ("sql", "value", "same"),
    [
        ("SELECT count(*) AS n FROM daily_prices('AAPL', ?)", dt.datetime(2013, 2, 26), dt.date(2013, 2, 26)),
        ("SELECT count(*) AS n FROM daily_prices('AAPL', ?)", pd.Timestamp("2013-02-26"), dt.date(2013, 2, 26)),
        ("SELECT count(*) AS n FROM daily_prices('AAPL', DATE '2010-01-04') WHERE close > ?", Decimal("701.5"), 701.5),
        ("SELECT ticker FROM reference.tb_meta WHERE meta_id = ?", 4.0, 4),
        ("SELECT count(*) AS n FROM returns(?, DATE '2013-02-26')", [1.0, 4.0], [1, 4]),
    ],
)
def test_a_value_that_comes_as_another_type_is_the_same(cursor: Any, sql: str, value: object, same: object) -> None:
    found = select(cursor, sql, [value])
    assert found.num_rows == 1
    assert found == select(cursor, sql, [same])


@pytest.mark.parametrize(
    ("sql", "value", "said"),
    [
        ("SELECT count(*) FROM daily_prices('AAPL', ?)", dt.datetime(2013, 2, 26, 9, 30), "is not a date; write it as"),
        ("SELECT count(*) FROM daily_prices('AAPL', ?)", dt.datetime(2013, 2, 26, tzinfo=dt.UTC), "is not a date"),
        ("SELECT ticker FROM reference.tb_meta WHERE meta_id = ?", 4.5, "is not a whole number"),
    ],
)
def test_a_value_that_is_another_one_is_refused(cursor: Any, sql: str, value: object, said: str) -> None:
    assert said in refused(cursor, sql, [value])


def test_only_one_row_of_parameters_is_taken(cursor: Any) -> None:
    rows = pa.record_batch([pa.array([1, 2])], names=["1"])
    assert "2 rows of parameters are bound; one is taken" in refused(cursor, "SELECT CAST(? AS INTEGER)", rows)


def test_a_literal_in_a_call_is_bound_as_a_request_is(cursor: Any) -> None:
    found = select(cursor, "SELECT * FROM daily_prices('AAPL', '2013-02-27', end_date => NULL)")
    assert found.num_rows == 3
    basket = "SELECT * FROM basket_value(weights => MAP(ARRAY[1, 5], ARRAY[-0.5, 1]), start_date => DATE '2013-02-27')"
    assert select(cursor, basket).num_rows == 3


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "SELECT * FROM daily_prices('AAPL')",
            "missing-parameter] daily_prices needs 'start_date' (date), for example start_date => DATE '2010-01-04'",
        ),
        (
            "SELECT d.close FROM daily_prices AS d WHERE d.close > 1",
            "missing-parameter] daily_prices needs 'ticker' (string), 'start_date' (date), for example "
            "daily_prices(ticker => 'AAPL', start_date => DATE '2010-01-04')",
        ),
        (
            "SELECT * FROM basket_value(start_date => DATE '2010-01-04')",
            "missing-parameter] basket_value needs 'weights' (map<int32, float64>), for example "
            "weights => MAP(ARRAY[1, 5], ARRAY[0.6, 0.4])",
        ),
        ("SELECT * FROM daily_prices(tiker => 'AAPL')", "unknown-parameter] daily_prices has no parameter 'tiker'; did"),
        ("SELECT * FROM daily_prices('A', 'B', 'C', 'D')", "unknown-parameter] daily_prices is given 4 values"),
        ("SELECT * FROM daily_prices('AAPL', ticker => 'IBM')", "bad-parameter] daily_prices.ticker is given more"),
        ("SELECT * FROM daily_prices(ticker => 'IBM', DATE '2010-01-01')", "bad-request] daily_prices: a value without"),
        ("SELECT * FROM daily_prices(upper('aapl'), DATE '2010-01-01')", "bad-parameter] daily_prices.ticker is no const"),
        ("SELECT * FROM daily_prices('AAPL', DATE '2010-01-01' + INTERVAL '1' DAY)", "bad-parameter] daily_prices.start"),
        ("SELECT * FROM basket_value(MAP(ARRAY[1, 1], ARRAY[1, 2]), DATE '2010-01-01')", "has the key '1' more than once"),
        ("SELECT * FROM basket_value(MAP(ARRAY[1], ARRAY[1, 2]), DATE '2010-01-01')", "has 1 keys and 2 values"),
        ("SELECT * FROM price_history(ARRAY[], DATE '2010-01-01')", "bad-parameter] price_history.meta_ids = [] has 0"),
        ("SELECT * FROM daily_price('AAPL')", "sql-refused] FROM takes datasets, and there is none named 'daily_price'; did"),
        ("SELECT nothing FROM reference.tb_meta", "sql-refused] there is no column 'nothing' here"),
        ("SHOW TABLES", "not SHOW; the driver says which tables and columns there are (getTables, adbc_get_objects)"),
        ("describe daily_prices", "not DESCRIBE; the driver says which tables and columns there are"),
        ("EXPLAIN SELECT 1", "not EXPLAIN; the action explain shows the plan of a statement"),
        ("SELECT table_name FROM information_schema.tables", "there is no table 'information_schema.tables'; the driver"),
        ("SELECT * FROM daily_prices(%s, DATE '2010-01-04')", "; a parameter is written as ?"),
        ("SELECT nam FROM reference.tb_meta", "sql-refused] there is no column 'nam' here; did you mean 'name'?"),
        ("SELECT trade_dat FROM price_history(ARRAY[1], DATE '2013-01-02')", "did you mean 'trade_date'?"),
        ("SELECT meta_id FROM reference.tb_meta AS a JOIN reference.tb_meta AS b ON a.name = b.name", "which column 'meta_id' is"),
        ("SELECT * FROM tb_meta", "there is none named 'tb_meta'; a table is written database.table"),
        ("SELECT * FROM reference.nothing", "sql-refused] there is no table 'reference.nothing'"),
        ("SELECT CAST(name AS INTEGER) FROM reference.tb_meta", "engine-failed] DuckDB: Conversion Error"),
    ],
)  # fmt: skip
def test_errors_have_their_code_and_way_out(cursor: Any, sql: str, said: str) -> None:
    with pytest.raises(adbc_driver_manager.Error) as caught:
        select(cursor, sql)
    assert said in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_two_results_are_read_at_once(adbc_connection: Any) -> None:
    with adbc_connection.cursor() as one, adbc_connection.cursor() as two:
        one.execute("SELECT trade_date FROM daily_prices('IBM', DATE '2000-03-01')")
        two.execute("SELECT close FROM daily_prices('IBM', DATE '2000-03-01')")
        left, right = one.fetch_record_batch(), two.fetch_record_batch()
        first = [left.read_next_batch().num_rows, right.read_next_batch().num_rows]
        rest = [left.read_all().num_rows, right.read_all().num_rows]
    assert first[0] + rest[0] == first[1] + rest[1] > 3000


def test_a_cancel_in_the_middle_stops_the_query(adbc_connection: Any, sql_server: Counted) -> None:
    calls = sql_server.server.flight.calls
    with adbc_connection.cursor() as cursor:
        cursor.execute(PAIRS)
        reader = cursor.fetch_record_batch()
        # The first batches can be heartbeats without rows.
        while not reader.read_next_batch().num_rows:
            pass
        assert calls.count > 0
        cursor.adbc_cancel()
        with pytest.raises((pa.ArrowException, OSError, adbc_driver_manager.Error)):
            reader.read_all()
    until(lambda: calls.count == 0)


def test_a_cancel_while_the_engine_thinks_stops_the_query(adbc_connection: Any, sql_server: Counted) -> None:
    calls = sql_server.server.flight.calls
    before = len(sql_server.engine.started)
    with adbc_connection.cursor() as cursor:
        met: list[BaseException] = []

        def run() -> None:
            try:
                select(cursor, "SELECT * FROM slow_count")
            except Exception as error:  # noqa: BLE001 - the driver has several
                met.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until(lambda: len(sql_server.engine.started) > before)
        cursor.adbc_cancel()
        thread.join(30)
    assert not thread.is_alive()
    assert met
    until(lambda: calls.count == 0)


def test_a_result_that_is_left_unread_frees_its_query(adbc_connection: Any, sql_server: Counted) -> None:
    with adbc_connection.cursor() as cursor:
        cursor.execute(PAIRS)
        cursor.fetch_record_batch().read_next_batch()
    until(lambda: sql_server.server.flight.calls.count == 0)


def test_a_closed_connection_says_so(adbc_connect: Connect, sql_server: Counted) -> None:
    connection = adbc_connect(sql_server.url)
    connection.close()
    with pytest.raises(adbc_driver_manager.Error, match="AdbcConnectionInit"):
        connection.cursor()


def test_a_server_that_is_not_there_says_so(adbc_connect: Connect) -> None:
    with (
        adbc_connect("grpc://localhost:1").cursor() as cursor,
        pytest.raises(adbc_driver_manager.Error, match="connection refused"),
    ):
        select(cursor, "SELECT 1")


def test_pandas_reads_sql(adbc_connection: Any) -> None:
    frame = pd.read_sql(f"SELECT trade_date, close FROM {AAPL}", adbc_connection)
    assert list(frame.columns) == ["trade_date", "close"]
    assert frame["close"].iloc[0] == pytest.approx(214.01, abs=1e-4)
    assert len(frame) == 19


def test_polars_reads_sql(adbc_connection: Any) -> None:
    frame = pl.read_database(f"SELECT * FROM {AAPL}", adbc_connection)
    assert frame.shape == (19, 7)
    assert frame.schema["trade_date"] == pl.Date
    assert frame.schema["close"] == pl.Float32


def test_duckdb_reads_the_arrow_table(cursor: Any) -> None:
    prices = select(cursor, f"SELECT * FROM {AAPL}")
    with duckdb.connect() as connection:
        connection.register("prices", prices)
        (found,) = connection.sql("SELECT count(*), max(close) FROM prices").fetchall()
    assert found == (19, max(prices["close"].to_pylist()))


def test_sql_in_json_is_the_same_request(sql_client: flight.FlightClient, cursor: Any) -> None:
    sql = "SELECT ticker, max(close) AS high FROM daily_prices(?, ?) GROUP BY ticker"
    body = json.dumps({"sql": sql, "params": {"1": "AAPL", "2": "2012-01-01"}}).encode()
    asked = select(cursor, sql, ["AAPL", dt.date(2012, 1, 1)])
    assert sql_client.do_get(flight.Ticket(body)).read_all().equals(asked)
    info = sql_client.get_flight_info(flight.FlightDescriptor.for_command(body))
    assert info.schema == asked.schema
    assert sql_client.do_get(info.endpoints[0].ticket).read_all().equals(asked)
