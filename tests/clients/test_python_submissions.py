"""Submitted queries, from the client down to the server's table of them."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import flight_client
from flight_client import Connection, InvalidRequest, NotFound, TimedOut
from flight_server import config
from flight_server.errors import NotFound as ServerNotFound
from flight_server.errors import Unavailable
from flight_server.model import ANONYMOUS, Caller, Estimate, ExecutionStats, Plan, Request
from flight_server.results.spill import Spill, SpillFile
from flight_server.server import Server
from flight_server.service.spending import Spending
from flight_server.service.submissions import Submissions
from flight_server.telemetry.records import Records
from tests.fix_identity import DATASETS, Lake, write_datasets
from tests.waiting import until

ASKED = {"ticker": "AAPL", "start_date": "2010-01-04"}


def test_result_is_the_querys_answer(db: Connection) -> None:
    query = db.daily_prices(**ASKED)
    submission = query.submit()
    assert submission.result(60) == query.arrow()
    status = submission.status()
    assert (status.state, status.rows, status.error, status.done) == ("SUCCEEDED", query.arrow().num_rows, None, True)
    assert status.bytes > 0
    assert submission.pl().equals(query.pl())
    assert submission.reader().schema.equals(query.schema, check_metadata=True)


def test_another_process_of_the_caller_can_fetch_it(db: Connection, url: str, tmp_path: Path) -> None:
    submission = db.daily_prices(**ASKED).submit()
    with flight_client.connect(url) as again:
        file = again.submission(submission.id).to_parquet(tmp_path / "prices.parquet")
    assert pa.parquet.read_table(file).num_rows == submission.status().rows


def test_empty_result_has_the_contracts_schema(db: Connection) -> None:
    query = db.daily_prices("AAPL", "2010-01-09", "2010-01-10")
    found = query.submit().result(60)
    assert found.num_rows == 0
    assert found.schema.equals(query.schema, check_metadata=True)


def test_cancel_stops_the_query(db: Connection, client_server: Server) -> None:
    submission = db.slow_count().submit()
    until(lambda: submission.status().state == "RUNNING")
    with pytest.raises(TimedOut, match=r"is still RUNNING after 0\.1 s; it goes on"):
        submission.wait(0.1)
    assert submission.cancel().state == "CANCELLED"
    with pytest.raises(flight_client.Cancelled):
        submission.arrow()
    # Its runner is free again: the next ones run to their end.
    assert all(db.daily_prices(**ASKED).submit().wait(60).state == "SUCCEEDED" for _ in range(3))


def test_cancel_at_any_moment_of_the_start_stops_it(db: Connection, client_server: Server) -> None:
    for delay_ms in range(0, 60, 4):
        submission = db.slow_count().submit()
        time.sleep(delay_ms / 1000)
        assert submission.cancel().state == "CANCELLED"
    # A runner whose engine went on would leave this one in the line.
    assert db.daily_prices(**ASKED).submit().wait(60).state == "SUCCEEDED"


def test_more_than_the_runners_wait_in_line(db: Connection) -> None:
    many = [db.slow_count().submit() for _ in range(3)]
    try:
        until(lambda: [each.status().state for each in many] == ["RUNNING", "RUNNING", "QUEUED"])
        assert many[2].cancel().state == "CANCELLED"
    finally:
        for each in many:
            each.cancel()


def test_cancelling_what_has_ended_changes_nothing(db: Connection) -> None:
    submission = db.daily_prices(**ASKED).submit()
    rows = submission.result(60).num_rows
    assert submission.cancel().state == "SUCCEEDED"
    assert submission.arrow().num_rows == rows


def test_failure_is_told_by_status_and_result(db: Connection) -> None:
    submission = db.daily_prices("AAPL", "1990-01-01").submit()
    assert submission.wait(60).state == "SUCCEEDED"
    failing = db.too_many_rows().submit()
    status = failing.wait(60)
    assert status.state == "FAILED"
    assert status.error == "[row-limit] too_many_rows gave more than 10 rows, which is its limit; ask for less"
    with pytest.raises(InvalidRequest) as caught:
        failing.result()
    assert caught.value.code == "row-limit"


def test_bad_requests_fail_when_they_are_submitted(db: Connection) -> None:
    with pytest.raises(InvalidRequest, match=r"\[bad-parameter\]"):
        db.daily_prices("AAPL", "yesterday").submit()


def test_unknown_query_is_not_found(db: Connection, url: str) -> None:
    with pytest.raises(NotFound, match=r"^\[unknown-query\] there is no submitted query 'abc' of yours here$"):
        db.submission("abc").status()
    with flight.connect(url) as client:
        for body in (b"{}", b'{"id": 1}', b'{"id": null}', b'{"id": ["a"]}'):
            for action in ("status", "result", "cancel"):
                with pytest.raises(
                    pa.ArrowInvalid, match=r"\[bad-request\] write \{\"id\": \"…\"\}, as submit answered it"
                ):
                    list(client.do_action(flight.Action(action, body)))


def test_result_before_the_end_is_refused(db: Connection, url: str) -> None:
    submission = db.slow_count().submit()
    try:
        with (
            flight.connect(url) as client,
            pytest.raises(pa.ArrowInvalid, match=r"^\[bad-request\] query \w+ is still "),
        ):
            list(client.do_action(flight.Action("result", json.dumps({"id": submission.id}).encode())))
    finally:
        submission.cancel()


def test_ticket_of_a_result_tells_its_size_and_is_not_made_by_hand(db: Connection, url: str) -> None:
    submission = db.daily_prices(**ASKED).submit()
    status = submission.wait(60)
    with flight.connect(url) as client:
        body = next(client.do_action(flight.Action("result", json.dumps({"id": submission.id}).encode()))).body
        info = flight.FlightInfo.deserialize(body.to_pybytes())
        assert (info.total_records, info.total_bytes) == (status.rows, status.bytes)
        assert client.do_get(info.endpoints[0].ticket).read_all().num_rows == status.rows
        with pytest.raises(pa.ArrowInvalid, match="there is no key 'submission'"):
            client.do_get(flight.Ticket(json.dumps({"dataset": "daily_prices", "submission": submission.id}).encode()))


@pytest.fixture
def plan(client_server: Server) -> Plan:
    return client_server.pipeline.plan(Request("daily_prices", ASKED), ANONYMOUS)


def make(server: Server, spending: Spending | None = None, **settings: float) -> Submissions:
    spending = spending or Spending(config.Budget())
    return Submissions(server.pipeline, config.Submitted(**settings), spending, Records(1, 1))  # type: ignore[arg-type]


@pytest.fixture
def submissions(client_server: Server) -> Iterator[Submissions]:
    made = make(client_server, queries_max=2)
    yield made
    made.close()


def test_another_caller_sees_nothing(submissions: Submissions, plan: Plan) -> None:
    ann, ben = Caller("ann", frozenset({"*"})), Caller("ben", frozenset({"*"}))
    query = submissions.submit(plan, ann)
    for ask in (submissions.get, submissions.cancel, submissions.finished, submissions.answer):
        with pytest.raises(ServerNotFound) as theirs:
            ask(query.id, ben)
        with pytest.raises(ServerNotFound) as nobodys:
            ask("0" * 32, ben)
        assert theirs.value.message.replace(query.id, "") == nobodys.value.message.replace("0" * 32, "")
    assert submissions.get(query.id, ann) is query


def test_ended_queries_are_forgotten_with_their_files(submissions: Submissions, plan: Plan) -> None:
    query = submissions.submit(plan, ANONYMOUS)
    until(lambda: query.state == "SUCCEEDED")
    assert query.kept is not None
    file = query.kept._file.path
    assert file.exists()
    assert query.ended is not None
    query.ended -= config.Submitted().ttl_s
    with pytest.raises(ServerNotFound):
        submissions.get(query.id, ANONYMOUS)
    assert not file.exists()


def test_the_table_is_bounded(submissions: Submissions, plan: Plan) -> None:
    submissions.submit(plan, ANONYMOUS)
    submissions.submit(plan, ANONYMOUS)
    with pytest.raises(Unavailable, match=r"\[busy\] 2 submitted queries"):
        submissions.submit(plan, ANONYMOUS)


def test_one_callers_queries_leave_room_for_others(client_server: Server, plan: Plan) -> None:
    ann, ben = Caller("ann", frozenset({"*"})), Caller("ben", frozenset({"*"}))
    with closing(make(client_server, queries_per_caller=1)) as submissions:
        submissions.submit(plan, ann)
        with pytest.raises(Unavailable, match=r"\[busy\] 1 submitted queries of yours are kept"):
            submissions.submit(plan, ann)
        submissions.submit(plan, ben)
        # Without authentication there is no name that could have a share.
        for _ in range(2):
            submissions.submit(plan, ANONYMOUS, named=False)


def test_callers_take_turns_at_the_runners(client_server: Server, plan: Plan) -> None:
    ann, ben = Caller("ann", frozenset({"*"})), Caller("ben", frozenset({"*"}))
    with closing(make(client_server, running_max=1)) as submissions:
        slow = submissions.submit(client_server.pipeline.plan(Request("slow_count"), ann), ann)
        until(lambda: slow.state == "RUNNING")
        first, second, third, other = [submissions.submit(plan, each) for each in (ann, ann, ann, ben)]
        submissions.cancel(slow.id, ann)
        until(lambda: all(each.state == "SUCCEEDED" for each in (first, second, third, other)))
        ends = {each.ended or 0.0: name for each, name in ((first, 1), (other, "ben"), (second, 2), (third, 3))}
        assert [ends[moment] for moment in sorted(ends)] == [1, "ben", 2, 3]


def test_who_may_not_ask_any_more_may_still_stop_what_runs(lake_copy: Lake) -> None:
    contract, _ = DATASETS["secret_limits"]
    joined = ", ".join(f"p.open AS t{n}" for n in range(24))
    write_datasets(lake_copy.folder / "sql", secret_long=(contract, f"SELECT t0.name FROM {joined}"))
    with lake_copy.serve() as server:
        carol, without = Caller("carol", frozenset({"risk"})), Caller("carol")
        submissions = server.flight.submissions
        query = submissions.submit(server.pipeline.plan(Request("secret_long"), carol), carol)
        until(lambda: query.state == "RUNNING")
        with pytest.raises(ServerNotFound):
            submissions.seen(query.id, without)
        assert submissions.cancel(query.id, without).state == "CANCELLED"


def test_a_budget_file_that_is_busy_holds_up_one_submit_only_and_a_refused_one_gives_back(
    client_server: Server, plan: Plan, tmp_path: Path
) -> None:
    spending = Spending(config.Budget(usd_per_day=9.0, file=tmp_path / "spent.db"))
    dear = replace(plan, engine="athena", cache="miss", estimate=Estimate(1, 1, 1.0))
    refused: list[Unavailable] = []

    def submit() -> None:
        try:
            made.submit(dear, ANONYMOUS)
        except Unavailable as error:
            refused.append(error)

    with (
        closing(make(client_server, spending, queries_max=1)) as made,
        closing(sqlite3.connect(tmp_path / "spent.db", isolation_level=None)) as other,
    ):
        query = made.submit(plan, ANONYMOUS)
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=submit)
        waiting.start()
        # Into the wait for the file.
        waiting.join(0.3)
        assert made.get(query.id, ANONYMOUS) is query
        assert waiting.is_alive()
        other.execute("ROLLBACK")
        waiting.join(20)
        assert [str(error) for error in refused] == ["[busy] 1 submitted queries are kept already; ask later"]
        assert spending.spent(ANONYMOUS) == 0.0
    spending.close()


def test_a_full_disk_fails_the_query_and_nothing_else(
    client_server: Server, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: SpillFile) -> None:
        raise OSError(28, "No space left on device")

    with closing(make(client_server)) as submissions:
        monkeypatch.setattr(SpillFile, "finish", full)
        query = submissions.submit(plan, ANONYMOUS)
        until(lambda: query.state == "FAILED")
        assert query.charge.settled
        assert (query.kept, submissions._spill._used) == (None, 0)
        folder = submissions._spill._folder
        assert folder is not None
        assert list(folder.path.iterdir()) == []
        monkeypatch.undo()
        again = submissions.submit(plan, ANONYMOUS)
        until(lambda: again.state == "SUCCEEDED")


def test_the_disk_is_bounded(client_server: Server) -> None:
    submissions = make(client_server, bytes_max=1 << 20)
    try:
        slow = client_server.pipeline.plan(Request("slow_rows"), ANONYMOUS)
        query = submissions.submit(slow, ANONYMOUS)
        until(lambda: query.state == "FAILED")
        assert query.error is not None
        assert str(query.error) == "[busy] kept results fill 1,048,576 bytes; ask later, or read a stream"
        # What it had written is gone, and its place is free again.
        assert query.kept is None
        again = submissions.submit(client_server.pipeline.plan(Request("daily_prices", ASKED), ANONYMOUS), ANONYMOUS)
        until(lambda: again.state == "SUCCEEDED")
    finally:
        submissions.close()


def test_close_stops_what_runs_and_removes_the_folder(client_server: Server, plan: Plan) -> None:
    submissions = make(client_server)
    done = submissions.submit(plan, ANONYMOUS)
    until(lambda: done.state == "SUCCEEDED")
    assert done.kept is not None
    folder = done.kept._file.path.parent
    running = submissions.submit(client_server.pipeline.plan(Request("slow_count"), ANONYMOUS), ANONYMOUS)
    until(lambda: running.state == "RUNNING")
    # It would run for minutes.
    submissions.close()
    assert running.state == "CANCELLED"
    assert not folder.exists()
    with pytest.raises(Unavailable, match="draining"):
        submissions.submit(plan, ANONYMOUS)


def test_a_status_that_is_asked_for_while_all_is_closed_disturbs_nothing(client_server: Server, plan: Plan) -> None:
    submissions = make(client_server)
    queries = [submissions.submit(plan, ANONYMOUS) for _ in range(3)]
    until(lambda: all(query.state == "SUCCEEDED" for query in queries))
    left: list[int] = []

    def settle(_: ExecutionStats) -> None:
        # Forgets what is old.
        left.append(len(submissions.queries()))

    for query in queries:
        query.ended = float("-inf")
        query.charge.settle = settle  # type: ignore[method-assign]
    submissions.close()
    assert left == [0, 0, 0]


def test_spilled_batches_come_back_as_they_were(tmp_path: Path) -> None:
    spill = Spill(1 << 20)
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False)], metadata={"doc": "numbers"})
    file = spill.file(schema)
    batches = [pa.record_batch([pa.array([1, 2])], schema=schema), pa.record_batch([pa.array([3])], schema=schema)]
    for batch in batches:
        file.write(batch)
    file.finish()
    assert list(file.read()) == batches
    assert next(file.read()).schema.equals(schema, check_metadata=True)
    # A reader that has begun can finish after the file is gone.
    reading = file.read()
    next(reading)
    file.delete()
    assert next(reading) == batches[1]
    reading.close()
    spill.close()
