"""Maven, for the tests of Java programs: found or left out, and run without the network where that is possible."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

# Compiling takes seconds; what takes longer is a download.
_RUN_S = 400
_JAVA = 17
# Programs of seconds: compiled once and not well, one thread for garbage. Maven takes 4.5 s of CPU so instead of 11.7 s.
BRIEF = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# What Maven says without the network when something must be downloaded first: an artifact, or a goal's plugin.
_NOT_HERE = ("offline mode", "No plugin found for prefix")


def needed() -> None:
    """Skip the test where there is no JDK 17 or no Maven; with CI=true, fail it."""
    missing = _missing(os.environ["PATH"])
    if missing:
        said = f"no tests of the Java client and of JDBC: they need a JDK {_JAVA} and Maven, and there is {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)


@cache
def _missing(path: str) -> str:
    found = {tool: shutil.which(tool, path=path) for tool in ("javac", "java", "mvn")}
    missing = [tool for tool, file in found.items() if file is None]
    if missing:
        return "no " + " and no ".join(missing)
    said = subprocess.run([str(found["javac"]), "-version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"javac (\d+)", said)
    return "" if version and int(version[1]) >= _JAVA else f"only {said.strip() or 'a javac that does not work'}"


def built(factory: pytest.TempPathFactory, project: Path, *goals: str) -> Path:
    """Where the output of `goals` on a project is. They are run once, however many workers the tests are shared among."""
    base = factory.getbasetemp()
    target = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"maven-{project.name}"
    target.mkdir(exist_ok=True)
    with alone(target / "lock"):
        if not (target / "built").exists():
            done = mvn(project, target, *goals)
            assert done.returncode == 0, done.stdout
            (target / "built").touch()
    return target


def mvn(project: Path, target: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    """Run `goals` on a project whose output goes to `target`: concurrent runs must not compile into one folder."""
    command = ["mvn", "-q", "-B", "-f", str(project), f"-Dbuild.folder={target}", *goals]
    done = _run([*command, "-o"])
    if done.returncode == 0 or not any(said in done.stdout for said in _NOT_HERE):
        return done
    # Maven's local repository is not made for several that write to it.
    with alone(Path(tempfile.gettempdir()) / "athena-flight-maven.lock"):
        return _run(command)


@contextmanager
def alone(file: Path) -> Iterator[None]:
    """Nobody else on this machine is in here with the same file."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    options = " ".join((*BRIEF, os.environ.get("MAVEN_OPTS", "")))
    environment = {**os.environ, "MAVEN_OPTS": options}
    return subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False, env=environment)
