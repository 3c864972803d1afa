"""Dollars a day over a server with Athena: what is charged, to whom, when it is refused, and after a restart."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import pytest

from flight_server import server as composition
from flight_server.config import Config
from flight_server.engines.athena.engine import AthenaEngine
from flight_server.model import ANONYMOUS, Caller
from flight_server.server import Server
from flight_server.service.submissions import Submissions
from tests.fakes.aws import LocalAws
from tests.fix_identity import STATIC, Client, code_of, digest
from tests.fix_served import IDS, Labs, in_background
from tests.fix_server import connect
from tests.lake import ROWS
from tests.waiting import until

ALICE = Caller("alice")
# Athena bills 10 MB at least: half a dollar for each of these small queries.
COST = {"usd_per_tb": 50_000.0}
HALF = 0.5
Open = Callable[..., Server]


@pytest.fixture
def opened(labs: Labs, tmp_path: Path) -> Iterator[Open]:
    """Servers over the dataset `ids`, each with the settings of the first but for what is said."""
    running: list[Server] = []
    tokens = tmp_path / "tokens.toml"
    # dave is the operator.
    callers = {"alice": "pm", "bob": "pm", "dave": "operator"}
    tokens.write_text(
        "".join(
            f'[[token]]\nname = "{n}"\nsha256 = "{digest(STATIC[n])}"\nroles = ["{role}"]\n'
            for n, role in callers.items()
        )
    )

    def start(config: Config | None = None, per_min: float = 600.0, **budget: Any) -> Server:
        limits = {"statements_per_min": per_min}
        sections = {"cost": COST, "budget": budget, "auth": {"tokens": tokens}, "limits": limits}
        running.append(composition.build(config or labs.configure({"ids": IDS}, **sections)))
        return running[-1]

    yield start
    for server in running:
        server.stop(0)


def client(server: Server, name: str = "alice") -> Client:
    return Client(connect(server), STATIC[name])


def waiting(server: Server) -> int:
    """Streams that wait for a query on Athena."""
    athena = server.engines["athena"]
    assert isinstance(athena, AthenaEngine)
    return sum(len(query.waiters) for query in list(athena._running.values()))


def test_queries_are_paid_until_the_day_is_spent_and_stored_results_are_free(opened: Open) -> None:
    server = opened(usd_per_day=1.2)
    alice, bob = client(server), client(server, "bob")
    assert len(alice.rows("ids?first=0")) == ROWS
    assert server.flight.spending.spent(ALICE) == HALF
    assert len(alice.rows("ids?first=1")) == ROWS - 1
    with pytest.raises(flight.FlightUnauthorizedError) as error:
        alice.rows("ids?first=2")
    assert str(error.value).startswith(
        "[budget-spent] alice has spent $1.0000 of $1.2000 today, and this query would cost about $0.5000; ask for less"
    )
    # A plan costs nothing, nor does what is stored, whoever paid for it.
    assert alice.info("ids?first=2").total_records == -1
    assert len(alice.rows("ids?first=1")) == ROWS - 1
    assert len(bob.rows("ids?first=2")) == ROWS - 2
    assert len(alice.rows("ids?first=2")) == ROWS - 2
    assert server.flight.spending.spent(ALICE) == 1.0


def test_callers_see_what_is_left_of_their_own_and_the_operator_of_all(opened: Open) -> None:
    server = opened(usd_per_day=1.2, callers={"bob": float("inf")})
    alice, bob, dave = (client(server, name) for name in ("alice", "bob", "dave"))
    alice.rows("ids?first=0")
    bob.sql("SELECT i.id FROM ids(first => 590) AS i WHERE i.id > 0")
    until(lambda: server.flight.calls.count == 0)
    said = alice.action("whoami", {})
    renews = (dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)).isoformat()
    assert said["budget"] == {
        "usd_per_day": 1.2,
        "spent_usd": HALF,
        "left_usd": pytest.approx(0.7),
        "renews": f"{renews}T00:00:00Z",
    }
    assert (said["name"], said["roles"]) == ("alice", ["pm"])
    assert said["statements"] == {"per_minute": 600.0, "at_once": 100, "left": 100}
    budget = bob.action("whoami", {})["budget"]
    assert (budget["usd_per_day"], budget["spent_usd"], budget["left_usd"]) == (None, HALF, None)
    assert code_of(lambda: alice.action("whoami", {"name": "bob"})) == "bad-request"
    budgets = {
        row["caller"]: (row["usd_per_day"], row["spent_usd"], row["left_usd"]) for row in dave.rows("sys_budgets")
    }
    assert budgets == {"alice": (1.2, HALF, pytest.approx(0.7)), "bob": (float("inf"), HALF, float("inf"))}
    assert code_of(lambda: alice.rows("sys_budgets")) == "unknown-dataset"


def test_whoami_tells_how_many_statements_may_run_now(opened: Open) -> None:
    # None comes back while the test runs.
    server = opened(per_min=1e-6)
    alice, dave = client(server), client(server, "dave")
    assert alice.action("whoami", {})["budget"] is None
    for first in range(3):
        alice.sql(f"SELECT i.id FROM ids(first => {590 + first}) AS i WHERE i.id > 0")
    assert alice.action("whoami", {})["statements"]["left"] == 97
    (row,) = dave.rows("sys_budgets?caller=alice")
    assert (row["day"], row["usd_per_day"], row["spent_usd"], row["left_usd"]) == (None, None, None, None)
    assert row["statements_left"] == 97


def test_submitted_queries_are_paid_too(opened: Open) -> None:
    server = opened(usd_per_day=HALF)
    alice = client(server)
    alice.submitted({"dataset": "ids", "params": {"first": 0}})
    assert server.flight.spending.spent(ALICE) == HALF
    assert code_of(lambda: alice.action("submit", {"dataset": "ids", "params": {"first": 1}})) == "budget-spent"
    assert code_of(lambda: alice.rows("ids?first=1")) == "budget-spent"


def test_a_kept_result_is_read_without_a_budget(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    # As when Athena's copy is too old by the time at which the query ends: the server then keeps one of its own.
    monkeypatch.setattr(Submissions, "_stored", lambda *_: False)
    server = opened(usd_per_day=HALF)
    alice = client(server)
    assert len(alice.result(alice.submitted({"dataset": "ids", "params": {"first": 0}}))) == ROWS
    until(lambda: server.flight.calls.count == 0)
    assert server.flight.spending.spent(ALICE) == HALF


def test_a_shared_query_is_paid_once_by_who_came_first(opened: Open, aws: LocalAws) -> None:
    server = opened(usd_per_day=10.0)
    alice, bob = client(server), client(server, "bob")
    spending = server.flight.spending
    aws.faults.update({"concurrency": 0})
    first = in_background(alice.rows, "ids?first=0")
    until(lambda: aws.athena.state()["queued"] == 1)
    others = [in_background(each.rows, "ids?first=0") for each in (bob, bob, alice)]
    # While it runs, each who waits has the estimate charged.
    until(lambda: spending.spent(ALICE) + spending.spent(Caller("bob")) == 4 * HALF)
    aws.faults.update({"concurrency": 20})
    assert [len(each.get()) for each in (first, *others)] == [ROWS] * 4
    until(lambda: server.flight.calls.count == 0)
    assert (spending.spent(ALICE), spending.spent(Caller("bob"))) == (HALF, 0.0)


def test_whoever_stays_pays_when_the_first_leaves(opened: Open, aws: LocalAws) -> None:
    server = opened(usd_per_day=10.0)
    alice, bob = client(server), client(server, "bob")
    spending = server.flight.spending
    aws.faults.update({"concurrency": 0})
    reader = alice.flight.do_get(flight.Ticket(b"ids?first=0"), alice.options)
    until(lambda: aws.athena.state()["queued"] == 1)
    other = in_background(bob.rows, "ids?first=0")
    # Bob is charged before his stream joins the query, and who leaves a query alone stops it.
    until(lambda: waiting(server) == 2)
    assert spending.spent(Caller("bob")) == HALF
    reader.cancel()
    until(lambda: spending.spent(ALICE) == 0.0)
    aws.faults.update({"concurrency": 20})
    assert len(other.get()) == ROWS
    until(lambda: server.flight.calls.count == 0)
    assert (spending.spent(ALICE), spending.spent(Caller("bob"))) == (0.0, HALF)


def test_a_query_that_its_caller_stops_stays_charged_as_estimated(opened: Open, aws: LocalAws) -> None:
    server = opened(usd_per_day=10.0)
    alice = client(server)
    aws.faults.update({"concurrency": 0})
    reader = alice.flight.do_get(flight.Ticket(b"ids?first=0"), alice.options)
    until(lambda: aws.athena.state()["queued"] == 1)
    reader.cancel()
    until(lambda: server.flight.calls.count == 0)
    assert server.flight.spending.spent(ALICE) == HALF


def test_a_restart_does_not_give_the_money_back(opened: Open, tmp_path: Path) -> None:
    server = opened(usd_per_day=HALF, file=tmp_path / "spent.db")
    client(server).rows("ids?first=0")
    again = opened(server.config)
    assert code_of(lambda: client(again).rows("ids?first=1")) == "budget-spent"
    assert len(client(again).rows("ids?first=0")) == ROWS


def test_without_authentication_all_share_one_budget(labs: Labs) -> None:
    server = composition.build(labs.configure({"ids": IDS}, cost=COST, budget={"callers": {"anonymous": HALF}}))
    try:
        nobody = Client(connect(server))
        assert len(nobody.rows("ids?first=0")) == ROWS
        assert server.flight.spending.spent(ANONYMOUS) == HALF
        said = nobody.action("whoami", {})
        assert (said["name"], said["budget"]["left_usd"], said["statements"]) == ("anonymous", 0.0, None)
        assert code_of(lambda: Client(connect(server)).rows("ids?first=1")) == "budget-spent"
    finally:
        server.stop(0)
