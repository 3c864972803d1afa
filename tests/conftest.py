"""Fixtures live in fix_<subject>.py, one subject each, and are found by their names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from flight_server import telemetry
from tests import maven

pytest_plugins = sorted(f"tests.{path.stem}" for path in Path(__file__).parent.glob("fix_*.py"))
# Fixtures import one another: all must be known before the first is imported.
pytest.register_assert_rewrite(*pytest_plugins)

# Shared cores make single examples slow now and then; the fixtures that properties use are made once a session.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("tests")

# Tests read standard output; the log has its place on standard error, and only what is wrong is worth it there.
telemetry.configure("console", "warning")


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """`serve`, where a test runs it in this process, configures the log for all tests after it."""
    yield
    telemetry.configure("console", "warning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the local AWS, which takes as long as all the rest: `make test-aws` runs it, `make test` not."""
    for item in items:
        if "aws_session" in getattr(item, "fixturenames", ()) or item.path.name in _OWN_AWS:
            item.add_marker(pytest.mark.aws)
        if _built_by_maven(item):
            # On a fresh machine it is the first of them that waits for Maven's downloads.
            item.add_marker(pytest.mark.timeout(600))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Not in the fixtures: pytest would say it for each of their tests, and start servers before it comes to them."""
    if _built_by_maven(item):
        maven.needed()


def _built_by_maven(item: pytest.Item) -> bool:
    return not {"java_client", "jdbc_program"}.isdisjoint(getattr(item, "fixturenames", ()))


# These start one of their own.
_OWN_AWS = ("test_local_aws_command.py",)
