"""sys_calls, sys_queries, sys_datasets, sys_costs and sys_budgets: what they hold, and for whom they exist."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server.datasets import system
from flight_server.errors import DatasetError
from flight_server.plan import check
from flight_server.server import Server, build, load_datasets
from flight_server.service.auth.tokens import digest
from tests.fix_identity import STATIC, Client, Lake, code_of, make_lake, write_datasets
from tests.fix_server import ASKED, Serve, Write, dataset
from tests.fix_server import connect as open_client
from tests.waiting import until

NAMES = {"sys_calls", "sys_queries", "sys_datasets", "sys_costs", "sys_budgets"}
OPERATOR = "af_oscar-" + "x" * 40


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = make_lake(tmp_path_factory.mktemp("own"))
    tokens = made.folder / "tokens.toml"
    tokens.write_text(
        f'{tokens.read_text()}\n[[token]]\nname = "oscar"\nsha256 = "{digest(OPERATOR)}"\nroles = ["operator"]\n'
    )
    return made


@contextmanager
def serving(lake: Lake) -> Iterator[Server]:
    with lake.serve(sql={"ad_hoc_roles": ("pm", "risk", "operator")}) as running:
        yield running


@contextmanager
def connected(server: Server) -> Iterator[dict[str, Client]]:
    with open_client(server) as opened:
        yield {name: Client(opened, token) for name, token in ({"oscar": OPERATOR} | STATIC).items()}


@pytest.fixture
def server(lake: Lake) -> Iterator[Server]:
    """A server that nobody has asked anything."""
    with serving(lake) as running:
        yield running


@pytest.fixture
def clients(server: Server) -> Iterator[dict[str, Client]]:
    """Of `server`, by name: oscar, the operator, and callers with other roles."""
    with connected(server) as opened:
        yield opened


@pytest.fixture(scope="module")
def others(lake: Lake) -> Iterator[dict[str, Client]]:
    """The same of a server that is shared, for tests that count nothing."""
    with serving(lake) as running, connected(running) as opened:
        yield opened


@pytest.mark.parametrize("own", system.load(["operator"]), ids=lambda own: own.name)
def test_the_shipped_files_are_right(own: Any) -> None:
    assert list(check.problems(own)) == []
    assert own.roles == {"operator"}
    assert own.cache.mode == "off"


def test_an_operator_finds_them_everywhere(others: dict[str, Client]) -> None:
    oscar = others["oscar"]
    assert oscar.listed() >= NAMES
    described = oscar.action("describe", {"dataset": "sys_costs"})
    assert [column["name"] for column in described["columns"]][:3] == ["day", "caller", "dataset"]
    descriptor = flight.FlightDescriptor.for_path("sys_calls")
    declared = oscar.flight.get_schema(descriptor, oscar.options).schema
    info = oscar.flight.get_flight_info(descriptor, oscar.options)
    assert info.schema == declared
    plan = json.loads(info.app_metadata)
    assert (plan["engine"], plan["cache"], plan["estimate"]) == ("system", "off", {"files": 0, "bytes": 0, "usd": 0.0})
    answer = oscar.flight.do_get(info.endpoints[0].ticket, oscar.options).read_all()
    assert answer.schema.equals(declared, check_metadata=True)
    tables = oscar.metadata("CommandGetTables").to_pylist()
    listed = {row["table_name"]: row["table_type"] for row in tables if row["db_schema_name"] == "datasets"}
    assert {name: listed.get(name) for name in NAMES} == dict.fromkeys(NAMES, "TABLE")


@pytest.mark.parametrize("who", ["alice", "carol", "dave"])
def test_for_everybody_else_they_do_not_exist(others: dict[str, Client], who: str) -> None:
    caller = others[who]
    assert caller.listed().isdisjoint(NAMES)
    assert NAMES.isdisjoint(caller.metadata("CommandGetTables").column("table_name").to_pylist())
    nothing = "sys_cells"
    for name in NAMES:
        descriptor = flight.FlightDescriptor.for_path(name)
        assert code_of(lambda n=name: caller.rows(n)) == "unknown-dataset"  # type: ignore[misc]
        assert code_of(lambda d=descriptor: caller.flight.get_schema(d, caller.options)) == "unknown-dataset"  # type: ignore[misc]
        assert code_of(lambda n=name: caller.info(n)) == "unknown-dataset"  # type: ignore[misc]
        assert code_of(lambda n=name: caller.action("describe", {"dataset": n})) == "unknown-dataset"  # type: ignore[misc]
        assert code_of(lambda n=name: caller.sql(f"SELECT * FROM {n}")) == "sql-refused"  # type: ignore[misc]
    # Not even as a suggestion.
    with pytest.raises(KeyError) as raised:
        caller.rows(nothing)
    assert "sys_calls" not in str(raised.value)


@pytest.mark.parametrize("who", ["alice", "oscar"])
@pytest.mark.parametrize("table", ['"$sys".calls', "sys.calls", '"$sys.calls"', '"$sys"."calls"', "$sys.calls"])
def test_no_statement_names_the_tables_behind_them(others: dict[str, Client], who: str, table: str) -> None:
    assert code_of(lambda: others[who].sql(f"SELECT * FROM {table}")) == "sql-refused"


def test_a_name_that_is_no_text_does_not_end_the_answers_to_operators(clients: dict[str, Client]) -> None:
    dave, oscar = clients["dave"], clients["oscar"]
    assert code_of(lambda: dave.rows('{"dataset": "\\ud800x"}')) == "unknown-dataset"
    until(lambda: len(oscar.rows("sys_calls?caller=dave")) == 1)
    assert [row["dataset"] for row in oscar.rows("sys_calls?caller=dave")] == ["?x"]


def test_a_call_that_has_ended_is_there(clients: dict[str, Client]) -> None:
    before = dt.datetime.now(dt.UTC)
    clients["alice"].rows("nav?port_id=2")
    assert code_of(lambda: clients["alice"].rows("nav?port_id=x")) == "bad-parameter"
    assert code_of(lambda: clients["dave"].rows("nothing_here")) == "unknown-dataset"
    oscar = clients["oscar"]
    until(lambda: len(oscar.rows("sys_calls?caller=dave")) == 1)
    good, bad = oscar.rows("sys_calls?caller=alice")
    assert (good["method"], good["dataset"], good["version"], good["rows"], good["code"]) == (
        "DoGet",
        "nav",
        1,
        2,
        "ok",
    )
    assert len(good["policies"].split()) == 2
    assert before < good["ended"] <= bad["ended"]
    assert good["ms"] >= good["first_batch_ms"] > 0
    assert (bad["code"], bad["engine"], bad["first_batch_ms"]) == ("bad-parameter", "", None)
    assert [row["code"] for row in oscar.rows("sys_calls?caller=dave")] == ["unknown-dataset"]
    later = (bad["ended"] + dt.timedelta(microseconds=1)).isoformat().replace("+00:00", "Z")
    assert oscar.rows(f"sys_calls?caller=alice&since={later}") == []
    assert {row["dataset"] for row in oscar.rows("sys_calls?dataset=nav")} == {"nav"}


def test_no_value_of_a_parameter_is_there(clients: dict[str, Client]) -> None:
    planted = "planted-7531"
    clients["alice"].sql(f"SELECT * FROM nav(port_id => 2) WHERE desk = '{planted}'")
    assert code_of(lambda: clients["alice"].rows(f"nav?port_id={planted}")) == "bad-parameter"
    oscar = clients["oscar"]
    oscar.submitted({"sql": f"SELECT '{planted}' AS x FROM sys_costs"})
    until(lambda: len(oscar.rows("sys_calls?caller=alice")) >= 3)
    for name in NAMES:
        assert planted not in repr(oscar.rows(name))


def test_tables_that_were_read_are_named_without_the_values_of_claims(clients: dict[str, Client]) -> None:
    alice, oscar = clients["alice"], clients["oscar"]
    alice.rows('{"sql": "SELECT n.port_id FROM nav AS n JOIN p.open AS o ON o.name = n.desk"}')
    alice.submitted({"dataset": "nav"})
    until(lambda: len([row for row in oscar.rows("sys_queries?caller=alice") if row["ended"]]) == 2)
    found = {row["kind"]: (row["datasets"], row["reads"]) for row in oscar.rows("sys_queries?caller=alice")}
    assert found == {"stream": ("nav", "p.nav p.open"), "submitted": ("", "p.nav")}
    calls = oscar.rows("sys_calls?caller=alice")
    assert calls[0]["reads"] == "p.nav p.open"
    assert "port_id" not in repr(calls) + repr(oscar.rows("sys_queries"))


def test_uses_errors_and_costs_are_summed(clients: dict[str, Client], server: Server) -> None:
    oscar, alice = clients["oscar"], clients["alice"]
    for _ in range(3):
        alice.rows("nav?port_id=2")
    assert code_of(lambda: alice.rows("nav?port_id=x")) == "bad-parameter"
    until(lambda: len(oscar.rows("sys_calls?caller=alice")) == 4)
    (nav,) = (row for row in oscar.rows("sys_datasets") if row["name"] == "nav")
    assert (nav["calls"], nav["errors"], nav["rows"], nav["roles"]) == (4, 1, 6, "")
    assert {row["name"] for row in oscar.rows("sys_datasets")} == set(server.pipeline.registry.datasets)
    (spent,) = oscar.rows("sys_costs?caller=alice&dataset=nav")
    assert (spent["queries"], spent["scanned_bytes"], spent["usd"]) == (3, 0, 0.0)
    assert spent["day"] == dt.datetime.now(dt.UTC).date()
    assert oscar.rows(f"sys_costs?caller=alice&since={spent['day'] + dt.timedelta(days=1)}") == []


def test_they_are_filtered_joined_and_aggregated_in_sql(clients: dict[str, Client]) -> None:
    oscar = clients["oscar"]
    for _ in range(2):
        clients["alice"].rows("nav")
    until(lambda: len(oscar.rows("sys_calls?caller=alice")) == 2)
    found = oscar.sql(
        "SELECT d.name, count(*) AS n, sum(c.rows) AS sent, max(c.ended) AS last "
        "FROM sys_calls(caller => 'alice') AS c JOIN sys_datasets AS d ON d.name = c.dataset AND d.version = c.version "
        "WHERE c.ended > TIMESTAMP '2020-01-01 00:00:00 UTC' AND c.code = 'ok' GROUP BY d.name ORDER BY d.name"
    )
    assert [(row["name"], row["n"], row["sent"]) for row in found] == [("nav", 2, 8)]
    handle = oscar.prepare("SELECT caller FROM sys_calls WHERE dataset = 'nav'").prepared_statement_handle
    assert {row["caller"] for row in oscar.prepared(handle)} == {"alice"}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT c.caller FROM sys_calls AS c JOIN public_names AS n ON n.name = c.caller",
        "SELECT c.caller FROM sys_calls AS c JOIN p.open AS n ON n.name = c.caller",
    ],
)
def test_they_are_joined_with_nothing_else(others: dict[str, Client], statement: str) -> None:
    with pytest.raises(pa.ArrowInvalid, match="own datasets are joined with each other only"):
        others["oscar"].sql(statement)


def test_they_are_as_they_are_now(others: dict[str, Client]) -> None:
    assert code_of(lambda: others["oscar"].rows("sys_calls?_as_of=2024-01-01")) == "unknown-pin"


def test_the_engine_cannot_be_chosen(others: dict[str, Client]) -> None:
    with pytest.raises(pa.ArrowInvalid, match="there is no engine 'system'; there is duckdb[.]"):
        others["oscar"].rows("nav?_engine=system")


def test_a_ticket_of_an_operator_is_no_credential(others: dict[str, Client]) -> None:
    ticket = others["oscar"].info("sys_calls").endpoints[0].ticket.ticket
    assert code_of(lambda: others["alice"].rows(ticket)) == "unknown-dataset"


def test_a_running_query_is_there_until_it_ends(serve: Serve, datasets: Write) -> None:
    many = "SELECT CAST(a.x AS BIGINT) * b.y AS x FROM UNNEST(SEQUENCE(1, 5000)) AS a (x) CROSS JOIN UNNEST(SEQUENCE(1, 5000)) AS b (y)"
    server = serve(datasets(many=dataset(many)), system={"roles": ("*",)})
    with open_client(server) as client:
        anonymous = Client(client)
        assert anonymous.listed() == NAMES | {"many"}
        reader = client.do_get(flight.Ticket(b"many"))
        assert reader.read_chunk().data.num_rows > 0
        (running,) = anonymous.rows("sys_queries?dataset=many")
        assert (running["state"], running["kind"], running["ended"], running["code"]) == (
            "RUNNING",
            "stream",
            None,
            None,
        )
        assert running["rows"] > 0
        reader.cancel()
        until(lambda: anonymous.rows("sys_queries?dataset=many")[0]["state"] == "CANCELLED")
        query_id = anonymous.submitted({"sql": "SELECT count(*) AS n FROM many"})
        assert anonymous.result(query_id)[0]["n"] == 25_000_000
        (submitted,) = anonymous.sql("SELECT * FROM sys_queries(dataset => 'sql') WHERE kind = 'submitted'")
        assert (submitted["kind"], submitted["state"], submitted["code"]) == ("submitted", "SUCCEEDED", "ok")
        assert submitted["ended"] >= submitted["started"]


def test_without_authentication_they_do_not_exist_unless_opened(serve: Serve, datasets: Write) -> None:
    folder = datasets(one=dataset("SELECT CAST(1 AS BIGINT) AS x"))
    with open_client(serve(folder)) as closed, open_client(serve(folder, system={"roles": ("*",)})) as opened:
        assert Client(closed).listed() == {"one"}
        assert code_of(lambda: Client(closed).rows("sys_calls")) == "unknown-dataset"
        assert Client(opened).listed() == NAMES | {"one"}


def test_what_is_kept_is_bounded(serve: Serve) -> None:
    server = serve(system={"calls_kept": 3, "roles": ("*",)})
    with open_client(server) as client:
        for _ in range(5):
            client.do_get(flight.Ticket(ASKED)).read_all()
        until(lambda: server.flight.calls.count == 0)
        assert len(Client(client).rows("sys_calls")) == 3


def test_many_look_while_others_ask(others: dict[str, Client]) -> None:
    wrong: list[str] = []

    def look(name: str, ticket: str) -> None:
        for _ in range(10):
            if (code := code_of(lambda: others[name].rows(ticket))) != "ok":
                wrong.append(code)

    tickets = [("alice", "nav"), ("carol", "nav"), *(("oscar", name) for name in NAMES)]
    threads = [threading.Thread(target=look, args=each) for each in tickets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_file_may_not_take_their_names(lake_copy: Lake) -> None:
    write_datasets(
        lake_copy.folder / "sql",
        sys_calls=('title = "Mine"\n[columns]\nname = { type = "string" }', "SELECT o.name FROM p.open AS o"),
    )
    assert load_datasets(lake_copy.folder / "sql")[1] == []
    with pytest.raises(DatasetError, match=r"sys_calls\.sql:1:1: sys_calls is a dataset of the server's own"):
        build(lake_copy.settings())
