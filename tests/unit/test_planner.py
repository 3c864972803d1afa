"""Plans: what a fingerprint depends on and what not, and at which snapshots a query reads."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote_plus

import pyarrow as pa
import pytest

from flight_server.config import Cost
from flight_server.datasets import contract
from flight_server.datasets.params import resolve
from flight_server.errors import InvalidRequest, NotFound
from flight_server.model import Bounds, Dataset, Plan
from flight_server.plan.as_of import Moment
from flight_server.plan.planner import Planner
from tests.fix_two_tables import SCHEMA, TwoTables, some_rows

BOUNDS = Bounds(1000, 60.0, 1000, 1 << 20)
HEADER = """-- /// dataset
-- title = "Test"
-- version = 1
-- sorted = ["day"]
-- [params]
-- day = { type = "date" }
-- until = { type = "date", optional = true }
-- names = { type = "list<string>", optional = true }
-- [columns]
-- k = { type = "int32" }
-- day = { type = "date" }
-- ///
"""
SQL = "SELECT t.k, t.day FROM d.t AS t WHERE t.day >= :day AND t.day < :until AND t.s IN (:names) ORDER BY t.day\n"
FEBRUARY: dict[str, object] = {"day": "2024-02-01", "until": "2024-03-01"}


def dataset(sql: str = SQL, header: str = HEADER) -> Dataset:
    return contract.parse(Path("test.sql"), header + sql)


def plan(tables: TwoTables, params: dict[str, object], asked: Dataset | None = None, fresh: bool = True) -> Plan:
    asked = asked or dataset()
    planner = (
        Planner(tables.tables, Cost()) if fresh else PLANNERS.setdefault(id(tables), Planner(tables.tables, Cost()))
    )
    return planner.plan(asked, resolve(asked, params, date(2024, 6, 1)), "duckdb", BOUNDS)


PLANNERS: dict[int, Planner] = {}


def month(rows: pa.Table, first: date) -> pa.Table:
    """The rows with all of their days moved into the month that starts on `first`."""
    days = pa.array([first + timedelta(days=number % 28) for number in range(rows.num_rows)], pa.date32())
    return rows.set_column(SCHEMA.as_arrow().get_field_index("day"), rows.schema.field("day"), days)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_commit_changes_the_fingerprints_of_what_it_touches_only(own_two_tables: TwoTables, fresh: bool) -> None:
    before = plan(own_two_tables, FEBRUARY, fresh=fresh)
    own_two_tables.append("d.t", month(some_rows(50, 5), date(2024, 5, 1)))
    own_two_tables.append("d.u", some_rows(51, 5))
    elsewhere = plan(own_two_tables, FEBRUARY, fresh=fresh)
    assert elsewhere.fingerprint == before.fingerprint
    assert elsewhere.pins != before.pins
    own_two_tables.append("d.t", month(some_rows(52, 5), date(2024, 2, 1)))
    touched = plan(own_two_tables, FEBRUARY, fresh=fresh)
    assert touched.fingerprint != before.fingerprint
    assert touched.estimate.files == before.estimate.files + 1


def test_a_deletion_in_what_is_read_changes_the_fingerprint(own_two_tables: TwoTables) -> None:
    march: dict[str, object] = {"day": "2024-03-01"}
    before = [plan(own_two_tables, asked).fingerprint for asked in (FEBRUARY, march)]
    own_two_tables.catalog.load_table("d.t").delete("day = '2024-02-03'")
    after = [plan(own_two_tables, asked).fingerprint for asked in (FEBRUARY, march)]
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, True]


SAME = [
    SQL.lower().replace("from d.t as t", "\nfrom D.T t -- a comment\n").replace("t.day >= :day", "T.DAY>=:day"),
    SQL.replace("t.k, t.day", "k, day").replace("t.s IN", "/* which */ s IN"),
    SQL.replace("t.day", '"t"."day"').replace("ORDER BY", "\n\tORDER  BY"),
]


@pytest.mark.parametrize("sql", SAME)
def test_spelling_does_not_change_the_fingerprint(two_tables: TwoTables, sql: str) -> None:
    assert plan(two_tables, FEBRUARY, dataset(sql)).fingerprint == plan(two_tables, FEBRUARY).fingerprint


def test_texts_for_people_do_not_change_the_fingerprint(two_tables: TwoTables) -> None:
    renamed = dataset(header=HEADER.replace('"Test"', '"Another title"\n-- doc = "And a doc"'))
    assert plan(two_tables, FEBRUARY, renamed).fingerprint == plan(two_tables, FEBRUARY).fingerprint


def test_values_contract_and_query_change_the_fingerprint(two_tables: TwoTables) -> None:
    plans = [
        plan(two_tables, FEBRUARY),
        plan(two_tables, {**FEBRUARY, "until": "2024-03-02"}),
        plan(two_tables, {"day": "2024-02-01"}),
        plan(two_tables, {**FEBRUARY, "names": ["a"]}),
        plan(two_tables, {**FEBRUARY, "names": ["a", "b"]}),
        plan(two_tables, FEBRUARY, dataset(header=HEADER.replace('k = { type = "int32"', 'k = { type = "int64"'))),
        plan(two_tables, FEBRUARY, dataset(header=HEADER.replace('"int32" }', '"int32", null = false }'))),
        plan(two_tables, FEBRUARY, dataset(SQL.replace("ORDER BY t.day", "ORDER BY t.day DESC"), HEADER.replace(
            '["day"]', '["day desc"]'))),
        plan(two_tables, FEBRUARY, dataset(SQL.replace("t.day < :until", "t.day <= :until"))),
    ]  # fmt: skip
    assert len({each.fingerprint for each in plans}) == len(plans)


def test_the_order_of_a_list_and_of_the_parameters_does_not_matter(two_tables: TwoTables) -> None:
    one = plan(two_tables, {"names": ["b", "a", "b"], "day": "2024-02-01"})
    assert one == plan(two_tables, {"day": "2024-02-01", "names": ["a", "b"]}, one.dataset)
    assert one.dropped == ("until",)


def test_a_plan_reads_at_given_snapshots(own_two_tables: TwoTables) -> None:
    asked = dataset()
    values = resolve(asked, FEBRUARY, date(2024, 6, 1))
    planner = Planner(own_two_tables.tables, Cost())
    before = planner.plan(asked, values, "duckdb", BOUNDS)
    own_two_tables.append("d.t", month(some_rows(52, 5), date(2024, 2, 1)))
    pins = {pin.table: pin.snapshot_id for pin in before.pins}
    again = planner.plan(asked, values, "duckdb", BOUNDS, snapshots=pins)
    assert (again.fingerprint, again.estimate) == (before.fingerprint, before.estimate)
    assert f'"snapshot_from_id" := {pins["d.t"]}' in again.sql
    with pytest.raises(InvalidRequest, match=r"\[expired-ticket\] d.t no longer has the snapshot"):
        planner.plan(asked, values, "duckdb", BOUNDS, snapshots={"d.t": 12345})


def test_a_plan_reads_as_of_a_moment(own_two_tables: TwoTables) -> None:
    asked = dataset()
    values = resolve(asked, FEBRUARY, date(2024, 6, 1))
    planner = Planner(own_two_tables.tables, Cost())
    before = planner.plan(asked, values, "duckdb", BOUNDS)
    committed = own_two_tables.catalog.load_table("d.t").metadata.snapshots[-1].timestamp_ms
    moment = Moment(datetime.fromtimestamp(committed / 1000, UTC))
    own_two_tables.append("d.t", month(some_rows(52, 5), date(2024, 2, 1)))
    assert planner.plan(asked, values, "duckdb", BOUNDS, as_of=moment).pins == planner.plan(
        asked, values, "duckdb", BOUNDS, snapshots={pin.table: pin.snapshot_id for pin in before.pins}
    ).pins  # fmt: skip
    with pytest.raises(NotFound, match=r"\[unknown-pin\] d.t has no snapshot as old as 2001") as refused:
        planner.plan(asked, values, "duckdb", BOUNDS, as_of=Moment(datetime(2001, 1, 1, tzinfo=UTC)))
    said = refused.value.message.partition("its first is of ")[2]
    # As it stands in the query form, too.
    first = Moment(datetime.fromisoformat(unquote_plus(said)))
    oldest = own_two_tables.catalog.load_table("d.t").history()[0].snapshot_id
    read = {pin.table: pin.snapshot_id for pin in planner.plan(asked, values, "duckdb", BOUNDS, as_of=first).pins}
    assert read["d.t"] == oldest


def test_a_ticket_for_an_empty_table_does_not_read_what_was_loaded_since(own_two_tables: TwoTables) -> None:
    own_two_tables.catalog.create_table("d.e", SCHEMA)
    asked = dataset(
        "SELECT t.k, t.day FROM d.e AS t WHERE t.day >= :day AND t.day < :until AND t.s IN (:names) ORDER BY t.day"
    )
    values = resolve(asked, FEBRUARY, date(2024, 6, 1))
    planner = Planner(own_two_tables.tables, Cost())
    before = planner.plan(asked, values, "duckdb", BOUNDS)
    assert [(pin.table, pin.snapshot_id) for pin in before.pins] == [("d.e", None)]
    assert before.estimate.files == 0
    pins = {pin.table: pin.snapshot_id for pin in before.pins}
    assert planner.plan(asked, values, "duckdb", BOUNDS, snapshots=pins) == before
    own_two_tables.append("d.e", some_rows(1, 3))
    with pytest.raises(InvalidRequest, match=r"\[expired-ticket\] d.e "):
        planner.plan(asked, values, "duckdb", BOUNDS, snapshots=pins)


def test_limits_are_held_before_anything_runs(two_tables: TwoTables) -> None:
    asked = dataset()
    values = resolve(asked, FEBRUARY, date(2024, 6, 1))
    planner = Planner(two_tables.tables, Cost(usd_per_tb=5.0, bytes_min=10_000_000))
    assert planner.plan(asked, values, "duckdb", BOUNDS).estimate.usd == pytest.approx(0.00005)
    with pytest.raises(InvalidRequest, match=r"\[scan-limit\] test would read [0-9,]+ bytes and may read 10"):
        planner.plan(asked, values, "duckdb", Bounds(1, 1.0, 1, 1, scan_bytes=10))
    with pytest.raises(InvalidRequest, match=r"\[scan-limit\] test would cost"):
        planner.plan(asked, values, "duckdb", Bounds(1, 1.0, 1, 1, cost_usd=0.00001))
