"""Fixtures live in fix_<subject>.py, one subject each."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fix_engine", "tests.fix_tables"]

# Shared cores make single examples slow now and then; the fixtures that properties use are made once a session.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("tests")
