"""What commands say when a file or a setting is wrong: one line that names it and the way out, and exit code 1.

At night this line is all that there is: no traceback, no lines of gRPC, and `config check` says the same.
"""

from __future__ import annotations

import io
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flight_server.cli import main
from flight_server.cli.tls import make
from tests.fix_identity import dataset_text

# A command that is not refused serves until it is ended: soon, then.
pytestmark = pytest.mark.timeout(60)
ONE = dataset_text('title = "One"\n[columns]\nx = { type = "int32" }', "SELECT 1 AS x")


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a refusal."""
        lines = [line for line in self.err.splitlines() if not re.match(r"\d{4}-\d\d-\d\dT", line)]
        assert self.code == 1, self
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ["), self.err
        return lines[0]


Run = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a dataset and a settings file that is good."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql/one.sql").write_text(ONE)
    return tmp_path


@pytest.fixture
def run(folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command with these settings after those that are always needed; gRPC's own lines would be seen too."""

    def call(command: str, settings: str = "", typed: str | None = "") -> Said:
        base = '[server]\nport = 0\n{}[catalog]\nuri = "sqlite:///c.db"\nwarehouse = "w"\n'
        server, _, rest = settings.partition("[") if not settings.startswith("[") else ("", "", settings[1:])
        Path("s.toml").write_text(base.format(server) + (f"[{rest}" if rest else ""))
        monkeypatch.setattr(sys, "stdin", None if typed is None else io.StringIO(typed))
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), *([] if "--config" in command or "tls" in command else ["--config", "s.toml"])])
        found = capfd.readouterr()
        return Said(ended.value.code if isinstance(ended.value.code, int) else 0, found.out, found.err)

    return call


def certificate(begins: timedelta, ends: timedelta, key: ec.EllipticCurvePrivateKey) -> bytes:
    now, name = datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now + begins, now + ends)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes = b"") -> bytes:
    hidden = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


@pytest.fixture
def pair(folder: Path) -> Path:
    """A good pair, and a bad one of every kind."""
    key, day = ec.generate_private_key(ec.SECP256R1()), timedelta(days=1)
    for name, text in make(("localhost",), None, 2).items():
        (folder / name).write_bytes(text)
    server, ca = (folder / "server.pem").read_bytes(), (folder / "ca.pem").read_bytes()
    files = {
        "other.key": key_pem(key),
        "locked.key": key_pem(key, b"open sesame"),
        "old.pem": certificate(-2 * day, -day, key),
        "early.pem": certificate(day, 2 * day, key),
        "garbled.pem": re.sub(rb"\n.{20}", b"\n" + b"A" * 20, server, count=1),
        "reversed.pem": ca + server,
        "text.pem": b"no PEM",
    }
    for name, text in files.items():
        (folder / name).write_bytes(text)
    return folder


TLS = '[tls]\ncertificate = "{}"\nkey = "{}"\n'


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (TLS.format("none.pem", "server.key"), "'tls.certificate': cannot read 'none.pem': No such file or directory"),
        (TLS.format("text.pem", "server.key"), "'tls.certificate': 'text.pem' is no PEM file"),
        (TLS.format("garbled.pem", "server.key"), "'tls.certificate': 'garbled.pem' holds no certificate"),
        (TLS.format("server.key", "server.pem"), "'tls.certificate': 'server.key' holds no certificate"),
        (TLS.format("reversed.pem", "server.key"), "'reversed.pem' must begin with the server's own certificate"),
        (TLS.format("server.pem", "other.key"), "'tls.key': 'other.key' is not the key of the certificate in"),
        (TLS.format("server.pem", "ca.pem"), "'tls.key': 'ca.pem' holds no private key"),
        (TLS.format("old.pem", "locked.key"), "'tls.key': 'locked.key' has a passphrase.*openssl pkey -in"),
        (TLS.format("old.pem", "other.key"), r"'old.pem' ended on \d{4}-\d\d-\d\d \d\d:\d\d UTC.*renew it.*dev-cert"),
        (TLS.format("early.pem", "other.key"), r"'early.pem' begins on \d{4}-\d\d-\d\d .*this machine's clock"),
        (
            TLS.format("server.pem", "server.key") + 'client = "gate"\nclient_ca = "garbled.pem"\n',
            "'tls.client_ca': 'garbled.pem' holds no certificate",
        ),
        (
            TLS.format("server.pem", "server.key") + 'client = "gate"\nclient_ca = "old.pem"\n',
            "'tls.client_ca': 'old.pem' ended on .*no client certificate is good",
        ),
    ],
)
def test_certificates_that_cannot_work_are_refused_before_grpc_sees_them(
    run: Run, pair: Path, settings: str, line: str
) -> None:
    assert re.search(line, run("serve", settings).error)
    checked = run("config check", settings)
    assert (checked.code, checked.err) == (1, "")
    # With the line of the setting.
    assert re.search(rf"^s\.toml:\d+: setting .*{line.partition(': ')[2]}", checked.out)


