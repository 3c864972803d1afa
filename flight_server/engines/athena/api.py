"""Athena's API as this engine needs it: five calls, with boto3's errors translated once, here.

Nothing is retried here but what botocore retries on broken connections; throttling is reported as such, and
`query.py` decides how long to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from flight_server.config import Athena
from flight_server.errors import EngineFailed, InvalidRequest, Unavailable, first_line

if TYPE_CHECKING:
    from mypy_boto3_athena.client import AthenaClient

# Athena's limit on the text of a query.
QUERY_BYTES_MAX = 262_144
# Ids in one BatchGetQueryExecution.
BATCH_MAX = 50
_THROTTLED = ("ThrottlingException", "TooManyRequestsException", "Throttling", "RequestLimitExceeded")
# The last is raised for an answer that is no JSON, of a proxy for example, and is no BotoCoreError.
_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
TERMINAL = ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class QueryStatus:
    """What Athena says of one query execution."""

    id: str
    state: str
    reason: str = ""
    retryable: bool = False
    submitted: datetime | None = None
    completed: datetime | None = None
    scanned_bytes: int = 0
    manifest_uri: str | None = None

    @property
    def ended(self) -> bool:
        return self.state in TERMINAL


class Api:
    """Calls Athena with the settings of one server. Safe to use from many threads, as boto3's clients are."""

    def __init__(self, client: AthenaClient, settings: Athena) -> None:
        self._client = client
        self._settings = settings

    def start(self, sql: str, token: str) -> str:
        """Start `sql` and return its id; the id of the earlier query for a token that was used before.

        Raises Unavailable (engine-throttled), InvalidRequest (bad-request: text too long), EngineFailed.
        """
        size = len(sql.encode())
        if size > QUERY_BYTES_MAX:
            raise InvalidRequest(
                "bad-request", f"the query has {size:,} bytes with these values; Athena takes {QUERY_BYTES_MAX:,}"
            )
        settings = self._settings
        request: dict[str, Any] = {
            "QueryString": sql,
            "ClientRequestToken": token,
            "WorkGroup": settings.work_group,
            "QueryExecutionContext": {"Catalog": settings.catalog},
        }
        output: dict[str, Any] = {}
        if settings.output_location:
            output["OutputLocation"] = settings.output_location
        if settings.encryption:
            output["EncryptionConfiguration"] = {"EncryptionOption": settings.encryption}
            if settings.kms_key:
                output["EncryptionConfiguration"]["KmsKey"] = settings.kms_key
        if settings.expected_bucket_owner:
            output["ExpectedBucketOwner"] = settings.expected_bucket_owner
        if output:
            request["ResultConfiguration"] = output
        capacity = {
            "CoordinatorDpuSize": settings.coordinator_dpu,
            "MaxConcurrentDpus": settings.max_concurrent_dpu,
        }
        if any(capacity.values()):
            request["EngineConfiguration"] = {name: dpus for name, dpus in capacity.items() if dpus}
        try:
            return self._client.start_query_execution(**request)["QueryExecutionId"]
        except _ERRORS as error:
            _fail(error)

    def statuses(self, ids: Sequence[str]) -> list[QueryStatus]:
        """The state of up to `BATCH_MAX` queries. Raises Unavailable (engine-throttled), EngineFailed."""
        try:
            answer = self._client.batch_get_query_execution(QueryExecutionIds=list(ids))
        except _ERRORS as error:
            _fail(error)
        # Other codes than this one say nothing about the query: it is looked at again.
        unknown = [
            QueryStatus(each["QueryExecutionId"], "FAILED", each.get("ErrorMessage", "Athena does not know the query"))
            for each in answer.get("UnprocessedQueryExecutionIds", [])
            if each.get("ErrorCode") == "INVALID_INPUT"
        ]
        return [_status(each) for each in answer.get("QueryExecutions", [])] + unknown

    def stop(self, query_id: str) -> None:
        """Ask Athena to stop a query; one that has ended stays as it is."""
        try:
            self._client.stop_query_execution(QueryExecutionId=query_id)
        except _ERRORS as error:
            _fail(error)

    def manifest_lines(self, query_id: str) -> list[str]:
        """The URIs that an UNLOAD wrote, from Athena itself, for work groups that keep their manifests."""
        uris: list[str] = []
        token: dict[str, str] = {}
        try:
            while True:
                page = self._client.get_query_results(
                    QueryExecutionId=query_id,
                    QueryResultType="DATA_MANIFEST",
                    **token,  # type: ignore[arg-type]
                )
                for row in page["ResultSet"]["Rows"]:
                    uris += [cell["VarCharValue"] for cell in row["Data"] if "VarCharValue" in cell]
                if not page.get("NextToken"):
                    return uris
                token = {"NextToken": page["NextToken"]}
        except _ERRORS as error:
            _fail(error)

    def ping(self) -> None:
        """Raise unless Athena answers for the work group."""
        try:
            self._client.get_work_group(WorkGroup=self._settings.work_group)
        except _ERRORS as error:
            _fail(error)


def _status(execution: Any) -> QueryStatus:
    status, statistics = execution["Status"], execution.get("Statistics", {})
    failure = status.get("AthenaError", {})
    return QueryStatus(
        id=execution["QueryExecutionId"],
        state=status["State"],
        reason=failure.get("ErrorMessage") or status.get("StateChangeReason", ""),
        retryable=bool(failure.get("Retryable")),
        submitted=status.get("SubmissionDateTime"),
        completed=status.get("CompletionDateTime"),
        scanned_bytes=int(statistics.get("DataScannedInBytes", 0)),
        manifest_uri=statistics.get("DataManifestLocation"),
    )


def _fail(error: ClientError | BotoCoreError | ResponseParserError) -> NoReturn:
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        message = error.response["Error"].get("Message", "")
        if code in _THROTTLED:
            raise Unavailable("engine-throttled", f"Athena is throttling: {first_line(message)}") from error
        raise EngineFailed(f"Athena: {code}: {first_line(message, 400)}") from error
    raise EngineFailed(f"Athena cannot be reached: {first_line(error)}") from error
