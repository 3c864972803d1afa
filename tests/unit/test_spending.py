"""What callers have spent: charged before a query runs, mended after it, kept over a restart, new every day."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest

from flight_server.config import Budget
from flight_server.errors import ConfigError, Denied, ServerError, Unavailable
from flight_server.model import Caller, Estimate, ExecutionStats, Plan
from flight_server.pipeline import Pipeline
from flight_server.service.spending import Spending
from tests.fix_identity import Desk

ALICE, BOB = Caller("alice", frozenset({"pm"})), Caller("bob", frozenset({"pm", "batch"}))


@pytest.fixture
def plan(desk: Desk) -> Plan:
    """A plan for Athena that is estimated at one dollar."""
    assert isinstance(desk.pipeline, Pipeline)
    found = desk.plan("SELECT n.port_id FROM p.nav AS n", "port_id int32", ALICE)
    return replace(found, engine="athena", cache="miss", estimate=Estimate(1, 1, 1.0), told=Estimate(1, 1, 1.0))


def spending(today: date = date(2026, 11, 26), **budget: Any) -> Spending:
    return Spending(Budget(**budget), lambda: today)


def test_a_query_is_charged_before_it_runs_and_mended_after(plan: Plan) -> None:
    found = spending(usd_per_day=1.5)
    charge = found.reserve(ALICE, plan)
    assert found.spent(ALICE) == 1.0
    with pytest.raises(Denied) as error:
        found.reserve(ALICE, plan)
    assert str(error.value) == (
        "[budget-spent] alice has spent $1.0000 of $1.5000 today, and this query would cost about $1.0000; "
        "ask for less, or again after 2026-11-27T00:00:00Z, when the budget starts anew"
    )
    charge.settle(ExecutionStats("q", 5, 0.25))
    assert found.spent(ALICE) == 0.25
    charge.settle(ExecutionStats("q", 5, 0.25))
    assert found.spent(ALICE) == 0.25
    found.reserve(ALICE, plan)
    found.close()


def test_what_a_stopped_query_had_scanned_is_charged_as_estimated(plan: Plan) -> None:
    found = spending(usd_per_day=1.5)
    found.reserve(ALICE, plan).settle(ExecutionStats("q", stopped=True))
    assert found.spent(ALICE) == 1.0
    found.close()


def test_one_callers_spending_is_not_anothers(plan: Plan) -> None:
    found = spending(usd_per_day=1.0)
    found.reserve(ALICE, plan)
    found.reserve(BOB, plan)
    with pytest.raises(Denied):
        found.reserve(BOB, plan)
    found.close()


@pytest.mark.parametrize(("engine", "cache"), [("duckdb", "off"), ("athena", "hit")])
def test_what_costs_nothing_is_answered_without_a_budget(
    plan: Plan, engine: Literal["duckdb", "athena"], cache: Literal["off", "hit"]
) -> None:
    found = spending(usd_per_day=0.0)
    found.reserve(ALICE, replace(plan, engine=engine, cache=cache)).settle(ExecutionStats())
    with pytest.raises(Denied):
        found.reserve(ALICE, plan)
    found.close()


@pytest.mark.parametrize(
    ("budget", "alice", "bob"),
    [
        ({}, None, None),
        ({"usd_per_day": 2.0}, 2.0, 2.0),
        ({"usd_per_day": 2.0, "roles": {"pm": 5.0, "batch": 9.0}}, 5.0, 9.0),
        ({"usd_per_day": 2.0, "roles": {"batch": 1.0}}, 2.0, 1.0),
        ({"roles": {"pm": 5.0, "batch": float("inf")}, "callers": {"bob": 0.5}}, 5.0, 0.5),
    ],
)
def test_the_name_holds_before_the_roles_and_they_before_the_rest(
    budget: dict[str, Any], alice: float | None, bob: float | None
) -> None:
    found = spending(**budget)
    assert (found.limit(ALICE), found.limit(BOB)) == (alice, bob)
    found.close()


def test_a_restart_remembers_and_midnight_forgets(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "spent.db"
    # Not closed, as after kill -9: what was running stays charged as estimated.
    spending(usd_per_day=1.0, file=file).reserve(ALICE, plan)
    again = spending(usd_per_day=1.0, file=file)
    with pytest.raises(Denied):
        again.reserve(ALICE, plan)
    again.close()
    tomorrow = spending(date(2026, 11, 27), usd_per_day=1.0, file=file)
    late = tomorrow.reserve(ALICE, plan)
    assert tomorrow.spent(ALICE) == 1.0
    late.settle(ExecutionStats("q", 1, 0.5))
    assert tomorrow.spent(ALICE) == 0.5
    tomorrow.close()


def test_many_at_once_do_not_overdraw_together_also_from_two_servers(plan: Plan, tmp_path: Path) -> None:
    both = [spending(usd_per_day=10.0, file=tmp_path / "spent.db") for _ in range(2)]

    def ask(number: int) -> bool:
        try:
            both[number % 2].reserve(ALICE, plan)
        except Denied:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(40))) == 10
    for each in both:
        assert each.spent(ALICE) == 10.0
        each.close()


def test_a_file_that_cannot_be_used_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "spent.db").write_text("no database, but long enough to be taken for one at first sight")
    with pytest.raises(ConfigError, match=r"setting 'budget.file'"):
        spending(file=tmp_path / "spent.db")
    with pytest.raises(ConfigError, match=r"setting 'budget.file'"):
        spending(file=tmp_path / "missing" / "spent.db")


def test_a_stored_result_that_had_to_be_made_again_is_charged(plan: Plan) -> None:
    found = spending(usd_per_day=1.5)
    found.reserve(ALICE, replace(plan, cache="hit")).settle(ExecutionStats("q", 5, 0.75))
    assert found.spent(ALICE) == 0.75
    assert [(each.caller, each.left_usd) for each in found.accounts()] == [("alice", 0.75)]
    with pytest.raises(Denied):
        found.reserve(ALICE, plan)
    found.close()


def test_a_file_that_another_writes_to_is_busy_and_then_is_not(plan: Plan, tmp_path: Path) -> None:
    found = spending(usd_per_day=1.0, busy_s=0.05, file=tmp_path / "spent.db")
    with closing(sqlite3.connect(tmp_path / "spent.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match=r"\[busy\] what was spent is being written by another server"):
            found.reserve(ALICE, plan)
        other.execute("ROLLBACK")
        charge = found.reserve(ALICE, plan)
        other.execute("BEGIN IMMEDIATE")
        charge.settle(ExecutionStats("q", 5, 0.25))
        # Not written, and counted all the same.
        assert found.spent(ALICE) == 0.25
        other.execute("ROLLBACK")
        assert other.execute("SELECT usd FROM spent").fetchall() == [(1.0,)]
        with pytest.raises(Denied):
            found.reserve(ALICE, replace(plan, estimate=Estimate(1, 1, 0.76)))
        assert other.execute("SELECT usd FROM spent").fetchall() == [(0.25,)]
    found.close()


def test_a_stored_result_that_is_made_again_while_the_file_is_busy_is_charged_later(
    plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = spending(usd_per_day=1.0, busy_s=0.05, file=tmp_path / "spent.db")
    with closing(sqlite3.connect(tmp_path / "spent.db", isolation_level=None)) as other:
        stored = [found.reserve(who, replace(plan, cache="hit")) for who in (ALICE, BOB)]
        other.execute("BEGIN IMMEDIATE")
        for each in stored:
            each.settle(ExecutionStats("q", 5, 0.75))
        assert (found.spent(ALICE), found.spent(BOB)) == (0.75, 0.75)
        assert [account and account.left_usd for account in (found.account(ALICE), found.account(BOB))] == [0.25, 0.25]
        other.execute("ROLLBACK")
        # Whoever is written next.
        found.reserve(BOB, replace(plan, estimate=Estimate(1, 1, 0.25)))
        assert other.execute("SELECT caller, usd FROM spent ORDER BY caller").fetchall() == [
            ("alice", 0.75),
            ("bob", 1.0),
        ]
        assert "charges_wait" in capfd.readouterr().err
        late = found.reserve(ALICE, replace(plan, cache="hit"))
        other.execute("BEGIN IMMEDIATE")
        late.settle(ExecutionStats("q", 5, 0.125))
        other.execute("ROLLBACK")
        # Or at the end, where nobody comes.
        found.close()
        assert other.execute("SELECT usd FROM spent WHERE caller = 'alice'").fetchall() == [(0.875,)]
        assert "charges_lost" not in capfd.readouterr().err


def test_what_cannot_be_written_to_the_end_is_told(
    plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = spending(usd_per_day=1.0, busy_s=0.05, file=tmp_path / "spent.db")
    charge = found.reserve(ALICE, replace(plan, cache="hit"))
    with closing(sqlite3.connect(tmp_path / "spent.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        charge.settle(ExecutionStats("q", 5, 0.75))
        found.close()
        other.execute("ROLLBACK")
        assert other.execute("SELECT usd FROM spent").fetchall() == []
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "charges_lost" in line]
    assert "callers=1" in line
    assert "usd=0.75" in line


def test_an_account_has_what_is_left_and_starts_anew_at_midnight(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "spent.db"
    found = spending(usd_per_day=1.5, callers={"bob": 0.5, "eve": float("inf")}, file=file)
    found.reserve(ALICE, plan)
    with pytest.raises(Denied):
        found.reserve(BOB, plan)
    found.reserve(Caller("eve"), plan)
    account = found.account(ALICE)
    assert account is not None
    assert account.json() == {"usd_per_day": 1.5, "spent_usd": 1.0, "left_usd": 0.5, "renews": "2026-11-27T00:00:00Z"}
    eve = found.account(Caller("eve"))
    assert eve is not None
    assert (eve.json()["usd_per_day"], eve.json()["spent_usd"], eve.json()["left_usd"]) == (None, 1.0, None)
    # Of all, those who were refused included, also for another server with the same file.
    with closing(spending(usd_per_day=9.0, file=file)) as other:
        accounts = {each.caller: (each.usd_per_day, each.spent_usd) for each in other.accounts()}
    assert accounts == {"alice": (1.5, 1.0), "bob": (0.5, 0.0), "eve": (float("inf"), 1.0)}
    found.close()
    tomorrow = spending(date(2026, 11, 27), usd_per_day=1.5, file=file)
    assert (tomorrow.accounts(), tomorrow.spent(ALICE)) == ([], 0.0)
    tomorrow.close()
    nothing = spending()
    assert nothing.account(ALICE) is None
    nothing.close()


def test_a_refusal_tells_the_estimate_that_the_caller_is_told_of(plan: Plan) -> None:
    found = spending(usd_per_day=0.5)
    # Of whom rows are hidden: the real one follows those too.
    with pytest.raises(Denied, match=r"would cost about \$3\.0000"):
        found.reserve(ALICE, replace(plan, told=Estimate(3, 3, 3.0)))
    found.close()


def test_a_write_that_fails_leaves_the_file_free_and_as_it_was(plan: Plan, tmp_path: Path) -> None:
    found = spending(usd_per_day=9.0, file=tmp_path / "spent.db")
    found.reserve(ALICE, plan)
    with closing(sqlite3.connect(tmp_path / "spent.db", timeout=0, isolation_level=None)) as other:
        # As on a disk that is full: what was written before it in the same transaction must not stay.
        other.execute("CREATE TRIGGER full BEFORE UPDATE ON spent BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
        other.execute("INSERT INTO spent VALUES ('2026-11-25', 'alice', 1)")
        with pytest.raises(ServerError, match="cannot be read or written: disk is full"):
            found.reserve(ALICE, plan)
        assert other.execute("SELECT day, usd FROM spent ORDER BY day").fetchall() == [
            ("2026-11-25", 1.0),
            ("2026-11-26", 1.0),
        ]
        other.execute("DROP TRIGGER full")
    found.reserve(ALICE, plan)
    assert found.spent(ALICE) == 2.0
    found.close()
