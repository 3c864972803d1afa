"""Maven, for the tests of Java programs: found or left out, and run without the network where that is possible."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

# Compiling takes seconds; what takes longer is a download.
_RUN_S = 400
_JAVA = 17
# The word of every message of Maven that something must be downloaded first.
_NOT_HERE = "offline mode"


def needed() -> None:
    """Skip the test where there is no JDK 17 or no Maven; with CI=true, fail it."""
    missing = _missing()
    if missing:
        said = f"no tests of the Java client and of JDBC: they need a JDK {_JAVA} and Maven, and there is {missing}"
        if os.environ.get("CI") == "true":
            pytest.fail(said, pytrace=False)
        pytest.skip(said)


def _missing() -> str:
    missing = [tool for tool in ("javac", "java", "mvn") if shutil.which(tool) is None]
    if missing:
        return "no " + " and no ".join(missing)
    said = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"javac (\d+)", said)
    return "" if found and int(found[1]) >= _JAVA else f"only {said.strip() or 'a javac that does not work'}"


def mvn(project: Path, target: Path, *goals: str) -> subprocess.CompletedProcess[str]:
    """Run `goals` on a project whose output goes to `target`: concurrent runs must not compile into one folder."""
    command = ["mvn", "-q", "-B", "-f", str(project), f"-Dbuild.folder={target}", *goals]
    done = _run([*command, "-o"])
    if done.returncode == 0 or _NOT_HERE not in done.stdout:
        return done
    # Maven's local repository is not made for several that write to it.
    with (Path(tempfile.gettempdir()) / "athena-flight-maven.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _run(command)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S, check=False)
