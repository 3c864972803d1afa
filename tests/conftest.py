"""Fixtures live in fix_<subject>.py, one subject each."""

pytest_plugins = ["tests.fix_tables"]
