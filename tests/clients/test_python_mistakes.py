"""What people write who take a query for a table, a connection for DB-API, or an address for a URL."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flight_client import Connection, FlightDataError, InvalidRequest, Query, Unsupported, connect
from flight_server.server import Server


@pytest.fixture
def query(db: Connection) -> Query:
    return db.daily_prices("AAPL", start_date="2010-01-04", end_date="2010-01-29")


@pytest.mark.parametrize("taken", [lambda q: q["close"], lambda q: q[0], np.asarray, pd.DataFrame])
def test_a_query_taken_for_a_table_says_how_its_rows_come(query: Query, taken: Callable[[Query], object]) -> None:
    with pytest.raises(
        TypeError, match=r"^a query is no (table yet|array): its rows come by arrow\(\), pl\(\), df\(\)"
    ):
        taken(query)


@pytest.mark.parametrize("name", ["execute", "query", "cursor", "read_sql"])
def test_a_connection_taken_for_a_database_names_sql(db: Connection, name: str) -> None:
    with pytest.raises(AttributeError, match=r"; SQL is asked by db\.sql\(…\)$"):
        getattr(db, name)
    with pytest.raises(
        AttributeError, match="there is no dataset 'daily_price'; did you mean 'daily_prices'"
    ) as caught:
        db.daily_price  # noqa: B018
    assert "SQL" not in str(caught.value)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_what_cannot_be_pickled_says_what_to_do(
    db: Connection, query: Query, copied: Callable[[object], object]
) -> None:
    for each in (db, query, db.daily_prices, query.submit()):
        with pytest.raises(TypeError, match=r"cannot be copied or pickled; connect\(…\) where they are needed"):
            copied(each)


def test_errors_go_from_process_to_process(db: Connection) -> None:
    for ask in (
        lambda: db["daily_price"],
        lambda: db.daily_prices(1, 2, 3, 4),
        lambda: db.daily_prices("a", "b").plan(),
    ):
        with pytest.raises(FlightDataError) as caught:
            ask()
        found = pickle.loads(pickle.dumps(caught.value))
        assert (type(found), str(found)) == (type(caught.value), str(caught.value))


def test_a_day_is_a_moment_and_nothing_else_is(query: Query) -> None:
    assert query.as_of(dt.date(2024, 1, 31)).request["as_of"] == "2024-01-31"
    with pytest.raises(ValueError, match="as_of takes a pin's name, a receipt or a datetime, and no int"):
        query.as_of(20240131)  # type: ignore[arg-type]


def test_a_folder_is_no_file(query: Query, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=rf"this is a folder; name a file in it: '{tmp_path}'$"):
        query.to_parquet(tmp_path)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("grpc://localhost", "'grpc://localhost' names no port"),
        ("grpc+tls://flight.example.com/", "'grpc+tls://flight.example.com/' names no port"),
        ("grpc://localhost:8815/daily_prices", "'grpc://localhost:8815/daily_prices' says more than an address"),
        ("grpc://localhost:port", "'grpc://localhost:port' is no address: Port could not be cast"),
        ("localhost:8815", "'localhost:8815' is no address"),
        ("http://localhost:8815", "'http://localhost:8815' is no address"),
    ],
)
def test_an_address_that_is_none_says_how_one_is_written(url: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        connect(url)
    assert caught.value.message.startswith(said)
    assert caught.value.message.endswith("; write the address as grpc://localhost:8815")


def test_a_slash_behind_the_address_is_nothing(url: str) -> None:
    with connect(url + "/") as db:
        assert "daily_prices" in db


def test_the_port_of_health_checks_is_told(client_server: Server) -> None:
    with pytest.raises(Unsupported, match=r"^\[unexpected\] Method not found!; this is not the port of Flight"):
        connect(f"grpc://localhost:{client_server.health.port}")


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", "the token is empty; leave it out to send none"),
        (" \n", "the token is empty; leave it out to send none"),
        ("af_1\naf_2", "the token has signs that no header can hold; it is not a whole token"),
        ("af_ä", "the token has signs that no header can hold; it is not a whole token"),
    ],
)
def test_a_token_that_is_none_is_refused_at_once(url: str, token: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        connect(url, token=token)
    assert str(caught.value) == f"[bad-request] {said}"


def test_a_token_of_a_file_has_a_line_end(url: str) -> None:
    with connect(url, token="af_1\n") as db:
        assert "daily_prices" in db
