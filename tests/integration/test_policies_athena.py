"""Row filters and masks on Athena, where results are stored: a stored result is never another caller's."""

from __future__ import annotations

import pyarrow as pa
import pytest

from flight_server.model import Caller, Plan, Request
from tests.fakes.aws import LocalAws
from tests.fix_served import POLICIES, Lab, Labs, dataset
from tests.lake import ROWS

ROWS_SQL = "SELECT p.id, p.ticker, p.price FROM lake.prices AS p WHERE p.id >= 0"
COLUMNS = {"id": "int64", "ticker": "string", "price": "float64"}
APPLE = Caller("a", claims={"tickers": ("AAPL",)})
SOFT = Caller("m", claims={"tickers": ("MSFT",)})
BOTH = Caller("both", claims={"tickers": ("AAPL", "MSFT")})
RISK = Caller("r", frozenset({"risk"}))
NOBODY = Caller("n")


@pytest.fixture
def policed_lab(labs: Labs) -> Lab:
    found = labs.configure(
        {
            "rows": dataset(COLUMNS, ROWS_SQL),
            "halves": dataset({"half": "int64"}, "SELECT p.id / 2 AS half FROM lake.prices AS p WHERE p.id < 8"),
            "sixths": dataset(
                {"id": "int64"},
                "SELECT s.id FROM (SELECT p.id, p.id / 6 AS k FROM lake.prices AS p WHERE p.id < 8) AS s WHERE s.k = 1",
            ),
            "versions": dataset(
                {"id": "int64"}, "WITH prices AS (SELECT p.id FROM lake.prices AS p) SELECT id FROM prices"
            ),
        }
    )
    (found.datasets.directory / "policies.toml").write_text(POLICIES)
    return labs.open_again(found)


def plan(lab: Lab, who: Caller, engine: str = "athena", name: str = "rows") -> Plan:
    # As a ticket's engine is: naming one is for operators.
    return lab.pipeline.plan(Request(name, engine=None, issued_engine=engine), who)


def tickers(table: pa.Table) -> set[str]:
    return {str(each) for each in table.column("ticker").to_pylist()}


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
def test_each_caller_sees_its_rows_on_both_engines(policed_lab: Lab, engine: str) -> None:
    seen = {who.name: policed_lab.collect(plan(policed_lab, who, engine)) for who in (APPLE, SOFT, BOTH, RISK, NOBODY)}
    assert {name: table.num_rows for name, table in seen.items()} == {
        "a": ROWS // 2,
        "m": ROWS // 2,
        "both": ROWS,
        "r": ROWS,
        "n": 0,
    }
    assert [tickers(seen["a"]), tickers(seen["m"])] == [{"AAPL"}, {"MSFT"}]
    assert seen["a"].column("price").null_count == ROWS // 2 - 5
    assert seen["r"].column("price").null_count == 0


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
def test_arithmetic_is_the_same_under_a_policy(policed_lab: Lab, engine: str) -> None:
    for who in (BOTH, RISK):
        table = policed_lab.collect(plan(policed_lab, who, engine, "halves"))
        assert sorted(table.column("half").to_pylist()) == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("engine", ["athena", "duckdb"])
def test_a_term_that_can_fail_gives_the_same_behind_its_barrier(policed_lab: Lab, engine: str) -> None:
    found = {who.name: plan(policed_lab, who, engine, "sixths") for who in (APPLE, BOTH, RISK)}
    assert ["$admitted" in each.sql for each in found.values()] == [True, True, False]
    rows = {name: sorted(policed_lab.collect(each).column("id").to_pylist()) for name, each in found.items()}
    assert rows["both"] == rows["r"] == [6, 7]
    assert len(rows["a"]) == 1


def test_a_stored_result_is_only_for_callers_with_the_same_policy_values(policed_lab: Lab, aws: LocalAws) -> None:
    def started() -> int:
        return int(aws.athena.state()["started"])

    before = started()
    policed_lab.collect(plan(policed_lab, APPLE))
    assert started() == before + 1
    twin = Caller("twin", frozenset({"other"}), {"tickers": ("AAPL",), "desk": "x"})
    for who in (APPLE, twin):
        again = plan(policed_lab, who)
        assert again.cache == "hit"
        assert tickers(policed_lab.collect(again)) == {"AAPL"}
    assert started() == before + 1
    for who in (SOFT, BOTH, RISK, NOBODY):
        other = plan(policed_lab, who)
        assert other.cache == "miss"
        stored = policed_lab.pipeline.stored(other)
        assert stored is None
        policed_lab.collect(other)
    assert started() == before + 5
    assert plan(policed_lab, SOFT).cache == "hit"
    assert tickers(policed_lab.collect(plan(policed_lab, SOFT))) == {"MSFT"}


def test_the_sql_for_athena_has_the_filter_at_the_pinned_snapshot(policed_lab: Lab) -> None:
    sql = plan(policed_lab, APPLE).sql
    assert '"lake"."prices" FOR VERSION AS OF' in sql
    assert """WHERE ("p"."ticker" IN ('AAPL'))""" in sql
    assert "FALSE" in plan(policed_lab, NOBODY).sql.upper()


def test_a_cte_named_like_the_table_does_not_hide_it(policed_lab: Lab) -> None:
    assert policed_lab.collect(plan(policed_lab, APPLE, name="versions")).num_rows == ROWS // 2
    assert policed_lab.collect(plan(policed_lab, NOBODY, name="versions")).num_rows == 0
