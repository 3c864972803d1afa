"""The audit log: a line for every call, and no answers while it cannot be written. And: no secret anywhere."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from prometheus_client import generate_latest

from flight_server import server as composition
from flight_server import telemetry
from flight_server.config import Audit as Settings
from flight_server.errors import ConfigError
from flight_server.server import Server
from flight_server.service.audit import Audit
from flight_server.service.auth.tokens import digest
from tests.fix_identity import HASHER, PASSWORD, STATIC, Client, Lake, code_of
from tests.fix_served import POLICIES, Labs, dataset
from tests.fix_server import connect
from tests.lake import ROWS
from tests.processes import server
from tests.waiting import until

OUTCOME: dict[str, Any] = {
    "caller": "x",
    "method": "DoGet",
    "action": "",
    "dataset": "d",
    "params": "",
    "datasets": (),
    "reads": (),
    "rows": 0,
    "bytes": 0,
    "policies": (),
    "query_id": "",
    "code": "ok",
}


def lines(file: Path, count: int) -> list[dict[str, Any]]:
    """The lines of the file once there are `count`: a call's line comes after its answer."""
    until(lambda: file.exists() and len(file.read_text().splitlines()) >= count)
    found = file.read_text().splitlines()
    assert len(found) == count, found
    return [json.loads(line) for line in found]


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


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    audit = Audit(Settings(file=str(tmp_path / "a")))

    def write(number: int) -> None:
        for each in range(100):
            audit.write(OUTCOME | {"caller": f"{number}-{each}", "dataset": "x" * 500})

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({line["caller"] for line in lines(tmp_path / "a", 800)}) == 800
    audit.close()


