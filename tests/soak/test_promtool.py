"""Prometheus' own tool, built here from its module: the alerts' cases, and every query of the dashboard."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.unit.test_deploy_metrics import QUERIES, ROOT

# 8 min of processor time for the first build of it; the next ones take a second.
_BUILD_S = 1500
pytestmark = [pytest.mark.soak, pytest.mark.timeout(_BUILD_S + 60)]
MODULE = "github.com/prometheus/prometheus/cmd/promtool@v0.316.0"
RULES = ROOT / "deploy/prometheus"


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("go") is None:
        pytest.skip("promtool is built with Go; there is none")
    folder = tmp_path_factory.mktemp("promtool")
    env = {**os.environ, "GOBIN": str(folder)}
    done = subprocess.run(
        ["go", "install", MODULE], env=env, capture_output=True, text=True, timeout=_BUILD_S, check=False
    )
    if done.returncode and os.environ.get("CI") != "true":
        pytest.skip(f"promtool cannot be built: {done.stderr.splitlines()[-1][:200]}")
    assert done.returncode == 0, done.stderr
    return folder / "promtool"


def test_alerts_do_what_their_cases_say_and_queries_are_promql(promtool: Path) -> None:
    for command in (("check", "rules", "alerts.yml"), ("test", "rules", "alerts.test.yml")):
        done = subprocess.run([promtool, *command], cwd=RULES, capture_output=True, text=True, check=False)
        assert (done.returncode, "SUCCESS" in done.stdout) == (0, True), done.stdout + done.stderr
    for name, expression in QUERIES.items():
        asked = [promtool, "--experimental", "promql", "format", expression.replace("$__rate_interval", "5m")]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr}"
