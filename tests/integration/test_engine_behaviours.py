"""What must be true whichever engine answers: the same rows, schemas, limits, errors, pins, time-outs and cancels."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table

from flight_server import server as composition
from flight_server.errors import EngineFailed, InvalidRequest, NotFound
from flight_server.server import Server
from tests.fakes.aws import LocalAws
from tests.fix_served import IDS, Lab, Labs, dataset
from tests.frames import Tables
from tests.lake import ROWS
from tests.oracle import EXPECTED, assert_equal
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
EARLY, LATE, NEVER = date(2022, 1, 1), date(2024, 1, 20), date(2030, 1, 1)
UNTIL = date(2024, 3, 5)
Params = Mapping[str, Any]
# Each dataset with all its rows, with its optional parameters given, and without any row.
CASES: dict[str, list[Params]] = {
    "daily_prices": [{"ticker": "BBB", "start_date": EARLY}, {"ticker": "BBB", "start_date": LATE, "end_date": UNTIL}],
    "aggregate_stats": [{"tickers": ["ONE", "NUL", "BBB", "AAA", "NIL", "OLD"], "start_date": EARLY}],
    "portfolio_perf": [{"port_id": 1, "start_date": EARLY}, {"port_id": 2, "start_date": LATE}],
    "cross_market": [
        {"us_ticker": "AAA", "kr_ticker": "KRX-B", "start_date": EARLY},
        {"us_ticker": "NIL", "kr_ticker": "KRX-A", "start_date": LATE},
    ],
    "price_history": [
        {"meta_ids": [2, 1, 6], "start_date": EARLY},
        {"meta_ids": [2], "start_date": LATE, "end_date": UNTIL},
    ],
    "returns": [
        {"meta_ids": [1, 2, 3, 6], "start_date": EARLY},
        {"meta_ids": [2], "start_date": LATE, "end_date": UNTIL},
    ],
    "basket_value": [
        {"weights": {1: 2.0, 2: 0.5}, "start_date": EARLY},
        {"weights": {2: -1.0}, "start_date": LATE, "end_date": UNTIL},
    ],
    "performance_metrics": [
        {"port_id": 1, "start_date": EARLY},
        {"port_id": 1, "start_date": LATE, "end_date": UNTIL, "risk_free_rate": 0.02},
    ],
    "daily_portfolio_value": [{"port_id": 1}, {"port_id": 1, "start_date": LATE, "end_date": UNTIL}],
}
FLAT = [(name, params) for name, cases in CASES.items() for params in cases]
# Datasets that answer in rows found, not in one row about them.
EMPTY = [name for name in CASES if name not in ("performance_metrics", "portfolio_perf", "cross_market")]


def asked(params: Params) -> dict[str, object]:
    """The parameters as the JSON form has them."""
    found = json.loads(json.dumps(dict(params), default=str))
    assert isinstance(found, dict)
    return found


@pytest.fixture
def hostile(hostile_lab: Lab, aws_environment: LocalAws) -> Lab:
    return hostile_lab


def test_every_dataset_is_among_the_cases() -> None:
    assert sorted(CASES) == sorted(EXPECTED)


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
@pytest.mark.parametrize(("name", "params"), FLAT, ids=lambda value: value if isinstance(value, str) else "")
def test_every_dataset_gives_what_the_oracle_says(
    hostile: Lab, hostile_frames: Tables, name: str, params: Params, engine: str
) -> None:
    found = hostile.ask(name, engine, **asked(params))
    dataset = hostile.plan(name, engine, **asked(params)).dataset
    assert found.schema.equals(dataset.schema, check_metadata=True)
    assert found.num_rows > 0
    expected = EXPECTED[name](hostile_frames, **params)
    assert isinstance(expected, pl.DataFrame)
    # Sums of doubles differ in the last digits by the order of adding.
    assert_equal(found.replace_schema_metadata(), expected, rel=1e-9)


@pytest.mark.parametrize("name", list(CASES))
def test_both_engines_give_equal_tables(hostile: Lab, name: str) -> None:
    params = asked(CASES[name][0])
    athena, duckdb = (hostile.ask(name, engine, **params) for engine in ("athena", "duckdb"))
    assert athena.schema == duckdb.schema
    for left, right in zip(athena.columns, duckdb.columns, strict=True):
        if pa.types.is_float64(left.type):
            assert left.is_null().equals(right.is_null())
            numbers = [column.drop_null().to_pylist() for column in (left, right)]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-12, nan_ok=True)
        else:
            assert left == right


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
@pytest.mark.parametrize("name", EMPTY)
def test_no_rows_have_the_declared_schema(hostile: Lab, name: str, engine: str) -> None:
    params = {**CASES[name][-1], "start_date": NEVER}
    params.pop("end_date", None)
    found = hostile.ask(name, engine, **asked(params))
    assert found.num_rows == 0
    assert found.schema.equals(hostile.plan(name, engine, **asked(params)).dataset.schema, check_metadata=True)


HEAVY = "SELECT count(*) AS n FROM lake.prices AS a CROSS JOIN lake.prices AS b CROSS JOIN lake.prices AS c "
HEAVY += "CROSS JOIN lake.prices AS d WHERE a.price + b.price + c.price + d.price < -1"
DATASETS = {
    "ids": IDS,
    "few": IDS.replace("-- ///\nSELECT", "-- [limits]\n-- max_rows = 10\n-- ///\nSELECT"),
    "dear": IDS.replace("-- ///\nSELECT", '-- [limits]\n-- max_scan = "1 B"\n-- ///\nSELECT'),
    "heavy": dataset({"n": "int64"}, HEAVY, more='[limits]\ntimeout = "500ms"'),
    "endless": dataset({"n": "int64"}, HEAVY),
    "broken": dataset({"n": "int32"}, "SELECT CAST(p.ticker AS INTEGER) AS n FROM lake.prices AS p"),
    "untrue": dataset({"n": "int32"}, "SELECT p.id + 3000000000 AS n FROM lake.prices AS p"),
}


@pytest.fixture(scope="module")
def served(aws_session: LocalAws, lake_session: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    labs = Labs(aws_session, tmp_path_factory.mktemp("served"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_session.environment.items():
            patch.setenv(name, value)
        opened = composition.build(labs.configure(DATASETS))
        yield opened
        opened.stop(0)


@pytest.fixture
def client(served: Server, aws_environment: LocalAws) -> Iterator[flight.FlightClient]:
    with flight.connect(f"grpc://127.0.0.1:{served.port}") as connected:
        yield connected


def read(client: flight.FlightClient, ticket: str) -> pa.Table:
    return client.do_get(flight.Ticket(ticket.encode())).read_all()


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
class TestOverFlight:
    def test_rows_and_their_order(self, client: flight.FlightClient, engine: str) -> None:
        found = read(client, f"ids?first=7&_engine={engine}")
        assert found.column("id").to_pylist() == list(range(7, ROWS))

    def test_the_size_of_a_stored_result_is_told(self, client: flight.FlightClient, engine: str) -> None:
        asked = f"ids?first={ROWS - 7}&_engine={engine}"
        found = read(client, asked)
        info = client.get_flight_info(flight.FlightDescriptor.for_command(asked))
        assert (info.total_records, info.total_bytes) == (7, found.nbytes)

    def test_more_rows_than_the_limit_are_an_error(self, client: flight.FlightClient, engine: str) -> None:
        with pytest.raises(pa.ArrowInvalid, match=r"\[row-limit\] few gave more than 10 rows"):
            read(client, f"few?first=0&_engine={engine}")
        assert read(client, f"few?first={ROWS - 10}&_engine={engine}").num_rows == 10

    def test_more_bytes_than_the_limit_are_refused_before_anything_runs(
        self, client: flight.FlightClient, aws: LocalAws, engine: str
    ) -> None:
        before = aws.athena.state()["started"]
        with pytest.raises(pa.ArrowInvalid, match=r"\[scan-limit\]"):
            read(client, f"dear?first=0&_engine={engine}")
        assert aws.athena.state()["started"] == before

    def test_a_query_that_takes_too_long_is_stopped(
        self, client: flight.FlightClient, served: Server, aws: LocalAws, engine: str
    ) -> None:
        before = aws.athena.state()["stopped"]
        aws.faults.update({"concurrency": 0})
        with pytest.raises(flight.FlightTimedOutError, match=r"\[timeout\]"):
            read(client, f"heavy?_engine={engine}")
        until(lambda: served.flight.calls.count == 0)
        if engine == "athena":
            until(lambda: aws.athena.state()["stopped"] == before + 1)

    def test_a_client_that_cancels_stops_the_query(
        self, client: flight.FlightClient, served: Server, aws: LocalAws, engine: str
    ) -> None:
        before = aws.athena.state()
        aws.faults.update({"concurrency": 0})
        reader = client.do_get(flight.Ticket(f"endless?_engine={engine}".encode()))
        until(lambda: served.flight.calls.count == 1)
        if engine == "athena":
            until(lambda: aws.athena.state()["queued"] == 1)
        reader.cancel()
        until(lambda: served.flight.calls.count == 0)
        if engine == "athena":
            until(lambda: aws.athena.state()["stopped"] == before["stopped"] + 1)

    def test_what_the_engine_cannot_do_is_told_in_one_line(self, client: flight.FlightClient, engine: str) -> None:
        with pytest.raises(flight.FlightInternalError) as caught:
            read(client, f"broken?_engine={engine}")
        text = str(caught.value)
        assert text.startswith("[engine-failed] " + ("Athena query " if engine == "athena" else "DuckDB: "))
        assert "AAPL" in text

    def test_values_that_do_not_fit_the_contract_are_an_error(self, client: flight.FlightClient, engine: str) -> None:
        with pytest.raises(flight.FlightInternalError, match=r"\[contract-violated\] untrue.n promises int32"):
            read(client, f"untrue?_engine={engine}")

    def test_mistakes_in_a_request_have_the_same_codes(self, client: flight.FlightClient, engine: str) -> None:
        with pytest.raises(pa.ArrowInvalid, match=r"\[unknown-parameter\]"):
            read(client, f"ids?first=0&frist=0&_engine={engine}")
        with pytest.raises(pa.ArrowInvalid, match=r"\[missing-parameter\]"):
            read(client, f"ids?_engine={engine}")
        with pytest.raises(KeyError, match=r"\[unknown-dataset\]"):
            read(client, f"idds?first=0&_engine={engine}")


MOVING = dataset({"n": "int64"}, "SELECT t.n AS n FROM lake.<name> AS t ORDER BY t.n", ("n",))


@pytest.fixture
def moving(aws: LocalAws, lake: Catalog) -> Table:
    """A table of its own with the rows 0, 1, 2 in one snapshot."""
    name = f"moving_{uuid.uuid4().hex[:8]}"
    schema = pa.schema([("n", pa.int64())])
    table = lake.create_table(("lake", name), schema, location=f"{aws.warehouse}/{name}")
    table.append(pa.table({"n": [0, 1, 2]}, schema))
    return table


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
def test_a_plan_stays_at_its_snapshot_and_a_new_one_sees_the_commit(labs: Labs, moving: Table, engine: str) -> None:
    name = moving.name()[-1]
    lab = labs.open({"moving": MOVING.replace("<name>", name)})
    pinned = lab.plan("moving", engine)
    before = datetime.now(UTC)
    time.sleep(0.01)
    moving.append(pa.table({"n": pa.array([3, 4], pa.int64())}))
    assert lab.collect(pinned).column("n").to_pylist() == [0, 1, 2]
    assert lab.ask("moving", engine).column("n").to_pylist() == [0, 1, 2, 3, 4]
    assert lab.plan("moving", engine).fingerprint != pinned.fingerprint
    as_of = lab.plan("moving", engine, as_of=before.isoformat())
    assert as_of.fingerprint == pinned.fingerprint
    assert lab.collect(as_of).column("n").to_pylist() == [0, 1, 2]
    with pytest.raises(NotFound, match="no snapshot as old"):
        lab.plan("moving", engine, as_of="2001-01-01T00:00:00Z")


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
def test_a_table_that_was_never_written_to_has_no_rows(labs: Labs, engine: str) -> None:
    text = dataset(
        {"id": "int64", "text": "string"}, "SELECT t.id, t.text FROM lake.nothing AS t ORDER BY t.id", ("id",)
    )
    found = labs.open({"nothing": text}).ask("nothing", engine)
    assert found.num_rows == 0
    assert found.schema.types == [pa.int64(), pa.string()]


def test_an_engine_that_is_not_there_is_named(lab: Lab) -> None:
    with pytest.raises(InvalidRequest, match="there is no engine 'spark'; there is athena, duckdb"):
        lab.plan("ids", "spark", first=0)


def test_the_id_of_a_failed_query_is_in_the_message(labs: Labs) -> None:
    with pytest.raises(EngineFailed, match=r"Athena query [0-9a-f-]{36}: INVALID_CAST_ARGUMENT"):
        labs.open({"broken": DATASETS["broken"]}).ask("broken")
