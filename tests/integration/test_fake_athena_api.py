"""The local Athena's API: states, stopping, tokens, throttles, work groups, metadata, and the knobs that tests turn."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, HTTPClientError

from tests.fakes.athena import AWS_RATES
from tests.fakes.aws import LocalAws
from tests.fix_athena import AthenaClient
from tests.waiting import until

QUICK = "SELECT 1 AS one"
# Forty thousand million products: minutes of work, so that its end in time is no accident.
LONG = "SELECT max(sqrt(a.n * b.n)) AS m FROM TABLE(sequence(start => 1, stop => 200000)) AS a(n) CROSS JOIN " \
       "TABLE(sequence(start => 1, stop => 200000)) AS b(n)"  # fmt: skip


@pytest.fixture
def impatient(athena: AthenaClient) -> Any:
    """A boto3 client that shows every error instead of trying again."""
    aws = athena.aws
    return boto3.client(
        "athena",
        endpoint_url=aws.athena_endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}),
    )


def found(aws: LocalAws, id_: str) -> dict[str, Any]:
    return next(each for each in aws.athena.state()["executions"] if each["id"] == id_)


def history(aws: LocalAws, id_: str) -> list[str]:
    return list(found(aws, id_)["history"])


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


def test_a_query_goes_through_its_states(athena: AthenaClient) -> None:
    athena.aws.faults.update({"queued_s": 0.1, "running_s": 0.1})
    id_ = athena.start(QUICK)
    first = athena.execution(id_)
    assert first["Status"]["State"] == "QUEUED"
    assert "CompletionDateTime" not in first["Status"]
    assert athena.wait(id_, "RUNNING")["Status"]["State"] == "RUNNING"
    last = athena.wait(id_)
    assert history(athena.aws, id_) == ["QUEUED", "RUNNING", "SUCCEEDED"]
    assert last["Status"]["CompletionDateTime"] >= last["Status"]["SubmissionDateTime"]
    assert last["Statistics"]["QueryQueueTimeInMillis"] >= 100
    assert last["Statistics"]["TotalExecutionTimeInMillis"] >= 200
    assert (last["StatementType"], last["SubstatementType"], last["Query"]) == ("DML", "SELECT", QUICK)
    assert last["QueryExecutionContext"]["Database"] == "lake"


def test_a_running_query_can_go_back_to_queued(athena: AthenaClient) -> None:
    athena.aws.faults.bounces = 1
    id_ = athena.run(QUICK)["QueryExecutionId"]
    assert history(athena.aws, id_) == ["QUEUED", "RUNNING", "QUEUED", "RUNNING", "SUCCEEDED"]


def test_stop_interrupts_the_engine(athena: AthenaClient) -> None:
    id_ = athena.start(LONG)
    athena.wait(id_, "RUNNING")
    time.sleep(0.3)
    athena.api.stop_query_execution(QueryExecutionId=id_)
    # It would run for longer than is waited here.
    status = athena.wait(id_)["Status"]
    assert status["State"] == "CANCELLED"
    assert "AthenaError" not in status
    athena.api.stop_query_execution(QueryExecutionId=id_)


def test_stop_reaches_a_queued_query(athena: AthenaClient) -> None:
    athena.aws.faults.queued_s = 20
    id_ = athena.start(QUICK)
    athena.api.stop_query_execution(QueryExecutionId=id_)
    assert athena.wait(id_)["Status"]["State"] == "CANCELLED"
    assert history(athena.aws, id_) == ["QUEUED", "CANCELLED"]


def test_settled_means_that_no_query_is_left(athena: AthenaClient) -> None:
    athena.aws.faults.running_s = 60
    left = [athena.start(QUICK), athena.start(LONG)]
    assert sorted(athena.aws.athena.settle()) == sorted([QUICK, LONG])
    assert [found(athena.aws, id_)["state"] for id_ in left] == ["CANCELLED", "CANCELLED"]
    assert athena.aws.athena.settle() == []


ENDLESS = "SELECT n FROM TABLE(sequence(start => 1, stop => 2000000)) AS s(n)"


def test_a_stopped_unload_leaves_its_files_and_no_manifest(athena: AthenaClient) -> None:
    athena.aws.faults.update({"batch_s": 0.2, "row_group_rows": 10_000})
    id_ = athena.start(f"UNLOAD ({ENDLESS}) TO 's3://{athena.aws.bucket}/stopped/' WITH (format='PARQUET')")
    until(lambda: found(athena.aws, id_)["written"])
    athena.api.stop_query_execution(QueryExecutionId=id_)
    execution = athena.wait(id_)
    assert execution["Status"]["State"] == "CANCELLED"
    assert "DataManifestLocation" not in execution["Statistics"]
    rows = sum(part.num_rows for part in athena.parts(athena.listed("stopped")))
    assert 0 < rows < 2_000_000


def test_a_query_that_fails_on_the_way_leaves_its_files(athena: AthenaClient) -> None:
    athena.aws.faults.fail_next = [
        {"category": 1, "type": 401, "retryable": True, "message": "gone", "after_rows": 1000}
    ]
    execution = athena.unload(ENDLESS, "half")
    error = execution["Status"]["AthenaError"]
    assert (error["ErrorCategory"], error["ErrorType"], error["Retryable"]) == (1, 401, True)
    assert "Athena will not delete data in your account" in error["ErrorMessage"]
    assert athena.listed("half")
    assert athena.unload(ENDLESS, "whole")["Status"]["State"] == "SUCCEEDED"


def test_the_next_queries_fail_as_they_are_told(athena: AthenaClient) -> None:
    athena.aws.faults.fail_next = [{"category": 1, "retryable": True}, {"category": 3, "message": "other"}]
    errors = [athena.run(QUICK)["Status"].get("AthenaError", {}) for _ in range(3)]
    assert [(e.get("ErrorCategory"), e.get("Retryable")) for e in errors] == [(1, True), (3, False), (None, None)]


def test_unknown_ids(athena: AthenaClient) -> None:
    for call in (athena.api.get_query_execution, athena.api.stop_query_execution, athena.api.get_query_results):
        with pytest.raises(ClientError) as error:
            call(QueryExecutionId=str(uuid.uuid4()))
        assert code(error) == "InvalidRequestException"
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_batch_get_takes_50_ids(athena: AthenaClient) -> None:
    known, unknown = athena.run(QUICK)["QueryExecutionId"], str(uuid.uuid4())
    answer = athena.api.batch_get_query_execution(QueryExecutionIds=[known, unknown])
    assert [e["Status"]["State"] for e in answer["QueryExecutions"]] == ["SUCCEEDED"]
    assert [e["QueryExecutionId"] for e in answer["UnprocessedQueryExecutionIds"]] == [unknown]
    assert athena.api.batch_get_query_execution(QueryExecutionIds=[known] * 50)["QueryExecutions"]
    with pytest.raises(ClientError, match="InvalidRequestException"):
        athena.api.batch_get_query_execution(QueryExecutionIds=[known] * 51)


def test_results_of_an_unfinished_or_failed_query_are_refused(athena: AthenaClient) -> None:
    failed = athena.run("SELECT nope")["QueryExecutionId"]
    with pytest.raises(ClientError, match="Final query state: FAILED"):
        athena.api.get_query_results(QueryExecutionId=failed)
    athena.aws.faults.queued_s = 0.3
    with pytest.raises(ClientError, match="Current state: QUEUED"):
        athena.api.get_query_results(QueryExecutionId=athena.start(QUICK))


def test_a_token_names_one_query(athena: AthenaClient) -> None:
    token = uuid.uuid4().hex
    before = athena.aws.athena.state()["started"]
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: athena.start(QUICK, ClientRequestToken=token), range(8)))
    assert len(ids) == 1
    assert athena.aws.athena.state()["started"] == before + 1
    with pytest.raises(ClientError, match="Idempotent parameters do not match"):
        athena.start("SELECT 2", ClientRequestToken=token)
    with pytest.raises(ClientError, match="32 to 128"):
        _post(athena.aws, {"QueryString": QUICK, "ClientRequestToken": "short"})


def _post(aws: LocalAws, body: dict[str, Any], operation: str = "StartQueryExecution") -> dict[str, Any]:
    headers = {"X-Amz-Target": f"AmazonAthena.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    request = urllib.request.Request(aws.athena_endpoint, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        with error:
            found = json.load(error)
        raise ClientError({"Error": {"Code": found["__type"], "Message": found["Message"]}}, operation) from error


def test_a_lost_answer_is_found_again_by_its_token(athena: AthenaClient, impatient: Any) -> None:
    athena.aws.faults.lost_next = {"StartQueryExecution": 1}
    request = {"QueryString": QUICK, "ClientRequestToken": uuid.uuid4().hex}
    before = athena.aws.athena.state()["started"]
    with pytest.raises((HTTPClientError, EndpointConnectionError, ConnectionError)):
        impatient.start_query_execution(**request)
    assert athena.wait(impatient.start_query_execution(**request)["QueryExecutionId"])
    assert athena.aws.athena.state()["started"] == before + 1


def test_calls_are_throttled_by_rate(athena: AthenaClient, impatient: Any) -> None:
    # One more in a quarter of an hour: however slow the calls are, three are let in.
    athena.aws.faults.rates = {"ListWorkGroups": (0.001, 3)}
    errors = []
    for _ in range(6):
        try:
            impatient.list_work_groups()
        except ClientError as error:
            errors.append(error.response["Error"]["Code"])
    assert errors == ["ThrottlingException"] * 3
    # And now one more at once.
    athena.aws.faults.rates = {"ListWorkGroups": (1e6, 3)}
    assert impatient.list_work_groups()
    athena.aws.faults.rates = AWS_RATES
    assert impatient.list_work_groups()


def test_calls_are_throttled_and_broken_on_demand(athena: AthenaClient, impatient: Any) -> None:
    athena.aws.faults.throttle_next = {"*": 1}
    with pytest.raises(ClientError) as error:
        impatient.list_work_groups()
    assert code(error) == "ThrottlingException"
    athena.aws.faults.broken_next = {"ListWorkGroups": 1}
    with pytest.raises(ClientError) as error:
        impatient.list_work_groups()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert impatient.list_work_groups()


def test_the_next_call_meets_any_error(athena: AthenaClient, impatient: Any) -> None:
    expired = {"operation": "ListWorkGroups", "type": "ExpiredTokenException", "message": "The security token expired"}
    athena.aws.faults.errors_next = [expired]
    assert impatient.list_data_catalogs()
    with pytest.raises(ClientError) as error:
        impatient.list_work_groups()
    assert code(error) == "ExpiredTokenException"
    assert impatient.list_work_groups()


def test_queries_beyond_the_quota_are_refused(athena: AthenaClient, impatient: Any) -> None:
    athena.aws.faults.update({"quota": 2, "running_s": 20})
    ids = [athena.start(QUICK) for _ in range(2)]
    with pytest.raises(ClientError) as error:
        impatient.start_query_execution(QueryString=QUICK)
    assert code(error) == "TooManyRequestsException"
    assert error.value.response["Reason"] == "CONCURRENT_QUERY_LIMIT_EXCEEDED"  # type: ignore[typeddict-item]
    for id_ in ids:
        athena.api.stop_query_execution(QueryExecutionId=id_)
        athena.wait(id_)
    athena.aws.faults.running_s = 0
    athena.wait(impatient.start_query_execution(QueryString=QUICK)["QueryExecutionId"])


def test_queries_beyond_the_concurrency_wait_in_queued(athena: AthenaClient) -> None:
    athena.aws.faults.update({"concurrency": 1, "running_s": 60})
    first, second = athena.start(QUICK), athena.start(QUICK)
    states: dict[str, str] = {}

    def one_runs() -> bool:
        states.update({athena.execution(i)["Status"]["State"]: i for i in (first, second)})
        return "RUNNING" in states

    until(one_runs)
    assert set(states) == {"QUEUED", "RUNNING"}
    athena.aws.faults.running_s = 0
    athena.api.stop_query_execution(QueryExecutionId=states["RUNNING"])
    assert athena.wait(states["QUEUED"])["Status"]["State"] == "SUCCEEDED"
    assert history(athena.aws, states["RUNNING"]) == ["QUEUED", "RUNNING", "CANCELLED"]


def test_parameters_are_sql_text(athena: AthenaClient) -> None:
    sql = "SELECT count(*) FROM prices WHERE ticker = ? AND trade_date >= ? AND id <> ? AND '?' = '?' -- ?"
    assert athena.rows(sql, ExecutionParameters=["'AAPL'", "CAST('2024-10-01' AS DATE)", "-1"]) == [["26"]]
    injected = "'x' OR 1 = 1 OR 1 = 2"
    assert athena.rows(sql, ExecutionParameters=[injected, "DATE '2030-01-01'", "1"]) == [["600"]]
    reason = athena.reason(sql, ExecutionParameters=["'AAPL'"])
    assert "Incorrect number of parameters: expected 3 but found 1" in reason
    assert "COLUMN_NOT_FOUND" in athena.reason("SELECT 1 WHERE 'a' = ?", ExecutionParameters=["AAPL"])
    unloaded = athena.run(
        f"UNLOAD (SELECT id FROM prices WHERE id < ?) TO 's3://{athena.aws.bucket}/bound/' WITH (format='PARQUET')",
        ExecutionParameters=["7"],
    )
    assert sum(part.num_rows for part in athena.parts(athena.manifest(unloaded))) == 7


def test_a_work_group_overrides_the_clients_result_location(athena: AthenaClient) -> None:
    bucket = athena.aws.bucket
    location = {"OutputLocation": f"s3://{bucket}/enforced/"}
    configuration = {"EnforceWorkGroupConfiguration": True, "ResultConfiguration": location}
    athena.api.create_work_group(Name="enforcing", Configuration=configuration)
    asked = {"OutputLocation": f"s3://{bucket}/asked/"}
    execution = athena.run(QUICK, WorkGroup="enforcing", ResultConfiguration=asked)
    assert execution["ResultConfiguration"]["OutputLocation"].startswith(location["OutputLocation"])
    assert execution["WorkGroup"] == "enforcing"
    free = athena.run(QUICK, ResultConfiguration=asked)
    assert free["ResultConfiguration"]["OutputLocation"].startswith(asked["OutputLocation"])
    unloaded = athena.unload("SELECT id FROM prices", "still-free", WorkGroup="enforcing", ResultConfiguration=asked)
    assert athena.listed("still-free")
    assert unloaded["Statistics"]["DataManifestLocation"].startswith(location["OutputLocation"])
    shown = athena.api.get_work_group(WorkGroup="enforcing")["WorkGroup"]["Configuration"]
    assert shown["EnforceWorkGroupConfiguration"] is True
    external = f"WITH (external_location='s3://{bucket}/x/') AS SELECT 1 AS a"
    with pytest.raises(ClientError, match="enforces a centralized output location"):
        athena.start(f"CREATE TABLE x {external}", WorkGroup="enforcing")


def test_a_query_without_a_result_location_is_refused(athena: AthenaClient) -> None:
    athena.aws.athena.work_group("nowhere", EnforceWorkGroupConfiguration=False)
    with pytest.raises(ClientError, match="No output location provided"):
        athena.start(QUICK, WorkGroup="nowhere")
    with pytest.raises(ClientError, match="WorkGroup nobody is not found"):
        athena.start(QUICK, WorkGroup="nobody")


def test_buckets_that_do_not_exist(athena: AthenaClient) -> None:
    with pytest.raises(ClientError, match="Unable to verify/create output bucket nobodys"):
        athena.start(QUICK, ResultConfiguration={"OutputLocation": "s3://nobodys/results/"})
    reason = athena.reason("UNLOAD (SELECT 1 AS a) TO 's3://nobodys/x/' WITH (format='PARQUET')")
    assert "NoSuchBucket" in reason


def test_a_query_over_the_cutoff_is_cancelled(athena: AthenaClient) -> None:
    with pytest.raises(ClientError, match="at least 10000000"):
        _post(athena.aws, {"Name": "low", "Configuration": {"BytesScannedCutoffPerQuery": 1}}, "CreateWorkGroup")
    location = {"OutputLocation": athena.aws.results}
    athena.aws.athena.work_group("limited", BytesScannedCutoffPerQuery=10_000_000, ResultConfiguration=location)
    assert athena.run("SELECT id FROM prices", WorkGroup="limited")["Status"]["State"] == "SUCCEEDED"
    # No table of the tests is that large: the limit is put below what AWS would accept.
    athena.aws.athena.work_group("tiny", BytesScannedCutoffPerQuery=10_000_000, ResultConfiguration=location)
    athena.aws.athena.set_cutoff("tiny", 100)
    status = athena.run("SELECT id FROM prices", WorkGroup="tiny")["Status"]
    assert status["State"] == "CANCELLED"
    assert "Bytes scanned limit was exceeded" in status["StateChangeReason"]


def test_executions_are_listed_newest_first(athena: AthenaClient) -> None:
    athena.aws.athena.work_group("listed", ResultConfiguration={"OutputLocation": athena.aws.results})
    ids = [athena.start(QUICK, WorkGroup="listed") for _ in range(3)]
    first = athena.api.list_query_executions(WorkGroup="listed", MaxResults=2)
    second = athena.api.list_query_executions(WorkGroup="listed", MaxResults=2, NextToken=first["NextToken"])
    assert first["QueryExecutionIds"] + second["QueryExecutionIds"] == ids[::-1]
    for id_ in ids:
        athena.wait(id_)


def test_metadata(athena: AthenaClient) -> None:
    api = athena.api
    assert api.list_data_catalogs()["DataCatalogsSummary"] == [{"CatalogName": "AwsDataCatalog", "Type": "GLUE"}]
    assert api.get_data_catalog(Name="AwsDataCatalog")["DataCatalog"]["Type"] == "GLUE"
    assert {"Name": "lake"} in api.list_databases(CatalogName="AwsDataCatalog")["DatabaseList"]
    assert api.get_database(CatalogName="AwsDataCatalog", DatabaseName="lake")["Database"]["Name"] == "lake"
    where = {"CatalogName": "AwsDataCatalog", "DatabaseName": "lake"}
    names = [t["Name"] for t in api.list_table_metadata(**where)["TableMetadataList"]]
    assert {"prices", "values_", "nothing"} <= set(names)
    table = api.get_table_metadata(**where, TableName="prices")["TableMetadata"]
    columns = {c["Name"]: c["Type"] for c in table["Columns"]}
    assert (columns["trade_date"], columns["tags"], columns["amount"]) == ("date", "array<string>", "decimal(18,4)")
    assert table["Parameters"]["table_type"] == "ICEBERG"
    with pytest.raises(ClientError, match="MetadataException"):
        api.get_table_metadata(**where, TableName="nope")
    assert "primary" in [g["Name"] for g in api.list_work_groups()["WorkGroups"]]


def test_knobs_and_counters_over_http(athena: AthenaClient) -> None:
    def post(values: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(f"{athena.aws.athena_endpoint}/_faults", json.dumps(values).encode())
        with urllib.request.urlopen(request) as answer:
            return dict(json.load(answer))

    assert post({"file_count": 5, "queued_s": 0.01})["file_count"] == 5
    assert len(athena.manifest(athena.unload("SELECT id FROM prices", "five"))) == 5
    assert post({"reset": True})["file_count"] == 3
    with pytest.raises(urllib.error.HTTPError) as refused:
        post({"no_such_knob": 1})
    refused.value.close()
    with urllib.request.urlopen(f"{athena.aws.athena_endpoint}/_state") as answer:
        state = json.load(answer)
    assert state["started"] >= 1
    assert "five" in state["queries"][-1]
    assert state["calls"]["StartQueryExecution"] >= 1
    assert state["running"] == 0


def test_many_queries_at_once(athena: AthenaClient) -> None:
    athena.aws.faults.concurrency = 5
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda i: athena.start(f"SELECT {i} AS i"), range(40)))
    assert [athena.wait(i)["Status"]["State"] for i in ids] == ["SUCCEEDED"] * 40
    assert len(set(ids)) == 40
