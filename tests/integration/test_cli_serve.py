"""`serve` and `demo` as processes: signals, ports, watching, and what a client sees meanwhile."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.flight as flight
import pytest

from flight_server.cli import main

ROOT = Path(__file__).parents[2]
ASKED = b"daily_prices?ticker=AAPL&start_date=2010-01-04&end_date=2010-01-29"


class Served:
    """A running `athena-flight serve`: its port, and its log lines as they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log = ""
        # So that a line that never comes is a failure with the log, and not a test that hangs.
        self.limit = threading.Timer(110, process.kill)
        self.limit.start()
        self.port = 0

    def wait_until_listening(self) -> None:
        self.port = int(self.wait_for(r"serving .*address=grpc://127\.0\.0\.1:(\d+)"))

    def end(self) -> None:
        self.limit.cancel()
        self.process.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def wait_for(self, pattern: str) -> str:
        """Read the log up to a line with `pattern`; its group, or the line."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if found := re.search(pattern, line):
                return found[1] if found.groups() else line
        raise AssertionError(f"the server ended without {pattern!r}:\n{self.log}")

    @contextmanager
    def client(self) -> Iterator[flight.FlightClient]:
        with flight.connect(f"grpc://127.0.0.1:{self.port}") as client:
            yield client


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start `athena-flight serve` with a settings file; ended after the test."""
    started: list[Served] = []

    def start(settings: Path, *words: str) -> Served:
        command = [sys.executable, "-m", "flight_server", "serve", "--config", str(settings), *words]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        served = Served(process)
        started.append(served)
        served.wait_until_listening()
        return served

    yield start
    for served in started:
        served.end()


def _settings(folder: Path, tmp_path: Path, server: str = "") -> Path:
    """A settings file that serves `folder` from an empty catalog of its own, on any port."""
    path = tmp_path / "s.toml"
    path.write_text(
        f'[server]\nport = 0\n{server}\n[datasets]\ndirectory = "{folder}"\n'
        f'[catalog]\nuri = "sqlite:///{tmp_path}/c.db"\nwarehouse = "{tmp_path}/w"\n'
    )
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_with_0(serve: Serve, demo_file: Path, number: signal.Signals) -> None:
    served = serve(demo_file)
    with served.client() as client:
        assert client.do_get(flight.Ticket(ASKED)).read_all().num_rows == 19
    served.process.send_signal(number)
    assert served.process.wait(40) == 0
    served.wait_for("stopped")


MANY = """\
-- /// dataset
-- title = "Many"
-- [columns]
-- n = { type = "int64" }
-- ///
SELECT CAST(a.x AS BIGINT) * b.y AS n
FROM UNNEST(SEQUENCE(1, 5000)) AS a (x)
CROSS JOIN UNNEST(SEQUENCE(1, 5000)) AS b (y)
"""


def test_a_client_that_does_not_read_cannot_hold_up_the_end(serve: Serve, folder: Path, tmp_path: Path) -> None:
    (folder / "many.sql").write_text(MANY)
    served = serve(_settings(folder, tmp_path, "grace_s = 0.5"))
    with served.client() as client:
        reader = client.do_get(flight.Ticket(b"many"))
        assert reader.read_chunk().data.num_rows > 0
        served.process.terminate()
        # Whether the stream is told to end, or cut off, is decided by how much gRPC has in its buffers.
        assert served.process.wait(20) == 0


def test_a_taken_port_is_one_line(demo_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--config", str(demo_file), "--port", str(port)])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.err.splitlines(keepends=True)[-1] == (
        f"error: [bad-config] setting 'server.port': cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another with --port\n"
    )


