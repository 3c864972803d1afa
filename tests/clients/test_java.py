"""The Java client against running servers: its JUnit tests, its example, its documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow.flight as flight
import pytest

from flight_server import config, errors
from flight_server.server import Server
from tests.clients.scripted import MESSAGE, Scripted
from tests.fix_client import ROOT, ServerProcess, served_alone
from tests.fix_collector import Collector
from tests.fix_identity import PASSWORD, STATIC, Lake, certificates
from tests.fix_java import PROJECT, JavaClient
from tests.waiting import until

SOURCES = PROJECT / "src/test/java"


@pytest.fixture
def identities(policed: Lake, tmp_path: Path) -> Iterator[dict[str, object]]:
    """Servers that want credentials: tokens and passwords, TLS, client certificates."""
    files, strangers = certificates(tmp_path / "tls"), certificates(tmp_path / "strangers")
    tls = {"certificate": files["server_pem"], "key": files["server_key"], "client": "none"}
    mtls = {**tls, "client": "identity", "client_ca": files["ca_pem"]}
    named = tmp_path / "certificates.toml"
    named.write_text('[[certificate]]\nname = "pricing"\nroles = ["pm"]\nclaims = { portfolios = [4] }\n')
    sessions = policed.auth() | {"session_ttl_s": 1.0}
    by_name = policed.auth() | {"certificates": named, "passwords": None}
    dollars = {"usd_per_day": 2.5, "callers": {"erin": float("inf")}}
    # As after a start with another secret: sessions of the first one are none here.
    anew = {"ticket_secret": "a" * 32}
    rate = {"statements_per_min": 600_000.0, "statements_burst": 10_000}
    with ExitStack() as stack:
        asked = stack.enter_context(policed.serve(auth=sessions, budget=dollars, limits=rate))
        yield {
            "auth": f"grpc://localhost:{asked.port}",
            "anew": f"grpc://localhost:{stack.enter_context(policed.serve(server=anew)).port}",
            "tls": f"grpc+tls://localhost:{stack.enter_context(policed.serve(tls=tls)).port}",
            "mtls": f"grpc+tls://localhost:{stack.enter_context(policed.serve(tls=mtls, auth=by_name)).port}",
            "token": STATIC["alice"],
            "late": STATIC["late"],
            "user": "erin",
            "password": PASSWORD,
            "ca": files["ca_pem"],
            "cert": files["client_pem"],
            "key": files["client_key"],
            "stranger": strangers["ca_pem"],
            "stranger.cert": strangers["client_pem"],
            "stranger.key": strangers["client_key"],
        }


@pytest.fixture
def pinned(lake_copy: Lake) -> Iterator[dict[str, object]]:
    """A server over tables that may be pinned, and a token of an operator."""
    with lake_copy.serve() as asked:
        yield {
            "pinned": f"grpc://localhost:{asked.port}",
            "operator": lake_copy.issuer.token(sub="olga", roles=["operator"]),
        }


@pytest.fixture
def traced(client_config: config.Config, collector: Collector) -> Iterator[dict[str, object]]:
    """A server that sends its spans, and where they can be seen."""
    telemetry = config.Telemetry(endpoint=collector.endpoint)
    # OpenTelemetry's own setting: spans are sent soon, and not every five seconds.
    with served_alone(
        client_config.model_copy(update={"telemetry": telemetry}), OTEL_BSP_SCHEDULE_DELAY="100"
    ) as server:
        yield {"traced": server.url, "collector": collector.endpoint}


def written_tests() -> set[str]:
    """Every `Class.method` that JUnit has to run."""
    found = set()
    for file in SOURCES.rglob("*Test.java"):
        methods = re.findall(r"@(?:Test|ParameterizedTest)\n.*?\bvoid (\w+)\(", file.read_text(), re.DOTALL)
        found |= {f"{file.stem}.{method}" for method in methods}
    return found


def test_junit_tests_pass(
    java_client: JavaClient,
    client_server: Server,
    url: str,
    server_process: ServerProcess,
    identities: dict[str, object],
    pinned: dict[str, object],
    traced: dict[str, object],
    subtests: pytest.Subtests,
) -> None:
    with flight.connect(url) as client:
        rows = client.do_get(flight.Ticket(b"big")).read_all().num_rows
    codes = {code: kind.__name__ for code, kind in errors.CODES.items()}
    codes |= {"engine-failed": "ServerError", "contract-violated": "ServerError"}
    with Scripted() as scripted:
        cases = java_client.junit(
            {
                "url": url,
                "http": f"grpc://localhost:{client_server.http.port}",
                "health": f"grpc://localhost:{client_server.health.port}",
                "scripted": scripted.url,
                "killed": server_process.url,
                "killed.pid": server_process.process.pid,
                "golden": ROOT / "tests" / "golden",
                "big.rows": rows,
                "codes": ",".join(f"{code}={kind}" for code, kind in codes.items()),
                "message": MESSAGE,
                **identities,
                **pinned,
                **traced,
            }
        )
    for case in cases:
        with subtests.test(case.name):
            assert case.problem is None, case.problem
    assert {re.match(r"\w+\.\w+", case.name)[0] for case in cases} == written_tests()  # type: ignore[index]
    # Whatever a client broke off has been stopped.
    until(lambda: client_server.flight.calls.count == 0)


def test_a_server_that_moves_is_found_by_its_name(
    java_client: JavaClient, client_server: Server, url: str, tmp_path: Path
) -> None:
    before, after = java_client.run(
        "io.athenaflight.client.MovedServer", url.replace("localhost", "127.0.0.1"), str(tmp_path / "hosts")
    ).splitlines()
    assert before == f"{after} by 1"
