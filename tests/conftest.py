"""Fixtures by subject."""

pytest_plugins = ["tests.fix_aws", "tests.fix_lake", "tests.fix_athena"]
