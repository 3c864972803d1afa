"""Commands whose standard output is full, goes away, or is not there; each a process, as Python flushes at its end."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.fix_client import ROOT

FULL = Path("/dev/full")
ASKED = "daily_prices ticker=AAPL start_date=2010-01-04"
NO_SPACE = "error: [bad-output] cannot write to standard output: No space left on device\n"


def words(demo_file: Path, command: str) -> list[str]:
    settings = [] if "--help" in command else ["--config", str(demo_file)]
    return [sys.executable, "-m", "flight_server", *command.split(), *settings]


def started(command: list[str], output: IO[bytes] | int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=output, stderr=subprocess.PIPE, cwd=ROOT, text=True, timeout=100, check=False)


# What fits Python's buffer and is written at the end, what does not, what others write to it, and what rich prints.
@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "command", ["config show", "datasets --json", f"explain {ASKED}", f"run {ASKED} --format csv", "--help"]
)
def test_a_full_output_is_one_line_and_an_error(demo_file: Path, command: str) -> None:
    with FULL.open("wb") as full:
        done = started(words(demo_file, command), full)
    assert (done.stderr, done.returncode) == (NO_SPACE, 1)


@pytest.mark.parametrize("command", ["config show", f"run {ASKED} --format arrow", "--help"])
def test_a_reader_that_has_gone_is_silence(demo_file: Path, command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = started(words(demo_file, command), writer)
    finally:
        os.close(writer)
    assert (done.stderr, done.returncode) == ("", 141)


def test_without_an_output_nothing_is_written_elsewhere(demo_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    line = f"{shlex.join(words(demo_file, f'run {ASKED} -o {file}'))} >&-"
    done = started(["sh", "-c", line], subprocess.PIPE)
    assert (done.stderr, done.returncode) == (f"{file}: 795 rows\n", 0)
    assert len(file.read_text().splitlines()) == 796