def test_an_authority_that_ends_beside_one_that_goes_on_is_no_error(run: Run, pair: Path) -> None:
    (pair / "both.pem").write_bytes((pair / "old.pem").read_bytes() + (pair / "ca.pem").read_bytes())
    settings = TLS.format("server.pem", "server.key") + 'client = "gate"\nclient_ca = "both.pem"\n'
    assert run("config check", settings).out == "the settings are good\n"


@pytest.mark.parametrize("command", ["serve", "config show", "config check", "datasets", "auth whoami", "explain one"])
@pytest.mark.parametrize(
    ("name", "contents", "line"),
    [
        ("none.toml", None, "there is no configuration file 'none.toml'"),
        ("sql", None, "'sql' is a folder; name the file in it"),
        ("bad.toml", b"[server]\nport = \n", "'bad.toml' is not TOML: Invalid value (at line 2, column 8)"),
        ("bad.toml", b"\xff", "'bad.toml' is not UTF-8"),
    ],
)
def test_a_settings_file_that_cannot_be_read_is_named(
    run: Run, folder: Path, command: str, name: str, contents: bytes | None, line: str
) -> None:
    if contents is not None:
        (folder / name).write_bytes(contents)
    assert line in run(f"{command} --config {name}").error


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("SERVER", "8815", "setting 'server': Input should be a valid dictionary"),
        ("SERVER", "{", "a variable ATHENA_FLIGHT_SERVER… holds no JSON"),
        ("SERVER__ENGINES", "duckdb", 'a variable ATHENA_FLIGHT_SERVER… holds no JSON; lists.*: ["duckdb"]'),
        ("SERVER__PORT", "x", "setting 'server.port': Input should be a valid integer"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(
    run: Run, folder: Path, variable: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"ATHENA_FLIGHT_{variable}", value)
    assert re.search(line.replace('["', r'\["').replace('"]', r'"\]'), run("serve").error)


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
@pytest.mark.parametrize("name", ["more.sql", "policies.toml"])
def test_a_dataset_file_that_cannot_be_read_is_named(run: Run, folder: Path, name: str, kind: str) -> None:
    path = folder / "sql" / name
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("gone")
    reason = "Is a directory" if kind == "folder" else "No such file or directory"
    assert run("serve").error == f"error: [bad-dataset] sql/{name}: cannot be read: {reason}"
    assert f"sql/{name}: cannot be read: {reason}" in run("check").out


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ('[auth]\ntokens = "t.toml"', "setting 'auth.tokens': cannot read 't.toml': No such file"),
        ('[auth]\ntokens = "bad.toml"', "bad.toml: not TOML"),
        ('[datasets]\ndirectory = "none"', "'datasets.directory': there is no folder 'none'"),
        ('[audit]\nfile = "none/audit.log"', "'audit.file': cannot append to 'none/audit.log': No such file"),
        ('host = "0.0.0.0"\n', "'0.0.0.0' is reached from other machines.*--insecure-allow-remote"),
        ('host = "no host"\ninsecure_allow_remote = true\n', "'server.host': cannot listen on no host:0: .*--host"),
    ],
)
def test_what_is_missing_is_named(run: Run, folder: Path, settings: str, line: str) -> None:
    (folder / "bad.toml").write_text("[[token")
    assert re.search(line, run("serve", settings).error)


