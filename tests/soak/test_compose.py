"""deploy/docker-compose.yml without Docker: its commands with its environments, as processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.flight as flight
import pytest
import yaml

from tests.dockerfile import ROOT, stages
from tests.processes import Process
from tests.waiting import until

# moto answers hundreds of small reads, each slowly: half a minute of a core.
pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
FILE = ROOT / "deploy/docker-compose.yml"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["services"]
BIN = Path(sys.executable).parent


def environment(service: str, aws: str) -> dict[str, str]:
    """What the service's container would have besides the image's own, at the address that the test has for `aws`."""
    own = {name: str(value).replace("http://aws:5000", aws) for name, value in SERVICES[service]["environment"].items()}
    return {"PATH": f"{BIN}:{os.environ['PATH']}"} | own


@pytest.fixture
def aws() -> Iterator[str]:
    """The service `aws`, on a free port; its health check has passed."""
    command = [str(BIN / "moto_server"), *SERVICES["aws"]["command"]]
    command[command.index("0.0.0.0")] = "127.0.0.1"
    command[command.index("5000")] = "0"
    process = Process(command[1:], command[0])
    try:
        address = process.wait_for("Running on ").split()[-1]
        probe = [word.replace("http://127.0.0.1:5000", address) for word in SERVICES["aws"]["healthcheck"]["test"][1:]]
        until(lambda: subprocess.run([sys.executable, *probe[1:]], check=False).returncode == 0)
        yield address
    finally:
        process.close()


def test_server_of_the_compose_file_serves_the_demo_tables(aws: str) -> None:
    script = ROOT / "deploy" / SERVICES["tables"]["volumes"][0].split(":")[0]
    subprocess.run([sys.executable, str(script)], env=environment("tables", aws), cwd=ROOT, check=True)
    ports = {"ATHENA_FLIGHT_SERVER__PORT": "0", "ATHENA_FLIGHT_SERVER__HTTP_PORT": "0"}
    env = environment("server", aws) | ports | {"ATHENA_FLIGHT_SERVER__HOST": "127.0.0.1"}
    command = stages()[-1].command
    server = Process(
        ["-i", *(f"{key}={value}" for key, value in env.items()), str(BIN / command[0]), *command[1:]], "env"
    )
    try:
        address = server.wait_for("grpc://").split("address=")[-1].split()[0]
        with flight.connect(address) as client:
            rows = client.do_get(flight.Ticket(b"daily_prices?ticker=AAPL&start_date=2010-01-04&end_date=2010-01-29"))
            assert rows.read_all().num_rows == 19
    finally:
        server.close()
