"""The audit log: a line for every call, and no answers while it cannot be written. And: no secret anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from prometheus_client import generate_latest

from flight_server import telemetry
from flight_server.errors import ConfigError
from flight_server.server import Server
from flight_server.service.audit import Audit
from flight_server.service.auth.tokens import digest
from tests.fix_identity import HASHER, PASSWORD, STATIC, Client, Lake, code_of

OUTCOME: dict[str, Any] = {
    "caller": "x",
    "method": "DoGet",
    "dataset": "d",
    "params": "",
    "rows": 0,
    "bytes": 0,
    "policies": (),
    "query_id": "",
    "code": "ok",
}


def lines(file: Path, count: int) -> list[dict[str, Any]]:
    """The lines of the file once there are `count`: a call's line comes after its answer."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = file.read_text().splitlines() if file.exists() else []
        if len(found) >= count:
            assert len(found) == count, found
            return [json.loads(line) for line in found]
        time.sleep(0.01)
    raise AssertionError(f"{len(found)} lines")


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
        found = lines(file, 7)
    said = [(line["caller"], line["method"], line["dataset"], line["code"]) for line in found]
    assert said == [
        ("alice", "DoGet", "nav", "ok"),
        ("alice", "GetFlightInfo", "nav", "ok"),
        ("alice", "ListFlights", "", "ok"),
        ("alice", "GetFlightInfo", "secret_limits", "unknown-dataset"),
        ("alice", "GetFlightInfo", "nav", "bad-parameter"),
        ("", "ListFlights", "", "bad-credential"),
        ("erin", "Handshake", "", "ok"),
    ]
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


def test_while_the_audit_cannot_be_written_nobody_is_answered_and_nothing_is_lost(
    policed: Lake, tmp_path: Path
) -> None:
    file = tmp_path / "audit.log"
    with policed.serve(audit={"file": str(file)}) as running:
        audit = running.flight.audit
        with flight.connect(f"grpc://localhost:{running.port}") as client:
            alice = Client(client, STATIC["alice"])
            alice.listed()
            lines(file, 1)
            good, full = audit._target, os.open("/dev/full", os.O_WRONLY)
            audit._target = full
            # The first call after the disk is full is answered: that its line cannot be written is known at its end.
            assert code_of(alice.listed) == "ok"
            end = time.monotonic() + 10
            while not audit._unwritten and time.monotonic() < end:
                time.sleep(0.01)
            for call in (alice.listed, alice.ports, lambda: alice.info("nav")):
                assert code_of(call) == "internal"
            audit._target = good
            os.close(full)
            assert code_of(alice.listed) == "ok"
        written = lines(file, 6)
    assert [line["code"] for line in written] == ["ok", "ok", *["internal"] * 3, "ok"]


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    audit = Audit(str(tmp_path / "a"))

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


def test_a_moved_file_is_followed_by_a_new_one_at_reload(policed: Lake, tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    with (
        policed.serve(audit={"file": str(file)}) as running,
        flight.connect(f"grpc://localhost:{running.port}") as client,
    ):
        Client(client, STATIC["alice"]).listed()
        lines(file, 1)
        file.rename(tmp_path / "audit.log.1")
        assert running.reload() == []
        Client(client, STATIC["bob"]).listed()
        assert lines(file, 1)[0]["caller"] == "bob"
    assert lines(tmp_path / "audit.log.1", 1)[0]["caller"] == "alice"


def test_a_hostile_dataset_name_stays_on_one_line(policed_server: Server, tmp_path: Path) -> None:
    audit = Audit(str(tmp_path / "a"))
    audit.write(OUTCOME | {"dataset": 'x"\n{"caller": "forged"}\u2028'})
    assert lines(tmp_path / "a", 1)[0]["caller"] == "x"
    audit.close()


def test_an_audit_file_that_cannot_be_opened_stops_the_start(policed: Lake, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audit\.file"), policed.serve(audit={"file": str(tmp_path)}):
        pass


def test_lines_go_to_standard_output_at_once() -> None:
    code = (
        "from flight_server.service.audit import Audit; import os\n"
        f"Audit('-').write({OUTCOME!r})\n"
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
    for planted in (token, password, secret, str(claim), hash_, digest(token), session.removeprefix("Bearer ")):
        assert planted not in text, planted
