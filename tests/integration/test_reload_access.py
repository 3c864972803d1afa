"""Datasets, policies and callers are read again together, all or nothing, and no request sees half of it."""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.authoring.watch import watching
from flight_server.datasets.registry import Registry
from flight_server.errors import NotFound
from flight_server.model import Caller
from flight_server.server import Server
from tests.fix_identity import POLICIES, STATIC, Client, Lake, code_of, dataset_text
from tests.processes import server as server_process
from tests.waiting import until


def test_a_reload_takes_policies_and_callers_together_or_nothing(lake_copy: Lake) -> None:
    with lake_copy.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as client:
        alice = Client(client, STATIC["alice"])
        sql, tokens = lake_copy.folder / "sql", lake_copy.folder / "tokens.toml"
        text = tokens.read_text()
        # Of three changes one is wrong: none is taken.
        (sql / "policies.toml").write_text(POLICIES.replace("port_id IN", "port_id NOT IN"))
        (sql / "public_names.sql").unlink()
        tokens.write_text("[[token]]")
        assert [error.path.name for error in running.reload()] == ["tokens.toml"]
        assert alice.ports() == {1, 2}
        assert alice.listed() == {"nav", "public_names"}
        tokens.write_text(text.replace("[1, 2]", "[1]"))
        (sql / "policies.toml").write_text(POLICIES.replace("p.nav", "p.nva"))
        assert {error.path.name for error in running.reload()} == {"policies.toml"}
        assert alice.listed() == {"nav", "public_names"}
        (sql / "policies.toml").write_text(POLICIES.replace("port_id IN", "port_id NOT IN"))
        assert running.reload() == []
        assert alice.ports() == {2, 3, 4}
        assert alice.listed() == {"nav"}


def test_policies_that_have_gone_are_still_in_force(lake_copy: Lake) -> None:
    with lake_copy.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as client:
        alice, policies = Client(client, STATIC["alice"]), lake_copy.folder / "sql" / "policies.toml"
        policies.unlink()
        assert [(error.path.name, "leave it empty" in error.message) for error in running.reload()] == [
            ("policies.toml", True)
        ]
        assert alice.ports() == {1, 2}
        policies.write_text("")
        assert running.reload() == []
        assert alice.ports() == {1, 2, 3, 4}


def test_a_dataset_file_that_has_gone_since_it_was_listed_refuses_a_reload(lake_copy: Lake) -> None:
    with lake_copy.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as client:
        more = lake_copy.folder / "sql" / "more.sql"
        more.symlink_to("gone")
        assert [str(error) for error in running.reload()] == [f"{more}: cannot be read: No such file or directory"]
        assert Client(client, STATIC["alice"]).ports() == {1, 2}
        more.unlink()
        assert running.reload() == []


@contextmanager
def no_catalog(lake: Lake, running: Server) -> Iterator[None]:
    """The catalog's database cannot be opened."""
    database, away = lake.folder / "catalog.db", lake.folder / "away.db"
    running.catalog.engine.dispose()  # type: ignore[attr-defined]
    database.rename(away)
    database.mkdir()
    try:
        yield
    finally:
        database.rmdir()
        away.rename(database)


def test_a_catalog_out_of_reach_refuses_a_reload_and_ends_nothing(lake_copy: Lake) -> None:
    with lake_copy.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as client:
        (lake_copy.folder / "sql" / "public_names.sql").unlink()
        with no_catalog(lake_copy, running):
            assert [str(error) for error in running.reload()] == [
                "cannot look up table 'p.nav': unable to open database file"
            ]
            alice = Client(client, STATIC["alice"])
            assert alice.listed() == {"nav", "public_names"}
            assert code_of(alice.ports) == "internal"
            with pytest.raises(
                flight.FlightInternalError, match=r"\[internal\] the tables cannot be looked up now; .* incident \w+"
            ):
                alice.ports()
        assert running.reload() == []
        assert Client(client, STATIC["alice"]).listed() == {"nav"}


def test_watch_takes_what_was_held_back_as_soon_as_the_reason_has_gone(lake_copy: Lake) -> None:
    folder, tokens = lake_copy.folder / "sql", lake_copy.folder / "tokens.toml"
    contract = 'title = "New"\n[columns]\nx = { type = "int32" }'
    with lake_copy.serve() as running, watching(running):
        good = tokens.read_text()
        tokens.write_text("[[token")
        (folder / "first.sql").write_text(dataset_text(contract, "SELECT 1 AS x"))
        # Not one of the folder's files is wrong, and not one of them changes when all is well again.
        time.sleep(1)
        assert "first" not in running.pipeline.registry.datasets
        tokens.write_text(good)
        until(lambda: "first" in running.pipeline.registry.datasets)
        with no_catalog(lake_copy, running):
            (folder / "second.sql").write_text(dataset_text(contract, "SELECT 2 AS x"))
            time.sleep(1)
            assert "second" not in running.pipeline.registry.datasets
        until(lambda: "second" in running.pipeline.registry.datasets)


