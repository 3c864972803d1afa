"""Athena's API, one function for each operation: a JSON object in, a JSON object out. Errors are ApiError."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from tests.fakes.athena.catalog import Catalog, split
from tests.fakes.athena.errors import ApiError, InvalidRequest, QueryFailed
from tests.fakes.athena.executions import Execution, Executions, new_id
from tests.fakes.athena.output import read_rows
from tests.fakes.athena.statements import Statement, parse

Json = dict[str, Any]
BATCH_IDS_MAX = 50
PAGE_ROWS_MAX = 1000
QUERY_BYTES_MAX = 262_144
# Least BytesScannedCutoffPerQuery that AWS accepts.
CUTOFF_MIN = 10_000_000


@dataclass
class WorkGroup:
    """One work group: its configuration as the API shows it."""

    name: str
    configuration: Json
    created: float = field(default_factory=time.time)

    @property
    def enforced(self) -> bool:
        return bool(self.configuration.get("EnforceWorkGroupConfiguration", False))

    @property
    def result_location(self) -> str:
        return str(self.configuration.get("ResultConfiguration", {}).get("OutputLocation", ""))

    @property
    def cutoff(self) -> int:
        return int(self.configuration.get("BytesScannedCutoffPerQuery", 0))


class Operations:
    """The operations by name in `by_name`; state is the executions' and the work groups'."""

    def __init__(self, executions: Executions, catalog: Catalog) -> None:
        self._executions = executions
        self._catalog = catalog
        self.work_groups: dict[str, WorkGroup] = {}
        self._buckets: set[str] = set()
        self.CreateWorkGroup({"Name": "primary"})

    def call(self, name: str, request: Json) -> Json:
        operation: Callable[[Json], Json] | None = getattr(self, name, None) if name[:1].isupper() else None
        if operation is None:
            raise ApiError("UnknownOperationException", f"this Athena has no operation {name!r}")
        return operation(request)

    # --- the names below are Athena's, hence N802 ---

    def StartQueryExecution(self, request: Json) -> Json:  # noqa: N802
        query = str(request.get("QueryString", ""))
        if not query:
            raise InvalidRequest("QueryString is required")
        if len(query.encode()) > QUERY_BYTES_MAX:
            raise InvalidRequest(f"The query string exceeds the limit of {QUERY_BYTES_MAX} bytes")
        token = request.get("ClientRequestToken")
        if token is not None and not 32 <= len(token) <= 128:
            raise InvalidRequest("ClientRequestToken must have 32 to 128 characters")
        group = self._group(request.get("WorkGroup", "primary"))
        asked = str(request.get("ResultConfiguration", {}).get("OutputLocation", ""))
        location = group.result_location if group.enforced and group.result_location else asked or group.result_location
        if not location:
            message = "No output location provided. An output location is required either through the Workgroup "
            raise InvalidRequest(message + "result configuration setting or as an API input.")
        if not location.startswith("s3://"):
            raise InvalidRequest(f"outputLocation is not a valid S3 path: {location}")
        self._check_bucket(split(location)[0])
        reason = ""
        statement: Statement | None = None
        try:
            statement = parse(query, request.get("ExecutionParameters"))
        except QueryFailed as failed:
            reason = str(failed)
        if group.enforced and statement is not None and "external_location" in statement.options:
            message = "The Create Table As Select query failed because it was submitted with an 'external_location' "
            message += "property to an Athena Workgroup that enforces a centralized output location for all queries."
            raise InvalidRequest(message)
        execution = Execution(
            new_id(), query, statement, request, group.name, location, group.enforced, group.cutoff, reason=reason
        )
        return {"QueryExecutionId": self._executions.start(execution, token, dict(request))}

    def GetQueryExecution(self, request: Json) -> Json:  # noqa: N802
        return {"QueryExecution": self._executions.describe(str(request.get("QueryExecutionId", "")))}

    def BatchGetQueryExecution(self, request: Json) -> Json:  # noqa: N802
        ids = request.get("QueryExecutionIds", [])
        if not 1 <= len(ids) <= BATCH_IDS_MAX:
            raise InvalidRequest(f"queryExecutionIds must have 1 to {BATCH_IDS_MAX} members, not {len(ids)}")
        found, unknown = [], []
        for id_ in ids:
            if self._executions.find(id_) is None:
                message = f"QueryExecution {id_} was not found"
                unknown.append({"QueryExecutionId": id_, "ErrorCode": "INVALID_INPUT", "ErrorMessage": message})
            else:
                found.append(self._executions.describe(id_))
        return {"QueryExecutions": found, "UnprocessedQueryExecutionIds": unknown}

    def StopQueryExecution(self, request: Json) -> Json:  # noqa: N802
        self._executions.stop(str(request.get("QueryExecutionId", "")))
        return {}

    def ListQueryExecutions(self, request: Json) -> Json:  # noqa: N802
        group = self._group(request.get("WorkGroup", "primary"))
        page, token = _page(self._executions.newest(group.name), request, 50)
        return {"QueryExecutionIds": page, **token}

    def GetQueryResults(self, request: Json) -> Json:  # noqa: N802
        execution = self._executions.get(str(request.get("QueryExecutionId", "")))
        state, out = execution.state, execution.outcome
        if state != "SUCCEEDED":
            code = "INVALID_QUERY_EXECUTION_STATE"
            words = {"FAILED": "did not finish successfully. Final query state: FAILED"}
            words["CANCELLED"] = "did not finish successfully. Final query state: CANCELLED"
            message = f"Query {words.get(state, f'has not yet finished. Current state: {state}')}"
            raise InvalidRequest(message, AthenaErrorCode=code)
        most = int(request.get("MaxResults", PAGE_ROWS_MAX))
        if not 1 <= most <= PAGE_ROWS_MAX:
            raise InvalidRequest(f"MaxResults must be between 1 and {PAGE_ROWS_MAX}")
        start = _offset(request)
        rows: list[list[str | None]]
        if request.get("QueryResultType") == "DATA_MANIFEST":
            if not out.manifest:
                raise InvalidRequest("DATA_MANIFEST is only available for UNLOAD, CTAS and INSERT queries")
            total, rows = len(out.files), [[uri] for uri in out.files[start : start + most]]
        elif out.spool is not None:
            # The header is row 0 of the first page.
            total = out.rows + 1
            rows = [[c["Name"] for c in out.columns]] if start == 0 else []
            rows += read_rows(out.spool, max(start - 1, 0), most - len(rows)) if most > len(rows) else []
        else:
            total, rows = len(out.lines), [list(r) for r in out.lines[start : start + most]]
        answer: Json = {
            "ResultSet": {
                "Rows": [{"Data": [{} if v is None else {"VarCharValue": v} for v in r]} for r in rows],
                "ResultSetMetadata": {"ColumnInfo": out.columns},
            }
        }
        if out.update_count is not None:
            answer["UpdateCount"] = out.update_count
        if start + most < total:
            answer["NextToken"] = f"row-{start + most}"
        return answer

    def GetWorkGroup(self, request: Json) -> Json:  # noqa: N802
        group = self._group(request.get("WorkGroup", ""))
        return {
            "WorkGroup": {
                "Name": group.name,
                "State": "ENABLED",
                "Description": "",
                "CreationTime": group.created,
                "Configuration": group.configuration,
            }
        }

    def CreateWorkGroup(self, request: Json) -> Json:  # noqa: N802
        name = str(request.get("Name", ""))
        if name in self.work_groups:
            raise InvalidRequest("WorkGroup is already created")
        configuration: Json = {
            "EnforceWorkGroupConfiguration": False,
            "PublishCloudWatchMetricsEnabled": False,
            "RequesterPaysEnabled": False,
            "ResultConfiguration": {},
            "EngineVersion": {
                "SelectedEngineVersion": "AUTO",
                "EffectiveEngineVersion": "Athena engine version 3",
            },
        }
        # On AWS a new work group enforces its configuration unless it is told not to.
        asked = request.get("Configuration")
        if asked is not None:
            configuration |= {"EnforceWorkGroupConfiguration": True} | asked
        cutoff = configuration.get("BytesScannedCutoffPerQuery")
        if cutoff is not None and cutoff < CUTOFF_MIN:
            raise InvalidRequest(f"BytesScannedCutoffPerQuery must be at least {CUTOFF_MIN}")
        self.work_groups[name] = WorkGroup(name, configuration)
        return {}

    def DeleteWorkGroup(self, request: Json) -> Json:  # noqa: N802
        self.work_groups.pop(self._group(request.get("WorkGroup", "")).name)
        return {}

    def ListWorkGroups(self, request: Json) -> Json:  # noqa: N802
        page, token = _page(sorted(self.work_groups), request, 50)
        groups = [{"Name": n, "State": "ENABLED", "CreationTime": self.work_groups[n].created} for n in page]
        return {"WorkGroups": groups, **token}

    def ListDataCatalogs(self, request: Json) -> Json:  # noqa: N802
        return {"DataCatalogsSummary": [{"CatalogName": "AwsDataCatalog", "Type": "GLUE"}]}

    def GetDataCatalog(self, request: Json) -> Json:  # noqa: N802
        name = str(request.get("Name", ""))
        if name.lower() != "awsdatacatalog":
            raise InvalidRequest(f"DataCatalog {name} was not found")
        return {"DataCatalog": {"Name": "AwsDataCatalog", "Type": "GLUE", "Parameters": {}}}

    def ListDatabases(self, request: Json) -> Json:  # noqa: N802
        pages = self._catalog.glue.get_paginator("get_databases").paginate()
        names = sorted(d["Name"] for page in pages for d in page["DatabaseList"])
        page, token = _page(names, request, 50)
        return {"DatabaseList": [{"Name": n} for n in page], **token}

    def GetDatabase(self, request: Json) -> Json:  # noqa: N802
        name = str(request.get("DatabaseName", ""))
        found = self._glue(self._catalog.glue.get_database, f"Database {name} not found.", Name=name)["Database"]
        return {"Database": {"Name": name, "Parameters": found.get("Parameters", {})}}

    def GetTableMetadata(self, request: Json) -> Json:  # noqa: N802
        database, name = str(request.get("DatabaseName", "")), str(request.get("TableName", ""))
        message = f"EntityNotFoundException: Table {name} not found."
        found = self._glue(self._catalog.glue.get_table, message, DatabaseName=database, Name=name)
        return {"TableMetadata": _table_metadata(found["Table"])}

    def ListTableMetadata(self, request: Json) -> Json:  # noqa: N802
        database, pattern = str(request.get("DatabaseName", "")), request.get("Expression")
        glue = self._catalog.glue
        self._glue(glue.get_database, f"EntityNotFoundException: Database {database} not found.", Name=database)
        pages = glue.get_paginator("get_tables").paginate(DatabaseName=database)
        tables = sorted((t for page in pages for t in page["TableList"]), key=lambda t: str(t["Name"]))
        if pattern:
            tables = [t for t in tables if re.fullmatch(pattern.replace("*", ".*"), t["Name"])]
        page, token = _page(tables, request, 50)
        return {"TableMetadataList": [_table_metadata(t) for t in page], **token}

    def _check_bucket(self, bucket: str) -> None:
        if bucket in self._buckets:
            return
        try:
            self._catalog.s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            raise InvalidRequest(f"Unable to verify/create output bucket {bucket}") from error
        self._buckets.add(bucket)

    def _group(self, name: str) -> WorkGroup:
        if name not in self.work_groups:
            raise InvalidRequest(f"WorkGroup {name} is not found.")
        return self.work_groups[name]

    @staticmethod
    def _glue(call: Callable[..., Json], message: str, **arguments: str) -> Json:
        try:
            return call(**arguments)
        except ClientError as error:
            raise ApiError("MetadataException", message) from error


def _offset(request: Json) -> int:
    token = str(request.get("NextToken", "row-0"))
    if not re.fullmatch(r"row-\d+", token):
        raise InvalidRequest("Invalid token")
    return int(token.removeprefix("row-"))


def _page(items: list[Any], request: Json, most: int) -> tuple[list[Any], Json]:
    start, size = _offset(request), min(int(request.get("MaxResults") or most), most)
    more = {"NextToken": f"row-{start + size}"} if start + size < len(items) else {}
    return items[start : start + size], more


def _table_metadata(table: Json) -> Json:
    described = table.get("StorageDescriptor", {})
    created = table.get("CreateTime")
    parameters = dict(table.get("Parameters", {}))
    extra = {
        "location": described.get("Location", ""),
        "inputformat": described.get("InputFormat", ""),
        "outputformat": described.get("OutputFormat", ""),
        "serde.serialization.lib": described.get("SerdeInfo", {}).get("SerializationLibrary", ""),
    }
    return {
        "Name": table["Name"],
        "CreateTime": created.timestamp() if created is not None else time.time(),
        "TableType": table.get("TableType", "EXTERNAL_TABLE"),
        "Columns": [{k: c[k] for k in ("Name", "Type", "Comment") if k in c} for c in described.get("Columns", [])],
        "PartitionKeys": [
            {k: c[k] for k in ("Name", "Type", "Comment") if k in c} for c in table.get("PartitionKeys", [])
        ],
        "Parameters": {**extra, **parameters},
    }
