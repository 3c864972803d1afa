"""Datasets, policies and callers are read again together, all or nothing; and callers at once never mix."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pyarrow.flight as flight
import pytest

from flight_server.datasets.registry import Registry
from flight_server.errors import NotFound
from flight_server.model import Caller
from flight_server.server import Server
from tests.fix_identity import POLICIES, STATIC, Client, Lake, code_of

Connect = Callable[[str], Client]


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


def ask_at_once(connect: Connect, times: int) -> None:
    """Both callers ask plain and issued tickets of one dataset, and must only ever see their own rows."""
    wrong: list[object] = []
    expected = {"alice": {1, 2}, "bob": {3}, "carol": {1, 2, 3, 4}}
    start = threading.Barrier(len(expected))

    def ask(name: str) -> None:
        client = connect(STATIC[name])
        ticket = client.info("nav").endpoints[0].ticket.ticket
        start.wait()
        for number in range(times):
            try:
                seen = client.ports("nav" if number % 2 else ticket)
            except flight.FlightUnavailableError:
                continue
            if seen != expected[name]:
                wrong.append((name, seen))

    threads = [threading.Thread(target=ask, args=(name,)) for name in expected]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_callers_who_ask_at_once_never_see_each_others_rows(connect: Connect) -> None:
    ask_at_once(connect, 60)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_callers_who_ask_a_thousand_times_never_see_each_others_rows(connect: Connect) -> None:
    ask_at_once(connect, 1000)
