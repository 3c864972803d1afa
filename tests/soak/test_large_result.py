"""Large ordered results through a server in a process of its own: exact rows, bounded memory, an early first batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests import large, processes
from tests.fakes.aws import LocalAws
from tests.fix_served import Lab, Labs
from tests.large import LARGE, LOOSE, Memory, read_and_check

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
ROWS, PARTS = 20_000_000, 8
# What a server may take over its size at rest.
MEMORY_MAX = 400 << 20


# Two minutes of pauses, where the server needs some twenty seconds.
PAUSE_S_PER_MILLION = 6.0


@pytest.fixture
def lab(labs: Labs) -> Lab:
    return labs.open({"large": LARGE, "loose": LOOSE}, results={"read_bytes_max": 128 << 20})


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[processes.ServerProcess]:
    with processes.server(lab.config, tmp_path) as started:
        yield started


@dataclass
class Taken:
    """What reading took of the server's process."""

    process: psutil.Process
    idle: int
    cpu_s: float = 0.0
    memory: int = 0

    def __str__(self) -> str:
        return f"{self.cpu_s:.1f} s of CPU, {self.memory / 2**20:.0f} MiB over {self.idle / 2**20:.0f} MiB"


@contextmanager
def taken(server: processes.ServerProcess) -> Iterator[Taken]:
    process = psutil.Process(server.child.pid)
    assert server.address
    found = Taken(process, process.memory_info().rss)
    before = sum(process.cpu_times()[:2])
    with Memory(process) as memory:
        yield found
    found.memory = memory.most - found.idle
    found.cpu_s = sum(process.cpu_times()[:2]) - before


def test_twenty_million_rows_arrive_in_order_within_bounds(
    aws: LocalAws, lab: Lab, server: processes.ServerProcess
) -> None:
    large.store(aws, lab, ROWS, PARTS)
    with taken(server) as took:
        found = read_and_check(server.address)
    print(f"\n{found}; {took}")
    assert found.rows == ROWS
    assert took.memory < MEMORY_MAX
    assert found.first_s < found.total_s / 10


def test_twenty_million_rows_in_no_order_all_arrive_within_bounds(
    aws: LocalAws, lab: Lab, server: processes.ServerProcess
) -> None:
    large.store(aws, lab, ROWS, PARTS, "loose")
    with taken(server) as took:
        found = read_and_check(server.address, "loose")
    print(f"\nunordered: {found}; {took}")
    assert found.rows == ROWS
    assert took.memory < MEMORY_MAX
    assert found.first_s < found.total_s / 10


def test_a_slow_reader_and_a_fast_one_stay_within_the_same_bounds(
    aws: LocalAws, lab: Lab, server: processes.ServerProcess
) -> None:
    large.store(aws, lab, ROWS, PARTS)
    with taken(server) as took, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read_and_check, server.address, pause_s_per_million=PAUSE_S_PER_MILLION)
        fast = read_and_check(server.address)
        slow = waiting.result()
    print(f"\nslow: {slow}\nfast: {fast}; {took}")
    assert slow.rows == fast.rows == ROWS
    assert fast.total_s < slow.total_s
    assert took.memory < MEMORY_MAX
