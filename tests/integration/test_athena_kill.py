"""Clients and servers that are killed: queries nobody waits for are stopped, those somebody waits for are not."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.flight as flight
import pytest

from flight_server import server as composition
from flight_server.engines.athena.engine import AthenaEngine
from flight_server.errors import Cancelled, Error, Unavailable
from flight_server.server import Server
from tests import processes
from tests.fakes.aws import LocalAws
from tests.fix_served import IDS, Lab, Labs, in_background
from tests.lake import ROWS
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def served(labs: Labs) -> Iterator[Server]:
    """A server in this process over the dataset `ids`."""
    opened = composition.build(labs.configure({"ids": IDS}))
    yield opened
    opened.stop(0)


def hold(aws: LocalAws) -> None:
    """Let no query run on, until `release`."""
    aws.faults.update({"concurrency": 0})


def release(aws: LocalAws) -> None:
    aws.faults.update({"concurrency": 20})


def waiting(aws: LocalAws) -> int:
    return int(aws.athena.state()["queued"])


def waiters(lab: Lab) -> int:
    engine = lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    return sum(len(query.waiters) for query in list(engine._running.values()))


def read(address: str, ticket: str) -> list[int]:
    with flight.connect(address) as connection:
        table = connection.do_get(flight.Ticket(ticket.encode())).read_all()
    return list(table.column("id").to_pylist())


def kill_the_only_client(served: Server, aws: LocalAws) -> float:
    """Seconds from a client's death to Athena's hearing of it."""
    before = aws.athena.state()
    with processes.client(f"grpc://127.0.0.1:{served.port}", "ids?first=0") as client:
        until(lambda: waiting(aws) == 1, 100)
        killed = time.monotonic()
        client.child.kill()
        until(lambda: aws.athena.state()["stop_calls"] == before["stop_calls"] + 1)
        took = time.monotonic() - killed
    until(lambda: aws.athena.state()["stopped"] == before["stopped"] + 1)
    until(lambda: served.flight.calls.count == 0)
    return took


def test_killing_the_only_client_stops_the_query_within_two_seconds(served: Server, aws: LocalAws) -> None:
    hold(aws)
    # A busy machine holds one up now and then; what is too slow by itself is so each time.
    assert any(kill_the_only_client(served, aws) < 2.0 for _ in range(3))


def test_killing_one_of_two_clients_leaves_the_query_to_the_other(served: Server, aws: LocalAws) -> None:
    hold(aws)
    before = aws.athena.state()
    address = f"grpc://127.0.0.1:{served.port}"
    other = in_background(read, address, "ids?first=0")
    until(lambda: waiting(aws) == 1, 100)
    with processes.client(address, "ids?first=0") as client:
        client.wait_for("asked")
        until(lambda: served.flight.calls.count == 2)
        client.child.kill()
        until(lambda: served.flight.calls.count == 1)
    release(aws)
    assert other.get() == list(range(ROWS))
    after = aws.athena.state()
    assert after["stop_calls"] == before["stop_calls"]
    assert after["started"] == before["started"] + 1


def test_a_new_server_joins_the_query_that_a_killed_one_left_running(labs: Labs, aws: LocalAws, tmp_path: Path) -> None:
    hold(aws)
    before = aws.athena.state()
    config = labs.configure({"ids": IDS})
    with processes.server(config, tmp_path) as first:
        asked = in_background(read, first.address, "ids?first=0")
        until(lambda: waiting(aws) == 1, 100)
        first.child.kill()
        with pytest.raises(flight.FlightError):
            asked.get()
    assert waiting(aws) == 1
    with processes.server(config, tmp_path) as second:
        asked = in_background(read, second.address, "ids?first=0")
        until(lambda: aws.athena.state()["joined"] == before["joined"] + 1, 100)
        release(aws)
        assert asked.get() == list(range(ROWS))
        assert aws.athena.state()["started"] == before["started"] + 1
        # The same one, told to end, stops what it has started.
        hold(aws)
        asked = in_background(read, second.address, "ids?first=1")
        until(lambda: waiting(aws) == 1, 100)
        second.child.send_signal(signal.SIGTERM)
        until(lambda: aws.athena.state()["stopped"] == before["stopped"] + 1)
        with pytest.raises(flight.FlightUnavailableError):
            asked.get()
        assert second.child.wait(60) == 0


def test_closing_the_engine_stops_all_it_started_even_when_athena_is_throttling(labs: Labs, aws: LocalAws) -> None:
    hold(aws)
    before = aws.athena.state()
    lab = labs.open({"ids": IDS})
    asked = [in_background(lambda first=first: lab.ask("ids", first=first)) for first in range(3)]
    until(lambda: waiting(aws) == 3)
    aws.faults.update({"throttle_next": {"StopQueryExecution": 5}})
    lab.engines["athena"].close()
    assert aws.athena.state()["stopped"] == before["stopped"] + 3
    for each in asked:
        with pytest.raises(Cancelled):
            each.get()
    with pytest.raises(Unavailable, match="stopping"):
        lab.ask("ids", first=4)


def test_a_cancelled_execution_leaves_at_once_and_the_last_one_stops_the_query(labs: Labs, aws: LocalAws) -> None:
    hold(aws)
    before = aws.athena.state()
    lab = labs.open({"ids": IDS})
    plan = lab.plan("ids", first=0)
    answers = [lab.start(plan) for _ in range(3)]
    reading = [in_background(list, answer.batches) for answer in answers]
    # All three have come: who leaves a query alone stops it.
    until(lambda: waiting(aws) == 1 and waiters(lab) == 3)
    for answer, call in list(zip(answers, reading, strict=True))[:2]:
        answer.execution.cancel()
        with pytest.raises(Cancelled):
            call.get()
    assert aws.athena.state()["stop_calls"] == before["stop_calls"]
    answers[2].execution.close()
    until(lambda: aws.athena.state()["stopped"] == before["stopped"] + 1)
    with pytest.raises(Cancelled):
        reading[2].get()
    # Asked again while the old one is ending, it is a new query.
    release(aws)
    assert lab.collect(plan).num_rows == ROWS


def leftovers(lab: Lab) -> list[str]:
    engine = lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    return [orphan.uri for orphan in composition.build_store(lab.config).orphans(-10)]


def stop_while_writing(lab: Lab, aws: LocalAws) -> None:
    """Ask, and leave when files lie in the prefix."""
    aws.faults.update({"leftovers": 2, "batch_s": 60})
    answer = lab.start(lab.plan("ids", first=0))
    call = in_background(list, answer.batches)
    until(lambda: leftovers(lab))
    answer.execution.close()
    with pytest.raises(Error):
        call.get()
    until(lambda: aws.athena.state()["running"] == 0)


def test_files_of_a_cancelled_query_are_removed(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS})
    stop_while_writing(lab, aws)
    until(lambda: not leftovers(lab))


def test_files_that_could_not_be_removed_are_found_as_orphans(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS})
    denied = {"kind": "denied", "match": f"/{aws.bucket}", "count": 1000}
    aws.s3_faults(*({**denied, "method": method} for method in ("POST", "DELETE")))
    stop_while_writing(lab, aws)
    lab.engines["athena"].close()
    aws.s3_faults()
    (orphan,) = leftovers(lab)
    assert orphan.startswith(lab.config.athena.results)
