"""Fixtures live in fix_<subject>.py, one subject each."""

pytest_plugins = [
    "tests.fix_tables",
    "tests.fix_aws",
    "tests.fix_lake",
    "tests.fix_athena",
    "tests.fix_served",
]
