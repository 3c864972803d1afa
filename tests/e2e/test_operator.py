"""What an operator types, as processes of the installed command: certificates, credentials, `explain --as`, the port."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.flight as flight
import pytest

from tests.fix_identity import Client, Lake, code_of
from tests.hanging import hanging
from tests.processes import Process
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)
# Beside this Python, whatever PATH says.
COMMAND = str(Path(sys.executable).with_name("athena-flight"))
SETTINGS = """\
[server]
port = 0
[datasets]
directory = "sql"
[catalog]
uri = "sqlite:///catalog.db"
warehouse = "warehouse"
[log]
format = "json"
"""
AUTH = """\
[auth]
tokens = "secrets/tokens.toml"
passwords = "secrets/passwords.toml"
"""
TLS = """\
[tls]
certificate = ".tls/server.pem"
key = ".tls/server.key"
"""


@dataclass
class Operator:
    """Somebody in the folder of a deployment."""

    folder: Path

    def types(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *words], cwd=self.folder, input=typed, capture_output=True, text=True, timeout=120, check=False
        )

    def settings(self, *sections: str) -> None:
        (self.folder / "athena-flight.toml").write_text("".join([SETTINGS, *sections]))

    @contextmanager
    def serving(self, *flags: str) -> Iterator[Process]:
        process = Process(["serve", *flags], COMMAND, self.folder)
        try:
            process.wait_for('"serving"')
            yield process
            process.child.terminate()
            assert process.child.wait(60) == 0
        finally:
            process.close()


def addresses(process: Process) -> dict[str, str]:
    return dict(json.loads(process.wait_for('"serving"')))


@pytest.fixture
def operator(lake_copy: Lake) -> Operator:
    """In a folder with tables, datasets and policies, and without any credential."""
    for name in ("tokens.toml", "passwords.toml", "jwks.json"):
        (lake_copy.folder / name).unlink()
    return Operator(lake_copy.folder)


def test_from_nothing_to_rows_over_tls(operator: Operator) -> None:
    operator.settings(AUTH, TLS)
    # Everything that is missing is said at once, and the server does not start.
    checked = operator.types("config", "check")
    assert checked.returncode == 1
    assert [line.split(": ")[1] for line in checked.stdout.splitlines()] == [
        f"setting '{name}'" for name in ("auth.tokens", "auth.passwords", "tls.certificate", "tls.key")
    ]
    refused = operator.types("serve")
    assert (refused.returncode, refused.stdout) == (1, "")
    # The same, without the places in the file.
    assert refused.stderr.splitlines() == [
        f"error: [bad-config] {line.partition(': ')[2]}" for line in checked.stdout.splitlines()
    ]

    made = operator.types("tls", "dev-cert")
    assert (made.returncode, made.stdout.split()) == (0, [".tls/ca.pem", ".tls/server.pem", ".tls/server.key"])
    token = new_token(operator, "alice", "portfolios=[1,2]")
    first, later = "correct horse", "battery staple"
    done = operator.types("auth", "password", "erin", "--role", "pm", "--claim", "portfolios=[2]", typed=f"{first}\n")
    assert (done.returncode, done.stdout) == (0, "")
    for path in (operator.folder / "secrets").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert not [secret for secret in (token, first) if secret in path.read_text()]
    assert operator.types("config", "check").stdout == "the settings are good\n"
    who = operator.types("auth", "whoami", typed=f"{token}\n")
    alice = {"name": "alice", "roles": ["pm"], "claims": {"portfolios": [1, 2]}, "budget": None}
    assert json.loads(who.stdout) == alice

    with operator.serving() as process:
        address = addresses(process)["address"]
        assert re.fullmatch(r"grpc\+tls://127\.0\.0\.1:\d+", address)
        roots = (operator.folder / ".tls/ca.pem").read_bytes()
        with flight.connect(address, tls_root_certs=roots) as client:
            assert Client(client, token).ports() == {1, 2}
            # Over TLS the server says of the token what the command says of it.
            told = Client(client, token).action("whoami", {})
            assert {name: told[name] for name in ("name", "roles")} == {"name": "alice", "roles": ["pm"]}
            assert code_of(Client(client).ports) == "no-credential"
            assert code_of(Client(client, f"{token}x").ports) == "bad-credential"
            session = client.authenticate_basic_token("erin", first)[1].decode()
            assert Client(client, session).ports() == {2}
            assert code_of(lambda: client.authenticate_basic_token("erin", "wrong")) == "bad-credential"
            # The server knows them by the names that the operator gave.
            for name in ("alice", "erin"):
                process.wait_for(f'"caller": "{name}"')

            # Credentials change while it runs.
            second = new_token(operator, "bob", "portfolios=[3]")
            until(lambda: code_of(Client(client, second).listed) == "ok")
            assert Client(client, second).ports() == {3}
            assert operator.types("auth", "password", "erin", typed=f"{later}\n").returncode == 0
            until(lambda: code_of(Client(client, session).listed) == "bad-credential")
            assert client.authenticate_basic_token("erin", later)
            tokens = operator.folder / "secrets/tokens.toml"
            tokens.write_text("[[token]]".join(e for e in tokens.read_text().split("[[token]]") if "bob" not in e))
            until(lambda: code_of(Client(client, second).listed) == "bad-credential")
            assert Client(client, token).ports() == {1, 2}
        # Whoever does not know the authority, or speaks no TLS, gets nothing.
        for options in ({"tls_root_certs": b""}, {}):
            other = address if options else address.replace("+tls", "")
            with flight.connect(other, **options) as client, pytest.raises(flight.FlightUnavailableError):
                Client(client, token).ports()
    assert not [secret for secret in (token, second, first, later) if secret in "".join(process.lines)]


def new_token(operator: Operator, name: str, claim: str) -> str:
    done = operator.types("auth", "token", name, "--role", "pm", "--claim", claim)
    assert done.returncode == 0
    assert (
        done.stderr == f"secrets/tokens.toml: the hash of a token for {name!r}; the token itself is shown here only\n"
    )
    assert re.fullmatch(r"af_[\w-]{43}\n", done.stdout)
    return done.stdout.strip()


def test_explain_as_somebody_shows_the_rewritten_sql_and_why(operator: Operator) -> None:
    operator.settings(AUTH)
    new_token(operator, "alice", "portfolios=[1,2]")
    assert operator.types("auth", "password", "carol", "--role", "risk", typed="x\n").returncode == 0
    alice = operator.types("explain", "nav", "port_id=1", "--as", "alice")
    assert (alice.returncode, alice.stderr) == (0, "")
    shown = json.loads(alice.stdout)
    for sql in (shown["sql"], shown["engine_sql"]):
        assert re.search(r'"?n"?\."?port_id"? IN \(1, 2\)', sql)
    assert [(each["name"], each["kind"], each["reason"]) for each in shown["row_filters"]] == [
        (
            "p.nav#1",
            "row_filter",
            "only rows that the caller's 'portfolios' admits; not for the roles risk. "
            "Portfolio managers see their own portfolios.",
        ),
        ("p.nav.desk", "mask", shown["row_filters"][1]["reason"]),
    ]
    assert "risk" in shown["row_filters"][1]["reason"]
    # Whom no policy holds for sees the query as it is; nobody in particular sees nothing.
    carol = json.loads(operator.types("explain", "nav", "--as", "carol").stdout)
    assert (carol["row_filters"], " IN (" in carol["sql"]) == ([], False)
    nobody = json.loads(operator.types("explain", "nav").stdout)
    assert "no usable claim 'portfolios'" in nobody["row_filters"][0]["reason"]
    assert "FALSE" in nobody["sql"]
    # The rows are what was explained.
    rows = operator.types("run", "nav", "--as", "alice").stdout.splitlines()
    assert [row.partition("\t")[0] for row in rows] == ["port_id", "1", "1", "2", "2"]
    missing = operator.types("explain", "nav", "--as", "alise")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == (
        "error: [bad-config] no token, user or certificate is named 'alise'; did you mean 'alice'?\n"
    )


def test_explain_on_a_terminal_is_for_people(operator: Operator) -> None:
    operator.settings(AUTH)
    (operator.folder / "secrets").mkdir()
    (operator.folder / "secrets/passwords.toml").touch()
    new_token(operator, "alice", "portfolios=[1,2]")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "200", "NO_COLOR": "1"}
    words = [COMMAND, "explain", "nav", "--as", "alice"]
    with subprocess.Popen(words, cwd=operator.folder, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError:
            # Linux says it so when the other end of a terminal has closed.
            pass
        os.close(ours)
    assert process.returncode == 0
    text = said.decode()
    assert re.search(r"─ Athena ─.*IN \(1, 2\).*─ duckdb ─.*IN \(1, 2\)", text, re.DOTALL)
    assert "Portfolio managers see their own portfolios." in text


def outside() -> str:
    """An address of this machine that other machines could reach."""
    for each in psutil.net_if_addrs().values():
        for found in each:
            if found.family == socket.AF_INET and not found.address.startswith("127."):
                return found.address
    pytest.skip("this machine has no address but loopback, so that nothing beyond it can be tried")


def answers(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return int(answer.status)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "outside"])
def test_without_authentication_nothing_beyond_loopback_is_listened_on(operator: Operator, host: str) -> None:
    operator.settings()
    host = outside() if host == "outside" else host
    refused = operator.types("serve", "--host", host)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"error: [bad-config] setting 'server.host': {host!r} is reached from other machines, and nobody is asked who "
        "they are; set up [auth], or say server.insecure_allow_remote = true (--insecure-allow-remote)\n"
    )


def test_by_itself_a_server_is_not_reached_from_outside(operator: Operator) -> None:
    operator.settings()
    host = outside()
    with operator.serving() as process:
        ports = [int(address.rpartition(":")[2]) for name, address in addresses(process).items() if "://" in address]
        assert len(ports) == 3
        for port in ports:
            with socket.create_connection(("127.0.0.1", port), 30):
                pass
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, port), 30)


@pytest.mark.parametrize("bound", ["0.0.0.0", "outside"])
def test_told_in_so_many_words_it_is_reached_from_outside(operator: Operator, bound: str) -> None:
    operator.settings()
    host = outside()
    with operator.serving("--host", host if bound == "outside" else bound, "--insecure-allow-remote") as process:
        ports = {name: address.rpartition(":")[2] for name, address in addresses(process).items()}
        with flight.connect(f"grpc://{host}:{ports['address']}") as client:
            assert Client(client).rows("public_names") == [{"name": "one"}, {"name": "two"}]
            # Policies do not end where authentication does.
            assert Client(client).ports() == set()
        assert answers(f"http://{host}:{ports['http']}/livez") == 200
        process.wait_for("no_tls")


def test_with_authentication_no_flag_is_needed(operator: Operator) -> None:
    operator.settings(AUTH)
    token = new_token(operator, "alice", "portfolios=[1,2]")
    (operator.folder / "secrets/passwords.toml").touch()
    host = outside()
    with operator.serving("--host", "0.0.0.0") as process:
        port = addresses(process)["address"].rpartition(":")[2]
        with flight.connect(f"grpc://{host}:{port}") as client:
            assert code_of(Client(client).listed) == "no-credential"
            assert Client(client, token).ports() == {1, 2}


def test_a_start_says_what_it_waits_for_before_it_listens(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    with hanging() as glue:
        # The policies of this folder are held against the tables, so that without a catalog no server starts.
        aws = f'kind = "glue"\nanswer_s = 600\n[aws]\nregion = "us-east-1"\nglue_endpoint = "{glue.url}"\n[log]'
        text = SETTINGS.replace('warehouse = "warehouse"', 'warehouse = "s3://lake/warehouse"').replace("[log]", aws)
        (operator.folder / "athena-flight.toml").write_text(text)
        process = Process(["serve"], COMMAND, operator.folder)
        try:
            said = json.loads(process.wait_for('"starting"'))
            assert (said["engines"], said["datasets"], said["waits_for"]) == (["duckdb"], "sql", "the catalog, Glue")
            until(lambda: glue.tried == 1)
            assert process.count('"serving"') == 0
        finally:
            process.close()


def files_wrong(process: Process) -> dict[str, float]:
    with urllib.request.urlopen(f"{addresses(process)['http']}/metrics", timeout=20) as reply:
        text = reply.read().decode()
    found = re.findall(r'^athena_flight_files_wrong\{kind="(\w+)"\} (\S+)$', text, re.MULTILINE)
    return {kind: float(value) for kind, value in found}


def test_a_broken_file_of_callers_is_told_without_a_call(operator: Operator) -> None:
    operator.settings(AUTH)
    new_token(operator, "alice", "portfolios=[1,2]")
    assert operator.types("auth", "password", "erin", typed="x\n").returncode == 0
    tokens, passwords = (operator.folder / "secrets" / f"{name}.toml" for name in ("tokens", "passwords"))
    good = tokens.read_text()
    with operator.serving("--watch") as process:
        assert [process.count(f'"{event}"') for event in ("starting", "identities_wrong")] == [1, 0]
        assert files_wrong(process) == {"datasets": 0, "identities": 0, "keys": 0}
        tokens.write_text(good.replace("sha256", "sha265"))
        assert "did you mean 'sha256'?" in json.loads(process.wait_for("secrets/tokens.toml:"))["error"]
        assert files_wrong(process) == {"datasets": 0, "identities": 1, "keys": 0}
        tokens.write_text(good)
        process.wait_for('"datasets_good_again"')
        assert files_wrong(process) == {"datasets": 0, "identities": 0, "keys": 0}
        # Beside a dataset that is wrong, too.
        (operator.folder / "sql/more.sql").write_text("SELECT 1")
        process.wait_for('"dataset_wrong"')
        passwords.write_text("[[user]]\nnam = 1\n")
        process.wait_for("secrets/passwords.toml:1")
        assert files_wrong(process) == {"datasets": 1, "identities": 1, "keys": 0}
        assert process.count('"identities_wrong"') == 2


def test_a_broken_file_of_callers_is_told_once_for_each_sighup(operator: Operator) -> None:
    operator.settings(AUTH)
    token = new_token(operator, "alice", "portfolios=[1,2]")
    (operator.folder / "secrets/passwords.toml").touch()
    with operator.serving() as process, flight.connect(addresses(process)["address"]) as client:
        (operator.folder / "secrets/passwords.toml").write_text("[[user]]\nnam = 1\n")
        for times in (1, 2):
            process.child.send_signal(signal.SIGHUP)
            until(lambda times=times: process.count('"datasets_kept"') == times)
            # Nor is it told again by a call.
            assert Client(client, token).ports() == {1, 2}
            assert process.count('"identities_wrong"') == times


def test_what_is_not_well_at_a_start_is_told_before_anybody_asks(operator: Operator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/jwks.json"
    jwt = f'[auth]\njwt_keys = "{nobody}"\njwt_issuer = "i"\njwt_audience = "a"\n[limits]\ndisk_free_min = {1 << 60}\n'
    operator.settings(jwt)
    with operator.serving() as process:
        assert json.loads(process.wait_for('"jwt_keys_unreadable"'))["source"] == nobody
        assert files_wrong(process)["keys"] == 1
        said = json.loads(process.wait_for('"not_ready"'))
        assert (said["check"], said["code"]) == ("disk", "disk-full")
        assert process.count('"ready"') == 0
    operator.settings()
    with operator.serving() as process:
        assert json.loads(process.wait_for('"ready"'))["checks"][:2] == ["files", "catalog"]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        # No file may have a byte, as on a disk that is full or cannot be written.
        ("ulimit -f 0", r"\[bad-config\] there is no place for temporary files in \['/.*\]: make room, mount one"),
        # A container that is too small for what DuckDB loads.
        ("ulimit -v 600000", r"\[engine-failed\] DuckDB cannot be started with this memory and these threads: "),
    ],
)
def test_a_machine_that_gives_too_little_is_one_line(operator: Operator, limit: str, said: str) -> None:
    operator.settings()
    done = subprocess.run(
        ["bash", "-c", f"{limit}; exec {COMMAND} serve"],
        cwd=operator.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(said, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
