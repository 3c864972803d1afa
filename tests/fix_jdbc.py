"""The Java program of tests/jdbc, which asks a server through the Arrow Flight SQL JDBC driver."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import maven

PROJECT = Path(__file__).parent / "jdbc"
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
        lines = ["\t".join(question).replace("\n", " ") for question in [["open", url], *questions]]
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


def url_of(port: int, **options: str) -> str:
    parts = {"useEncryption": "false", **options}
    return f"jdbc:arrow-flight-sql://localhost:{port}/?" + "&".join(f"{key}={value}" for key, value in parts.items())


@pytest.fixture(scope="session")
def jdbc(tmp_path_factory: pytest.TempPathFactory) -> Jdbc:
    """The compiled program with its driver. tests/conftest.py has what happens without a JDK or Maven."""
    target = maven.built(tmp_path_factory, PROJECT, "process-classes")
    return Jdbc(f"{target}/classes{os.pathsep}{target}/driver/*")
