"""The audit file: whole lines whatever happens to it, and no answers while it cannot be written."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pyarrow.flight as flight
import pytest

from flight_server.config import Audit as Settings
from flight_server.errors import ConfigError
from flight_server.server import Server
from flight_server.service.audit import Audit
from tests.audit_lines import OUTCOME, lines
from tests.fix_identity import STATIC, Client, Lake, code_of
from tests.processes import server
from tests.waiting import until


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
