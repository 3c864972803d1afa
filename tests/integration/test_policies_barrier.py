"""Queries that fail at hidden rows: they do not, and where they fail the engine's reason is withheld."""

from __future__ import annotations

import pytest

from flight_server.errors import EngineFailed
from tests.fix_identity import POLICIES, Desk
from tests.policies import ALICE, RISK, only


def test_an_engines_reason_is_withheld_where_policies_hold(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    sql = "SELECT CAST(n.desk AS INTEGER) AS x FROM p.nav AS n"
    with pytest.raises(EngineFailed, match="desk"):
        desk.ask(sql, "x int32", RISK)
    with pytest.raises(EngineFailed) as caught:
        desk.ask(sql, "x int32", ALICE, only("port_id IN (:caller.portfolios)"))
    assert "desk" not in caught.value.message


FAILING = [
    "chr(CASE WHEN n.port_id > 2 THEN -1 ELSE 65 END) <> 'q'",
    "cardinality(filter(ARRAY[2], x -> x * (CASE WHEN n.value > 300 THEN 9223372036854775807 ELSE 1 END) > 0)) < 9",
]
ODD_FILTER = POLICIES.replace("port_id IN (:caller.portfolios)", "port_id IN (:caller.portfolios) OR lower(desk) = 'x'")


@pytest.mark.parametrize("term", FAILING)
@pytest.mark.parametrize(
    "around",
    [
        "SELECT n.port_id FROM p.nav AS n WHERE {term}",
        "SELECT n.port_id FROM p.nav AS n WHERE n.port_id > 0 AND {term} AND n.trade_date >= DATE '2024-01-02'",
        "SELECT s.port_id FROM (SELECT n.port_id, {term} AS k FROM p.nav AS n) AS s WHERE s.k",
        "WITH w AS (SELECT value, port_id FROM p.nav) SELECT n.port_id FROM w AS n JOIN p.nav AS m ON m.port_id = n.port_id AND {term}",
    ],
)
def test_a_term_that_fails_at_hidden_rows_only_does_not_fail(desk: Desk, around: str, term: str) -> None:
    columns, sql = "port_id int32", around.format(term=term)
    with pytest.raises(EngineFailed):
        desk.ask(sql, columns, RISK, ODD_FILTER)
    assert set(desk.ask(sql, columns, ALICE, ODD_FILTER)) == {1, 2}


@pytest.mark.parametrize(
    ("where", "needed"),
    [
        ("n.value > 150", False),
        ("n.port_id IN (1, 2) OR n.desk LIKE 'd%' AND n.desk IS NOT NULL", False),
        ("n.trade_date >= DATE '2024-01-02' AND lower(n.desk) = 'x' AND coalesce(n.desk, 'y') <> 'z'", False),
        ("n.value > 1 + 2", False),
        ("n.port_id = 1.5", False),
        ("n.port_id = 1.50000000000000000000000000001", True),
        ("n.port_id + 1 > 2", True),
        ("CAST(n.desk AS INTEGER) = 1", True),
        ("CASE n.port_id WHEN 1 THEN TRUE END", True),
        ("n.desk = n.port_id", True),
        ("n.desk LIKE n.desk", True),
        ("EXISTS (SELECT 1 FROM p.nav AS m WHERE m.value / 2 > n.value)", True),
    ],
)
def test_only_what_can_fail_costs_a_barrier(desk: Desk, where: str, needed: bool) -> None:
    plan = desk.plan(f"SELECT n.port_id FROM p.nav AS n WHERE {where}", "port_id int32", ALICE)
    assert ("$admitted" in plan.sql) is needed


def test_plain_terms_are_repeated_within_a_barrier_for_the_engine_to_skip_files(desk: Desk) -> None:
    where = "n.trade_date >= DATE '2024-01-03' AND n.port_id + 1 > 0 AND n.desk = 'desk1' AND n.value IS NULL"
    plan = desk.plan(f"SELECT n.port_id FROM p.nav AS n WHERE {where}", "port_id int32", ALICE)
    inner = plan.bound_sql.partition('AS "$admitted" FROM')[2].partition(') AS "n"')[0]
    # Not the one about a masked column, nor one that holds for a null.
    assert inner.endswith("""WHERE ("n"."trade_date" >= CAST('2024-01-03' AS DATE))""")


def test_what_a_caller_is_told_does_not_tell_of_terms_within_a_barrier(desk: Desk) -> None:
    told = {
        desk.plan(
            f"SELECT n.port_id FROM p.nav AS n WHERE n.value + 1 > 0 AND n.port_id = {port}", "port_id int32", ALICE
        ).told
        for port in (1, 3, 99)
    }
    assert len(told) == 1