def test_broken_policies_leave_no_datasets_to_serve_without_them(lake_copy: Lake) -> None:
    from flight_server.server import load_datasets

    (lake_copy.folder / "sql" / "policies.toml").write_text("[[row_filter]]")
    found, errors = load_datasets(lake_copy.folder / "sql")
    assert not found.datasets
    assert len(errors) == 1


def test_versions_that_a_caller_may_not_use_do_not_exist_for_it(policed_server: Server) -> None:
    nav = policed_server.pipeline.registry.get("nav", None, Caller("x"))
    hidden = replace(nav, version=2, roles=frozenset({"risk"}))
    registry = Registry({"nav": {1: nav, 2: hidden}, "gone": {2: hidden}})
    somebody, risk = Caller("x"), Caller("y", frozenset({"risk"}))
    assert [registry.get("nav", None, who).version for who in (somebody, risk)] == [1, 2]
    assert [[each.version for each in registry.visible(who)] for who in (somebody, risk)] == [[1], [2, 2]]
    with pytest.raises(NotFound) as caught:
        registry.get("nav", 2, somebody)
    assert "2; it has 1" in caught.value.message
    assert code_of(lambda: registry.get("gone", None, somebody)) == "unknown-dataset"


# Two states, each of a dataset that says which it is, and of a policy that shows other portfolios.
STATES = {"A": "port_id < 3", "B": "port_id >= 3"}
PORTS = {"A": {1, 2}, "B": {3, 4}}


def write_state(folder: Path, state: str) -> None:
    contract = 'title = "NAV"\n[columns]\nport_id = { type = "int32" }\nstate = { type = "string" }'
    text = dataset_text(contract, f"SELECT n.port_id, '{state}' AS state FROM p.nav AS n")
    (folder / "nav.sql").write_text(text)
    (folder / "policies.toml").write_text(f'[[row_filter]]\ntable = "p.nav"\nwhere = "{STATES[state]}"\n')


def test_no_request_sees_half_of_a_reload(lake_copy: Lake) -> None:
    folder = lake_copy.folder / "sql"
    write_state(folder, "A")
    done = threading.Event()
    wrong: list[object] = []
    seen: set[str] = set()

    def check(rows: list[dict[str, object]]) -> None:
        states, ports = {str(row["state"]) for row in rows}, {row["port_id"] for row in rows}
        seen.update(states)
        if len(states) != 1 or ports != PORTS[states.pop()]:
            wrong.append(rows)

    def ask(port: int) -> None:
        with flight.connect(f"grpc://localhost:{port}") as connection:
            client = Client(connection, STATIC["alice"])
            ways = (
                lambda: client.rows("nav"),
                lambda: client.sql(
                    "SELECT a.port_id, b.state FROM p.nav AS a JOIN nav() AS b ON a.port_id = b.port_id"
                ),
                lambda: client.result(client.submitted({"dataset": "nav"})),
                lambda: client.rows(client.info("nav").endpoints[0].ticket.ticket),
            )
            for way in itertools.cycle(ways):
                if done.is_set():
                    return
                try:
                    check(way())
                except (flight.FlightError, pa.ArrowException, KeyError) as error:
                    # Between a plan and its answer the dataset, or who may see what was kept, has changed.
                    if not any(code in str(error) for code in ("[expired-ticket]", "[unknown-query]")):
                        wrong.append(error)

    with lake_copy.serve(submitted={"queries_max": 10_000, "queries_per_caller": 10_000}) as running:
        threads = [threading.Thread(target=ask, args=(running.port,)) for _ in range(4)]
        for each in threads:
            each.start()
        for state in itertools.islice(itertools.cycle("BA"), 30):
            write_state(folder, state)
            assert running.reload() == []
            # As many answers as may be between two reloads.
            done.wait(0.1)
        done.set()
        for each in threads:
            each.join()
    assert not wrong
    assert seen == {"A", "B"}


def test_sighup_takes_datasets_policies_and_callers(lake_copy: Lake, tmp_path: Path) -> None:
    folder = lake_copy.folder / "sql"
    write_state(folder, "A")
    with (
        server_process(lake_copy.settings(), tmp_path) as process,
        flight.connect(process.address) as connection,
    ):
        alice = Client(connection, STATIC["alice"])
        assert {row["state"] for row in alice.rows("nav")} == {"A"}
        write_state(folder, "B")
        tokens = lake_copy.folder / "tokens.toml"
        tokens.write_text(tokens.read_text().replace('name = "bob"', 'name = "bobby"'))
        process.child.send_signal(signal.SIGHUP)
        process.wait_for("datasets_reloaded")
        assert {(row["state"], row["port_id"]) for row in alice.rows("nav")} == {("B", 3), ("B", 4)}
        bob = Client(connection, STATIC["bob"])
        assert code_of(bob.listed) == "ok"
        # What is wrong is said, and all stays as it is: the policy of the last reload, and the callers.
        (folder / "policies.toml").write_text("[[row_filter]]")
        process.child.send_signal(signal.SIGHUP)
        assert "policies.toml" in json.loads(process.wait_for("dataset_wrong"))["error"]
        assert {row["port_id"] for row in alice.rows("nav")} == {3, 4}
        process.child.terminate()
        assert process.child.wait(20) == 0