def test_an_address_of_another_machine_is_one_line(demo_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # RFC 5737 keeps this address for documentation; no machine has it.
    words = ["--host", "192.0.2.1", "--port", "8815", "--insecure-allow-remote"]
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--config", str(demo_file), *words])
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: [bad-config] setting 'server.host': cannot listen on 192.0.2.1:8815: ")
    assert "--host, or 0.0.0.0" in said


def test_all_settings_that_do_not_go_together_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "bad.toml"
    settings.write_text(
        f'[server]\nengines = ["athena"]\nport = 9000\nhealth_port = 9000\n[tls]\nkey = "{tmp_path}/none.key"\n'
        f'[aws]\nregion = "eu-west-1"\n[datasets]\ndirectory = "{tmp_path}"\n'
    )
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--config", str(settings), "--host", "0.0.0.0"])
    assert ended.value.code == 1
    said = [line.partition(":")[0] + ":" + line.split("'")[1] for line in capsys.readouterr().err.splitlines()]
    # Also what only a flag has brought about, which `config check` does not see.
    assert sorted(said) == [
        "error:athena.results",
        "error:server.health_port",
        "error:server.host",
        "error:tls.key",
    ]


def test_watch_keeps_the_last_good_version_and_says_so(serve: Serve, folder: Path, tmp_path: Path) -> None:
    path = folder / "closes.sql"
    good = path.read_text()
    served = serve(_settings(folder, tmp_path), "--watch")
    with served.client() as client:

        def columns() -> list[str]:
            descriptor = flight.FlightDescriptor.for_path("closes")
            return list(client.get_schema(descriptor).schema.names)

        assert columns() == ["day", "close", "shares"]

        path.write_text(good.replace("p.close,", "p.colse AS close,"))
        served.wait_for(rf"{path}:21:15: there is no column 'colse' here; did you mean 'close'\?")
        served.wait_for("datasets_kept")
        assert columns() == ["day", "close", "shares"]

        # Wrong in another way, and the folder is still the same for the server.
        path.write_text("-- /// dataset\n-- titel = 1\n-- ///\nSELECT 1 AS x")
        served.wait_for(rf"{path}:2:4: .*title")
        assert columns() == ["day", "close", "shares"]

        changed = good.replace("p.day, p.close, p.shares", "p.day, p.close")
        path.write_text(changed.replace('-- shares = { type = "int64" }\n', ""))
        served.wait_for("datasets_good_again")
        assert columns() == ["day", "close"]

        path.write_text(good)
        served.wait_for("datasets_reloaded")
        assert columns() == ["day", "close", "shares"]

        (folder / "more.sql").write_text(good)
        served.wait_for("datasets_reloaded")
        assert len(list(client.list_flights())) == 2


def test_sighup_reads_the_datasets_again(serve: Serve, folder: Path, tmp_path: Path) -> None:
    served = serve(_settings(folder, tmp_path))
    assert re.search(r"table_missing .*'closes'.* table=market\.prices", served.log)
    with served.client() as client:
        (folder / "more.sql").write_text((folder / "closes.sql").read_text())
        served.process.send_signal(signal.SIGHUP)
        served.wait_for("datasets_reloaded .*datasets=2")
        assert len(list(client.list_flights())) == 2
        (folder / "more.sql").write_text("SELECT 1")
        served.process.send_signal(signal.SIGHUP)
        served.wait_for("dataset_wrong .*more.sql:1:1: a dataset file starts with")
        served.wait_for("datasets_kept")
        assert len(list(client.list_flights())) == 2
    served.process.terminate()
    assert served.process.wait(40) == 0


def test_demo_serves_real_prices_and_works_again(tmp_path: Path) -> None:
    (tmp_path / "sql").symlink_to(ROOT / "sql")
    command = [sys.executable, "-m", "flight_server", "demo", "--port", "0"]
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "PATH": "/usr/bin:/bin"}
    said = ""
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            said += line
            if "Ctrl-C" in line:
                break
        # The lines to copy run as they are.
        code = said[said.index("import pyarrow") : said.index(".read_all()")] + ".read_all()\nprint(table.num_rows)"
        client = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert client.stdout == "19\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(40) == 0
    command.append("--once")
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr) == (0, "")
    assert "built market_data.us_stocks_price: 12,154 rows" in said
    assert "built" not in again.stdout
    for text in (said, again.stdout):
        assert re.search(r"2010-01-04 +214\.01 +27\.5", text)
        assert "19 rows; the first 5:" in text
    secret = tmp_path / ".demo" / "ticket-secret"
    assert secret.stat().st_mode & 0o777 == 0o600
