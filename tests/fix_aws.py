"""Fixtures of the local AWS: one for the session, knobs reset for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.aws import LocalAws, start_aws


@pytest.fixture(scope="session")
def aws_session() -> Iterator[LocalAws]:
    with start_aws() as aws:
        yield aws


@pytest.fixture
def aws(aws_session: LocalAws) -> Iterator[LocalAws]:
    """The session's local AWS with all fault knobs at rest and no query running."""
    aws_session.faults.update({"reset": True})
    yield aws_session
    # One that is left would count in the next test's quota, and run for as long as that test's knobs say.
    aws_session.athena.settle()
    aws_session.faults.update({"reset": True})
    aws_session.s3_faults()


@pytest.fixture
def aws_environment(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> LocalAws:
    """The same, with the environment of this process pointing at it."""
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    return aws
