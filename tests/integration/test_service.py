"""The service as a newcomer sees it: real demo tables, a real socket, and only pyarrow on the client."""

from __future__ import annotations

import json
import time
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.server import Server
from tests.fix_server import ASKED, SQL, Serve, connect, raw, ticket

JSON = {"dataset": "daily_prices", "params": {"ticker": "AAPL", "start_date": "2010-01-04", "end_date": "2010-01-29"}}
PATH = ("daily_prices", "ticker=AAPL", "start_date=2010-01-04", "end_date=2010-01-29")


def schema() -> pa.Schema:
    """The schema that `sql/daily_prices.sql` declares, written out."""

    def field(name: str, kind: pa.DataType, doc: str, unit: str = "", nullable: bool = True) -> pa.Field:
        return pa.field(name, kind, nullable, {"doc": doc} | ({"unit": unit} if unit else {}))

    fields = [
        field("trade_date", pa.date32(), "Trading day", nullable=False),
        field("close", pa.float32(), "Close as quoted that day", "USD"),
        field("adj_close", pa.float32(), "Close adjusted for splits and dividends", "USD"),
        field("gross_return", pa.float32(), "Return on the stock's previous adj_close", "fraction"),
        field("ticker", pa.string(), "Exchange ticker", nullable=False),
        field("name", pa.string(), "Company name"),
        field("sector", pa.string(), "Sector"),
    ]
    doc = "One row per trading day of one US stock, with the stock's name and sector. Prices in USD."
    notes = {"dataset": "daily_prices", "version": "1", "key": "ticker,trade_date", "sorted": "trade_date", "doc": doc}
    return pa.schema(fields, {f"athena_flight.{name}": value for name, value in notes.items()})


def read(client: flight.FlightClient, body: bytes) -> pa.Table:
    return client.do_get(flight.Ticket(body)).read_all()


def by_info(client: flight.FlightClient, descriptor: flight.FlightDescriptor) -> pa.Table:
    (endpoint,) = client.get_flight_info(descriptor).endpoints
    return client.do_get(endpoint.ticket).read_all()


def act(client: flight.FlightClient, name: str, body: object) -> Any:
    (result,) = client.do_action(flight.Action(name, json.dumps(body).encode()))
    return json.loads(result.body.to_pybytes())


def test_a_typed_ticket_gives_the_real_rows(client: flight.FlightClient) -> None:
    table = read(client, ASKED)
    assert table.num_rows == 19
    assert table.schema.equals(schema(), check_metadata=True)
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["trade_date"], first["ticker"]) == (date(2010, 1, 4), "AAPL")
    assert first["close"] == pytest.approx(214.01, abs=1e-4)
    days = table.column("trade_date").to_pylist()
    assert days == sorted(days)
    assert days[-1] == date(2010, 1, 29)


def test_every_form_gives_the_equal_table(client: flight.FlightClient) -> None:
    typed = read(client, ASKED)
    assert read(client, json.dumps(JSON).encode()).equals(typed, check_metadata=True)
    for descriptor in (
        flight.FlightDescriptor.for_command(ASKED),
        flight.FlightDescriptor.for_command(json.dumps(JSON)),
        flight.FlightDescriptor.for_path(*PATH),
    ):
        assert by_info(client, descriptor).equals(typed, check_metadata=True)


def test_the_flight_info_is_the_plan(client: flight.FlightClient) -> None:
    info = client.get_flight_info(flight.FlightDescriptor.for_command(ASKED))
    assert info.schema.equals(schema(), check_metadata=True)
    assert info.ordered
    assert info.descriptor.command == ASKED
    (endpoint,) = info.endpoints
    assert endpoint.locations == []
    assert 3500 < endpoint.expiration_time.as_py().timestamp() - time.time() <= 3600
    plan = json.loads(info.app_metadata)
    assert plan["params"] == {"ticker": "AAPL", "start_date": "2010-01-04", "end_date": "2010-01-29"}
    assert (plan["dataset"], plan["version"], plan["engine"]) == ("daily_prices", 1, "duckdb")
    assert plan["dropped"] == []
    # Another test may have asked the same.
    assert plan["cache"] in ("hit", "miss")
    assert set(plan["snapshots"]) == {"market_data.us_stocks_price", "reference.tb_meta"}
    assert all(isinstance(snapshot, int) for snapshot in plan["snapshots"].values())
    assert len(plan["fingerprint"]) == 64
    # One month of prices and the one file of names; Athena bills at least 10 MB.
    assert plan["estimate"]["files"] == 2
    assert 0 < plan["estimate"]["bytes"] < 100_000
    assert plan["estimate"]["usd"] == pytest.approx(0.00005)
    assert plan["limits"] == {
        "rows": 50_000,
        "bytes": 20_000_000_000,
        "timeout_s": 60.0,
        "scan_bytes": 2_000_000_000,
        "cost_usd": None,
    }


def test_an_absent_optional_parameter_is_dropped_and_means_latest(client: flight.FlightClient) -> None:
    body = b"daily_prices?ticker=AAPL&start_date=2013-01-02"
    plan = json.loads(client.get_flight_info(flight.FlightDescriptor.for_command(body)).app_metadata)
    assert plan["dropped"] == ["end_date"]
    assert read(client, body).equals(read(client, body + b"&end_date=2099-12-31"))


def test_the_flights_are_the_datasets(client: flight.FlightClient) -> None:
    listed = {info.descriptor.path[0].decode(): info for info in client.list_flights()}
    assert sorted(listed) == sorted(path.stem for path in SQL.glob("*.sql"))
    assert listed["daily_prices"].schema.equals(schema(), check_metadata=True)
    assert all(info.endpoints == [] and info.total_records == -1 for info in listed.values())


