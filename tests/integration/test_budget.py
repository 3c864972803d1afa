"""Dollars a day over a server with Athena: what is charged, to whom, when it is refused, and after a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import pytest

from flight_server import server as composition
from flight_server.config import Config
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
    names = ("alice", "bob")
    tokens.write_text("".join(f'[[token]]\nname = "{n}"\nsha256 = "{digest(STATIC[n])}"\n' for n in names))

    def start(config: Config | None = None, **budget: Any) -> Server:
        sections = {"cost": COST, "budget": budget, "auth": {"tokens": tokens}}
        running.append(composition.build(config or labs.configure({"ids": IDS}, **sections)))
        return running[-1]

    yield start
    for server in running:
        server.stop(0)


def client(server: Server, name: str = "alice") -> Client:
    return Client(connect(server), STATIC[name])


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
    until(lambda: spending.spent(Caller("bob")) == HALF)
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
        assert code_of(lambda: Client(connect(server)).rows("ids?first=1")) == "budget-spent"
    finally:
        server.stop(0)
