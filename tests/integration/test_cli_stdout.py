"""Commands whose standard output is full, goes away, or is not there; each a process, as Python flushes at its end."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from flight_server import config
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


def test_duckdb_shows_no_progress_on_standard_output(client_config: config.Config) -> None:
    code = (
        "import duckdb, sys\n"
        "connect, made = duckdb.connect, []\n"
        "duckdb.connect = lambda *given, **named: made.append(connect(*given, **named)) or made[-1]\n"
        "from flight_server import config, server, telemetry\n"
        "from flight_server.authoring.compiler import Compiler\n"
        "telemetry.configure('json', 'warning')\n"
        "built, compiler = server.build(config.Config.model_validate_json(sys.argv[1])), Compiler({})\n"
        "shown = [each.execute(\"SELECT current_setting('enable_progress_bar')\").fetchone()[0] for each in made]\n"
        "print(len(shown), any(shown), flush=True)\n"
        "import os; os._exit(0)"
    )
    server = client_config.server.model_copy(update={"ticket_secret": None})
    settings = client_config.model_copy(update={"server": server}).model_dump_json()
    # A program without a file, as most that embed the server are: DuckDB takes them for a person's session.
    done = started([sys.executable, "-c", code, settings], subprocess.PIPE)
    assert done.stdout == "4 False\n", done.stderr
