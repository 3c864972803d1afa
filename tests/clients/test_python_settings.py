"""Where the server is and who asks: arguments, environment, file; and that credentials reach that server only."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import flight_client
from flight_client.settings import Settings, config_file, load
from tests.clients.peer import Peer, giving


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A configuration folder with a file for grpc://filed:1."""
    file = tmp_path / "athena-flight" / "client.toml"
    file.parent.mkdir()
    file.write_text('url = "grpc://filed:1"\ntoken = "of-the-file"\n')
    return tmp_path


def test_argument_before_environment_before_file(home: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(home)}
    assert load({}, environ) == Settings("grpc://filed:1", "of-the-file")
    environ["ATHENA_FLIGHT_URL"] = "grpc://filed:1"
    environ["ATHENA_FLIGHT_TOKEN"] = "of-the-environment"
    assert load({}, environ).token == "of-the-environment"
    assert load({"token": "given"}, environ).token == "given"


def test_a_variable_set_to_nothing_is_not_set(home: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(home), "ATHENA_FLIGHT_URL": "", "ATHENA_FLIGHT_TOKEN": ""}
    assert load({}, environ) == Settings("grpc://filed:1", "of-the-file")


def test_a_credential_goes_only_where_its_source_says(home: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(home)}
    assert load({"url": "grpc://other:1"}, environ) == Settings("grpc://other:1")
    environ |= {"ATHENA_FLIGHT_URL": "grpc://second:1", "ATHENA_FLIGHT_TOKEN": "of-the-environment"}
    assert load({}, environ) == Settings("grpc://second:1", "of-the-environment")
    assert load({"url": "grpc://other:1"}, environ).token is None
    del environ["ATHENA_FLIGHT_URL"]
    assert load({"url": "grpc://other:1"}, environ).token == "of-the-environment"


def test_the_nearer_of_token_and_password_is_meant(home: Path) -> None:
    environ = {"XDG_CONFIG_HOME": str(home)}
    found = load({"url": "grpc://filed:1", "user": "ann", "password": "p"}, environ)
    assert (found.token, found.user, found.password) == (None, "ann", "p")
    environ |= {"ATHENA_FLIGHT_USER": "ann", "ATHENA_FLIGHT_PASSWORD": "p"}
    found = load({"token": "t"}, environ)
    assert (found.token, found.user, found.password) == ("t", None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {},
            r"no server is named: connect\(.*\), or set ATHENA_FLIGHT_URL, or write url in .*client.toml",
        ),
        ({"url": "grpc://x:1", "user": "ann"}, "a user needs a password"),
        ({"url": "grpc://x:1", "cert": "c.pem"}, "needs both cert and key"),
    ],
)
def test_what_is_missing_is_named(given: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        load(given, {"XDG_CONFIG_HOME": str(tmp_path)})


@pytest.mark.parametrize("text", ["urll = 'x'", "url = 1", "url ="])
def test_a_wrong_file_is_named(home: Path, text: str) -> None:
    config_file({"XDG_CONFIG_HOME": str(home)}).write_text(text)
    with pytest.raises(ValueError, match=r"client\.toml"):
        load({}, {"XDG_CONFIG_HOME": str(home)})


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Settings("grpc://x:1", token="secret", password="secret"))


class Guard(flight.ServerMiddlewareFactory):
    """Knows ann with the password pw, and tokens that it has issued; the next `expire` calls find theirs expired."""

    def __init__(self) -> None:
        super().__init__()
        self.issued: list[str] = []
        self.expire = 0

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[str]]) -> Any:
        given = headers.get("authorization", [""])[0]
        if given == "Basic " + base64.b64encode(b"ann:pw").decode():
            self.issued.append(f"token-{len(self.issued)}")
            return Issue(self.issued[-1])
        if given.startswith("Basic"):
            raise flight.FlightUnauthenticatedError("[bad-credential] user or password is wrong")
        if given.removeprefix("Bearer ") not in (*self.issued, "static"):
            raise flight.FlightUnauthenticatedError("[no-credential] no token")
        if self.expire and info.method != flight.FlightMethod.HANDSHAKE:
            self.expire -= 1
            raise flight.FlightUnauthenticatedError("[expired-credential] the token has expired")
        return None


class Issue(flight.ServerMiddleware):
    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def sending_headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"}


class Open(flight.ServerAuthHandler):
    """Without a handler Handshake is unimplemented; the middleware has done the work."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None: ...

    def is_valid(self, token: bytes) -> str:
        return ""


@pytest.fixture
def guard() -> Guard:
    return Guard()


@pytest.fixture
def guarded(guard: Guard) -> Iterator[Peer]:
    with Peer(giving(1), middleware={"guard": guard}, auth_handler=Open()) as peer:
        yield peer


def test_token_goes_with_every_call(guarded: Peer) -> None:
    with flight_client.connect(guarded.url, token="static") as db:
        assert db.numbers().arrow().num_rows == 1
    with pytest.raises(flight_client.Unauthenticated, match=r"^\[no-credential\] no token$"):
        flight_client.connect(guarded.url, token="wrong")


def test_user_and_password_become_a_token(guarded: Peer, guard: Guard) -> None:
    with flight_client.connect(guarded.url, user="ann", password="pw") as db:
        assert db.numbers().arrow().num_rows == 1
    assert guard.issued == ["token-0"]
    with pytest.raises(flight_client.Unauthenticated, match=r"^\[bad-credential\]"):
        flight_client.connect(guarded.url, user="ann", password="no")


def test_an_expired_token_is_renewed_once(guarded: Peer, guard: Guard) -> None:
    with flight_client.connect(guarded.url, user="ann", password="pw") as db:
        query = db.numbers()
        guard.expire = 1
        assert query.arrow().num_rows == 1
        assert guard.issued == ["token-0", "token-1"]
        guard.expire = 9
        with pytest.raises(flight_client.Unauthenticated, match=r"^\[expired-credential\]"):
            query.arrow()
    guard.expire = 0
    with flight_client.connect(guarded.url, token="static") as db:
        guard.expire = 1
        with pytest.raises(flight_client.Unauthenticated):
            db.refresh()


def test_environment_is_enough(guarded: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("ATHENA_FLIGHT_URL", guarded.url)
    monkeypatch.setenv("ATHENA_FLIGHT_TOKEN", "static")
    with flight_client.connect() as db:
        assert db.datasets() == ["numbers"]


def test_tls_with_a_root_and_a_client_certificate(tmp_path: Path) -> None:
    key, cert = certificate(tmp_path / "server")
    client_key, client_cert = certificate(tmp_path / "client")
    with Peer(
        giving(1),
        location="grpc+tls://localhost:0",
        tls_certificates=[(cert.read_bytes(), key.read_bytes())],
        verify_client=True,
        root_certificates=client_cert.read_bytes(),
    ) as peer:
        url = f"grpc+tls://localhost:{peer.port}"
        with flight_client.connect(url, tls_roots=cert, cert=client_cert, key=client_key) as db:
            assert db.numbers().arrow().num_rows == 1
        for wrong in ({"tls_roots": cert}, {"tls_roots": client_cert, "cert": client_cert, "key": client_key}):
            with pytest.raises(flight_client.Unavailable, match=r"^\[unreachable\]"):
                flight_client.connect(url, **wrong)  # type: ignore[arg-type]


def certificate(stem: Path) -> tuple[Path, Path]:
    """A self-signed certificate of localhost: key and certificate as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, stem.name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = stem.with_suffix(".key"), stem.with_suffix(".pem")
    plain = serialization.NoEncryption()
    files[0].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    files[1].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return files
