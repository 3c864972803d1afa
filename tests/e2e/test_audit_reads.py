"""An audit line says which tables were read and which of their rows were seen, on both engines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server import server as composition
from flight_server.service.auth.tokens import digest
from tests.audit_lines import lines
from tests.fix_identity import STATIC, Client
from tests.fix_served import POLICIES, Labs, dataset
from tests.fix_server import connect
from tests.lake import ROWS
from tests.waiting import until

AAPL = {
    "table": "lake.prices",
    "filters": ["prices.ticker IN ('AAPL')"],
    "masks": {"price": "CAST((CASE WHEN prices.id < 10 THEN prices.price END) AS DOUBLE)"},
}
# All of it.
PRICES: dict[str, Any] = {"table": "lake.prices", "filters": [], "masks": {}}
VALUES: dict[str, Any] = {"table": "lake.values_", "filters": [], "masks": {}}


@dataclass
class Audited:
    """A server over the local AWS whose lines are in `file`, and clients of its callers by name."""

    file: Path
    clients: dict[str, Client]
    snapshots: dict[str, int]

    def reads(self, count: int) -> list[tuple[str, str, str, list[str], list[dict[str, Any]]]]:
        """Of each line: caller, method, code, datasets called, and tables without their snapshots."""
        found = []
        for line in lines(self.file, count):
            for each in line["reads"]:
                assert each.pop("snapshot") == self.snapshots[each["table"]]
            found.append((line["caller"], line["method"], line["code"], line["datasets"], line["reads"]))
        return found


@pytest.fixture(params=["duckdb", "athena"])
def audited(labs: Labs, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Audited]:
    tokens = tmp_path / "tokens.toml"
    callers = {"alice": 'roles = ["pm"]\nclaims = { tickers = ["AAPL"] }', "carol": 'roles = ["risk"]', "dave": ""}
    tokens.write_text(
        "\n".join(
            f'[[token]]\nname = "{name}"\nsha256 = "{digest(STATIC[name])}"\n{rest}' for name, rest in callers.items()
        )
    )
    rows = dataset({"id": "int64", "price": "float64"}, "SELECT p.id, p.price FROM lake.prices AS p")
    found = labs.configure(
        {
            "rows": rows,
            "wide": rows.replace('"Test"', '"Wide"').replace(
                "-- ///\nSELECT", '-- [limits]\n-- max_scan = "1B"\n-- ///\nSELECT'
            ),
        },
        server={"engines": (request.param,)},
        auth={"tokens": tokens},
        audit={"file": str(tmp_path / "audit.log")},
        sql={"ad_hoc_roles": ("pm", "risk")},
    )
    (found.datasets.directory / "policies.toml").write_text(POLICIES)
    running = composition.build(found)
    try:
        with connect(running) as opened:
            snapshots = {
                name: running.catalog.load_table(name).metadata.current_snapshot_id
                for name in ("lake.prices", "lake.values_")
            }
            yield Audited(tmp_path / "audit.log", {name: Client(opened, STATIC[name]) for name in callers}, snapshots)
    finally:
        running.stop(0)


def test_a_line_says_which_tables_were_read_and_which_rows_of_them_were_seen(audited: Audited) -> None:
    alice, carol, dave = (audited.clients[name] for name in ("alice", "carol", "dave"))
    joined = "SELECT r.id FROM rows AS r JOIN lake.values_ AS v ON v.id = r.id"
    assert len(alice.rows("rows")) == ROWS // 2
    # From the store.
    assert len(alice.rows("rows")) == ROWS // 2
    assert len(carol.rows("rows")) == ROWS
    assert dave.rows("rows") == []
    assert [row["id"] for row in alice.rows(json.dumps({"sql": joined}))] == [2]
    assert carol.sql("SELECT max(id) AS id FROM lake.values_") == [{"id": 3}]
    # A call and nothing else is the dataset by name.
    assert len(alice.sql("SELECT * FROM rows")) == ROWS // 2
    nobody = AAPL | {"filters": ["FALSE"]}
    assert audited.reads(9) == [
        ("alice", "DoGet", "ok", [], [AAPL]),
        ("alice", "DoGet", "ok", [], [AAPL]),
        ("carol", "DoGet", "ok", [], [PRICES]),
        ("dave", "DoGet", "ok", [], [nobody]),
        ("alice", "DoGet", "ok", ["rows"], [AAPL, VALUES]),
        ("carol", "GetFlightInfo", "ok", [], [VALUES]),
        ("carol", "DoGet", "ok", [], [VALUES]),
        ("alice", "GetFlightInfo", "ok", [], [AAPL]),
        ("alice", "DoGet", "ok", [], [AAPL]),
    ]


def test_prepared_and_submitted_queries_have_what_they_read_too(audited: Audited) -> None:
    alice = audited.clients["alice"]
    handle = alice.prepare("SELECT r.id FROM rows AS r WHERE r.id < 10").prepared_statement_handle
    assert len(alice.prepared(handle)) == 5
    query = alice.action("submit", {"sql": "SELECT p.id FROM lake.prices AS p WHERE p.id < 4"})["id"]
    until(lambda: alice.action("status", {"id": query})["state"] == "SUCCEEDED")
    assert len(alice.result(query)) == 2
    found = [line for line in audited.reads(len(audited.file.read_text().splitlines())) if line[4]]
    assert found == [
        ("alice", "GetFlightInfo", "ok", ["rows"], [AAPL]),
        ("alice", "DoGet", "ok", ["rows"], [AAPL]),
        ("alice", "DoAction", "ok", [], [AAPL]),
        ("alice", "DoAction", "ok", [], [AAPL]),
        ("alice", "DoGet", "ok", [], [AAPL]),
    ]


def test_what_was_to_be_read_is_said_of_refused_and_failed_calls(audited: Audited) -> None:
    alice = audited.clients["alice"]
    said: list[str] = []
    asked = [
        "wide",
        '{"sql": "SELECT w.id FROM wide AS w JOIN lake.values_ AS v ON v.id = w.id"}',
        '{"sql": "SELECT CAST(p.ticker AS BIGINT) AS n FROM lake.prices AS p"}',
        # There is no plan of these.
        '{"sql": "SELECT m.id FROM lake.missing AS m"}',
        '{"sql": "SELECT p.no_such FROM lake.prices AS p"}',
        "rows?no_such=1",
    ]
    for each in asked:
        with pytest.raises((flight.FlightError, pa.ArrowException)) as raised:
            alice.rows(each)
        said.append(str(raised.value))
    said.append(alice.info("rows").app_metadata.decode())
    said.append(json.dumps(alice.action("explain", {"dataset": "rows"})))
    lake = audited.reads(8)
    assert lake[:6] == [
        ("alice", "DoGet", "scan-limit", [], [AAPL]),
        ("alice", "DoGet", "scan-limit", ["wide"], [AAPL, VALUES]),
        ("alice", "DoGet", "engine-failed", [], [AAPL]),
        ("alice", "DoGet", "sql-refused", [], []),
        ("alice", "DoGet", "sql-refused", [], []),
        ("alice", "DoGet", "unknown-parameter", [], []),
    ]
    # Nothing of that is told to who asks.
    assert not [text for text in said if "AAPL" in text or "CASE" in text]