@pytest.mark.parametrize(
    ("glob", "names"),
    [
        (b"daily_*", ["daily_portfolio_value", "daily_prices"]),
        (b"*metrics", ["performance_metrics"]),
        (b"[", []),
        (b"DAILY*", []),
        (b"\xff", []),
        ("가격*".encode(), []),
    ],
)
def test_flights_are_listed_by_a_glob(client: flight.FlightClient, glob: bytes, names: list[str]) -> None:
    assert [info.descriptor.path[0].decode() for info in client.list_flights(glob)] == names


def test_a_schema_needs_no_parameters(client: flight.FlightClient) -> None:
    for descriptor in (
        flight.FlightDescriptor.for_path("daily_prices"),
        flight.FlightDescriptor.for_command(b"daily_prices"),
        flight.FlightDescriptor.for_command(b'{"dataset": "daily_prices"}'),
    ):
        assert client.get_schema(descriptor).schema.equals(schema(), check_metadata=True)


def test_the_actions_say_what_they_take(client: flight.FlightClient) -> None:
    listed = {each.type: each.description for each in client.list_actions()}
    assert {"describe", "explain"} <= set(listed)
    # Those of Flight and Flight SQL have their bodies from the specification.
    assert all("Body:" in text or text.startswith("Flight") for text in listed.values())


def test_describe_gives_the_contract(client: flight.FlightClient) -> None:
    found = act(client, "describe", {"dataset": "daily_prices"})
    assert [each["name"] for each in found["params"]] == ["ticker", "start_date", "end_date"]
    ticker, start_date, end_date = found["params"]
    assert ticker["pattern"] == r"[A-Z0-9.\-]+"
    assert ticker["max_length"] == 12
    assert (start_date["type"], start_date["required"], start_date["min"]) == ("date", True, "1990-01-01")
    assert end_date["required"] is False
    assert found["rules"] == {"range": "start_date <= end_date"}
    assert found["columns"][1] == {
        "name": "close", "type": "float32", "null": True, "unit": "USD", "doc": "Close as quoted that day",
    }  # fmt: skip
    assert found["limits"]["max_rows"] == 50_000
    assert "SELECT" not in json.dumps(found)


def test_explain_gives_the_plan_and_its_sql(client: flight.FlightClient) -> None:
    found = act(client, "explain", JSON)
    info = client.get_flight_info(flight.FlightDescriptor.for_command(json.dumps(JSON)))
    assert found["fingerprint"] == json.loads(info.app_metadata)["fingerprint"]
    assert found["row_filters"] == []
    assert "CAST('2010-01-04' AS DATE)" in found["sql"]
    assert ":start_date" not in found["sql"]


def test_the_trailers_say_what_was_sent(demo_server: Server) -> None:
    reply = raw(demo_server, "DoGet", ticket(ASKED))
    assert reply.code.name == "OK"
    said = {name.removeprefix("x-athena-flight-"): value for name, value in reply.trailers.items()}
    assert said["rows"] == "19"
    assert int(said["bytes"]) > 19 * 12
    assert (said["cache"] in ("hit", "miss"), said["engine"]) == (True, "duckdb")
    assert {"query-id", "scanned-bytes", "usd"} <= set(said)


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        # Nobody asks these elsewhere: the first answer is made, the second is kept.
        (b"daily_prices?ticker=IBM&start_date=2009-01-02&end_date=2009-01-23", 15),
        (b"returns?meta_ids=1&meta_ids=3&start_date=2009-03-02&end_date=2009-03-04", 6),
        (b"daily_prices?ticker=NONE&start_date=2009-01-02", 0),
    ],
)
def test_the_rows_and_bytes_told_are_those_that_arrive(
    demo_server: Server, client: flight.FlightClient, body: bytes, rows: int
) -> None:
    asked = flight.FlightDescriptor.for_command(body)
    before = client.get_flight_info(asked)
    assert (before.total_records, before.total_bytes) == (-1, -1)
    for cache in ("miss", "hit"):
        said = raw(demo_server, "DoGet", ticket(body)).trailers
        table = read(client, body)
        assert table.num_rows == rows
        assert said["x-athena-flight-cache"] == cache
        assert said["x-athena-flight-bytes"] == str(table.nbytes)
        info = client.get_flight_info(asked)
        assert (info.total_records, info.total_bytes) == (rows, table.nbytes)


def test_a_result_without_rows_has_the_schema(client: flight.FlightClient) -> None:
    table = read(client, b"daily_prices?ticker=NONE&start_date=2010-01-04")
    assert table.num_rows == 0
    assert table.schema.equals(schema(), check_metadata=True)


def test_a_ticket_is_good_on_another_server_with_the_secret(serve: Serve, client: flight.FlightClient) -> None:
    (endpoint,) = client.get_flight_info(flight.FlightDescriptor.for_command(ASKED)).endpoints
    with connect(serve()) as other:
        assert other.do_get(endpoint.ticket).read_all().equals(read(client, ASKED), check_metadata=True)
    with (
        connect(serve(server={"ticket_secret": "another secret"})) as stranger,
        pytest.raises(pa.ArrowInvalid, match=r"\[bad-ticket\] the ticket was not issued by this server"),
    ):
        stranger.do_get(endpoint.ticket).read_all()


def test_versions_are_served_side_by_side(serve: Serve, client: flight.FlightClient) -> None:
    body = ASKED + b"&_version=1"
    assert read(client, body).num_rows == 19
    assert read(client, json.dumps({**JSON, "version": 1}).encode()).num_rows == 19


def test_the_tables_are_read_as_they_were_at_a_moment(client: flight.FlightClient) -> None:
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
    assert read(client, json.dumps({**JSON, "as_of": later}).encode()).num_rows == 19
