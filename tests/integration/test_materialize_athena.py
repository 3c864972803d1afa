"""Filling a table with Athena's DELETE and INSERT: what readers see meanwhile, after a crash, after the next run."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from flight_server.engines.athena.engine import AthenaEngine
from flight_server.errors import EngineFailed, TableError
from flight_server.plan.scan import PUBLISHED
from flight_server.tables import lock
from flight_server.tables.catalog import create_table
from flight_server.tables.ddl import read_all
from tests.fix_materialize import FEBRUARY, JANUARY, MARCH, Depot, Rows, write
from tests.waiting import until

OLD, NEW = [(JANUARY, 3.0), (FEBRUARY, 4.0)], [(JANUARY, 3.0), (FEBRUARY, 4.0), (MARCH, 7.0)]


def test_inserts_at_the_pins_publishes_and_reports(depot: Depot) -> None:
    done = depot.fill()
    assert done.filled is not None
    assert (done.filled.rows, depot.started()) == (2, ["INSERT"])
    source = depot.table("raw.sales").metadata.current_snapshot_id
    insert = depot.aws.athena.state()["queries"][-1]
    assert f"FOR VERSION AS OF {source}" in insert
    assert [each.query_id for each in done.spent] == [depot.aws.athena.state()["executions"][-1]["id"]]
    assert done.spent[0].scanned_bytes > 0
    assert done.spent[0].usd == pytest.approx(10_000_000 / 1e12 * 5)
    assert depot.read() == depot.read("duckdb") == OLD
    assert depot.place(done.table).read() is None
    assert depot.fill().filled is None
    assert depot.started() == ["INSERT"]


def test_both_engines_see_the_old_rows_until_the_new_ones_are_complete(depot: Depot) -> None:
    depot.fill()
    depot.sell((MARCH, 7.0))
    seen: list[tuple[Rows, Rows]] = []
    engine = depot.lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    execute = engine.execute

    def watched(sql: str, started: Any, *, again: bool) -> Any:
        seen.append((depot.read(), depot.read("duckdb")))
        done = execute(sql, started, again=again)
        seen.append((depot.read(), depot.read("duckdb")))
        return done

    engine.execute = watched  # type: ignore[method-assign]
    depot.fill()
    assert seen == [(OLD, OLD)] * 4
    assert depot.read() == depot.read("duckdb") == NEW


def test_a_crash_between_delete_and_insert_leaves_the_old_rows_and_the_next_run_repairs(depot: Depot) -> None:
    depot.fill()
    depot.sell((MARCH, 7.0))
    engine = depot.lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    execute = engine.execute

    def crash(sql: str, started: Any, *, again: bool) -> Any:
        if sql.startswith("INSERT"):
            raise SystemExit("killed")
        return execute(sql, started, again=again)

    engine.execute = crash  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        depot.fill()
    assert depot.table().scan().to_arrow().num_rows == 0
    assert depot.read() == depot.read("duckdb") == OLD
    engine.execute = execute  # type: ignore[method-assign]
    assert depot.fill().filled is not None
    assert depot.read() == depot.read("duckdb") == NEW
    assert depot.started() == ["INSERT", "DELETE", "INSERT"]


def test_a_crash_of_a_forced_run_is_repaired_although_the_inputs_are_the_same(depot: Depot) -> None:
    depot.fill()
    depot.aws.faults.update({"fail_next": [None, {"message": "broken"}]})
    with pytest.raises(EngineFailed, match=r"Athena query [0-9a-f-]+: .*broken"):
        depot.fill(force=True)
    assert depot.table().scan().to_arrow().num_rows == 0
    assert depot.read() == OLD
    assert depot.fill().filled is not None
    assert depot.table().scan().to_arrow().num_rows == 2
    assert depot.read() == OLD
    assert depot.fill().filled is None


def test_a_crash_before_publishing_is_not_seen_and_not_doubled(depot: Depot) -> None:
    depot.fill()
    depot.sell((MARCH, 7.0))
    published = depot.table().properties[PUBLISHED]
    depot.fill()
    with depot.table().transaction() as transaction:
        transaction.set_properties({PUBLISHED: published, "athena-flight.materialize.fingerprint": "old"})
    assert depot.read() == OLD
    assert depot.fill().filled is not None
    assert depot.read() == NEW
    assert depot.table().scan().to_arrow().num_rows == 3


def test_the_first_fill_of_a_table_that_never_was_written_to_is_published_like_any_other(depot: Depot) -> None:
    depot.aws.faults.update({"fail_next": [{"message": "broken"}]})
    with pytest.raises(EngineFailed, match="broken"):
        depot.fill()
    assert depot.read() == []
    assert PUBLISHED in depot.table().properties
    assert depot.fill().filled is not None
    assert depot.read() == OLD


def test_rows_that_were_there_before_are_published_until_the_first_fill_is_complete(depot: Depot) -> None:
    create_table(
        depot.lab.catalog, read_all(depot.lab.config.datasets.directory / "tables")[f"made{depot.suffix}.totals"]
    )
    schema = depot.table().scan().to_arrow().schema
    depot.table().append(pa.table({"day": [MARCH], "total": [9.0], "n": [1], "note": ["before"]}, schema))
    depot.aws.faults.update({"fail_next": [None, {"message": "broken"}]})
    with pytest.raises(EngineFailed, match="broken"):
        depot.fill()
    assert depot.read() == [(MARCH, 9.0)]
    depot.fill()
    assert depot.read() == OLD


@pytest.mark.parametrize("lenient", [False, True])
def test_nulls_where_none_may_be_are_not_published(depot: Depot, lenient: bool) -> None:
    """Refused by Athena's writer; and, should that let them through, found in the statistics of its files."""
    depot.fill()
    write(
        depot.lab.config.datasets.directory,
        f"SELECT NULLIF(s.day, DATE '2024-02-01') AS day, s.amount AS total FROM raw{depot.suffix}.sales AS s",
    )
    if lenient:
        let_nulls_through(depot)
    with pytest.raises(TableError if lenient else EngineFailed) as refused:
        depot.fill()
    if lenient:
        assert "column 'day' of made" in str(refused.value)
        assert "must not be null and has 1 nulls: nothing is published" in str(refused.value)
    assert depot.read() == OLD