def test_config_check_tells_all_that_it_can_see_at_once(run: Run, pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pair / "sql/policies.toml").write_text("[[row_filter]]\n")
    (pair / "bad.toml").write_text("[[token")
    (pair / "rows.txt").write_text("not a database")
    monkeypatch.setenv("ATHENA_FLIGHT_SERVER__PROT", "1")
    # As where the extra is not installed.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    (pair / "all.toml").write_text(
        "[server]\nport = 9000\nhttp_port = 9000\nhealth_port = 9000\nengines = ['athena']\nprot = 1\n"
        "[auth]\ntokens = 'bad.toml'\npasswords = 'none.toml'\njwt_keys = 'keys.json'\n"
        "[tls]\ncertificate = 'server.pem'\nkey = 'other.key'\nclient = 'gate'\nclient_ca = 'text.pem'\n"
        "[catalog]\nuri = 'sqlite:///rows.txt/c.db'\nwarehouse = 'rows.txt/w'\n"
        "[audit]\nfile = 'none/audit.log'\n[budget]\nfile = 'rows.txt'\n"
        "[telemetry]\nendpoint = 'http://collector:4318'\n[aws]\nregion = 'eu-west-1'\n"
    )
    said = run("config check --config all.toml")
    assert (said.code, said.err) == (1, "")
    begins = [line.replace(str(pair), "") for line in said.out.splitlines()]
    assert [re.sub(r"(; .*|: Not.*|: No .*|: not TOML.*)", "", line) for line in begins] == [
        "all.toml:6: there is no setting 'server.prot'",
        "ATHENA_FLIGHT_SERVER__PROT: no setting has this variable",
        "bad.toml",
        "all.toml:9: setting 'auth.passwords': cannot read 'none.toml'",
        "all.toml:10: settings 'auth.jwt_keys', 'auth.jwt_issuer' and 'auth.jwt_audience' go together",
        "all.toml:13: setting 'tls.key': 'other.key' is not the key of the certificate in 'server.pem'",
        "all.toml:15: setting 'tls.client_ca': 'text.pem' is no PEM file",
        "all.toml: setting 'athena.results': the Athena engine needs an s3:// prefix, got ''",
        "all.toml:17: setting 'catalog.uri': cannot use '/rows.txt/c.db'",
        "all.toml:18: setting 'catalog.warehouse': cannot use 'rows.txt/w'",
        "all.toml:3: setting 'server.http_port': 9000 is 'server.port' already",
        "all.toml:4: setting 'server.health_port': 9000 is 'server.port' already",
        "sql/policies.toml:1:1: 'table' is missing",
        "all.toml:20: setting 'audit.file': cannot append to 'none/audit.log'",
        "all.toml:22: setting 'budget.file': 'rows.txt' cannot be used: it is no SQLite file",
        "all.toml:24: setting 'telemetry.endpoint': traces need OpenTelemetry's exporter",
    ]
    # A look, and nothing more.
    assert not (pair / "c.db").exists()
    assert not (pair / "none").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            '[catalog]\nuri = "postgresql+asyncpg://u:p@db/c"',
            "'catalog.uri': 'postgresql.* needs the package 'asyncpg'",
        ),
        ('[catalog]\nuri = "nonsense"', "'catalog.uri': 'nonsense' is no database address"),
        ('[catalog]\nuri = "nodb://c"', "'catalog.uri': 'nodb://c' is no database address"),
        ('[catalog]\nuri = "sqlite://"', "'catalog.uri': name a file"),
        ('[catalog]\nkind = "glue"\n[aws]\nregion = "eu-west-1"', "'catalog.warehouse': a Glue catalog stores"),
        ('[audit]\nfile = "sql"', "'audit.file': cannot append to 'sql': Is a directory"),
        ('[budget]\nfile = "none/b.db"', "'budget.file': 'none/b.db' cannot be used: No such file"),
    ],
)
def test_serve_and_check_say_the_same_of_files_and_databases(run: Run, folder: Path, settings: str, line: str) -> None:
    (folder / "whole.toml").write_text(f"[server]\nport = 0\n{settings}\n")
    assert re.search(line, run("serve --config whole.toml").error)
    assert re.search(line, run("config check --config whole.toml").out)


