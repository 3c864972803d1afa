"""Broken connections, refusals and damage on S3 and Athena: the exact result, or an error that names the query.

Never a short or a wrong result that looks complete.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from flight_server import server
from flight_server.errors import EngineFailed, Error, TableError, Unavailable
from flight_server.model import StoredResult
from tests.fakes.aws import LocalAws
from tests.fix_served import IDS, LOOSE, Lab, Labs
from tests.lake import ROWS

pytestmark = pytest.mark.timeout(300)
QUERY_ID = re.compile(r"query [0-9a-f]{8}-[0-9a-f-]{27}")
# What S3 does to the parts of a result, and how often. Rare faults are to be survived, lasting ones to be reported.
RARE: dict[str, dict[str, Any]] = {
    "slow down": {"kind": "slow_down"},
    "reset": {"kind": "reset"},
    "cut off": {"kind": "truncate"},
    "late": {"kind": "delay", "delay_s": 0.5},
}
LASTING: dict[str, dict[str, Any]] = {
    "slow down": {"kind": "slow_down"},
    "reset": {"kind": "reset"},
    "cut off": {"kind": "truncate"},
    "expired": {"kind": "expired"},
    "denied": {"kind": "denied"},
}


def outcome(lab: Lab, name: str, first: int) -> str:
    """`exact`, or the error's message; anything else fails the test."""
    failed: Error | None = None
    try:
        table = lab.ask(name, first=first)
    except Error as error:
        failed = error
    if failed is not None:
        assert isinstance(failed, EngineFailed)
        assert QUERY_ID.search(failed.message), failed.message
        return failed.message
    ids = table.column("id").to_pylist()
    assert (ids if name == "ids" else sorted(ids)) == list(range(first, ROWS))
    assert table.column("price").to_pylist() == [i * 0.5 for i in ids]
    return "exact"


def reading(aws: LocalAws, fault: dict[str, Any], match: str, count: int = 1000) -> None:
    """Let reading fail; Athena's own writing is not what is tested here."""
    aws.s3_faults(*({**fault, "match": match, "method": method, "count": count} for method in ("GET", "HEAD")))


def parts_of(attempt: int = 0) -> str:
    """What the paths of the parts of today's attempt have in them, and no manifest has."""
    return f"/{datetime.now(UTC).date().isoformat()}-{attempt}/"


@pytest.mark.parametrize("name", ["ids", "loose"])
@pytest.mark.parametrize("fault", list(RARE))
def test_a_rare_fault_of_s3_is_survived_or_reported(lab: Lab, aws: LocalAws, name: str, fault: str) -> None:
    first = 300 + list(RARE).index(fault)
    reading(aws, RARE[fault], parts_of(), count=1)
    found = outcome(lab, name, first)
    if fault != "cut off":
        assert found == "exact"
    aws.s3_faults()
    assert outcome(lab, name, first) == "exact"


@pytest.mark.parametrize("fault", list(LASTING))
def test_a_lasting_fault_of_s3_is_an_error_with_the_query_id(lab: Lab, aws: LocalAws, fault: str) -> None:
    first = 310 + list(LASTING).index(fault)
    reading(aws, LASTING[fault], parts_of())
    assert outcome(lab, "ids", first) != "exact"
    aws.s3_faults()
    before = aws.athena.state()["started"]
    assert outcome(lab, "ids", first) == "exact"
    # What the query wrote is there: network trouble is no reason to pay again.
    assert aws.athena.state()["started"] == before or fault == "cut off"


