"""The Java, Go and Rust programs of docs/clients.md print what the page says, with the real drivers of these languages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flight_server.server import Server
from tests.fix_jdbc import Jdbc

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
# The libraries of the programs, with their sums.
GO, RUST = ROOT / "tests" / "go", ROOT / "tests" / "rust"
# The first build compiles gRPC and more: 100 s on two idle cores for Go, and the machine may be busy.
_BUILD_S = 900


def program(language: str, marked: str, server: Server) -> tuple[str, str]:
    """The page's program in this language that holds `marked`, asking this server, and what it is said to print."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```\n\n```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    ((code, said),) = [block for block in blocks if marked in block[0]]
    return code.replace("localhost:8815", f"localhost:{server.port}"), said


def test_the_jdbc_program_prints_what_the_page_says(jdbc: Jdbc, demo_server: Server, tmp_path: Path) -> None:
    code, said = program("java", "DriverManager", demo_server)
    (tmp_path / "Prices.java").write_text(code, encoding="utf-8")
    assert jdbc.run(tmp_path / "Prices.java") == said


@pytest.mark.soak
@pytest.mark.timeout(_BUILD_S)
@pytest.mark.parametrize("library", ["NewClientWithMiddleware", "flightsql"])
def test_the_go_programs_print_what_the_page_says(library: str, demo_server: Server, tmp_path: Path) -> None:
    _needed("go")
    code, said = program("go", library, demo_server)
    for name in ("go.mod", "go.sum"):
        shutil.copy(GO / name, tmp_path)
    (tmp_path / "main.go").write_text(code, encoding="utf-8")
    _had(_run(tmp_path, "go", "mod", "download"))
    # Without a version control system to ask, which a temporary folder has not.
    done = _run(tmp_path, "go", "run", "-buildvcs=false", ".")
    assert done.returncode == 0, done.stderr
    assert done.stdout == said


@pytest.mark.soak
@pytest.mark.timeout(_BUILD_S)
def test_the_rust_program_prints_what_the_page_says(demo_server: Server, tmp_path: Path) -> None:
    _needed("cargo")
    code, said = program("rust", "FlightClient", demo_server)
    shutil.copy(RUST / "Cargo.toml", tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.rs").write_text(code, encoding="utf-8")
    _had(_run(tmp_path, "cargo", "fetch"))
    done = _run(tmp_path, "cargo", "run", "-q", "--offline")
    assert done.returncode == 0, done.stderr
    assert done.stdout == said


def _needed(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"a program of docs/clients.md needs {tool}; there is none")


def _had(downloaded: subprocess.CompletedProcess[str]) -> None:
    if downloaded.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"the program's libraries cannot be had: {downloaded.stderr.splitlines()[-1][:200]}")


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_BUILD_S, check=False)


def test_no_language_is_shown_without_a_test_but_r() -> None:
    # Python: tests/clients/test_python_docs.py. Java: here, and clients/java.
    assert set(re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)) - {"sh", "xml"} == {"python", "java", "go", "rust", "r"}
