"""Large ordered results through a server in a process of its own: exact rows, bounded memory, an early first batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import large, processes
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab, Labs
from tests.large import LARGE, Memory, read_and_check

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
ROWS, PARTS = 20_000_000, 8
# What a server may take over its size at rest.
MEMORY_MAX = 400 << 20


@pytest.fixture
def lab(labs: Labs) -> Lab:
    return labs.open({"large": LARGE}, results={"read_bytes_max": 128 << 20})


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[processes.ServerProcess]:
    with processes.server(lab.config, tmp_path) as started:
        yield started


@pytest.fixture
def stored(aws: LocalAws, lab: Lab) -> None:
    assert large.store(aws, lab, ROWS, PARTS).rows == ROWS


@pytest.mark.usefixtures("stored")
def test_twenty_million_rows_arrive_in_order_within_bounds(server: processes.ServerProcess) -> None:
    process = psutil.Process(server.child.pid)
    address = server.address
    idle = process.memory_info().rss
    with Memory(process) as memory:
        found = read_and_check(address)
    print(f"\n{found}; memory {(memory.most - idle) / 2**20:.0f} MiB over {idle / 2**20:.0f} MiB")
    assert found.rows == ROWS
    assert memory.most - idle < MEMORY_MAX
    assert found.first_s < found.total_s / 10


@pytest.mark.usefixtures("stored")
def test_a_slow_reader_and_a_fast_one_stay_within_the_same_bounds(server: processes.ServerProcess) -> None:
    process = psutil.Process(server.child.pid)
    address = server.address
    idle = process.memory_info().rss
    with Memory(process) as memory:
        slow = read_and_check(address, pause_s=0.1)
    print(f"\nslow: {slow}; memory {(memory.most - idle) / 2**20:.0f} MiB over {idle / 2**20:.0f} MiB")
    assert slow.rows == ROWS
    assert memory.most - idle < MEMORY_MAX