def test_a_connection_that_stalls_is_given_up(labs: Labs, aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_S3_REQUEST_S", 1)
    lab = labs.open({"ids": IDS})
    reading(aws, {"kind": "delay", "delay_s": 4}, parts_of())
    assert outcome(lab, "ids", 320) != "exact"


def test_a_glue_that_is_down_is_told_after_three_attempts(lab: Lab, aws: LocalAws) -> None:
    # Glue's calls are POSTs to the root; a client that tried a fourth time would be answered.
    aws.s3_faults({"kind": "slow_down", "method": "POST", "count": 3})
    with pytest.raises(TableError, match="cannot look up table 'lake.prices'"):
        lab.plan("ids", first=340)
    assert outcome(lab, "ids", 340) == "exact"


def test_tables_whose_metadata_s3_does_not_give_out_are_named(lab: Lab, aws: LocalAws) -> None:
    reading(aws, {"kind": "denied"}, "/metadata/")
    with pytest.raises(
        TableError, match="cannot read the (manifests|metadata) of lake.prices: .*AWS Error ACCESS_DENIED"
    ):
        lab.plan("ids", first=355)
    aws.s3_faults()
    assert outcome(lab, "ids", 355) == "exact"


@pytest.mark.parametrize("fault", ["reset", "expired"])
def test_a_result_store_that_fails_while_planning_says_so(lab: Lab, aws: LocalAws, fault: str) -> None:
    reading(aws, {"kind": fault}, "/result.json")
    with pytest.raises(EngineFailed, match="the result store cannot be used"):
        lab.ask("ids", first=330)


def stored_result(lab: Lab, first: int) -> StoredResult:
    lab.ask("ids", first=first)
    found = lab.pipeline.stored(lab.plan("ids", first=first))
    assert found is not None
    return found


def _object(aws: LocalAws, stored: StoredResult, part: int = 1) -> dict[str, str]:
    bucket, _, key = stored.parts[part].path.partition("/")
    return {"Bucket": bucket, "Key": key}


def remove(aws: LocalAws, stored: StoredResult) -> None:
    aws.client("s3").delete_object(**_object(aws, stored))


def cut_short(aws: LocalAws, stored: StoredResult) -> None:
    s3, where = aws.client("s3"), _object(aws, stored)
    body = s3.get_object(**where)["Body"].read()
    s3.put_object(**where, Body=body[: len(body) // 2])


def damage(aws: LocalAws, stored: StoredResult) -> None:
    s3, where = aws.client("s3"), _object(aws, stored)
    body = bytearray(s3.get_object(**where)["Body"].read())
    body[20] ^= 0xFF
    s3.put_object(**where, Body=bytes(body))


def exchange(aws: LocalAws, stored: StoredResult) -> None:
    """Another part's content: good Parquet, right columns, wrong rows."""
    s3 = aws.client("s3")
    body = s3.get_object(**_object(aws, stored, 0))["Body"].read()
    s3.put_object(**_object(aws, stored), Body=body)


@pytest.mark.parametrize("harm", [remove, cut_short, damage, exchange])
@pytest.mark.parametrize("replica", ["the same server", "another server"])
def test_a_stored_result_that_is_harmed_is_made_again(
    labs: Labs, lab: Lab, aws: LocalAws, harm: Any, replica: str
) -> None:
    first = 340 + [remove, cut_short, damage, exchange].index(harm) + 10 * (replica == "another server")
    stored = stored_result(lab, first)
    harm(aws, stored)
    asked = lab if replica == "the same server" else labs.open_again(lab.config)
    before = aws.athena.state()["started"]
    assert outcome(asked, "ids", first) == "exact"
    assert aws.athena.state()["started"] == before + 1
    assert outcome(asked, "ids", first) == "exact"
    assert aws.athena.state()["started"] == before + 1


def test_an_unordered_result_that_is_lost_midway_is_an_error_once(lab: Lab, aws: LocalAws) -> None:
    lab.ask("loose", first=360)
    plan = lab.plan("loose", first=360)
    stored = lab.pipeline.stored(plan)
    assert stored is not None
    answer = lab.start(plan)
    next(answer.batches)
    for part in range(len(stored.parts)):
        aws.client("s3").delete_object(**_object(aws, stored, part))
    # Files as small as these are read ahead whole; larger ones end with the error.
    with suppress(EngineFailed):
        for _ in answer.batches:
            pass
    answer.execution.close()
    assert outcome(lab, "loose", 360) == "exact"


def test_an_object_that_the_manifest_names_and_the_bucket_has_not(labs: Labs, aws: LocalAws) -> None:
    """Gone before the result was complete: the query is fresh, so asking Athena again is the caller's decision."""
    lab = labs.open({"ids": IDS, "loose": LOOSE})
    reading(aws, {"kind": "missing"}, parts_of(), count=1)
    assert "is not there" in outcome(lab, "ids", 370)
    aws.s3_faults()
    assert outcome(lab, "ids", 370) == "exact"


def test_an_object_that_goes_between_two_requests(labs: Labs, aws: LocalAws) -> None:
    """Its HEAD is answered, and its GET says that there is no such object."""
    lab = labs.open({"ids": IDS})
    aws.s3_faults({"kind": "missing", "match": parts_of(), "method": "GET", "count": 1})
    assert "is not there" in outcome(lab, "ids", 372)
    aws.s3_faults()
    assert outcome(lab, "ids", 372) == "exact"


def test_a_missing_manifest_of_athena_is_an_error_with_the_query_id(lab: Lab, aws: LocalAws) -> None:
    reading(aws, {"kind": "missing"}, "-manifest.csv")
    assert "manifest" in outcome(lab, "ids", 371)
    aws.s3_faults()
    assert outcome(lab, "ids", 371) == "exact"


ATHENA: list[dict[str, Any]] = [
    {"broken_next": {"StartQueryExecution": 1}},
    {"broken_next": {"BatchGetQueryExecution": 4}},
    {"lost_next": {"StartQueryExecution": 1, "BatchGetQueryExecution": 3}},
    {"throttle_next": {"*": 5}},
]


@pytest.mark.parametrize("knobs", ATHENA, ids=str)
def test_rare_faults_of_athena_are_survived(lab: Lab, aws: LocalAws, knobs: dict[str, Any]) -> None:
    aws.faults.update(knobs)
    before = aws.athena.state()["started"]
    assert outcome(lab, "ids", 380 + ATHENA.index(knobs)) == "exact"
    assert aws.athena.state()["started"] == before + 1


@pytest.mark.parametrize("knob", ["broken_next", "lost_next", "throttle_next", "errors_next"])
def test_an_athena_that_does_not_answer_about_a_query_is_an_error_with_its_id(
    labs: Labs, aws: LocalAws, knob: str
) -> None:
    lab = labs.open({"ids": IDS}, athena={"throttle_wait_s": 0.5})
    operation = "BatchGetQueryExecution"
    expired = {"operation": operation, "type": "ExpiredTokenException", "message": "the token has expired"}
    aws.faults.update({knob: [expired] * 1000 if knob == "errors_next" else {operation: 10_000}})
    assert outcome(lab, "ids", 390) != "exact"
    aws.faults.update({"reset": True})
    before = aws.athena.state()["started"]
    assert outcome(lab, "ids", 390) == "exact"
    # It was running all the time.
    assert aws.athena.state()["started"] == before


def test_expired_credentials_are_told_before_anything_runs(lab: Lab, aws: LocalAws) -> None:
    expired = {"operation": "StartQueryExecution", "type": "ExpiredTokenException", "message": "the token has expired"}
    aws.faults.update({"errors_next": [expired]})
    with pytest.raises(EngineFailed, match="ExpiredTokenException: the token has expired"):
        lab.ask("ids", first=394)


def test_an_athena_that_cannot_be_reached_at_all(labs: Labs) -> None:
    lab = labs.open({"ids": IDS}, aws={**labs.endpoints, "athena_endpoint": "http://127.0.0.1:9"})
    with pytest.raises((EngineFailed, Unavailable), match="Athena cannot be reached"):
        lab.ask("ids", first=395)


def test_a_cut_off_query_leaves_nothing_that_looks_complete(labs: Labs, aws: LocalAws) -> None:
    lab = labs.open({"ids": IDS})
    prefix = lab.config.athena.results.partition(f"{aws.bucket}/")[2]
    hopeless = {"category": 2, "type": 1, "retryable": False, "message": "no", "after_rows": 1}
    aws.faults.update({"fail_next": [hopeless]})
    assert ": no." in outcome(lab, "ids", 396)
    assert not aws.client("s3").list_objects_v2(Bucket=aws.bucket, Prefix=prefix).get("Contents")
