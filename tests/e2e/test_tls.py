"""TLS: what is spoken, and client certificates as a gate or as the identity."""

from __future__ import annotations

import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import pytest

from flight_server.errors import ConfigError
from flight_server.server import Server
from tests.fix_identity import PASSWORD, STATIC, Client, Lake, certificates, code_of

NO_AUTH: dict[str, Any] = {
    "tokens": None,
    "passwords": None,
    "jwt_keys": None,
    "jwt_issuer": None,
    "jwt_audience": None,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates of another authority."""
    return certificates(tmp_path_factory.mktemp("strangers"))


def tls(files: dict[str, Path], client: str = "none") -> dict[str, Any]:
    found: dict[str, Any] = {"certificate": files["server_pem"], "key": files["server_key"], "client": client}
    return found | ({"client_ca": files["ca_pem"]} if client != "none" else {})


@contextmanager
def connected(
    server: Server, ca: dict[str, Path], mine: dict[str, Path] | None = None, credential: str = ""
) -> Iterator[Client]:
    options: dict[str, Any] = {"tls_root_certs": ca["ca_pem"].read_bytes()}
    if mine:
        options |= {"cert_chain": mine["client_pem"].read_bytes(), "private_key": mine["client_key"].read_bytes()}
    with flight.connect(f"grpc+tls://localhost:{server.port}", **options) as client:
        yield Client(client, credential)


@pytest.fixture(scope="module")
def plain_tls(policed: Lake, files: dict[str, Path]) -> Iterator[Server]:
    with policed.serve(tls=tls(files)) as running:
        yield running


def test_all_addresses_are_named_with_their_scheme_and_port(plain_tls: Server) -> None:
    assert plain_tls.health is not None
    assert 0 not in (plain_tls.port, plain_tls.http.port, plain_tls.health.port)
    assert plain_tls.addresses == {
        "address": f"grpc+tls://127.0.0.1:{plain_tls.port}",
        "http": f"http://127.0.0.1:{plain_tls.http.port}",
        "health": f"grpc://127.0.0.1:{plain_tls.health.port}",
    }


@pytest.fixture(scope="module")
def gate(policed: Lake, files: dict[str, Path]) -> Iterator[Server]:
    with policed.serve(tls=tls(files, "gate")) as running:
        yield running


@pytest.fixture(scope="module")
def identity(policed: Lake, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    named = tmp_path_factory.mktemp("certificates") / "certificates.toml"
    named.write_text('[[certificate]]\nname = "pricing"\nroles = ["pm"]\nclaims = { portfolios = [4] }\n')
    auth = {"certificates": named, "passwords": None}
    with policed.serve(tls=tls(files, "identity"), auth=auth) as running:
        yield running


def test_clients_that_know_the_authority_are_served(plain_tls: Server, files: dict[str, Path]) -> None:
    with connected(plain_tls, files, credential=STATIC["alice"]) as client:
        assert client.ports() == {1, 2}


def test_clients_do_not_trust_another_authority(plain_tls: Server, strangers: dict[str, Path]) -> None:
    with (
        connected(plain_tls, strangers, credential=STATIC["alice"]) as client,
        pytest.raises(flight.FlightUnavailableError),
    ):
        client.ports()


def test_a_client_without_tls_is_not_served(plain_tls: Server) -> None:
    with (
        flight.connect(f"grpc://localhost:{plain_tls.port}") as client,
        pytest.raises(flight.FlightUnavailableError),
    ):
        Client(client, STATIC["alice"]).ports()


def spoken(port: int, version: ssl.TLSVersion) -> str | None:
    """The version that the server agrees to when no other is offered; raises what the handshake ends with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # Or OpenSSL itself would refuse to offer the old ones.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    with socket.create_connection(("localhost", port), 10) as raw, context.wrap_socket(raw) as wrapped:
        return wrapped.version()


def test_tls_1_2_and_1_3_are_spoken(plain_tls: Server) -> None:
    assert spoken(plain_tls.port, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert spoken(plain_tls.port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_tls_is_refused_by_the_server(
    plain_tls: Server, version: ssl.TLSVersion, capfd: pytest.CaptureFixture[str]
) -> None:
    # gRPC hangs up without an alert; its log says why, so that this is not a client that never offered anything.
    with pytest.raises(ssl.SSLError):
        spoken(plain_tls.port, version)
    said, end = "", time.monotonic() + 10
    while "unsupported protocol" not in said and time.monotonic() < end:
        said += capfd.readouterr().err
        time.sleep(0.01)
    assert "unsupported protocol" in said


def test_a_gate_wants_a_certificate_and_a_credential(
    gate: Server, files: dict[str, Path], strangers: dict[str, Path]
) -> None:
    with connected(gate, files, files, STATIC["alice"]) as client:
        assert client.ports() == {1, 2}
    with connected(gate, files, files) as client:
        assert code_of(client.ports) == "no-credential"
    for mine in (None, strangers):
        with connected(gate, files, mine, STATIC["alice"]) as client, pytest.raises(flight.FlightUnavailableError):
            client.ports()


def test_passwords_work_behind_a_gate(gate: Server, files: dict[str, Path]) -> None:
    with connected(gate, files, files) as client:
        header = client.flight.authenticate_basic_token("erin", PASSWORD)
        assert Client(client.flight, header[1].decode()).ports() == {2}


def test_the_certificate_is_the_caller(identity: Server, files: dict[str, Path]) -> None:
    with connected(identity, files, files) as client:
        assert client.ports() == {4}
        assert client.listed() == {"nav", "public_names"}
        assert client.flight.get_schema(flight.FlightDescriptor.for_command(b"nav"), client.options).schema.names
        assert code_of(lambda: client.info("secret_limits")) == "unknown-dataset"
        assert client.action("explain", {"dataset": "nav"})["row_filters"]


def test_a_certificate_that_no_file_names_has_no_roles_and_no_claims(
    identity: Server, files: dict[str, Path], tmp_path: Path
) -> None:
    identity.flight.authentication.identities = type(identity.flight.authentication.identities)()
    try:
        with connected(identity, files, files) as client:
            assert client.ports() == set()
            assert client.listed() == {"nav", "public_names"}
    finally:
        assert identity.reload() == []


def test_a_token_beside_the_certificate_must_be_good_and_then_decides(identity: Server, files: dict[str, Path]) -> None:
    with connected(identity, files, files, STATIC["bob"]) as client:
        assert client.ports() == {3}
    with connected(identity, files, files, "af_wrong") as client:
        assert code_of(client.ports) == "bad-credential"
        assert code_of(client.listed) == "bad-credential"


def test_with_certificates_as_the_identity_there_is_no_handshake(identity: Server, files: dict[str, Path]) -> None:
    with connected(identity, files, files) as client, pytest.raises((NotImplementedError, flight.FlightError)):
        client.flight.authenticate_basic_token("erin", "x")


def test_no_certificate_no_connection(identity: Server, files: dict[str, Path], strangers: dict[str, Path]) -> None:
    for mine in (None, strangers):
        with connected(identity, files, mine) as client, pytest.raises(flight.FlightUnavailableError):
            client.listed()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": None}, "tls.key"),
        ({"certificate": None}, "tls.certificate"),
        ({"certificate": "/nowhere/cert.pem"}, "cannot read"),
        ({"client": "gate"}, "tls.client_ca"),
        ({"client_ca": "server_pem"}, "no effect"),
        ({"certificate": None, "key": None, "client": "gate"}, "need TLS"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    policed: Lake, files: dict[str, Path], changes: dict[str, Any], message: str
) -> None:
    settings = tls(files) | {name: files.get(str(value), value) for name, value in changes.items()}
    with pytest.raises(ConfigError, match=message), policed.serve(tls=settings):
        pass


def test_a_key_is_not_shown_when_it_is_given_as_the_certificate(policed: Lake, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("planted-9b no PEM")
    with (
        pytest.raises(ConfigError, match="no PEM file") as caught,
        policed.serve(tls={"certificate": wrong, "key": wrong}),
    ):
        pass
    assert "planted-9b" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_without_authentication_only_loopback_is_listened_on(policed: Lake, host: str) -> None:
    with (
        pytest.raises(ConfigError, match="--insecure-allow-remote"),
        policed.serve(auth=NO_AUTH, server={"host": host}),
    ):
        pass


def test_it_can_be_told_to_in_so_many_words(policed: Lake) -> None:
    server = {"host": "0.0.0.0", "insecure_allow_remote": True}
    with (
        policed.serve(auth=NO_AUTH, server=server) as running,
        flight.connect(f"grpc://localhost:{running.port}") as client,
    ):
        assert Client(client).rows("public_names")
        # Nobody has a claim, so nobody sees filtered rows: a policy does not end where authentication does.
        assert Client(client).ports() == set()
        assert client.authenticate_basic_token("any", "body") == (b"authorization", b"Bearer anonymous")


def test_with_authentication_any_address_is_listened_on(policed: Lake) -> None:
    with (
        policed.serve(server={"host": "0.0.0.0"}) as running,
        flight.connect(f"grpc://localhost:{running.port}") as client,
    ):
        assert code_of(Client(client).listed) == "no-credential"


def test_a_gate_alone_names_nobody_and_does_not_open_the_server(policed: Lake, files: dict[str, Path]) -> None:
    with (
        pytest.raises(ConfigError, match="insecure"),
        policed.serve(auth=NO_AUTH, tls=tls(files, "gate"), server={"host": "0.0.0.0"}),
    ):
        pass
