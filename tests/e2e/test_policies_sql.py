"""SQL of a client's own cannot go around policies: not by tables, dataset calls, prepared statements or submissions."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from tests.fix_identity import POLICIES, STATIC, Client, Lake, code_of

Connect = Callable[[str], Client]
QUERIES = [
    "SELECT port_id FROM p.nav",
    'SELECT x.port_id FROM "p"."nav" AS x',
    'SELECT "X".PORT_ID AS port_id FROM P."NAV" AS "X"',
    "SELECT * FROM p.nav",
    "SELECT n.* FROM p.nav AS n",
    "SELECT port_id FROM nav()",
    "SELECT n.port_id FROM nav() AS n",
    "SELECT n.port_id FROM nav() AS n JOIN p.nav AS m ON n.port_id = m.port_id",
    "SELECT port_id FROM (SELECT * FROM nav()) AS deep",
    "WITH nav AS (SELECT * FROM p.nav) SELECT port_id FROM nav",
    "WITH w AS (SELECT * FROM nav()) SELECT port_id FROM w UNION ALL SELECT port_id FROM p.nav",
    "SELECT port_id FROM nav() UNION SELECT port_id FROM p.nav",
    "SELECT port_id FROM p.nav WHERE port_id NOT IN (SELECT port_id FROM nav() WHERE FALSE)",
    "SELECT max(port_id) AS port_id FROM p.nav",
    "SELECT (SELECT max(port_id) FROM p.nav) AS port_id FROM public_names()",
    "SELECT port_id FROM p.nav WHERE port_id = 3 OR port_id = 4 OR TRUE",
    "SELECT port_id FROM p.nav -- :caller.portfolios\n WHERE TRUE",
    "SELECT port_id FROM p.nav ORDER BY value DESC LIMIT 1",
    "SELECT s.port_id FROM (VALUES (1), (3)) AS v(k) JOIN p.nav AS s ON s.port_id = v.k OR TRUE",
]
ASK: dict[str, Callable[[Client, str], list[dict[str, object]]]] = {
    "statement": lambda client, sql: client.sql(sql),
    "prepared": lambda client, sql: client.prepared(client.prepare(sql).prepared_statement_handle),
    "JSON": lambda client, sql: client.rows(json.dumps({"sql": sql})),
    "submitted": lambda client, sql: client.result(client.submitted({"sql": sql})),
}


@pytest.mark.parametrize("way", ASK)
@pytest.mark.parametrize("sql", QUERIES)
def test_sql_sees_only_the_callers_rows(connect: Connect, sql: str, way: str) -> None:
    seen = {
        name: {row["port_id"] for row in ASK[way](connect(STATIC[name]), sql)} for name in ("alice", "bob", "carol")
    }
    assert seen["carol"] & {3, 4}, "the query is about the rows that are hidden"
    assert seen["alice"] <= {1, 2}
    assert seen["bob"] <= {3}
    assert seen["alice"] or "LIMIT" in sql


@pytest.mark.parametrize("way", ASK)
def test_masks_hold_in_sql(connect: Connect, way: str) -> None:
    rows = ASK[way](connect(STATIC["alice"]), "SELECT desk FROM p.nav WHERE desk IS NOT NULL")
    assert rows == []
    assert len(ASK[way](connect(STATIC["carol"]), "SELECT desk FROM p.nav WHERE desk IS NOT NULL")) == 8


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT * FROM "p"."nav$files"',
        "SELECT * FROM p.nav FOR VERSION AS OF 1",
        "SELECT * FROM iceberg_scan('x')",
        "SELECT * FROM read_parquet('x')",
        "SELECT * FROM p.nav TABLESAMPLE BERNOULLI (50)",
        "SELECT * FROM information_schema.tables",
        "SELECT current_setting('access_mode') AS x",
        "TABLE p.nav; SELECT 1 AS one",
        "CREATE TABLE p.x AS SELECT * FROM p.nav",
        "EXPLAIN SELECT * FROM p.nav",
    ],
)
def test_what_could_go_around_is_refused(connect: Connect, sql: str) -> None:
    for name in ("alice", "carol"):
        assert code_of(lambda name=name: connect(STATIC[name]).sql(sql)) == "sql-refused"  # type: ignore[misc]


def test_tables_are_named_only_by_whose_role_may(connect: Connect) -> None:
    assert code_of(lambda: connect(STATIC["dave"]).sql("SELECT port_id FROM p.nav")) != "ok"
    tables = {row["table_name"] for row in connect(STATIC["dave"]).metadata("CommandGetTables").to_pylist()}
    assert tables == {"nav", "public_names"}


def test_a_prepared_statement_is_its_owners(connect: Connect) -> None:
    handle = connect(STATIC["carol"]).prepare("SELECT port_id FROM p.nav").prepared_statement_handle
    assert code_of(lambda: connect(STATIC["alice"]).prepared(handle)) == "not-allowed"


def test_a_statements_ticket_gives_its_user_only_the_users_rows(connect: Connect) -> None:
    ticket = connect(STATIC["carol"]).info(json.dumps({"sql": "SELECT port_id FROM p.nav"})).endpoints[0].ticket.ticket
    assert {row["port_id"] for row in connect(STATIC["alice"]).rows(ticket)} == {1, 2}
    assert code_of(lambda: connect(STATIC["dave"]).rows(ticket)) != "ok"


def test_a_submitted_query_is_its_owners(connect: Connect) -> None:
    query_id = connect(STATIC["carol"]).submitted({"dataset": "nav"})
    for name in ("alice", "bob"):
        client = connect(STATIC[name])
        for kind in ("status", "result", "cancel"):
            assert code_of(lambda c=client, k=kind: c.action(k, {"id": query_id})) == "unknown-query"  # type: ignore[misc]
    assert len(connect(STATIC["carol"]).result(query_id)) == 8


def test_a_kept_result_is_not_given_after_policies_have_changed(lake_copy: Lake) -> None:
    with lake_copy.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as client:
        alice = Client(client, STATIC["alice"])
        query_id = alice.submitted({"dataset": "nav"})
        assert {row["port_id"] for row in alice.result(query_id)} == {1, 2}
        (lake_copy.folder / "sql" / "policies.toml").write_text(
            POLICIES.replace("port_id IN", "port_id < 2 AND port_id IN")
        )
        assert running.reload() == []
        assert code_of(lambda: alice.result(query_id)) == "unknown-query"
        assert alice.ports() == {1}


def test_an_engines_reason_with_a_hidden_value_is_not_sent(connect: Connect) -> None:
    sql = "SELECT CAST(concat('hidden', CAST(port_id AS VARCHAR)) AS INTEGER) AS x FROM p.nav"
    said = {}
    for name in ("alice", "carol"):
        with pytest.raises((flight.FlightError, pa.ArrowException)) as caught:
            connect(STATIC[name]).sql(sql)
        said[name] = str(caught.value)
    assert "hidden" in said["carol"]
    assert "hidden" not in said["alice"]
    assert "[engine-failed]" in said["alice"]


def test_no_refusal_shows_a_policy(connect: Connect) -> None:
    client = connect(STATIC["bob"])
    for sql in (
        "SELECT nope FROM p.nav",
        "SELECT port_id FROM p.nav GROUP BY",
        "SELECT port_id + desk AS x FROM p.nav",
    ):
        with pytest.raises((flight.FlightError, pa.ArrowException)) as caught:
            client.sql(sql)
        assert "portfolios" not in str(caught.value)
        assert "IN (3)" not in str(caught.value)


def test_what_a_plan_says_does_not_tell_of_hidden_rows(connect: Connect) -> None:
    def estimates(name: str) -> set[str]:
        client = connect(STATIC[name])
        plans = [json.loads(client.info(f"nav?port_id={port}").app_metadata) for port in (1, 3, 4, 5, 99)]
        plans += [client.action("explain", {"dataset": "nav", "params": {"port_id": port}}) for port in (3, 99)]
        sql = "SELECT port_id FROM p.nav WHERE desk >= '' AND value > 0 AND port_id = {}"
        plans += [json.loads(client.info(json.dumps({"sql": sql.format(port)})).app_metadata) for port in (3, 99)]
        return {json.dumps(plan["estimate"], sort_keys=True) for plan in plans}

    assert len(estimates("alice")) == 1
    assert len(estimates("carol")) == 2


def test_explain_shows_the_text_of_policies_to_operators_only(lake_copy: Lake) -> None:
    (lake_copy.folder / "sql" / "policies.toml").write_text(
        POLICIES.replace("port_id IN", "desk <> 'planted-desk' AND port_id IN").replace('"NULL"', "\"'planted-mask'\"")
    )
    tokens = lake_copy.folder / "tokens.toml"
    tokens.write_text(tokens.read_text().replace('roles = ["pm"]', 'roles = ["pm", "operator"]', 1))
    with lake_copy.serve() as running, flight.connect(f"grpc://localhost:{running.port}") as client:
        shown = {name: Client(client, STATIC[name]).action("explain", {"dataset": "nav"}) for name in ("alice", "bob")}
    assert "planted-desk" in shown["alice"]["sql"]
    assert "planted-mask" in shown["alice"]["sql"]
    assert "planted" not in json.dumps(shown["bob"])
    assert shown["bob"]["sql"].startswith("SELECT")
    assert [each["name"] for each in shown["bob"]["row_filters"]] == ["p.nav#1", "p.nav.desk"]
