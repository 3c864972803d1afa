"""Callers with different policies who ask for the same at the same time never see each other's rows, on both engines.

Every way to ask is mixed: datasets, statements, prepared statements, submitted queries, tickets that callers hand each
other. On Athena nearly all of it comes from stored results, which is where a mistake would show.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server import server
from flight_server.server import Server
from flight_server.service.flight_sql import messages
from tests.fakes.aws import LocalAws
from tests.fix_identity import POLICIES, STATIC, Client, Lake, code_of, write_callers
from tests.fix_served import Labs, dataset
from tests.rpcs import command

CALLERS = ("alice", "bob", "carol")
# Submitted queries are a way to ask, too, but each is kept: a tenth of all is enough.
SUBMIT_EVERY = 10


@dataclass
class World:
    """A server, and what each caller sees of `column` in a dataset and in the table beneath it."""

    port: int
    dataset: str
    table: str
    column: str
    seen: dict[str, set[object]]
    # A parameter of the dataset with values that change nothing of what is seen.
    parameter: str
    values: list[object]
    # What callers hand each other: tickets, and ids of submitted queries.
    tickets: dict[str, bytes] = field(default_factory=dict)
    submitted: dict[str, str] = field(default_factory=dict)
    wrong: list[object] = field(default_factory=list)

    def check(self, name: str, way: str, rows: list[dict[str, object]]) -> None:
        found = {row[self.column] for row in rows}
        if found != self.seen[name]:
            self.wrong.append((name, way, found))


def bound(client: Client, handle: bytes, value: object) -> list[dict[str, object]]:
    asked = command("CommandPreparedStatementQuery", prepared_statement_handle=handle)
    values = pa.record_batch({"1": pa.array([value], pa.int64())})
    writer, reader = client.flight.do_put(asked, values.schema, client.options)
    with writer:
        writer.write_batch(values)
        writer.done_writing()
        answer = messages.parse("DoPutPreparedStatementResult", reader.read().to_pybytes())
    return client.prepared(answer.prepared_statement_handle)


def ask(world: World, client: Client, name: str, times: int) -> None:
    named, column, table = world.dataset, world.column, world.table
    sql = f"SELECT {column} FROM {table}"
    handle = client.prepare(f"{sql} LIMIT ?").prepared_statement_handle
    world.tickets[name] = client.info(named).endpoints[0].ticket.ticket
    ways: list[tuple[str, Callable[[object], list[dict[str, object]]]]] = [
        ("dataset", lambda _: client.rows(named)),
        ("dataset with a value", lambda v: client.rows(json.dumps({"dataset": named, "params": {world.parameter: v}}))),
        (
            "statement as JSON",
            lambda _: client.rows(
                json.dumps({"sql": f"SELECT max({column}) AS top, {column} FROM {table} GROUP BY {column}"})
            ),
        ),
        (
            "dataset call in SQL",
            lambda _: client.sql(f"WITH w AS (SELECT * FROM {named}()) SELECT {column} FROM w UNION ALL {sql}"),
        ),
        ("prepared", lambda _: bound(client, handle, 100_000)),
    ]
    # Every ticket that there is, whoever it was issued to.
    ways += [
        (f"ticket of {other}", lambda _, other=other: client.rows(world.tickets.get(other, named.encode())))
        for other in CALLERS
    ]
    for number in range(times):
        way, call = ways[number % len(ways)]
        world.check(name, way, call(world.values[number % len(world.values)]))
        if number % SUBMIT_EVERY == 0:
            mine = client.submitted({"dataset": named})
            world.check(name, "submitted", client.result(mine))
            world.submitted[name] = mine
            for other, theirs in list(world.submitted.items()):
                if other != name and code_of(lambda theirs=theirs: client.result(theirs)) != "unknown-query":  # type: ignore[misc]
                    world.wrong.append((name, "submitted by", other))


def ask_at_once(world: World, times: int) -> None:
    """Two threads of each caller, each `times` times, in turn through all ways."""
    start = threading.Barrier(2 * len(CALLERS))

    def run(name: str) -> None:
        try:
            with flight.connect(f"grpc://localhost:{world.port}") as connection:
                start.wait()
                ask(world, Client(connection, STATIC[name]), name, times)
        except Exception as error:  # noqa: BLE001 - a thread's top: the test fails with it
            world.wrong.append((name, repr(error)))

    threads = [threading.Thread(target=run, args=(name,)) for name in CALLERS for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not world.wrong


@pytest.fixture
def on_duckdb(policed: Lake) -> Iterator[World]:
    with policed.serve(submitted={"queries_max": 10_000, "queries_per_caller": 10_000}) as running:
        seen: dict[str, set[object]] = {"alice": {1, 2}, "bob": {3}, "carol": {1, 2, 3, 4}}
        yield World(running.port, "nav", "p.nav", "port_id", seen, "port_id", [None])


@contextmanager
def serving(found: server.Config) -> Iterator[Server]:
    running = server.build(found)
    server.start_in_thread(running)
    try:
        yield running
    finally:
        running.stop(0)


@pytest.fixture
def on_athena(labs: Labs, policed: Lake, tmp_path: Path) -> Iterator[World]:
    write_callers(tmp_path, policed.issuer)
    tokens = (tmp_path / "tokens.toml").read_text()
    (tmp_path / "tokens.toml").write_text(tokens.replace("[1, 2]", '["AAPL"]').replace('["3"]', '["MSFT"]'))
    first = '[params]\nfirst = { type = "int64", optional = true }'
    rows = dataset(
        {"ticker": "string", "price": "float64"},
        "SELECT p.ticker, p.price FROM lake.prices AS p WHERE p.id >= :first",
        more=first,
    )
    found = labs.configure(
        {"quotes": rows},
        auth={"tokens": tmp_path / "tokens.toml"},
        sql={"ad_hoc_roles": ("pm", "risk")},
        submitted={"queries_max": 10_000, "queries_per_caller": 10_000},
    )
    policies = POLICIES.replace("p.nav", "lake.prices").replace("port_id IN", "ticker IN").partition("[[mask]]")[0]
    (found.datasets.directory / "policies.toml").write_text(policies)
    with serving(found) as running:
        assert next(iter(running.engines)) == "athena"
        seen: dict[str, set[object]] = {"alice": {"AAPL"}, "bob": {"MSFT"}, "carol": {"AAPL", "MSFT"}}
        # Most values were asked for before, and some now and then are new.
        values: list[object] = [0, 1, 2, 1, 0, 2, 1]
        yield World(running.port, "quotes", "lake.prices", "ticker", seen, "first", values)


def test_on_duckdb(on_duckdb: World) -> None:
    ask_at_once(on_duckdb, 24)


def test_on_athena(on_athena: World, aws: LocalAws) -> None:
    ask_at_once(on_athena, 24)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_times_on_duckdb(on_duckdb: World) -> None:
    ask_at_once(on_duckdb, 500)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_times_on_athena(on_athena: World, aws: LocalAws) -> None:
    before = int(aws.athena.state()["started"])
    ask_at_once(on_athena, 500)
    # Three thousand questions and more, answered from a few dozen stored results.
    assert int(aws.athena.state()["started"]) - before < 200
