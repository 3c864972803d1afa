"""A question in all its forms gives the same rows and types as plain pyarrow.flight does."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.flight as flight
import pyarrow.parquet as pq
import pytest

from flight_client import Connection, InvalidRequest, Query, connect

ASKED = {"ticker": "AAPL", "start_date": "2010-01-04", "end_date": "2010-03-31"}


@pytest.fixture
def query(db: Connection) -> Query:
    return db.daily_prices(**ASKED)


@pytest.fixture
def expected(url: str) -> pa.Table:
    """The same asked with pyarrow alone."""
    with flight.connect(url) as client:
        return client.do_get(
            flight.Ticket(json.dumps({"dataset": "daily_prices", "params": ASKED}).encode())
        ).read_all()


def test_arrow_is_what_pyarrow_gets(query: Query, expected: pa.Table) -> None:
    found = query.arrow()
    assert found.equals(expected, check_metadata=True)
    assert found.num_rows == 61
    assert found.column("close")[0].as_py() == pytest.approx(214.01, abs=1e-4)


def test_stream_iteration_and_table_are_the_same(query: Query, expected: pa.Table) -> None:
    reader = query.reader()
    assert reader.schema.equals(expected.schema, check_metadata=True)
    assert reader.read_all() == expected
    assert pa.Table.from_batches(query) == expected
    assert all(batch.num_rows for batch in query)


def test_polars_pandas_and_duckdb_have_the_same_values(query: Query, expected: pa.Table) -> None:
    assert query.pl().equals(pl.DataFrame(expected))
    frame = query.df()
    assert str(frame["trade_date"].dtype) == "datetime64[ms]"
    assert [day.date() for day in frame["trade_date"]] == expected["trade_date"].to_pylist()
    assert frame["close"].to_list() == expected["close"].to_pylist()
    assert query.duck("SELECT * FROM this") == expected.replace_schema_metadata(None).cast(
        pa.schema([pa.field(each.name, each.type) for each in expected.schema])
    )


def test_pandas_keeps_whole_numbers_beside_nulls(db: Connection) -> None:
    query = db.sql(
        "SELECT a, b, c, d FROM (VALUES (9007199254740993, 1, 1, 0.5e0), (NULL, NULL, 2, NULL)) AS t(a, b, c, d)"
    )
    frame = query.df()
    assert [str(kind) for kind in frame.dtypes] == ["Int64", "Int32", "int32", "float64"]
    assert frame["a"].to_list() == [2**53 + 1, pd.NA]
    assert list(frame.columns) == ["a", "b", "c", "d"]
    assert [str(kind) for kind in query.df(types_mapper={}.get).dtypes] == ["float64", "float64", "int32", "float64"]
    assert query.df(integer_object_nulls=True)["a"].to_list() == [2**53 + 1, None]
    assert str(query.df(categories=["a"]).dtypes["a"]) == "category"


def test_pandas_can_keep_every_type(db: Connection) -> None:
    examples = {each.python_name: each.example for each in db.every_type.contract.params if each.required}
    query = db.every_type(**examples)
    frame = query.df(types_mapper=pd.ArrowDtype)
    assert pa.Table.from_pandas(frame).select(["large", "amount", "day"]).cast(
        query.schema.remove_metadata().empty_table().select(["large", "amount", "day"]).schema
    ).to_pylist() == [{"large": 2**53 + 1, "amount": Decimal("12345.6789"), "day": dt.date(2024, 2, 29)}]


def test_duckdb_may_name_the_answer_twice_and_others(query: Query, db: Connection) -> None:
    other = db.daily_prices("MSFT", "2010-01-04", "2010-03-31")
    found = query.duck(
        "SELECT count(*) AS n, min(them.ticker) AS ticker FROM this JOIN this AS again USING (trade_date) "
        "JOIN other AS them USING (trade_date) JOIN few USING (trade_date)",
        other=other,
        few=pl.DataFrame({"trade_date": [dt.date(2010, 1, 4), dt.date(2010, 1, 5)]}),
    )
    assert found.to_pylist() == [{"n": 2, "ticker": "MSFT"}]


def test_empty_answer_has_the_contracts_schema(db: Connection, expected: pa.Table) -> None:
    found = db.daily_prices("AAPL", "2010-01-09", "2010-01-10").arrow()
    assert found.num_rows == 0
    assert found.schema.equals(expected.schema, check_metadata=True)


def test_every_type_goes_there_and_comes_back(db: Connection) -> None:
    moment = dt.datetime(2024, 2, 29, 12, 30, 0, 123456)
    seoul = dt.timezone(dt.timedelta(hours=9))
    query = db.every_type(
        flag=False,
        small=-(2**31),
        large=2**63 - 1,
        ratio=0.1,
        amount=Decimal("-0.0001"),
        word='it\'s "quoted"; -- 각',
        side="sell",
        day=dt.date(1969, 12, 31),
        moment=moment,
        instant=dt.datetime(2024, 2, 29, 12, 30, tzinfo=seoul),
        numbers=[3, 1, 1],
        weights={1: 0.6, 2: -0.25},
    )
    assert query.arrow().to_pylist() == [
        {
            "flag": False,
            "small": -(2**31),
            "large": 2**63 - 1,
            "ratio": 0.1,
            "amount": Decimal("-0.0001"),
            "word": 'it\'s "quoted"; -- 각',
            "side": "sell",
            "day": dt.date(1969, 12, 31),
            "moment": moment,
            "instant": dt.datetime(2024, 2, 29, 3, 30, tzinfo=dt.UTC),
            "hits": 2,
            "weight": -0.25,
            "class": "none",
        }
    ]


def test_plan_says_what_would_run_and_explain_its_sql(query: Query) -> None:
    plan = query.plan()
    assert (plan.dataset, plan.version, plan.engine) == ("daily_prices", 1, "duckdb")
    assert plan.cache in ("hit", "miss")
    assert plan.params == ASKED
    assert plan.files > 0
    assert set(plan.snapshots) == {"market_data.us_stocks_price", "reference.tb_meta"}
    assert repr(plan).splitlines()[1].strip() == (
        "params     ticker='AAPL', start_date='2010-01-04', end_date='2010-03-31'"
    )
    explained = query.explain()
    assert explained.plan == plan
    assert "'AAPL'" in explained.sql
    assert repr(explained).endswith(explained.sql)


def test_values_are_checked_by_the_server(db: Connection) -> None:
    with pytest.raises(InvalidRequest) as caught:
        db.daily_prices("AAPL", start_date="yesterday").plan()
    assert caught.value.code == "bad-parameter"
    assert caught.value.message == "daily_prices.start_date = 'yesterday' is not a date; write it as 2010-01-04"


def test_as_of_and_engine_are_asked_for(query: Query) -> None:
    now = dt.datetime.now(dt.UTC)
    assert query.as_of(now).request["as_of"] == now.isoformat()
    assert query.as_of(now).arrow() == query.arrow()
    assert "as_of=" not in repr(query)
    with pytest.raises(ValueError, match="no time zone"):
        query.as_of(dt.datetime(2024, 1, 1))
    with pytest.raises(InvalidRequest, match="there is no engine 'abacus'"):
        query.engine("abacus").plan()


def test_a_folder_that_is_not_there_is_named(query: Query, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"there is no such folder: '{tmp_path}/none'$"):
        query.to_parquet(tmp_path / "none" / "prices.parquet")


def test_parquet_file_is_the_answer(query: Query, expected: pa.Table, tmp_path: Path) -> None:
    file = query.to_parquet(tmp_path / "prices.parquet")
    found = pq.read_table(file)
    assert found.equals(expected, check_metadata=True)
    assert pq.ParquetFile(file).metadata.row_group(0).column(0).compression == "ZSTD"
    assert [each.name for each in tmp_path.iterdir()] == ["prices.parquet"]


def test_failed_query_leaves_the_old_file_alone(db: Connection, tmp_path: Path) -> None:
    file = tmp_path / "prices.parquet"
    file.write_text("old")
    with pytest.raises(InvalidRequest):
        db.daily_prices("AAPL", "never").to_parquet(file)
    assert [each.name for each in tmp_path.iterdir()] == ["prices.parquet"]
    assert file.read_text() == "old"


def test_libraries_take_the_query_itself(query: Query, expected: pa.Table) -> None:
    assert pa.table(query).equals(expected)
    assert pl.DataFrame(query).equals(query.pl())


def test_a_name_that_a_query_has_not_says_what_it_has(query: Query) -> None:
    with pytest.raises(AttributeError, match=r"a query has no 'to_pandas': its rows come by arrow\(\), pl\(\), df\(\)"):
        query.to_pandas()  # type: ignore[attr-defined]
    assert not hasattr(query, "_ipython_display_")


def test_a_closed_connection_says_so(url: str) -> None:
    db = connect(url)
    asked = db.daily_prices("AAPL", start_date="2010-01-04")
    db.close()
    with pytest.raises(InvalidRequest, match="this connection is closed; connect"):
        asked.arrow()
