"""ADBC and JDBC over TLS, with a token, with a password, with a client certificate, as docs/clients.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_flightsql.dbapi as adbc
import adbc_driver_manager
import pytest

from flight_server.server import Server
from tests.e2e.test_tls import tls
from tests.fix_identity import PASSWORD, STATIC, Lake, certificates
from tests.fix_jdbc import Jdbc

# alice may see the rows of two portfolios, erin those of one.
SQL = "SELECT DISTINCT port_id FROM nav ORDER BY port_id"
ROOTS = "adbc.flight.sql.client_option.tls_root_certs"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(policed: Lake, files: dict[str, Path]) -> Iterator[Server]:
    with policed.serve(tls=tls(files)) as running:
        yield running


@pytest.fixture(scope="module")
def gate(policed: Lake, files: dict[str, Path]) -> Iterator[Server]:
    with policed.serve(tls=tls(files, "gate")) as running:
        yield running


def by_adbc(server: Server, **options: str) -> list[Any]:
    with (
        adbc.connect(f"grpc+tls://localhost:{server.port}", db_kwargs=options, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(SQL)
        return [port for (port,) in cursor.fetchall()]


def test_adbc_by_token_and_by_password(server: Server, files: dict[str, Path]) -> None:
    roots = files["ca_pem"].read_text()
    token = f"Bearer {STATIC['alice']}"
    assert by_adbc(server, **{ROOTS: roots, "adbc.flight.sql.authorization_header": token}) == [1, 2]
    assert by_adbc(server, **{ROOTS: roots, "username": "erin", "password": PASSWORD}) == [2]


def test_adbc_refused(server: Server, gate: Server, files: dict[str, Path]) -> None:
    roots = files["ca_pem"].read_text()
    token = f"Bearer {STATIC['alice']}"
    wrong: list[tuple[Server, dict[str, str], str]] = [
        (server, {ROOTS: roots}, "no-credential"),
        (server, {ROOTS: roots, "adbc.flight.sql.authorization_header": "Bearer x"}, "bad-credential"),
        (server, {"adbc.flight.sql.authorization_header": token}, "certificate"),
        (
            gate,
            {ROOTS: roots, "adbc.flight.sql.authorization_header": token},
            "(?i)certificate|handshake|closed|reset|broken|EOF",
        ),
    ]
    for where, options, said in wrong:
        with pytest.raises(adbc_driver_manager.Error, match=said):
            by_adbc(where, **options)


def test_adbc_with_a_client_certificate(gate: Server, files: dict[str, Path]) -> None:
    options = {
        ROOTS: files["ca_pem"].read_text(),
        "adbc.flight.sql.authorization_header": f"Bearer {STATIC['alice']}",
        "adbc.flight.sql.client_option.mtls_cert_chain": files["client_pem"].read_text(),
        "adbc.flight.sql.client_option.mtls_private_key": files["client_key"].read_text(),
    }
    assert by_adbc(gate, **options) == [1, 2]


def test_jdbc(jdbc: Jdbc, server: Server, gate: Server, files: dict[str, Path]) -> None:
    def url(where: Server, **options: object) -> str:
        parts = [f"{name}={value}" for name, value in options.items()]
        return f"jdbc:arrow-flight-sql://localhost:{where.port}/?{'&'.join(parts)}"

    ca = {"tlsRootCerts": files["ca_pem"]}
    certificate = {"clientCertificate": files["client_pem"], "clientKey": files["client_key"]}
    good = [
        url(server, **ca, token=STATIC["alice"]),
        url(server, **ca, user="erin", password=quote(PASSWORD)),
        url(gate, **ca, **certificate, token=STATIC["alice"]),
    ]
    bad = [
        # Not the right token; an authority that Java does not know; no client certificate.
        (url(server, **ca, token="x"), "bad-credential"),
        (url(server, token=STATIC["alice"]), "unable to find valid certification path"),
        (url(gate, **ca, token=STATIC["alice"]), "UNAVAILABLE|certificate|closed|reset|Broken pipe"),
    ]
    questions = [
        [how, what] for address in [*good[1:], *dict(bad)] for how, what in (("open", address), ("query", SQL))
    ]
    answers = jdbc.ask(good[0], [["query", SQL], *questions])
    assert [found["rows"] for found in answers[0:5:2]] == [[[1], [2]], [[2]], [[1], [2]]]
    # What is refused is so when it connects or when it asks first.
    for (_, said), opened, asked in zip(bad, answers[5::2], answers[6::2], strict=True):
        assert re.search(said, str(opened) + str(asked))