def test_a_file_that_is_moved_or_removed_is_followed_by_a_new_one(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "log" / "audit.log"
    file.parent.mkdir()
    with (
        policed.serve(audit={"file": str(file)}) as running,
        flight.connect(f"grpc://localhost:{running.port}") as client,
    ):
        Client(client, STATIC["alice"]).listed()
        lines(file, 1)
        file.rename(tmp_path / "audit.log.1")
        Client(client, STATIC["bob"]).listed()
        assert lines(file, 1)[0]["caller"] == "bob"
        file.unlink()
        Client(client, STATIC["carol"]).listed()
        assert lines(file, 1)[0]["caller"] == "carol"
        # Without its folder there can be no new file: nobody is answered until there is one, and nothing is lost.
        file.rename(tmp_path / "audit.log.2")
        file.parent.rmdir()
        assert code_of(Client(client, STATIC["dave"]).listed) == "ok"
        until(lambda: running.flight.audit._unwritten)
        alice = Client(client, STATIC["alice"])
        for call in (alice.listed, alice.ports, lambda: alice.info("nav")):
            assert code_of(call) == "internal"
        with pytest.raises(urllib.error.HTTPError) as red:
            urllib.request.urlopen(f"http://localhost:{running.http.port}/readyz", timeout=20)
        with red.value as answer:
            assert json.loads(answer.read())["checks"]["audit"] == "internal"
        file.parent.mkdir()
        assert code_of(alice.listed) == "ok"
        found = lines(file, 5)
    said = [(line["caller"], line["code"]) for line in found]
    assert said == [("dave", "ok"), *[("", "internal")] * 3, ("alice", "ok")]
    assert lines(tmp_path / "audit.log.1", 1)[0]["caller"] == "alice"
    assert lines(tmp_path / "audit.log.2", 1)[0]["caller"] == "carol"


def test_lines_that_wait_are_bounded_and_the_others_are_counted(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "log" / "audit.log"
    file.parent.mkdir()
    with policed.serve(audit={"file": str(file), "waiting_max": 5}) as running:
        with flight.connect(f"grpc://localhost:{running.port}") as client:
            file.unlink()
            file.parent.rmdir()
            alice = Client(client, STATIC["alice"])
            codes = [code_of(alice.listed) for _ in range(20)]
            file.parent.mkdir()
        assert len(running.flight.audit._unwritten) == 5
    # Written at the end of the server.
    found = lines(file, 6)
    assert [line["code"] for line in found] == ["ok"] * codes.count("ok") + ["internal"] * (6 - codes.count("ok"))
    assert (found[-1]["calls"], 0 < codes.count("ok") < 5) == (15, True)


def test_half_a_line_is_completed_and_not_repeated(tmp_path: Path) -> None:
    """By a limit of the file's size, which takes as much of a line as there is room for, like a full disk."""
    file = tmp_path / "a"
    code = f"""
import resource
from flight_server import server as composition
from flight_server import telemetry
from flight_server.config import Audit as Settings
from flight_server.errors import ServerError
from flight_server.service.audit import Audit
telemetry.configure("json", "info")
audit = Audit(Settings(file={str(file)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
for number in range(3):
    audit.write({OUTCOME!r} | {{"rows": number}})
try:
    audit.check()
except ServerError:
    print(audit._begun)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
audit.check()
audit.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "100\n"
    assert [line["rows"] for line in lines(file, 3)] == [0, 1, 2]
    assert done.stderr.count("audit_unwritable") == 1


def test_what_is_not_written_at_the_end_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    audit = Audit(Settings(file="/dev/full"))
    for _ in range(3):
        audit.write(OUTCOME)
    audit.close()
    said = [line for line in capfd.readouterr().err.splitlines() if "audit_lost" in line]
    assert len(said) == 1
    assert "calls=3" in said[0]


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


def test_a_full_disk_stops_a_real_server_from_answering(policed: Lake, tmp_path: Path) -> None:
    with server(policed.settings(audit={"file": "/dev/full"}), tmp_path) as process:
        with flight.connect(process.address) as client:
            alice = Client(client, STATIC["alice"])
            # The first line that cannot be written is that of a call which has ended.
            assert code_of(alice.listed) == "ok"
            until(lambda: code_of(alice.listed) != "ok")
            for call in (alice.listed, alice.ports, lambda: alice.info("nav")):
                assert code_of(call) == "internal"
        process.child.terminate()
        assert "/dev/full" in process.wait_for("audit_unwritable")
        assert '"calls": ' in process.wait_for("audit_lost")


def test_a_hostile_dataset_name_stays_on_one_line(policed_server: Server, tmp_path: Path) -> None:
    audit = Audit(Settings(file=str(tmp_path / "a")))
    audit.write(OUTCOME | {"dataset": 'x"\n{"caller": "forged"}\u2028'})
    assert lines(tmp_path / "a", 1)[0]["caller"] == "x"
    audit.close()


def test_an_audit_file_that_cannot_be_opened_stops_the_start(policed: Lake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audit\.file"), policed.serve(audit={"file": str(tmp_path)}):
        pass


def test_lines_go_to_standard_output_at_once() -> None:
    code = (
        "from flight_server.service.audit import Audit; import os\n"
        "from flight_server.config import Audit as Settings\n"
        f"Audit(Settings(file='-')).write({OUTCOME!r})\n"
        "os._exit(0)"  # nothing is flushed at exit
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["method"] == "DoGet"


def test_planted_secrets_occur_nowhere(policed: Lake, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    token, password, secret, claim = ("planted-token-1f", "planted-password-2e", "planted-secret-3d" * 2, 987654321)
    hash_ = HASHER.hash(password)
    (folder / "t.toml").write_text(
        f'[[token]]\nname = "t"\nsha256 = "{digest(token)}"\nclaims = {{ portfolios = [{claim}] }}'
    )
    (folder / "p.toml").write_text(f'[[user]]\nname = "u"\nargon2 = "{hash_}"\n')
    auth = {"tokens": folder / "t.toml", "passwords": folder / "p.toml"}
    file = tmp_path / "audit.log"
    said: list[str] = []
    telemetry.configure("json", "debug")
    try:
        with policed.serve(auth=auth, server={"ticket_secret": secret}, audit={"file": str(file)}) as running:
            config = running.config
            said += [
                repr(config),
                str(config),
                config.model_dump_json(),
                repr(running),
                repr(running.flight.authentication),
            ]
            with flight.connect(f"grpc://localhost:{running.port}") as client:
                session = client.authenticate_basic_token("u", password)[1].decode()
                for credential in (token, session, f"{token}x", f"Basic {password}", f"{session}x", token.upper()):
                    mine = Client(client, credential)
                    for call in (
                        mine.ports,
                        mine.listed,
                        lambda m=mine: m.info("nav"),
                        lambda m=mine: m.info("nav?x=1"),
                    ):
                        try:
                            said.append(str(call()))
                        except (flight.FlightError, pa.ArrowException) as error:
                            said.append(str(error))
                said.append(json.dumps(Client(client, token).action("describe", {"dataset": "nav"})))
                said.append(str(Client(client, token).info("nav").serialize()))
            (folder / "t.toml").write_text(f'[[token]]\nname = "t"\nsha256 = "{token}"')
            said += [str(error) for error in running.reload()]
            said.append(generate_latest().decode())
    finally:
        # To where it wrote before, not to what is captured here.
        with capfd.disabled():
            telemetry.configure("console", "warning")
    said += [file.read_text(), *capfd.readouterr()]
    text = "\n".join(said)
    assert "bad-credential" in text
    assert "rpc" in text
    for planted in (token, password, secret, hash_, digest(token), session.removeprefix("Bearer ")):
        assert planted not in text, planted
    # Who sees which rows is what the audit log is for, and it alone has the values of claims.
    assert f"nav.port_id IN ({claim})" in file.read_text()
    assert str(claim) not in "\n".join(said[:-3] + said[-2:])
