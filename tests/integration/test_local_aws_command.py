"""`python -m tests.fakes.athena`, as somebody uses it to try things out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import boto3

TABLES = """
import pyarrow as pa

def load(catalog, aws):
    catalog.create_namespace("tried")
    rows = pa.table({"id": [1, 2, 3]})
    catalog.create_table("tried.out", rows.schema, location=aws.warehouse + "/tried").append(rows)
"""


def test_the_command_loads_tables_prints_the_environment_and_stops(tmp_path: Path) -> None:
    file = tmp_path / "tables.py"
    file.write_text(TABLES)
    command = [sys.executable, "-m", "tests.fakes.athena", "--load", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        exported = {}
        for line in process.stdout:
            if line.startswith("#"):
                break
            name, _, value = line.removeprefix("export ").strip().partition("=")
            exported[name] = value
        athena = boto3.client(
            "athena",
            endpoint_url=exported["AWS_ENDPOINT_URL_ATHENA"],
            region_name=exported["AWS_REGION"],
            aws_access_key_id=exported["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=exported["AWS_SECRET_ACCESS_KEY"],
        )
        id_ = athena.start_query_execution(QueryString="SELECT sum(id) AS s FROM tried.out")["QueryExecutionId"]
        while athena.get_query_execution(QueryExecutionId=id_)["QueryExecution"]["Status"]["State"] in (
            "QUEUED",
            "RUNNING",
        ):
            pass
        rows = athena.get_query_results(QueryExecutionId=id_)["ResultSet"]["Rows"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert [row["Data"][0]["VarCharValue"] for row in rows] == ["s", "6"]
