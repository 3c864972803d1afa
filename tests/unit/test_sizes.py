"""What a few words of a query can make large ends in an error of the query, and not of the process."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import exp

from flight_server.errors import EngineFailed, InvalidRequest
from flight_server.plan import allowed, dialect, sizes
from tests.fix_engine import Run


def duckdb(sql: str) -> str:
    tree = sqlglot.parse_one(sql, read="athena")
    assert isinstance(tree, exp.Query)
    return dialect.to_duckdb(tree, {}, {})


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("length(lpad('x', 32767, 'y'))", 32767),
        ("length(rpad('x', 3, 'y'))", 3),
        ("cardinality(sequence(1, 100000))", 100_000),
        ("cardinality(sequence(5, 1, -1))", 5),
        ("cardinality(sequence(0, 10000000, 1000))", 10_001),
        ("cardinality(sequence(DATE '2000-01-01', DATE '2024-01-01', INTERVAL '1' DAY))", 8767),
        (
            "cardinality(sequence(TIMESTAMP '2024-01-01 00:00:00', TIMESTAMP '2024-01-01 01:00:00', INTERVAL '1' MINUTE))",
            61,
        ),
    ],
)
def test_what_is_within_the_bounds_is_as_it_was(run: Run, expression: str, count: int) -> None:
    assert run(duckdb(f"SELECT {expression} AS n")) == [(count,)]


@pytest.mark.parametrize(
    "expression",
    [
        "length(lpad('x', 32768, 'y'))",
        "length(rpad('x', 2000000000, 'y'))",
        "length(lpad(lpad('x', 9, 'y'), length(rpad('x', 40000, 'y')), 'y'))",
        "cardinality(sequence(1, 100001))",
        "cardinality(sequence(-9000000000000000000, 9000000000000000000))",
        "cardinality(sequence(9000000000000000000, -9000000000000000000, -1))",
        "cardinality(sequence(DATE '0001-01-01', DATE '9999-12-31', INTERVAL '1' DAY))",
        "cardinality(sequence(TIMESTAMP '2000-01-01 00:00:00', TIMESTAMP '2024-01-01 00:00:00', INTERVAL '1' SECOND))",
        "(SELECT max(cardinality(sequence(1, n))) FROM (VALUES (2), (200000)) AS t(n))",
    ],
)
def test_what_is_beyond_them_is_an_error(run: Run, expression: str) -> None:
    with pytest.raises(EngineFailed, match=f"{sizes.SEQUENCE_MAX:,}|out of range"):
        run(duckdb(f"SELECT {expression} AS n"))


def test_a_nest_does_not_double_with_each_level() -> None:
    nested = "3"
    for _ in range(12):
        nested = f"length(lpad('x', {nested}, 'y'))"
    assert len(duckdb(f"SELECT {nested} AS n")) < 2000
    with pytest.raises(InvalidRequest, match="sequence in the bounds"):
        duckdb("SELECT sequence(1, cardinality(sequence(1, 2))) AS n")


def test_repeat_means_something_else_to_each_engine_and_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"repeat\(\) is not allowed"):
        allowed.check(sqlglot.parse_one("SELECT repeat('x', 3) AS n", read="athena"))  # type: ignore[arg-type]
