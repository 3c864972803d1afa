"""Many who ask at once: one query for equal questions, a bounded number of queries at a time for different ones."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import pytest

from flight_server.engines.athena.engine import AthenaEngine
from flight_server.errors import EngineFailed, Unavailable
from tests.fakes.athena import AWS_RATES
from tests.fakes.aws import LocalAws
from tests.fix_served import IDS, LOOSE, Lab, Labs, in_background
from tests.lake import ROWS
from tests.waiting import until

# 100 queries on a busy machine of two cores take a while; nothing here depends on how long.
pytestmark = pytest.mark.timeout(240)


class Count:
    """What Athena did since this was made."""

    def __init__(self, aws: LocalAws) -> None:
        self._aws = aws
        self._before = aws.athena.state()

    def __getitem__(self, name: str) -> int:
        return int(self._aws.athena.state()[name] - self._before[name])


def test_a_hundred_equal_requests_are_one_query(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS})
    aws.faults.update({"running_s": 1.0})
    count = Count(aws)
    together = threading.Barrier(100)

    plan = lab.plan("ids", first=0)

    def ask() -> pa.Table:
        together.wait(60)
        return lab.collect(plan)

    with ThreadPoolExecutor(100) as pool:
        tables = [future.result() for future in [pool.submit(ask) for _ in range(100)]]
    assert count["started"] == 1
    assert count["joined"] == 0
    assert all(table.column("id").to_pylist() == list(range(ROWS)) for table in tables)


def test_a_hundred_different_requests_under_quota_and_throttling_all_finish(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS}, athena={"queries_max": 5})
    rates = {**AWS_RATES, "StartQueryExecution": (20, 5), "BatchGetQueryExecution": (5, 2)}
    aws.faults.update({"quota": 5, "concurrency": 4, "rates": rates, "throttle_next": {"*": 20}})
    count = Count(aws)
    with ThreadPoolExecutor(100) as pool:
        tables = list(pool.map(lambda first: lab.ask("ids", first=first), range(100)))
    for first, table in enumerate(tables):
        assert table.column("id").to_pylist() == list(range(first, ROWS))
    assert count["started"] == 100
    assert count["succeeded"] == 100
    assert aws.athena.state()["most_running"] <= 20


def test_a_full_queue_is_busy(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS}, athena={"queries_max": 1, "queue_max": 1})
    aws.faults.update({"running_s": 60})
    plans = [lab.plan("ids", first=first) for first in range(3)]
    answers = [lab.start(plan) for plan in plans]
    count = Count(aws)
    first = in_background(list, answers[0].batches)
    until(lambda: count["started"] == 1)
    second = in_background(list, answers[1].batches)
    engine = lab.engines["athena"]
    assert isinstance(engine, AthenaEngine)
    until(lambda: engine.queued == 1)
    with pytest.raises(Unavailable, match="waiting for Athena") as caught:
        list(answers[2].batches)
    assert caught.value.code == "busy"
    for answer in answers:
        answer.execution.close()
    for each in (first, second):
        with pytest.raises(Exception, match="stopped"):
            each.get()
    assert count["started"] == 1


def test_too_many_requests_is_waited_out(lab: Lab, aws: LocalAws) -> None:
    aws.faults.update({"too_many_next": 4})
    assert lab.ask("ids", first=590).num_rows == ROWS - 590
    assert aws.faults.too_many_next == 0


def test_throttling_that_does_not_end_is_reported_as_such(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS}, athena={"throttle_wait_s": 0.3})
    aws.faults.update({"throttle_next": {"StartQueryExecution": 1000}})
    with pytest.raises(Unavailable) as caught:
        lab.ask("ids", first=1)
    assert caught.value.code == "engine-throttled"


RETRYABLE: dict[str, Any] = {"category": 1, "type": 401, "retryable": True, "message": "Query exhausted resources"}
HOPELESS: dict[str, Any] = {"category": 2, "type": 1006, "retryable": False, "message": "Column 'x' does not exist"}


def test_a_retryable_failure_is_run_again(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS})
    aws.faults.update({"fail_next": [RETRYABLE, {**RETRYABLE, "after_rows": 1}]})
    count = Count(aws)
    assert lab.ask("ids", first=0).column("id").to_pylist() == list(range(ROWS))
    assert (count["started"], count["failed"], count["succeeded"]) == (3, 2, 1)


def test_retries_are_bounded_and_the_last_reason_is_told(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS}, athena={"attempts_max": 2})
    aws.faults.update({"fail_next": [RETRYABLE] * 10})
    count = Count(aws)
    with pytest.raises(EngineFailed, match=r"Athena query [0-9a-f-]{36}: .*exhausted resources"):
        lab.ask("ids", first=2)
    assert count["started"] == 2


def test_a_failed_query_can_be_asked_again_at_once(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS}, athena={"attempts_max": 2})
    aws.faults.update({"fail_next": [RETRYABLE] * 2})
    with pytest.raises(EngineFailed):
        lab.ask("ids", first=0)
    assert lab.ask("ids", first=0).num_rows == ROWS


def test_what_is_not_retryable_is_not_run_again(lab: Lab, aws: LocalAws) -> None:
    aws.faults.update({"fail_next": [HOPELESS]})
    count = Count(aws)
    with pytest.raises(EngineFailed, match=r"Athena query [0-9a-f-]{36}: Column 'x' does not exist"):
        lab.ask("ids", first=3)
    assert count["started"] == 1


def test_a_query_that_the_work_group_stops_for_its_bytes_is_not_run_again(labs: Labs, aws: LocalAws) -> None:
    aws.athena.work_group("cheap")
    aws.athena.set_cutoff("cheap", 1)
    lab = labs.open({"ids": IDS}, athena={"work_group": "cheap", "output_location": aws.results})
    count = Count(aws)
    with pytest.raises(EngineFailed, match="Bytes scanned limit"):
        lab.ask("ids", first=0)
    assert count["started"] == 1


def test_a_query_that_somebody_else_stops_is_run_again_but_not_forever(lab: Lab, aws: LocalAws) -> None:
    aws.faults.update({"running_s": 60})
    count = Count(aws)
    asked = in_background(lambda: lab.ask("ids", first=5))
    client = aws.client("athena")
    for number in range(1, 4):
        until(partial(_runs, aws, count, number))
        running = [e["id"] for e in aws.athena.state()["executions"] if e["state"] == "RUNNING"]
        client.stop_query_execution(QueryExecutionId=running[0])
    with pytest.raises(EngineFailed, match="cancelled"):
        asked.get()
    assert count["started"] == 3


def _runs(aws: LocalAws, count: Count, number: int) -> bool:
    return count["started"] == number and aws.athena.state()["running"] == 1


def test_a_query_that_goes_back_to_the_queue_is_waited_for(lab: Lab, aws: LocalAws) -> None:
    aws.faults.update({"bounces": 2, "running_s": 0.3})
    assert lab.ask("ids", first=101).num_rows == ROWS - 101
    assert aws.athena.state()["executions"][-1]["history"] == ["QUEUED", "RUNNING"] * 3 + ["SUCCEEDED"]


@pytest.mark.parametrize("name", ["ids", "loose"])
def test_leftovers_of_attempts_that_athena_gave_up_are_not_read(lab: Lab, aws: LocalAws, name: str) -> None:
    aws.faults.update({"leftovers": 2})
    assert sorted(lab.ask(name, first=102).column("id").to_pylist()) == list(range(102, ROWS))


def test_a_work_group_that_enforces_its_own_configuration_is_good_enough(labs: Labs, aws: LocalAws) -> None:
    aws.athena.work_group("enforced", ResultConfiguration={"OutputLocation": f"s3://{aws.bucket}/enforced/"})
    elsewhere = f"s3://{aws.bucket}/elsewhere/"
    lab = labs.open({"ids": IDS}, athena={"work_group": "enforced", "output_location": elsewhere})
    assert lab.ask("ids", first=0).num_rows == ROWS
    assert not aws.client("s3").list_objects_v2(Bucket=aws.bucket, Prefix="elsewhere/").get("Contents")


def test_a_lost_answer_to_start_does_not_start_twice(lab: Lab, aws: LocalAws) -> None:
    aws.faults.update({"lost_next": {"StartQueryExecution": 2}})
    count = Count(aws)
    assert lab.ask("ids", first=103).num_rows == ROWS - 103
    assert (count["started"], count["joined"]) == (1, 2)


def test_a_stored_result_is_not_paid_again(lab: Lab, aws: LocalAws) -> None:
    count = Count(aws)
    first, second = (lab.ask("ids", first=9) for _ in range(2))
    assert first == second
    assert count["started"] == 1


@pytest.mark.parametrize("policy", ['mode = "off"', 'mode = "ttl"\nttl = "1ms"'], ids=["off", "ttl"])
def test_a_result_that_may_not_be_kept_is_made_again(labs: Labs, aws: LocalAws, policy: str) -> None:
    header, _, rest = IDS.partition("-- [params]")
    policy_lines = "".join(f"-- {line}\n" for line in f"[cache]\n{policy}".splitlines())
    lab = labs.open({"fresh": f"{header}{policy_lines}-- [params]{rest}", "loose": LOOSE})
    count = Count(aws)
    for asked in range(1, 4):
        assert lab.ask("fresh", first=590).num_rows == ROWS - 590
        assert count["started"] == asked
