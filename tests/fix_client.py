"""A running server over the demo tables for tests of clients, with a few datasets more: slow ones, one of all types.

The server runs in this process, so that tests can see what it does when a client goes away; `server_process` is one
that can be killed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

import flight_client
from flight_server import config
from flight_server.server import Server, build, start_in_thread

ROOT = Path(__file__).parent.parent
DATASETS = Path(__file__).parent / "clients" / "datasets"
# The secret of tests/golden/tickets.json.
SECRET = "golden-secret-of-32-characters-00"
_SERVE = """
import sys
from pathlib import Path
from flight_server import config, server, telemetry
telemetry.configure("json", "error")
built = server.build(config.Config.model_validate_json(sys.argv[1]))
print(built.port, flush=True)
built.serve()
"""


@dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen[str]


@pytest.fixture(scope="session")
def client_datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's datasets and those of tests/clients/datasets, in one folder."""
    folder = tmp_path_factory.mktemp("datasets") / "sql"
    shutil.copytree(ROOT / "sql", folder)
    for file in DATASETS.glob("*.sql"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="session")
def client_config(demo_config: config.Config, client_datasets: Path) -> config.Config:
    """Settings of a server over the demo tables, on free ports."""
    return demo_config.model_copy(
        update={
            "datasets": config.Datasets(directory=client_datasets),
            "server": config.Server(
                port=0, http_port=0, health_port=0, heartbeat_s=0.2, ticket_secret=SecretStr(SECRET)
            ),
        }
    )


@pytest.fixture(scope="session")
def client_server(client_config: config.Config) -> Iterator[Server]:
    """The server, running. Tests leave nothing behind in it."""
    server = build(client_config)
    thread = start_in_thread(server)
    try:
        yield server
    finally:
        server.stop(grace_s=1)
        thread.join(10)


@pytest.fixture(scope="session")
def url(client_server: Server) -> str:
    return f"grpc://localhost:{client_server.port}"


@pytest.fixture
def db(url: str) -> Iterator[flight_client.Connection]:
    with flight_client.connect(url) as opened:
        yield opened


@pytest.fixture
def server_process(client_config: config.Config) -> Iterator[ServerProcess]:
    """A server that a test may kill."""
    with served_alone(client_config) as process:
        yield process


@contextmanager
def served_alone(settings: config.Config, **env: str) -> Iterator[ServerProcess]:
    """A server in a process of its own, which is killed in the end."""
    # Secrets are not written out; nobody shares tickets with this server.
    server = settings.server.model_copy(update={"ticket_secret": None})
    text = settings.model_copy(update={"server": server}).model_dump_json()
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, text], stdout=subprocess.PIPE, text=True, env=client_env(**env)
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, f"the server ended with {process.wait(10)} before it listened"
        yield ServerProcess(f"grpc://localhost:{port}", process)
    finally:
        process.kill()
        process.wait()
        process.stdout.close() if process.stdout else None


def client_env(**more: str) -> dict[str, str]:
    """The environment of a process that imports the client and the server from this checkout, and knows no server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATHENA_FLIGHT_")}
    here = (str(ROOT), str(ROOT / "clients" / "python"), os.environ.get("PYTHONPATH", ""))
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, here)), **more}
