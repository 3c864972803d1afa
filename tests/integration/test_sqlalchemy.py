"""SQLAlchemy over ADBC (sqlalchemy-adbc): text and expressions with parameters, datasets as functions, reflection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pandas as pd
import polars as pl
import pyarrow.flight as flight
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

from tests.fix_sql import AAPL, Counted
from tests.waiting import until


@pytest.fixture
def sql_engine(sql_server: Counted) -> Iterator[sa.Engine]:
    engine = sa.create_engine(
        f"adbc+flightsql://localhost:{sql_server.server.port}?tls=false", connect_args={"autocommit": True}
    )
    yield engine
    engine.dispose()


def test_text_takes_named_parameters(sql_engine: sa.Engine) -> None:
    sql = sa.text("SELECT trade_date FROM daily_prices(ticker => :ticker, start_date => :day) WHERE close > :least")
    asked = {"ticker": "AAPL", "day": dt.date(2012, 9, 1), "least": 701.0}
    with sql_engine.connect() as connection:
        found = connection.execute(sql, asked).scalars().all()
    assert found == [dt.date(2012, 9, 18), dt.date(2012, 9, 19)]


def test_a_dataset_is_a_function_that_gives_a_table(sql_engine: sa.Engine, sql_client: flight.FlightClient) -> None:
    whole = sql_client.do_get(flight.Ticket(b"daily_prices?ticker=AAPL&start_date=2012-09-01")).read_all()
    closes = whole["close"].to_pylist()
    prices = sa.func.daily_prices("AAPL", dt.date(2012, 9, 1)).table_valued(
        sa.column("trade_date", sa.Date), sa.column("close", sa.Float)
    )
    high = sa.select(sa.func.max(prices.c.close)).where(prices.c.close < 701)
    days = sa.select(prices.c.trade_date).where(prices.c.close > 701).order_by(prices.c.trade_date.desc())
    with sql_engine.connect() as connection:
        assert connection.execute(high).scalar() == max(close for close in closes if close < 701)
        assert connection.execute(days).scalars().all() == [dt.date(2012, 9, 19), dt.date(2012, 9, 18)]


def test_tables_are_reflected(sql_engine: sa.Engine) -> None:
    inspector = sa.inspect(sql_engine)
    assert set(inspector.get_schema_names()) >= {"datasets", "reference", "market_data"}
    assert inspector.has_table("tb_meta", schema="reference")
    assert not inspector.has_table("nothing", schema="reference")
    columns = {each["name"]: type(each["type"]) for each in inspector.get_columns("daily_prices", schema="datasets")}
    assert columns["trade_date"] is sa.Date
    assert columns["close"] is sa.Float
    assert columns["ticker"] is sa.String
    meta = sa.Table("tb_meta", sa.MetaData(), autoload_with=sql_engine, schema="reference")
    with sql_engine.connect() as connection:
        found = connection.execute(sa.select(meta.c.ticker).where(meta.c.meta_id < 3).order_by(meta.c.meta_id)).all()
    assert found == [("AAPL",), ("FB",)]


def test_pandas_and_polars_take_the_connection(sql_engine: sa.Engine) -> None:
    sql = f"SELECT trade_date, close FROM {AAPL}"
    with sql_engine.connect() as connection:
        assert pd.read_sql(sql, connection).shape == (19, 2)
        assert pl.read_database(sql, connection).shape == (19, 2)


def test_what_is_refused_has_its_code_and_nothing_runs(sql_engine: sa.Engine, sql_server: Counted) -> None:
    before = len(sql_server.engine.started)
    for sql in ("DROP TABLE reference.tb_meta", "SELECT 1; SELECT 2", "INSERT INTO reference.tb_meta VALUES (1)"):
        with sql_engine.connect() as connection, pytest.raises(ProgrammingError, match=r"\[sql-refused\]"):
            connection.execute(sa.text(sql))
    assert len(sql_server.engine.started) == before


def test_the_pool_gives_a_connection_back(sql_engine: sa.Engine, sql_server: Counted) -> None:
    for _ in range(3):
        with sql_engine.connect() as connection:
            assert connection.execute(sa.text(f"SELECT count(*) FROM {AAPL}")).scalar() == 19
    assert sql_engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    until(lambda: sql_server.server.flight.calls.count == 0)
