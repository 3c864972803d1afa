"""The audit log: a line for every call, that says who asked for what, how much it was and how it ended."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight

from tests.audit_lines import lines
from tests.fix_identity import PASSWORD, STATIC, Client, Lake, code_of
from tests.fix_server import connect


def test_every_call_has_one_line_that_says_who_what_and_how_much(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with policed.serve(audit={"file": str(file)}) as running:
        with flight.connect(f"grpc://localhost:{running.port}") as client:
            alice, wrong = Client(client, STATIC["alice"]), Client(client, "af_wrong")
            alice.ports("nav?port_id=1")
            alice.info('{"dataset": "nav", "params": {"port_id": 1}}')
            alice.listed()
            code_of(lambda: alice.info("secret_limits"))
            code_of(lambda: alice.info("nav?port_id=x"))
            code_of(wrong.listed)
            client.authenticate_basic_token("erin", PASSWORD)
            alice.action("whoami", {})
            code_of(lambda: alice.action("who\nami", {}))
        found = lines(file, 9)
    said = [(line["caller"], line["method"], line["dataset"], line["code"]) for line in found]
    assert said == [
        ("alice", "DoGet", "nav", "ok"),
        ("alice", "GetFlightInfo", "nav", "ok"),
        ("alice", "ListFlights", "", "ok"),
        ("alice", "GetFlightInfo", "secret_limits", "unknown-dataset"),
        ("alice", "GetFlightInfo", "nav", "bad-parameter"),
        ("", "ListFlights", "", "bad-credential"),
        ("erin", "Handshake", "", "ok"),
        ("alice", "DoAction", "", "ok"),
        ("alice", "DoAction", "", "unsupported"),
    ]
    assert [line["action"] for line in found] == [""] * 7 + ["whoami", ""]
    get = found[0]
    assert (get["rows"], get["policies"]) == (2, ["p.nav#1", "p.nav.desk"])
    assert get["bytes"] > 0
    assert get["time"].startswith("20")
    # Two spellings of one request have one hash, and another request has another.
    assert found[0]["params"] == found[1]["params"] != found[4]["params"]
    assert len(get["params"]) == 64
    assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_a_client_that_goes_away_has_its_line(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with policed.serve(audit={"file": str(file)}) as running:
        with flight.connect(f"grpc://localhost:{running.port}") as client:
            mine = Client(client, STATIC["carol"])
            reader = client.do_get(flight.Ticket(b"nav"), mine.options)
            reader.cancel()
            with contextlib.suppress(flight.FlightError, pa.ArrowException, KeyboardInterrupt, StopIteration):
                reader.read_all()
        assert lines(file, 1)[0]["caller"] == "carol"


def test_as_many_lines_as_calls_whatever_they_are_and_how_many_at_once(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    times, names = 25, ("alice", "bob", "carol", "dave")
    made: Counter[tuple[str, str]] = Counter()
    with policed.serve(audit={"file": str(file)}) as running:

        def ask(name: str) -> None:
            with flight.connect(f"grpc://localhost:{running.port}") as client:
                good, bad = Client(client, STATIC[name]), Client(client, "af_wrong")
                for _ in range(times):
                    for caller, call in (
                        (name, good.ports),
                        (name, good.listed),
                        (name, lambda: good.info("no_such_dataset")),
                        (name, lambda: good.action("describe", {"dataset": "nav"})),
                        ("", bad.ports),
                    ):
                        code = code_of(call)
                        with counting:
                            made[caller, code] += 1

        counting = threading.Lock()
        threads = [threading.Thread(target=ask, args=(name,)) for name in names]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        written = Counter((line["caller"], line["code"]) for line in lines(file, 5 * times * len(names)))
    assert written == made
    assert made["", "bad-credential"] == times * len(names)


def test_two_statements_have_two_hashes(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with policed.serve(audit={"file": str(file)}) as running:
        with flight.connect(f"grpc://localhost:{running.port}") as client:
            alice = Client(client, STATIC["alice"])
            alice.rows('{"sql": "SELECT max(value) AS v FROM p.nav"}')
            alice.rows('{"sql": "SELECT min(value) AS v FROM p.nav"}')
            code_of(lambda: alice.rows('{"sql": "SELECT min(valu) AS v FROM p.nav"}'))
            alice.sql("SELECT max(value) AS v FROM p.nav")
        found = lines(file, 5)
    assert {line["dataset"] for line in found} == {"sql"}
    first, second, wrong, info, again = (line["params"] for line in found)
    assert first == info == again
    assert len({first, second, wrong}) == 3


def test_what_was_asked_for_is_said_of_calls_that_plan_nothing(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with policed.serve(audit={"file": str(file)}) as running, connect(running) as client:
        alice = Client(client, STATIC["alice"])
        secret = flight.FlightDescriptor.for_path("secret_limits")
        assert code_of(lambda: client.get_schema(secret, alice.options)) == "unknown-dataset"
        assert code_of(lambda: alice.action("describe", {"dataset": "secret_limits"})) == "unknown-dataset"
        assert code_of(lambda: alice.prepare("SELECT s.name FROM secret_limits AS s")) == "sql-refused"
        alice.rows('{"sql": "SELECT n.port_id FROM nav AS n"}')
        alice.prepare("SELECT n.port_id FROM nav AS n")
        found = lines(file, 5)
    said = [(line["dataset"], line["code"]) for line in found]
    assert said == [
        ("secret_limits", "unknown-dataset"),
        ("secret_limits", "unknown-dataset"),
        ("sql", "sql-refused"),
        ("sql", "ok"),
        ("sql", "ok"),
    ]
    # The same statement.
    assert found[2]["params"] != found[3]["params"] == found[4]["params"]
