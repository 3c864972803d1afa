"""Planted secrets are looked for in everything that a server and the commands say, at the most talkative log level.

Looked through: standard output and error of a real server, its audit file, its HTTP pages, its command line, everything
that callers of every kind are answered, and what the commands print.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from flight_server import config as settings
from flight_server.cli import main
from flight_server.service.auth.tokens import digest
from flight_server.service.flight_sql import messages
from tests import processes
from tests.fix_identity import HASHER, ISSUER, Client, Issuer, Lake, dataset_text, make_lake

TICKET_SECRET = "planted-ticket-secret-" + "7" * 32
TOKEN, PASSWORD = "af_planted-static-token-9c", "planted-password-2e"
AWS = {
    "AWS_SECRET_ACCESS_KEY": "planted-aws-secret-key-4b",
    "AWS_SESSION_TOKEN": "planted-aws-session-token-5a",
}
# A claim of every kind of credential, and two constants in policies.
CLAIM, FILTER, MASK = 987654321, "planted-filter-constant-6f", "planted-mask-constant-8d"
POLICIES = f"""\
[[row_filter]]
table  = "p.nav"
where  = "desk <> '{FILTER}' AND (port_id < 3 OR port_id = :caller.portfolios)"

[[mask]]
table  = "p.nav"
column = "desk"
as     = "CASE WHEN value < 0 THEN '{MASK}' END"
"""


@dataclass
class Planted:
    """What must not be found, and all that was said."""

    secrets: list[str]
    said: list[str] = field(default_factory=list)

    def hear(self, call: Callable[[], object]) -> None:
        try:
            found = call()
        except (flight.FlightError, pa.ArrowException, KeyError, NotImplementedError, OSError) as error:
            found = error
        self.said.append(repr(found))

    def check(self) -> None:
        text = "\n".join(self.said)
        # In JSON, in Python's repr and in base64 a secret can look otherwise; all of these are letters and digits.
        found = [secret for secret in self.secrets if secret in text]
        assert found == []


@pytest.fixture
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = make_lake(tmp_path_factory.mktemp("planted"))
    sql = made.folder / "sql"
    (sql / "policies.toml").write_text(POLICIES)
    # A dataset that fails in the engine, over a hidden value.
    failing = (
        'title = "F"\n[columns]\nx = { type = "int32" }',
        "SELECT CAST(concat('no', CAST(n.port_id AS VARCHAR)) AS INTEGER) AS x FROM p.nav AS n",
    )
    (sql / "failing.sql").write_text(dataset_text(*failing))
    claims = f"claims = {{ portfolios = {CLAIM} }}"
    (made.folder / "tokens.toml").write_text(
        f'[[token]]\nname = "t"\nroles = ["pm"]\nsha256 = "{digest(TOKEN)}"\n{claims}\n'
    )
    (made.folder / "passwords.toml").write_text(
        f'[[user]]\nname = "u"\nroles = ["pm"]\nargon2 = "{HASHER.hash(PASSWORD)}"\n{claims}\n'
    )
    return made


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"u:{password}".encode()).decode()


def credentials(client: flight.FlightClient, issuer: Issuer) -> list[str]:
    """Good ones and bad ones of every kind."""
    session = client.authenticate_basic_token("u", PASSWORD)[1].decode().removeprefix("Bearer ")
    good = [TOKEN, session, issuer.token(portfolios=CLAIM), basic(PASSWORD)]
    late = issuer.token(exp=1_600_000_000)
    bad = [
        f"{TOKEN}x",
        TOKEN.upper(),
        f"{session}x",
        late,
        issuer.token(aud="x"),
        basic(PASSWORD + "x"),
        f"Digest {TOKEN}",
    ]
    return [*good, *bad]


def ask_everything(client: Client) -> Iterator[Callable[[], object]]:
    yield client.listed
    for ticket in ("nav", "nav?port_id=1", "nav?port_id=x", "failing", "no_such_dataset", "nav?_engine=athena"):
        yield lambda ticket=ticket: client.rows(ticket)  # type: ignore[misc]
        yield lambda ticket=ticket: client.info(ticket).serialize()  # type: ignore[misc]
    for action in ("describe", "explain", "submit"):
        yield lambda action=action: client.action(action, {"dataset": "nav"})  # type: ignore[misc]
    yield lambda: client.result(client.submitted({"dataset": "failing"}))
    yield lambda: client.action("status", {"id": client.submitted({"dataset": "failing"})})
    for sql in (
        "SELECT max(desk) AS d FROM p.nav",
        "SELECT nope FROM p.nav",
        "SELECT CAST(desk AS DATE) AS x FROM p.nav",
    ):
        yield lambda sql=sql: client.sql(sql)  # type: ignore[misc]
        yield lambda sql=sql: client.prepare(sql)  # type: ignore[misc]
    for command in ("CommandGetTables", "CommandGetSqlInfo"):
        yield lambda command=command: client.metadata(command).to_pylist()  # type: ignore[misc]
    yield lambda: client.prepared(b"afp1.planted")
    yield lambda: list(
        client.flight.do_action(flight.Action("CancelQuery", messages.pack("ActionCancelQueryRequest")), client.options)
    )


def pages(process: processes.ServerProcess) -> list[str]:
    """What the HTTP face says on every path, whichever of the process's ports it has."""
    found = []
    flight_port = int(process.address.rpartition(":")[2])
    ports = {
        each.laddr.port for each in psutil.Process(process.child.pid).net_connections("tcp") if each.status == "LISTEN"
    }
    for port in ports - {flight_port}:
        for path in ("livez", "readyz", "metrics", "version", "nothing", f"metrics?token={TOKEN[:4]}"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                    found.append(answer.read().decode())
            except (http.client.HTTPException, OSError) as error:
                # The port of the gRPC health checks answers with what is no HTTP/1.
                found.append(str(error))
    assert any("athena_flight_calls_total" in page for page in found)
    return found


def command_lines(pid: int) -> list[str]:
    process = psutil.Process(pid)
    return [Path(f"/proc/{each.pid}/cmdline").read_text() for each in (process, *process.children(recursive=True))]


def test_a_server_says_no_secret(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**AWS, "ATHENA_FLIGHT_SERVER__TICKET_SECRET": TICKET_SECRET}.items():
        monkeypatch.setenv(name, value)
    audit = tmp_path / "audit.log"
    found = lake.settings(audit={"file": str(audit)}, log={"level": "debug"}, server={"ticket_secret": None})
    planted = Planted([TICKET_SECRET, TOKEN, PASSWORD, *AWS.values(), str(CLAIM), FILTER, MASK, digest(TOKEN)])
    planted.secrets.append(HASHER.hash(PASSWORD).rpartition("$")[2])
    with processes.server(found, tmp_path) as process:
        with flight.connect(process.address) as client:
            used = credentials(client, lake.issuer)
            planted.secrets += [each.removeprefix("Basic ").removeprefix("Digest ") for each in used]
            for credential in used:
                for call in ask_everything(Client(client, credential)):
                    planted.hear(call)
        assert len(planted.said) > 11 * 20
        # A reload that goes wrong over the secret itself, and one that goes well.
        tokens = lake.folder / "tokens.toml"
        text = tokens.read_text()
        tokens.write_text(text.replace(digest(TOKEN), TOKEN))
        process.child.send_signal(signal.SIGHUP)
        process.wait_for("identities_wrong")
        tokens.write_text(text)
        process.child.send_signal(signal.SIGHUP)
        process.wait_for("datasets_reloaded")
        planted.said += [*pages(process), *command_lines(process.child.pid)]
        process.child.terminate()
        assert process.child.wait(30) == 0
        process.wait_for('"stopped"')
    # What a line of the audit log says was read has policies with claims in them (docs/security.md); nothing else has.
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    seen = json.dumps([line.pop("reads") for line in lines])
    assert all(each in seen for each in (str(CLAIM), FILTER, MASK))
    assert not any(each in seen for each in planted.secrets if each not in (str(CLAIM), FILTER, MASK))
    planted.said += [*process.lines, json.dumps(lines)]
    text = "\n".join(planted.said)
    for expected in ("bad-credential", "expired-credential", "reason_withheld", "engine-failed", '"rpc"', '"policies"'):
        assert expected in text
    planted.check()


def test_what_is_printed_of_the_settings_has_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ATHENA_FLIGHT_SERVER__TICKET_SECRET", TICKET_SECRET)
    found = settings.load(
        None,
        catalog={"uri": f"postgresql://user:{PASSWORD}@db/catalog?sslpassword={TOKEN}"},
        aws={"s3_endpoint": f"https://user:{PASSWORD}@store"},
        auth={"jwt_keys": f"https://issuer.example/jwks?key={TOKEN}"},
    )
    planted = Planted([TICKET_SECRET, PASSWORD, TOKEN], [repr(found), str(found)])
    planted.said += [repr(section) for _, section in found]
    planted.check()
    assert "issuer.example/jwks" in repr(found)


@pytest.fixture(scope="module")
def lake_in_trouble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one dataset that needs no table."""
    folder = tmp_path_factory.mktemp("datasets")
    (folder / "one.sql").write_text(dataset_text('title = "One"\n[columns]\nx = { type = "int32" }', "SELECT 1 AS x"))
    return folder


WRONG: list[dict[str, dict[str, object]]] = [
    {"catalog": {"uri": f"postgresql://user:{PASSWORD}@127.0.0.1:9/catalog"}},
    {"catalog": {"uri": f"nonsense://user:{PASSWORD}@db"}},
    {"catalog": {"uri": f"://user:{PASSWORD}@db"}},
    {"server": {"ticket_secret": 123456789012345}},
    {"server": {"ticket_secrets": TICKET_SECRET}},
    {"auth": {"jwt_keys": f"https://user:{PASSWORD}@issuer.example/jwks", "jwt_issuer": ISSUER, "jwt_audience": "x"}},
    {"auth": {"jwt_keys": f"http://issuer.example/jwks?key={PASSWORD}", "jwt_issuer": ISSUER, "jwt_audience": "x"}},
]


@pytest.mark.parametrize("sections", WRONG)
@pytest.mark.parametrize("command", ["serve", "config show", "config check", "datasets", "auth whoami"])
def test_a_start_that_fails_says_no_secret(
    lake_in_trouble: Path,
    tmp_path: Path,
    sections: dict[str, dict[str, object]],
    command: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base: dict[str, dict[str, object]] = {"datasets": {"directory": str(lake_in_trouble)}, "server": {"port": 0}}
    lines = []
    for name in {**base, **sections}:
        section = {**base.get(name, {}), **sections.get(name, {})}
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    file = tmp_path / "s.toml"
    file.write_text("\n".join(lines))
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{TOKEN}\n"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main([*command.split(), "--config", str(file)])
    said = capfd.readouterr()
    assert said.out + said.err
    Planted([PASSWORD, TICKET_SECRET, TOKEN, "123456789012345"], [*said]).check()


def test_keys_that_cannot_be_fetched_are_logged_without_what_could_be_a_key(lake: Lake, tmp_path: Path) -> None:
    auth = {"jwt_keys": f"http://127.0.0.1:9/jwks?key={TOKEN}"}
    with processes.server(lake.settings(auth=auth), tmp_path) as process:
        with flight.connect(process.address) as client:
            planted = Planted([TOKEN])
            planted.hear(Client(client, lake.issuer.token()).ports)
        planted.said.append(process.wait_for("jwt_keys_unreadable"))
    assert "127.0.0.1:9/jwks" in planted.said[-1]
    planted.check()


def test_commands_print_a_secret_only_where_it_is_made(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s.toml").write_text(processes.toml(lake.settings()))
    monkeypatch.setenv("ATHENA_FLIGHT_SERVER__TICKET_SECRET", TICKET_SECRET)
    said = []
    for words in (
        ["explain", "nav", "--as", "nobody"],
        ["run", "nav", "--as", "t"],
        ["run", "failing", "--as", "t"],
        ["auth", "whoami", "--token", f"{TOKEN}x"],
        ["auth", "whoami", "--token", lake.issuer.token(exp=1_600_000_000)],
        ["datasets"],
    ):
        with pytest.raises(SystemExit):
            main([*words, "--config", str(tmp_path / "s.toml")])
        said += [*capsys.readouterr()]
    Planted([TOKEN, TICKET_SECRET, FILTER, MASK, digest(TOKEN), str(CLAIM)], said).check()
