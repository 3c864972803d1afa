"""S3 that fails on demand: what a client sees of each fault, and that it is over when it is used up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.fakes.aws import LocalAws

BODY = bytes(range(256)) * 4096


@pytest.fixture
def s3(aws: LocalAws) -> Iterator[Any]:
    """A client that tries once, and an object at `faults/object`."""
    client = boto3.client(
        "s3",
        endpoint_url=aws.s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    client.put_object(Bucket=aws.bucket, Key="faults/object", Body=BODY)
    yield client
    assert client.get_object(Bucket=aws.bucket, Key="faults/object")["Body"].read() == BODY
    client.close()


def read(s3: Any, aws: LocalAws) -> bytes:
    return bytes(s3.get_object(Bucket=aws.bucket, Key="faults/object")["Body"].read())


@pytest.mark.parametrize(
    ("kind", "code"),
    [("slow_down", "SlowDown"), ("expired", "ExpiredToken"), ("denied", "AccessDenied"), ("missing", "NoSuchKey")],
)
def test_errors(s3: Any, aws: LocalAws, kind: str, code: str) -> None:
    aws.s3_faults({"kind": kind, "match": "faults/"})
    with pytest.raises(ClientError) as error:
        read(s3, aws)
    assert error.value.response["Error"]["Code"] == code


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_broken_connections(s3: Any, aws: LocalAws, kind: str) -> None:
    aws.s3_faults({"kind": kind, "match": "faults/object"})
    with pytest.raises((BotoCoreError, OSError)):
        read(s3, aws)


def test_damaged_objects_have_the_right_length(s3: Any, aws: LocalAws) -> None:
    aws.s3_faults({"kind": "corrupt", "match": "faults/object"})
    read_ranged = s3.get_object(Bucket=aws.bucket, Key="faults/object", Range="bytes=0-99999")["Body"].read()
    assert len(read_ranged) == 100_000
    assert read_ranged != BODY[:100_000]


def test_rules_wait_for_what_they_fit(s3: Any, aws: LocalAws) -> None:
    aws.s3_faults({"kind": "denied", "match": "faults/other"}, {"kind": "denied", "method": "PUT", "count": 2})
    assert read(s3, aws) == BODY
    for _ in range(2):
        with pytest.raises(ClientError, match="AccessDenied"):
            s3.put_object(Bucket=aws.bucket, Key="faults/new", Body=b"")
    s3.put_object(Bucket=aws.bucket, Key="faults/new", Body=b"")
