"""SQL of one's own from a connection: a question like any other, with the values of its `?` in a list."""

from __future__ import annotations

import datetime as dt
import gc
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_client import Connection, InvalidRequest, connect
from flight_server.server import Server
from tests.waiting import until

HIGH = "SELECT trade_date, close FROM daily_prices(ticker => ?, start_date => ?) WHERE close > ?"
DAYS = [dt.date(2012, 9, 18), dt.date(2012, 9, 19)]


def test_a_statement_is_answered_in_every_form(db: Connection, tmp_path: Path) -> None:
    query = db.sql(HIGH, ["AAPL", dt.date(2012, 9, 1), 701])
    table = query.arrow()
    assert table.schema.remove_metadata() == pa.schema(
        [pa.field("trade_date", pa.date32(), nullable=False), pa.field("close", pa.float32())]
    )
    assert table["trade_date"].to_pylist() == DAYS
    assert query.schema == table.schema
    assert query.reader().read_all() == table
    assert pa.Table.from_batches(query) == table
    assert query.pl()["trade_date"].to_list() == DAYS
    assert [day.date() for day in query.df()["trade_date"]] == DAYS
    assert query.duck("SELECT count(*) AS n FROM this").to_pylist() == [{"n": 2}]
    assert pq.read_table(query.to_parquet(tmp_path / "high.parquet")) == table
    assert query.submit().result() == table


def test_a_plain_call_is_the_dataset_by_name(db: Connection) -> None:
    asked = db.sql("SELECT * FROM daily_prices('AAPL', DATE '2010-01-04', DATE '2010-01-29')")
    named = db.daily_prices("AAPL", "2010-01-04", "2010-01-29")
    assert asked.arrow().equals(named.arrow(), check_metadata=True)
    assert asked.plan().fingerprint == named.plan().fingerprint


def test_a_statement_is_planned_and_read_again_by_its_receipt(db: Connection) -> None:
    query = db.sql(HIGH, ["AAPL", "2012-09-01", 701])
    plan = query.plan()
    assert plan.engine == "duckdb"
    assert set(plan.snapshots) == {"market_data.us_stocks_price", "reference.tb_meta"}
    assert "701" in query.explain().sql
    table = query.arrow()
    assert query.receipt is not None
    assert query.as_of(query.receipt).arrow() == table
    with pytest.raises(InvalidRequest, match="there is no engine 'abacus'"):
        query.engine("abacus").plan()


@pytest.mark.parametrize(
    "day", ["2012-09-01", dt.datetime(2012, 9, 1), pd.Timestamp("2012-09-01"), np.datetime64("2012-09-01")]
)
@pytest.mark.parametrize("price", [701, 701.0, Decimal("701.0"), np.float32(701)])
def test_values_may_come_from_any_library(db: Connection, day: object, price: object) -> None:
    assert db.sql(HIGH, ["AAPL", day, price]).arrow().num_rows == 2
    assert db.sql(HIGH, pl.Series(["AAPL", day, price], dtype=pl.Object)).arrow().num_rows == 2


def test_values_of_every_type_come_back(db: Connection) -> None:
    moment = dt.datetime(2024, 2, 29, 12, 30, 0, 123456)
    amount = Decimal("12345678901234.5678")
    values = [True, 2**63 - 1, amount, "it's 각", dt.date(1969, 12, 31), moment, dt.datetime(2024, 2, 29), None]
    kinds = ["boolean", "bigint", "decimal(18, 4)", "varchar", "date", "timestamp", "timestamp", "integer"]
    casts = ", ".join(f"CAST(? AS {kind}) AS c{number}" for number, kind in enumerate(kinds))
    found = db.sql(f"SELECT {casts}", values).arrow().to_pylist()
    assert [*found[0].values()] == values


def test_lists_and_maps_go_into_calls(db: Connection) -> None:
    days = "SELECT count(*) AS n FROM returns(meta_ids => ?, start_date => ?)"
    assert db.sql(days, [np.array([1, 4]), "2012-09-01"]).arrow().to_pylist() == [{"n": 244}]
    worth = "SELECT count(*) AS n FROM basket_value(weights => ?, start_date => ?)"
    assert db.sql(worth, [{1: Decimal("0.6"), 5: 0.4}, "2012-09-01"]).arrow().to_pylist() == [{"n": 122}]


def test_a_statement_shows_itself(db: Connection) -> None:
    assert repr(db.sql("SELECT 1 AS one")) == "<sql('SELECT 1 AS one')>"
    query = db.sql("SELECT close\n  FROM daily_prices(?, ?)", ["AAPL", dt.date(2012, 9, 1)])
    assert repr(query) == "<sql('SELECT close FROM daily_prices(?, ?)', ['AAPL', '2012-09-01'])>"
    assert repr(query.as_of("month-end")).endswith(" as_of='month-end'>")
    assert len(repr(db.sql("SELECT " + "1, " * 1000))) < 150
    submission = query.submit()
    assert repr(submission) == f"<Submission {submission.id} of sql>"


@pytest.mark.parametrize(
    ("statement", "params", "said"),
    [
        ("DROP TABLE x", [], "[sql-refused] only a SELECT is run, not DROP"),
        ("SELECT close FROM daily_price", [], "[sql-refused] FROM takes datasets, and there is none named 'daily_price'; did you mean 'daily_prices'?"),
        ("SELECT close FROM daily_prices(?, ?)", ["AAPL"], "[missing-parameter] parameter 2 of 2 (?) has no value"),
        ("SELECT close FROM daily_prices(?, ?)", ["AAPL", "1/2/2010"], "[bad-parameter] daily_prices.start_date = '1/2/2010' is not a date; write it as 2010-01-04"),
        ("SELECT close FROM daily_prices(:t, :d)", ["AAPL", "2010-01-04"], "[sql-refused] variables and named parameters are not taken; write ? and bind by place"),
    ],
)  # fmt: skip
def test_a_wrong_statement_says_what_to_write(db: Connection, statement: str, params: list[object], said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        db.sql(statement, params).arrow()
    assert str(caught.value) == said


@pytest.mark.parametrize("params", ["AAPL", {"ticker": "AAPL"}, 7, b"AAPL"])
def test_values_that_are_no_list_are_refused_at_once(db: Connection, params: object) -> None:
    with pytest.raises(InvalidRequest, match=r"^\[bad-parameter\] params is a list of the values of the \?"):
        db.sql("SELECT * FROM daily_prices(?, ?)", params)  # type: ignore[arg-type]


def test_what_is_no_text_or_cannot_be_sent_is_refused_at_once(db: Connection) -> None:
    with pytest.raises(InvalidRequest, match="SQL is text, not a PosixPath"):
        db.sql(Path("prices.sql"))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match=r"parameter 2 \(\?\): a object cannot be sent; it takes text, numbers"):
        db.sql("SELECT ?, ?", [1, object()])


def test_leaving_a_loop_stops_a_statement(db: Connection, client_server: Server) -> None:
    before = client_server.flight.calls.count
    batch = next(iter(db.sql("SELECT one + two AS total FROM slow_rows() WHERE one > ?", [1])))
    assert batch.num_rows
    gc.collect()
    until(lambda: client_server.flight.calls.count == before)


def test_a_closed_connection_says_so(url: str) -> None:
    db = connect(url)
    asked = db.sql("SELECT 1 AS one")
    db.close()
    with pytest.raises(InvalidRequest, match="this connection is closed; connect"):
        asked.arrow()
