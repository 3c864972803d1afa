"""Where there is no JDK or no Maven, one line says that the tests of Java are left out; with CI=true they fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import maven
from tests.fix_client import ROOT

# One of each kind: by JUnit, by a program of the client, by JDBC for two reasons.
NEEDY = (
    "tests/clients/test_java.py::test_junit_tests_pass",
    "tests/clients/test_java_docs.py::test_the_example_prints_daily_prices",
    "tests/clients/test_five_ways.py::test_jdbc",
    "tests/integration/test_jdbc.py::test_metadata_is_walked",
)
SAID = "no tests of the Java client and of JDBC: they need a JDK 17 and Maven, and there is "


# Two Pythons import all that the tests need, one after the other.
@pytest.mark.timeout(300)
def test_one_line_says_what_is_left_out(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NEEDY],
        cwd=ROOT,
        env={**kept, "PATH": str(tmp_path), "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE) == [
        f"SKIPPED [{len(NEEDY)}] tests/maven.py:{_line()}: {SAID}no javac and no java and no mvn"
    ]
    assert f"{len(NEEDY)} skipped" in done.stdout


def test_ci_does_without_nothing_and_an_older_jdk_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("java", "mvn", "javac"):
        (tmp_path / tool).write_text(f"#!{shutil.which('sh')}\necho javac 11.0.22\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="only javac 11.0.22$"):
        maven.needed()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="only javac 11.0.22$"):
        maven.needed()


def _line() -> int:
    lines = (ROOT / "tests/maven.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if "pytest.skip(" in line)