def let_nulls_through(depot: Depot) -> None:
    engine = depot.lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    execute = engine.execute

    def relaxed(sql: str, started: Any, *, again: bool) -> Any:
        for required in (False, True):
            with depot.table().update_schema(allow_incompatible_changes=True) as update:
                update.update_column("day", required=required)
            if not required:
                done = execute(sql, started, again=again)
        return done

    engine.execute = relaxed  # type: ignore[method-assign]


def test_a_commit_of_somebody_else_is_not_published(depot: Depot) -> None:
    depot.fill()
    schema = depot.table().scan().to_arrow().schema
    engine = depot.lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    execute = engine.execute

    def late(sql: str, started: Any, *, again: bool) -> Any:
        done = execute(sql, started, again=again)
        depot.table().append(pa.table({"day": [MARCH], "total": [9.0], "n": [1], "note": ["by hand"]}, schema))
        return done

    engine.execute = late  # type: ignore[method-assign]
    with pytest.raises(TableError, match=r"something else wrote to made_.* meanwhile: nothing is published"):
        depot.fill(force=True)
    assert depot.read() == OLD
    engine.execute = execute  # type: ignore[method-assign]
    depot.fill(force=True)
    assert depot.read() == OLD


def test_the_lock_names_the_query_and_keeps_while_it_runs(depot: Depot) -> None:
    depot.fill()
    depot.aws.faults.update({"running_s": 60})
    athena = depot.aws.client("athena")
    running = athena.start_query_execution(QueryString="SELECT 1 AS a")["QueryExecutionId"]
    name = f"made{depot.suffix}.totals"
    # Older than the age, from a process that is gone; its query still runs.
    left = lock.Holder("dead", "host-9 process 1", f"materialize {name}", 0.0, running)
    assert depot.place(name).create(left)
    with pytest.raises(TableError, match=f"locked: materialize {name} by host-9 process 1 .*Athena query {running}"):
        depot.fill(force=True)
    athena.stop_query_execution(QueryExecutionId=running)
    depot.aws.faults.update({"reset": True})
    engine = depot.lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    until(lambda: engine.has_ended(running))
    assert depot.fill(force=True).filled is not None
    assert depot.place(name).read() is None


def test_an_interrupt_stops_the_query_and_releases_the_lock(depot: Depot) -> None:
    depot.fill()
    depot.sell((MARCH, 7.0))
    depot.aws.faults.update({"running_s": 60})

    class Interrupting(lock.S3Place):
        def replace(self, holder: lock.Holder, version: str) -> str | None:
            super().replace(holder, version)
            raise KeyboardInterrupt

    def place(name: str) -> lock.Place:
        return Interrupting(depot.aws.client("s3"), Depot.place(depot, name).uri)

    depot.place = place  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        depot.fill()
    last = depot.aws.athena.state()["executions"][-1]["id"]
    engine = depot.lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    until(lambda: engine.has_ended(last))
    assert depot.aws.athena.state()["executions"][-1]["state"] == "CANCELLED"
    assert depot.read("duckdb") == OLD
    assert depot.place(f"made{depot.suffix}.totals").read() is None


def test_the_embedded_engine_fills_tables_in_s3_and_either_knows_what_the_other_did(depot: Depot) -> None:
    assert depot.fill("duckdb").filled is not None
    assert (depot.started(), depot.read(), depot.read("duckdb")) == ([], OLD, OLD)
    assert depot.fill("athena").filled is None
    depot.sell((MARCH, 7.0))
    assert depot.fill("athena").filled is not None
    assert depot.fill("duckdb").filled is None
    depot.sell((MARCH, 1.0))
    assert depot.fill("duckdb").filled is not None
    assert depot.read() == depot.read("duckdb") == [*OLD, (MARCH, 8.0)]
