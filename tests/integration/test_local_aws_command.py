"""`python -m tests.fakes.athena`, as somebody uses it to try things out and as measurements start it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import boto3

from tests.fakes.aws_process import start_aws_process

TABLES = """
import pyarrow as pa

def load(catalog, aws):
    print("# a loader may say what it does")
    catalog.create_namespace("tried")
    rows = pa.table({"id": [1, 2, 3]})
    catalog.create_table("tried.out", rows.schema, location=aws.warehouse + "/tried").append(rows)
"""


def test_the_command_loads_tables_prints_the_environment_and_stops(tmp_path: Path) -> None:
    file = tmp_path / "tables.py"
    file.write_text(TABLES)
    with start_aws_process(["--load", str(file)]) as aws:
        athena = boto3.client(
            "athena",
            endpoint_url=aws.environment["AWS_ENDPOINT_URL_ATHENA"],
            region_name=aws.environment["AWS_REGION"],
            aws_access_key_id=aws.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=aws.environment["AWS_SECRET_ACCESS_KEY"],
        )
        aws.set_faults(queued_s=0.01)
        id_ = athena.start_query_execution(QueryString="SELECT sum(id) AS s FROM tried.out")["QueryExecutionId"]
        while not aws.state()["succeeded"]:
            assert not aws.state()["failed"]
            time.sleep(0.02)
        rows = athena.get_query_results(QueryExecutionId=id_)["ResultSet"]["Rows"]
        assert [row["Data"][0]["VarCharValue"] for row in rows] == ["s", "6"]
        aws.process.send_signal(signal.SIGTERM)
        assert aws.process.wait(20) == 0
