"""The Java client of clients/java: compiled once a session, its JUnit tests and its programs."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import maven

PROJECT = Path(__file__).parent.parent / "clients" / "java"
# Arrow's memory is behind a wall of Java's modules.
_FLAGS = ["--add-opens=java.base/java.nio=ALL-UNNAMED", *maven.BRIEF]
_RUN_S = 110


@dataclass(frozen=True)
class Case:
    """One JUnit test and how it ended; `problem` is the stack trace of one that failed, or why it was skipped."""

    name: str
    problem: str | None


@dataclass(frozen=True)
class JavaClient:
    """The compiled client, its tests, and all that they need."""

    target: Path
    classpath: str

    def junit(self, properties: Mapping[str, object]) -> list[Case]:
        """Run all JUnit tests with `properties` under "athena."."""
        given = [f"-Dathena.{name}={value}" for name, value in properties.items()]
        done = maven.mvn(PROJECT, self.target, *given, "surefire:test")
        reports = sorted((self.target / "surefire-reports").glob("TEST-*.xml"))
        assert reports, done.stdout
        return [_case(found) for report in reports for found in ET.parse(report).getroot().iter("testcase")]

    def run(self, program: str, *args: str) -> str:
        """What a program with a `main` prints; `program` is a class, or a source file."""
        done = subprocess.run(
            ["java", *_FLAGS, "-cp", self.classpath, program, *args],
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # Arrow, gRPC and SLF4J have things to say when they are not set up.
        assert done.stderr == ""
        return done.stdout


@pytest.fixture(scope="session")
def java_client(tmp_path_factory: pytest.TempPathFactory) -> JavaClient:
    """The compiled client. tests/conftest.py has what happens without a JDK or Maven."""
    target = maven.built(tmp_path_factory, PROJECT, "test-compile", "dependency:build-classpath")
    parts = [f"{target}/classes", f"{target}/test-classes", (target / "classpath").read_text(encoding="utf-8")]
    return JavaClient(target, os.pathsep.join(parts))


def _case(found: ET.Element) -> Case:
    problems = [each for each in found if each.tag in ("failure", "error", "skipped")]
    name = f"{found.attrib['classname'].rpartition('.')[2]}.{found.attrib['name']}"
    return Case(name, (problems[0].text or problems[0].attrib.get("message", "")) if problems else None)
