"""A local AWS: moto's S3 and Glue in a process of its own, and the local Athena in this one."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pyiceberg.catalog import Catalog, load_catalog

from tests.fakes.athena import Faults, LocalAthena, Store

REGION = "us-east-1"


@dataclass(frozen=True)
class LocalAws:
    """Endpoints, a bucket, and what to export to reach them. Close it, or use it in a `with`."""

    store: Store
    athena: LocalAthena
    bucket: str
    process: subprocess.Popen[str]

    @property
    def s3_endpoint(self) -> str:
        return self.store.s3_endpoint

    @property
    def glue_endpoint(self) -> str:
        return self.store.glue_endpoint

    @property
    def athena_endpoint(self) -> str:
        return self.athena.endpoint

    @property
    def warehouse(self) -> str:
        return f"s3://{self.bucket}/warehouse"

    @property
    def results(self) -> str:
        """The result location of the `primary` work group."""
        return f"s3://{self.bucket}/results/"

    @property
    def faults(self) -> Faults:
        return self.athena.faults

    @property
    def environment(self) -> dict[str, str]:
        """What a client process needs to find all three. pyarrow's S3FileSystem needs `endpoint_override` besides."""
        return {
            "AWS_ACCESS_KEY_ID": self.store.access_key,
            "AWS_SECRET_ACCESS_KEY": self.store.secret_key,
            "AWS_REGION": self.store.region,
            "AWS_DEFAULT_REGION": self.store.region,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "AWS_ENDPOINT_URL_GLUE": self.glue_endpoint,
            "AWS_ENDPOINT_URL_ATHENA": self.athena_endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def s3_faults(self, *rules: dict[str, Any]) -> None:
        """Replace the rules of `s3_faults.py`; without any, S3 is well again."""
        request = urllib.request.Request(f"{self.s3_endpoint}/_faults", json.dumps(rules).encode())
        with urllib.request.urlopen(request):
            pass

    def client(self, service: str) -> Any:
        """A boto3 client of `s3` or `glue`, or of `athena`."""
        if service != "athena":
            return self.store.client(service)
        return Store(self.s3_endpoint, self.athena_endpoint, self.store.region).client("athena")

    def catalog(self) -> Catalog:
        """pyiceberg's GlueCatalog, as tests load tables with it."""
        return load_catalog("local", type="glue", warehouse=self.warehouse, **self.store.iceberg)

    def close(self) -> None:
        self.athena.close()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> LocalAws:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_aws(bucket: str = "local-lake", moto_port: int = 0, athena_port: int = 0) -> LocalAws:
    """Start all three on free loopback ports and create the bucket."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.moto_process", str(moto_port)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    endpoint = f"http://127.0.0.1:{_port(process.stdout)}"
    store = Store(endpoint, endpoint, REGION)
    store.client("s3").create_bucket(Bucket=bucket)
    athena = LocalAthena(store, f"s3://{bucket}/results/", athena_port)
    return LocalAws(store, athena, bucket, process)


def _port(stdout: IO[str]) -> int:
    line = stdout.readline()
    if not line.strip():
        raise RuntimeError("moto did not start: is moto[server] installed?")
    return int(line)
