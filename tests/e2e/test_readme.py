"""Every block of the README runs, and prints what the README says."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

# The first that needs it runs all commands, one after the other, each in a process.
pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


@pytest.fixture(scope="module")
def shell_output() -> dict[str, str]:
    """What each line of the shell blocks prints; the first one builds the demo that the others read."""
    # The commands of this checkout, also where it is not the one that is installed.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    printed = {}
    for line in "".join(blocks("sh")).splitlines():
        command = line.replace("make demo ARGS=", ".venv/bin/athena-flight demo ").replace(
            ".venv/bin/athena-flight", f"{sys.executable} -m flight_server"
        )
        if " demo " in command:
            command += " --port 0"
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        printed[line] = done.stdout
    return printed


def test_the_demo_shows_real_rows(shell_output: dict[str, str]) -> None:
    assert "214.01" in shell_output["make demo ARGS=--once"]


def test_the_last_command_prints_what_follows_it(shell_output: dict[str, str]) -> None:
    last = list(shell_output)[-1]
    expected = next(text for kind, text in BLOCKS[_last_shell_block() + 1 :] if kind == "")
    assert shell_output[last] == expected


def test_the_dataset_file_is_the_one_in_sql() -> None:
    (text,) = blocks("sql")
    assert text == (ROOT / "sql/price_history.sql").read_text(encoding="utf-8")


def test_python_blocks_print_what_follows_them(demo_address: str) -> None:
    names: dict[str, object] = {}
    compared = 0
    for (kind, code), (following, expected) in itertools.pairwise(BLOCKS):
        if kind != "python":
            continue
        assert following == ""
        printed = _run(code.replace("grpc://localhost:8815", demo_address), names)
        assert printed.startswith(expected.strip()), f"{code}\nprinted\n{printed}"
        compared += 1
    assert compared == len(blocks("python")) > 0


def test_no_block_is_left_out() -> None:
    # Java is run by tests/clients/test_java_docs.py.
    assert {kind for kind, _ in BLOCKS} == {"sh", "python", "java", "sql", ""}
    programs = [i for i, (kind, _) in enumerate(BLOCKS) if kind in ("python", "java")]
    outputs = [i for i, (kind, _) in enumerate(BLOCKS) if kind == ""]
    assert outputs == [*(i + 1 for i in programs), _last_shell_block() + 1]


def _last_shell_block() -> int:
    return max(i for i, (kind, _) in enumerate(BLOCKS) if kind == "sh")


def _run(code: str, names: dict[str, object]) -> str:
    """What `code` prints, or the message of the Arrow error that it ends with."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, "README.md", "exec"), names)
    except pa.ArrowException as error:
        return str(error)
    return out.getvalue().strip()
