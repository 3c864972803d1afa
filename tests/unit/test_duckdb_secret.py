"""DuckDB's credentials for a warehouse in S3: those of now, also after the lock-down, as a role's expire."""

from __future__ import annotations

import io
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flight_server import config, server
from flight_server.config import DuckDB
from flight_server.engines.duckdb import DuckDBEngine
from flight_server.errors import EngineFailed

SQL = "SELECT sum(a) FROM read_parquet('s3://lake/warehouse/a.parquet')"


@dataclass
class Bucket:
    """An S3 that has one object under every name, and notes the key that each request is signed with."""

    content: bytes
    keys: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2, 3]}), sink)
    made = Bucket(sink.getvalue())

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(200, made.content, b"")

        def do_GET(self) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert asked
            body = made.content[int(asked[1]) : int(asked[2]) + 1]
            self._answer(206, body, body)

        def _answer(self, status: int, measured: bytes, body: bytes) -> None:
            found = re.search(r"Credential=(\w+)/", self.headers.get("Authorization", ""))
            made.keys.append(found[1] if found else "")
            self.send_response(status)
            self.send_header("Content-Length", str(len(measured)))
            self.send_header("Last-Modified", "Mon, 05 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        made.address = f"127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield made
        http.shutdown()
        thread.join()


def secret(bucket: Bucket, key: str) -> dict[str, str]:
    endpoint = {"ENDPOINT": bucket.address, "URL_STYLE": "path", "USE_SSL": "false", "REGION": "us-east-1"}
    return {"KEY_ID": key, "SECRET": "s", "SESSION_TOKEN": f"token of {key}", **endpoint}


def test_each_query_is_signed_with_the_credentials_of_now(bucket: Bucket) -> None:
    now = secret(bucket, "FIRST")
    with closing(DuckDBEngine(DuckDB(), ("s3://lake/warehouse",), lambda: now)) as engine:
        engine.describe(SQL)
        assert set(bucket.keys) == {"FIRST"}
        bucket.keys.clear()
        now = secret(bucket, "SECOND")
        engine.describe(SQL)
        assert set(bucket.keys) == {"SECOND"}
        with pytest.raises(EngineFailed, match="disabled by configuration"):
            engine.describe("SELECT * FROM read_parquet('s3://lake/other/a.parquet')")
        with pytest.raises(duckdb.InvalidInputException, match="configuration has been locked"):
            engine._connection.execute("SET enable_external_access = true")


def test_credentials_that_cannot_be_had_are_an_error_until_they_can(bucket: Bucket) -> None:
    trouble: list[EngineFailed] = []

    def now() -> dict[str, str]:
        if trouble:
            raise trouble[0]
        return secret(bucket, "FIRST")

    with closing(DuckDBEngine(DuckDB(), ("s3://lake/warehouse",), now)) as engine:
        trouble.append(EngineFailed("AWS credentials cannot be renewed"))
        with pytest.raises(EngineFailed, match="cannot be renewed"):
            engine.describe(SQL)
        trouble.clear()
        assert engine.describe(SQL)


def test_credentials_of_a_role_are_renewed_before_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, script = tmp_path / "count", tmp_path / "credentials.py"
    ends = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    said = {"Version": 1, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": ends}
    script.write_text(
        f"import json, pathlib\ncount = pathlib.Path({str(count)!r})\n"
        "number = int(count.read_text()) + 1 if count.exists() else 1\ncount.write_text(str(number))\n"
        f"print(json.dumps({{**{said!r}, 'AccessKeyId': f'KEY{{number}}'}}))\n"
    )
    file = tmp_path / "aws"
    file.write_text(f"[default]\nregion = us-east-1\ncredential_process = {sys.executable} {script}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    now = server.duckdb_s3(config.load(None, catalog={"warehouse": "s3://lake/warehouse"}))
    assert now is not None
    first, second = now(), now()
    assert first["KEY_ID"] != second["KEY_ID"]
    assert {**first, "KEY_ID": ""} == {**second, "KEY_ID": ""}
    script.write_text("raise SystemExit(1)")
    with pytest.raises(EngineFailed, match="AWS credentials cannot be renewed"):
        now()


def test_a_local_warehouse_needs_no_credentials() -> None:
    assert server.duckdb_s3(config.load(None)) is None
