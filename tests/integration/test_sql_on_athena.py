"""Statements answered by Athena: the same rows, types and order as DuckDB gives, from stored and merged parts."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from flight_server.errors import ContractViolated
from flight_server.model import ANONYMOUS, Plan, Request
from tests.fix_served import IDS, LOOSE, Lab, Labs

STATEMENTS = [
    "SELECT * FROM ids(first => 590)",
    "SELECT price FROM ids(590)",
    "SELECT price FROM ids(580) WHERE id <> 595 LIMIT 7",
    "SELECT id FROM loose(580) ORDER BY price DESC",
    "SELECT p.ticker AS t, count(*), sum(p.price), avg(p.amount) FROM lake.prices AS p GROUP BY p.ticker ORDER BY sum(p.id)",
    "SELECT a.id, b.id FROM ids(596) AS a JOIN loose(597) AS b ON a.id = b.id ORDER BY a.id",
    "WITH c AS (SELECT id FROM ids(595)) SELECT id FROM c UNION ALL SELECT id FROM c ORDER BY id DESC",
    "SELECT id, tags, counts, ts, amount FROM lake.prices ORDER BY id LIMIT 3",
    "SELECT DISTINCT ticker FROM lake.prices ORDER BY ticker",
    "SELECT * FROM lake.values_ ORDER BY id",
    "SELECT * FROM lake.nothing",
    "SELECT 1 AS x, 'a' AS y, DATE '2024-02-29' AS z, TIMESTAMP '2024-02-29 10:11:12.123456' AS t",
]


@pytest.fixture(scope="module")
def sql_lab(lab_session: Lab, aws_session: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Both engines over the tables of fix_lake; SQL may name them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in aws_session.environment.items():  # type: ignore[attr-defined]
            patch.setenv(name, value)
        labs = Labs(aws_session, tmp_path_factory.mktemp("sql"))  # type: ignore[arg-type]
        yield labs.open({"ids": IDS, "loose": LOOSE}, sql={"ad_hoc_roles": ("*",)})
        for lab in labs.opened:
            lab.close()


def plan(lab: Lab, sql: str, engine: str) -> Plan:
    return lab.pipeline.plan(Request("", sql=sql, engine=engine), ANONYMOUS)


def ask(lab: Lab, sql: str, engine: str) -> pa.Table:
    return lab.collect(plan(lab, sql, engine))


@pytest.mark.parametrize("sql", STATEMENTS)
def test_both_engines_give_the_same_table(sql_lab: Lab, sql: str) -> None:
    there, here = ask(sql_lab, sql, "athena"), ask(sql_lab, sql, "duckdb")
    assert there.schema == here.schema
    if "ORDER BY" in sql or "ids(" in sql:
        assert there.to_pylist() == here.to_pylist()
    else:
        assert sorted(map(repr, there.to_pylist())) == sorted(map(repr, here.to_pylist()))
    assert here.num_rows > 0 or "nothing" in sql


def test_an_equal_statement_is_answered_from_the_store(sql_lab: Lab) -> None:
    sql = "SELECT max(price) AS top FROM ids(10)"
    assert plan(sql_lab, sql, "athena").cache == "miss"
    first = ask(sql_lab, sql, "athena")
    again = plan(sql_lab, "select MAX( price ) as top  from ids( first => 10 ) -- the same", "athena")
    assert again.cache == "hit"
    assert sql_lab.collect(again) == first


def test_values_that_do_not_fit_the_promise_are_an_error(sql_lab: Lab) -> None:
    with pytest.raises(ContractViolated):
        ask(sql_lab, "SELECT sum(9223372036854775807 + id * 0) AS x FROM ids(590)", "duckdb")
