"""The Java program of tests/jdbc, which asks a server through the Arrow Flight SQL JDBC driver."""

from __future__ import annotations

import functools
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import maven

PROJECT = Path(__file__).parent / "jdbc"
# The driver that docs/clients.md names.
NAMED = "18.3.0"
# The whole program with its JVM; two cores are shared with everything else.
_RUN_S = 110
# Arrow's memory is behind a wall of Java's modules.
_FLAGS = ["--add-opens=java.base/java.nio=ALL-UNNAMED", *maven.BRIEF]


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
    """The folder of the compiled program. tests/conftest.py has what happens without a JDK or Maven."""
    return maven.built(tmp_path_factory, PROJECT, _driver(NAMED), "process-classes")


@pytest.fixture(scope="session")
def jdbc_with(jdbc_program: Path) -> JdbcWith:
    """The program with the driver of a version. Skips where Maven's repository does not have it."""

    @functools.cache
    def lacks(version: str) -> bool:
        if version == NAMED:
            return False
        with maven.alone(jdbc_program / "lock"):
            copied = maven.mvn(PROJECT, jdbc_program, _driver(version), "dependency:copy-dependencies@driver")
        return copied.returncode != 0

    def with_driver(version: str) -> Jdbc:
        if lacks(version):
            pytest.skip(f"this Maven repository has no flight-sql-jdbc-driver {version}")
        return Jdbc(os.pathsep.join([f"{jdbc_program}/classes", f"{jdbc_program}/driver-{version}/*"]))

    return with_driver


@pytest.fixture(scope="session")
def jdbc(jdbc_with: JdbcWith) -> Jdbc:
    """The program with the driver that the documentation names."""
    return jdbc_with(NAMED)


def _driver(version: str) -> str:
    return f"-Ddriver.version={version}"
