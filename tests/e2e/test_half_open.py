"""A client's machine vanishes without a word: what it held is free within bounds, and others are served meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pyarrow.flight as flight
import pytest

from flight_server import config
from tests import lost_machine, processes
from tests.fix_server import ASKED, SQL, dataset
from tests.lost_machine import LostMachine
from tests.waiting import until

_CROSS = """FROM market_data.us_stocks_price AS a CROSS JOIN market_data.us_stocks_price AS b
CROSS JOIN market_data.us_stocks_price AS c"""
FILES = {
    # Some 10^12 rows, of which the first come at once.
    "endless": dataset(f"SELECT CAST(a.meta_id AS BIGINT) + b.meta_id AS x {_CROSS}"),
    # No row for minutes.
    "long": dataset(f"SELECT COUNT(*) AS x {_CROSS} WHERE a.close < b.close + c.close"),
    "daily_prices": (SQL / "daily_prices.sql").read_text(),
}
GONE_S = 4.0
# gRPC waits 20 s for what it has sent to be acknowledged; the rest is for machines that are busy.
WITHIN_S = 60.0

pytestmark = pytest.mark.skipif(bool(lost_machine.why_not()), reason=str(lost_machine.why_not()))


@pytest.fixture
def machine() -> Iterator[LostMachine]:
    with lost_machine.machine() as found:
        yield found


@pytest.fixture
def server(demo_config: config.Config, tmp_path: Path, machine: LostMachine) -> Iterator[processes.ServerProcess]:
    datasets = tmp_path / "sql"
    datasets.mkdir()
    for name, text in FILES.items():
        (datasets / f"{name}.sql").write_text(text)
    found = config.load(
        None,
        server={"port": 0, "host": machine.here, "insecure_allow_remote": True},
        datasets={"directory": datasets},
        catalog=demo_config.catalog.model_dump(),
        # Nothing else may end what is tested: these are well beyond the test.
        limits={"gone_s": GONE_S, "upload_s": 300.0, "stream_idle_s": 300.0, "timeout_s": 600.0},
    )
    with processes.server(found, tmp_path) as started:
        yield started


def running(http: str) -> float:
    """Calls that the server says have a place."""
    with urlopen(f"{http}/metrics") as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("athena_flight_calls_running"))


def held_for(server: processes.ServerProcess, address: str) -> int:
    """Connections that the server has with an address."""
    found = psutil.Process(server.child.pid).net_connections("tcp")
    return sum(bool(each.raddr) and each.raddr.ip.removeprefix("::ffff:") == address for each in found)


@pytest.mark.timeout(200)
def test_what_a_vanished_machine_held_is_free_and_others_are_served(
    server: processes.ServerProcess, machine: LostMachine
) -> None:
    said = json.loads(server.wait_for('"serving"'))
    ports = [said[name].rpartition(":")[2] for name in ("address", "http", "health")]
    process = psutil.Process(server.child.pid)
    client = machine.run("-m", "tests.lost_machine", machine.here, *ports)
    try:
        client.wait_for("connected")
        # Silent ones at three ports, two that greeted, and four clients, of which two have a stream.
        until(lambda: held_for(server, machine.there) == 9 and running(said["http"]) == 2)
        machine.vanish()
        vanished = time.monotonic()
        waited_s = []
        while held_for(server, machine.there) or running(said["http"]):
            assert time.monotonic() < vanished + WITHIN_S, server.lines[-20:]
            began = time.monotonic()
            with flight.connect(said["address"]) as other:
                assert other.do_get(flight.Ticket(ASKED)).read_all().num_rows == 19
            waited_s.append(time.monotonic() - began)
            time.sleep(0.2)
        print(f"\nfree after {time.monotonic() - vanished:.1f} s; others waited {max(waited_s):.3f} s at most")
        until(lambda: any(method == "DoPut" for method, _, _ in ended(server)))
        calls = [each for each in ended(server) if each[0] == "DoPut" or each[1] in ("endless", "long")]
        print(calls)
        assert {each[1:] for each in calls if each[0] == "DoGet"} == {("endless", "cancelled"), ("long", "cancelled")}
        # The queries have stopped: the engine computes nothing any more.
        process.cpu_percent()
        until(lambda: process.cpu_percent(1.0) < 20)
    finally:
        client.close()


def ended(server: processes.ServerProcess) -> list[tuple[str, str | None, str]]:
    """Calls that the server has ended: method, dataset and code."""
    lines = [json.loads(line) for line in server.lines if '"event": "rpc"' in line]
    return [(line["method"], line.get("dataset"), line["code"]) for line in lines]