def test_files_that_will_be_made_are_no_problem(run: Run, folder: Path) -> None:
    (folder / "whole.toml").write_text(
        '[catalog]\nuri = "sqlite:///new/deep/c.db"\nwarehouse = "new/w"\n[audit]\nfile = "a.log"\n'
        '[budget]\nfile = "b.db"\n[telemetry]\nendpoint = "http://collector:4318"\n'
    )
    assert run("config check --config whole.toml").out == "the settings are good\n"
    assert {path.name for path in folder.iterdir()} == {"sql", "s.toml", "whole.toml"}


@pytest.mark.parametrize("setting", ["port", "http_port", "health_port"])
def test_a_port_in_use_is_named_with_its_setting(run: Run, folder: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run("serve", f"{setting} = {port}\n") if setting != "port" else run(f"serve --port {port}")
    reason = f"setting 'server.{setting}': cannot listen on 127.0.0.1:{port}: Address already in use; choose another"
    assert said.error.startswith(f"error: [bad-config] {reason}")


@pytest.mark.parametrize(
    ("command", "typed", "line"),
    [
        ("auth token x --file bad.toml", "", "bad.toml:1: not TOML; mend it first, it was left as it is"),
        ("auth token x --file sql", "", "sql: cannot be read: Is a directory"),
        ("auth token x --file raw.toml", "", "raw.toml: cannot be read: it is not UTF-8"),
        ("auth token x --file bad.toml/t.toml", "", "cannot write 'bad.toml/t.toml': File exists; say another --file"),
        ("auth password x --file p.toml", None, "the password is empty"),
        ("auth password x --file p.toml", "p\udcff", "the password has signs in it that cannot be typed"),
        ("auth password x --file bad.toml", "p", "bad.toml: not TOML"),
        ("auth whoami --config auth.toml", None, "[bad-credential]"),
        ("explain one --as alice", "", "no token, user or certificate is named 'alice'"),
        ("tls dev-cert --dir bad.toml", "", "cannot write certificates to 'bad.toml': File exists; say another --dir"),
    ],
)
def test_commands_that_write_files_of_callers_say_why_they_cannot(
    run: Run, folder: Path, command: str, typed: str | None, line: str
) -> None:
    (folder / "bad.toml").write_text("[[token")
    (folder / "raw.toml").write_bytes(b"\xff")
    (folder / "none.toml").write_text("")
    (folder / "auth.toml").write_text('[auth]\ntokens = "none.toml"')
    before = {path.name for path in folder.iterdir()}
    assert line in run(command, typed=typed).error
    assert {path.name for path in folder.iterdir()} == {*before, "s.toml"}


@pytest.mark.parametrize(("option", "name"), [("--host", "a/b"), ("--host", "bücher.example"), ("--client", "x" * 65)])
def test_a_name_that_no_certificate_can_have_is_wrong_usage(run: Run, folder: Path, option: str, name: str) -> None:
    said = run(f"tls dev-cert {option} {name}")
    assert said.code == 2
    assert "cannot stand in a certificate" in " ".join(said.err.replace("│", " ").split())
    assert not (folder / ".tls").exists()
