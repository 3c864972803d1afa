"""A small client of the local Athena: run a statement, wait for its end, look at what it left."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import Catalog

from tests.fakes.athena.output import filesystem
from tests.fakes.aws import LocalAws
from tests.lake import DATABASE

_DEADLINE_S = 30.0


@dataclass
class AthenaClient:
    """boto3 over the local Athena. `run` gives the final QueryExecution, whatever its state."""

    aws: LocalAws
    api: Any
    files: pafs.S3FileSystem

    def start(self, sql: str, **request: Any) -> str:
        context = {"Database": DATABASE, "Catalog": "AwsDataCatalog"}
        answer = self.api.start_query_execution(QueryString=sql, QueryExecutionContext=context, **request)
        return str(answer["QueryExecutionId"])

    def execution(self, id_: str) -> dict[str, Any]:
        return dict(self.api.get_query_execution(QueryExecutionId=id_)["QueryExecution"])

    def wait(self, id_: str, *states: str, deadline_s: float = _DEADLINE_S) -> dict[str, Any]:
        """The execution once it is in one of `states` (none named = at its end)."""
        wanted = states or ("SUCCEEDED", "FAILED", "CANCELLED")
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            execution = self.execution(id_)
            if execution["Status"]["State"] in wanted:
                return execution
            time.sleep(0.01)
        raise AssertionError(f"query {id_} is still {execution['Status']}")

    def run(self, sql: str, **request: Any) -> dict[str, Any]:
        return self.wait(self.start(sql, **request))

    def reason(self, sql: str, **request: Any) -> str:
        """Why a statement fails."""
        status = self.run(sql, **request)["Status"]
        assert status["State"] == "FAILED", status
        return str(status["StateChangeReason"])

    def rows(self, sql: str, **request: Any) -> list[list[str | None]]:
        """The rows of a SELECT as text, without the header."""
        execution = self.run(sql, **request)
        assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]
        answer = self.api.get_query_results(QueryExecutionId=execution["QueryExecutionId"])
        found = [[cell.get("VarCharValue") for cell in row["Data"]] for row in answer["ResultSet"]["Rows"]]
        return found[1:] if execution["StatementType"] == "DML" else found

    def one(self, expression: str) -> str | None:
        """The text of one expression."""
        return self.rows(f"SELECT {expression}")[0][0]

    def column(self, expression: str) -> dict[str, Any]:
        """The ColumnInfo of one expression."""
        id_ = self.run(f"SELECT {expression} AS x")["QueryExecutionId"]
        answer = self.api.get_query_results(QueryExecutionId=id_)
        return dict(answer["ResultSet"]["ResultSetMetadata"]["ColumnInfo"][0])

    def unload(self, query: str, prefix: str, options: str = "compression='ZSTD'", **request: Any) -> dict[str, Any]:
        target = f"s3://{self.aws.bucket}/{prefix}/"
        return self.run(f"UNLOAD ({query}) TO '{target}' WITH (format='PARQUET', {options})", **request)

    def manifest(self, execution: dict[str, Any]) -> list[str]:
        return self.text(execution["Statistics"]["DataManifestLocation"]).split()

    def text(self, uri: str) -> str:
        with self.files.open_input_stream(uri.removeprefix("s3://")) as stream:
            return str(stream.read().decode())

    def parts(self, uris: list[str]) -> list[pa.Table]:
        return [
            pq.read_table(u.removeprefix("s3://"), filesystem=self.files, coerce_int96_timestamp_unit="us")
            for u in uris
        ]

    def listed(self, prefix: str) -> list[str]:
        found = self.files.get_file_info(
            pafs.FileSelector(f"{self.aws.bucket}/{prefix}", recursive=True, allow_not_found=True)
        )
        return sorted(f"s3://{f.path}" for f in found if f.type == pafs.FileType.File)


@pytest.fixture
def athena(aws: LocalAws, lake: Catalog) -> AthenaClient:
    """A client whose default database has the tables of fix_lake; knobs are at rest."""
    return AthenaClient(aws, aws.client("athena"), filesystem(aws.store))
