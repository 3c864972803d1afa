"""The Java program of tests/jdbc, which asks a server through the Arrow Flight SQL JDBC driver."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent / "jdbc"
# The driver that docs/clients.md names.
NAMED = "18.3.0"
# Compiling takes seconds; what takes longer is a download.
_BUILD_S = 240
# The whole program with its JVM; two cores are shared with everything else.
_RUN_S = 110
# Arrow's memory is behind a wall of Java's modules.
_FLAGS = ["--add-opens=java.base/java.nio=ALL-UNNAMED", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]


class Jdbc:
    """Asks questions (tests/jdbc/src/main/java/Questions.java), a whole list in one JVM."""

    def __init__(self, classpath: str) -> None:
        self._classpath = classpath

    def ask(self, url: str, questions: Sequence[Sequence[str]]) -> list[Any]:
        """The answers; the first one is that of opening `url`, which is left out."""
        # A line is a question; ends of lines within one travel as Unicode's own sign for them.
        lines = ["\t".join(question).replace("\n", "\u2028") for question in [["open", url], *questions]]
        done = subprocess.run(
            ["java", *_FLAGS, "-cp", self._classpath, "Questions"],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(lines), done.stderr
        assert answers[0] == "open", answers[0]
        return answers[1:]

    def run(self, source: Path) -> str:
        """What a program of one file, with a main method, prints."""
        command = ["java", *_FLAGS, "-cp", self._classpath, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout


JdbcWith = Callable[[str], Jdbc]


def url_of(port: int, **options: str) -> str:
    parts = {"useEncryption": "false", **options}
    return f"jdbc:arrow-flight-sql://localhost:{port}/?" + "&".join(f"{key}={value}" for key, value in parts.items())


@pytest.fixture(scope="session")
def jdbc_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled program. Skips without a JDK and Maven, but for CI=true, where it fails."""
    missing = [tool for tool in ("javac", "java", "mvn") if shutil.which(tool) is None]
    if missing:
        said = f"the JDBC tests need a JDK 17 and Maven; there is no {' and no '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    # Concurrent runs of the suite must not compile into one folder.
    target = tmp_path_factory.mktemp("jdbc")
    assert _maven(target, NAMED, "process-classes") is None
    return target


@pytest.fixture(scope="session")
def jdbc_with(jdbc_program: Path) -> JdbcWith:
    """The program with the driver of a version. Skips where Maven's repository does not have it."""

    @functools.cache
    def lacks(version: str) -> bool:
        return version != NAMED and _maven(jdbc_program, version, "dependency:copy-dependencies@driver") is not None

    def with_driver(version: str) -> Jdbc:
        if lacks(version):
            pytest.skip(f"this Maven repository has no flight-sql-jdbc-driver {version}")
        return Jdbc(os.pathsep.join([f"{jdbc_program}/classes", f"{jdbc_program}/driver-{version}/*"]))

    return with_driver


@pytest.fixture(scope="session")
def jdbc(jdbc_with: JdbcWith) -> Jdbc:
    """The program with the driver that the documentation names."""
    return jdbc_with(NAMED)


def _maven(target: Path, driver: str, goal: str) -> str | None:
    """Run a goal for this driver; what Maven says where it fails."""
    build = ["mvn", "-q", "-B", "-f", str(PROJECT), f"-Dbuild.folder={target}", f"-Ddriver.version={driver}", goal]
    if subprocess.run([*build, "-o"], capture_output=True, timeout=_BUILD_S, check=False).returncode:
        # Something is not in the local repository yet.
        done = subprocess.run(build, capture_output=True, text=True, timeout=_BUILD_S, check=False)
        return done.stdout if done.returncode else None
    return None
